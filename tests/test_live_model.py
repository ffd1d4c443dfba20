"""What Python writes for pages that run the model themselves.

tests/browser/test_live.py has what the pages make of it.
"""

import base64
import itertools
import json
from typing import Any

from quant_tutorial import models, rounding
from quant_tutorial.affine import QuantParams, params_from_range
from quant_tutorial.calibration import weight_params
from quant_tutorial.explorers import exported_model
from quant_tutorial.explorers.controls import checkbox, integer
from quant_tutorial.explorers.exported import named_widgets
from quant_tutorial.scheme import CALIBRATORS, GRANULARITIES, TensorScheme
from quant_tutorial.simulate import Simulator
from quant_tutorial.web import model_assets

import numpy as np
import pytest


def decoded(data: dict[str, Any]) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(data["base64"]), data["dtype"])
    return values.reshape(data["shape"])


@pytest.fixture(scope="module")
def tables(simulator: Simulator) -> dict[str, Any]:
    return exported_model.tables(simulator)


@pytest.mark.slow
class TestTables:
    @pytest.mark.parametrize(
        ("granularity", "calibrator", "bits"),
        [("channel-wise", "mse", 3), ("layer-wise", "min_max", 8), ("tensor-wise", "mse", 2)],
    )
    def test_scales_of_weights(
        self, tables: dict, simulator: Simulator, granularity: str, calibrator: str, bits: int
    ) -> None:
        found = tables["weights"][granularity][calibrator][bits]
        scheme = TensorScheme(bits, True, granularity, calibrator)
        together = ("conv1", "conv3")  # model-wide they share a scale; else each has its own
        chosen = weight_params({name: simulator.weights[name] for name in together}, scheme)
        for name in together:
            key = ",".join(together) if granularity == "tensor-wise" else name
            np.testing.assert_array_equal(found[key], chosen[name].scale)

    def test_every_choice_is_there(self, tables: dict, simulator: Simulator) -> None:
        layers = list(simulator.weights)
        subsets = 2 ** len(layers) - 1
        for granularity, calibrator, bits in itertools.product(
            GRANULARITIES, ("min_max", "mse"), range(2, 9)
        ):
            found = tables["weights"][granularity][calibrator][bits]
            assert len(found) == (subsets if granularity == "tensor-wise" else len(layers))
        nodes = [node.name for node in simulator.nodes]
        for calibrator in CALIBRATORS:
            kinds = tables["activations"][calibrator]
            assert list(kinds) == [*map(str, range(2, 17)), "16, symmetric"]
            assert all(list(found) == nodes for found in kinds.values())

    def test_parameters_of_activations(self, tables: dict, simulator: Simulator) -> None:
        # The image has the range 0 to 1, whatever the images: 15 steps from −8 to 7.
        assert tables["activations"]["min_max"]["4"]["image"] == (1 / 15, -8)
        assert all(p[1] == 0 for p in tables["activations"]["mse"]["16, symmetric"].values())


@pytest.mark.slow
def test_the_places_in_a_stage_hold_the_weights(simulator: Simulator) -> None:
    found = model_assets.network(simulator)
    assert [node["name"] for node in found["nodes"]] == [n.name for n in simulator.nodes]
    for node in simulator.nodes[1:]:
        stage = found["stages"][node.name]
        content = decoded(stage["bytes"]).tobytes()
        assert content == bytes(simulator.stages[node.name])
        layer = simulator.model.get_layer(node.weights)
        kernel = np.moveaxis(simulator.weights[node.weights], -1, 0)
        for part, values in (("kernel", kernel), ("bias", np.asarray(layer.bias))):
            place = stage[part]
            here = np.frombuffer(content, np.float32, place["length"], place["offset"])
            np.testing.assert_array_equal(here, values.ravel())


@pytest.mark.slow
def test_integer_weights_are_those_of_a_rounded_model() -> None:
    rounded = rounding.load("W2A8 adaround")
    found = exported_model.integer_layers(rounded.model, rounded.params.weights)
    for name, integers in rounded.integers.items():
        layer = found[name]
        np.testing.assert_array_equal(
            decoded(layer["integers"]), np.moveaxis(integers, -1, 0).ravel()
        )
        np.testing.assert_array_equal(decoded(layer["bias"]), rounded.biases[name])
        assert layer["bits"] == 2
        assert layer["channels"] == integers.shape[-1] == len(layer["scale"])
    assert list(found) == list(models.weights(rounded.model))


@pytest.mark.slow
@pytest.mark.parametrize("name", model_assets.SOURCES)
def test_all_weights_of_lesson_10_can_be_written(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tables, which take seconds for each, are tested above.
    monkeypatch.setattr(model_assets, "tables", lambda _: {})
    image = model_assets.calibration()[:1]
    monkeypatch.setattr(model_assets, "calibration", lambda: image)
    data, simulator, own = model_assets.source(name)
    written = json.loads(model_assets.as_json(data))
    assert list(written["layers"]) == list(simulator.weights) == list(written["own"]["weights"])
    assert list(written["own"]["activations"]) == [node.name for node in simulator.nodes]
    bits = {chosen["bits"] for chosen in written["own"]["weights"].values()}
    assert bits == {params.bits for params in own.weights.values()}
    assert int(name[1]) in bits


@pytest.mark.parametrize(
    "params",
    [
        params_from_range(-1, 2, 4),
        params_from_range(-1, 1, 4, symmetric=True),
        QuantParams(4, 0.5, 8, signed=False),
    ],
)
def test_weights_of_another_form_are_refused(params: QuantParams) -> None:
    with pytest.raises(ValueError, match="symmetric in the narrow range, got QuantParams"):
        exported_model.weights_as_data(params)


def test_activations_of_another_form_are_refused() -> None:
    narrow = params_from_range(-1, 2, 4, narrow_range=True)
    with pytest.raises(ValueError, match="all signed integers"):
        exported_model.activations_as_data({"image": None, "relu1": narrow})


def test_widgets_in_a_mapping_have_its_keys_in_their_names() -> None:
    class Holder:
        def __init__(self) -> None:
            self.bits = integer("Bits", 4, 2, 8).slider
            self.boxes = {"conv1": checkbox("conv1", True)}
            self.rows = {"conv1": integer("conv1", 4, 2, 8)}
            self.other = {"conv1": 4}

    holder = Holder()
    assert named_widgets(holder) == {
        "bits": holder.bits,
        "boxes.conv1": holder.boxes["conv1"],
        "rows.conv1": holder.rows["conv1"].slider,
    }
