"""Any model and its parameters as `.tflite` files: the file holds and computes what was chosen."""

from collections.abc import Mapping
from typing import Any

from quant_tutorial import flatbuffer, integer, metrics, mnist, models, simulate, tflite
from quant_tutorial.affine import QuantParams, quantize
from quant_tutorial.scheme import LayerScheme, QuantScheme, TensorScheme
from quant_tutorial.simulate import ModelParams, Simulator

import architectures
import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow

IMAGES = 2000
Chosen = tuple[keras.Model, ModelParams]


def scheme(bits: int, calibrator: str = "mse") -> QuantScheme:
    return QuantScheme(TensorScheme(bits, True, "channel-wise", calibrator), TensorScheme(8))


@pytest.fixture(scope="module")
def chosen(simulator: Simulator) -> Mapping[int | str, Chosen]:
    """The baseline rounded to the nearest level, with other biases than its own."""
    model = simulate.rebuild(simulator.model, lambda _, x: x)
    random = np.random.default_rng(14)
    for layer in (model.get_layer(name) for name in simulator.weights):
        layer.bias.assign(layer.bias + random.normal(0, 0.05, layer.bias.shape))
    schemes = {bits: scheme(bits, "min_max" if bits == 8 else "mse") for bits in (2, 4, 8)}
    mixed = {n: LayerScheme(scheme(b).weights, TensorScheme(8)) for n, b in MIXED.items()}
    schemes["mixed"] = QuantScheme(overrides=mixed)
    return {name: (model, simulator.params(found)) for name, found in schemes.items()}


MIXED = {"conv1": 8, "conv2": 4, "conv3": 2, "logits": 5}
CONTENTS = [2, 4, 8, "mixed"]


@pytest.fixture(scope="module")
def made(chosen: Mapping[int | str, Chosen]) -> Mapping[int | str, tuple[bytes, bytes]]:
    """Full-integer files, without and with packed weights."""
    return {
        name: tuple(simulate.int8_file(*found, packed=packed) for packed in (False, True))
        for name, found in chosen.items()
    }


def check_weights(content: bytes, model: keras.Model, params: ModelParams) -> None:
    """Compare each integer and each scale; shapes alone tell the axes of the file."""
    found = tflite.file_weights(content)
    for name, floats in models.weights(model).items():
        q, (stored, scales) = quantize(floats, params.weights[name]), found[name]
        is_depthwise = stored.shape[1:] == q.shape and stored.ndim > q.ndim
        theirs = stored[0] if is_depthwise else np.moveaxis(stored, 0, -1)
        np.testing.assert_array_equal(theirs, q)
        np.testing.assert_allclose(scales.ravel(), params.weights[name].scale, rtol=1e-6)


class TestFullInteger:
    @pytest.mark.parametrize("name", CONTENTS)
    def test_every_weight_as_chosen(self, chosen: Mapping, made: Mapping, name: int | str) -> None:
        for content in made[name]:
            assert tflite.inspect(content).integer_only
            check_weights(content, *chosen[name])

    @pytest.mark.parametrize("name", CONTENTS)
    def test_biases_within_half_a_step(
        self, chosen: Mapping, made: Mapping, name: int | str
    ) -> None:
        model, _ = chosen[name]
        for content in made[name]:
            ops = [op for op in flatbuffer.graph(content).ops if op.type in flatbuffer.WEIGHTED]
            for op, layer in zip(ops, models.weights(model), strict=True):
                source, weights, bias = op.inputs
                steps = bias.data.astype(np.float64)
                step = np.float64(source.scales) * weights.scales
                error = np.abs(steps * step - model.get_layer(layer).bias.numpy())
                # The converter multiplies in float32, whose last digit may move a tie.
                assert np.all(error <= 0.5001 * step)
                np.testing.assert_allclose(bias.scales, step, rtol=1e-6)

    @pytest.mark.parametrize("name", CONTENTS)
    def test_litert_answers_as_the_simulation(
        self,
        chosen: Mapping,
        made: Mapping,
        name: int | str,
        x_test: np.ndarray,
        data: mnist.Mnist,
    ) -> None:
        images, labels = x_test[:IMAGES], data.y_test[:IMAGES]
        simulated = models.predict(simulate.with_params(*chosen[name]), images)
        step = chosen[name][1].activations["logits"].scale
        first, second = np.sort(simulated, axis=1)[:, :-3:-1].T
        for content in made[name]:
            found = tflite.evaluate(content, images, labels)
            assert np.abs(found.outputs - simulated).max() <= 2.001 * step
            differs = simulated.argmax(axis=1) != found.predictions
            assert np.all((first - second)[differs] <= 2.001 * step)
            # 2 bits by the nearest level: 0.76 right, and 32 images have a tie at the top.
            assert differs.sum() <= (16 if name == 2 else 2)
            right = round(IMAGES * metrics.accuracy(simulated, labels))
            assert abs(right - round(IMAGES * found.accuracy)) <= (3 if name == 2 else 1)

    @pytest.mark.parametrize(
        ("name", "types"),
        [
            (8, ["int8"] * 4),
            (4, ["int4"] * 4),
            (2, ["int4"] * 4),
            ("mixed", ["int8", "int4", "int4", "int8"]),
        ],
    )
    def test_weights_of_at_most_4_bits_are_packed(
        self, chosen: Mapping, made: Mapping, name: int | str, types: list[str]
    ) -> None:
        plain, packed = made[name]
        kinds = [
            [
                next(t.type for t in op.inputs if t.kind == "weights")
                for op in flatbuffer.graph(content).ops
                if op.type in flatbuffer.WEIGHTED
            ]
            for content in (plain, packed)
        ]
        assert kinds == [["int8"] * 4, types]
        sizes = [weights.size for weights in models.weights(chosen[name][0]).values()]
        halves = sum(size // 2 for size, kind in zip(sizes, types, strict=True) if kind == "int4")
        # Constants are aligned, and a buffer that is left without values remains in the list.
        assert abs(len(plain) - len(packed) - halves) <= 64

    @pytest.mark.parametrize("name", CONTENTS)
    @pytest.mark.parametrize("kernels", ["reference", "optimized"])
    def test_packed_weights_compute_the_same_bit_for_bit(
        self, made: Mapping, name: int | str, kernels: str, x_test: np.ndarray
    ) -> None:
        images = quantize(x_test[:200], tflite.input_output(made[name][0])[0].params)
        expected, given = (tflite.run_all(content, images, kernels) for content in made[name])
        assert given.keys() == expected.keys()
        for index, values in expected.items():
            np.testing.assert_array_equal(given[index], values)

    def test_the_course_computes_with_packed_weights(
        self, made: Mapping, x_test: np.ndarray
    ) -> None:
        """Integer-only inference, which is independent of LiteRT's kernels."""
        content = made["mixed"][1]
        images = quantize(x_test[:100], tflite.input_output(content)[0].params)
        expected = tflite.run_all(content, images, "reference")
        given = integer.run_all(integer.load(content), images)
        assert given.keys() == expected.keys()
        for index, values in expected.items():
            np.testing.assert_array_equal(given[index], values)

    @pytest.mark.parametrize("network", [architectures.separable, architectures.residual])
    def test_packed_weights_in_other_layers(
        self, network: Any, calibration: np.ndarray, x_test: np.ndarray
    ) -> None:
        """Depthwise convolutions too; the networks are not trained, as bits need no sense."""
        simulator = Simulator(network(), calibration[:50])
        chosen = simulator.model, simulator.params(scheme(4))
        plain, packed = (simulate.int8_file(*chosen, packed=packed) for packed in (False, True))
        check_weights(packed, *chosen)
        assert {t.type for t in tflite.tensors(packed) if t.kind == "weights"} == {"int4"}
        images = quantize(x_test[:50], tflite.input_output(plain)[0].params)
        for kernels in ("reference", "optimized"):
            right = tflite.run(plain, images, kernels)
            np.testing.assert_array_equal(tflite.run(packed, images, kernels), right)
        # XNNPACK rounds the int8 file a little differently, and takes no int4 convolutions.
        steps = tflite.run(packed, images).astype(int) - tflite.run(plain, images, "reference")
        assert np.abs(steps).max() <= 2

    def test_a_packed_dense_layer_with_one_scale(
        self, simulator: Simulator, x_test: np.ndarray
    ) -> None:
        shared = LayerScheme(TensorScheme(4, True, "layer-wise", "mse"), TensorScheme(8))
        chosen = QuantScheme(scheme(4).weights, TensorScheme(8), overrides={"logits": shared})
        found = simulator.model, simulator.params(chosen)
        plain, packed = (simulate.int8_file(*found, packed=packed) for packed in (False, True))
        check_weights(packed, *found)
        dense = flatbuffer.graph(packed).ops[-1]
        assert [len(t.scales) for t in dense.inputs if t.kind in ("weights", "bias")] == [1, 1]
        images = quantize(x_test[:200], tflite.input_output(plain)[0].params)
        for kernels in ("reference", "optimized"):
            right = tflite.run(plain, images, kernels)
            np.testing.assert_array_equal(tflite.run(packed, images, kernels), right)

    def test_only_equal_scales_become_one(self, made: Mapping) -> None:
        content = made[4][1]
        dense = flatbuffer.graph(content).ops[-1]
        weights = next(t.index for t in dense.inputs if t.kind == "weights")
        with pytest.raises(ValueError, match="indices must name tensors with equal scales"):
            flatbuffer.with_one_scale(content, [weights])

    def test_what_litert_has_no_kernels_for(self, simulator: Simulator) -> None:
        def refused(params: ModelParams, message: str) -> None:
            with pytest.raises(ValueError, match=message):
                simulate.int8_file(simulator.model, params)

        low = QuantScheme(activations=TensorScheme(4))
        refused(simulator.params(low), r"activations of relu1 have 4 bits.*take 8.*low_bit_file\(")
        spared = QuantScheme(overrides={"conv2": None})
        refused(simulator.params(spared), "activations of relu2 are floats")
        asymmetric = QuantScheme(TensorScheme(8))
        refused(simulator.params(asymmetric), r"weights of conv1 have 8 bits: .*symmetric=True")
        whole = simulator.params(QuantScheme())
        refused(
            ModelParams({**whole.weights, "conv3": None}, whole.activations),
            r"weights of conv3 are floats: this file holds at most 8 bits .* from -127 to 127",
        )
        lowest = QuantParams(8, 0.01)  # −128 has no counterpart
        refused(
            ModelParams({**whole.weights, "conv3": lowest}, whole.activations),
            "weights of conv3 have 8 bits: .*from -127 to 127",
        )


class TestLowBits:
    @pytest.mark.parametrize(
        ("name", "recipe"),
        [
            (2, "weight_only_wi2_afp32"),
            (4, "weight_only_wi4_afp32"),
            (8, "weight_only_wi8_afp32"),
            ("mixed", "weight_only_wi8_afp32"),
        ],
    )
    def test_every_weight_and_the_answers(
        self, chosen: Mapping, name: int | str, recipe: str, x_test: np.ndarray
    ) -> None:
        model, params = chosen[name]
        content = simulate.low_bit_file(model, params, recipe)
        check_weights(content, model, params)
        bits = tflite.RECIPES[recipe].weight_bits
        assert {t.type for t in tflite.tensors(content) if t.kind == "weights"} == {f"int{bits}"}
        nothing = ModelParams(params.weights, dict.fromkeys(params.activations))
        right = models.predict(simulate.with_params(model, nothing), x_test[:IMAGES])
        np.testing.assert_allclose(tflite.predict(content, x_test[:IMAGES]), right, atol=1e-3)

    def test_dynamic_weights(self, chosen: Mapping) -> None:
        check_weights(simulate.low_bit_file(*chosen[4], "dynamic_wi4_afp32"), *chosen[4])

    def test_a_recipe_that_does_not_fit(self, chosen: Mapping) -> None:
        with pytest.raises(ValueError, match=r"weights of conv1 have 4 bits: .* at most 2 bits"):
            simulate.low_bit_file(*chosen[4], "weight_only_wi2_afp32")
        with pytest.raises(ValueError, match=r"one of dynamic_wi8_afp32, .*got 'static_wi8_ai8'"):
            simulate.low_bit_file(*chosen[4], "static_wi8_ai8")


class TestPacking:
    def test_what_cannot_be_packed(self, made: Mapping) -> None:
        found = tflite.tensors(made[8][0])
        first = {
            kind: next(t.index for t in found if t.kind == kind) for kind in ("weights", "input")
        }
        with pytest.raises(ValueError, match=r"bits=4 hold -8 to 7, and tensor \d+ has the values"):
            flatbuffer.with_packed(made[8][0], [first["weights"]], 4)
        with pytest.raises(ValueError, match=r"int8 constants: tensor \d+ is no constant"):
            flatbuffer.with_packed(made[8][0], [first["input"]], 4)
        packed = tflite.tensors(made[4][1])
        index = next(t.index for t in packed if t.kind == "weights")
        with pytest.raises(ValueError, match=r"int8 constants: tensor \d+ is int4"):
            flatbuffer.with_packed(made[4][1], [index], 4)

    def test_values_that_another_tensor_shares(self, made: Mapping) -> None:
        """The converter stores equal bytes once."""
        content = made[4][0]
        indices = [t.index for t in tflite.tensors(content) if t.kind == "weights"]
        model = flatbuffer.read(content)
        tensors = model.subgraphs[0].tensors
        twin = len(tensors)
        tensors.append(flatbuffer.read(content).subgraphs[0].tensors[indices[0]])
        changed = flatbuffer.with_packed(flatbuffer.write(model), indices, 4)
        found = tflite.tensors(changed)
        assert [found[i].type for i in (indices[0], twin)] == ["int4", "int8"]
        np.testing.assert_array_equal(found[indices[0]].data, found[twin].data)


def test_the_model_stays_as_it_was(chosen: Mapping) -> None:
    model, params = chosen[4]
    before = model.get_weights()
    simulate.int8_file(model, params)
    simulate.low_bit_file(model, params, "weight_only_wi4_afp32")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
