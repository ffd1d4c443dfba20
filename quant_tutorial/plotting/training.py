"""Draw and describe quantization-aware training (lesson 08)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant_tutorial.affine import QuantParams, fake_quantize
from quant_tutorial.plotting.boxes import clear_axes, draw_arrow, draw_box
from quant_tutorial.plotting.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

# Marker and colour of the ways that `plot_rescue` compares, in the order in which they are given.
_MARKS = (("v", VERMILION), ("s", ORANGE), ("D", GREEN), ("^", PURPLE), ("o", BLUE))
_TICKS = (50, 70, 100, 200, 500, 1000, 2000, 5000, 10_000)


def plot_fake_quant_node(ax: Axes) -> None:
    """Draw the steps of fake quantization, and what passes back through each (lesson 08).

    Args:
        ax: Where to draw, about 9 by 2.6 inches.
    """
    clear_axes(ax, 21.4, 6.4)
    steps = (
        ("÷ s", "÷ s", "white"),
        ("round", "pass\n(untrue)", ORANGE),
        ("clamp to\n[low, high]", "pass inside,\n0 outside", "white"),
        ("· s", "· s", "white"),
    )
    for y, label, color in ((4.2, "forward", BLUE), (0.4, "backward", VERMILION)):
        ax.text(0, y + 0.9, label, va="center", fontsize=10, weight="bold", color=color)
    left, width, gap = 5.0, 2.8, 0.8
    for index, (forward, backward, color) in enumerate(steps):
        x = left + index * (width + gap)
        draw_box(ax, (x, 4.2), (width, 1.8), forward, color=color)
        draw_box(ax, (x, 0.4), (width, 1.8), backward, color=color, fontsize=9.5)
        draw_arrow(ax, (x - gap, 5.1), (x, 5.1))
        draw_arrow(ax, (x, 1.3), (x - gap, 1.3))
    right = left + 4 * (width + gap) - gap
    draw_arrow(ax, (right, 5.1), (right + gap, 5.1))
    draw_arrow(ax, (right + gap, 1.3), (right, 1.3))
    for x, y, text in (
        (left - gap - 0.15, 5.1, "x"),
        (left - gap - 0.15, 1.3, "∂L/∂x"),
    ):
        ax.text(x, y, text, ha="right", va="center", fontsize=11)
    for y, text in ((5.1, "x̂"), (1.3, "∂L/∂x̂")):
        ax.text(right + gap + 0.15, y, text, va="center", fontsize=11)
    ax.text(
        (left + right) / 2,
        3.2,
        "the two factors s cancel: inside, ∂L/∂x = ∂L/∂x̂; outside, it is 0",
        ha="center",
        va="center",
        fontsize=9.5,
        color=GREY,
    )


def describe_fake_quant_node() -> str:
    """Return a sentence on what `plot_fake_quant_node` draws (lesson 08)."""
    return (
        "Forward, from left to right: x is divided by s, rounded, clamped to [low, high] and "
        "multiplied by s, which gives x̂. Backward, from right to left: ∂L/∂x̂ is multiplied by s, "
        "passes the clamp inside and becomes 0 outside, passes the rounding unchanged (the "
        "untruth), and is divided by s, which gives ∂L/∂x."
    )


def plot_aware_layer(ax: Axes) -> None:
    """Draw a layer during quantization-aware training, with its float weights (lesson 08).

    Args:
        ax: Where to draw, about 9 by 2.8 inches.
    """
    clear_axes(ax, 23.2, 6.6)
    high, y = 1.7, 0.5
    boxes = (
        (1.9, 3.0, "convolution", "white"),
        (5.9, 3.0, "add the\nfloat bias", "white"),
        (9.9, 2.2, "ReLU", "white"),
        (13.1, 4.4, "fake-quantize\nthe activations", SKY),
    )
    left = 0.9
    ax.text(0.7, y + high / 2, "x̂", ha="right", va="center", fontsize=11)
    for x, width, text, color in boxes:
        draw_arrow(ax, (left, y + high / 2), (x, y + high / 2))
        draw_box(ax, (x, y), (width, high), text, color=color)
        left = x + width
    draw_arrow(ax, (left, y + high / 2), (left + 1, y + high / 2))
    ax.text(left + 1.2, y + high / 2, "next layer, loss", va="center", fontsize=10)
    top = 4.4
    draw_box(ax, (1.1, top), (4.6, high), "fake-quantize\nthe weights", color=SKY)
    draw_arrow(ax, (3.4, top), (3.4, y + high))
    ax.text(3.7, (top + y + high) / 2, "ŵ, on few levels", va="center", fontsize=9.5)
    draw_box(ax, (9.0, top), (4.6, high), "float weights w,\nkept", color=ORANGE)
    draw_arrow(ax, (9.0, top + 1.25), (5.7, top + 1.25))
    back = {"arrowstyle": "-|>", "color": VERMILION, "lw": 1.2, "ls": "--"}
    ax.annotate("", (9.0, top + 0.4), (5.7, top + 0.4), arrowprops=back)
    ax.text(7.35, top - 0.1, "∂L/∂w", ha="center", va="top", fontsize=9.5, color=VERMILION)
    draw_box(ax, (16.4, top), (4.2, high), "optimizer:\nsmall steps", color="white")
    draw_arrow(ax, (16.4, top + high / 2), (13.6, top + high / 2))
    ax.text(15.0, top - 0.1, "moves w", ha="center", va="top", fontsize=9.5)


def describe_aware_layer() -> str:
    """Return a sentence on what `plot_aware_layer` draws (lesson 08)."""
    return (
        "The input x̂ goes through a convolution, the float bias, ReLU and a fake-quantize node to "
        "the next layer and the loss. The convolution uses ŵ, the float weights w after a "
        "fake-quantize node of their own. The gradient passes back through that node to w, and the "
        "optimizer moves w in small steps."
    )


def plot_straight_through(axes: Sequence[Axes], params: QuantParams) -> None:
    """Draw fake quantization and the two gradients that training uses for it (lesson 08).

    Args:
        axes: Three Axes, one below the other or side by side.
        params: The quantization parameters, with a single scale.
    """
    forward, to_x, to_scale = axes
    low, high, scale = params.minimum, params.maximum, params.scale
    x = np.linspace(low - 2 * scale, high + 2 * scale, 4001)
    steps = x / scale
    x_hat = fake_quantize(x, params)
    inside = (x >= low) & (x <= high)
    forward.plot(x, _broken(x_hat), color=BLUE, label="forward: x̂")
    forward.plot(x, np.clip(x, low, high), color=ORANGE, ls="--", label="backward: clipping")
    forward.set(title="What is computed", xlabel="x", ylabel="x̂", ylim=(low - 0.3, high + 1.6))
    to_x.plot(x, np.zeros_like(x), color=BLUE, label="of the staircase")
    to_x.plot(x, _broken(inside.astype(float)), color=ORANGE, ls="--", label="straight through")
    to_x.set(title="Gradient for x", xlabel="x", ylabel="∂x̂/∂x", yticks=[0, 1])
    to_x.set_ylim(-0.15, 1.6)
    rest = np.where(inside, x_hat / scale - steps, np.nan)
    ends = np.where(inside, np.nan, np.clip(steps, low / scale, high / scale))
    to_scale.plot(x, _broken(rest), color=GREEN, label="inside: rounding error")
    to_scale.plot(x, ends, color=PURPLE, ls="--", lw=2, label="outside: end of the range")
    to_scale.axhline(0, color=GREY, lw=0.6)
    to_scale.set(title="Gradient for the scale", xlabel="x", ylabel="∂x̂/∂s")
    to_scale.set_ylim(low / scale - 0.4, high / scale + 3.4)
    for ax in axes:
        ax.legend(fontsize=8, loc="upper left", frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
        ax.axvspan(low, high, color=SKY, alpha=0.12, lw=0)


def describe_straight_through(params: QuantParams) -> str:
    """Return a description of what `plot_straight_through` draws (lesson 08)."""
    steps = (end / params.scale for end in (params.minimum, params.maximum))
    low, high = (f"{step:.0f}".replace("-", "−") for step in steps)
    return (
        f"A staircase of {params.levels} levels from {params.minimum:g} to {params.maximum:g}"
        f" and, dashed, the clipped line that stands for it on the way back. Its gradient for x is "
        "1 inside the range (shaded) and 0 outside. That for the scale is the rounding error in "
        f"steps, −½ to ½, inside; outside it is {low} below and {high} above."
    ).replace(" -", " −")


def plot_oscillation(ax: Axes, positions: NDArray[np.floating], first: int) -> None:
    """Draw how far some weights are from the edge between two levels, during training (lesson 08).

    Args:
        ax: Where to draw, about 8 by 2.8 inches.
        positions: The float values divided by the scale, shape (steps, weights), at most four
            weights. Each is drawn as the distance from the edge that it is nearest to on average.
        first: The number of the first training step.
    """
    steps = first + np.arange(len(positions))
    distances = positions - (np.floor(positions.mean(axis=0)) + 0.5)
    styles = zip(("-", "--", "-.", ":"), (BLUE, VERMILION, GREEN, PURPLE), strict=True)
    for values, (style, color) in zip(distances.T, styles, strict=False):
        ax.plot(steps, values, style, color=color, lw=1.2)
    most = 1.15 * float(np.abs(distances).max())
    ax.axhspan(0, most, color=SKY, alpha=0.12, lw=0)
    ax.axhline(0, color="black", lw=1)
    place = {"ha": "right", "transform": ax.get_yaxis_transform(), "fontsize": 9}
    ax.text(0.995, 0.93 * most, "rounded up", va="top", **place)
    ax.text(0.995, -0.93 * most, "rounded down", va="bottom", **place)
    ax.set(xlabel="training step", ylabel="distance from\nthe edge, in steps")
    ax.set(xlim=(steps[0], steps[-1]), ylim=(-most, most))
    ax.spines[["top", "right"]].set_visible(False)


def describe_oscillation(positions: NDArray[np.floating], first: int) -> str:
    """Return a sentence on what `plot_oscillation` draws (lesson 08)."""
    flips = np.sum(np.diff(np.round(positions), axis=0) != 0, axis=0)
    farthest = float(np.abs(positions - (np.floor(positions.mean(axis=0)) + 0.5)).max())
    counts = ", ".join(str(int(count)) for count in flips)
    return (
        f"{positions.shape[1]} weights from step {first} to {first + len(positions) - 1}: they "
        f"stay within {farthest:.2f} steps of the edge between two levels, and cross it {counts} "
        "times."
    )


def plot_rescue(
    ax: Axes, ways: Mapping[str, Mapping[str, Sequence[float]]], reference: float
) -> None:
    """Draw how many images several schemes get wrong, by the way they were quantized (lesson 08).

    The scale is logarithmic, and each scheme's marks are joined by a line.

    Args:
        ax: Where to draw, about 8 by 3.6 inches.
        ways: For each of up to five ways, and in it for each scheme, the accuracies of its draws or
            seeds, 0 to 1. All ways have the same schemes; one may be empty.
        reference: The accuracy of the float model, 0 to 1.
    """
    names = list(next(iter(ways.values())))
    places = np.linspace(-0.3, 0.3, len(ways))
    for index, name in enumerate(names):
        means = [
            (place, _wrong(way[name])) for place, way in zip(places, ways.values(), strict=True)
        ]
        joined = [(index + place, mean) for place, mean in means if np.isfinite(mean)]
        ax.plot(*zip(*joined, strict=True), color=GREY, lw=0.8, zorder=1)
    for place, (way, shares), (marker, color) in zip(places, ways.items(), _MARKS, strict=False):
        points = [
            (index + place, 10_000 * (1 - share))
            for index, name in enumerate(names)
            for share in shares[name]
        ]
        ax.plot(*zip(*points, strict=True), marker, color=color, ms=5.5, alpha=0.8, label=way)
    ax.axhline(10_000 * (1 - reference), color="black", ls="--", lw=1, label="float")
    ax.set(yscale="log", xticks=range(len(names)), ylabel="wrong, of 10,000 images")
    ax.set_xticklabels(names)
    bottom, top = ax.get_ylim()
    ax.set_yticks([tick for tick in _TICKS if bottom <= tick <= top])
    ax.yaxis.set_major_formatter("{x:,g}")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(axis="y", color=GREY, alpha=0.2, lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9, loc="upper left")


def describe_rescue(ways: Mapping[str, Mapping[str, Sequence[float]]], reference: float) -> str:
    """Return a description of what `plot_rescue` draws (lesson 08)."""
    names = list(next(iter(ways.values())))
    parts = []
    for name in names:
        means = {way: _wrong(shares[name]) for way, shares in ways.items() if shares[name]}
        figures = ", ".join(f"{mean:,.0f} ({way})" for way, mean in means.items())
        parts.append(f"{name}: {figures}")
    return (
        f"Wrong images of 10,000, means over draws or seeds; the float model has "
        f"{10_000 * (1 - reference):.0f}. {'; '.join(parts)}."
    )


def _wrong(shares: Sequence[float]) -> float:
    """Return the mean number of wrong images among 10,000; NaN without a measurement."""
    return 10_000 * (1 - float(np.mean(shares))) if len(shares) else float("nan")


def _broken(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a curve with gaps where it jumps, so that a jump is not drawn as a steep line."""
    jumps = np.abs(np.diff(values, prepend=values[0])) > 0.25
    return np.where(jumps, np.nan, values)
