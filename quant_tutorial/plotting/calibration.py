"""Draw and describe how a range is chosen from data, and what it costs (lesson 03)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant_tutorial.affine import QuantParams
from quant_tutorial.plotting.style import BLUE, GREY, ORANGE, VERMILION

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from numpy.typing import ArrayLike, NDArray

_STEPS = {  # of the workflow, with what each needs
    "train": ("the float model", "training images\nand labels"),
    "calibrate": (
        "look at the activations,\nchoose their ranges",
        "some training images,\nno labels",
    ),
    "quantize": ("scale and zero point\nfrom each range", "no images"),
    "evaluate": ("the accuracy of the\nquantized model", "test images\nand labels"),
}
_BOTH_WAYS = {"arrowstyle": "<|-|>", "color": BLUE, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # behind a label
_PARTS = {"rounding": ("--", BLUE), "clipping": (":", VERMILION)}


def plot_workflow(ax: Axes) -> None:
    """Draw the steps from training to evaluation, with calibration marked (lesson 03)."""
    ax.set(xlim=(0, 4), ylim=(0, 1))
    ax.axis("off")
    for place, (step, (what, needs)) in enumerate(_STEPS.items()):
        here = step == "calibrate"
        box = FancyBboxPatch(
            (place + 0.06, 0.4),
            0.8,
            0.46,
            boxstyle="round,pad=0.02,rounding_size=0.06",
            facecolor=ORANGE if here else "white",
            edgecolor="black",
            linewidth=2 if here else 1,
        )
        ax.add_patch(box)
        middle = place + 0.46
        ax.text(middle, 0.76, step, ha="center", va="center", weight="bold", fontsize=11)
        ax.text(middle, 0.56, what, ha="center", va="center", fontsize=9)
        ax.text(middle, 0.0, needs, ha="center", va="bottom", fontsize=9, color=GREY)
        arrow = {"arrowstyle": "-|>", "color": "black", "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (middle, 0.36), (middle, 0.23), arrowprops={**arrow, "color": GREY})
        if place:
            ax.annotate("", (place + 0.04, 0.63), (place - 0.12, 0.63), arrowprops=arrow)


def describe_workflow() -> str:
    """Return the steps that `plot_workflow` draws as sentences (lesson 03)."""
    steps = [
        f"{step}, {what} ({needs})".replace("\n", " ") for step, (what, needs) in _STEPS.items()
    ]
    return f"Four steps in turn: {'; '.join(steps)}. Calibration is the second."


def plot_clipped_histogram(
    ax: Axes, values: ArrayLike, params: QuantParams, title: str = ""
) -> None:
    """Draw a histogram with the levels of a range, and what lies beyond it (lesson 03).

    The tail that is clipped has another colour and hatching. An arrow leads from the tail to the
    last level.
    """
    values = np.asarray(values).ravel()
    counts, edges = np.histogram(values, 120)
    middles = (edges[:-1] + edges[1:]) / 2
    beyond = (middles < params.minimum) | (middles > params.maximum)
    width = edges[1] - edges[0]
    ax.bar(middles[~beyond], counts[~beyond], width, color=GREY)
    ax.bar(
        middles[beyond],
        counts[beyond],
        width,
        color=VERMILION,
        edgecolor="white",
        hatch="////",
        lw=0,
    )
    levels = (np.arange(params.qmin, params.qmax + 1) - params.zero_point) * params.scale
    top = counts.max()
    ax.vlines(levels, 0, 1.12 * top, color=BLUE, lw=1.2)
    ax.plot(levels, np.full(len(levels), 1.12 * top), "v", color=BLUE, ms=5)
    ax.annotate("", (levels[-2], 0.75 * top), (levels[-1], 0.75 * top), arrowprops=_BOTH_WAYS)
    middle = (levels[-2] + levels[-1]) / 2
    ax.text(middle, 0.8 * top, "scale", color=BLUE, ha="center", fontsize=9, bbox=_PAPER)
    if beyond.any():
        ax.annotate(
            "clipped",
            (params.maximum, 0.3 * top),
            ((params.maximum + values.max()) / 2, 0.3 * top),
            color=VERMILION,
            ha="center",
            va="center",
            arrowprops={"arrowstyle": "-|>", "color": VERMILION, "lw": 1.4},
        )
    ax.set(ylim=(0, 1.2 * top), yticks=[], ylabel="how many")
    ax.set_title(title, loc="left", fontsize=10)


def describe_clipped_histogram(values: ArrayLike, params: QuantParams) -> str:
    """Return a sentence on what `plot_clipped_histogram` draws (lesson 03)."""
    values = np.asarray(values)
    beyond = np.mean((values < params.minimum) | (values > params.maximum))
    return (
        f"Range {params.minimum:.3g} to {params.maximum:.3g}: {params.levels} levels, "
        f"{params.scale:.3g} apart; {beyond:.1%} of the values lie beyond and are clipped."
    )


def plot_range_error(
    ax: Axes,
    ends: Sequence[float],
    errors: ArrayLike,
    predicted: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Draw the mean squared error against the upper end of the range (lesson 03).

    Args:
        ax: Where to draw.
        ends: The upper ends, shape (n,).
        errors: The errors measured, shape (n,).
        predicted: The errors that a formula predicts, "rounding" and "clipping", shape (n,) each.
    """
    errors = np.asarray(errors)
    for name, values in (predicted or {}).items():
        style, color = _PARTS[name]
        ax.plot(ends, values, style, color=color, lw=2, label=f"{name}, by the formula")
    if predicted:
        total = np.sum([*predicted.values()], axis=0)
        ax.plot(ends, total, color="black", lw=1.4, label="their sum")
    ax.plot(ends, errors, "o", color="black", ms=5, mfc="white", label="measured")
    best = int(errors.argmin())
    ax.plot(ends[best], errors[best], "*", color=ORANGE, ms=16, mec="black", label="smallest")
    top = 4 * errors.min()
    ax.set(xlabel="upper end of the range", ylabel="mean squared error", ylim=(-0.03 * top, top))
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)


def describe_range_error(ends: Sequence[float], errors: Sequence[float]) -> str:
    """Return a sentence on what `plot_range_error` draws (lesson 03)."""
    best = int(np.argmin(errors))
    return (
        f"The mean squared error is {errors[0]:.3g} where the range ends at {ends[0]:.2f}, falls "
        f"to {errors[best]:.3g} at {ends[best]:.2f}, and rises to {errors[-1]:.3g} at "
        f"{ends[-1]:.2f}."
    )


def plot_shapes(ax: Axes, p: NDArray[np.floating], q: NDArray[np.floating], title: str) -> None:
    """Draw two histograms of the same bins, before and after quantization (lesson 03)."""
    places = np.arange(len(p))
    ax.bar(places, p, 1.0, color=GREY, label="p, before")
    ax.stairs(q, np.arange(len(q) + 1) - 0.5, color=BLUE, lw=2, label="q, after")
    top = 1.35 * max(np.max(p), np.max(q))  # the legend stands above the bars
    ax.set(xlabel="bin", ylabel="share of the values", ylim=(0, top))
    ax.set_title(title, loc="left", fontsize=10)
    ax.legend(ncols=2, loc="upper right")


def describe_shapes(p: NDArray[np.floating], q: NDArray[np.floating], divergence: float) -> str:
    """Return a sentence on what `plot_shapes` draws (lesson 03)."""
    tallest = int(np.argmax(p))
    return (
        f"{len(p)} bins: the tallest, number {tallest}, holds {p[tallest]:.0%} of the values "
        f"before and {q[tallest]:.0%} after; the KL divergence is {divergence:.3f}."
    )


def plot_draws(ax: Axes, draws: Mapping[str, Sequence[float]], ylabel: str) -> None:
    """Draw the draws of each setting as a column of dots, with a bar at the median (lesson 03).

    The dots of a column are spread sideways, so that equal values stand side by side.
    """
    for place, (_, values) in enumerate(draws.items()):
        ordered = np.sort(np.asarray(values, float))
        sideways = 0.28 * np.resize(
            [0.0, 0.5, -0.5, 1.0, -1.0, 0.25, -0.75, 0.75, -0.25], len(values)
        )
        ax.plot(place + sideways, ordered, "o", color=BLUE, ms=5, mec="white", mew=0.6)
        middle = float(np.median(ordered))
        ax.plot([place - 0.38, place + 0.38], [middle, middle], color=ORANGE, lw=2.5, zorder=1)
    ax.plot([], [], "o", color=BLUE, ms=5, label="one draw")
    ax.plot([], [], color=ORANGE, lw=2.5, label="median")
    ax.set(ylabel=ylabel, xlim=(-0.6, len(draws) - 0.4))
    ax.set_xticks(range(len(draws)), list(draws))
    ax.legend(loc="lower right")


def describe_draws(draws: Mapping[str, Sequence[float]], decimals: int = 0) -> str:
    """Return a sentence on what `plot_draws` draws (lesson 03)."""
    parts = [
        f"{name}: {len(values)} draws from {min(values):,.{decimals}f} to "
        f"{max(values):,.{decimals}f}, median {np.median(values):,.{decimals}f}"
        for name, values in draws.items()
    ]
    return "; ".join(parts) + "."
