"""litert-quantizer: the files, against weights unpacked by hand, and what LiteRT makes of them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from quant_tutorial import flatbuffer, metrics, mnist, models, quiet, tflite

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow

PARAMETERS = 72 + 1152 + 4608 + 8000


@pytest.fixture(scope="module")
def quantized(exported: bytes, calibration: np.ndarray) -> dict[str, bytes]:
    return {
        name: tflite.apply_recipe(
            exported, name, calibration=calibration if recipe.kind == "static" else None
        )
        for name, recipe in tflite.RECIPES.items()
    }


def unpacked(content: bytes) -> dict[str, np.ndarray]:
    """Read the kernels of all layers out of a file, bit by bit; output channels last."""
    model, kernels = flatbuffer.read(content), {}
    for op in tflite.inspect(content).ops:
        for tensor in op.inputs:
            if tensor.kind == "weights":
                data = model.buffers[model.subgraphs[0].tensors[tensor.index].buffer].data
                bits = np.unpackbits(data.view(np.uint8), bitorder="little")
                digits = bits.reshape(-1, tensor.bits).astype(int) * 2 ** np.arange(tensor.bits)
                values = digits.sum(axis=1)
                values -= (values >= 2 ** (tensor.bits - 1)) * 2**tensor.bits
                values = values[: np.prod(tensor.shape)].reshape(tensor.shape)
                scales = tensor.scales.reshape(-1, *[1] * (values.ndim - 1))
                kernels[op.layers[0]] = np.moveaxis(values * scales, 0, -1)
    return kernels


def with_weights_of(content: bytes, model: keras.Model) -> keras.Model:
    folded = models.fold_batch_norm(model)
    kernels = unpacked(content)
    assert sorted(kernels) == ["conv1", "conv2", "conv3", "logits"]
    models.set_weights(folded, kernels)
    return folded


def test_the_exported_file_is_the_model(
    exported: bytes, baseline: Any, x_test: np.ndarray, files: dict[str, bytes]
) -> None:
    expected = models.predict(baseline, x_test[:100])
    np.testing.assert_allclose(tflite.predict(exported, x_test[:100]), expected, atol=1e-4)
    mine, theirs = tflite.inspect(exported), tflite.inspect(files["float32"])
    assert [t.name for t in mine.tensors] == [t.name for t in theirs.tensors]


@pytest.mark.parametrize("name", tflite.RECIPES)
def test_types_and_true_sizes(quantized: dict[str, bytes], name: str) -> None:
    recipe, found = tflite.RECIPES[name], tflite.inspect(quantized[name])
    weights = [t for t in found.tensors if t.kind == "weights"]
    assert {t.type for t in weights} == {f"int{recipe.weight_bits}"}
    assert sum(t.bytes for t in weights) == metrics.packed_bytes(PARAMETERS, recipe.weight_bits)
    assert [len(t.scales) for t in weights] == [t.shape[0] for t in weights]
    assert not any(t.zero_points.any() for t in weights)
    kinds = {op.type for op in found.ops}
    assert ("DEQUANTIZE" in kinds) == (recipe.kind == "weight-only")
    wanted = "float32" if recipe.activation_bits == 32 else f"int{recipe.activation_bits}"
    flowing = [t for t in found.tensors if t.kind in ("input", "activation", "output")]
    assert {t.type for t in flowing} == {wanted}
    assert found.integer_only == (recipe.kind == "static")


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_weight_only_is_the_float_model_with_these_weights(
    quantized: dict[str, bytes], baseline: Any, x_test: np.ndarray, bits: int
) -> None:
    content = quantized[f"weight_only_wi{bits}_afp32"]
    expected = models.predict(with_weights_of(content, baseline), x_test[:200])
    np.testing.assert_allclose(tflite.predict(content, x_test[:200]), expected, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 4])
def test_dynamic_rounds_activations_to_8_bits_besides(
    quantized: dict[str, bytes], baseline: Any, x_test: np.ndarray, bits: int
) -> None:
    content = quantized[f"dynamic_wi{bits}_afp32"]
    expected = models.predict(with_weights_of(content, baseline), x_test[:200])
    outputs = tflite.predict(content, x_test[:200])
    assert metrics.sqnr_db(expected, outputs) > 30
    assert not np.allclose(outputs, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("dynamic_wi8_afp32", 0.993, 1),
        ("dynamic_wi4_afp32", 0.99, 0.994),
        ("weight_only_wi4_afp32", 0.99, 0.994),
        ("weight_only_wi2_afp32", 0.1, 0.3),  # collapses
        ("static_wi8_ai8", 0.993, 1),
    ],
)
def test_accuracy(
    quantized: dict[str, bytes],
    data: mnist.Mnist,
    x_test: np.ndarray,
    name: str,
    low: float,
    high: float,
) -> None:
    assert low <= tflite.evaluate(quantized[name], x_test, data.y_test).accuracy <= high


def test_16x8(quantized: dict[str, bytes], files: dict[str, bytes], x_test: np.ndarray) -> None:
    given, expected = (
        tflite.predict(content, x_test[:300]).argmax(axis=1)
        for content in (quantized["static_wi8_ai16"], files["float32"])
    )
    assert metrics.agreement(given, expected) >= 0.99


def test_litert_computes_2_bit_convolutions_wrongly(
    quantized: dict[str, bytes], baseline: Any, x_test: np.ndarray, tmp_path: Path
) -> None:
    """Once this fails, LiteRT has mended it: let `tflite.predict` run such files."""
    content = quantized["dynamic_wi2_afp32"]
    np.save(tmp_path / "image.npy", x_test[:1])
    tflite.save(content, tmp_path / "model.tflite")
    # In a process of its own: the kernel reads beyond the end of the weights.
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        "folder = Path(sys.argv[1])\n"
        "interpreter = Interpreter(model_path=str(folder / 'model.tflite'))\n"
        "interpreter.allocate_tensors()\n"
        "source = interpreter.get_input_details()[0]['index']\n"
        "interpreter.set_tensor(source, np.load(folder / 'image.npy'))\n"
        "interpreter.invoke()\n"
        "target = interpreter.get_output_details()[0]['index']\n"
        "np.save(folder / 'outputs.npy', interpreter.get_tensor(target))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False)
    written = tmp_path / "outputs.npy"
    expected = models.predict(with_weights_of(content, baseline), x_test[:1])
    assert not written.exists() or not np.allclose(np.load(written), expected, atol=1)
    with pytest.raises(ValueError, match=r"op 0 \(CONV_2D, .* wrongly.*weight_only_wi2_afp32"):
        tflite.predict(content, x_test[:1])


def test_litert_computes_2_bit_dense_layers_correctly() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((20, 32), np.float32)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(8, name="dense")])
    content = tflite.apply_recipe(tflite.export_litert(model), "dynamic_wi2_afp32")
    expected = x @ unpacked(content)["dense"]
    assert metrics.sqnr_db(expected, tflite.predict(content, x)) > 30


def test_an_op_that_a_recipe_does_not_know_stays_in_float() -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.DepthwiseConv2D(3, name="depth"),
            layers.Conv2D(4, 3, name="conv"),
        ]
    )
    found = tflite.inspect(tflite.apply_recipe(tflite.export_litert(model), "dynamic_wi4_afp32"))
    types = {op.layers: op.inputs[1].type for op in found.ops}
    assert types == {("depth",): "float32", ("conv",): "int4"}


def test_nothing_reaches_the_reader(
    baseline: Any, calibration: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    content = tflite.export_litert(baseline)
    tflite.apply_recipe(content, "static_wi8_ai8", calibration=calibration[:20])
    tflite.apply_recipe(content, "weight_only_wi2_afp32")
    assert capfd.readouterr() == ("", "")


class TestExport:
    @staticmethod
    def by_keras(model: keras.Model, path: Path) -> bytes:
        shape = (1, *model.input_shape[1:])
        with quiet.all_output():
            one = [keras.InputSpec(shape=shape, dtype="float32")]
            model.export(path, format="litert", verbose=False, input_signature=one)
        return path.read_bytes()

    def test_as_keras(self, baseline: Any, exported: bytes, tmp_path: Path) -> None:
        assert self.by_keras(baseline, tmp_path / "own.tflite") == exported

    def test_batch_norm_that_trains(self, tmp_path: Path) -> None:
        image = keras.Input((8, 8, 3))
        x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(image), training=True)
        model = keras.Model(image, x)
        assert tflite.export_litert(model) == self.by_keras(model, tmp_path / "own.tflite")


class TestBadInput:
    def test_recipe(self, exported: bytes) -> None:
        with pytest.raises(ValueError, match=r"one of dynamic_wi8_afp32, .*got 'int3'"):
            tflite.apply_recipe(exported, "int3")

    def test_calibration(self, exported: bytes, calibration: np.ndarray, data: mnist.Mnist) -> None:
        with pytest.raises(ValueError, match=r"recipe 'static_wi8_ai8' needs the ranges"):
            tflite.apply_recipe(exported, "static_wi8_ai8")
        with pytest.raises(ValueError, match="'dynamic_wi8_afp32' takes no calibration"):
            tflite.apply_recipe(exported, "dynamic_wi8_afp32", calibration=calibration)
        pixels = data.x_train[:5, ..., np.newaxis]
        with pytest.raises(ValueError, match=r"from 0 to 255, but.*mnist\.to_float"):
            tflite.apply_recipe(exported, "static_wi8_ai8", calibration=pixels)
        with pytest.raises(ValueError, match=r"shape \('n', 28, 28, 1\)"):
            tflite.apply_recipe(exported, "static_wi8_ai8", calibration=calibration[0])

    def test_model(self, files: dict[str, bytes]) -> None:
        with pytest.raises(ValueError, match="must be a float32 file, got one with quantized"):
            tflite.apply_recipe(files["int8, int8 input"], "dynamic_wi8_afp32")
        with pytest.raises(ValueError, match=r"is not a \.tflite model"):
            tflite.apply_recipe(b"no model", "dynamic_wi8_afp32")
        with pytest.raises(ValueError, match="must be a Keras 3 model, got str"):
            tflite.export_litert("model")

    def test_nothing_to_quantize(self) -> None:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Softmax()])
        with pytest.raises(ValueError, match=r"finds nothing to quantize in a file with .*SOFTMAX"):
            tflite.apply_recipe(tflite.export_litert(model), "dynamic_wi4_afp32")
