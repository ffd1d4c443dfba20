"""Choose quantization ranges from data with observers (lesson 03).

An observer sees one batch after another (`observe`) and then returns the range it would choose
(`range`). However many batches it has seen, it stores no more than a histogram of fixed size.

`Distribution` computes the rounding and the clipping error of any range. It has to see the data
only once, and it is fast enough for a slider.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from quant_tutorial.affine import QuantParams, checked_bits, params_from_range
from quant_tutorial.arguments import checked_choice
from quant_tutorial.histogram import (
    Distribution,
    Histogram,
    Range,
    checked_batch,
    require_observed,
)
from quant_tutorial.scheme import CALIBRATORS, TensorScheme

import numpy as np
from numpy.typing import ArrayLike, NDArray

ChannelRanges = tuple[NDArray[np.float64], NDArray[np.float64]]

_SMOOTHING = 1e-4
_AT_ONCE = 2**15  # values: few enough for a core's cache
_TOGETHER = 32768  # groups of bins at a time


class Observer(Protocol):
    """The interface of all observers (lesson 03)."""

    def observe(self, batch: ArrayLike) -> None:
        """Observe a batch of values of any shape, in the data's unit.

        Raises:
            ValueError: when the batch is empty or holds NaN or infinity.
        """

    def range(self) -> Range | ChannelRanges:
        """Return the chosen range (minimum, maximum): two numbers, or two arrays (channels,).

        If all values equal c, the range is (c, c), and so (0, 0) if all are 0.
        `affine.params_from_range` widens a range to contain 0.

        Raises:
            ValueError: when nothing was observed.
        """


class MinMax:
    """An observer that chooses the smallest and the largest value seen (lesson 03).

    The TFLite converter does the same with a representative dataset. Nothing is clipped, so a
    single outlier can widen the range.
    """

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf

    def observe(self, batch: ArrayLike) -> None:
        """Observe a batch of values of any shape."""
        values = checked_batch(batch)
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))

    def range(self) -> Range:
        """Return the smallest and the largest value seen."""
        require_observed(self._low <= self._high)
        return self._low, self._high


class MovingAverage:
    """An observer that averages the batches' extremes, later ones weighing more (lesson 03).

    After each batch: average ← momentum · average + (1 − momentum) · extreme of the batch. The
    first batch sets the initial value. Source: Jacob et al., CVPR 2018, section 3.1, who track the
    ranges in this way during training, over thousands of steps. The momentum of 0.9 used here suits
    tens of batches.

    Raises:
        ValueError: for a momentum outside [0, 1).
    """

    def __init__(self, momentum: float = 0.9) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}.")
        self._momentum = momentum
        self._range: Range | None = None

    def observe(self, batch: ArrayLike) -> None:
        """Observe a batch of values of any shape."""
        values = checked_batch(batch)
        new = float(values.min()), float(values.max())
        if self._range is None:
            self._range = new
        else:
            keep = self._momentum
            old = self._range
            self._range = tuple(keep * a + (1 - keep) * b for a, b in zip(old, new, strict=True))

    def range(self) -> Range:
        """Return the averages of the batches' minimums and maximums."""
        require_observed(self._range is not None)
        return self._range


class _HistogramObserver:
    """The base class of the observers that keep a histogram."""

    def __init__(self) -> None:
        self._histogram = Histogram()

    def observe(self, batch: ArrayLike) -> None:
        """Observe a batch of values of any shape."""
        self._histogram.observe(batch)

    def range(self) -> Range:
        """Return the chosen range."""
        return _within(self._histogram.extremes, lambda: self._choose(self._histogram))

    def _choose(self, histogram: Histogram) -> Range:
        raise NotImplementedError


class Percentile(_HistogramObserver):
    """An observer that leaves out a given share of the values at each end (lesson 03).

    With percentile 99.9, a thousandth of the values lies above the range and a thousandth below it.
    Data without negative values is not cut at its lower end. The range is exact to within the width
    of a histogram bin. The method follows Wu et al., "Integer Quantization for Deep Learning
    Inference" (2020), section 3.3, who take the percentile of the magnitudes.

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
    """An observer that minimizes the mean squared quantization error at a bit width (lesson 03).

    The error includes rounding and clipping, and the search covers both ends of the range. Sources:
    Sung et al., "Resiliency of Deep Neural Networks under Quantization" (2015); Banner et al.,
    "Post-training 4-bit quantization of convolution networks" (NeurIPS 2019), who solve the problem
    for known distributions.

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
    """An observer that minimizes the KL divergence of the quantized histogram (lesson 03).

    It works on magnitudes. For data with negative values the range is [−t, t], cut to the extremes
    seen, and half of the levels serve each side. For other data it is [0, t] with all the levels.
    From the bit width on at which there are as many levels as histogram bins, clipping gains
    nothing, and the range covers all the data.

    The exact zeros of a ReLU do not count, because 0 is always a level; NVIDIA's
    pytorch-quantization does the same. The quantized histogram is smoothed, as in Apache MXNet, so
    that an empty last bin does not make the divergence infinite. Source: S. Migacz, "8-bit
    Inference with TensorRT" (GTC 2017).

    Args:
        bits: The bit width that the range is for, 2 to 16.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._bits = checked_bits(bits)

    def _choose(self, histogram: Histogram) -> Range:
        return entropy_range(histogram, self._bits)


class PerChannel:
    """An observer that keeps one observer for each channel of a tensor (lesson 04).

    Its range is two arrays of shape (channels,).

    Args:
        make: A function that returns the observer for one channel.
        axis: The axis of the batches along which the channels lie.
    """

    def __init__(self, make: Callable[[], Observer], axis: int = -1) -> None:
        self._make, self._axis = make, axis
        self._observers: list[Observer] = []

    def observe(self, batch: ArrayLike) -> None:
        """Observe a batch, with the same number of channels as the batches before.

        Raises:
            ValueError: as for every observer, and when the batch has no such axis or another number
                of channels.
        """
        batch = checked_batch(batch)
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
        """Return the ranges of all channels."""
        require_observed(self._observers)
        low, high = np.array([observer.range() for observer in self._observers]).T
        return low, high


class Statistics:
    """An observer for all calibrators together, at any bit width (lesson 03).

    It has to see the tensor only once; `ranges` then returns the range that each calibrator would
    choose.
    """

    def __init__(self) -> None:
        self._average, self._histogram = MovingAverage(), Histogram()
        self._ranges: dict[tuple[str, int], Range] = {}
        self._distribution: Distribution | None = None

    def observe(self, batch: ArrayLike) -> None:
        """Observe a batch of values of any shape.

        Raises:
            ValueError: as for every observer.
        """
        self._average.observe(batch)
        self._histogram.observe(batch)
        self._ranges, self._distribution = {}, None

    @property
    def distribution(self) -> Distribution:
        """The distribution of the values seen, exact to within the width of a histogram bin."""
        if self._distribution is None:
            self._distribution = self._histogram.distribution()
        return self._distribution

    def range(self, calibrator: str, bits: int) -> Range:
        """Return the range that a calibrator would choose; a second call uses the stored result.

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
        checked_choice("calibrator", calibrator, makers)
        key = calibrator, checked_bits(bits)
        if key not in self._ranges:
            self._ranges[key] = _within(self._histogram.extremes, makers[calibrator])
        return self._ranges[key]

    def ranges(self, bits: int) -> dict[str, Range]:
        """Return the range of each of `CALIBRATORS` for a bit width, as `range` does."""
        return {name: self.range(name, bits) for name in CALIBRATORS}


def _within(extremes: Range, choose: Callable[[], Range]) -> Range:
    """Return the chosen range, limited to the exact extremes, beyond which a bin may reach."""
    if extremes[0] == extremes[1]:
        return extremes  # all values are equal: there is nothing to choose
    low, high = choose()
    return max(low, extremes[0]), min(high, extremes[1])


def observer(name: str, bits: int, *, symmetric: bool = False, axis: int | None = None) -> Observer:
    """Make an observer by its name, with its default settings (lesson 03).

    Args:
        name: One of `CALIBRATORS`.
        bits: The bit width that the range is for; only "mse" and "entropy" use it.
        symmetric: Whether the range will be used symmetrically ("mse" searches accordingly).
        axis: The axis of the channels, if each channel is to have its own range.

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
    checked_choice("name", name, makers)
    checked_bits(bits)  # also for the observers that do not use it
    return makers[name]() if axis is None else PerChannel(makers[name], axis)


def weight_params(
    kernels: Mapping[str, NDArray[np.floating]], scheme: TensorScheme
) -> dict[str, QuantParams]:
    """Choose the quantization parameters of a model's weights at any granularity (lesson 04).

    Args:
        kernels: The weights of each layer by name, with the output channels on the last axis.
        scheme: Bits, symmetry, granularity and calibrator. Tensor-wise, all layers share one scale
            and zero point; layer-wise, each layer has its own; channel-wise, each output channel.

    Raises:
        ValueError: when the scheme leaves the weights in float.
    """
    if scheme.bits is None:
        raise ValueError("scheme.bits is None: weights that stay in float have no parameters.")
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
    """Return the range that an observer chooses after it has seen all batches (lesson 03)."""
    for batch in batches:
        observer.observe(batch)
    return observer.range()


def mse_range(distribution: Distribution, bits: int, *, symmetric: bool = False) -> Range:
    """Search for the range with the least mean squared error (lesson 03).

    The error has many local minima, in which a golden-section search would get stuck. Therefore
    each end in turn is tried at 100 places, and then again at 100 places closer to the best one.

    Args:
        distribution: The data. The range is in its unit.
        bits: The bit width, 2 to 16.
        symmetric: Try only ranges [−m, m], with the narrow integer range.
    """
    low = min(float(distribution.values[0]), 0.0)
    high = max(float(distribution.values[-1]), 0.0)
    if symmetric:
        low, high = 0.0, max(-low, high)

    def least(ends: list[Range]) -> Range:
        lows, highs = np.array(ends).T
        if symmetric:
            lows = -highs
        params = params_from_range(
            lows, highs, bits, symmetric=symmetric, narrow_range=symmetric, axis=0
        )
        errors = sum(distribution.errors(params))
        return ends[int(np.argmin(errors))]

    best, step = (low, high), 1.0
    for _ in range(4):
        for side, end in enumerate((low, high)):
            if end == 0:
                continue
            around = best[side] / end
            shares = np.linspace(max(around - step, 0.01), min(around + step, 1.0), 100)
            tries = [(s * end, best[1]) if side == 0 else (best[0], s * end) for s in shares]
            best = least([best, *tries])
        step /= 5
    return (-best[1], best[1]) if symmetric else best


def mse_limits(rows: NDArray[np.floating], bits: int) -> NDArray[np.float64]:
    """Search for the range [−m, m] with the least mean squared error in each row (lesson 04).

    This is the symmetric search of `mse_range`, but on the values themselves and for all rows at
    once. It is meant for weights, which have few values and many channels.

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
    count = max(_AT_ONCE // values.size, 1)  # of the shares
    for _ in range(3):
        shares = np.clip(best + step * np.linspace(-1, 1, 80)[:, np.newaxis], 0.01, 1.0)
        scales = np.where(largest > 0, shares * largest / top, 1.0).astype(np.float32)
        errors: list[NDArray[np.float32]] = []
        for first in range(0, len(scales), count):
            scale = scales[first : first + count, :, np.newaxis]
            steps = np.clip(np.rint(values / scale), -top, top)
            errors.extend(np.square(steps * scale - values).mean(axis=-1))
        best = np.take_along_axis(shares, np.argmin(errors, axis=0)[np.newaxis], axis=0)[0]
        step /= 20
    return best * largest


def percentile_range(histogram: Histogram, percentile: float = 99.9) -> Range:
    """Return the range that leaves out a given share of the values at each end (lesson 03).

    With percentile 99.9 a thousandth of the values is left out at each end. For data without
    negative values the lower end is 0. `percentile` lies between 50 and 100, and the range is exact
    to within a bin's width.
    """
    high = histogram.quantile(percentile / 100)
    return (histogram.quantile(1 - percentile / 100) if histogram.has_negative else 0.0), high


def entropy_range(histogram: Histogram, bits: int) -> Range:
    """Search for the range with the least KL divergence, as `Entropy` describes it (lesson 03)."""
    counts, width = histogram.magnitudes()
    limit = entropy_bins(counts, 2 ** (bits - histogram.has_negative)) * width
    return (-limit if histogram.has_negative else 0.0), limit


def entropy_bins(counts: NDArray[np.integer], levels: int) -> int:
    """Return how many of a histogram's bins to keep for the least KL divergence (lesson 03).

    Every number of bins from `levels` upwards is tried. The reference is the kept bins, with all
    counts beyond them added to the last one. The quantized form is the kept bins merged into
    `levels` groups, where the count of each group is spread evenly over its non-empty bins. Source:
    Migacz, GTC 2017.

    Args:
        counts: How many magnitudes fall into each bin, from 0 on. The first bin is treated as if it
            were as full as the second, because exact zeros cause no error.
        levels: How many levels there are for the magnitudes.
    """
    counts = counts.astype(np.float64)
    if len(counts) <= levels:
        return len(counts)
    counts[0] = counts[1]
    # Up to each bin: the counts, the bins that are not empty, and Σ n·ln n.
    total, filled, logs = (
        np.concatenate([[0.0], np.cumsum(each)]) for each in (counts, counts > 0, _n_log_n(counts))
    )
    kept = np.arange(levels, len(counts) + 1)
    kept = kept[total[kept] > 0]
    # Not all at once: the arrays, a number for each group of bins, then fit in the cache.
    part = max(_TOGETHER // levels, 1)
    divergences = [
        _divergences(kept[first : first + part], levels, counts, total, filled, logs)
        for first in range(0, len(kept), part)
    ]
    return int(kept[np.argmin(np.concatenate(divergences))])


def _divergences(
    kept: NDArray[np.intp],
    levels: int,
    counts: NDArray[np.float64],
    total: NDArray[np.float64],
    filled: NDArray[np.float64],
    logs: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the divergence of each number of kept bins, but for a factor and a constant.

    The sums up to each bin are those of `entropy_bins`.
    """
    last, outside = counts[kept - 1], total[-1] - total[kept]
    # An empty last bin takes the counts beyond it, but stays empty in the quantized form.
    alone = (last == 0) & (outside > 0)
    smoothing = _SMOOTHING / (filled[kept] + alone)
    # Group g holds the bins from g·kept/levels on; in all its bins that are not empty, the
    # quantized form is the same, so that a divergence takes one term for each group.
    edges = np.arange(levels + 1) * kept[:, np.newaxis] // levels
    sums, sizes = np.diff(total[edges]), np.diff(filled[edges])
    spread = sums / np.maximum(sizes, 1) / total[kept][:, np.newaxis]
    quantized = (1 - _SMOOTHING) * spread + smoothing[:, np.newaxis]
    sums[:, -1] += np.where(alone, 0, outside)
    crossed = np.sum(sums * np.log(quantized), axis=1) + alone * outside * np.log(smoothing)
    reference = logs[kept] - _n_log_n(last) + _n_log_n(last + outside)
    return reference - crossed


def _n_log_n(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts * np.log(np.maximum(counts, 1))


def kl_divergence(p: NDArray[np.floating], q: NDArray[np.floating]) -> float:
    """Return the Kullback-Leibler divergence Σ p·ln(p/q) of two histograms, in nats (lesson 03).

    Both histograms are first scaled to the sum 1. The result is infinite if q is 0 in a bin where p
    is not.
    """
    p, q = p / p.sum(), q / q.sum()
    where = p > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(p[where] * np.log(p[where] / q[where])))
