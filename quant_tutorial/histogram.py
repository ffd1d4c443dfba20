"""Count values in a histogram and compute the quantization error of any range (lesson 03).

A `Histogram` sees one batch after another and keeps a fixed number of counts. A `Distribution`
holds the result, with sums from which the rounding and the clipping error of any range can be
computed fast enough for a slider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from quant_tutorial.affine import QuantParams, round_half_away

import numpy as np
from numpy.typing import ArrayLike, NDArray

Range = tuple[float, float]

BINS = 8192  # enough for a level to be at least 16 bins wide at 8 bits
MAGNITUDE_BINS = 2048  # as in TensorRT
# What is computed at a time, so that the arrays fit in the cache.
_VALUES = 131_072  # values to count
_TOGETHER = 8192  # levels to which values are rounded


class Histogram:
    """A histogram with bins of equal width, which widen with the data (lesson 03).

    The bins' edges are multiples of the width, and the width is a power of two. When a value falls
    outside, neighbouring bins are merged in pairs. This doubles the width and loses no count, so
    the memory stays the same however many batches are observed.
    """

    def __init__(self, bins: int = BINS) -> None:
        self._bins = bins
        self._counts = np.zeros(bins, np.int64)
        self._first = 0  # the first bin begins at _first · width
        self._extremes = math.inf, -math.inf
        self._exponent: int | None = None  # the width is 2^_exponent

    @property
    def width(self) -> float:
        """The width of a bin, in the unit of the data."""
        require_observed(self._exponent is not None)
        return math.ldexp(1.0, self._exponent)

    @property
    def has_negative(self) -> bool:
        """Whether a value below 0 was seen."""
        return self.extremes[0] < 0

    @property
    def extremes(self) -> Range:
        """The exact smallest and largest values seen."""
        require_observed(self._extremes[0] <= self._extremes[1])
        return self._extremes

    def observe(self, batch: ArrayLike) -> None:
        """Count the values of a batch of any shape."""
        values = checked_batch(batch).ravel()
        low, high = float(values.min()), float(values.max())
        self._extremes = min(self._extremes[0], low), max(self._extremes[1], high)
        if self._exponent is None:
            self._exponent = self._exponent_for(low, high)
        self._make_room(low, high)
        # Dividing float32 values by a power of two up to 1 is exact; float64 has room for the rest.
        narrow = values.dtype == np.float32 and 2.0**-100 <= self.width <= 1
        kind = np.float32 if narrow else np.float64
        for start in range(0, len(values), _VALUES):
            places = np.divide(values[start : start + _VALUES], self.width, dtype=kind)
            index = np.floor(places, out=places).astype(np.int64)
            index -= self._first
            self._counts += np.bincount(index, minlength=self._bins)

    def distribution(self) -> Distribution:
        """Return the values as a distribution: the middles of the bins with their counts."""
        used = np.flatnonzero(self._counts)
        middles = (used + self._first + 0.5) * self.width
        # A value of exactly 0 is frequent (ReLU) and must not be moved to the middle of its bin.
        # The few other values in that bin are treated as 0, too.
        middles[used + self._first == 0] = 0.0
        middles = np.clip(middles, *self.extremes)
        return Distribution.from_counts(middles, self._counts[used], self.width)

    def quantile(self, share: float) -> float:
        """Return the value below which a share (0 to 1) of the counts lies, to a bin's width."""
        total = np.cumsum(self._counts)
        require_observed(total[-1])
        index = int(np.searchsorted(total, share * total[-1]))
        before = total[index] - self._counts[index]
        inside = (share * total[-1] - before) / max(self._counts[index], 1)
        return (self._first + index + inside) * self.width

    def magnitudes(self) -> tuple[NDArray[np.int64], float]:
        """Return the counts of magnitudes |x| in at most 2048 bins from 0 on, and the bin width.

        Neighbouring bins are merged where there would be more.
        """
        index = np.arange(self._bins) + self._first
        # Bin k covers the values from k to k + 1 widths, so bin −1 is the mirror image of bin 0.
        mirrored = np.where(index < 0, -index - 1, index)
        merge = 1
        while mirrored[self._counts > 0].max() // merge >= MAGNITUDE_BINS:
            merge *= 2
        counts = np.bincount(mirrored // merge, self._counts).astype(np.int64)
        return counts[: np.flatnonzero(counts)[-1] + 1], merge * self.width

    def _exponent_for(self, low: float, high: float) -> int:
        """Return the least exponent for low, high and 0 to fit, limited so that no width is 0."""
        span = max(high, 0.0) / (self._bins - 2) - min(low, 0.0) / (self._bins - 2)
        return max(math.frexp(span)[1], -900)

    def _make_room(self, low: float, high: float) -> None:
        used = np.flatnonzero(self._counts)
        counts, places = self._counts[used], used + self._first
        merges = max(self._exponent_for(low, high) - 1 - self._exponent, 0)
        while True:
            width = math.ldexp(1.0, self._exponent + merges)
            # Shifting right halves the index of a bin and rounds down, also below 0.
            shift = min(merges, 62)  # 64-bit integers have no more bits to shift out
            ends = [math.floor(low / width), math.floor(high / width), *(places >> shift).tolist()]
            if max(ends) - min(ends) < self._bins:
                break
            merges += 1
        self._exponent, self._first = self._exponent + merges, min(ends)
        merged = np.bincount((places >> shift) - self._first, counts, minlength=self._bins)
        self._counts = merged.astype(np.int64)


@dataclass(frozen=True)
class Distribution:
    """Sorted values with prefix sums, from which the error of any range is computed (lesson 03).

    The sums are computed once. The error of a range then takes one look-up for each level instead
    of one for each value.
    """

    values: NDArray[np.float64]  # sorted, without duplicates
    width: float  # how far a value may be off: a bin's width, or 0 for exact values
    sums: NDArray[np.float64]  # (3, values + 1): counts, x, x² up to each value

    @classmethod
    def from_values(cls, values: ArrayLike) -> Distribution:
        """Return the exact distribution of values of any shape."""
        unique, counts = np.unique(checked_batch(values), return_counts=True)
        return cls.from_counts(unique.astype(np.float64), counts, 0.0)

    @classmethod
    def from_counts(
        cls, values: NDArray[np.float64], counts: NDArray[np.integer], width: float
    ) -> Distribution:
        """Return the distribution of sorted values, given how often each occurs."""
        moments = np.stack([counts, counts * values, counts * values**2]).astype(np.float64)
        sums = np.concatenate([np.zeros((3, 1)), np.cumsum(moments, axis=1)], axis=1)
        return cls(values, width, sums)

    def error(self, params: QuantParams) -> tuple[float, float]:
        """Return the mean squared (rounding error, clipping error), in the data's unit squared.

        `params` must be per tensor. The two errors add up to the mean squared error. A value
        outside the range counts as clipped.
        """
        rounding, clipping = self.errors(params)
        return float(rounding[0]), float(clipping[0])

    def errors(self, params: QuantParams) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the errors of several ranges, as `error` does for one: two arrays (ranges,).

        `params` has the scale and the zero point of each range, as parameters per channel have them
        for each channel.
        """
        scale, zero_point = np.atleast_1d(params.scale), np.atleast_1d(params.zero_point)
        low, high = np.atleast_1d(params.minimum), np.atleast_1d(params.maximum)
        start = np.searchsorted(self.values, low, "left")
        stop = np.searchsorted(self.values, high, "right")
        total = self.sums[0, -1]
        below, above = self.sums[:, start], self.sums[:, -1:] - self.sums[:, stop]
        clipped = sum(
            squares - 2 * end * firsts + end**2 * count
            for (count, firsts, squares), end in ((below, low), (above, high))
        )
        inside = self.sums[0, stop] - self.sums[0, start] - self._count_of_zero()
        # Where the bins are too coarse to tell the levels apart, the errors are assumed to be
        # spread evenly over a step.
        rounding = inside * scale**2 / 12
        fine = scale >= 8 * self.width
        few = fine & (params.levels > stop - start)  # fewer values than levels: look at each value
        for each in np.flatnonzero(few):
            rounding[each] = self._rounding_of_each(scale[each], start[each], stop[each])
        many = np.flatnonzero(fine & ~few)
        part = max(_TOGETHER // params.levels, 1)
        for each in (many[first : first + part] for first in range(0, len(many), part)):
            steps = np.arange(params.qmin, params.qmax + 1) - zero_point[each, np.newaxis]
            levels = steps * scale[each, np.newaxis]
            rounding[each] = self._rounding_to(levels, start[each], stop[each])
        # The errors so far are those of the bins' middles: the values spread around these.
        rounding[fine] += inside[fine] * self.width**2 / 12
        return np.maximum(rounding / total, 0.0), np.maximum(clipped / total, 0.0)

    def _rounding_of_each(self, scale: float, start: int, stop: int) -> float:
        values = self.values[start:stop]
        counts = np.diff(self.sums[0, start : stop + 1])
        off = round_half_away(values / scale) * scale - values
        return float(counts @ off**2)

    def _rounding_to(
        self, levels: NDArray[np.float64], start: NDArray[np.intp], stop: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the rounding error of each row of levels, shape (ranges, levels), by the sums."""
        start, stop = start[:, np.newaxis], stop[:, np.newaxis]
        edges = np.searchsorted(self.values, (levels[:, :-1] + levels[:, 1:]) / 2)
        edges = np.clip(np.concatenate([start, edges, stop], axis=1), start, stop)
        counts, firsts, squares = np.diff(self.sums[:, edges], axis=2)
        return np.sum(squares - 2 * levels * firsts + levels**2 * counts, axis=1)

    def _count_of_zero(self) -> float:
        index = np.searchsorted(self.values, 0.0)
        if index == len(self.values) or self.values[index] != 0:
            return 0.0
        return self.sums[0, index + 1] - self.sums[0, index]


def checked_batch(batch: ArrayLike) -> NDArray[np.floating]:
    """Return a batch of values as an array.

    Raises:
        ValueError: when it is empty, or holds NaN, infinity or anything but real numbers.
    """
    array = np.asarray(batch)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"batch must hold real numbers, got {array.dtype}.")
    if array.size == 0:
        raise ValueError(f"batch is empty (shape {array.shape}): there is nothing to calibrate on.")
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)]
        raise ValueError(f"batch must be finite, got {bad[0]} ({bad.size} of {array.size} values).")
    return array


def require_observed(seen: object) -> None:
    """Raise a ValueError when nothing was observed."""
    if not seen:
        raise ValueError("Nothing was observed: call observe with at least one batch first.")
