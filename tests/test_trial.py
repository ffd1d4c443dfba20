"""Each new file is run and compared with its float model before it is handed over."""

from pathlib import Path
from typing import Any

from quant_tutorial import deployment, flatbuffer, metrics, models, qat, simulate, tflite
from quant_tutorial.scheme import named_scheme
from quant_tutorial.simulate import files
from quant_tutorial.tflite import biases, conversion, trial

import keras
import numpy as np
import pytest
import tensorflow as tf
from saved_models import saved_model

pytestmark = pytest.mark.slow
layers = keras.layers
SHAPE = (6, 6, 2)


def images(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (count, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(4, 3, activation="relu", bias_initializer="ones", name="first"),
            layers.Conv2D(4, 3, activation="relu", bias_initializer="ones", name="second"),
            layers.Flatten(),
            layers.Dense(3, name="last"),
        ]
    )


@pytest.fixture(scope="module")
def floats(model: keras.Model) -> bytes:
    return tflite.convert(model, "float32")


@pytest.fixture(scope="module")
def int8(model: keras.Model) -> bytes:
    return tflite.convert(model, "int8", calibration=images())


class TestCompare:
    def test_figures(self, model: keras.Model, floats: bytes, int8: bytes) -> None:
        x = images(9)
        expected, outputs = models.predict(model, x), tflite.predict(int8, x)
        for given in (model, floats):
            found = tflite.compare(given, int8, x)
            assert found.images == 9
            assert found.largest == pytest.approx(np.abs(expected - outputs).max(), abs=1e-5)
            assert found.sqnr_db == pytest.approx(metrics.sqnr_db(expected, outputs), abs=0.01)
            assert found.step == pytest.approx(tflite.input_output(int8)[1].params.scale)
        steps = f"({found.largest / found.step:.1f} output steps)"
        assert steps in str(found)
        assert f"SQNR is {found.sqnr_db:.1f} dB" in str(found)
        assert tflite.compare(model, floats, x).step is None
        assert tflite.compare(floats, floats, x).sqnr_db == np.inf

    def test_of_another_model(self, int8: bytes) -> None:
        image = keras.Input(SHAPE)
        with pytest.raises(ValueError, match=r"\(3, 72\), and .* \(3, 3\): compare a file with"):
            tflite.compare(keras.Model(image, layers.Flatten()(image)), int8, images(3))

    def test_another_range_of_the_input(self, model: keras.Model, int8: bytes) -> None:
        assert tflite.compare(model, int8, images()).sqnr_db > 25
        assert tflite.compare(model, int8, 10 * images()).sqnr_db < 5

    def test_numbers_of_words_that_are_rounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rounding to a scale explains each step of it: the check of its own is needed."""
        keras.utils.set_random_seed(0)
        ids = keras.Input((10,))
        model = keras.Model(ids, layers.Flatten()(layers.Embedding(1000, 2)(ids)))
        given = np.random.default_rng(0).integers(0, 1000, (40, 10)).astype(np.float32)
        monkeypatch.setattr(conversion, "_refuse_rounded_numbers", lambda *_: None)
        content = tflite.convert(
            model, "int8_fallback", calibration=given, input_range=None, io="int8"
        )
        assert tflite.compare(model, content, given).sqnr_db < 0

    def test_the_model_stays_as_it_is(self) -> None:
        class Counter(layers.Layer):
            def build(self, _: Any) -> None:
                self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

            def call(self, x: Any) -> Any:
                self.count.assign_add(1.0)
                return x + self.count

        counter = Counter()
        image = keras.Input(SHAPE)
        counting = keras.Model(image, layers.Flatten()(counter(image)))
        content = tflite.convert(counting, "float32")
        assert tflite.compare(counting, content, images()).largest < 1e-6
        assert counter.count.numpy() == 0


def broken(content: bytes, layer: str, place: int, factor: float) -> bytes:
    """Multiply the scales of an op's weights (1), or of its output (−1), in the bytes."""
    found = flatbuffer.read(content)
    op = next(op for op in flatbuffer.graph(content).ops if layer in op.layers)
    tensor = op.outputs[0] if place < 0 else op.inputs[place]
    quantization = found.subgraphs[0].tensors[tensor.index].quantization
    quantization.scale = quantization.scale * np.float32(factor)
    return flatbuffer.write(found)


class TestRefused:
    @pytest.mark.parametrize("layer", ["first", "second", "last"])
    @pytest.mark.parametrize(
        ("place", "factor", "message"),
        [
            (1, 0.1, "its weights in the file: .* off by more than half a step"),
            (1, 8, "its weights in the file: .* off by more than half a step"),
            (-1, 0.05, "its values are off by .* steps"),
        ],
    )
    def test_scales_broken_by_hand(
        self, floats: bytes, int8: bytes, layer: str, place: int, factor: float, message: str
    ) -> None:
        content = broken(int8, layer, place, factor)
        with pytest.raises(
            ValueError, match=rf"worse than its rounding explains.*{layer}.*{message}"
        ):
            trial.require_like_floats(content, floats, images(8))
        trial.require_like_floats(int8, floats, images(8))

    def test_a_bias_that_does_not_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What litert-quantizer alone makes of a channel that is switched off."""
        keras.utils.set_random_seed(0)
        conv = layers.Conv2D(4, 3, activation="relu", name="conv")
        model = keras.Sequential([keras.Input(SHAPE), conv, layers.Flatten(), layers.Dense(3)])
        kernel, bias = conv.get_weights()
        kernel[..., 1], bias[1] = 0, 5
        conv.set_weights([kernel, bias])
        exported = tflite.export_litert(model)
        monkeypatch.setattr(biases, "lost", lambda *_, **__: [])
        with pytest.raises(ValueError, match=r"conv.*its bias in the file: 1 of 4 values are off"):
            tflite.apply_recipe(exported, "static_wi8_ai8", calibration=images())
        monkeypatch.undo()
        content = tflite.apply_recipe(exported, "static_wi8_ai8", calibration=images())
        assert tflite.compare(exported, content, images()).sqnr_db > 25

    def test_integers_that_are_not_those_of_the_simulation(
        self, model: keras.Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained = qat.quantize_aware(model, named_scheme(4, 8), images())
        right = qat.int8_file(trained)
        assert tflite.compare(trained, right, images()).sqnr_db > 25
        monkeypatch.setattr(files, "_with_integers", lambda content, *_: content)
        for make in (
            lambda: qat.int8_file(trained),
            lambda: qat.low_bit_file(trained, "weight_only_wi4_afp32"),
        ):
            with pytest.raises(ValueError, match=r"worse than its rounding explains.*its weights"):
                make()

    def test_values_outside_the_range_of_the_calibration(self) -> None:
        """A file is tried on random numbers where no calibration images are known."""
        keras.utils.set_random_seed(0)
        conv = layers.Conv2D(4, 3, use_bias=False, name="edges")
        model = keras.Sequential([keras.Input(SHAPE), conv, layers.Flatten(), layers.Dense(3)])
        kernel = conv.get_weights()[0]
        conv.set_weights([kernel - kernel.mean((0, 1), keepdims=True)])  # 0 for an even picture
        even = np.linspace(0, 1, 20, dtype=np.float32).reshape(-1, 1, 1, 1) * np.ones(
            SHAPE, np.float32
        )
        floats = tflite.convert(model, "float32")
        content = tflite.convert(model, "int8", calibration=0.95 * even + 0.05 * images(20))
        others = images(8)
        given = trial.started(content), others, trial.float_outputs(model, others), lambda: floats
        with pytest.raises(ValueError, match=r"edges.*its values are off by .* steps"):
            trial.require_sound(*given)
        trial.require_sound(*given, calibrated=False)

    def test_what_few_bits_explain(self, model: keras.Model) -> None:
        simulator = simulate.Simulator(model, images())
        params = simulator.params(named_scheme(2, 8))
        content = simulate.int8_file(simulator.model, params)
        assert tflite.compare(model, content, images()).sqnr_db < 5
        assert tflite.compare(simulator.simulated(params), content, images()).sqnr_db > 35


def test_equal_biases_beside_channels_of_different_scales(model: keras.Model) -> None:
    """From a model with ranges of its own, the converter rounds them all with the first scale."""
    trained = qat.quantize_aware(model, named_scheme(3, 8), images())
    content = qat.int8_file(trained)
    for op in flatbuffer.graph(content).ops:
        if op.type == "CONV_2D":
            assert len(set(op.inputs[1].scales.tolist())) > 1
            np.testing.assert_allclose(op.inputs[2].data * op.inputs[2].scales, 1, atol=0.002)


MATRIX = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)


class TestSavedModels:
    @pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
    def test_other_floats(self, tmp_path: Path, dtype: str) -> None:
        """A file that is right, or a message with the way out."""
        x = np.random.default_rng(0).uniform(0, 1, (20, 6)).astype(np.float32)
        matrix = tf.cast(MATRIX, dtype)
        for number, (spec, function) in enumerate(
            (
                (tf.TensorSpec((None, 6), dtype), lambda x: tf.nn.relu(x @ matrix)),
                (tf.TensorSpec((None, 6)), lambda x: tf.nn.tanh(tf.cast(x, dtype) @ matrix)),
            )
        ):
            folder = saved_model(tmp_path / str(number), function, spec)
            for mode in ("float32", "int8"):
                options = {"calibration": x} if mode == "int8" else {}
                with pytest.raises(ValueError, match=rf"computes in {dtype} .*tf\.cast\(value"):
                    tflite.convert(folder, mode, **options)

    def test_an_op_that_litert_lacks(self, tmp_path: Path) -> None:
        folder = saved_model(
            tmp_path / "model", lambda x: tf.math.zeta(x + 2, x + 1), tf.TensorSpec((None, 6))
        )
        with pytest.raises(ValueError, match=r"no op of LiteRT for a part of the model \(Zeta\)"):
            tflite.convert(folder, "float32")


class TestBranches:
    @pytest.fixture(scope="class")
    def branching(self, tmp_path_factory: pytest.TempPathFactory) -> bytes:
        wide = np.random.default_rng(2).normal(size=(6, 40)).astype(np.float32)

        def function(x: Any) -> Any:
            return tf.cond(
                tf.reduce_sum(x) > 3,
                lambda: tf.nn.relu(x @ wide) @ np.ascontiguousarray(wide.T[:, :3]),
                lambda: x @ MATRIX,
            )

        folder = saved_model(tmp_path_factory.mktemp("branching"), function, tf.TensorSpec((1, 6)))
        return tflite.convert(folder, "float32")

    def test_ops_and_weights_of_its_graphs(self, branching: bytes) -> None:
        found = tflite.inspect(branching)
        (branch,) = (op for op in found.ops if op.type == "IF")
        assert [len(graph.outputs) for graph in found.called_by(branch)] == [1, 1]
        dense = [op for op in found.all_ops if op.type == "FULLY_CONNECTED"]
        assert len(dense) == 3
        assert "FULLY_CONNECTED" in found.op_types
        assert deployment.sizes(branching).weights == 4 * (6 * 40 + 40 * 3 + 6 * 3)
        assert found.constant_bytes >= deployment.sizes(branching).weights
        assert "AddFullyConnected();" in deployment.micro_ops(branching)
        assert not found.integer_only

    def test_memory(self, branching: bytes) -> None:
        found = tflite.inspect(branching)
        # Around the branch: the image and the truth value; inside: 6 and 40, then 40 and 3 floats.
        assert 16 + 32 + 160 <= deployment.arena_bytes(branching) <= 16 + 32 + 32 + 160 + 32
        assert deployment.memory(branching).activations == deployment.arena_bytes(branching)
        x = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6)
        assert tflite.predict(branching, x).shape == (2, 3)
        assert len(found.others) == 2
