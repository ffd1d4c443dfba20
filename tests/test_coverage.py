"""Every kind of layer that the course treats, against the files that the converter makes of it."""

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from quant_tutorial import flatbuffer, models, qat, tflite
from quant_tutorial.affine import QuantParams, dequantize, quantize
from quant_tutorial.scheme import QuantScheme
from quant_tutorial.simulate import ModelParams, Simulator, StagedRun, prepare

import applications
import coverage_models
import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Case:
    """A model, simulated and converted."""

    model: keras.Model
    images: np.ndarray
    simulator: Simulator
    params: ModelParams
    file: bytes

    @cached_property
    def simulated(self) -> np.ndarray:
        """What the simulated model computes."""
        return models.predict(self.simulator.simulated(self.params), self.images)

    @property
    def scale(self) -> float:
        return self.params.activations[self.simulator.nodes[-1].name].scale


@cache
def case(name: str) -> Case:
    model = coverage_models.settled(coverage_models.TOGETHER[name])
    images = coverage_models.images_for(model)
    simulator = Simulator(model, images)
    file = tflite.convert(model, "int8", calibration=images)
    return Case(model, images, simulator, simulator.params(QuantScheme()), file)


@pytest.mark.parametrize("name", coverage_models.SINGLE)
def test_prepare_keeps_the_outputs(name: str) -> None:
    model = coverage_models.settled(coverage_models.SINGLE[name])
    images = coverage_models.images_for(model, 8)
    wanted = models.predict(model, images)
    got = models.predict(prepare(model), images)
    assert np.ptp(wanted) > 0
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", coverage_models.TOGETHER)
def test_the_same_parameters_as_the_file(name: str) -> None:
    found = case(name)
    theirs = {
        (int(tensor.zero_points[0]), float(tensor.scales[0]))
        for tensor in flatbuffer.graph(found.file).tensors
        if tensor.kind in flatbuffer.FLOWING and len(tensor.scales) == 1
    }
    ours = {(chosen.zero_point, chosen.scale) for chosen in found.params.activations.values()}

    def missing(some: set, others: set) -> list:
        return [
            (zero_point, scale)
            for zero_point, scale in some
            if not any(z == zero_point and abs(s / scale - 1) < 1e-4 for z, s in others)
        ]

    assert missing(ours, theirs) == []
    assert missing(theirs, ours) == []


@pytest.mark.parametrize("name", coverage_models.TOGETHER)
def test_as_close_to_the_file_as_its_kernels_to_each_other(name: str) -> None:
    found = case(name)
    graph = flatbuffer.graph(found.file)
    integers = quantize(found.images, graph.inputs[0].params).astype(np.int8)
    default, reference = (
        dequantize(tflite.run(found.file, integers, kernels), graph.outputs[0].params)
        for kernels in ("default", "optimized" if "TILE" in graph.op_types else "reference")
    )
    ours, step = found.simulated, found.scale
    # Where the kernels agree, a value within float rounding of a tie may go either way.
    allowed = max(1, np.rint(np.abs(default - reference).max() / step))
    off, theirs = np.abs(ours - default) / step, np.abs(reference - default) / step
    assert off.max() < allowed + 0.01
    assert np.mean(off > 0.5) < np.mean(theirs > 0.5) + 0.15
    assert len(np.unique(default)) > 8


@pytest.mark.parametrize(
    "name", ["constants", "convolutions", "joins", "one axis", "pieces of straight lines"]
)
def test_one_stage_after_another(name: str) -> None:
    found = case(name)
    ours = found.simulated
    staged = StagedRun(found.simulator, found.images, threads=1).outputs(found.params)
    assert np.abs(ours - staged).max() / found.scale < 1.01
    assert np.mean(np.abs(ours - staged) > found.scale / 2) < 0.02


@pytest.mark.parametrize("name", coverage_models.TOGETHER)
def test_trains_and_becomes_a_file(name: str) -> None:
    found = case(name)
    model = qat.quantize_aware(found.model, QuantScheme(), found.images)
    simulated, before = found.simulated, models.predict(model, found.images)
    np.testing.assert_allclose(before, simulated, atol=1e-4 * np.abs(simulated).max())
    model.compile(keras.optimizers.SGD(1e-3), "mse", run_eagerly=True)
    model.fit(found.images, np.zeros_like(simulated), batch_size=20, verbose=0)
    file = qat.int8_file(model)
    trained = models.predict(qat.frozen(model), found.images)
    assert np.abs(trained - before).max() > 0
    chosen = flatbuffer.graph(file).outputs[0].params
    assert isinstance(chosen, QuantParams)
    off = np.abs(tflite.predict(file, found.images) - trained) / chosen.scale
    assert off.max() < 2.01
    assert np.mean(off > 0.5) < 0.4  # where ops join, kernels round in different ways


@pytest.mark.parametrize("name", applications.SETTINGS)
def test_networks_as_close_as_kernels(name: str) -> None:
    """The figures of `applications`, whose files take minutes to make."""
    found = json.loads(applications.FIGURES.read_text(encoding="utf-8"))[name]
    assert found["nodes_with_the_parameters_of_the_file"] == found["nodes"]
    assert found["rewriting"] < 2e-5
    assert found["simulation_to_default_mean"] <= found["reference_to_default_mean"]


def test_is_saved_and_loaded(tmp_path: Path) -> None:
    found = case("operators")
    model = found.simulator.simulated(found.params)
    model.save(tmp_path / "simulated.keras")
    loaded = keras.models.load_model(tmp_path / "simulated.keras")
    np.testing.assert_array_equal(*(models.predict(m, found.images) for m in (model, loaded)))
