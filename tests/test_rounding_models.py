"""Whole models rounded: equalized, corrected, by GPTQ and AdaRound; the shipped ones; bad input."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

from quant_tutorial import metrics, mnist, models, rounding
from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.rounding import results, shipped
from quant_tutorial.rounding.walk import Choice, Task, round_layers
from quant_tutorial.scheme import (
    CALIBRATORS,
    FLOAT,
    GRANULARITIES,
    LayerScheme,
    QuantScheme,
    TensorScheme,
    named_scheme,
)
from quant_tutorial.simulate import Simulator, StagedRun, prepare, with_params

import architectures
import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow

W2A8, W4A4 = named_scheme(2, 8), named_scheme(4, 4)


def agitated(model: keras.Model) -> keras.Model:
    """Give an untrained model batch norms, biases and channels of very different ranges."""
    random = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            values = (random.lognormal(0, 1, size), random.normal(0, 0.5, size))
            layer.set_weights([*values, random.normal(0, 0.1, size), random.uniform(0.5, 2, size)])
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(random.normal(0, 0.2, layer.bias.shape))
    return model


@pytest.fixture(scope="module")
def images(calibration: np.ndarray) -> np.ndarray:
    return calibration[:100]


@pytest.fixture(scope="module")
def simulators(images: np.ndarray) -> dict[str, Simulator]:
    """The two further networks, untrained: rounding must work whatever the weights are."""
    built = {"separable": architectures.separable(), "residual": architectures.residual()}
    return {name: Simulator(agitated(model), images) for name, model in built.items()}


@pytest.fixture(scope="module")
def small(images: np.ndarray) -> Simulator:
    """A network so small that many schemes can be tried."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 5, strides=4, activation="relu", name="conv")(image)
    x = layers.DepthwiseConv2D(3, activation="relu6", use_bias=False, name="depth")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return Simulator(keras.Model(image, layers.Dense(3, name="dense")(x)), images)


def outputs(rounded: rounding.Rounded, images: np.ndarray) -> np.ndarray:
    return models.predict(with_params(rounded.model, rounded.params), images)


class TestEveryScheme:
    @pytest.mark.parametrize(
        ("number", "granularity", "calibrator"),
        [(n, *both) for n, both in enumerate(itertools.product(GRANULARITIES, CALIBRATORS))],
    )
    def test_every_method(
        self,
        number: int,
        granularity: str,
        calibrator: str,
        small: Simulator,
        images: np.ndarray,
    ) -> None:
        symmetric = number % 2 == 0
        weights = TensorScheme(2 + number % 7, symmetric, granularity, calibrator)
        scheme = QuantScheme(weights, TensorScheme(8, calibrator=calibrator))
        scales = ("scheme", "nearest", "gptq")[number % 3]
        gptq = rounding.gptq(small, scheme, images, scales=scales, by_activity=symmetric)
        learned = rounding.adaround(small, scheme, images, scales=scales, steps=3)
        found = [
            rounding.nearest(small, scheme),
            rounding.correct_bias(small, gptq, images),
            rounding.refine(small, learned, images, sweeps=1, rows=100),
        ]
        for rounded in (gptq, learned, *found):
            self.check(rounded, small, scheme)

    @staticmethod
    def check(rounded: rounding.Rounded, simulator: Simulator, scheme: QuantScheme) -> None:
        params = simulator.params(scheme)
        assert rounded.params.activations == params.activations
        assert set(rounded.biases) == {"conv", "dense"}
        weights = models.weights(rounded.model)
        for name, chosen in rounded.params.weights.items():
            wanted, q = params.weights[name], rounded.integers[name]
            fields = ("bits", "axis", "signed", "narrow_range")
            assert all(getattr(chosen, f) == getattr(wanted, f) for f in fields)
            assert q.dtype == np.int8
            assert q.shape == simulator.weights[name].shape
            # Nearest rounding changes nothing more.
            assert np.array_equal(quantize(weights[name], chosen), q)
        scales = {np.asarray(p.scale).tobytes() for p in rounded.params.weights.values()}
        assert (len(scales) == 1) == (scheme.weights.granularity == "tensor-wise")

    @pytest.mark.parametrize("name", ["separable", "residual"])
    def test_every_kind_of_layer(
        self, name: str, simulators: dict[str, Simulator], images: np.ndarray
    ) -> None:
        """Strides, padding, depth multipliers, additions, average pooling, softmax."""
        simulator = simulators[name]
        reference = models.predict(simulator.model, images)
        nearest = rounding.nearest(simulator, W4A4)
        worst = metrics.mse(reference, outputs(nearest, images))
        gptq = rounding.gptq(simulator, W4A4, images, scales="gptq")
        learned = rounding.adaround(simulator, W4A4, images, steps=200, rows=2000)
        refined = rounding.refine(simulator, gptq, images, sweeps=2, rows=2000)
        for rounded in (gptq, learned, refined, rounding.correct_bias(simulator, nearest, images)):
            assert metrics.mse(reference, outputs(rounded, images)) < worst

    def test_a_layer_in_float_stays(self, simulator: Simulator, images: np.ndarray) -> None:
        mixed = LayerScheme(TensorScheme(3, True, "channel-wise"), FLOAT)
        scheme = W2A8.with_layer("conv2", None).with_layer("conv3", mixed)
        rounded = rounding.gptq(simulator, scheme, np.tile(images, (4, 1, 1, 1)))
        assert set(rounded.integers) == {"conv1", "conv3", "logits"}
        assert rounded.params.weights["conv2"] is rounded.params.activations["relu2"] is None
        assert rounded.params.weights["conv3"].bits == 3
        weights = models.weights(rounded.model)
        assert np.array_equal(weights["conv2"], simulator.weights["conv2"])
        assert set(rounded.biases) == {"conv1", "conv2", "conv3", "logits"}

    def test_a_progress_bar(
        self, small: Simulator, images: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rounding.gptq(small, W2A8, images, progress=True)
        assert "3/3" in capsys.readouterr().out
        rounding.adaround(small, W2A8, images, steps=40, progress=True)
        assert "120/120" in capsys.readouterr().out
        rounding.gptq(small, W2A8, images)
        assert capsys.readouterr().out == ""


class TestTheWalk:
    def test_inputs_are_those_of_the_rounded_layers(
        self, simulators: dict[str, Simulator], images: np.ndarray
    ) -> None:
        for simulator in simulators.values():
            params, seen = simulator.params(W4A4), {}

            def choose(task: Task, seen: dict[str, Task] = seen) -> Choice:
                seen[task.name] = task
                return Choice(task.params, quantize(task.weights, task.params), None)

            rounded = round_layers(simulator, params, images, choose)
            simulated = simulator.simulated(params)
            for name, task in seen.items():
                for model, found in (
                    (simulated, task.inputs),
                    (simulator.model, task.float_inputs),
                ):
                    probe = keras.Model(model.inputs[0], model.get_layer(name).input)
                    np.testing.assert_allclose(found, models.predict(probe, images), atol=1e-5)
            np.testing.assert_allclose(
                outputs(rounded, images), models.predict(simulated, images), atol=1e-5
            )
            activations = {task.name: task.activation for task in seen.values()}
            assert set(activations.values()) == (
                {"relu6", "linear"} if "depth2" in activations else {"relu", "linear"}
            )


class TestNearest:
    def test_is_what_simulate_does(self, simulator: Simulator, x_test: np.ndarray) -> None:
        params = simulator.params(W2A8)
        expected = models.predict(simulator.simulated(params), x_test[:200])
        rounded = rounding.nearest(simulator, W2A8)
        assert rounded.params == params
        assert np.array_equal(outputs(rounded, x_test[:200]), expected)

    def test_a_simulator_of_the_rounded_model_runs_it(
        self, simulator: Simulator, calibration: np.ndarray, x_test: np.ndarray
    ) -> None:
        rounded = rounding.gptq(simulator, W2A8, calibration[:200], scales="gptq")
        # The ranges are the rounded model's own.
        run = StagedRun(Simulator(rounded.model, calibration[:1]), x_test[:200])
        # A sum near the middle between two levels may come out on the other one.
        found, expected = run.outputs(rounded.params), outputs(rounded, x_test[:200])
        assert metrics.sqnr_db(expected, found) > 40
        assert metrics.agreement(found.argmax(axis=1), expected.argmax(axis=1)) >= 0.99


class TestEqualize:
    @staticmethod
    def ranges(model: keras.Model, name: str) -> np.ndarray:
        return (
            np.abs(models.weights(model)[name])
            .reshape(-1, models.weights(model)[name].shape[-1])
            .max(axis=0)
        )

    @pytest.mark.parametrize("kind", ["baseline", "residual", "separable"])
    def test_outputs_stay_the_same(
        self, kind: str, baseline: keras.Model, simulators: dict[str, Simulator], images: np.ndarray
    ) -> None:
        model = baseline if kind == "baseline" else simulators[kind].model
        before = [w.copy() for w in model.get_weights()]
        equal = rounding.equalize(model)
        expected = models.predict(model, images)
        found = models.predict(equal, images)
        assert np.abs(found - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1)
        assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))
        changed = [
            name
            for name, weights in models.weights(prepare(model)).items()
            if not np.allclose(weights, models.weights(equal)[name])
        ]
        # ReLU6 stands between all layers of the one, an addition between some of the other.
        expected_change = {
            "baseline": ["conv1", "conv2", "conv3", "logits"],
            "residual": ["conv2", "conv3", "hidden", "answer"],
            "separable": [],
        }
        assert changed == expected_change[kind]

    def test_channels_have_equal_ranges(self, baseline: keras.Model) -> None:
        equal = rounding.equalize(baseline)
        weights = models.weights(equal)
        into = np.abs(weights["conv3"]).max(axis=(0, 1, 3))
        np.testing.assert_allclose(self.ranges(equal, "conv2"), into, rtol=1e-3)
        # Flatten repeats the channels: each has 25 positions.
        dense = np.abs(weights["logits"]).reshape(25, 32, 10).max(axis=(0, 2))
        np.testing.assert_allclose(self.ranges(equal, "conv3"), dense, rtol=1e-3)

    def test_depthwise_layers(self, images: np.ndarray) -> None:
        """With ReLU instead of ReLU6, all layers of the network are equalized."""
        model = agitated(architectures.separable())
        equal = rounding.equalize(model, relu6="relu")
        plain = prepare(model)
        limited = [layer for layer in equal.layers if getattr(layer, "max_value", None)]
        assert not limited
        floats = keras.models.clone_model(equal)
        floats.set_weights(plain.get_weights())
        expected, found = models.predict(floats, images), models.predict(equal, images)
        assert np.abs(found - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1)
        weights = models.weights(equal)
        depth = np.abs(weights["depth2"]).max(axis=(0, 1))
        np.testing.assert_allclose(self.ranges(equal, "conv1"), depth, rtol=1e-2)
        # Two outputs of the depthwise layer read each channel of the layer before it.
        into = np.abs(weights["depth4"]).reshape(3, 3, -1, 2).max(axis=(0, 1, 3))
        np.testing.assert_allclose(self.ranges(equal, "point3"), into, rtol=1e-2)

    def test_a_channel_without_weights(self, images: np.ndarray) -> None:
        keras.utils.set_random_seed(1)
        image = keras.Input((28, 28, 1))
        x = keras.layers.Conv2D(3, 5, strides=5, activation="relu", name="conv")(image)
        x = keras.layers.ZeroPadding2D(1)(keras.layers.AveragePooling2D(2)(x))
        x = keras.layers.Conv2D(2, 2, groups=1, name="next")(x)
        model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
        kernel = model.get_layer("conv").kernel
        kernel.assign(kernel.numpy() * [0, 1, 50])
        equal = rounding.equalize(model)
        np.testing.assert_allclose(
            models.predict(equal, images), models.predict(model, images), rtol=1e-4, atol=1e-5
        )


class TestCorrectBias:
    def test_means_are_those_of_the_float_model(
        self, simulator: Simulator, images: np.ndarray
    ) -> None:
        scheme = QuantScheme(W2A8.weights, FLOAT, FLOAT)
        nearest = rounding.nearest(simulator, scheme)
        corrected = rounding.correct_bias(simulator, nearest, images)
        assert corrected.integers == nearest.integers

        def means(model: keras.Model, name: str) -> np.ndarray:
            probe = keras.Model(model.inputs[0], model.get_layer(name).output)
            values = models.predict(probe, images)
            return values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)

        for name in simulator.weights:
            expected = means(simulator.model, name)
            np.testing.assert_allclose(means(corrected.model, name), expected, atol=1e-4)
            assert not np.allclose(means(nearest.model, name), expected, atol=1e-2)


class TestFiles:
    def test_round_trip(self, simulator: Simulator, baseline: keras.Model, tmp_path: Path) -> None:
        scheme = W2A8.with_layer("conv2", None)
        before = rounding.nearest(simulator, scheme)
        after = rounding.restore(rounding.save(before, tmp_path / "a.npz"), baseline)
        assert after.params == before.params
        for name in ("integers", "biases"):
            old, new = getattr(before, name), getattr(after, name)
            assert list(old) == list(new)
            assert all(np.array_equal(old[key], new[key]) for key in old)
        for old, new in zip(before.model.get_weights(), after.model.get_weights(), strict=True):
            assert np.array_equal(old, new)

    def test_damage(self, small: Simulator, baseline: keras.Model, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        with pytest.raises(FileNotFoundError, match="missing"):
            rounding.restore(path, baseline)
        rounding.save(rounding.nearest(small, W2A8), path)
        with pytest.raises(ValueError, match="layers are not those of model baseline"):
            rounding.restore(path, baseline)
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(ValueError, match="damaged"):
            rounding.restore(path, baseline)

    def test_way_out(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(shipped, "shipped_path", lambda name: tmp_path / "none.npz")
        with pytest.raises(FileNotFoundError, match="git checkout"):
            rounding.load("W2A8 best")
        with pytest.raises(ValueError, match=r"name must be one of W4A8 nearest, .*got 'W1A8'"):
            rounding.load("W1A8")
        with pytest.raises(FileNotFoundError, match=r"results are missing.*rounding\.results"):
            rounding.load_results(tmp_path / "none.json")
        (tmp_path / "some.json").write_text('{"schemes": {"W2A8": {"gptq": {"runs": [1]}}}}')
        with pytest.raises(ValueError, match="results are damaged"):
            rounding.load_results(tmp_path / "some.json")


class TestBadInput:
    def test_images(self, simulator: Simulator, images: np.ndarray) -> None:
        methods = (
            lambda given: rounding.gptq(simulator, W2A8, given),
            lambda given: rounding.adaround(simulator, W2A8, given, steps=1),
            lambda given: rounding.refine(simulator, nearest, given),
            lambda given: rounding.correct_bias(simulator, nearest, given),
        )
        nearest = rounding.nearest(simulator, W2A8)
        broken = images.copy()
        broken[3, 5, 5] = np.nan
        for method in methods:
            with pytest.raises(ValueError, match="images must have the shape"):
                method(images[:0])
            with pytest.raises(ValueError, match="images must be finite"):
                method(broken)
            with pytest.raises(ValueError, match="images must hold floats"):
                method((images * 255).astype(np.uint8))
        for method in methods[:3]:
            with pytest.raises(ValueError, match=r"layer conv1: 5 make 3920 rows.*least 10 images"):
                method(images[:5])
        with pytest.raises(
            ValueError,
            match=r"logits: 100 make 100 rows.* has 800 inputs\. Give at least 200 images",
        ):
            methods[0](images)
        methods[3](images[:1])  # a mean needs no Hessian

    def test_options(self, simulator: Simulator, images: np.ndarray) -> None:
        with pytest.raises(ValueError, match="scales must be one of scheme, nearest, gptq"):
            rounding.gptq(simulator, W2A8, images, scales="mse")
        with pytest.raises(ValueError, match="damp must be at least 0"):
            rounding.gptq(simulator, W2A8, images, damp=-0.1)
        with pytest.raises(ValueError, match="steps must be at least 1"):
            rounding.adaround(simulator, W2A8, images, steps=0)
        with pytest.raises(ValueError, match="sweeps must be at least 1"):
            rounding.refine(simulator, rounding.nearest(simulator, W2A8), images, sweeps=0)
        with pytest.raises(ValueError, match="relu6 must be one of keep, relu"):
            rounding.equalize(simulator.model, relu6="clip")

    def test_nothing_to_round(self, images: np.ndarray) -> None:
        image = keras.Input((28, 28, 1))
        pooled = keras.layers.AveragePooling2D(7)(image)
        bare = Simulator(keras.Model(image, pooled, name="bare"), images)
        with pytest.raises(ValueError, match="model bare has no layer with weights"):
            rounding.gptq(bare, W2A8, images)
        with pytest.raises(ValueError, match="model bare has no layer with weights"):
            rounding.nearest(bare, W2A8)

    def test_schemes(self, small: Simulator, images: np.ndarray) -> None:
        with pytest.raises(ValueError, match="leaves the weights of every layer in float"):
            rounding.nearest(small, replace(W2A8, weights=FLOAT))
        with pytest.raises(ValueError, match="layer conv have 9 bits"):
            rounding.gptq(small, named_scheme(9, 8), images)

    def test_another_model(
        self, small: Simulator, simulator: Simulator, images: np.ndarray
    ) -> None:
        with pytest.raises(ValueError, match=r"layers conv, depth, dense, which are not those"):
            rounding.correct_bias(simulator, rounding.nearest(small, W2A8), images)


class TestShipped:
    @pytest.fixture(scope="class")
    @classmethod
    def found(cls) -> dict[str, dict[str, rounding.Figures]]:
        return rounding.load_results()

    def test_results_hold_every_run(self, found: dict[str, dict[str, rounding.Figures]]) -> None:
        file = json.loads(shipped.RESULTS.read_text())
        assert list(found) == list(results.SCHEMES)
        for scheme, methods in found.items():
            assert list(methods) == list(results.METHODS)
            for method, figures in methods.items():
                entry = file["schemes"][scheme][method]
                assert [run["draw"] for run in entry["runs"]] == list(results.DRAWS)
                assert entry["mean"] == pytest.approx(figures.mean, abs=1e-6)
                assert entry["spread"] == pytest.approx(figures.spread, abs=1e-6)
                assert entry["seconds"] == figures.seconds
        trained = json.loads(results._QAT.read_text())["models"]
        for name, mean in file["qat"].items():
            accuracies = [run["accuracy"] for run in trained[name]["runs"]]
            assert mean == pytest.approx(np.mean(accuracies), abs=1e-6)

    def test_the_lesson_rests_on_these_bounds(
        self, found: dict[str, dict[str, rounding.Figures]]
    ) -> None:
        for scheme, least in (("W4A8", 0.994), ("W3A8", 0.9938), ("W2A8", 0.988)):
            assert found[scheme]["best"].mean >= least
            assert found[scheme]["best"].seconds <= 60
        for methods in found.values():
            assert methods["best"].mean > methods["gptq"].mean - 0.0005
            assert methods["best"].mean > methods["nearest"].mean
        assert found["W2A8"]["nearest"].mean < 0.9 < 0.97 < found["W2A8"]["gptq"].mean

    @pytest.mark.parametrize("name", ["W2A8 best", "W3A8 gptq"])
    def test_a_shipped_model_has_the_accuracy_of_its_first_draw(
        self,
        name: str,
        found: dict[str, dict[str, rounding.Figures]],
        data: mnist.Mnist,
        x_test: np.ndarray,
    ) -> None:
        scheme, method = name.split()
        accuracy = metrics.accuracy(outputs(rounding.load(name), x_test), data.y_test)
        # Sums in another order, on another processor, can move a few values over an edge.
        assert accuracy == pytest.approx(found[scheme][method].accuracies[0], abs=0.0003)

    def test_every_shipped_model_is_there(self) -> None:
        assert {path.stem.replace("_", " ") for path in shipped.FOLDER.iterdir()} == set(
            rounding.SHIPPED
        )
        for name in rounding.SHIPPED:
            rounded = rounding.load(name)
            assert {p.bits for p in rounded.params.weights.values()} == {int(name[1])}
            for layer, q in rounded.integers.items():
                chosen = rounded.params.weights[layer]
                assert np.array_equal(quantize(dequantize(q, chosen), chosen), q)

    def test_the_command_goes_on_where_it_was(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, simulator: Simulator
    ) -> None:
        made = []

        class Draw:
            def __init__(self, seed: int) -> None:
                self.seed = seed

            def rounded(self, scheme: str, method: str) -> tuple[rounding.Rounded, float]:
                made.append((scheme, method, self.seed))
                return small, 1.0

        small = rounding.nearest(simulator, W2A8)
        monkeypatch.setattr(results, "_methods", Draw)
        monkeypatch.setattr(results, "_accuracy", lambda *_: 0.5 + made[-1][2] / 10)
        command = ["results", "--workers", "0", "--folder", str(tmp_path)]
        command += ["W2A8", "--methods", "gptq"]
        monkeypatch.setattr("sys.argv", command)
        results.main()
        assert made == [("W2A8", "gptq", seed) for seed in results.DRAWS]
        results.main()
        assert len(made) == 3
        monkeypatch.setattr("sys.argv", [*command, "nearest", "--again"])
        results.main()
        assert len(made) == 9
        found = rounding.load_results(tmp_path / "rounding.json")
        assert list(found["W2A8"]) == ["nearest", "gptq"]
        assert found["W2A8"]["gptq"].accuracies == (0.5, 0.6, 0.7)
        assert found["W2A8"]["gptq"].spread == pytest.approx(0.2)
        assert sorted(path.name for path in (tmp_path / "rounding").iterdir()) == [
            "W2A8_gptq.npz",
            "W2A8_nearest.npz",
        ]
        monkeypatch.setattr("sys.argv", ["results", "W1A1"])
        with pytest.raises(SystemExit):
            results.main()
