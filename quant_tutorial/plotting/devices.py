"""Draw what a device asks of a file: its memories, and the way to a choice (lesson 09)."""

from __future__ import annotations

from collections.abc import Mapping

from quant_tutorial.plotting.boxes import clear_axes, draw_arrow, draw_box
from quant_tutorial.plotting.style import BLUE, GREEN, GREY, ORANGE

from matplotlib.axes import Axes

# Each question with its answers: what to begin with, or None for the next question.
_QUESTIONS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Which program\nruns the file?",
        (
            ("LiteRT for\nMicrocontrollers", "full-integer int8;\nW4A8 if flash is short"),
            ("a compiler for\nan accelerator", "full-integer int8;\nask the vendor"),
            ("LiteRT on\na GPU", "float16"),
        ),
    ),
    (
        "LiteRT on a CPU:\nwhat is short?",
        (
            ("time", "full-integer int8,\nmeasured against\nfloat32"),
            ("RAM", "full-integer int8:\nnarrow activations"),
            ("download or disk", "weight-only,\n4 or 2 bits"),
        ),
    ),
)

_PARTS = (
    ("flash or disk: the file", {"color": BLUE}),
    ("RAM: activations", {"color": ORANGE}),
    (
        "RAM: weights unpacked to floats",
        {"color": GREEN, "hatch": "////", "edgecolor": "white", "lw": 0},
    ),
)


def plot_memory(ax: Axes, files: Mapping[str, tuple[int, int, int]]) -> None:
    """Draw the file of each variant to the left, and its RAM in LiteRT to the right (lesson 09).

    Args:
        ax: Where to draw, about 9 by 3 inches.
        files: For each variant the bytes of the file, of its activations and of its unpacked
            weights, as `deployment.memory` returns them; the first stands at the top.
    """
    for row, (file, activations, unpacked) in enumerate(files.values()):
        ram = (activations + unpacked) / 1000
        ax.barh(row, -file / 1000, height=0.6, **_PARTS[0][1])
        ax.barh(row, activations / 1000, height=0.6, **_PARTS[1][1])
        ax.barh(row, unpacked / 1000, left=activations / 1000, height=0.6, **_PARTS[2][1])
        ax.text(-file / 1000 - 1, row, f"{file / 1000:.1f}", ha="right", va="center")
        ax.text(ram + 1, row, f"{ram:.1f}", ha="left", va="center")
    for label, style in _PARTS:
        ax.barh(0, 0, label=label, **style)
    widest = max(max(file, *ram, sum(ram)) for file, *ram in files.values()) / 1000
    ax.set(xlim=(-1.15 * widest, 1.15 * widest), ylim=(len(files) - 0.5, -0.5), xlabel="kB")
    ax.set_yticks(range(len(files)), list(files))
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    ax.axvline(0, color=GREY, lw=0.8)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=9)


def describe_memory(files: Mapping[str, tuple[int, int, int]]) -> str:
    """Return the numbers that `plot_memory` draws (lesson 09)."""
    parts = [
        f"{name}: file {file:,} bytes; RAM {activations:,} for activations and "
        f"{unpacked:,} for unpacked weights"
        for name, (file, activations, unpacked) in files.items()
    ]
    return f"{'. '.join(parts)}."


def plot_choice(ax: Axes) -> None:
    """Draw the questions that lead from a device to the variant to begin with (lesson 09).

    Args:
        ax: Where to draw, about 10 by 4 inches.
    """
    clear_axes(ax, 126, 50)
    for number, (question, answers) in enumerate(_QUESTIONS):
        top = 48 - 26 * number  # of the line that leads to the answers
        draw_box(ax, (0, top - 13), (22, 14), question, weight="bold")
        ax.plot([22, 25 + 34 * len(answers) - 19], [top, top], color=GREY, lw=1.2)
        for place, (answer, choice) in enumerate(answers):
            left = 25 + 34 * place
            draw_arrow(ax, (left + 15, top), (left + 15, top - 3))
            draw_box(ax, (left, top - 10), (30, 7), answer)
            draw_arrow(ax, (left + 15, top - 10), (left + 15, top - 12.5))
            draw_box(ax, (left, top - 21.5), (30, 9), choice, color=BLUE, ink="white")
    draw_arrow(ax, (11, 35), (11, 23))


def describe_choice() -> str:
    """Return what `plot_choice` draws (lesson 09)."""
    parts = []
    for question, answers in _QUESTIONS:
        found = [f"{_sentence(answer)}: {_line(choice)}" for answer, choice in answers]
        parts.append(f"{_line(question)} {'. '.join(found)}.")
    return " ".join(parts)


def _line(text: str) -> str:
    return text.replace("\n", " ")


def _sentence(text: str) -> str:
    line = _line(text)
    return line[0].upper() + line[1:]
