"""Many bars that are drawn in one go, for pictures that follow a slider (lesson 10)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba_array


class Bars(PolyCollection):
    """Horizontal bars from 0, one in each row, the first in row 0.

    They look like those of `Axes.barh`, and ten of them are drawn in a third of the time.

    Args:
        ax: The Axes to draw on.
        count: The number of bars.
        height: Their height in rows.
        color: Their color.
    """

    def __init__(self, ax: Axes, count: int, height: float, color: str) -> None:
        super().__init__([], linewidths=0)
        self._halves, self._color = (-height / 2, height / 2), color
        self.lengths = [0.0] * count
        ax.add_collection(self, autolim=False)

    def show(self, lengths: Sequence[float], alphas: Sequence[float] | float = 1.0) -> None:
        """Show bars of these lengths, negative ones to the left, and of this opacity.

        Raises:
            ValueError: when the number of lengths is another than that of the bars.
        """
        if len(lengths) != len(self.lengths):
            raise ValueError(f"lengths must be {len(self.lengths)}, got {len(lengths)}.")
        self.lengths = list(lengths)
        low, high = self._halves
        self.set_verts(
            [
                [(0, row + low), (end, row + low), (end, row + high), (0, row + high)]
                for row, end in enumerate(lengths)
            ]
        )
        alphas = np.broadcast_to(alphas, len(lengths))
        self.set_facecolor(to_rgba_array([self._color] * len(lengths), alphas))
