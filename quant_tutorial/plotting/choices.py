"""Draw and describe the choice between rounding up and down (lesson 11)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from quant_tutorial.plotting.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

# Marker and colour of each way to round, the same in every figure of lesson 11.
METHOD_MARKS = {
    "nearest, min/max": ("s", "white"),
    "nearest": ("s", ORANGE),
    "equalization": ("P", PURPLE),
    "bias correction": ("v", SKY),
    "GPTQ": ("D", GREEN),
    "AdaRound": ("o", BLUE),
    "best": ("*", VERMILION),
    "training": ("x", "black"),
}


def corner_errors(weights: ArrayLike, hessian: ArrayLike) -> dict[tuple[int, int], float]:
    """Return the error of the four roundings of two weights, with levels at integers (lesson 11).

    Args:
        weights: The two weights, each between 0 and 1.
        hessian: The mean products of the inputs, shape (2, 2).
    """
    found = {}
    for corner in itertools.product((0, 1), repeat=2):
        change = np.asarray(corner) - np.asarray(weights, float)
        found[corner] = float(change @ np.asarray(hessian, float) @ change)
    return found


def plot_two_weights(
    axes: Sequence[Axes], weights: ArrayLike, hessians: Mapping[str, ArrayLike]
) -> None:
    """Draw two weights between their levels, with curves of equal error (lesson 11).

    Args:
        axes: One Axes for each kind of inputs.
        weights: The two weights, each between 0 and 1; the levels are 0 and 1.
        hessians: The mean products of the inputs, shape (2, 2), by their title.
    """
    grid = np.meshgrid(np.linspace(-0.45, 1.45, 200), np.linspace(-0.45, 1.45, 200))
    first, second = (values - w for values, w in zip(grid, np.asarray(weights), strict=True))
    for ax, (title, found) in zip(axes, hessians.items(), strict=True):
        h = np.asarray(found, float)
        errors = corner_errors(weights, h)
        best = min(errors, key=errors.__getitem__)
        surface = h[0, 0] * first**2 + 2 * h[0, 1] * first * second + h[1, 1] * second**2
        ax.contour(*grid, surface, sorted(set(errors.values())), colors=GREY, linewidths=0.8)
        for corner, error in errors.items():
            ax.plot(*corner, "o", color=BLUE if corner == best else "white", mec=BLUE, ms=9)
            ax.annotate(f"{error:.2f}", corner, (9, 7), textcoords="offset points", fontsize=10)
        ax.plot(0, 0, "s", color="none", mec=ORANGE, mew=2, ms=17)
        ax.plot(*np.asarray(weights), "X", color="black", ms=9)
        ax.set(title=title, xlabel="first weight", ylabel="second weight", aspect="equal")
        ax.set(xticks=[0, 1], yticks=[0, 1], xlim=(-0.45, 1.45), ylim=(-0.45, 1.45))
        ax.spines[["top", "right"]].set_visible(False)
    for style, color, edge, size, label in (
        ("X", "black", "black", 9, "the two weights in float"),
        ("s", "none", ORANGE, 13, "both at their nearest level"),
        ("o", BLUE, BLUE, 9, "the rounding with the smallest error"),
    ):
        axes[0].plot([], [], style, color=color, mec=edge, mew=2, ms=size, ls="", label=label)
    axes[0].get_figure().legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def describe_two_weights(weights: ArrayLike, hessians: Mapping[str, ArrayLike]) -> str:
    """Return a description of what `plot_two_weights` draws (lesson 11)."""
    parts = []
    for title, found in hessians.items():
        errors = corner_errors(weights, found)
        best = min(errors, key=errors.__getitem__)
        parts.append(
            f"{title}: the smallest error is {errors[best]:.2f}, at {best[0]} and {best[1]}, and "
            f"the nearest levels, 0 and 0, have {errors[0, 0]:.2f}"
        )
    first, second = np.asarray(weights)
    return f"Weights of {first:g} and {second:g} between the levels 0 and 1. {'; '.join(parts)}."


def plot_all_roundings(ax: Axes, errors: NDArray[np.floating], nearest: int) -> None:
    """Draw the errors of all roundings of a filter, from the smallest to the largest (lesson 11).

    Args:
        ax: Where to draw.
        errors: The error of each rounding, shape (roundings,).
        nearest: Which of them takes the nearest level of every weight.
    """
    ordered = np.sort(errors)
    place = int(np.sum(errors < errors[nearest])) + 1
    ax.plot(np.arange(1, len(ordered) + 1), ordered, color=GREY, lw=2)
    for x, y, style, color, label, offset in (
        (1, ordered[0], "o", BLUE, f"best: {ordered[0]:.3f}", (8, -4)),
        (place, errors[nearest], "s", ORANGE, f"nearest: {errors[nearest]:.3f}", (10, -12)),
    ):
        ax.plot(x, y, style, color=color, ms=9)
        ax.annotate(label, (x, y), offset, textcoords="offset points", fontsize=10)
    ax.set(yscale="log", xlabel="rounding, from the best to the worst", xlim=(-8, len(errors) + 8))
    ax.set_ylabel("mean squared error of the output")
    ax.set_xticks([1, *range(100, len(errors) - 50, 100), len(errors)])
    ax.spines[["top", "right"]].set_visible(False)


def describe_all_roundings(errors: NDArray[np.floating], nearest: int) -> str:
    """Return a description of what `plot_all_roundings` draws (lesson 11)."""
    better = int(np.sum(errors < errors[nearest]))
    return (
        f"Of {len(errors)} roundings of the filter, {better} have a smaller error than the nearest "
        f"levels. The best has {errors.min():.3f}, the nearest {errors[nearest]:.3f}, the worst "
        f"{errors.max():.1f}."
    )


def plot_pushed_error(ax: Axes, factor: NDArray[np.floating], row: int) -> None:
    """Draw one step of GPTQ: an input's weights are rounded, their error goes on (lesson 11).

    Args:
        ax: Where to draw.
        factor: The upper triangular factor of the inverse Hessian, shape (inputs, inputs).
        row: The input whose weights are being rounded.
    """
    count = len(factor)
    pushed = np.abs(factor[row]) / factor[row, row]
    for place in range(count):
        state = "done" if place < row else "now" if place == row else "later"
        color = {"done": BLUE, "now": ORANGE, "later": "white"}[state]
        ax.add_patch(Rectangle((place, 0), 0.9, 0.9, fc=color, ec="black", lw=0.8))
        ax.text(
            place + 0.45,
            0.45,
            f"{place + 1}",
            ha="center",
            va="center",
            color="white" if state == "done" else "black",
        )
        if state == "later":
            ax.annotate(
                "",
                (place + 0.45, 0.95),
                (row + 0.45, 0.95),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": VERMILION,
                    "lw": 0.6 + 3 * pushed[place],
                    "connectionstyle": "arc3,rad=-0.35",
                },
            )
    for x, text, color in (
        (row / 2 - 0.05, "rounded: stay as they are", BLUE),
        (row + 0.45, "being\nrounded", "black"),
        ((row + 1 + count) / 2, "still in float: take over the error", VERMILION),
    ):
        ax.text(x, -0.2, text, ha="center", va="top", color=color, fontsize=10)
    ax.set(xlim=(-0.1, count), ylim=(-0.9, 2.6))
    ax.axis("off")


def describe_pushed_error(factor: NDArray[np.floating], row: int) -> str:
    """Return a description of what `plot_pushed_error` draws (lesson 11)."""
    pushed = -factor[row, row + 1 :] / factor[row, row]
    most = int(np.abs(pushed).argmax())
    return (
        f"Weights 1 to {row} of {len(factor)} are rounded and stay as they are, weight {row + 1} "
        f"is being rounded, and arrows lead from it to weights {row + 2} to {len(factor)}, which "
        f"take over its error. Weight {row + 2 + most} takes over most."
    )


def plot_soft_rounding(axes: Sequence[Axes], sharpness: Sequence[float]) -> None:
    """Draw how AdaRound learns a choice: its rectified sigmoid and its regularizer (lesson 11).

    Args:
        axes: Two Axes side by side.
        sharpness: The exponents β for which the regularizer is drawn, from the first to the last.
    """
    v = np.linspace(-5, 5, 401)
    sigmoid = 1 / (1 + np.exp(-v))
    axes[0].plot(v, sigmoid, color=GREY, ls="--", label="sigmoid")
    axes[0].plot(v, np.clip(1.2 * sigmoid - 0.1, 0, 1), color=BLUE, label="stretched and clipped")
    axes[0].set(title="How far a weight goes up", xlabel="v, which is learned", ylabel="h(v)")
    h = np.linspace(0, 1, 401)
    styles = itertools.cycle([("-", VERMILION), ("--", ORANGE), (":", GREEN)])
    for beta, (style, color) in zip(sharpness, styles, strict=False):
        penalty = 1 - np.abs(2 * h - 1) ** beta
        axes[1].plot(h, penalty, style, color=color, label=f"β = {beta:g}")
    axes[1].set(title="What indecision costs", xlabel="h(v)", ylabel="1 − |2h − 1|ᵝ")
    for ax in axes:
        ax.legend(fontsize=9, frameon=False)
        ax.spines[["top", "right"]].set_visible(False)


def describe_soft_rounding(sharpness: Sequence[float]) -> str:
    """Return a description of what `plot_soft_rounding` draws (lesson 11)."""
    first, *_, last = sharpness
    return (
        "Left, h rises from 0 to 1 with v, and reaches both ends: 0 below −2.4, 1 above 2.4. "
        "Right, the regularizer is 0 where h is 0 or 1 and largest in the middle. With β = "
        f"{first:g} it is flat and falls only near the ends; with β = {last:g} it pushes every h "
        "towards the nearer end."
    )


def plot_channel_ranges(
    axes: Sequence[Axes],
    before: Sequence[NDArray[np.floating]],
    after: Sequence[NDArray[np.floating]],
    titles: Sequence[str],
) -> None:
    """Draw the largest weight of each channel before and after equalization (lesson 11).

    Args:
        axes: One Axes for each tensor.
        before: For each tensor, the largest magnitude of each channel, shape (channels,).
        after: The same after equalization.
        titles: What each tensor is.
    """
    for ax, old, new, title in zip(axes, before, after, titles, strict=True):
        places = np.arange(len(old))
        ax.bar(places - 0.2, old, 0.4, color=ORANGE, label="before")
        ax.bar(places + 0.2, new, 0.4, color=BLUE, hatch="///", ec="white", lw=0, label="after")
        ax.set(yscale="log", title=title, xlabel="channel between the two layers")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("largest weight of the channel")
    shown = axes[0].get_legend_handles_labels()
    axes[0].get_figure().legend(*shown, loc="outside lower center", ncols=2, frameon=False)


def describe_channel_ranges(
    before: Sequence[NDArray[np.floating]],
    after: Sequence[NDArray[np.floating]],
    titles: Sequence[str],
) -> str:
    """Return a description of what `plot_channel_ranges` draws (lesson 11)."""
    parts = []
    for old, new, title in zip(before, after, titles, strict=True):
        ratios = [f"{values.max() / values.min():.0f}×" for values in (old, new)]
        parts.append(f"{title}: {ratios[0]} before, {ratios[1]} after")
    return f"The widest channel has so many times the range of the narrowest. {'; '.join(parts)}."


def plot_methods(ax: Axes, errors: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Draw the wrong answers of every method for several schemes (lesson 11).

    The scale is logarithmic, and each draw of calibration images has its own mark.

    Args:
        ax: Where to draw.
        errors: The share of wrong answers of each draw, 0 to 1, by method and scheme. Methods that
            `METHOD_MARKS` does not have get a cross.
    """
    schemes = list(next(iter(errors.values())))
    width = 0.8 / len(errors)
    for index, (method, found) in enumerate(errors.items()):
        marker, color = METHOD_MARKS.get(method, ("+", VERMILION))
        edge = ORANGE if color == "white" else color
        for place, scheme in enumerate(schemes):
            shares = [100 * share for share in found.get(scheme, ())]
            x = place - 0.4 + (index + 0.5) * width
            label = method if place == 0 else None
            ax.plot([x] * len(shares), shares, marker, color=color, mec=edge, ms=6, label=label)
    for place in range(1, len(schemes)):
        ax.axvline(place - 0.5, color=GREY, lw=0.5)
    ax.set(yscale="log", xticks=range(len(schemes)), ylabel="% of the test images wrong")
    ax.set_xticklabels(schemes)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))


def describe_methods(errors: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return a description of what `plot_methods` draws (lesson 11)."""
    schemes = list(next(iter(errors.values())))
    parts = []
    for scheme in schemes:
        means = ", ".join(
            f"{method} {100 * float(np.mean(found[scheme])):.2f}%"
            for method, found in errors.items()
            if found.get(scheme)
        )
        parts.append(f"{scheme}: {means}")
    return f"Wrong answers on the test images, mean of the draws. {'; '.join(parts)}."
