"""Quantization-aware training: against TensorFlow's ops, finite differences and `simulate`."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quant_tutorial import metrics, mnist, models, qat, simulate
from quant_tutorial.affine import QuantParams, params_from_range
from quant_tutorial.scheme import FLOAT, LayerScheme, QuantScheme, TensorScheme
from quant_tutorial.simulate import Simulator, StagedRun, nodes

import keras
import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.slow

RANGES = ("learned", "moving_average", "fixed")
FURTHER = [("baseline", ranges) for ranges in RANGES] + [
    ("separable", "learned"),
    ("residual", "moving_average"),
]


def scheme(
    weights: int | None, activations: int | None, granularity: str = "channel-wise", **more: Any
) -> QuantScheme:
    return QuantScheme(
        TensorScheme(weights, True, granularity, "mse"), TensorScheme(activations), **more
    )


ODD = QuantScheme(TensorScheme(5, symmetric=False), TensorScheme(6, symmetric=True))
MIXED = scheme(3, 8, overrides={"conv1": None, "logits": LayerScheme(TensorScheme(8))})


def compiled(
    model: keras.Model, rate: float = 1e-3, *, from_logits: bool = True, eager: bool = False
) -> keras.Model:
    """`eager`: for a few steps, which take less time than to trace them as a graph first."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], run_eagerly=eager)
    # An optimizer that first makes its variables in a step has TensorFlow trace that step twice.
    model.optimizer.build(model.trainable_variables)
    return model


def through(x: Any, params: QuantParams, **more: Any) -> tf.Tensor:
    scale, zero_point = np.float32(params.scale), np.float32(params.zero_point)
    return qat.straight_through(x, scale, zero_point, params.qmin, params.qmax, **more)


class TestStraightThrough:
    @pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
    @pytest.mark.parametrize("ends", [(-1.5, 4.0), (0.0, 3.0), (-2.0, 2.0)])
    def test_gradient_as_tensorflows_own(self, bits: int, ends: tuple[float, float]) -> None:
        rng = np.random.default_rng(bits)
        x = tf.constant(rng.normal(0, 3, 5000).astype(np.float32))
        upstream = tf.constant(rng.normal(0, 1, 5000).astype(np.float32))
        params = params_from_range(*ends, bits)
        low, high = np.float32(params.minimum), np.float32(params.maximum)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = through(x, params)
        ours = tape.gradient(y, x, upstream)
        theirs, of_low, of_high = tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
            gradients=upstream, inputs=x, min=low, max=high, num_bits=bits
        )
        np.testing.assert_array_equal(ours, theirs)
        assert 0 < np.mean(np.asarray(ours) == 0) < 1  # some are outside, some inside

        # TensorFlow trains the ends, here it is the scale: ends = (qmin − z)·s and (qmax − z)·s.
        # Outside the range the one gradient follows from the other by the chain rule.
        outside = (x < low) | (x > high)
        scale = tf.constant(np.float32(params.scale))
        with tf.GradientTape() as tape:
            tape.watch(scale)
            y = qat.straight_through(
                tf.boolean_mask(x, outside),
                scale,
                np.float32(params.zero_point),
                params.qmin,
                params.qmax,
            )
        mine = tape.gradient(y, scale, tf.boolean_mask(upstream, outside))
        steps = params.qmin - params.zero_point, params.qmax - params.zero_point
        expected = float(of_low) * steps[0] + float(of_high) * steps[1]
        assert float(mine) == pytest.approx(expected, rel=1e-4, abs=1e-3)

    @pytest.mark.parametrize("bits", [2, 4, 8])
    def test_per_channel_gradient_as_tensorflows_own(self, bits: int) -> None:
        rng = np.random.default_rng(bits)
        kernel = tf.constant(rng.normal(0, 1, (3, 3, 4, 6)).astype(np.float32))
        upstream = tf.constant(rng.normal(0, 1, (3, 3, 4, 6)).astype(np.float32))
        limits = np.linspace(0.5, 2, 6)
        params = params_from_range(
            -limits, limits, bits, symmetric=True, narrow_range=True, axis=-1
        )
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            y = through(kernel, params)
        theirs = tf.raw_ops.FakeQuantWithMinMaxVarsPerChannelGradient(
            gradients=upstream,
            inputs=kernel,
            min=np.float32(params.minimum),
            max=np.float32(params.maximum),
            num_bits=bits,
            narrow_range=True,
        )[0]
        np.testing.assert_array_equal(tape.gradient(y, kernel, upstream), theirs)

    @pytest.mark.parametrize("bits", [2, 3, 8])
    @pytest.mark.parametrize("channels", [False, True])
    def test_gradient_of_the_scale_by_finite_differences(self, bits: int, channels: bool) -> None:
        """With the rounding error of each value held still, the map is smooth almost everywhere."""
        rng = np.random.default_rng(bits)
        x = rng.normal(0, 1, (200, 3))
        scale = np.array([0.3, 0.5, 0.9]) if channels else np.array(0.5)
        zero_point, qmin, qmax = 1.0, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        upstream = rng.normal(0, 1, x.shape)
        held = np.rint(x / scale) - x / scale

        def smooth(scale: np.ndarray) -> float:
            steps = x / scale
            clipped = np.clip(steps, qmin - zero_point, qmax - zero_point)
            inside = clipped == steps
            return float(np.sum(upstream * scale * np.where(inside, steps + held, clipped)))

        step = 1e-6
        each = [np.eye(3)[i] * step for i in range(3)] if channels else [np.array(step)]
        expected = [(smooth(scale + d) - smooth(scale - d)) / (2 * step) for d in each]
        variable = tf.Variable(scale.astype(np.float32))
        with tf.GradientTape() as tape:
            y = qat.straight_through(x.astype(np.float32), variable, zero_point, qmin, qmax)
        ours = tape.gradient(y, variable, upstream.astype(np.float32))
        np.testing.assert_allclose(np.ravel(ours), expected, rtol=1e-3, atol=1e-2)

    def test_the_staircase_itself_has_no_gradient(self) -> None:
        x = tf.constant([0.1, 0.4, 0.9])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = keras.ops.round(x)
        assert not np.any(tape.gradient(y, x))


class TestForward:
    @pytest.mark.parametrize(
        ("ranges", "chosen"),
        [
            ("learned", scheme(8, 8)),
            ("learned", scheme(2, 2)),
            ("learned", scheme(4, 16, "layer-wise")),
            ("fixed", scheme(16, 3)),
            ("fixed", scheme(3, 3, "tensor-wise")),
            ("learned", MIXED),
            ("moving_average", MIXED),
            ("learned", ODD),
            ("moving_average", ODD),
            ("learned", scheme(None, 4)),
            ("learned", scheme(4, None)),
        ],
    )
    def test_at_the_start_as_simulated(
        self,
        ranges: qat.Ranges,
        chosen: QuantScheme,
        baseline: keras.Model,
        simulator: Simulator,
        calibration: np.ndarray,
        x_test: np.ndarray,
    ) -> None:
        if ranges == "moving_average":  # weights follow their largest magnitude
            weights = TensorScheme(chosen.weights.bits, chosen.weights.symmetric)
            chosen = QuantScheme(weights, chosen.activations, overrides=chosen.overrides)
        model = qat.quantize_aware(baseline, chosen, calibration, ranges=ranges)
        expected = simulator.simulated(simulator.params(chosen))
        ours, theirs = (models.predict(m, x_test[:500]) for m in (model, expected))
        if ranges == "moving_average":  # its scales are computed in float32
            assert metrics.agreement(ours.argmax(axis=1), theirs.argmax(axis=1)) >= 0.99
            assert metrics.sqnr_db(theirs, ours) > 20
        else:
            np.testing.assert_array_equal(ours, theirs)

    @pytest.mark.parametrize(("kind", "ranges"), FURTHER)
    def test_after_training_as_simulated(
        self,
        kind: str,
        ranges: qat.Ranges,
        further: dict,
        baseline: keras.Model,
        data: mnist.Mnist,
        calibration: np.ndarray,
        x_test: np.ndarray,
    ) -> None:
        start = baseline if kind == "baseline" else further[kind]
        model = qat.quantize_aware(start, scheme(4, 5), calibration, ranges=ranges)
        before = qat.trained_params(model)
        # One of them as a graph, in which the moving averages have to be kept as well.
        eager = (kind, ranges) != ("baseline", "moving_average")
        compiled(model, from_logits=kind != "residual", eager=eager)
        model.fit(calibration[:100], data.y_train[:100], batch_size=50, verbose=0)
        after = qat.trained_params(model)
        assert (before.activations == after.activations) == (ranges == "fixed")
        assert (before.weights == after.weights) == (ranges == "fixed")

        frozen = qat.frozen(model)
        given = models.predict(model, x_test[:200])
        np.testing.assert_array_equal(given, models.predict(frozen, x_test[:200]))
        plain = qat.float_model(model)
        assert [n.name for n in nodes(plain)] == list(after.activations)
        run = StagedRun(Simulator(plain, calibration), x_test[:200])
        staged = run.outputs(after)
        assert metrics.agreement(given.argmax(axis=1), staged.argmax(axis=1)) >= 0.99

    @pytest.mark.parametrize("ranges", RANGES)
    def test_training_and_inference_compute_the_same(
        self, ranges: qat.Ranges, baseline: keras.Model, calibration: np.ndarray
    ) -> None:
        """No batch norm is left whose statistics would differ; a range may move by the batch."""
        model = qat.quantize_aware(baseline, scheme(4, 4), calibration, ranges=ranges)
        assert not any(isinstance(x, keras.layers.BatchNormalization) for x in model.layers)
        if ranges != "moving_average":
            np.testing.assert_array_equal(
                model(calibration[:20], training=True), model(calibration[:20], training=False)
            )

    def test_folding_after_the_rounding_would_leave_the_levels(self, baseline: keras.Model) -> None:
        """Why batch norm is folded first: it multiplies channels, here by very different gains."""
        layer, norm = baseline.get_layer("conv2"), baseline.get_layer("bn2")
        gain = norm.gamma / keras.ops.sqrt(norm.moving_variance + norm.epsilon)
        folded = models.weights(models.fold_batch_norm(baseline))["conv2"]
        np.testing.assert_allclose(folded, layer.kernel * gain, rtol=1e-4, atol=1e-6)
        one = params_from_range(-1, 1, 4, symmetric=True, narrow_range=True)
        on_levels = np.asarray(through(layer.kernel.numpy(), one))
        moved = np.asarray(on_levels * gain)
        off = np.abs(moved / one.scale - np.rint(moved / one.scale))
        assert np.mean(off[on_levels != 0] > 0.01) > 0.9


class TestTraining:
    def test_it_learns_what_rounding_has_spoilt(
        self, baseline: keras.Model, data: mnist.Mnist, calibration: np.ndarray, x_test: np.ndarray
    ) -> None:
        keras.utils.set_random_seed(0)
        model = compiled(qat.quantize_aware(baseline, scheme(2, 2), calibration), 3e-3)
        images, labels = mnist.to_float(data.x_train[:4000]), data.y_train[:4000]

        def right() -> float:
            return metrics.accuracy(models.predict(model, x_test[:2000]), data.y_test[:2000])

        before = right()
        model.fit(images, labels, batch_size=64, epochs=2, verbose=0)
        assert before < 0.5
        assert right() > 0.85

    def test_a_whole_models_gradients_by_finite_differences(
        self, baseline: keras.Model, calibration: np.ndarray
    ) -> None:
        """For the bias of the last layer the loss is smooth: its output stays in float."""
        overrides = {"logits": LayerScheme(TensorScheme(4, True, "channel-wise"), FLOAT)}
        model = qat.quantize_aware(baseline, scheme(4, 4, overrides=overrides), calibration)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        labels = np.arange(20) % 10
        bias = model.get_layer("logits").layer.bias

        def value() -> float:
            return float(loss(labels, model(calibration[:20])))

        with tf.GradientTape() as tape:
            found = loss(labels, model(calibration[:20]))
        ours, start, step = tape.gradient(found, bias.value).numpy(), bias.numpy(), 1e-2
        for index in range(10):
            ends = []
            for sign in (1, -1):
                moved = start.copy()
                moved[index] += sign * step
                bias.assign(moved)
                ends.append(value())
            bias.assign(start)
            assert ours[index] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=2e-3)

    def test_every_trainable_weight_gets_a_gradient(
        self, baseline: keras.Model, calibration: np.ndarray
    ) -> None:
        model = qat.quantize_aware(baseline, scheme(3, 3), calibration)
        names = [w.path for w in model.trainable_weights]
        assert sum("growth" in name for name in names) == 4 + 5  # kernels; nodes with the input
        labels = np.arange(50) % 10
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        with tf.GradientTape() as tape:
            found = loss(labels, model(calibration[:50], training=True))
        gradients = tape.gradient(found, [w.value for w in model.trainable_weights])
        still = [n for n, g in zip(names, gradients, strict=True) if g is None or not np.any(g)]
        assert not still

    def test_fixed_ranges_have_nothing_to_train(
        self, baseline: keras.Model, calibration: np.ndarray
    ) -> None:
        model = qat.quantize_aware(baseline, scheme(3, 3), calibration, ranges="fixed")
        assert len(model.trainable_weights) == 8  # kernels and biases
        assert not model.non_trainable_weights

    def test_moving_average_follows_the_batches(
        self, baseline: keras.Model, simulator: Simulator, calibration: np.ndarray
    ) -> None:
        model = qat.quantize_aware(baseline, scheme(8, 8), calibration, ranges="moving_average")
        layer = model.get_layer("pool1_quant")
        before = float(layer.maximum)
        probe = keras.Model(model.inputs[0], layer.input)
        images = calibration[:1]
        largest = float(np.max(probe(images)))
        model(images, training=False)
        assert float(layer.maximum) == before
        model(images, training=True)
        # The range of the input moves first, by a hundredth: what is seen here hardly differs.
        expected = qat.layers.MOMENTUM * before + (1 - qat.layers.MOMENTUM) * largest
        assert abs(expected - before) > 1e-3 * before
        assert float(layer.maximum) == pytest.approx(expected, rel=1e-4)
        assert layer.params().maximum == pytest.approx(expected, rel=1e-2)


RESUME = """
import sys
from pathlib import Path
from quant_tutorial import mnist, models, qat
from quant_tutorial.scheme import QuantScheme, TensorScheme
import keras, numpy as np, tensorflow as tf

tf.config.experimental.enable_op_determinism()
data, baseline = mnist.load(), models.load_baseline()
images, labels = mnist.to_float(data.x_train[:128]), data.y_train[:128]
halves = (images[:64], labels[:64]), (images[64:], labels[64:])
options = {"batch_size": 32, "shuffle": False, "verbose": 0}
scheme = QuantScheme(TensorScheme(3, True, "channel-wise"), TensorScheme(4))
for ranges in ("learned", "moving_average"):
    file = Path(sys.argv[1]) / f"{ranges}.keras"
    model = qat.quantize_aware(baseline, scheme, images[:100], ranges=ranges)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, 4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, run_eagerly=True)  # no graph for four steps
    model.optimizer.build(model.trainable_variables)
    model.fit(*halves[0], **options)
    model.save(file)
    half = model.get_weights()
    model.fit(*halves[1], **options)
    resumed = keras.models.load_model(file)
    resumed.fit(*halves[1], **options)
    moved = 0
    for through, other, start in zip(model.get_weights(), resumed.get_weights(), half, strict=True):
        np.testing.assert_array_equal(through, other)
        moved += not np.array_equal(through, start)
    print(ranges, "moved", moved)
"""


def test_training_resumed_from_a_file_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    # In a process of its own, because it makes TensorFlow deterministic for good.
    command = [sys.executable, "-c", RESUME, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    moved = dict(re.findall(r"(\w+) moved (\d+)", done.stdout))
    assert all(int(moved[ranges]) >= 12 for ranges in ("learned", "moving_average"))


class TestSaving:
    @pytest.mark.parametrize(("kind", "ranges"), FURTHER)
    def test_a_saved_model_is_the_same(
        self,
        kind: str,
        ranges: qat.Ranges,
        further: dict,
        baseline: keras.Model,
        calibration: np.ndarray,
        x_test: np.ndarray,
        tmp_path: Path,
    ) -> None:
        start = baseline if kind == "baseline" else further[kind]
        model = qat.quantize_aware(start, scheme(4, 4), calibration, ranges=ranges)
        for layer in model.layers:
            if getattr(layer, "ranges", None) == "learned":
                layer.growth.assign(layer.growth + 0.1)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(
            models.predict(loaded, x_test[:50]), models.predict(model, x_test[:50])
        )
        assert qat.trained_params(loaded) == qat.trained_params(model)


class TestBadInput:
    def test_ranges(self, baseline: keras.Model, calibration: np.ndarray) -> None:
        with pytest.raises(ValueError, match="one of learned, moving_average, fixed, got 'free'"):
            qat.quantize_aware(baseline, scheme(4, 4), calibration, ranges="free")

    def test_tensor_wise_weights(self, baseline: keras.Model, calibration: np.ndarray) -> None:
        chosen = scheme(4, 4, "tensor-wise")
        with pytest.raises(ValueError, match=r"tensor-wise for layer conv1.*ranges='fixed'"):
            qat.quantize_aware(baseline, chosen, calibration)
        qat.quantize_aware(baseline, chosen, calibration, ranges="fixed")

    @pytest.mark.parametrize("function", [qat.float_model, qat.trained_params, qat.frozen])
    def test_a_model_without_quantization(self, function: Callable, baseline: keras.Model) -> None:
        with pytest.raises(ValueError, match=r"model baseline has no .*quantize_aware\(\)"):
            function(baseline)

    def test_calibration_and_overrides(
        self, baseline: keras.Model, calibration: np.ndarray
    ) -> None:
        with pytest.raises(ValueError, match=r"calibration must have the shape"):
            qat.quantize_aware(baseline, scheme(4, 4), calibration[0])
        with pytest.raises(ValueError, match=r"overrides\['conv9'\]"):
            qat.quantize_aware(baseline, scheme(4, 4, overrides={"conv9": None}), calibration)

    def test_the_given_model_is_not_changed(
        self, baseline: keras.Model, calibration: np.ndarray, data: mnist.Mnist
    ) -> None:
        before = baseline.get_weights()
        model = compiled(qat.quantize_aware(baseline, scheme(4, 4), calibration), eager=True)
        model.fit(calibration[:64], data.y_train[:64], verbose=0)
        for one, other in zip(before, baseline.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_simulated_models_cannot_be_confused(simulator: Simulator, calibration: np.ndarray) -> None:
    """A model with constant ranges is none that can be trained, and says so."""
    fixed = simulate.with_params(simulator.model, simulator.params(scheme(4, 4)))
    with pytest.raises(ValueError, match="FakeQuantize"):
        qat.quantize_aware(fixed, scheme(4, 4), calibration)
    with pytest.raises(ValueError, match="no trainable quantization"):
        qat.trained_params(fixed)
