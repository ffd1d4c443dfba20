"""The explorer of lesson 07: how many bits the multiplier of a scale ratio needs."""

from __future__ import annotations

from dataclasses import replace

from quant_tutorial import integer
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.base import Explorer
from quant_tutorial.plotting import MultiplierFigure

import numpy as np
from numpy.typing import NDArray

_BITS = 31  # of LiteRT's multipliers


class MultiplierExplorer(Explorer):
    """A slider for the bits of a layer's multipliers; what becomes of its outputs (lesson 07).

    Args:
        accumulator: The layer's int32 sums on some images, channels on the last axis.
        ratios: The layer's scale ratios, one for each channel.
        output: How the layer makes its output integers; its multipliers are replaced.
        bits: The number of bits at the start, 1 to 31.
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
        self._plot = MultiplierFigure(widths, errors)
        control = controls.integer("Multiplier bits", bits, 1, _BITS)
        self.bits = control.source
        super().__init__([control], [], self._plot.figure, self._plot.moving, self._refresh)

    def _refresh(self) -> str:
        bits = self.bits.value
        off = self._integers(bits) - self._right
        self._plot.update(bits, off)
        multiplier, shift = integer.fixed_point(float(self._ratios[0]), bits)
        wrong, most = np.count_nonzero(off), int(np.abs(off).max())
        many = f"{wrong / off.size:.1%}" if wrong >= off.size / 1000 else f"{wrong:,}"
        which = f"{many} of the {off.size:,} output integers are off, by {most} at most"
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
        # A multiplier of fewer bits is one of 31 whose last bits are 0.
        output = replace(self._output, multiplier=multiplier << (_BITS - bits), shift=shift)
        rescaled = integer.rescale(self._accumulator, output.multiplier, output.shift)
        return integer.saturate(rescaled, output).astype(np.int64)
