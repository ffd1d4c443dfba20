"""Models of several inputs and outputs, against the files that TensorFlow makes of them."""

import pickle
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from quant_tutorial import flatbuffer, metrics, models, qat, rounding, tflite
from quant_tutorial.frameworks import tf
from quant_tutorial.scheme import IN_FLOAT, QuantScheme, named_scheme
from quant_tutorial.simulate import (
    ModelParams,
    Simulator,
    StagedRun,
    layer_sensitivity,
    nodes,
    prepare,
    search_bits,
    simulate,
    with_params,
)
from quant_tutorial.tflite.interpreter import make_interpreter

import coverage_models
import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow
layers = keras.layers


@dataclass(frozen=True)
class Case:
    """A model, simulated and converted."""

    model: keras.Model
    images: Any
    simulator: Simulator
    params: ModelParams
    file: bytes

    @cached_property
    def floats(self) -> list[np.ndarray]:
        return flat(models.predict(self.model, self.images))

    @cached_property
    def simulated(self) -> Any:
        """What the simulated model computes, in its structure."""
        return models.predict(self.simulator.simulated(self.params), self.images)


def flat(outputs: Any) -> list[np.ndarray]:
    return keras.tree.flatten(outputs)


def converted(model: keras.Model, images: Any, folder: str) -> bytes:
    """Convert a model with TensorFlow alone: inputs by name, and outputs by number."""
    given = images if isinstance(images, dict) else {"image": images}
    module = tf.Module()
    module.held = [variable.value for variable in model.variables]

    def serve(*values: Any) -> dict[str, Any]:
        ordered = [values[list(given).index(name)] for name in models.input_names(model)]
        outputs = model(keras.tree.pack_sequence_as(model.input, ordered), training=False)
        return {f"out_{number}": x for number, x in enumerate(flat(outputs))}

    specs = [tf.TensorSpec((1, *x.shape[1:]), name=name) for name, x in given.items()]
    signature = tf.function(serve, input_signature=specs).get_concrete_function()
    tf.saved_model.save(module, folder, signatures=signature)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    count = len(next(iter(given.values())))
    converter.representative_dataset = lambda: (
        {name: x[i : i + 1] for name, x in given.items()} for i in range(count)
    )
    return converter.convert()


def run(file: bytes, images: Any, kernels: str = "default") -> tuple[list[np.ndarray], list[float]]:
    """Return the real values of a file's outputs, and their scales, by LiteRT's signature."""
    runner = make_interpreter(file, kernels=kernels).get_signature_runner()
    given = images if isinstance(images, dict) else {"image": images}
    integers = {}
    for name, details in runner.get_input_details().items():
        scale, zero_point = details["quantization"]
        steps = np.rint(given[name] / scale) + zero_point
        integers[name] = np.clip(steps, -128, 127).astype(np.int8)
    count = len(next(iter(integers.values())))
    rows = [
        {name: x.copy() for name, x in runner(**part).items()}
        for part in ({name: x[i : i + 1] for name, x in integers.items()} for i in range(count))
    ]
    details = dict(sorted(runner.get_output_details().items()))
    values, scales = [], []
    for name, about in details.items():
        scale, zero_point = about["quantization"]
        found = np.concatenate([row[name] for row in rows])
        values.append((found.astype(np.float32) - zero_point) * scale)
        scales.append(scale)
    return values, scales


@pytest.fixture(scope="module", params=coverage_models.SEVERAL)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    model = coverage_models.settled(coverage_models.SEVERAL[request.param])
    images = coverage_models.images_for(model)
    simulator = Simulator(model, images)
    file = converted(model, images, str(tmp_path_factory.mktemp("saved")))
    return Case(model, images, simulator, simulator.params(QuantScheme()), file)


def compare_with_file(expected: list[np.ndarray], file: bytes, images: Any) -> None:
    """Compare a simulation's outputs with those of a file, in steps of each output."""
    outputs = flat(tflite.predict(file, images))
    exits = tflite.inputs_outputs(file)[1].values()
    for one, other, exit_ in zip(expected, outputs, exits, strict=True):
        off = np.abs(one - other) / exit_.params.scale
        assert off.max() < 2.01
        assert np.mean(off > 0.5) < 0.2


class TestModels:
    def test_prepare_keeps_outputs_and_structure(self, case: Case) -> None:
        prepared = prepare(case.model)
        for ours, theirs in (
            (prepared.input, case.model.input),
            (prepared.output, case.model.output),
        ):
            keras.tree.assert_same_structure(ours, theirs)
        got = flat(models.predict(prepared, case.images))
        for one, other in zip(case.floats, got, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)

    def test_the_same_parameters_as_the_file(self, case: Case) -> None:
        theirs = {
            (int(tensor.zero_points[0]), float(tensor.scales[0]))
            for tensor in flatbuffer.graph(case.file).tensors
            if tensor.kind in flatbuffer.FLOWING and len(tensor.scales) == 1
        }
        ours = {(p.zero_point, p.scale) for p in case.params.activations.values()}
        for some, others in ((ours, theirs), (theirs, ours)):
            for zero_point, scale in some:
                assert any(z == zero_point and abs(s / scale - 1) < 1e-4 for z, s in others)

    def test_as_close_to_the_file_as_its_kernels(self, case: Case) -> None:
        default, scales = run(case.file, case.images)
        reference, _ = run(case.file, case.images, "reference")
        ours = flat(case.simulated)
        for mine, theirs, others, scale in zip(ours, default, reference, scales, strict=True):
            assert mine.shape == theirs.shape
            allowed = max(1, np.rint(np.abs(theirs - others).max() / scale))
            off = np.abs(mine - theirs) / scale
            assert off.max() < allowed + 0.01
            assert np.mean(off > 0.5) < 0.15
            assert len(np.unique(theirs)) > 8

    def test_one_stage_after_another(self, case: Case) -> None:
        ours = case.simulated
        staged = StagedRun(case.simulator, case.images, threads=1)
        found = staged.outputs(case.params)
        keras.tree.assert_same_structure(found, case.model.output)
        for one, other in zip(flat(ours), flat(found), strict=True):
            step = np.ptp(one) / 200
            assert np.abs(one - other).max() < 1.5 * step
            assert np.mean(np.abs(one - other) > step / 2) < 0.02
        sample = staged.sample(10)
        for one, other in zip(flat(found), flat(staged.outputs(case.params, 10)), strict=True):
            np.testing.assert_array_equal(one[sample], other)

    def test_trains_with_a_loss_for_each_output(self, case: Case) -> None:
        trainable = qat.quantize_aware(case.model, QuantScheme(), case.images)
        before = models.predict(trainable, case.images)
        wanted = case.simulated
        for one, other in zip(flat(before), flat(wanted), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        losses = keras.tree.map_structure(lambda _: "mse", wanted)
        targets = keras.tree.map_structure(np.zeros_like, wanted)
        trainable.compile(keras.optimizers.SGD(1e-2), losses, run_eagerly=True)
        trainable.train_on_batch(case.images, targets)
        trained = flat(models.predict(qat.frozen(trainable), case.images))
        for one, other in zip(trained, flat(before), strict=True):
            assert np.abs(one - other).max() > 0
        # The export compares the file with the simulation by itself, on random numbers.
        file = qat.int8_file(trainable)
        assert tflite.inspect(file).integer_only
        compare_with_file(trained, file, case.images)

    def test_rounding(self, case: Case) -> None:
        scheme, floats = named_scheme(3, 8), case.floats

        def error(found: rounding.Rounded) -> float:
            outputs = flat(models.predict(with_params(found.model, found.params), case.images))
            return sum(
                float(np.mean((a - b) ** 2) / np.var(b))
                for a, b in zip(outputs, floats, strict=True)
            )

        nearest = rounding.nearest(case.simulator, scheme)
        better = rounding.gptq(case.simulator, scheme, case.images)
        learned = rounding.adaround(case.simulator, scheme, case.images, steps=100)
        corrected = rounding.correct_bias(case.simulator, nearest, case.images)
        errors = [error(found) for found in (nearest, better, learned, corrected)]
        assert max(errors[1:]) < errors[0]
        simulated = models.predict(with_params(better.model, better.params), case.images)
        compare_with_file(flat(simulated), rounding.int8_file(better), case.images)
        equal = flat(models.predict(rounding.equalize(case.model), case.images))
        for one, other in zip(equal, floats, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


class TestInputs:
    """Two inputs of one shape, where a mistake would not be noticed."""

    @pytest.fixture
    def pair(self) -> tuple[keras.Model, dict[str, np.ndarray]]:
        keras.utils.set_random_seed(0)
        low, high = (keras.Input((4,), name=name) for name in ("low", "high"))
        x = layers.Dense(3, name="of_low")(low) - layers.Dense(3, name="of_high")(high)
        model = keras.Model([low, high], layers.Dense(2, name="answer")(x))
        random = np.random.default_rng(0)
        arrays = {name: random.uniform(0, top, (20, 4)) for name, top in (("high", 9), ("low", 1))}
        return model, {name: x.astype(np.float32) for name, x in arrays.items()}

    def test_each_gets_its_own(self, pair: tuple[keras.Model, dict[str, np.ndarray]]) -> None:
        model, given = pair
        listed = [given["low"], given["high"]]
        for images in (given, listed, tuple(listed)):
            simulator = Simulator(model, images)
            params = simulator.params(QuantScheme())
            assert params.activations["low"].maximum == pytest.approx(given["low"].max(), rel=0.01)
            assert params.activations["high"].maximum == pytest.approx(
                given["high"].max(), rel=0.01
            )
            expected = models.predict(model, listed)
            staged = StagedRun(simulator, images, threads=1)
            for outputs in (
                models.predict(simulate(model, QuantScheme(), images), images),
                staged.outputs(params),
                models.predict(qat.quantize_aware(model, QuantScheme(), images), images),
            ):
                np.testing.assert_allclose(outputs, expected, atol=0.05 * np.ptp(expected))
            staged.set_images({name: 0 * x for name, x in given.items()})
            assert np.ptp(staged.outputs(params), axis=0).max() == 0

    def test_a_list_model_inside_is_called_with_names(
        self, pair: tuple[keras.Model, dict[str, np.ndarray]]
    ) -> None:
        inner, given = pair
        ends = {name: keras.Input((4,), name=name) for name in ("high", "low")}
        model = keras.Model(ends, inner(ends))
        expected = models.predict(inner, given)
        np.testing.assert_allclose(models.predict(model, given), expected, atol=1e-5)
        np.testing.assert_allclose(models.predict(prepare(model), given), expected, atol=1e-5)

    def test_keys_that_are_other_names_than_those_of_the_inputs(self) -> None:
        keras.utils.set_random_seed(0)
        one, other = keras.Input((4,), name="dense"), keras.Input((4,), name="other")
        y = layers.Dense(3, name="first")(one) - layers.Dense(3, name="second")(other)
        with pytest.warns(UserWarning, match="keys in the dict must match the names"):
            model = keras.Model({"first": one, "b": other}, y)
        random = np.random.default_rng(0)
        given = {name: random.uniform(0, 1, (8, 4)).astype("float32") for name in ("first", "b")}
        expected = models.predict(model, given)
        np.testing.assert_allclose(models.predict(prepare(model), given), expected, atol=1e-5)
        assert sorted(n.name for n in nodes(prepare(model)) if not n.sources) == ["b", "first"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x: x["low"], r"calibration must hold an array for each of the model's 2 input"),
            (lambda x: {"low": x["low"]}, "'high' is missing"),
            (lambda x: x | {"high": x["high"][:3]}, "same number of examples for each input"),
            (
                lambda x: x | {"high": x["high"][:, :2]},
                r"calibration\['high'\] must have the shape",
            ),
        ],
    )
    def test_wrong_calibration_is_refused_by_name(
        self, pair: tuple[keras.Model, dict[str, np.ndarray]], change: Any, message: str
    ) -> None:
        model, given = pair
        with pytest.raises(ValueError, match=message):
            Simulator(model, change(given))


def unread() -> keras.Model:
    one, other = (keras.Input((4,), name=name) for name in ("one", "other"))
    return keras.Model([one, other], layers.Dense(2)(one))


def returned() -> keras.Model:
    one = keras.Input((4,), name="one")
    return keras.Model(one, [layers.Dense(2)(one), layers.Dropout(0.5)(one)])


def words() -> keras.Model:
    image, word = keras.Input((4,), name="image"), keras.Input((2,), dtype="int32", name="word")
    known = layers.Flatten()(layers.Embedding(10, 3)(word))
    return keras.Model([image, word], layers.Dense(2)(layers.Concatenate()([image, known])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (unread, "no layer reads its input other: give"),
        (returned, "returns its input as it is: give"),
        (words, "its input word holds int32 values"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(make())


def test_sensitivity_of_a_chosen_output() -> None:
    model = coverage_models.settled(coverage_models.photo_and_facts)
    model = keras.Model(
        model.input, {"answer": model.output, "known": model.get_layer("dense").output}
    )
    images = coverage_models.images_for(model)
    simulator = Simulator(model, images)
    run = StagedRun(simulator, images, threads=1)
    labels = models.predict(model, images)["answer"].argmax(axis=1)
    rows = layer_sensitivity(simulator, run, labels, named_scheme(2, 8), output="answer")
    found = {row.layer: row for row in rows}
    floats = models.predict(model, images)["answer"]
    alone = simulate(
        model, IN_FLOAT.with_layer("dense", named_scheme(2, 8).for_layer("dense")), images
    )
    expected = metrics.sqnr_db(floats, models.predict(alone, images)["answer"])
    assert found["dense"].alone_db == pytest.approx(expected, abs=0.5)
    known = layer_sensitivity(
        simulator, run, labels, named_scheme(2, 8), ["answer"], output="known"
    )
    assert known[0].alone_db == np.inf  # a layer that this output is not computed from
    search = search_bits(
        simulator, run, labels, QuantScheme(), accuracy=0.0, widths=(8, 2), output="answer"
    )
    assert search.chosen.bits == dict.fromkeys(simulator.weights, 2)
    for output in (None, "guess", 0):
        with pytest.raises(ValueError, match="one of 'answer', 'known', got"):
            layer_sensitivity(simulator, run, labels, QuantScheme(), output=output)
    assert pickle.loads(pickle.dumps(simulator)).params(QuantScheme()) == simulator.params(
        QuantScheme()
    )
