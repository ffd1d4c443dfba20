"""Choose a range from data: observers that see batches and then give a range (lesson 03).

An observer sees one batch after another (`observe`) and then gives the range it would choose
(`range`). However many batches it has seen, it holds no more than a histogram of fixed size.

`Distribution` says how large the rounding and the clipping error of any range are, for data seen
once and fast enough for a slider.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from quant_tutorial.affine import QuantParams, checked_bits, params_from_range, round_half_away
from quant_tutorial.scheme import CALIBRATORS, TensorScheme

import numpy as np
from numpy.typing import ArrayLike, NDArray

Range = tuple[float, float]
ChannelRanges = tuple[NDArray[np.float64], NDArray[np.float64]]

BINS = 8192  # so many that at 8 bits a level is at least 16 bins wide
_ENTROPY_BINS = 2048  # as in TensorRT
_SMOOTHING = 1e-4


class Observer(Protocol):
    """What all observers have in common."""

    def observe(self, batch: ArrayLike) -> None:
        """See a batch of values of any shape (in the data's unit).

        Raises:
            ValueError: when the batch is empty or holds NaN or infinity.
        """

    def range(self) -> Range | ChannelRanges:
        """Give the chosen range (minimum, maximum): two numbers, or two arrays (channels,).

        All values equal c gives (c, c), so all zero gives (0, 0); `affine.params_from_range` widens
        a range to contain 0.

        Raises:
            ValueError: when nothing was observed.
        """


class MinMax:
    """The smallest and the largest value seen (lesson 03).

    It is what the TFLite converter does with a representative dataset. It clips nothing, and so
    takes over every outlier.
    """

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf

    def observe(self, batch: ArrayLike) -> None:
        """See a batch."""
        values = _checked(batch)
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))

    def range(self) -> Range:
        """Give the extremes."""
        _require(self._low <= self._high)
        return self._low, self._high


class MovingAverage:
    """The average of the batches' extremes, later ones weighing more (lesson 03).

    After each batch: average ← momentum · average + (1 − momentum) · extreme of the batch; the
    first batch sets the start. Source: Jacob et al., CVPR 2018, section 3.1, who follow the ranges
    so while they train, over thousands of steps; the momentum of 0.9 here suits tens of batches.

    Raises:
        ValueError: for a momentum outside [0, 1).
    """

    def __init__(self, momentum: float = 0.9) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}.")
        self._momentum = momentum
        self._range: Range | None = None

    def observe(self, batch: ArrayLike) -> None:
        """See a batch."""
        values = _checked(batch)
        new = float(values.min()), float(values.max())
        if self._range is None:
            self._range = new
        else:
            keep = self._momentum
            old = self._range
            self._range = tuple(keep * a + (1 - keep) * b for a, b in zip(old, new, strict=True))

    def range(self) -> Range:
        """Give the averages."""
        _require(self._range is not None)
        return self._range


class _HistogramObserver:
    """An observer that keeps a histogram."""

    def __init__(self) -> None:
        self._histogram = Histogram()

    def observe(self, batch: ArrayLike) -> None:
        """See a batch."""
        self._histogram.observe(batch)

    def range(self) -> Range:
        """Give the chosen range."""
        return _within(self._histogram.extremes, lambda: self._choose(self._histogram))

    def _choose(self, histogram: Histogram) -> Range:
        raise NotImplementedError


class Percentile(_HistogramObserver):
    """The range that leaves out a given share of the values at each end (lesson 03).

    With percentile 99.9 a thousandth of the values lies above the range, and a thousandth below it;
    data without negative values keeps its lower end. Exact to the width of a histogram bin. After
    Wu et al., "Integer Quantization for Deep Learning Inference" (2020), section 3.3, who take the
    percentile of the magnitudes.

    Raises:
        ValueError: for a percentile outside (50, 100].
    """

    def __init__(self, percentile: float = 99.9) -> None:
        super().__init__()
        if not 50 < percentile <= 100:
            raise ValueError(f"percentile must be above 50 and at most 100, got {percentile}.")
        self._percentile = percentile

    def _choose(self, histogram: Histogram) -> Range:
        return percentile_range(histogram, self._percentile)


class MeanSquaredError(_HistogramObserver):
    """The range with the least mean squared quantization error at a bit width (lesson 03).

    Rounding and clipping error together, searched over both ends. Source: Sung et al., "Resiliency
    of Deep Neural Networks under Quantization" (2015); Banner et al., "Post-training 4-bit
    quantization of convolution networks" (NeurIPS 2019), who solve it for known distributions.

    Args:
        bits: The bit width that the range is for, 2 to 16.
        symmetric: Search ranges [−m, m] only, for `params_from_range(…, symmetric=True)`.
    """

    def __init__(self, bits: int, *, symmetric: bool = False) -> None:
        super().__init__()
        self._bits, self._symmetric = checked_bits(bits), symmetric

    def _choose(self, histogram: Histogram) -> Range:
        return mse_range(histogram.distribution(), self._bits, symmetric=self._symmetric)


class Entropy(_HistogramObserver):
    """The range whose quantized histogram is nearest to the original in KL divergence (lesson 03).

    Works on magnitudes: for data with a sign the range is [−t, t], cut to the extremes seen, and
    half of the levels serve each side; for data without one it is [0, t] with all of them. From the
    bit width on that has as many levels as the histogram has bins, nothing is to be gained by
    clipping, and the range is the whole one. The exact zeros of a ReLU do not count, as in NVIDIA's
    pytorch-quantization, because 0 is always a level; the quantized form is smoothed, as in Apache
    MXNet, lest an empty last bin count as infinitely bad. Source: S. Migacz, "8-bit Inference with
    TensorRT" (GTC 2017).

    Args:
        bits: The bit width that the range is for, 2 to 16.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._bits = checked_bits(bits)

    def _choose(self, histogram: Histogram) -> Range:
        return entropy_range(histogram, self._bits)


class PerChannel:
    """One observer for each channel of a tensor; the range is two arrays (channels,) (lesson 04).

    Args:
        make: Makes the observer of a channel.
        axis: The axis of the batches that the channels lie on.
    """

    def __init__(self, make: Callable[[], Observer], axis: int = -1) -> None:
        self._make, self._axis = make, axis
        self._observers: list[Observer] = []

    def observe(self, batch: ArrayLike) -> None:
        """See a batch; its number of channels must stay the same.

        Raises:
            ValueError: also when there is no such axis or the number of channels changes.
        """
        batch = _checked(batch)
        if not -batch.ndim <= self._axis < batch.ndim:
            raise ValueError(f"axis={self._axis} is none of a batch of shape {batch.shape}.")
        channels = np.moveaxis(batch, self._axis, 0)
        if not self._observers:
            self._observers = [self._make() for _ in channels]
        if len(channels) != len(self._observers):
            raise ValueError(
                f"{len(self._observers)} channels so far, this batch has {len(channels)} "
                f"(shape {batch.shape}, axis {self._axis})."
            )
        for observer, values in zip(self._observers, channels, strict=True):
            observer.observe(values)

    def range(self) -> ChannelRanges:
        """Give the ranges of all channels."""
        _require(self._observers)
        low, high = np.array([observer.range() for observer in self._observers]).T
        return low, high


class Statistics:
    """What all calibrators need to know of a tensor, seen once, whatever the bit width (lesson 03).

    It is an observer for all of them together: `ranges` gives the range that each would choose.
    """

    def __init__(self) -> None:
        self._average, self._histogram = MovingAverage(), Histogram()
        self._ranges: dict[tuple[str, int], Range] = {}
        self._distribution: Distribution | None = None

    def observe(self, batch: ArrayLike) -> None:
        """See a batch.

        Raises:
            ValueError: as for every observer.
        """
        self._average.observe(batch)
        self._histogram.observe(batch)
        self._ranges, self._distribution = {}, None

    @property
    def distribution(self) -> Distribution:
        """The values seen, to a histogram bin's width."""
        if self._distribution is None:
            self._distribution = self._histogram.distribution()
        return self._distribution

    def range(self, calibrator: str, bits: int) -> Range:
        """Give the range that a calibrator would choose; a second call costs nothing.

        Args:
            calibrator: One of `CALIBRATORS`.
            bits: The bit width that the range is for, 2 to 16.

        Raises:
            ValueError: for an unknown calibrator, another bit width, or when nothing was observed.
        """
        makers: dict[str, Callable[[], Range]] = {
            "min_max": lambda: self._histogram.extremes,
            "moving_average": self._average.range,
            "percentile": lambda: percentile_range(self._histogram),
            "mse": lambda: mse_range(self.distribution, bits),
            "entropy": lambda: entropy_range(self._histogram, bits),
        }
        _check_known("calibrator", calibrator, makers)
        key = calibrator, checked_bits(bits)
        if key not in self._ranges:
            self._ranges[key] = _within(self._histogram.extremes, makers[calibrator])
        return self._ranges[key]

    def ranges(self, bits: int) -> dict[str, Range]:
        """Give the range of each of `CALIBRATORS` for a bit width, as `range` does."""
        return {name: self.range(name, bits) for name in CALIBRATORS}


def _within(extremes: Range, choose: Callable[[], Range]) -> Range:
    """Keep a choice within the extremes, which a histogram only knows to a bin's width."""
    if extremes[0] == extremes[1]:
        return extremes  # all values are equal: there is nothing to choose
    low, high = choose()
    return max(low, extremes[0]), min(high, extremes[1])


def observer(name: str, bits: int, *, symmetric: bool = False, axis: int | None = None) -> Observer:
    """Make an observer by its name, with its usual settings (lesson 03).

    Args:
        name: One of `CALIBRATORS`.
        bits: The bit width that the range is for; min/max, average and percentile do not use it.
        symmetric: Whether the range will be used symmetrically ("mse" searches accordingly).
        axis: For a range of its own for each channel: the axis of the channels.

    Raises:
        ValueError: for an unknown name or a bit width outside 2 to 16.
    """
    makers: dict[str, Callable[[], Observer]] = {
        "min_max": MinMax,
        "moving_average": MovingAverage,
        "percentile": Percentile,
        "mse": lambda: MeanSquaredError(bits, symmetric=symmetric),
        "entropy": lambda: Entropy(bits),
    }
    _check_known("name", name, makers)
    checked_bits(bits)  # also for those that do not use it
    return makers[name]() if axis is None else PerChannel(makers[name], axis)


def weight_params(
    kernels: Mapping[str, NDArray[np.floating]], scheme: TensorScheme
) -> dict[str, QuantParams]:
    """Choose the maps of a model's weights at any granularity (lesson 04).

    Args:
        kernels: The weights of each layer by name, output channels on the last axis.
        scheme: Bits, symmetry, granularity and calibrator; tensor-wise gives all layers one map,
            layer-wise one each, channel-wise one for each output channel.

    Raises:
        ValueError: when the scheme leaves the weights in float.
    """
    if scheme.bits is None:
        raise ValueError("scheme.bits is None: weights that stay in float have no map.")
    axis = -1 if scheme.granularity == "channel-wise" else None
    symmetric = scheme.symmetric

    def params(arrays: Iterable[NDArray[np.floating]]) -> QuantParams:
        if scheme.calibrator == "mse" and symmetric:
            rows = [a.reshape(-1, 1 if axis is None else a.shape[-1]).T for a in arrays]
            limit = mse_limits(np.concatenate(rows, axis=1), scheme.bits)
            ends = (-limit, limit) if axis is not None else (-limit[0], limit[0])
        else:
            seen = observer(scheme.calibrator, scheme.bits, symmetric=symmetric, axis=axis)
            ends = range_of(arrays, seen)
        return params_from_range(
            *ends, scheme.bits, symmetric=symmetric, narrow_range=symmetric, axis=axis
        )

    if scheme.granularity == "tensor-wise":
        return dict.fromkeys(kernels, params(kernels.values()))
    return {name: params([kernel]) for name, kernel in kernels.items()}


def range_of(batches: Iterable[ArrayLike], observer: Observer) -> Range | ChannelRanges:
    """Let an observer see all batches and give its range (lesson 03)."""
    for batch in batches:
        observer.observe(batch)
    return observer.range()


class Histogram:
    """Counts of values in bins of equal width that widen when the data does (lesson 03).

    The bins' edges are multiples of the width, and the width is a power of two. When a value falls
    outside, neighbouring bins are merged in pairs, which doubles the width and loses no count, so
    that the memory stays the same however many batches come.
    """

    def __init__(self, bins: int = BINS) -> None:
        self._bins = bins
        self._counts = np.zeros(bins, np.int64)
        self._first = 0  # the first bin begins at _first · width
        self._extremes = MinMax()
        self._exponent: int | None = None  # the width is 2^_exponent

    @property
    def width(self) -> float:
        """The width of a bin, in the unit of the data."""
        _require(self._exponent is not None)
        return math.ldexp(1.0, self._exponent)

    @property
    def has_negative(self) -> bool:
        """Whether a value below 0 was seen."""
        return self.extremes[0] < 0

    @property
    def extremes(self) -> Range:
        """The smallest and the largest value seen, exactly."""
        return self._extremes.range()

    def observe(self, batch: ArrayLike) -> None:
        """Count a batch of values, any shape."""
        values = _checked(batch).ravel().astype(np.float64)
        low, high = float(values.min()), float(values.max())
        self._extremes.observe([low, high])
        if self._exponent is None:
            self._exponent = self._exponent_for(low, high)
        self._make_room(low, high)
        index = np.floor(values / self.width).astype(np.int64) - self._first
        self._counts += np.bincount(index, minlength=self._bins)

    def distribution(self) -> Distribution:
        """Give the values as a distribution: the middles of the bins with their counts."""
        used = np.flatnonzero(self._counts)
        middles = (used + self._first + 0.5) * self.width
        # A value of exactly 0 is frequent (ReLU) and must not be moved to the middle of its bin;
        # the few others in that bin are taken for 0 as well.
        middles[used + self._first == 0] = 0.0
        middles = np.clip(middles, *self.extremes)
        return Distribution.from_counts(middles, self._counts[used], self.width)

    def quantile(self, share: float) -> float:
        """Give the value below which a share (0 to 1) of the counts lies, to a bin's width."""
        total = np.cumsum(self._counts)
        _require(total[-1])
        index = int(np.searchsorted(total, share * total[-1]))
        before = total[index] - self._counts[index]
        inside = (share * total[-1] - before) / max(self._counts[index], 1)
        return (self._first + index + inside) * self.width

    def magnitudes(self) -> tuple[NDArray[np.int64], float]:
        """Give the counts of magnitudes |x| from 0 on, in at most 2048 bins, and their width."""
        index = np.arange(self._bins) + self._first
        # Bin k holds [k, k + 1) widths, so that bin −1 mirrors bin 0.
        mirrored = np.where(index < 0, -index - 1, index)
        merge = 1
        while mirrored[self._counts > 0].max() // merge >= _ENTROPY_BINS:
            merge *= 2
        counts = np.bincount(mirrored // merge, self._counts).astype(np.int64)
        return counts[: np.flatnonzero(counts)[-1] + 1], merge * self.width

    def _exponent_for(self, low: float, high: float) -> int:
        """As narrow as holds low, high and 0; not so narrow that a width could vanish."""
        span = max(high, 0.0) / (self._bins - 2) - min(low, 0.0) / (self._bins - 2)
        return max(math.frexp(span)[1], -900)

    def _make_room(self, low: float, high: float) -> None:
        used = np.flatnonzero(self._counts)
        counts, places = self._counts[used], used + self._first
        merges = max(self._exponent_for(low, high) - 1 - self._exponent, 0)
        while True:
            width = math.ldexp(1.0, self._exponent + merges)
            # Shifting right halves the number of a bin and rounds down, below 0 as well.
            shift = min(merges, 62)  # 64-bit integers have no more to shift
            ends = [math.floor(low / width), math.floor(high / width), *(places >> shift).tolist()]
            if max(ends) - min(ends) < self._bins:
                break
            merges += 1
        self._exponent, self._first = self._exponent + merges, min(ends)
        merged = np.bincount((places >> shift) - self._first, counts, minlength=self._bins)
        self._counts = merged.astype(np.int64)


@dataclass(frozen=True)
class Distribution:
    """Sorted values with prefix sums: the error of any range in a moment (lesson 03).

    The sums are computed once; the error of a range then takes one look-up for each level instead
    of one for each value.
    """

    values: NDArray[np.float64]  # sorted, each once
    width: float  # how far a value may be off: a bin's width, 0 when exact
    sums: NDArray[np.float64]  # (3, values + 1): counts, x, x² up to each value

    @classmethod
    def from_values(cls, values: ArrayLike) -> Distribution:
        """Take all values as they are, any shape."""
        unique, counts = np.unique(_checked(values), return_counts=True)
        return cls.from_counts(unique.astype(np.float64), counts, 0.0)

    @classmethod
    def from_counts(
        cls, values: NDArray[np.float64], counts: NDArray[np.integer], width: float
    ) -> Distribution:
        """Take sorted values and how often each occurs."""
        moments = np.stack([counts, counts * values, counts * values**2]).astype(np.float64)
        sums = np.concatenate([np.zeros((3, 1)), np.cumsum(moments, axis=1)], axis=1)
        return cls(values, width, sums)

    def error(self, params: QuantParams) -> tuple[float, float]:
        """Give (rounding, clipping) mean squared error of a per-tensor map, in the unit squared.

        The two add up to the mean squared error. A value outside the range counts as clipped.
        """
        low, high = params.minimum, params.maximum
        start = np.searchsorted(self.values, low, "left")
        stop = np.searchsorted(self.values, high, "right")
        total = self.sums[0, -1]
        below, above = self.sums[:, start], self.sums[:, -1] - self.sums[:, stop]
        clipped = sum(
            squares - 2 * end * firsts + end**2 * count
            for (count, firsts, squares), end in ((below, low), (above, high))
        )
        inside = self.sums[0, stop] - self.sums[0, start] - self._count_of_zero()
        if params.scale < 8 * self.width:
            # The bins are too coarse to tell the levels apart: errors spread evenly over a step.
            rounding = inside * params.scale**2 / 12
        else:
            # What the middles of the bins say, and the spread of the values around them.
            rounding = self._rounding(params, start, stop) + inside * self.width**2 / 12
        return max(float(rounding / total), 0.0), max(float(clipped / total), 0.0)

    def _rounding(self, params: QuantParams, start: int, stop: int) -> float:
        if params.levels > stop - start:  # fewer values than levels: look at each value
            values = self.values[start:stop]
            counts = np.diff(self.sums[0, start : stop + 1])
            off = round_half_away(values / params.scale) * params.scale - values
            return float(counts @ off**2)
        levels = (np.arange(params.qmin, params.qmax + 1) - params.zero_point) * params.scale
        edges = np.searchsorted(self.values, (levels[:-1] + levels[1:]) / 2)
        edges = np.clip(np.concatenate([[start], edges, [stop]]), start, stop)
        counts, firsts, squares = np.diff(self.sums[:, edges], axis=1)
        return float(np.sum(squares - 2 * levels * firsts + levels**2 * counts))

    def _count_of_zero(self) -> float:
        index = np.searchsorted(self.values, 0.0)
        if index == len(self.values) or self.values[index] != 0:
            return 0.0
        return self.sums[0, index + 1] - self.sums[0, index]


def mse_range(distribution: Distribution, bits: int, *, symmetric: bool = False) -> Range:
    """Search the range of least mean squared error (lesson 03).

    Golden ratios would stop in a local minimum: the error has many. So each end is tried at 100
    places, the ends in turn, then closer around the best.

    Args:
        distribution: The data; its unit is that of the range.
        bits: The bit width, 2 to 16.
        symmetric: Try ranges [−m, m] with the narrow range only.
    """
    low = min(float(distribution.values[0]), 0.0)
    high = max(float(distribution.values[-1]), 0.0)
    if symmetric:
        low, high = 0.0, max(-low, high)

    def error(ends: Range) -> float:
        if symmetric:
            params = params_from_range(-ends[1], ends[1], bits, symmetric=True, narrow_range=True)
        else:
            params = params_from_range(*ends, bits)
        return sum(distribution.error(params))

    best, step = (low, high), 1.0
    for _ in range(4):
        for side, end in enumerate((low, high)):
            if end == 0:
                continue
            around = best[side] / end
            shares = np.linspace(max(around - step, 0.01), min(around + step, 1.0), 100)
            tries = [(s * end, best[1]) if side == 0 else (best[0], s * end) for s in shares]
            best = min([best, *tries], key=error)
        step /= 5
    return (-best[1], best[1]) if symmetric else best


def mse_limits(rows: NDArray[np.floating], bits: int) -> NDArray[np.float64]:
    """Search for each row the range [−m, m] of least mean squared error (lesson 04).

    As `mse_range` does for the narrow range, but on the values themselves and for all rows at once:
    for weights, which are few and have many channels.

    Args:
        rows: The values, shape (rows, values).
        bits: The bit width, 2 to 16.

    Returns:
        The limits m, shape (rows,).
    """
    top = 2 ** (checked_bits(bits) - 1) - 1
    values = np.asarray(rows, np.float32)
    largest = np.abs(values).max(axis=1)
    best, step = np.ones(len(values)), 1.0
    for _ in range(3):
        shares = np.clip(best + step * np.linspace(-1, 1, 80)[:, np.newaxis], 0.01, 1.0)
        errors = []
        for share in shares:
            scale = np.where(largest > 0, share * largest / top, 1.0).astype(np.float32)
            steps = np.clip(np.rint(values / scale[:, np.newaxis]), -top, top)
            errors.append(np.square(steps * scale[:, np.newaxis] - values).mean(axis=1))
        best = np.take_along_axis(shares, np.argmin(errors, axis=0)[np.newaxis], axis=0)[0]
        step /= 20
    return best * largest


def percentile_range(histogram: Histogram, percentile: float = 99.9) -> Range:
    """Cut the given share off the upper end, and off the lower end of data with negative values.

    For `percentile` from 50 to 100; exact to a bin's width. Lesson 03.
    """
    high = histogram.quantile(percentile / 100)
    return (histogram.quantile(1 - percentile / 100) if histogram.has_negative else 0.0), high


def entropy_range(histogram: Histogram, bits: int) -> Range:
    """Search the range of least KL divergence, as `Entropy` describes it (lesson 03)."""
    counts, width = histogram.magnitudes()
    limit = entropy_bins(counts, 2 ** (bits - histogram.has_negative)) * width
    return (-limit if histogram.has_negative else 0.0), limit


def entropy_bins(counts: NDArray[np.integer], levels: int) -> int:
    """Say how many of a histogram's bins to keep so that the KL divergence is least (lesson 03).

    For each number of bins from `levels` on: the kept bins, with all that lies beyond added to the
    last one, are the reference; the kept bins merged into `levels` groups, each spread evenly over
    its bins that are not empty, are the quantized form. Source: Migacz, GTC 2017.

    Args:
        counts: How many magnitudes fall into each bin, from 0 on; the first is taken to be as
            frequent as the second, because exact zeros cost nothing.
        levels: How many levels there are for the magnitudes.
    """
    counts = counts.astype(np.float64)
    if len(counts) <= levels:
        return len(counts)
    counts[0] = counts[1]
    total, filled = np.cumsum(counts), np.cumsum(counts > 0)
    best, kept = math.inf, len(counts)
    for bins in range(levels, len(counts) + 1):
        if not total[bins - 1]:
            continue
        reference = counts[:bins].copy()
        reference[-1] += total[-1] - total[bins - 1]
        # Group edges as integers: group g holds the bins from g·bins/levels on.
        edges = np.arange(levels + 1) * bins // levels
        sums = np.diff(np.concatenate([[0.0], total])[edges])
        sizes = np.diff(np.concatenate([[0], filled])[edges])
        spread = np.repeat(sums / np.maximum(sizes, 1), np.diff(edges))
        quantized = np.where(counts[:bins] > 0, spread, 0.0)
        filled_reference = (reference > 0) / np.count_nonzero(reference)
        smooth = (1 - _SMOOTHING) * quantized / total[bins - 1] + _SMOOTHING * filled_reference
        divergence = kl_divergence(reference, smooth)
        if divergence < best:
            best, kept = divergence, bins
    return kept


def kl_divergence(p: NDArray[np.floating], q: NDArray[np.floating]) -> float:
    """Give the Kullback-Leibler divergence Σ p·ln(p/q) of two histograms, in nats (lesson 03).

    Both are scaled to sum 1 first. Infinite where q is 0 and p is not.
    """
    p, q = p / p.sum(), q / q.sum()
    where = p > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(p[where] * np.log(p[where] / q[where])))


def _checked(batch: ArrayLike) -> NDArray[np.floating]:
    array = np.asarray(batch)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"batch must hold real numbers, got {array.dtype}.")
    if array.size == 0:
        raise ValueError(f"batch is empty (shape {array.shape}): there is nothing to calibrate on.")
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)]
        raise ValueError(f"batch must be finite, got {bad[0]} ({bad.size} of {array.size} values).")
    return array


def _check_known(argument: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"{argument} must be one of {', '.join(known)}, got {value!r}.")


def _require(seen: object) -> None:
    if not seen:
        raise ValueError("Nothing was observed: call observe with at least one batch first.")
