"""Models from Keras 3, from tf_keras and from SavedModel folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant_tutorial import models, quiet, tflite
from quant_tutorial.tflite import saved_model
from quant_tutorial.tflite.saved_model import export_saved_model, has_fake_quant, input_shape

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def keras2() -> Any:
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    return tf_keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(4, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


def test_tf_keras(keras2: Any, calibration: np.ndarray) -> None:
    expected = keras2(calibration[:20]).numpy()
    content = tflite.convert(keras2, "float32")
    np.testing.assert_allclose(tflite.predict(content, calibration[:20]), expected, atol=1e-5)
    assert tflite.inspect(content).op_types == ("CONV_2D", "RESHAPE", "FULLY_CONNECTED")
    int8 = tflite.convert(keras2, "int8", calibration=calibration[:100])
    assert tflite.inspect(int8).integer_only
    np.testing.assert_allclose(tflite.predict(int8, calibration[:20]), expected, atol=0.05)


def test_fake_quantized_tf_keras(keras2: Any, calibration: np.ndarray) -> None:
    """What TFMOT's quantization-aware training adds to a model is such ops."""

    def rounded(low: float, high: float) -> Any:
        return tf_keras.layers.Lambda(
            lambda x: tf.quantization.fake_quant_with_min_max_vars(x, low, high)
        )

    layers = tf_keras.layers
    ends = ((0, 1), (-2, 2))
    model = tf_keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            rounded(*ends[0]),
            layers.Flatten(),
            layers.Dense(4),
            rounded(*ends[1]),
        ]
    )
    content = tflite.convert(model, "int8")
    found = tflite.inspect(content)
    assert found.integer_only
    for tensor, (low, high) in zip((*found.inputs, *found.outputs), ends, strict=True):
        assert tensor.scales[0] == pytest.approx((high - low) / 255)
    np.testing.assert_allclose(
        tflite.predict(content, calibration[:5]), model(calibration[:5]), atol=0.05
    )


@pytest.fixture(scope="module")
def folders(baseline: Any, tmp_path_factory: pytest.TempPathFactory) -> Mapping[int | None, Path]:
    """The baseline as SavedModel folders, by their sizes of the batch."""
    found = {batch: tmp_path_factory.mktemp("saved") for batch in (None, 1)}
    with quiet.all_output():
        for batch, folder in found.items():
            signature = [keras.InputSpec(shape=(batch, 28, 28, 1), dtype="float32")]
            baseline.export(folder, format="tf_saved_model", input_signature=signature)
    return found


@pytest.mark.parametrize("batch", [None, 1])
def test_saved_model(
    baseline: Any,
    calibration: np.ndarray,
    folders: Mapping[int | None, Path],
    batch: int | None,
    files: dict[str, bytes],
) -> None:
    folder = folders[batch]
    assert input_shape(folder) == (batch, 28, 28, 1)
    assert not has_fake_quant(folder)
    content = tflite.convert(str(folder), "float32")
    np.testing.assert_allclose(
        tflite.predict(content, calibration[:20]),
        models.predict(baseline, calibration[:20]),
        atol=1e-4,
    )
    # One image at a time, and so no ops that compute shapes.
    assert tflite.inspect(content).op_types == tflite.inspect(files["float32"]).op_types


def test_calibrated_saved_model(
    baseline: Any, calibration: np.ndarray, folders: Mapping[int | None, Path]
) -> None:
    options = {"calibration": calibration[:20]}
    mine, theirs = (tflite.convert(m, "int8", **options) for m in (folders[None], baseline))
    scales = [[t.scales.tolist() for t in tflite.tensors(c)] for c in (mine, theirs)]
    assert scales[0] == scales[1]
    mixed = tflite.convert(folders[None], "int8_fallback", float_layers=["conv2"], **options)
    (conv2,) = (op for op in tflite.inspect(mixed).ops if "conv2" in op.layers)
    assert conv2.outputs[0].is_float


def test_saved_model_of_tf_keras(keras2: Any, calibration: np.ndarray, tmp_path: Path) -> None:
    with quiet.all_output():
        keras2.export(str(tmp_path))
    content = tflite.convert(tmp_path, "float32")
    expected = keras2(calibration[:5]).numpy()
    np.testing.assert_allclose(tflite.predict(content, calibration[:5]), expected, atol=1e-5)


class TestConstants:
    """Weights are constants of the SavedModel that is converted, where the file stays the same."""

    def test_the_file_is_that_of_the_models_own_export(
        self, folders: Mapping[int | None, Path], files: dict[str, bytes]
    ) -> None:
        with quiet.all_output():
            own = tf.lite.TFLiteConverter.from_saved_model(str(folders[1])).convert()
        assert files["float32"] == own

    @staticmethod
    def written(model: keras.Model, folder: Path) -> set[tuple[int, ...]]:
        """Return the shapes of the variables in a model's SavedModel."""
        with quiet.all_output():
            export_saved_model(model, folder)
            loaded = tf.saved_model.load(str(folder))
        return {tuple(v.shape) for v in loaded.signatures["serving_default"].variables}

    def test_all_but_one(self, baseline: Any, tmp_path: Path) -> None:
        kernels = [tuple(v.shape) for v in baseline.variables]
        assert self.written(baseline, tmp_path) == {kernels[0]}

    def test_weights_that_are_read_twice_are_stored_once(self, tmp_path: Path) -> None:
        inputs = keras.Input((8, 8, 4))
        shared = keras.layers.Conv2D(4, 3, padding="same")
        first = keras.layers.Conv2D(4, 1)(inputs)
        model = keras.Model(inputs, shared(keras.layers.ReLU()(shared(first))))
        assert self.written(model, tmp_path) == {(1, 1, 4, 4), (3, 3, 4, 4), (4,)}
        kernels = [t for t in tflite.tensors(tflite.convert(model, "float32")) if t.bytes == 576]
        assert len(kernels) == 1

    def test_what_a_layer_changes_stays_a_variable(self, tmp_path: Path) -> None:
        class Counting(keras.layers.Layer):
            def build(self, shape: Any) -> None:
                self.count = self.add_weight(shape=(1,), initializer="zeros", trainable=False)

            def call(self, x: Any) -> Any:
                self.count.assign(self.count + 1)
                return x + self.count

        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), Counting()])
        assert (1,) in self.written(model, tmp_path)
        assert model.layers[-1].count.numpy() == [0]

    def test_a_large_model_keeps_its_variables(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(saved_model, "_MOST", 20)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
        assert self.written(model, tmp_path) == {(4, 5), (5,)}


class TestBadInput:
    def test_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"model must be a Keras 3 model, .* got int"):
            tflite.convert(3, "float32")
        with pytest.raises(ValueError, match=r"is not the folder of a SavedModel.*load_model"):
            tflite.convert(tmp_path, "float32")
        with pytest.raises(ValueError, match=r"is not the folder of a SavedModel.*load_model"):
            tflite.convert(tmp_path / "model.keras", "float32")

    def test_not_built(self) -> None:
        class Subclassed(keras.Model):
            def call(self, x: Any) -> Any:
                return x

        for model in (Subclassed(), keras.Sequential([keras.layers.Dense(2)])):
            with pytest.raises(ValueError, match="must say the shape of its input: build it"):
                tflite.convert(model, "float32")

    def test_several_inputs_and_open_sizes(self) -> None:
        first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
        model = keras.Model([first, second], keras.layers.Add()([first, second]))
        with pytest.raises(ValueError, match=r"must have one input, it has 2: first, second\."):
            input_shape(model)
        image = keras.Input((None, None, 1))
        with pytest.raises(ValueError, match=r"images of a fixed size.*\(None, None, None, 1\)"):
            tflite.convert(keras.Model(image, keras.layers.Conv2D(1, 3)(image)), "float32")

    def test_saved_model_without_signature(self, tmp_path: Path) -> None:
        with quiet.all_output():
            tf.saved_model.save(tf.Module(), str(tmp_path))
        with pytest.raises(ValueError, match="no signature 'serving_default', it has none"):
            tflite.convert(tmp_path, "float32")

    def test_saved_model_with_a_table(self, tmp_path: Path) -> None:
        """It holds more than variables, and reaches the converter, which names the table's ops."""
        module, keys = tf.Module(), tf.lookup.KeyValueTensorInitializer([1, 2], [3.0, 4.0])
        module.table = tf.lookup.StaticHashTable(keys, 0.0)
        module.found = tf.function(lambda x: module.table.lookup(x))
        spec = tf.TensorSpec((None, 6), tf.int32, name="x")
        with quiet.all_output():
            signature = module.found.get_concrete_function(spec)
            tf.saved_model.save(module, str(tmp_path), signatures=signature)
        with pytest.raises(ValueError, match=r"no op of LiteRT .*\(HashTableV2, LookupTableFindV2"):
            tflite.convert(tmp_path, "float32")
