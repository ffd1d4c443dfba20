"""The simulated model: the same answers as LiteRT, and as TensorFlow's own fake quantization."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from quant_tutorial import metrics, mnist, models, simulate, tflite
from quant_tutorial.affine import QuantParams, fake_quantize, params_from_range
from quant_tutorial.scheme import FLOAT, LayerScheme, QuantScheme, TensorScheme
from quant_tutorial.simulate import FakeQuantize, Simulator, StagedRun

import keras
import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.slow

NOTHING = QuantScheme(FLOAT, FLOAT, FLOAT)


def scheme(weights: int, activations: int, granularity: str = "channel-wise") -> QuantScheme:
    return QuantScheme(
        TensorScheme(weights, symmetric=True, granularity=granularity), TensorScheme(activations)
    )


class TestAgreement:
    """With the very file that the converter makes."""

    def test_baseline(
        self, simulator: Simulator, staged: StagedRun, files: dict, x_test: np.ndarray
    ) -> None:
        ours = staged.outputs(simulator.params(QuantScheme())).argmax(axis=1)
        theirs = tflite.predict(files["int8, int8 input"], x_test).argmax(axis=1)
        assert metrics.agreement(ours, theirs) >= 0.999
        float_answers = staged.outputs(simulator.params(NOTHING)).argmax(axis=1)
        assert metrics.agreement(ours, float_answers) < 1  # the comparison can fail

    @pytest.fixture(scope="class")
    @classmethod
    def made(
        cls, simulator: Simulator, files: dict, further: dict, calibration: np.ndarray
    ) -> dict[str, tuple[Simulator, bytes]]:
        """Each network simulated and converted, both calibrated with the same images."""
        return {
            "baseline": (simulator, files["int8, int8 input"]),
            **{
                kind: (
                    Simulator(model, calibration),
                    tflite.convert(model, "int8", calibration=calibration),
                )
                for kind, model in further.items()
            },
        }

    @pytest.mark.parametrize("kind", ["separable", "residual"])
    def test_further(
        self, kind: str, made: dict[str, tuple[Simulator, bytes]], x_test: np.ndarray
    ) -> None:
        simulator, file = made[kind]
        params = simulator.params(QuantScheme())
        run = StagedRun(simulator, x_test)
        theirs = tflite.predict(file, x_test).argmax(axis=1)
        assert metrics.agreement(run.outputs(params).argmax(axis=1), theirs) >= 0.999
        # Keras takes ten times as long.
        ours = models.predict(simulator.simulated(params), x_test[:2000]).argmax(axis=1)
        assert metrics.agreement(ours, theirs[:2000]) >= 0.999

    @pytest.mark.parametrize("kind", ["baseline", "separable", "residual"])
    def test_same_maps_as_the_converter(
        self, kind: str, made: dict[str, tuple[Simulator, bytes]]
    ) -> None:
        simulator, file = made[kind]
        theirs = {
            (int(tensor.zero_points[0]), float(tensor.scales[0]))
            for tensor in tflite.tensors(file)
            if tensor.dtype == np.int8 and len(tensor.scales) == 1
        }
        activations = simulator.params(QuantScheme()).activations.values()
        ours = {(chosen.zero_point, chosen.scale) for chosen in activations}
        for some, others in ((ours, theirs), (theirs, ours)):
            for zero_point, scale in some:
                assert any(
                    point == zero_point and other == pytest.approx(scale, rel=1e-4)
                    for point, other in others
                ), (zero_point, scale)


class TestKerasModel:
    def test_every_value_lies_on_a_level(self, simulator: Simulator, x_test: np.ndarray) -> None:
        params = simulator.params(scheme(3, 3))
        model = simulator.simulated(params)
        layers = [layer for layer in model.layers if isinstance(layer, FakeQuantize)]
        assert len(layers) == len(simulator.nodes)
        probe = keras.Model(model.inputs[0], [layer.output for layer in layers])
        for layer, values in zip(layers, models.predict(probe, x_test[:50]), strict=True):
            assert len(np.unique(values)) <= layer.params.levels
            np.testing.assert_array_equal(values, fake_quantize(values, layer.params))
        for kernel in models.weights(model).values():
            for channel in range(kernel.shape[-1]):
                assert len(np.unique(kernel[..., channel])) <= 7

    def test_nodes_as_tensorflows_own(self) -> None:
        # Away from ties: TensorFlow rounds those up, this layer to even.
        x = np.random.default_rng(0).normal(0, 2, (1000,)).astype(np.float32)
        for bits in (2, 4, 8, 16):
            params = params_from_range(-1.5, 4, bits)
            theirs = tf.quantization.fake_quant_with_min_max_vars(
                x, params.minimum, params.maximum, num_bits=bits
            )
            off = np.abs(np.asarray(FakeQuantize(params)(x)) - theirs)
            # Float rounding may take a value that is nearly a tie to the next level.
            assert off.max() <= 1.001 * params.scale
            assert np.mean(off > 1e-5) < 0.005

    def test_float_scheme_is_the_float_model(
        self, simulator: Simulator, x_test: np.ndarray
    ) -> None:
        model = simulator.simulated(simulator.params(NOTHING))
        assert not any(isinstance(layer, FakeQuantize) for layer in model.layers)
        np.testing.assert_array_equal(
            models.predict(model, x_test[:20]), models.predict(simulator.model, x_test[:20])
        )

    def test_as_one_stage_after_another(
        self, simulator: Simulator, staged: StagedRun, x_test: np.ndarray
    ) -> None:
        for bits in (2, 4, 8):
            params = simulator.params(scheme(bits, bits))
            ours = models.predict(simulator.simulated(params), x_test[staged.sample(1000)])
            theirs = staged.outputs(params, 1000)
            # A value within float rounding of a tie may go either way, and what follows with it.
            assert metrics.agreement(ours.argmax(axis=1), theirs.argmax(axis=1)) >= 0.995
            assert np.mean(np.abs(ours - theirs) > 1e-3) < 0.01

    def test_the_given_model_is_not_changed(
        self, baseline: keras.Model, calibration: np.ndarray
    ) -> None:
        before = baseline.get_weights()
        simulate.simulate(baseline, scheme(2, 2), calibration[:50])
        for old, new in zip(before, baseline.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_averages_round_as_in_litert(self) -> None:
        # What LiteRT's AVERAGE_POOL_2D gives for averages of the integers −128, −127, … was
        # measured: −127.5 → −128, −1.5 → −2, 0.5 → 1, 1.5 → 2.
        q = np.array([-127.5, -127.25, -127.75, -1.5, 0.5, 1.5, 100.5, -4.5])
        right = np.array([-128, -127, -128, -2, 1, 2, 101, -5])
        for scale in (1.0, 0.1, 0.0246):
            params = QuantParams(8, scale, -128)
            real = ((q - params.zero_point) * scale).astype(np.float32)
            got = FakeQuantize(params, averages=True)(real).numpy() / scale + params.zero_point
            np.testing.assert_allclose(got, right, atol=1e-4)


class TestSaving:
    @pytest.fixture
    def simulated(self, simulator: Simulator) -> keras.Model:
        return simulator.simulated(simulator.params(scheme(4, 4)))

    def test_in_a_fresh_process(
        self, simulated: keras.Model, x_test: np.ndarray, tmp_path: Path
    ) -> None:
        """A SavedModel runs without the course, and a Keras file once `simulate` is imported."""
        simulated.save(tmp_path / "m.keras")
        simulated.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
        x = x_test[:200]
        np.save(tmp_path / "x.npy", x)
        code = (
            "import sys\nimport numpy as np\nimport tensorflow as tf\nx = np.load('x.npy')\n"
            "loaded = tf.saved_model.load('saved')\n"
            "np.save('saved.npy', np.asarray(loaded.serve(x)))\n"
            "assert 'quant_tutorial' not in sys.modules\n"
            "from quant_tutorial import simulate\nimport keras\n"
            "np.save('keras.npy', np.asarray(keras.models.load_model('m.keras')(x)))"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        expected = np.asarray(simulated(x))
        np.testing.assert_array_equal(np.load(tmp_path / "keras.npy"), expected)
        # A graph may add in another order than eager operations do.
        assert np.mean(np.abs(np.load(tmp_path / "saved.npy") - expected) > 1e-3) < 0.01

    def test_converter(self, simulated: keras.Model, x_test: np.ndarray) -> None:
        file = tflite.convert(simulated, "float32")
        ours, theirs = models.predict(simulated, x_test[:1000]), tflite.predict(file, x_test[:1000])
        assert metrics.agreement(ours.argmax(axis=1), theirs.argmax(axis=1)) >= 0.995
        assert len(np.unique(theirs)) <= 16  # the output has 4 bits


class TestParams:
    def test_tensor_wise_is_one_map_for_all(self, simulator: Simulator) -> None:
        weights = simulator.params(scheme(4, 8, "tensor-wise")).weights
        assert len(set(weights.values())) == 1
        largest = max(np.abs(kernel).max() for kernel in simulator.weights.values())
        assert weights["conv3"].maximum == pytest.approx(largest)

    def test_an_override_leaves_the_shared_map(self, simulator: Simulator) -> None:
        tensor_wise = scheme(4, 8, "tensor-wise").with_layer("conv1", None)
        weights = simulator.params(tensor_wise).weights
        assert weights["conv1"] is None
        assert weights["conv2"] == weights["logits"]
        rest = max(np.abs(k).max() for n, k in simulator.weights.items() if n != "conv1")
        assert weights["conv2"].maximum == pytest.approx(rest)

    def test_calibrators_of_each_kind(self, simulator: Simulator) -> None:
        mse = replace(TensorScheme(3), calibrator="mse")
        params = simulator.params(QuantScheme(activations=mse))
        plain = simulator.params(QuantScheme(activations=TensorScheme(3)))
        assert params.activations["image"] == plain.activations["image"]
        assert params.activations["relu1"].maximum < plain.activations["relu1"].maximum

    def test_fixed_and_same(self, further: dict, calibration: np.ndarray) -> None:
        simulator = Simulator(further["residual"], calibration[:100])
        activations = simulator.params(QuantScheme()).activations
        assert activations["answer_softmax"] == QuantParams(8, 1 / 256, -128)
        assert activations["average1"] == activations["conv1"]
        bare = simulator.params(QuantScheme().with_layer("conv1", None)).activations
        assert bare["conv1"] is None
        assert bare["average1"] is None
        assert "average1" not in simulator.layers

    def test_an_unknown_layer_is_named(self, simulator: Simulator) -> None:
        with pytest.raises(ValueError, match=r"relu1.*conv1, conv2, conv3, logits"):
            simulator.params(QuantScheme().with_layer("relu1", None))

    def test_places(self, simulator: Simulator) -> None:
        layer = LayerScheme(TensorScheme(4, True), FLOAT)
        params = simulator.params(QuantScheme().with_layer("conv2", layer))
        lines = [place.entries() for place in simulator.places(params)]
        assert [line[:3] for line in lines] == [
            ["input", "image", "8"],
            ["weights", "conv1", "8"],
            ["activation", "relu1", "8"],
            ["weights", "conv2", "4"],
            ["activation", "relu2", "float"],
            ["weights", "conv3", "8"],
            ["activation", "relu3", "8"],
            ["weights", "logits", "8"],
            ["activation", "logits", "8"],
        ]
        assert lines[0][3:] == ["0.000 to 1.000", "0.003922", "-128"]
        assert {len(line) for line in lines} == {len(simulate.HEADER)}

    def test_weight_bytes(self, simulator: Simulator) -> None:
        sizes = [72, 1152, 4608, 8000]
        assert simulator.weight_bytes(simulator.params(NOTHING)) == 4 * sum(sizes) + 4 * 66
        assert (
            simulator.weight_bytes(simulator.params(scheme(3, 8))) == 27 + 432 + 1728 + 3000 + 264
        )

    @pytest.mark.parametrize("shape", [(0, 28, 28, 1), (5, 28, 28), (5, 14, 14, 1)])
    def test_calibration_of_the_wrong_shape(
        self, baseline: keras.Model, shape: tuple[int, ...]
    ) -> None:
        with pytest.raises(ValueError, match=r"calibration must have the shape \('n', 28, 28, 1\)"):
            Simulator(baseline, np.zeros(shape, np.float32))

    def test_calibration_with_nan(self, baseline: keras.Model) -> None:
        images = np.full((2, 28, 28, 1), np.nan, np.float32)
        with pytest.raises(ValueError, match="finite"):
            Simulator(baseline, images)

    def test_pixels_for_calibration(self, baseline: keras.Model, data: mnist.Mnist) -> None:
        for pixels in (data.x_train[:5], data.x_train[:5, ..., np.newaxis]):
            message = (
                r"calibration must hold floats.*got uint8 from 0 to 25\d: scale.*mnist\.to_float"
            )
            with pytest.raises(ValueError, match=message):
                Simulator(baseline, pixels)


def test_only_per_tensor_activations() -> None:
    with pytest.raises(ValueError, match="one scale, got 2"):
        FakeQuantize(QuantParams(8, np.array([1.0, 2.0]), axis=0))


def test_a_sequential_model(data: mnist.Mnist) -> None:
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, name="only")]
    )
    images = mnist.to_float(data.x_train[:20])
    simulator = Simulator(model, images)
    params = simulator.params(QuantScheme())
    outputs = StagedRun(simulator, images).outputs(params)
    kernel = simulator.rounded_weights("only", params)
    by_hand = fake_quantize(images.reshape(20, -1) @ kernel, params.activations["only"])
    np.testing.assert_allclose(outputs, by_hand, atol=1.01 * params.activations["only"].scale)
    assert np.mean(outputs != by_hand) < 0.02
