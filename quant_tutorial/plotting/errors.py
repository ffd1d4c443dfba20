"""Draw and describe quantization errors (lesson 02)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant_tutorial.plotting.quantities import describe_number
from quant_tutorial.plotting.style import BLUE, GREEN, PURPLE, VERMILION

from matplotlib.axes import Axes


def plot_sqnr(
    ax: Axes,
    bits: Sequence[int],
    predicted: Sequence[float],
    measured: Mapping[str, Sequence[float]],
) -> None:
    """Draw SQNR in decibels against bit width, as a rule predicts it and as measured (lesson 02).

    Args:
        ax: Where to draw.
        bits: The bit widths.
        predicted: What the rule says for each of them.
        measured: What was measured, up to three lists by name.
    """
    ax.plot(bits, predicted, "--", color=VERMILION, label="predicted by the rule", zorder=1)
    marks = zip(("o", "s", "^"), (BLUE, GREEN, PURPLE), strict=True)
    for (name, values), (marker, color) in zip(measured.items(), marks, strict=False):
        ax.plot(bits, values, marker, color=color, label=f"measured: {name}")
    ax.set(xlabel="bit width", ylabel="SQNR in dB", xticks=list(bits))
    ax.spines[["right", "top"]].set_visible(False)
    ax.legend(frameon=False)


def describe_sqnr(
    bits: Sequence[int], predicted: Sequence[float], measured: Mapping[str, Sequence[float]]
) -> str:
    """Return a sentence on what `plot_sqnr` draws (lesson 02)."""
    lists = {"Predicted": predicted, **{f"measured, {name}": v for name, v in measured.items()}}
    parts = []
    for name, values in lists.items():
        first, last = (describe_number(value, ".1f") for value in (values[0], values[-1]))
        parts.append(f"{name}: {first} to {last} dB")
    return f"SQNR from {bits[0]} to {bits[-1]} bits. {'; '.join(parts)}."
