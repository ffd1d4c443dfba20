"""The explorer of lesson 07, which stores a layer's multipliers in fewer bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from quant_tutorial import integer
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.plotting.style import BLUE, GREY, VERMILION

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

_BITS = 31  # bits of LiteRT's multipliers


class MultiplierExplorer(Explorer):
    """A slider for the bits of a layer's multipliers, with its output errors (lesson 07).

    Args:
        accumulator: The layer's int32 sums on some images, channels on the last axis.
        ratios: The layer's scale ratios, one for each channel.
        output: How the layer computes its output integers; its multipliers are replaced.
        bits: The initial number of bits, 1 to 31.
    """

    def __init__(
        self,
        accumulator: NDArray[np.int32],
        ratios: NDArray[np.floating],
        output: integer.Output,
        bits: int = 6,
    ) -> None:
        self._accumulator, self._output = accumulator, output
        self._ratios = np.asarray(ratios, np.float64)
        self._right = self._integers(_BITS)
        widths = range(1, _BITS + 1)
        errors = [self._relative_errors(width).max() for width in widths]
        plot = MultiplierFigure(widths, errors)
        control = controls.integer("Multiplier bits", bits, 1, _BITS)
        self.bits = control.slider
        super().__init__(plot, [control])

    def draw(self) -> str:
        """Show by how much the output integers are off, and describe it."""
        bits = self.bits.value
        off = self._integers(bits) - self._right
        self.plot.update(bits, off)
        multiplier, shift = integer.fixed_point(float(self._ratios[0]), bits)
        wrong, most = np.count_nonzero(off), int(np.abs(off).max())
        many = f"{wrong:,} of the {off.size:,} output integers"
        share = f"{wrong / off.size:.1%}" if wrong >= off.size / 1000 else "fewer than 0.1%"
        which = f"{many} ({share}) {'is' if wrong == 1 else 'are'} off, by {most} at most"
        return (
            f"{bits} bits: the ratio of channel 0, {self._ratios[0]:.6f}, becomes {multiplier} / "
            f"2^{bits} · 2^{shift} = {multiplier / 2.0 ** (bits - shift):.6f}. "
            f"{which if most else 'No output integer is off'}."
        )

    def _pairs(self, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        pairs = [integer.fixed_point(float(ratio), bits) for ratio in self._ratios]
        multiplier, shift = np.array(pairs, np.int64).T
        return multiplier, shift

    def _relative_errors(self, bits: int) -> NDArray[np.float64]:
        multiplier, shift = self._pairs(bits)
        return np.abs(multiplier * 2.0 ** (shift - bits) / self._ratios - 1)

    def _integers(self, bits: int) -> NDArray[np.int64]:
        multiplier, shift = self._pairs(bits)
        # A multiplier with fewer bits equals one with 31 bits whose last bits are 0.
        output = replace(self._output, multiplier=multiplier << (_BITS - bits), shift=shift)
        rescaled = integer.rescale(self._accumulator, output.multiplier, output.shift)
        return integer.saturate(rescaled, output).astype(np.int64)


class MultiplierFigure:
    """The picture of the multiplier explorer: the errors of fewer multiplier bits (lesson 07).

    Left: the largest relative error of the scale ratios against the bits of the multipliers; a
    diamond marks the chosen bits. Right: by how much the output integers are off, and how many of
    them, as shares and as counts.
    """

    _OFF = 3  # differences shown on each side; larger ones are counted with the last

    def __init__(self, bits: Sequence[int], errors: Sequence[float]) -> None:
        self.figure = Figure(figsize=(9.4, 3.6))
        ratio, outputs = self.figure.subplots(1, 2)
        self.figure.subplots_adjust(left=0.09, right=0.985, top=0.9, bottom=0.15, wspace=0.22)
        ratio.set_title("Largest relative error of the ratios", loc="left", fontsize=10)
        # A ratio that is a power of two has the error 0, which a logarithmic axis cannot show.
        drawn = np.maximum(errors, 2.0 ** -(max(bits) + 2))
        ratio.plot(bits, drawn, "o-", color=BLUE, ms=4)
        limit = [2.0**-width for width in bits]
        ratio.plot(bits, limit, "--", color=GREY, label="limit: 2 to the power of −bits")
        ratio.set(yscale="log", xlabel="bits of the multiplier", xticks=range(1, max(bits) + 1, 5))
        (self._here,) = ratio.plot(
            [], [], "D", color=VERMILION, ms=9, mec="black", label="the bits that you chose"
        )
        ratio.legend()
        self._errors = dict(zip(bits, drawn, strict=True))
        outputs.set_title(
            "Output integers that are off: shares and counts", loc="left", fontsize=10
        )
        places = np.arange(-self._OFF, self._OFF + 1)
        labels = [f"{place:+d}".replace("-", "−") if place else "right" for place in places]
        labels[0], labels[-1] = f"{labels[0]}\nor less", f"{labels[-1]}\nor more"
        outputs.set(ylim=(0, 118), ylabel="% of the output integers")
        outputs.set_xticks(places, labels)
        self._bars = outputs.bar(places, 0, color=[BLUE if p == 0 else VERMILION for p in places])
        self._shares = [
            outputs.text(place, 0, "", ha="center", va="bottom", fontsize=8) for place in places
        ]
        self.moving = [self._here, *self._bars, *self._shares]

    def update(self, bits: int, off: NDArray[np.integer]) -> None:
        """Show a bit width; `off` holds the error of each output integer, in any shape."""
        self._here.set_data([bits], [self._errors[bits]])
        places = np.clip(off, -self._OFF, self._OFF) + self._OFF
        counts = np.bincount(places.ravel(), minlength=2 * self._OFF + 1)
        for bar, text, count in zip(self._bars, self._shares, counts, strict=True):
            share = 100 * count / off.size
            bar.set_height(share)
            text.set_y(share + 1)
            said = f"{share:.1f}%" if share >= 0.1 else "below 0.1%"
            text.set_text(f"{said}\n{count:,}" if count else "")
