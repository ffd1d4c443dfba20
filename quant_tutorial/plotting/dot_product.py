"""Draw and describe one sum of products, with floats and with integers (lesson 00)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quant_tutorial.affine import params_from_range, quantize
from quant_tutorial.plotting.boxes import clear_axes, draw_box
from quant_tutorial.plotting.style import BLUE, SKY

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

_ROW = 1.0  # the height of a row of the drawing


class _Sums(NamedTuple):
    activations: NDArray[np.integer]  # 0 to 255
    weights: NDArray[np.integer]  # −127 to 127
    products: NDArray[np.integer]
    scale: float  # of a product
    exact: float  # the sum with floats

    @property
    def back(self) -> float:
        return float(self.products.sum() * self.scale)


def plot_dot_product(ax: Axes, activations: Sequence[float], weights: Sequence[float]) -> None:
    """Draw how an output is summed up, with floats on the left and 8-bit integers on the right.

    The activations have the range [0, 1], the weights a symmetric range that fits them. Lesson 00.

    Args:
        ax: Where to draw, about 9 by 2.6 inches for three numbers.
        activations: A few numbers from 0 to 1.
        weights: As many numbers, at least one of which is not 0.
    """
    sums = _sums(activations, weights)
    products = np.multiply(activations, weights)
    rows = len(products)
    clear_axes(ax, 20, rows + 2.4)
    ax.set_ylim(bottom=0.55)
    floats = [[f"{value:.2f}" for value in column] for column in (activations, weights)]
    _panel(ax, 0, "32-bit floats", [*floats, [f"{p:.4f}" for p in products]], "white", "black")
    integers = (sums.activations, sums.weights, sums.products)
    _panel(ax, 10.6, "8-bit integers", [[f"{v:,}" for v in c] for c in integers], BLUE, "white")
    ax.text(6.9, 0.9, f"sum {sums.exact:.4f}", ha="center", va="center", fontsize=10, weight="bold")
    ax.text(
        20,
        0.9,
        f"sum {sums.products.sum():,},  times the scales: {sums.back:.4f}",
        ha="right",
        va="center",
        fontsize=10,
        weight="bold",
    )


def describe_dot_product(activations: Sequence[float], weights: Sequence[float]) -> str:
    """Return a sentence on what `plot_dot_product` draws (lesson 00)."""
    sums = _sums(activations, weights)
    x, w = (", ".join(map(str, integers)) for integers in (sums.activations, sums.weights))
    return _minus(
        f"With floats, {len(weights)} products of an activation and a weight add up to "
        f"{sums.exact:.4f}. With integers the activations are "
        f"{x}, the weights {w}, "
        f"and the products add up to {sums.products.sum():,}. Multiplied once by both scales, that "
        f"is {sums.back:.4f}."
    )


def _panel(
    ax: Axes, left: float, title: str, columns: Sequence[Sequence[str]], color: str, ink: str
) -> None:
    rows = len(columns[0])
    ax.text(left + 4.1, rows + 2.1, title, ha="center", va="center", fontsize=11, weight="bold")
    places = [(left, 2.2), (left + 2.9, 2.2), (left + 5.8, 2.4)]
    heads = ("activation", "weight", "product")
    for (x, width), head, column in zip(places, heads, columns, strict=True):
        ax.text(x + width / 2, rows + 1.5, head, ha="center", va="center", fontsize=9)
        for row, text in enumerate(column):
            y = rows + 0.3 - row * _ROW
            plain = head == "product"
            draw_box(
                ax,
                (x, y),
                (width, 0.8),
                _minus(text),
                color=SKY if plain and ink == "white" else "white" if plain else color,
                ink="black" if plain else ink,
            )
    for row in range(rows):
        y = rows + 0.7 - row * _ROW
        for sign, x in (("×", left + 2.55), ("=", left + 5.45)):
            ax.text(x, y, sign, ha="center", va="center", fontsize=11)


def _sums(activations: Sequence[float], weights: Sequence[float]) -> _Sums:
    large = float(np.abs(weights).max())
    of_x = params_from_range(0, 1, 8)
    of_w = params_from_range(-large, large, 8, symmetric=True, narrow_range=True)
    x = quantize(np.asarray(activations), of_x).astype(int) - of_x.zero_point
    w = quantize(np.asarray(weights), of_w).astype(int)
    return _Sums(x, w, x * w, of_x.scale * of_w.scale, float(np.dot(activations, weights)))


def _minus(text: str) -> str:
    return text.replace("-", "−") if text.startswith("-") else text.replace(" -", " −")
