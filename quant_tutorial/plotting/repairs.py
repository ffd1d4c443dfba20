"""Draw a report on any model: its files, where the error grows, the way to a repair (lesson 12)."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from quant_tutorial.plotting.boxes import clear_axes, draw_arrow, draw_box
from quant_tutorial.plotting.style import BLUE, GREEN, GREY, ORANGE, SKY, VERMILION

from matplotlib.axes import Axes


class FileMark(NamedTuple):
    """One file as `plot_files` draws it (lesson 12)."""

    kilobytes: float
    quality: float  # in the unit of the axis
    low: float  # ends of its interval; equal to the quality where there is none
    high: float
    integer_only: bool


def plot_files(axes: Sequence[Axes], files: Mapping[str, FileMark], quality: str) -> None:
    """Draw the size of files as bars, and their quality as points with intervals (lesson 12).

    The smallest file stands at the top. Integer-only files are blue and have a circle, others
    are orange, hatched, and have a square.

    Args:
        axes: Two Axes beside each other with a common y axis.
        files: The files by name, at least one.
        quality: What the points show, for the axis.
    """
    ordered = sorted(files.items(), key=lambda pair: pair[1].kilobytes)
    for row, (_, mark) in enumerate(ordered):
        color, hatch, style = (BLUE, "", "o") if mark.integer_only else (ORANGE, "////", "s")
        axes[0].barh(row, mark.kilobytes, 0.7, color=color, hatch=hatch, edgecolor="white", lw=0)
        axes[1].plot([mark.low, mark.high], [row, row], color=GREY, lw=1.5)
        axes[1].plot(mark.quality, row, style, color=color, mec="black", ms=7)
    for color, hatch, label in ((BLUE, "", "integer only"), (ORANGE, "////", "with float ops")):
        axes[0].barh(0, 0, color=color, hatch=hatch, edgecolor="white", lw=0, label=label)
    axes[0].set_yticks(range(len(ordered)), [textwrap.fill(name, 28) for name, _ in ordered])
    axes[0].set(xlabel="file in kB", ylim=(len(ordered) - 0.4, -0.6))
    axes[1].set(xlabel=quality, ylim=(len(ordered) - 0.4, -0.6))
    axes[1].tick_params(axis="y", length=0, labelleft=False)
    axes[1].grid(axis="both", color=GREY, lw=0.3)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, fontsize=9)


def describe_files(files: Mapping[str, FileMark], quality: str) -> str:
    """Return the numbers that `plot_files` draws, the smallest file first (lesson 12)."""
    parts = []
    for name, mark in sorted(files.items(), key=lambda pair: pair[1].kilobytes):
        interval = "" if mark.low == mark.high else f" ({mark.low:.0f} to {mark.high:.0f})"
        kind = "integer only" if mark.integer_only else "with float ops"
        parts.append(f"{name}: {mark.kilobytes:.1f} kB, {mark.quality:.0f}{interval}, {kind}")
    return f"File in kB and {quality}, smallest file first. {'; '.join(parts)}."


def plot_error_path(
    axes: Sequence[Axes], layers: Sequence[str], sqnr: Sequence[float], spreads: Sequence[float]
) -> None:
    """Draw the SQNR from op to op of an integer file, and how much channels differ (lesson 12).

    Args:
        axes: Two Axes above each other.
        layers: The layer of each op, in the file's order.
        sqnr: The accumulated SQNR of each op's output in decibels.
        spreads: How many times as wide as the median channel the widest one is, for each op.
    """
    places = range(len(layers))
    axes[0].plot(places, sqnr, "o-", color=BLUE)
    axes[0].set(ylabel="SQNR in dB")
    wide = [spread >= 16 for spread in spreads]  # four of eight bits
    for marked, color, hatch, label in (
        (False, SKY, "", "channels alike"),
        (True, VERMILION, "////", "one channel 16 times as wide, or more"),
    ):
        chosen = [place for place in places if wide[place] == marked]
        if not chosen:
            continue
        axes[1].bar(
            chosen,
            [spreads[place] for place in chosen],
            0.7,
            color=color,
            hatch=hatch,
            edgecolor="white",
            lw=0,
            label=label,
        )
    axes[1].set(yscale="log", ylabel="widest channel,\nto the median one")
    axes[1].set_ylim(0.8, 4 * max(*spreads, 16))
    axes[1].yaxis.set_major_formatter("{x:g}×")
    axes[1].legend(fontsize=9, frameon=False, loc="upper left")
    axes[0].set_xticks(places, [])
    names = [f"{name[:17]}…" if len(name) > 18 else name for name in layers]
    axes[1].set_xticks(places, names, rotation=90, fontsize=9 if len(layers) <= 30 else 6)
    for ax in axes:
        ax.set_xlim(-0.6, len(layers) - 0.4)
        ax.grid(axis="x", color=GREY, lw=0.3)
        ax.spines[["top", "right"]].set_visible(False)


def describe_error_path(
    layers: Sequence[str], sqnr: Sequence[float], spreads: Sequence[float]
) -> str:
    """Return a description of what `plot_error_path` draws (lesson 12)."""
    falls = [before - after for before, after in itertools.pairwise(sqnr)]
    wide = max(range(len(layers)), key=lambda place: spreads[place])
    said = f"The SQNR goes from {sqnr[0]:.0f} dB to {sqnr[-1]:.0f} dB over {len(layers)} ops."
    if falls:
        deepest = max(range(len(falls)), key=lambda place: falls[place])
        said += f" It falls most at {layers[deepest + 1]}, by {falls[deepest]:.0f} dB."
    return (
        f"{said} The channels differ most in {layers[wide]}, whose widest one is "
        f"{spreads[wide]:,.1f} times as wide as the median one."
    )


# Each question with what to do on the answer that leads out of the chain, and that answer.
_STEPS: tuple[tuple[str, str, str], ...] = (
    (
        "Does the float model get the images\nright as you feed them?",
        "no",
        "Preprocess as in training, once:\nlook for layers that rescale inside.",
    ),
    (
        "Does the float32 file give the same?",
        "no",
        "Compare op by op with debug;\nlook at states, batch and kernels.",
    ),
    (
        "Is the int8 file fed with integers of\nits own scale and zero point, clipped?",
        "no",
        "Quantize inputs and dequantize\noutputs as the file says.",
    ),
    (
        "Do the calibration images look like\nthe inputs: range, classes, number?",
        "no",
        "Calibrate with training images,\npreprocessed like the inputs.",
    ),
    (
        "Does int8 lose less than you tolerate,\nby the end of the interval?",
        "yes",
        "Ship it: inspect, measure on the\ndevice, write the model card.",
    ),
    (
        "Does the SQNR fall at one op?",
        "no",
        "Rounding everywhere: 16x8, better\nranges and rounding, or QAT.",
    ),
    (
        "Is one channel before that op\nmuch wider than the others?",
        "no",
        "Clipping or coarse weights: other\nranges, per channel, or in float.",
    ),
    (
        "Do the two layers meet through\na ReLU, or nothing?",
        "yes",
        "Equalize them: the function stays\nthe same.",
    ),
)
_LAST = "Leave both layers in float,\nor train with fake quantization."


def plot_repair(ax: Axes) -> None:
    """Draw the questions that lead from a bad conversion to its repair (lesson 12).

    Args:
        ax: Where to draw, about 9 by 7.5 inches.
    """
    rows, step, high = len(_STEPS), 10, 7
    clear_axes(ax, 100, rows * step + high)
    for number, (question, answer, remedy) in enumerate(_STEPS):
        bottom = (rows - number) * step
        ship = remedy.startswith("Ship")
        draw_box(ax, (0, bottom), (47, high), question, weight="bold", fontsize=9.5)
        ax.text(50.5, bottom + high / 2 + 1.1, answer, ha="center", va="center", fontsize=9.5)
        draw_arrow(ax, (47, bottom + high / 2), (54, bottom + high / 2))
        color = GREEN if ship else SKY
        draw_box(ax, (54, bottom), (46, high), remedy, color=color, fontsize=9.5)
        draw_arrow(ax, (23.5, bottom), (23.5, bottom - step + high))
        other = "yes" if answer == "no" else "no"
        ax.text(26, bottom - (step - high) / 2, other, ha="center", va="center", fontsize=9.5)
    draw_box(ax, (0, 0), (47, high), _LAST, color=SKY, fontsize=9.5)


def describe_repair() -> str:
    """Return what `plot_repair` draws (lesson 12)."""
    lines = [
        f"{number} {_line(question)} If {answer}: {_line(remedy)}"
        for number, (question, answer, remedy) in enumerate(_STEPS, start=1)
    ]
    return "\n".join([*lines, f"Otherwise: {_line(_LAST)}"])


def _line(text: str) -> str:
    return text.replace("\n", " ")
