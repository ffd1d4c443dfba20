"""The observers against brute force, SciPy, NumPy and what the TFLite converter itself chose."""

import itertools
import math
from typing import Any

from quant_tutorial import calibration, metrics, models, tflite
from quant_tutorial.affine import QuantParams, fake_quantize, params_from_range
from quant_tutorial.calibration import CALIBRATORS
from quant_tutorial.histogram import BINS, Distribution, Histogram
from quant_tutorial.scheme import TensorScheme

import keras
import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

RANDOM = np.random.default_rng(7)
SAMPLES = {
    "exponential": RANDOM.exponential(2, 20_000),
    "normal": RANDOM.normal(0.5, 1, 20_000),
    "heavy tails": RANDOM.standard_t(3, 20_000),
    "relu": np.maximum(RANDOM.normal(-0.5, 1, 20_000), 0),
    "negative": -RANDOM.exponential(1, 20_000),
}
every_sample = pytest.mark.parametrize("values", SAMPLES.values(), ids=SAMPLES.keys())


def observed(name: str, values: NDArray, bits: int = 4, batches: int = 7) -> tuple[float, float]:
    seen = calibration.observer(name, bits)
    return calibration.range_of(np.array_split(values, batches), seen)


class TestMinMax:
    def test_is_what_the_converter_chose(
        self, baseline: Any, calibration: NDArray, files: dict[str, bytes]
    ) -> None:
        folded = models.fold_batch_norm(baseline)
        names = ("image", "relu1", "relu2", "relu3", "logits")
        probe = keras.Model(folded.input, {n: folded.get_layer(n).output for n in names})
        scales = {
            tensor.shape: (tensor.scales[0], tensor.zero_points[0])
            for tensor in tflite.tensors(files["int8, int8 input"])
            if tensor.dtype == np.int8 and len(tensor.scales) == 1
        }
        for values in models.predict(probe, calibration).values():
            scale, zero_point = scales[(1, *values.shape[1:])]
            params = params_from_range(*observed("min_max", values, 8), 8)
            assert params.scale == pytest.approx(scale, rel=1e-5)
            assert params.zero_point == zero_point


class TestMovingAverage:
    def test_by_hand(self) -> None:
        seen = calibration.MovingAverage(momentum=0.5)
        for batch in ([-1, 2], [-3, 4], [0, 8]):
            seen.observe(batch)
        assert seen.range() == (-1.0, 5.5)

    def test_momentum(self) -> None:
        for momentum in (-0.1, 1, math.nan):
            with pytest.raises(ValueError, match="momentum must be at least 0 and below 1"):
                calibration.MovingAverage(momentum)


class TestPercentile:
    @every_sample
    @pytest.mark.parametrize("percentile", [99, 99.9, 100])
    def test_is_numpys_to_a_bin(self, values: NDArray, percentile: float) -> None:
        seen = calibration.Percentile(percentile)
        low, high = calibration.range_of(np.array_split(values, 5), seen)
        width = seen._histogram.width

        def between_neighbours(end: float, share: float) -> bool:
            # NumPy's methods differ in how they interpolate between two neighbouring values.
            lower, upper = (np.percentile(values, share, method=m) for m in ("lower", "higher"))
            return lower - width <= end <= upper + width

        assert between_neighbours(high, percentile)
        if values.min() < 0:
            assert between_neighbours(low, 100 - percentile)
        else:
            assert low == values.min()

    def test_bounds(self) -> None:
        for percentile in (50, 100.1):
            with pytest.raises(ValueError, match="percentile must be above 50 and at most 100"):
                calibration.Percentile(percentile)


class TestMeanSquaredError:
    @every_sample
    @pytest.mark.parametrize("bits", [2, 3, 4, 8])
    def test_no_range_on_a_fine_grid_is_better(self, values: NDArray, bits: int) -> None:
        low, high = min(values.min(), 0), max(values.max(), 0)
        steps = np.linspace(0.02, 1, 40 if low < 0 < high else 300)
        lows, highs = (steps * end if end else [0.0] for end in (low, high))
        best = min(
            metrics.mse(values, fake_quantize(values, params_from_range(a, b, bits)))
            for a, b in itertools.product(lows, highs)
        )
        found = params_from_range(*observed("mse", values, bits), bits)
        assert metrics.mse(values, fake_quantize(values, found)) <= 1.02 * best, found

    @pytest.mark.parametrize("bits", [2, 4, 8])
    def test_symmetric(self, bits: int) -> None:
        values = SAMPLES["heavy tails"]
        seen = calibration.observer("mse", bits, symmetric=True)
        low, high = calibration.range_of([values], seen)
        kind = {"symmetric": True, "narrow_range": True}

        def error(end: float) -> float:
            return metrics.mse(
                values, fake_quantize(values, params_from_range(-end, end, bits, **kind))
            )

        best = min(error(end) for end in np.linspace(0.01, 1, 300) * np.abs(values).max())
        assert error(max(-low, high)) <= 1.02 * best


class TestEntropy:
    def test_divergence_is_scipys(self) -> None:
        for _ in range(20):
            p, q = RANDOM.integers(0, 50, (2, 30))
            q = np.maximum(q, p > 0)
            assert calibration.kl_divergence(p, q) == pytest.approx(scipy.stats.entropy(p, q))
        assert calibration.kl_divergence(np.array([1, 1]), np.array([1, 0])) == math.inf

    @pytest.mark.parametrize("levels", [4, 16, 100])
    def test_search_is_that_of_a_plain_reading_of_the_recipe(self, levels: int) -> None:
        counts = np.histogram(RANDOM.exponential(1, 5000), bins=200)[0]
        counts[3] = 900  # a needle
        divergences = {}
        for kept in range(levels, 201):
            reference = [int(counts[1]), *map(int, counts[1:kept])]
            reference[-1] += int(counts[kept:].sum())
            source = [int(counts[1]), *map(int, counts[1:kept])]
            quantized = [0.0] * kept
            for group in range(levels):
                bins = range(group * kept // levels, (group + 1) * kept // levels)
                filled = [b for b in bins if source[b]]
                for b in filled:
                    quantized[b] = sum(source[b] for b in bins) / len(filled)
            share = sum(quantized) / (1 - 1e-4) * 1e-4 / np.count_nonzero(reference)
            smoothed = [q + share * (p > 0) for q, p in zip(quantized, reference, strict=True)]
            divergences[kept] = scipy.stats.entropy(reference, smoothed)
        best = min(divergences, key=divergences.get)
        assert calibration.entropy_bins(counts, levels) == best

    def test_a_long_thin_tail_is_cut(self) -> None:
        values = np.concatenate([RANDOM.uniform(0, 1, 100_000), [20.0]])
        low, high = observed("entropy", values, 8)
        assert low == values.min()
        assert 0.9 < high < 5  # the fewest bins that 256 levels can stand for

    def test_signed_data_gets_a_symmetric_range(self) -> None:
        low, high = observed("entropy", SAMPLES["heavy tails"], 8)
        assert low == -high

    def test_as_many_levels_as_bins_clip_nothing(self) -> None:
        values = SAMPLES["exponential"]
        assert observed("entropy", values, 16) == (values.min(), values.max())


class TestHistogram:
    # Without the smallest numbers: divided by a width they would become 0, here and not there.
    @given(
        st.lists(
            st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20),
            min_size=1,
            max_size=8,
        )
    )
    @example([[2.8e-180], [1.0]])
    @settings(deadline=None)
    def test_every_value_is_in_its_bin(self, batches: list[list[float]]) -> None:
        histogram = Histogram(bins=64)
        for batch in batches:
            histogram.observe(batch)
        values = np.concatenate(batches)
        places = np.floor(values / histogram.width).astype(int) - histogram._first
        assert (np.bincount(places, minlength=64) == histogram._counts).all()

    @pytest.mark.parametrize("unit", [1e-36, 1e-3, 1.0, 1e5])
    def test_float32_values_are_in_their_bins(self, unit: float) -> None:
        values = (SAMPLES["normal"] * unit).astype(np.float32)
        values[:3] = -1e-45, 1e-45, 0  # nothing is lost where the width is 1 or less
        histogram = Histogram()
        histogram.observe(values)
        places = np.floor(values.astype(np.float64) / histogram.width).astype(int)
        assert (np.bincount(places - histogram._first, minlength=BINS) == histogram._counts).all()

    def test_memory_stays_the_same(self) -> None:
        histogram = Histogram()
        for exponent in range(-20, 20):
            histogram.observe(RANDOM.normal(size=100) * 2.0**exponent)
        assert histogram._counts.shape == (BINS,)
        assert histogram._counts.sum() == 4000

    def test_the_order_of_the_batches_does_not_matter(self) -> None:
        batches = [SAMPLES["normal"] * 0.01, SAMPLES["heavy tails"] * 100, SAMPLES["negative"]]
        first, second = Histogram(), Histogram()
        for a, b in zip(batches, reversed(batches), strict=True):
            first.observe(a)
            second.observe(b)
        for share in (0.001, 0.1, 0.5, 0.999):
            assert first.quantile(share) == pytest.approx(
                second.quantile(share), abs=2 * first.width
            )

    @pytest.mark.parametrize("values", [[0.0], [1e-300], [-1e-320, 1e-310], [1e300, -1e300]])
    @pytest.mark.parametrize("others", [[1.0], [-1e-180], [1.7e308], [-1e200, 3e250]])
    def test_extreme_numbers(self, values: list[float], others: list[float]) -> None:
        for first, second in ((values, others), (others, values)):
            histogram = Histogram()
            for batch in (first, second, first):
                histogram.observe(batch)
            seen = np.array([*first, *second, *first])
            places = np.floor(seen / histogram.width).astype(np.int64)
            kept = np.repeat(np.arange(BINS) + histogram._first, histogram._counts)
            # A negative number too small to divide may count as 0: bins −1 and 0 are one here.
            places[places == -1] = kept[kept == -1] = 0
            assert sorted(places) == sorted(kept)


class TestDistribution:
    @every_sample
    @pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
    @pytest.mark.parametrize("share", [0.3, 1.0, 1.7])
    def test_exact_values_give_the_exact_error(
        self, values: NDArray, bits: int, share: float
    ) -> None:
        params = params_from_range(values.min() * share, max(values.max() * share, 0.0), bits)
        rounding, clipping = Distribution.from_values(values).error(params)
        clipped = np.clip(values, params.minimum, params.maximum)
        x_hat = fake_quantize(values, params)
        assert rounding + clipping == pytest.approx(metrics.mse(values, x_hat), rel=1e-6, abs=1e-13)
        assert clipping == pytest.approx(metrics.mse(values, clipped), rel=1e-6, abs=1e-13)

    @every_sample
    @pytest.mark.parametrize("bits", [2, 8])
    def test_several_ranges_at_once(self, values: NDArray, bits: int) -> None:
        values = values[:2000]
        shares = np.linspace(0.01, 2, 100)  # some hold fewer values than there are levels
        lows, highs = shares * min(values.min(), 0.0), shares * max(values.max(), 0.0)
        params = params_from_range(lows, highs, bits, axis=0)
        found = sum(Distribution.from_values(values).errors(params))
        each = [params_from_range(*ends, bits) for ends in zip(lows, highs, strict=True)]
        exact = [metrics.mse(values, fake_quantize(values, one)) for one in each]
        np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-13)

    @every_sample
    @pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
    def test_a_histogram_comes_close(self, values: NDArray, bits: int) -> None:
        histogram = Histogram()
        histogram.observe(values)
        for share in (0.5, 1.0):
            params = params_from_range(values.min() * share, max(values.max() * share, 0.0), bits)
            error = sum(histogram.distribution().error(params))
            exact = metrics.mse(values, fake_quantize(values, params))
            assert error == pytest.approx(exact, rel=0.05)

    @pytest.mark.parametrize("bits", [2, 8, 16])
    def test_several_ranges_as_each_alone(self, bits: int) -> None:
        # So many that 16 bits take several groups; some are narrower than the bins, and some have
        # more levels than there are values.
        histogram = Histogram()
        histogram.observe(SAMPLES["heavy tails"])
        values = SAMPLES["heavy tails"][:3000]
        for distribution in (histogram.distribution(), Distribution.from_values(values)):
            ends = [(-1e-9, 1e-4), (-0.5, 0), (0, 0), (0, 3), (-2, 0.1), (-90, 40), (-1e-3, 2e-3)]
            lows, highs = np.array(ends).T
            found = distribution.errors(params_from_range(lows, highs, bits, axis=0))
            alone = [distribution.error(params_from_range(*pair, bits)) for pair in ends]
            np.testing.assert_array_equal(np.transpose(found), alone)
        for pair, error in zip(ends, sum(found), strict=True):
            off = metrics.mse(values, fake_quantize(values, params_from_range(*pair, bits)))
            assert error == pytest.approx(off, rel=1e-6, abs=1e-13)

    def test_by_hand(self) -> None:
        params = QuantParams(2, 1.0, signed=False)  # levels 0, 1, 2, 3
        distribution = Distribution.from_values([0.25, 0.25, 2.0, 5.0])
        assert distribution.error(params) == (pytest.approx(0.125 / 4), pytest.approx(1.0))


class TestEveryCalibrator:
    @pytest.mark.parametrize("name", CALIBRATORS)
    def test_bad_batches(self, name: str) -> None:
        for bad, message in (
            ([], r"batch is empty \(shape \(0,\)\)"),
            ([1, math.nan], r"batch must be finite, got nan \(1 of 2 values\)"),
            ([math.inf], "batch must be finite, got inf"),
            (["text"], "batch must hold real numbers"),
        ):
            with pytest.raises(ValueError, match=message):
                calibration.observer(name, 8).observe(bad)
        with pytest.raises(ValueError, match="Nothing was observed"):
            calibration.observer(name, 8).range()
        with pytest.raises(ValueError, match="Nothing was observed"):
            calibration.observer(name, 8, axis=0).range()

    @pytest.mark.parametrize("name", CALIBRATORS)
    @pytest.mark.parametrize("constant", [0.0, 3.0, -2.5])
    def test_a_constant(self, name: str, constant: float) -> None:
        low, high = observed(name, np.full(100, constant))
        assert (low, high) == pytest.approx((constant, constant))
        params = params_from_range(low, high, 8)
        assert fake_quantize(constant, params) == pytest.approx(constant)

    @pytest.mark.parametrize("name", CALIBRATORS)
    @every_sample
    def test_the_range_lies_within_the_data(self, name: str, values: NDArray) -> None:
        low, high = observed(name, values)
        assert min(values.min(), 0) <= low < high <= max(values.max(), 0)

    @pytest.mark.parametrize("name", CALIBRATORS)
    def test_per_channel_is_per_tensor_for_each(self, name: str) -> None:
        channels = np.stack([SAMPLES["normal"], 10 * SAMPLES["exponential"]])
        for axis, batch in ((0, channels), (-1, channels.T)):
            seen = calibration.observer(name, 4, axis=axis)
            low, high = calibration.range_of([batch], seen)
            for channel in range(2):
                alone = observed(name, channels[channel], batches=1)
                assert (low[channel], high[channel]) == alone

    @pytest.mark.parametrize("bits", [2, 4, 8, 16])
    @every_sample
    def test_statistics_agree_with_the_single_observers(self, bits: int, values: NDArray) -> None:
        statistics = calibration.Statistics()
        for batch in np.array_split(values, 7):
            statistics.observe(batch)
        for name, ends in statistics.ranges(bits).items():
            assert ends == pytest.approx(observed(name, values, bits)), name
        assert list(statistics.ranges(bits)) == list(CALIBRATORS)

    def test_unknown_names_axes_and_bits(self) -> None:
        with pytest.raises(ValueError, match=r"name must be one of min_max, .*, got 'best'"):
            calibration.observer("best", 8)
        for name in CALIBRATORS:
            with pytest.raises(ValueError, match="bits must be from 2 to 16, got 1"):
                calibration.observer(name, 1)
        with pytest.raises(ValueError, match=r"axis=2 is none of a batch of shape \(3,\)"):
            calibration.observer("min_max", 8, axis=2).observe([1, 2, 3])
        seen = calibration.observer("min_max", 8, axis=0)
        seen.observe(np.ones((3, 2)))
        with pytest.raises(ValueError, match="3 channels so far, this batch has 4"):
            seen.observe(np.ones((4, 2)))


KERNELS = {"a": RANDOM.normal(size=(3, 3, 2, 4)), "b": 10 * RANDOM.normal(size=(5, 6))}


class TestWeightParams:
    def test_granularities(self) -> None:
        for granularity, sizes in (
            ("tensor-wise", (1, 1)),
            ("layer-wise", (1, 1)),
            ("channel-wise", (4, 6)),
        ):
            params = calibration.weight_params(
                KERNELS, TensorScheme(4, True, granularity, "min_max")
            )
            assert tuple(np.size(p.scale) for p in params.values()) == sizes
            assert all(not np.any(p.zero_point) and p.narrow_range for p in params.values())
            if granularity == "tensor-wise":
                assert params["a"] == params["b"]
            top = max(np.abs(k).max() for k in KERNELS.values())
            assert np.max(params["b"].maximum) == pytest.approx(top)

    @pytest.mark.parametrize("calibrator", CALIBRATORS)
    def test_every_calibrator(self, calibrator: str) -> None:
        for symmetric in (False, True):
            scheme = TensorScheme(4, symmetric, "channel-wise", calibrator)
            for name, params in calibration.weight_params(KERNELS, scheme).items():
                kernel = KERNELS[name]
                assert np.min(metrics.channel_sqnr_db(kernel, fake_quantize(kernel, params))) > 0

    def test_float(self) -> None:
        with pytest.raises(ValueError, match=r"scheme\.bits is None"):
            calibration.weight_params(KERNELS, TensorScheme(None))


class TestWeightsByError:
    """`weight_params` with the calibrator "mse" searches all channels at once."""

    @pytest.mark.parametrize("bits", [2, 3, 4, 8])
    def test_as_good_as_the_observer(self, bits: int) -> None:
        rng = np.random.default_rng(bits)
        kernel = rng.normal(size=(3, 3, 4, 6)) * rng.uniform(0.1, 5, 6)
        kernel[0, 0, 0] *= 4  # outliers
        scheme = TensorScheme(bits, True, "channel-wise", "mse")
        chosen = calibration.weight_params({"k": kernel}, scheme)["k"]
        observed = calibration.range_of(
            [kernel], calibration.observer("mse", bits, symmetric=True, axis=-1)
        )
        other = params_from_range(*observed, bits, symmetric=True, narrow_range=True, axis=-1)
        plain = calibration.weight_params({"k": kernel}, TensorScheme(bits, True, "channel-wise"))
        for channel in range(6):
            values = kernel[..., channel]
            errors = []
            for params in (chosen, other, plain["k"]):
                one = QuantParams(bits, params.scale[channel], narrow_range=True)
                errors.append(metrics.mse(values, fake_quantize(values, one)))
            assert errors[0] <= 1.02 * errors[1]
            assert errors[0] <= 1.0001 * errors[2]

    def test_shared_scales(self) -> None:
        kernels = {"a": np.array([[1.0, 2.0]]), "b": np.array([[0.5, -3.0]])}
        for granularity in ("tensor-wise", "layer-wise"):
            scheme = TensorScheme(8, True, granularity, "mse")
            params = calibration.weight_params(kernels, scheme)
            assert (params["a"] == params["b"]) == (granularity == "tensor-wise")
            assert params["b"].maximum == pytest.approx(3, rel=0.05)

    def test_a_channel_of_zeros(self) -> None:
        limits = calibration.mse_limits(np.array([[0.0, 0.0], [1.0, -2.0]]), 4)
        assert limits[0] == 0
        assert limits[1] == pytest.approx(2, rel=0.1)
