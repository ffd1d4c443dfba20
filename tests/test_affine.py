"""The affine map against TensorFlow's fake-quant ops, LiteRT's kernels and arithmetic by hand."""

import dataclasses
import math
from fractions import Fraction

from quant_tutorial import quiet
from quant_tutorial.affine import (
    QuantParams,
    dequantize,
    fake_quantize,
    params_from_range,
    quantize,
    round_half_away,
    split_error,
)

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

ALL_BITS = st.integers(2, 16)
# The design's ranges hold 0; a range that does not is widened, where TensorFlow's op shifts it.
LOWER = st.floats(-1e3, 0, width=32)
UPPER = st.floats(0, 1e3, width=32)
# Where x lies between two levels. TensorFlow's op computes in float32, which is off by up to 0.01
# of a step at 16 bits, so that closer to a tie (½) the two may rightly differ.
OFFSET = st.floats(-0.48, 0.48)


def near_tie(number: float) -> bool:
    return abs(number - math.floor(number) - 0.5) < 0.02


class TestAgainstTensorFlow:
    @given(LOWER, UPPER, ALL_BITS, st.booleans(), st.lists(st.tuples(st.floats(-0.2, 1.2), OFFSET)))
    @settings(max_examples=300, deadline=None)
    @example(0.0, 10.0, 8, False, [(0.78, 0.1)])
    def test_per_tensor(
        self, low: float, high: float, bits: int, narrow: bool, places: list[tuple[float, float]]
    ) -> None:
        assume(high - low > 1e-3)
        assume(places)
        params = params_from_range(low, high, bits, narrow_range=narrow)
        assume(not near_tie(low / params.scale))
        x = on_grid(params, places)
        theirs = tf.quantization.fake_quant_with_min_max_vars(x, low, high, bits, narrow).numpy()
        same_levels(fake_quantize(x, params), theirs, params.scale)

    @given(
        st.lists(st.tuples(LOWER, UPPER), min_size=1, max_size=5),
        ALL_BITS,
        st.booleans(),
        st.lists(st.tuples(st.floats(-0.2, 1.2), OFFSET), min_size=1, max_size=8),
    )
    @settings(max_examples=200, deadline=None)
    def test_per_channel(
        self,
        ranges: list[tuple[float, float]],
        bits: int,
        narrow: bool,
        places: list[tuple[float, float]],
    ) -> None:
        low, high = np.array(ranges, np.float32).T
        assume(np.all(high - low > 1e-3))
        params = params_from_range(low, high, bits, narrow_range=narrow, axis=-1)
        assume(not any(near_tie(quotient) for quotient in low / params.scale))
        x = np.stack(
            [
                on_grid(channel, places)
                for channel in (one_channel(params, c) for c in range(len(low)))
            ],
            axis=-1,
        )
        theirs = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            x, low, high, bits, narrow
        ).numpy()
        same_levels(fake_quantize(x, params), theirs, params.scale)

    def test_ties_differ_from_the_fake_quant_op(self) -> None:
        x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
        ours = fake_quantize(x, params_from_range(-128, 127, 8))
        theirs = tf.quantization.fake_quant_with_min_max_vars(x, -128.0, 127.0, 8).numpy()
        assert ours.tolist() == [-3, -2, -1, 1, 2, 3]
        assert theirs.tolist() == [-2, -1, 0, 1, 2, 3]


class TestAgainstLiteRT:
    RANGES = ((-64.0, 63.5), (0.0, 10.0), (-3.0, 1.0), (-0.7, 0.0), (-1e-3, 5e-3), (-500.0, 2000.0))

    @pytest.mark.parametrize(("low", "high"), RANGES)
    def test_quantize_and_dequantize_ops(self, low: float, high: float) -> None:
        x = np.linspace(1.3 * low - 0.1, 1.3 * high + 0.1, 100_003, dtype=np.float32)
        q, x_hat, params = litert_quantize_dequantize(x, low, high)
        ours = quantize(x, params)
        assert (ours != q).sum() == 0
        assert (dequantize(q, params) != x_hat).sum() == 0
        chosen = params_from_range(low, high, 8, signed=False)
        assert chosen.zero_point == params.zero_point
        assert chosen.scale == pytest.approx(params.scale, rel=1e-6)

    def test_ties_are_those_of_the_reference_kernel(self) -> None:
        x = (np.arange(-260, 260) / 4).astype(np.float32)  # the scale is ½: each odd one is a tie
        q, _, params = litert_quantize_dequantize(x, -64.0, 63.5)
        assert params == QuantParams(8, 0.5, 128, signed=False)
        assert (quantize(x, params) != q).sum() == 0

    def test_int8_input_of_a_real_model(self, files: dict[str, bytes], x_test: np.ndarray) -> None:
        interpreter = reference_interpreter(files["int8, float32 input"])
        source = interpreter.get_input_details()[0]["index"]
        quantized = next(
            details
            for details in interpreter.get_tensor_details()
            if details["dtype"] is np.int8 and tuple(details["shape"]) == (1, 28, 28, 1)
        )
        params = QuantParams(8, float(quantized["quantization"][0]), quantized["quantization"][1])
        for image in x_test[:20]:
            interpreter.set_tensor(source, image[np.newaxis])
            interpreter.invoke()
            assert (interpreter.get_tensor(quantized["index"])[0] == quantize(image, params)).all()


class TestByHand:
    def test_the_worked_example(self) -> None:
        params = params_from_range(0, 10, 8)
        assert (params.scale, params.zero_point) == (10 / 255, -128)
        assert int(quantize(7.8, params)) == 71
        assert float(fake_quantize(7.8, params)) == pytest.approx(199 * 10 / 255)

    @given(LOWER, UPPER, ALL_BITS, st.booleans(), st.booleans(), st.booleans())
    @settings(deadline=None)
    def test_zero_is_exact_and_the_range_is_covered(
        self, low: float, high: float, bits: int, symmetric: bool, narrow: bool, signed: bool
    ) -> None:
        params = params_from_range(
            low, high, bits, symmetric=symmetric, narrow_range=narrow, signed=signed
        )
        assert fake_quantize(0.0, params) == 0
        assert params.qmax - params.qmin == 2**bits - 1 - narrow
        # Rounding the zero point moves the range by at most half a step.
        half = 0.501 * params.scale
        assert params.minimum <= low + half
        assert params.maximum >= high - half

    @given(LOWER, UPPER, ALL_BITS, st.lists(st.floats(-2e3, 2e3), min_size=1))
    @settings(deadline=None)
    def test_error_splits_into_rounding_and_clipping(
        self, low: float, high: float, bits: int, values: list[float]
    ) -> None:
        params = params_from_range(low, high, bits)
        for x in values:
            rounding, clipping = split_error(x, params)
            assert abs(rounding) <= params.scale / 2 * (1 + 1e-9)
            assert rounding + clipping == pytest.approx(
                float(fake_quantize(x, params)) - x, abs=1e-9
            )
            if clipping:
                assert rounding == pytest.approx(0, abs=1e-9)

    @given(ALL_BITS, st.booleans(), st.booleans(), st.data())
    @settings(deadline=None)
    def test_every_integer_comes_back(
        self, bits: int, signed: bool, narrow: bool, data: st.DataObject
    ) -> None:
        low, high = data.draw(LOWER), data.draw(UPPER)
        assume(low < high)
        params = params_from_range(low, high, bits, signed=signed, narrow_range=narrow)
        q = np.arange(params.qmin, params.qmax + 1)
        assert len(q) == params.levels
        assert (quantize(dequantize(q, params, np.float64), params) == q).all()

    @pytest.mark.parametrize("bits", range(2, 17))
    def test_symmetric_is_the_scheme_of_tflite_weights(self, bits: int) -> None:
        params = params_from_range(-0.3, 1.2, bits, symmetric=True, narrow_range=True)
        top = 2 ** (bits - 1) - 1
        assert (params.qmin, params.qmax, params.zero_point) == (-top, top, 0)
        assert params.maximum == pytest.approx(1.2)
        assert params.minimum == pytest.approx(-1.2)

    def test_symmetric_unsigned_has_its_zero_in_the_middle(self) -> None:
        params = params_from_range(-1, 2, 8, symmetric=True, signed=False)
        assert params.zero_point == 128
        assert params.maximum == pytest.approx(2)

    @pytest.mark.parametrize("value", [1.0, 0.0])
    def test_a_range_without_zero_is_widened(self, value: float) -> None:
        wide = params_from_range(value, 10, 8)
        assert wide == params_from_range(0, 10, 8)
        assert params_from_range(-10, -value, 8) == params_from_range(-10, 0, 8)

    @pytest.mark.parametrize("width", [0.0, 5e-324])
    def test_a_range_of_no_width_has_scale_1(self, width: float) -> None:
        params = params_from_range(0, width, 8)
        assert params.scale == 1
        assert fake_quantize(0.0, params) == 0

    def test_values_outside_saturate(self) -> None:
        params = params_from_range(-1, 1, 8)
        huge = np.array([-3e38, 3e38], np.float32)
        assert quantize(huge, params).tolist() == [-128, 127]
        tiny = params_from_range(-1e-37, 1e-37, 16)
        assert quantize(huge, tiny).tolist() == [-32768, 32767]

    @pytest.mark.parametrize(
        ("bits", "signed", "expected"),
        [(2, True, "int8"), (8, False, "uint8"), (9, True, "int16"), (16, False, "uint16")],
    )
    def test_types(self, bits: int, signed: bool, expected: str) -> None:
        params = params_from_range(-1, 1, bits, signed=signed)
        for dtype in (np.float32, np.float64):
            x = np.zeros((2, 3), dtype)
            assert quantize(x, params).dtype == expected
            assert fake_quantize(x, params).dtype == dtype
        assert fake_quantize(np.float16(0.5), params).dtype == np.float32


class TestRounding:
    @given(st.floats(-1e6, 1e6, width=32))
    @example(0.5)
    @example(np.float32(0.49999997))
    @example(np.float32(8388609))
    def test_half_away_from_zero(self, value: float) -> None:
        exact = math.floor(abs(Fraction(float(value))) + Fraction(1, 2))
        for dtype in (np.float32, np.float64):
            assert round_half_away(dtype(value)) == math.copysign(exact, value)


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((2, 1, 8), r"minimum must not exceed maximum, got 2\.0 > 1\.0"),
            ((math.nan, 1, 8), "minimum must be finite, got nan"),
            ((0, math.inf, 8), "maximum must be finite, got inf"),
            ((-1.7e308, 1.7e308, 8), "overflows"),
            ((0, 1, 1), "bits must be from 2 to 16, got 1"),
            ((0, 1, 17), "bits must be from 2 to 16, got 17"),
            ((0, 1, 8.0), r"bits must be an integer, got 8\.0"),
            ((0, 1, True), "bits must be an integer, got True"),
            (("a", 1, 8), "minimum must hold real numbers"),
            ((0, 1, np.int8(99)), "bits must be from 2 to 16, got 99"),
            (([0, 0], [1, 1], 8), r"shape \(2,\).*axis is None"),
            (([0, 0], 1, 8), r"minimum has shape \(2,\), maximum has \(\)"),
        ],
    )
    def test_params_from_range(self, arguments: tuple, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            params_from_range(*arguments)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"scale": 0.0}, r"scale must be positive and finite, got 0\.0"),
            ({"scale": math.nan}, "scale must be positive"),
            ({"scale": 1.0, "zero_point": 128}, r"zero_point must lie in \[-128, 127\], got 128"),
            ({"scale": 1.0, "zero_point": 0.5}, "zero_point must be an integer"),
            ({"scale": [1.0, 2.0]}, "axis=None does not go with a scale of shape"),
            ({"scale": 1.0, "axis": 0}, "axis=0 does not go with"),
            ({"scale": [1.0], "axis": 1.5}, r"axis must be an integer or None, got 1\.5"),
            ({"scale": [1.0, 2.0], "zero_point": [0, 0, 0], "axis": 0}, "zero_point has shape"),
        ],
    )
    def test_params(self, fields: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            QuantParams(8, **fields)

    def test_quantize(self) -> None:
        params = params_from_range(0, 1, 8)
        with pytest.raises(ValueError, match=r"x must be finite, got nan \(1 of 3 values\)"):
            quantize([0, math.nan, 1], params)
        channels = params_from_range([0, 0], [1, 2], 8, axis=-1)
        for shape in ((2, 3), ()):
            with pytest.raises(ValueError, match="does not broadcast with 2 scales on axis -1"):
                quantize(np.zeros(shape), channels)

    def test_dequantize(self) -> None:
        params = params_from_range(0, 1, 8)
        with pytest.raises(ValueError, match="q must hold integers, got float64"):
            dequantize(np.zeros(3), params)
        with pytest.raises(
            ValueError, match=r"q must lie in \[-128, 127\], got values from 5 to 200"
        ):
            dequantize(np.array([5, 200]), params)

    def test_a_scale_too_small_for_float32(self) -> None:
        params = params_from_range(0, 1e-300, 8)
        assert quantize(1e-300, params) == 127
        with pytest.raises(ValueError, match="too small for float32: use float64 for x"):
            quantize(np.float32(1), params)


class TestParamsAreValues:
    @pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int64])
    def test_types_of_the_arguments_do_not_matter(self, kind: type) -> None:
        expected = params_from_range(-3, 10, 16)
        assert params_from_range(np.float32(-3), np.float32(10), kind(16)) == expected

    def test_frozen_equal_and_hashable(self) -> None:
        one, same = (params_from_range([-1, 0], [1, 2], 4, axis=0) for _ in range(2))
        assert one == same
        assert len({one, same, params_from_range(0, 1, 4)}) == 2
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.bits = 8
        with pytest.raises(ValueError, match="read-only"):
            one.scale[0] = 3

    def test_the_caller_keeps_the_array(self) -> None:
        scales = np.array([1.0, 2.0])
        params = QuantParams(8, scales, axis=0)
        scales[0] = 7
        assert params.scale.tolist() == [1, 2]
        assert params.zero_point.tolist() == [0, 0]


def on_grid(params: QuantParams, places: list[tuple[float, float]]) -> np.ndarray:
    """Numbers near levels (place 0: the lowest, 1: the highest), inside the range and outside."""
    position, offset = np.array(places).T
    steps = np.rint(params.qmin + position * (params.levels - 1)) - params.zero_point
    return ((steps + offset) * params.scale).astype(np.float32)


def one_channel(params: QuantParams, channel: int) -> QuantParams:
    fields = params.scale[channel], int(params.zero_point[channel])
    return QuantParams(params.bits, *fields, params.signed, params.narrow_range)


def same_levels(ours: np.ndarray, theirs: np.ndarray, scale: float | np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert (np.rint(ours / scale) == np.rint(theirs / scale)).all()
    assert (np.abs(ours - theirs) <= 0.02 * scale).all()


def reference_interpreter(content: bytes) -> Interpreter:
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter


def litert_quantize_dequantize(
    x: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray, QuantParams]:
    """Run LiteRT's QUANTIZE and DEQUANTIZE ops: integers, reals, and the map in the file."""

    @tf.function(input_signature=[tf.TensorSpec([len(x)], tf.float32)])
    def both_ways(values: tf.Tensor) -> tf.Tensor:
        # The converter turns this op into a QUANTIZE and a DEQUANTIZE.
        return tf.quantization.fake_quant_with_min_max_args(values, low, high, num_bits=8)

    module = tf.Module()
    module.both_ways = both_ways
    with quiet.all_output():
        content = tf.lite.TFLiteConverter.from_concrete_functions(
            [both_ways.get_concrete_function()], module
        ).convert()
    interpreter = reference_interpreter(content)
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(source["index"], x)
    interpreter.invoke()
    middle = next(t for t in interpreter.get_tensor_details() if t["dtype"] is np.uint8)
    scale, zero_point = middle["quantization"]
    params = QuantParams(8, float(scale), int(zero_point), signed=False)
    return interpreter.get_tensor(middle["index"]), interpreter.get_tensor(target["index"]), params
