"""One layer rounded: against litert-quantizer's GPTQ, against the true optimum, never worse."""

from dataclasses import replace
from functools import partial

from quant_tutorial import models, rounding
from quant_tutorial.affine import QuantParams, dequantize, params_from_range, quantize
from quant_tutorial.rounding import matrices, outputs
from quant_tutorial.rounding.outputs import Candidate, Layer
from quant_tutorial.simulate import Simulator

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litert_quantizer import qtyping
from litert_quantizer.algorithms.uniform_quantize import gptq as litert_gptq

pytestmark = pytest.mark.slow

LAYERS = ("conv1", "conv2", "conv3", "logits")


def symmetric(weights: np.ndarray, bits: int, *, narrow: bool = True) -> QuantParams:
    scale = np.abs(weights).max(axis=0) / (2 ** (bits - 1) - 1)
    return QuantParams(bits, scale, narrow_range=narrow, axis=-1)


def problem(
    seed: int, rows: int, inputs: int, columns: int, rank: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs, correlated if the rank is small, and random weights."""
    random = np.random.default_rng(seed)
    rank = inputs if rank is None else rank
    mixed = random.normal(size=(rows, rank)) @ random.normal(size=(rank, inputs))
    x = mixed + 0.3 * random.normal(size=(rows, inputs))
    return x.astype(np.float32), random.normal(size=(inputs, columns)).astype(np.float32)


def as_layer(x: np.ndarray, weights: np.ndarray, params: QuantParams, activation: str) -> Layer:
    columns = weights.shape[1]
    zero_point = np.broadcast_to(params.zero_point, columns).reshape(1, 1, -1).astype(np.float32)
    return Layer(
        inputs=x[np.newaxis],
        targets=outputs.activated(x @ weights, activation)[np.newaxis],
        weights=weights[np.newaxis],
        bias=np.zeros((1, 1, columns), np.float32),
        zero_point=zero_point,
        qmin=params.qmin,
        qmax=params.qmax,
        activation=activation,
    )


def as_candidate(integers: np.ndarray, params: QuantParams) -> Candidate:
    columns = integers.shape[1]
    scale = np.broadcast_to(params.scale, columns).reshape(1, 1, -1).astype(np.float32)
    bias = np.zeros((1, 1, columns), np.float32)
    return Candidate(integers[np.newaxis].astype(np.float32), scale, bias)


def total_error(layer: Layer, candidate: Candidate) -> np.ndarray:
    return layer.error(layer.sums(candidate))


class TestMatrices:
    @pytest.mark.parametrize(
        "layer",
        [
            keras.layers.Conv2D(6, (3, 2), padding="same", strides=2),
            keras.layers.Conv2D(6, 3, padding="valid", dilation_rate=2),
            keras.layers.Conv2D(6, 3, padding="same", dilation_rate=(2, 1)),
            keras.layers.Conv2D(8, 3, groups=2, strides=(1, 2)),
            keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
            keras.layers.DepthwiseConv2D((2, 3), strides=2, padding="valid"),
            keras.layers.DepthwiseConv2D(3, padding="same", dilation_rate=2),
            keras.layers.Dense(5),
        ],
        ids=lambda layer: layer.name,
    )
    def test_a_layer_is_a_product_of_matrices(self, layer: keras.Layer) -> None:
        random = np.random.default_rng(1)
        image = keras.Input((11, 9, 4))
        model = keras.Model(image, layer(image))
        layer.bias.assign(random.normal(size=layer.bias.shape))
        x = random.normal(size=(3, 11, 9, 4)).astype(np.float32)
        weights = models.weights(model)[layer.name]
        found = matrices.weight_matrices(layer, weights)
        assert found.shape == matrices.shape_of(layer)
        assert np.array_equal(matrices.weights_from(layer, found), weights)
        rows = matrices.patches(layer, x)
        assert rows.shape[1] == matrices.row_count(layer, 3)
        sums = (rows @ found).transpose(1, 0, 2).reshape(model(x).shape) + layer.bias
        np.testing.assert_allclose(sums, model(x), atol=2e-5)
        # A part of the rows is the same of both inputs.
        some, twice = matrices.rows_of(layer, (x, 2 * x), 7, seed=0)
        assert some.shape == (rows.shape[0], min(7, rows.shape[1]), rows.shape[2])
        assert np.array_equal(twice, 2 * some)
        moments = matrices.moments(layer, x, 2 * x)
        np.testing.assert_allclose(moments.hessian[0], rounding.hessian(rows[0]), rtol=1e-9)
        centred = rows[0].astype(np.float64) - rows[0].mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(moments.centred[0], 2 * centred.T @ centred, atol=1e-6)
        np.testing.assert_allclose(moments.float_mean, 2 * moments.mean, rtol=1e-6)


def litert(weights: np.ndarray, hessian: np.ndarray, params: QuantParams) -> np.ndarray:
    """The integers of litert-quantizer's GPTQ."""
    scale = np.asarray(params.scale)[:, np.newaxis]
    theirs = qtyping.UniformQuantParams(
        num_bits=params.bits,
        quantized_dimension=0,
        scale=scale,
        zero_point=np.zeros(scale.shape, np.int64),
        symmetric=True,
    )
    config = qtyping.TensorQuantizationConfig(
        num_bits=params.bits, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
    )
    rows = weights.T.astype(np.float64).copy()
    return litert_gptq._apply_gptq(
        rows, theirs, {"hessian": hessian.copy()}, config
    ).quantized_data.T


def with_finished_inputs(
    weights: np.ndarray, hessian: np.ndarray, params: QuantParams, damp: float = 0.01
) -> np.ndarray:
    """GPTQ, but with the inverse Hessian of all inputs, also of those already rounded."""
    active = np.where(np.diag(hessian) > 0, np.diag(hessian), 1.0)
    damped = hessian.copy()
    np.fill_diagonal(damped, active + damp * active.mean())
    inverse = np.linalg.inv(damped)
    moved, integers = weights.astype(np.float64), np.zeros(weights.shape, np.int8)
    for i, row in enumerate(inverse):
        integers[i] = quantize(moved[i], replace(params, axis=0))
        error = moved[i] - integers[i] * params.scale
        moved[i + 1 :] -= np.outer(row[i + 1 :], error / row[i])
    return integers


@pytest.fixture(scope="module")
def layers(
    simulator: Simulator, calibration: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The weights and the Hessian of each layer."""
    found, model = {}, simulator.model
    for name in LAYERS:
        layer = model.get_layer(name)
        values = calibration
        if name != "conv1":
            values = models.predict(keras.Model(model.inputs[0], layer.input), calibration)
        (weights,) = matrices.weight_matrices(layer, simulator.weights[name])
        (hessian,) = matrices.moments(layer, values, values).hessian
        found[name] = weights.astype(np.float64), hessian
    return found


class TestLitertQuantizer:
    """Its GPTQ on our layers, with the same images, scales and levels."""

    @pytest.mark.parametrize("bits", [2, 3, 4, 8])
    @pytest.mark.parametrize("name", LAYERS)
    def test_our_error_is_smaller(
        self, name: str, bits: int, layers: dict[str, tuple[np.ndarray, np.ndarray]]
    ) -> None:
        weights, hessian = layers[name]
        params = symmetric(weights, bits, narrow=bits == 8)  # theirs is narrow at 8 bits only
        theirs = litert(weights, hessian, params)
        ours = rounding.gptq_layer(weights, hessian, params)
        assert not np.array_equal(ours, theirs)

        def error(integers: np.ndarray) -> float:
            return rounding.rounding_error(weights, integers, hessian, params).sum()

        nearest = error(quantize(weights, params))
        assert error(ours) < 0.9 * error(theirs) < 0.9 * nearest
        # This is why: after an input is rounded, theirs does not take it out of the inverse.
        assert np.array_equal(theirs, with_finished_inputs(weights, hessian, params))

    def test_both_agree_on_independent_inputs(self) -> None:
        """Then the inverse is diagonal, and there is nothing to take out and to make up for."""
        _, weights = problem(0, 1, 40, 6)
        hessian = np.diag(np.linspace(1, 5, 40))
        params = symmetric(weights, 4, narrow=False)
        ours = rounding.gptq_layer(weights, hessian, params)
        assert np.array_equal(ours, litert(weights, hessian, params))
        assert np.array_equal(ours, quantize(weights, params))

    def test_both_agree_on_two_inputs(self) -> None:
        """The first of two inputs has none before it, so theirs has nothing to take out yet."""
        x, weights = problem(1, 100, 2, 50, rank=1)
        params = replace(symmetric(weights, 3, narrow=False), scale=np.full(50, 0.7))
        ours = rounding.gptq_layer(weights, rounding.hessian(x), params)
        theirs = litert(weights, rounding.hessian(x), params)
        better = rounding.rounding_error(weights, ours, rounding.hessian(x), params)
        other = rounding.rounding_error(weights, theirs, rounding.hessian(x), params)
        # Ours keeps the nearest levels of an output where they have the smaller error.
        assert np.all((ours == theirs).all(axis=0) | (better < other))
        assert np.any(ours != quantize(weights, params))


def optimum(weights: np.ndarray, hessian: np.ndarray, params: QuantParams) -> np.ndarray:
    """The least error of each output over all ways to round each weight down or up."""
    inputs, columns = weights.shape
    up = (np.arange(2**inputs)[:, np.newaxis] >> np.arange(inputs)) & 1
    low = np.floor(weights / params.scale)
    found = []
    for column in range(columns):
        levels = np.clip(low[:, column] + up, params.qmin, params.qmax)
        change = levels * params.scale[column] - weights[:, column]
        found.append((0.5 * np.sum(change @ hessian * change, axis=1)).min())
    return np.array(found)


@pytest.fixture(scope="module")
def shares() -> dict[str, np.ndarray]:
    """The share of the gap from nearest rounding to the optimum that each method closes."""
    methods = {
        "gptq": rounding.gptq_layer,
        "by activity": partial(rounding.gptq_layer, by_activity=True),
    }
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(30):
        random = np.random.default_rng(seed)
        inputs, bits = int(random.integers(4, 13)), int(random.integers(2, 5))
        x, weights = problem(seed, 300, inputs, 8, rank=int(random.integers(1, inputs + 1)))
        hessian, params = rounding.hessian(x), symmetric(weights, bits)
        nearest = quantize(weights, params)
        integers = {name: m(weights, hessian, params) for name, m in methods.items()}
        learned = outputs.adaround_layer(
            as_layer(x, weights, params, "linear"),
            as_candidate(nearest, params),
            steps=500,
            learn_bias=False,
        )
        integers["adaround"] = learned.integers[0].astype(np.int8)
        for name in ("gptq", "adaround"):
            for pairs in (False, True):
                integers[f"{name}, {'pairs' if pairs else 'single'}"] = rounding.flip_layer(
                    weights, integers[name], hessian, params, pairs=pairs
                )
        worst = rounding.rounding_error(weights, nearest, hessian, params)
        gap = worst - optimum(weights, hessian, params)
        for name, chosen in integers.items():
            closed = worst - rounding.rounding_error(weights, chosen, hessian, params)
            found.setdefault(name, []).append(np.stack([closed, gap]))
    return {name: np.concatenate(values, axis=1) for name, values in found.items()}


class TestOptimum:
    """On layers of at most 12 weights for each output, for which all roundings can be tried."""

    @pytest.mark.parametrize(
        ("name", "total", "median"),
        [
            ("gptq", 0.7, 0.7),
            ("by activity", 0.85, 0.9),
            ("adaround", 0.7, 0.7),
            ("gptq, single", 0.85, 0.9),
            ("adaround, single", 0.8, 0.9),
            ("gptq, pairs", 0.92, 0.99),
            ("adaround, pairs", 0.92, 0.99),
        ],
    )
    def test_share_of_the_gap(
        self, name: str, total: float, median: float, shares: dict[str, np.ndarray]
    ) -> None:
        closed, gap = shares[name][:, shares[name][1] > 1e-9]
        print(name, closed.sum() / gap.sum(), np.median(closed / gap))
        assert closed.sum() >= total * gap.sum()
        assert np.median(closed / gap) >= median
        assert closed.min() >= 0


@st.composite
def rounding_problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, QuantParams]:
    """Inputs, weights and parameters of all kinds, with outliers and inputs that are always 0."""
    rows, inputs, columns = (draw(st.integers(1, most)) for most in (40, 12, 4))
    x, weights = problem(draw(st.integers(0, 2**16)), rows, inputs, columns, rank=1)
    if draw(st.booleans()):
        x[:, draw(st.integers(0, inputs - 1))] = 0
    if draw(st.booleans()):
        weights[draw(st.integers(0, inputs - 1))] *= 10
    symmetric, per_channel = draw(st.booleans()), draw(st.booleans())
    share, axis = draw(st.floats(0.3, 1.0)), 0 if per_channel else None
    ends = np.minimum(weights.min(axis), 0) * share, np.maximum(weights.max(axis), 0) * share
    params = params_from_range(
        *ends,
        draw(st.integers(2, 8)),
        symmetric=symmetric,
        narrow_range=symmetric,
        axis=-1 if per_channel else None,
    )
    return x, weights, params


class TestNeverWorseThanNearest:
    @settings(max_examples=100, deadline=None)
    @given(rounding_problems(), st.booleans(), st.sampled_from([0.0, 0.01, 1.0]))
    def test_in_the_quadratic_form(
        self, found: tuple[np.ndarray, np.ndarray, QuantParams], by_activity: bool, damp: float
    ) -> None:
        x, weights, params = found
        hessian = rounding.hessian(x)
        if damp == 0:
            hessian += 1e-3 * np.eye(len(hessian))
        nearest = quantize(weights, params)
        gptq = rounding.gptq_layer(weights, hessian, params, damp=damp, by_activity=by_activity)
        flipped = rounding.flip_layer(weights, gptq, hessian, params)
        paired = rounding.flip_layer(weights, flipped, hessian, params, pairs=True)
        errors = [
            rounding.rounding_error(weights, integers, hessian, params)
            for integers in (nearest, gptq, flipped, paired)
        ]
        for integers, better, worse in zip(
            (gptq, flipped, paired), errors[1:], errors[:-1], strict=True
        ):
            assert integers.dtype == np.int8
            assert integers.min() >= params.qmin
            assert integers.max() <= params.qmax
            assert np.all(better <= worse * (1 + 1e-9) + 1e-12)
        # The quadratic form is the squared error of the outputs.
        change = dequantize(gptq, params, np.float64) - weights
        direct = np.square(x.astype(np.float64) @ change).sum(axis=0)
        if damp:
            np.testing.assert_allclose(errors[1], direct, rtol=1e-6, atol=1e-9)

    @settings(max_examples=30, deadline=None)
    @given(rounding_problems(), st.sampled_from(["linear", "relu", "relu6"]), st.booleans())
    def test_behind_the_activation_function(
        self,
        found: tuple[np.ndarray, np.ndarray, QuantParams],
        activation: str,
        learn: bool,
    ) -> None:
        x, weights, params = found
        layer = as_layer(x, weights, params, activation)
        nearest = as_candidate(quantize(weights, params), params)
        learned = outputs.adaround_layer(layer, nearest, steps=40, rows=16, learn_bias=learn)
        options = {"learn_scale": learn and params.axis is not None, "learn_bias": learn}
        descended = outputs.descend_layer(layer, learned, sweeps=3, **options)
        errors = [total_error(layer, c) for c in (nearest, learned, descended)]
        assert np.all(errors[1] <= errors[0])
        assert np.all(errors[2] <= errors[1])
        for candidate in (learned, descended):
            assert np.array_equal(candidate.integers, np.rint(candidate.integers))
            assert candidate.integers.min() >= layer.qmin
            assert candidate.integers.max() <= layer.qmax
        if not learn:
            assert np.array_equal(descended.bias, nearest.bias)
            assert np.array_equal(descended.scale, nearest.scale)

    @settings(max_examples=30, deadline=None)
    @given(rounding_problems())
    def test_searched_scales(self, found: tuple[np.ndarray, np.ndarray, QuantParams]) -> None:
        """The whole range is among those that are tried."""
        x, weights, params = found
        hessian = rounding.hessian(x)
        axis = None if params.axis is None else 0
        ends = np.minimum(weights.min(axis), 0), np.maximum(weights.max(axis), 0)
        options = {"symmetric": params.narrow_range, "narrow_range": params.narrow_range}
        whole = params_from_range(*ends, params.bits, axis=params.axis, **options)
        chosen = rounding.search_scales(weights, hessian, params)
        assert (chosen.bits, chosen.axis) == (params.bits, params.axis)
        errors = [
            rounding.rounding_error(weights, quantize(weights, p), hessian, p)
            for p in (chosen, whole)
        ]
        if params.axis is None:
            errors = [error.sum() for error in errors]
        assert np.all(errors[0] <= errors[1] * (1 + 1e-9) + 1e-12)


class TestBadLayers:
    def test_shapes(self) -> None:
        x, weights = problem(0, 20, 5, 3)
        params = symmetric(weights, 4)
        with pytest.raises(ValueError, match=r"hessian \(inputs, inputs\), got \(5, 3\)"):
            rounding.gptq_layer(weights, rounding.hessian(x)[:4, :4], params)
        with pytest.raises(ValueError, match=r"rows must have the shape .* got \(5,\)"):
            rounding.hessian(np.zeros(5))
        with pytest.raises(ValueError, match=r"rows ≥ 1, got \(0, 5\)"):
            rounding.hessian(np.zeros((0, 5)))

    def test_not_finite(self) -> None:
        x, weights = problem(0, 20, 5, 3)
        params, hessian = symmetric(weights, 4), rounding.hessian(x)
        with pytest.raises(ValueError, match="rows must be finite"):
            rounding.hessian(np.full((3, 2), np.nan))
        with pytest.raises(ValueError, match="weights must be finite"):
            rounding.gptq_layer(np.full_like(weights, np.inf), hessian, params)
        with pytest.raises(ValueError, match="hessian must be finite"):
            rounding.flip_layer(weights, quantize(weights, params), hessian * np.nan, params)

    def test_damping(self) -> None:
        x, weights = problem(0, 3, 5, 2, rank=1)  # three rows cannot tell five inputs apart
        params = symmetric(weights, 4)
        with pytest.raises(ValueError, match=r"damp must be at least 0, got -1"):
            rounding.gptq_layer(weights, rounding.hessian(x), params, damp=-1)
        with pytest.raises(ValueError, match=r"5 inputs has no inverse.*damp=0\.01"):
            rounding.gptq_layer(weights, rounding.hessian(x), params, damp=0)
        rounding.gptq_layer(weights, rounding.hessian(x), params)
