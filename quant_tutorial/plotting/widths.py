"""Draw and describe accuracy against bit width and against size (lesson 05)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant_tutorial.plotting.style import BLUE, GRANULARITY_MARKS, GREY, VERMILION

import numpy as np
from matplotlib.axes import Axes


def plot_accuracy_by_bits(
    ax: Axes,
    bits: Sequence[int],
    curves: Mapping[str, Sequence[float]],
    baseline: float,
) -> None:
    """Draw accuracy (0 to 1) against bit width, with a curve for each granularity (lesson 05)."""
    for name, shares in curves.items():
        marker, color, size = GRANULARITY_MARKS[name]
        ax.plot(bits, 100 * np.asarray(shares), marker=marker, ms=size, color=color, label=name)
    ax.axhline(100 * baseline, color="black", ls="--", lw=1, label="float")
    ax.set(xlabel="bit width", ylabel="accuracy in %", xticks=list(bits), ylim=(0, 104))
    ax.legend(loc="lower right")


def describe_accuracy_by_bits(bits: Sequence[int], curves: Mapping[str, Sequence[float]]) -> str:
    """Return a sentence on what `plot_accuracy_by_bits` draws (lesson 05)."""
    parts = []
    for name, shares in curves.items():
        good = [width for width, share in zip(bits, shares, strict=True) if share >= 0.99]
        least = f"from {min(good)} bits on" if good else "at no width"
        parts.append(f"{name} {least}")
    return f"At least 99 % of the images are right: {', '.join(parts)}."


def plot_sizes(
    ax: Axes,
    tried: Sequence[tuple[int, float]],
    front: Sequence[tuple[int, float]],
    uniform: Sequence[tuple[int, float]],
) -> None:
    """Draw accuracy against size, for mixed and for uniform bit widths (lesson 05).

    Args:
        ax: Where to draw.
        tried: All mixes tried, as pairs of bytes and accuracy (0 to 1).
        front: The best mixes, as such pairs.
        uniform: The models with one width for all layers, as such pairs.
    """
    for pairs, style, color, label in (
        (tried, ".", GREY, "tried"),
        (front, "o-", BLUE, "Pareto front"),
        (uniform, "s", VERMILION, "one width for all layers"),
    ):
        sizes, shares = np.array(pairs).T
        ax.plot(sizes, 100 * shares, style, color=color, label=label, ms=6 if style != "." else 4)
    ax.set(xlabel="bytes of kernels and biases", ylabel="accuracy in %")
    ax.legend(loc="lower right")


def describe_sizes(
    front: Sequence[tuple[int, float]], uniform: Sequence[tuple[int, float]], share: float
) -> str:
    """Return the smallest sizes with an accuracy of at least `share`, as a sentence (lesson 05).

    Args:
        front: The best mixes of bit widths, as pairs of bytes and accuracy (0 to 1).
        uniform: The models with one width for all layers, as such pairs.
        share: The accuracy to reach, 0 to 1.

    Raises:
        ValueError: when no mix, or no uniform width, reaches that accuracy.
    """
    mixed, one = (min(size for size, got in pairs if got >= share) for pairs in (front, uniform))
    return (
        f"For {share:.0%} on the images searched with, mixed widths need {mixed:,} bytes, one "
        f"width for all layers {one:,}."
    )
