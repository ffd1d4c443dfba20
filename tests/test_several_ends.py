"""Models of several inputs and outputs, against the files that TensorFlow makes of them."""

import pickle
from dataclasses import dataclass
from functools import cache
from typing import Any

from quant_tutorial import models, qat, rounding
from quant_tutorial.affine import QuantParams
from quant_tutorial.frameworks import tf
from quant_tutorial.scheme import QuantScheme, named_scheme
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


def flat(outputs: Any) -> list[np.ndarray]:
    return keras.tree.flatten(outputs)


def converted(model: keras.Model, images: Any, folder: str) -> bytes:
    """Convert a model with TensorFlow alone: inputs by name, and outputs by number."""
    given = images if isinstance(images, dict) else {"image": images}
    module = tf.Module()
    module.model = model

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


class TestSimulation:
    def test_prepare_keeps_outputs_and_structure(self, case: Case) -> None:
        prepared = prepare(case.model)
        for ours, theirs in (
            (prepared.input, case.model.input),
            (prepared.output, case.model.output),
        ):
            keras.tree.assert_same_structure(ours, theirs)
        wanted, got = (models.predict(m, case.images) for m in (case.model, prepared))
        for one, other in zip(flat(wanted), flat(got), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)

    def test_the_same_parameters_as_the_file(self, case: Case) -> None:
        theirs = {
            (d["quantization"][1], d["quantization"][0])
            for d in make_interpreter(case.file, kernels="reference").get_tensor_details()
            if d["dtype"] is np.int8
            and len(d["quantization_parameters"]["scales"]) == 1
            and d["shape_signature"].size
            and d["shape"][0] == 1
        }
        ours = {(p.zero_point, p.scale) for p in case.params.activations.values()}
        print(sorted(ours), sorted(theirs), sep="\n")
        for zero_point, scale in ours:
            assert any(z == zero_point and abs(s / scale - 1) < 1e-4 for z, s in theirs)

    def test_as_close_to_the_file_as_its_kernels(self, case: Case) -> None:
        default, scales = run(case.file, case.images)
        reference, _ = run(case.file, case.images, "reference")
        ours = flat(models.predict(case.simulator.simulated(case.params), case.images))
        for mine, theirs, others, scale in zip(ours, default, reference, scales, strict=True):
            assert mine.shape == theirs.shape
            allowed = max(1, np.rint(np.abs(theirs - others).max() / scale))
            off = np.abs(mine - theirs) / scale
            print(off.max(), np.mean(off > 0.5), allowed)
            assert off.max() < allowed + 0.01
            assert np.mean(off > 0.5) < 0.15
            assert len(np.unique(theirs)) > 8

    def test_one_stage_after_another(self, case: Case) -> None:
        ours = models.predict(case.simulator.simulated(case.params), case.images)
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
        wanted = models.predict(case.simulator.simulated(case.params), case.images)
        for one, other in zip(flat(before), flat(wanted), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        losses = keras.tree.map_structure(lambda _: "mse", wanted)
        targets = keras.tree.map_structure(np.zeros_like, wanted)
        trainable.compile(keras.optimizers.SGD(1e-2), losses, run_eagerly=True)
        trainable.train_on_batch(case.images, targets)
        trained = models.predict(qat.frozen(trainable), case.images)
        for one, other in zip(flat(trained), flat(before), strict=True):
            assert np.abs(one - other).max() > 0

    def test_rounding(self, case: Case) -> None:
        scheme, floats = named_scheme(3, 8), flat(models.predict(case.model, case.images))

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
        print(errors)
        assert max(errors[1:]) < errors[0]
        equal = flat(models.predict(rounding.equalize(case.model), case.images))
        for one, other in zip(equal, floats, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())
