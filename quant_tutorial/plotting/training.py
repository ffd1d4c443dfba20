"""Draw and describe quantization-aware training (lesson 08)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant_tutorial.affine import QuantParams, fake_quantize
from quant_tutorial.plotting.style import BLUE, GREEN, GREY, ORANGE, SKY

import numpy as np
from matplotlib.axes import Axes


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
    forward.plot(x, fake_quantize(x, params), color=BLUE, label="forward: x̂, the staircase")
    forward.plot(x, np.clip(x, low, high), color=ORANGE, ls="--", label="backward: as if it were")
    forward.set(title="What is computed", xlabel="x", ylabel="x̂")
    inside = (x >= low) & (x <= high)
    to_x.plot(x, np.zeros_like(x), color=BLUE, label="of the staircase: 0")
    to_x.plot(x, inside, color=ORANGE, ls="--", label="straight through")
    to_x.set(title="Gradient for x", xlabel="x", ylabel="∂x̂/∂x", ylim=(-0.15, 1.5))
    rest = np.where(inside, fake_quantize(x, params) / scale - steps, 0.0)
    ends = np.where(inside, 0.0, np.clip(steps, low / scale, high / scale))
    to_scale.plot(x, rest + ends, color=GREEN)
    to_scale.axhline(0, color=GREY, lw=0.6)
    to_scale.set(title="Gradient for the scale", xlabel="x", ylabel="∂x̂/∂s")
    for ax in (forward, to_x):
        ax.legend(fontsize=8, loc="upper left", frameon=False)
    for ax in axes:
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


def plot_rescue(ax: Axes, ptq: Mapping[str, float], qat: Mapping[str, Sequence[float]]) -> None:
    """Draw the errors of several schemes without and with training (lesson 08).

    The scale is logarithmic.

    Args:
        ax: Where to draw.
        ptq: The best accuracy without training, 0 to 1, by the name of the scheme.
        qat: The accuracies with training, 0 to 1, by the name of the scheme, one for each seed.
    """
    for index, name in enumerate(ptq):
        ax.plot(index - 0.1, 100 * (1 - ptq[name]), "s", color=ORANGE, ms=8)
        errors = [100 * (1 - share) for share in qat[name]]
        ax.plot([index + 0.1] * len(errors), errors, "o", color=BLUE, ms=5, alpha=0.8)
    ax.plot([], [], "s", color=ORANGE, label="rounded after training (PTQ)")
    ax.plot([], [], "o", color=BLUE, label="trained with rounding (QAT), one mark for each seed")
    ax.set(yscale="log", xticks=range(len(ptq)), ylabel="% of the test images wrong")
    ax.set_xticklabels(list(ptq))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9, ncol=2, loc="lower center", bbox_to_anchor=(0.45, 1))


def describe_rescue(ptq: Mapping[str, float], qat: Mapping[str, Sequence[float]]) -> str:
    """Return a description of what `plot_rescue` draws (lesson 08)."""
    parts = [
        f"{name}: {100 * (1 - ptq[name]):.1f} % without training, "
        f"{100 * (1 - float(np.mean(qat[name]))):.1f} % with it"
        for name in ptq
    ]
    return f"Wrong answers on the test images. {'; '.join(parts)}."
