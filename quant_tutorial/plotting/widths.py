"""Draw and describe errors against bit width and against size (lesson 05)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant_tutorial.plotting.style import BLUE, CALIBRATOR_MARKS, GREY, ORANGE, VERMILION

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # per cent
_GOOD = 0.99  # the accuracy that the sentence is about
_OPEN = {"mfc": "none", "mew": 2}  # so that marks in the same place can all be seen


def plot_errors_by_bits(
    ax: Axes,
    bits: Sequence[int],
    curves: Mapping[str, Sequence[float]],
    baseline: float,
    what: str,
) -> None:
    """Draw the share of wrong images against bit width, on a logarithmic axis (lesson 05).

    Args:
        ax: Where to draw.
        bits: The bit widths, n in all.
        curves: The accuracies (0 to 1) by calibrator, n each.
        baseline: The accuracy of the float model, 0 to 1.
        what: The tensors that have these bit widths, for the label of the axis.
    """
    for place, (name, shares) in enumerate(curves.items()):
        marker, color = CALIBRATOR_MARKS[name]
        errors = 100 * (1 - np.asarray(shares))
        ax.plot(bits, errors, marker=marker, ms=10 - 2 * place, color=color, label=name, **_OPEN)
    ax.axhline(100 * (1 - baseline), color="black", ls="--", lw=1, label="float")
    ax.set(xlabel=f"bits of the {what}", ylabel="wrong images in %", xticks=list(bits))
    _log_percent(ax, [100 * (1 - share) for shares in curves.values() for share in shares])
    ax.legend(loc="upper right")


def describe_errors_by_bits(
    bits: Sequence[int], curves: Mapping[str, Sequence[float]], what: str
) -> str:
    """Return a sentence on what `plot_errors_by_bits` draws (lesson 05)."""
    parts = []
    for name, shares in curves.items():
        good = [width for width, share in zip(bits, shares, strict=True) if share >= _GOOD]
        least = f"from {min(good)} bits on" if good else "at no width"
        parts.append(f"{name} {least}")
    return f"Bits of the {what}: at least {_GOOD:.0%} of the images are right, {', '.join(parts)}."


def plot_sizes(
    ax: Axes,
    tried: Sequence[tuple[int, float]],
    front: Sequence[tuple[int, float]],
    uniform: Mapping[int, tuple[int, float]],
    chosen: tuple[int, float],
    least: float,
) -> None:
    """Draw the share of wrong images against size, for mixed and uniform widths (lesson 05).

    Args:
        ax: Where to draw.
        tried: All mixes tried, as pairs of bytes and accuracy (0 to 1).
        front: The best mixes, smallest first, as such pairs.
        uniform: The models with one width for all layers, by this width, as such pairs.
        chosen: The mix that was chosen.
        least: The accuracy that was asked for, 0 to 1.
    """
    sizes, errors = _percent(tried)
    ax.plot(sizes, errors, ".", color=GREY, ms=5, label="mix tried")
    sizes, errors = _percent(front)
    ax.step(sizes, errors, "-", where="post", color=BLUE, lw=1.6, label="Pareto front")
    sizes, errors = _percent([*uniform.values()])
    ax.plot(sizes, errors, "s", color=VERMILION, ms=7, label="one width for all layers")
    for width, size, error in zip(uniform, sizes, errors, strict=True):
        ax.annotate(f"{width} bits", (size, error), (6, 5), textcoords="offset points", fontsize=9)
    ax.axhline(100 * (1 - least), color="black", ls=":", lw=1.2, label="limit of the search")
    size, error = chosen[0], 100 * (1 - chosen[1])
    ax.plot(size, error, "*", color=ORANGE, ms=17, mec="black", label="chosen mix")
    ax.set(xlabel="bytes of kernels and biases", ylabel="wrong images in %")
    ax.margins(x=0.1)  # room for the widths' names
    _log_percent(ax, [*_percent(tried)[1], *errors])
    ax.legend(loc="upper right")


def describe_sizes(
    front: Sequence[tuple[int, float]],
    uniform: Mapping[int, tuple[int, float]],
    chosen: tuple[int, float],
    least: float,
) -> str:
    """Return a sentence on what `plot_sizes` draws, with the smallest sizes in it (lesson 05).

    Raises:
        ValueError: when no uniform width reaches the limit.
    """
    width, (size, _) = min(
        (item for item in uniform.items() if item[1][1] >= least), key=lambda item: item[1][0]
    )
    return (
        f"{len(front)} of the mixes tried are on the Pareto front. To stay within the limit, the "
        f"chosen mix needs {chosen[0]:,} bytes, and one width for all layers {size:,} ({width} "
        "bits)."
    )


def _percent(pairs: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    """Return sizes, and the share of wrong images in per cent."""
    return [size for size, _ in pairs], [100 * (1 - share) for _, share in pairs]


def _log_percent(ax: Axes, errors: Sequence[float]) -> None:
    """Make the y axis logarithmic, with room around the errors and plain numbers as ticks."""
    ax.set_yscale("log")
    ax.set_ylim(0.6 * max(min(errors), _TICKS[0]), 130)
    low, high = ax.get_ylim()
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_yticklabels([f"{tick:g}" for tick in ticks])
    ax.grid(axis="y", color="#E4E4E4", lw=0.8)
    ax.set_axisbelow(True)
