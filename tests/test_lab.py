"""Lesson 10's lab: settings and their maps against Keras, files against LiteRT, and the widgets."""

import asyncio
import base64
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from quant_tutorial import drawing, metrics, mnist, models, plotting, qat, rounding, tflite
from quant_tutorial.affine import params_from_range
from quant_tutorial.explorers.lab import QuantizationLab
from quant_tutorial.explorers.lab_figure import describe_drawing
from quant_tutorial.lab import (
    LAYERS,
    PRESETS,
    ROUNDED,
    TRAINED,
    Lab,
    Setting,
    model_params,
    plan,
    scheme,
)
from quant_tutorial.scheme import CALIBRATORS, FLOAT, GRANULARITIES, LayerScheme, TensorScheme
from quant_tutorial.simulate import Simulator, with_params

import ipywidgets as widgets
import keras
import numpy as np
import pytest
from pictures import in_the_page, picture

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unencoded")]

IMAGES = 1500
NO_ACTIVATIONS = {"activations": None, "image": None}


@pytest.fixture(scope="module")
def lab(baseline: Any, calibration: np.ndarray, x_test: np.ndarray, data: mnist.Mnist) -> Lab:
    return Lab(baseline, calibration, x_test[:IMAGES], data.y_test[:IMAGES])


# --- Settings ---


def test_a_setting_gives_every_layer_its_entry() -> None:
    setting = Setting(weights={"conv2": 4, "logits": None}, activations=6, ranges={"conv1": 50})
    assert setting.weights == {"conv1": 8, "conv2": 4, "conv3": 8, "logits": None}
    assert setting.activations == dict.fromkeys(LAYERS, 6)
    assert setting.ranges == {"conv1": 50, "conv2": 100, "conv3": 100, "logits": 100}
    assert setting == Setting(setting.weights, setting.activations, 8, setting.ranges)
    with pytest.raises(TypeError):
        PRESETS["8-bit deploy"].weights["conv1"] = 2


def test_every_setting_has_a_name_of_its_own() -> None:
    mixed = Setting(weights={"conv2": 4, "logits": None}, activations=6, ranges={"conv1": 50})
    assert mixed.name == "PTQ_w8-4-8-float_a6_image8_ranges50-100-100-100"
    assert Setting(2, None, None, source="W2A8").name == "QAT_W2A8_w2_afloat"
    assert Setting(2, source="W2A8 adaround").name == "W2A8_adaround_w2_a8"
    others = [
        {"image": 4},
        {"ranges": 50},
        {"granularity": "layer-wise"},
        {"weight_calibrator": "mse"},
        {"calibrator": "mse"},
        {"source": "W8A8"},
        {"source": "W2A8 adaround"},
        {"source": "W8A8", "own_ranges": False},
    ]
    names = {Setting(**given).name for given in others}
    assert len(names | {"PTQ_w8_a8"}) == len(others) + 1
    assert Setting().name == "PTQ_w8_a8"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "W9A9"}, "source must be one of PTQ, .*W2A2, .*, got 'W9A9'"),
        ({"source": "W2A2 fixed"}, "source must be one of"),
        ({"weights": {"conv9": 4}}, r"weights\['conv9'\] is for no layer of the model: it has con"),
        ({"weights": 9}, "weights must have at most 8 bits, got 9 for conv1"),
        ({"weights": 1}, "bits must be from 2 to 16, or None for float; got 1"),
        ({"activations": 17}, "bits must be from 2 to 16"),
        ({"image": 0}, "bits must be from 2 to 16"),
        ({"weights": "8"}, "bits must be from 2 to 16"),
        ({"weights": [8, 8, 8, 8]}, "bits must be from 2 to 16"),
        ({"ranges": {"conv2": 0}}, "ranges must be positive percentages, got 0 for conv2"),
        ({"ranges": "50"}, "ranges must be positive percentages, got '50' for conv1"),
        ({"granularity": "row-wise"}, "granularity must be one of"),
        ({"weight_calibrator": "entropy"}, "weight_calibrator must be min_max or mse"),
        ({"calibrator": "luck"}, "calibrator must be one of"),
    ],
)
def test_settings_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Setting(**given)


def test_scheme() -> None:
    found = scheme(
        Setting(
            weights={"conv1": 4, "conv2": None},
            activations={"conv1": None, "conv2": 16},
            image=6,
            granularity="layer-wise",
            weight_calibrator="mse",
            calibrator="percentile",
        )
    )
    weights = TensorScheme(4, True, "layer-wise", "mse")
    assert found.for_layer("conv1") == LayerScheme(weights, FLOAT)
    sixteen = TensorScheme(16, symmetric=True, calibrator="percentile")
    assert found.for_layer("conv2").activations == sixteen
    assert found.for_layer("conv2").weights.bits is None
    assert found.input == TensorScheme(6, calibrator="percentile")


@pytest.mark.parametrize("percent", [25, 50, 135, 200])
@pytest.mark.parametrize("bits", [2, 5, 8, 16])
def test_ranges_are_scaled(simulator: Simulator, percent: int, bits: int) -> None:
    setting = Setting(activations=bits, ranges={"conv2": percent, "logits": percent})
    whole = model_params(simulator, Setting(activations=bits)).activations
    found = model_params(simulator, setting).activations
    assert found["relu1"] == whole["relu1"]
    for name in ("relu2", "logits"):
        low, high = percent / 100 * whole[name].minimum, percent / 100 * whole[name].maximum
        # A symmetric map has one level more below zero than its range has.
        right = params_from_range(low if bits < 16 else -high, high, bits, symmetric=bits == 16)
        assert found[name].zero_point == right.zero_point
        assert found[name].scale == pytest.approx(right.scale)


def test_own_ranges_go_with_trained_bits(lab: Lab) -> None:
    whole = Setting(2, 2, source="W2A2")
    trained = lab.params(whole)
    model = qat.load_trained("W2A2")
    kernel = model.get_layer("conv2").layer.kernel
    assert trained.weights["conv2"] == model.get_layer("conv2").quantizer.params(kernel)
    assert trained.activations["relu3"] == model.get_layer("flatten_quant").params()
    mixed = Setting({**whole.weights, "conv2": 3}, {**whole.activations, "conv3": 4}, source="W2A2")
    found = lab.params(mixed)
    assert found.weights["conv1"] == trained.weights["conv1"]
    assert found.weights["conv2"].bits == 3
    assert found.activations["relu3"].bits == 4
    assert lab.unchanged(whole) == (9, 9)
    assert lab.unchanged(mixed) == (7, 9)
    assert lab.unchanged(Setting(2, None, None, source="W2A2")) == (4, 4)
    assert lab.unchanged(Setting(2, 2, source="W2A2", own_ranges=False)) == (0, 9)
    assert lab.unchanged(Setting()) == (0, 9)
    half = {"conv1": 50, "conv2": 50}
    assert lab.unchanged(Setting(2, 2, ranges=half, source="W2A2")) == (7, 9)
    own = lab.params(Setting(2, 2, source="W2A2", own_ranges=False))
    assert own.activations["relu3"] != trained.activations["relu3"]


# --- Measurements ---


@pytest.mark.parametrize(
    "setting",
    [
        Setting(),
        Setting({"conv1": 5, "conv2": None}, {"conv3": 4}, ranges=70, granularity="tensor-wise"),
        Setting(3, 3, weight_calibrator="mse", calibrator="entropy"),
    ],
)
def test_the_readings_are_those_of_the_keras_model(
    lab: Lab, simulator: Simulator, setting: Setting
) -> None:
    params = model_params(simulator, setting)
    simulated = simulator.simulated(params)
    ends = {node.layer: f"{node.end}_quant" for node in simulator.nodes}
    kept = {
        layer: simulated.get_layer(end if end in [x.name for x in simulated.layers] else end[:-6])
        for layer, end in ends.items()
    }
    probe = keras.Model(simulated.input, {layer: found.output for layer, found in kept.items()})
    floats = keras.Model(
        simulator.model.input,
        {n.layer: simulator.model.get_layer(n.end).output for n in simulator.nodes[1:]},
    )
    reading = lab.measure(setting)
    answers = models.predict(simulated, lab.images).argmax(axis=1)
    assert np.mean(answers == reading.answers) >= 0.998
    assert reading.accuracy == np.mean(reading.answers == lab.labels)
    assert reading.weight_bytes == simulator.weight_bytes(params)
    some = lab.images[:250]
    before, after = models.predict(floats, some), models.predict(probe, some)
    for layer in LAYERS:
        noise = np.mean((after[layer] - before[layer]).astype(float) ** 2)
        right = 10 * np.log10(np.mean(before[layer].astype(float) ** 2) / noise)
        assert reading.sqnr[layer] == pytest.approx(right, abs=0.1)


def test_fewer_images(lab: Lab) -> None:
    some, every = (lab.measure(Setting(4, 4), count) for count in (500, None))
    np.testing.assert_array_equal(some.answers, every.answers[:500])
    assert some.sqnr == every.sqnr
    few = lab.measure(Setting(2, 2), 100)
    lab.measure(Setting(8, 8))  # leaves its own values behind
    assert lab.measure(Setting(2, 2), 100).sqnr == few.sqnr


def test_trained_models_answer_as_they_do_in_keras(lab: Lab) -> None:
    setting = PRESETS["rescued by QAT"]
    reading = lab.measure(setting)
    model = qat.load_trained("W2A2")
    answers = models.predict(model, lab.images).argmax(axis=1)
    assert np.mean(answers == reading.answers) >= 0.998
    assert reading.accuracy > 0.97
    assert lab.measure(PRESETS["where PTQ breaks"]).accuracy < 0.5


def test_better_rounding_is_between_nearest_and_trained(lab: Lab) -> None:
    two_bits = ("2-bit weights, nearest", "2-bit weights, AdaRound", "2-bit weights, trained")
    nearest, better, trained = (lab.measure(PRESETS[name]) for name in two_bits)
    assert nearest.accuracy < 0.9
    assert better.accuracy > 0.98
    assert abs(better.accuracy - trained.accuracy) < 0.01
    # It stands for the float baseline, and the trained model for another one.
    assert better.sqnr["logits"] > nearest.sqnr["logits"] + 5
    assert better.sqnr["logits"] > trained.sqnr["logits"]


def test_better_rounding_answers_as_its_own_model(lab: Lab, simulator: Simulator) -> None:
    setting = PRESETS["2-bit weights, AdaRound"]
    reading, rounded = lab.measure(setting), rounding.load(setting.source)
    simulated = with_params(rounded.model, rounded.params)
    answers = models.predict(simulated, lab.images)
    assert np.mean(answers.argmax(axis=1) == reading.answers) >= 0.998
    assert lab.unchanged(setting) == (9, 9)
    before = models.predict(simulator.model, lab.images[:250])
    right = metrics.sqnr_db(before, answers[:250])
    assert reading.sqnr["logits"] == pytest.approx(right, abs=0.1)
    assert reading.weight_bytes == lab.measure(PRESETS["2-bit weights, nearest"]).weight_bytes


def test_what_better_rounding_was_not_for_is_rounded_to_nearest(lab: Lab) -> None:
    setting = Setting({"conv1": 2, "conv2": 3, "conv3": None, "logits": 2}, source="W2A8 adaround")
    own = rounding.load("W2A8 adaround")
    assert lab.rounded_again(setting) == ["conv2"]
    params = lab.params(setting)
    assert params.weights["conv1"] == own.params.weights["conv1"]
    values = models.weights(own.model)["conv2"]
    again = Simulator(own.model, lab.images[:1]).rounded_weights("conv2", params)
    step = params.weights["conv2"].scale
    assert np.all(np.abs(again - values) <= 0.5001 * step)
    # Calibrated anew, 2-bit weights get the same scales, which are their largest values.
    anew = replace(setting, own_ranges=False)
    assert lab.rounded_again(anew) == ["conv2"]
    anew = replace(anew, granularity="layer-wise")
    assert lab.rounded_again(anew) == ["conv1", "conv2", "logits"]
    assert lab.rounded_again(Setting(2)) == []


@pytest.mark.parametrize("activations", [8, None])
def test_the_file_holds_what_the_rounding_chose(lab: Lab, activations: int | None) -> None:
    setting = Setting(2, activations, activations, source="W2A8 adaround")
    found = tflite.file_weights(lab.plan(setting).make(lab.images[:1]))
    for name, q in rounding.load("W2A8 adaround").integers.items():
        np.testing.assert_array_equal(np.moveaxis(found[name][0], 0, -1), q)


def test_one_trained_model_is_kept(lab: Lab) -> None:
    lab.measure(Setting(2, 2, source="W2A2"), 50)
    assert lab.is_ready("W2A2")
    assert lab.is_ready("PTQ")
    run, simulator = lab._other[1].run, lab._other[1].simulator
    lab.measure(Setting(2, 8, source="W2A8"), 50)
    assert not lab.is_ready("W2A2")
    assert lab.is_ready("W2A8")
    with pytest.raises(RuntimeError, match="shutdown"):
        run.outputs(lab.params(Setting(2, 8, source="W2A8")))
    lab.measure(Setting(2, 2, source="W2A2"), 50)
    assert lab._other[1].simulator is simulator  # it is not loaded and calibrated again


@pytest.mark.parametrize("name", ["float", "8-bit deploy", "4-bit weights", "rescued by QAT"])
def test_logits_of_a_drawing(lab: Lab, baseline: Any, name: str) -> None:
    setting = PRESETS[name]
    image = drawing.to_mnist(drawing.draw_strokes([[(30, 25), (82, 25), (50, 95)]]))
    before, after = lab.logits(setting, image)
    right = models.predict(baseline, image[np.newaxis])[0]
    np.testing.assert_allclose(before, right, atol=1e-3)
    if setting.source == "PTQ":
        bench = lab._baseline
        simulated = bench.simulator.simulated(bench.params(setting))
    else:
        simulated = qat.load_trained(setting.source)
    np.testing.assert_allclose(after, models.predict(simulated, image[np.newaxis])[0], atol=1e-3)
    np.testing.assert_array_equal(lab.logits(setting, image)[1], after)
    outputs = lab.outputs(setting, 20)
    np.testing.assert_allclose(outputs[19], lab.logits(setting, lab.images[19])[1], atol=1e-3)


# --- Files ---


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (Setting(4, 4), "The activations of conv1 have 4 bits: LiteRT's kernels take integer"),
        (Setting(image=7), "The input has 7 bits: LiteRT's"),
        (Setting(activations={"conv3": 16}), "Only some activations have 16 bits"),
        (Setting(activations=16), "16 bits for all of them and for the input"),
        (Setting(4, 16, 16), "The weights of conv1 have 4 bits: beside 16-bit activations"),
        (Setting({"conv2": None}, 16, 16), "The weights of conv2 are floats: beside 16-bit"),
        (Setting(8, 16, 16, calibrator="mse"), "16x8 files come from the TFLite converter alone"),
        (Setting(8, 16, 16, granularity="layer-wise"), "a scale for each channel of the weights"),
        (Setting({"conv1": None}, **NO_ACTIVATIONS), "The weights of conv1 are floats beside"),
        (Setting(activations={"conv1": None}), "of conv1 are floats, but conv1 has integer"),
        (
            Setting({"conv1": None}, {"conv1": None}, image=None),
            "of conv1 are floats, but conv2 has integer weights",
        ),
        (Setting(image=None), "The input is in float, but conv1 has integer weights"),
        (Setting(None), "The input has 8 bits, but no layer that gives or reads it has integer"),
        (
            Setting({"logits": None}),
            "The activations of logits have 8 bits, but no layer that gives or reads it",
        ),
        (
            Setting({"conv1": 4, "logits": None}, {"logits": None}),
            "Files with some layers in float come from the TFLite converter alone",
        ),
    ],
)
def test_where_there_is_no_file(lab: Lab, setting: Setting, reason: str, tmp_path: Path) -> None:
    found = lab.plan(setting)
    assert found.make is None
    assert reason in found.reason
    with pytest.raises(ValueError, match=re.escape(f"LiteRT has no such file. {found.reason}")):
        lab.export(setting, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "reason", "weights", "activations"),
    [
        (Setting(), "full-integer int8 with channel-wise", "int8", "int8"),
        (Setting(granularity="layer-wise"), "full-integer int8 with layer-wise", "int8", "int8"),
        (
            Setting({"conv1": 8, "conv2": 5, "conv3": 4, "logits": 4}, ranges={"conv2": 60}),
            "full-integer int8, with these ranges written into the model. The weights of conv3, "
            "logits take 4 bits each in the file, the others 8.",
            "int4",
            "int8",
        ),
        (Setting(5, weight_calibrator="mse"), "Its weights take 8 bits each", "int8", "int8"),
        (Setting(activations=16, image=16), "16x8: 16-bit activations", "int8", "int16"),
        (Setting(2, 8, source="W2A8"), "Its weights take 4 bits each in", "int4", "int8"),
        (Setting(2, source="W2A8 adaround"), "Its weights take 4 bits each in", "int4", "int8"),
        (Setting(3, source="W3A8 gptq", **NO_ACTIVATIONS), "only: 4 bits", "int4", "float32"),
        (Setting(2, source="W2A2", **NO_ACTIVATIONS), "weights only: 2 bits", "int2", "float32"),
        (
            Setting({"conv1": 4, "conv2": 3}, weight_calibrator="mse", **NO_ACTIVATIONS),
            "weights only: 8 bits",
            "int8",
            "float32",
        ),
        (Setting(None, **NO_ACTIVATIONS), "float32: nothing is rounded", "float32", "float32"),
    ],
)
def test_files(
    lab: Lab, tmp_path: Path, setting: Setting, reason: str, weights: str, activations: str
) -> None:
    assert reason in lab.plan(setting).reason
    done = lab.export(setting, tmp_path / "saved")
    assert done.path == tmp_path / "saved" / f"lab_{setting.name}.tflite"
    assert done.path.read_bytes() == done.content
    found = tflite.evaluate(done.content, lab.images, lab.labels)
    assert done.accuracy == found.accuracy
    reading = lab.measure(setting)
    assert done.agreement == np.mean(found.predictions == reading.answers)
    assert done.agreement >= 0.997
    ops = [op for op in tflite.inspect(done.content).ops if op.type != "DEQUANTIZE"]
    weighted = [op for op in ops if op.type in ("CONV_2D", "FULLY_CONNECTED")]
    assert len(weighted) == 4
    kinds = {t.type for t in tflite.inspect(done.content).tensors if t.kind == "weights"}
    assert weights in kinds
    assert {op.outputs[0].type for op in weighted} == {activations}


def test_ranges_reach_the_file(lab: Lab) -> None:
    setting = Setting(4, 8, ranges={"conv1": 60, "logits": 150}, calibrator="mse")
    params = lab.params(setting)
    found = tflite.inspect(lab.plan(setting).make(lab.images[:1]))
    weighted = [op for op in found.ops if op.type in ("CONV_2D", "FULLY_CONNECTED")]
    for op, layer, node in zip(
        weighted, LAYERS, ("relu1", "relu2", "relu3", "logits"), strict=True
    ):
        activation, chosen = op.outputs[0], params.activations[node]
        assert float(activation.scales[0]) == pytest.approx(chosen.scale, rel=1e-5)
        assert activation.params.zero_point == chosen.zero_point
        kernel = next(t for t in op.inputs if t.kind == "weights")
        np.testing.assert_allclose(kernel.scales, params.weights[layer].scale, rtol=1e-5)


@pytest.mark.parametrize(
    ("spared", "activations", "image"),
    [(["logits"], {"logits": None}, 8), (["conv1", "conv2"], {"conv1": None}, None)],
)
def test_files_with_layers_in_float(
    lab: Lab, tmp_path: Path, spared: list[str], activations: dict[str, None], image: int | None
) -> None:
    setting = Setting(dict.fromkeys(spared), activations, image)
    assert lab.plan(setting).reason == (
        f"int8 with {', '.join(spared)} in float, made by the TFLite converter."
    )
    done = lab.export(setting, tmp_path)
    assert done.agreement >= 0.997
    weighted = [
        op for op in tflite.inspect(done.content).ops if op.type in ("CONV_2D", "FULLY_CONNECTED")
    ]
    integer = [not op.outputs[0].is_float for op in weighted]
    assert integer == [layer not in spared for layer in LAYERS]


def test_every_plan_says_something(simulator: Simulator) -> None:
    for weights, activations, image in itertools.product((None, 4, 8), (None, 4, 8, 16), (None, 8)):
        found = plan(simulator, model_params(simulator, Setting(weights, activations, image)))
        assert found.reason.endswith(".")


# --- Words ---


def test_words() -> None:
    assert plotting.describe_bits([4, 4, 4]) == "4 bits"
    assert plotting.describe_bits([4, None]) == "4, float bits"
    assert plotting.describe_bits([None, None]) == "float"
    assert plotting.describe_percent([100, 100]) == "100%"
    assert plotting.describe_percent([100, 55]) == "100, 55%"
    assert plotting.describe_db(np.inf) == "exact"
    assert plotting.describe_db(-2.7) == "−3"
    three, zeros = np.eye(10)[3], np.zeros(10)
    assert describe_drawing(None) == "The canvas is empty."
    assert describe_drawing((three, 2 * three)) == "Both models classify the drawing as 3."
    assert describe_drawing((three, zeros)) == (
        "The float model classifies the drawing as 3, the quantized one as 0, the first of 10 tied."
    )
    digits = np.arange(10).repeat(10)
    assert plotting.describe_changes(digits, digits) == "No image is answered differently."
    moved = np.where(np.arange(100) < 3, 7, digits)
    assert "Fewer than 10" in plotting.describe_changes(digits, moved)
    moved = np.where(digits == 4, 9, digits)
    assert plotting.describe_changes(digits, moved) == (
        "About 10 images are answered differently; most often 4 becomes 9."
    )


# --- The dashboard ---


@pytest.fixture(scope="module")
def made(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> QuantizationLab:
    return QuantizationLab(lab, folder=tmp_path_factory.mktemp("lab") / "saved")


@pytest.fixture
def explorer(made: QuantizationLab) -> QuantizationLab:
    return at_start(made)


@pytest.fixture(scope="module")
def quickly_made(baseline: Any, calibration: np.ndarray, data: mnist.Mnist) -> QuantizationLab:
    images, labels = mnist.to_float(data.x_test[:100]), data.y_test[:100]
    return QuantizationLab(Lab(baseline, calibration[:100], images, labels))


@pytest.fixture
def quick(quickly_made: QuantizationLab) -> QuantizationLab:
    """On a hundred images, for what does not depend on how exact its figures are."""
    return at_start(quickly_made)


def at_start(explorer: QuantizationLab) -> QuantizationLab:
    explorer.canvas.show(explorer._lab.images[0])
    explorer.show(Setting())
    return explorer


@pytest.mark.encoded
def test_the_start(lab: Lab, explorer: QuantizationLab) -> None:
    assert explorer.text.startswith(
        "Rounded to the nearest level (PTQ). Weights 8 bits (channel-wise, min_max), activations 8 "
        "bits (min_max, ranges at 100%), input 8 bits: 99."
    )
    assert in_the_page(explorer).shape == (672, 1590, 3)
    assert (in_the_page(explorer) == explorer.pixels()).all()
    assert 'width="1060" height="448"' in explorer._picture.value
    bundle, metadata = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == explorer.text
    assert base64.b64decode(bundle["image/png"]) == explorer.png()
    assert metadata == {"image/png": {"width": 1060, "height": 448}}
    with pytest.raises(ValueError, match=r"preset must be one of float, 8-bit deploy, .*, got '9'"):
        QuantizationLab(lab, "9")


@pytest.mark.parametrize("name", PRESETS)
def test_presets(lab: Lab, explorer: QuantizationLab, name: str) -> None:
    explorer.presets[name].click()
    assert explorer.setting == PRESETS[name]
    picture(explorer)
    reading = lab.measure(PRESETS[name])
    assert f"{reading.accuracy:.1%} of {IMAGES:,} images right" in explorer.text
    assert f"weights of {reading.weight_bytes:,} bytes" in explorer.text
    decibels = [plotting.describe_db(value) for value in reading.sqnr.values()]
    names = ("image", *LAYERS)
    said = ", ".join(f"{n} {db}" for n, db in zip(names, decibels, strict=True))
    assert f"SQNR of the activations in dB: {said}." in explorer.text


def test_a_preset_is_drawn_once(quick: QuantizationLab, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(quick, "estimate", lambda: drawn.append(quick.setting) or "")
    monkeypatch.setattr(quick, "draw", lambda: "")
    quick.presets["where PTQ breaks"].click()
    assert drawn == [PRESETS["where PTQ breaks"]]


def test_settings_come_back(quick: QuantizationLab) -> None:
    random = np.random.default_rng(10)
    for _ in range(5):
        setting = Setting(
            weights={n: random.choice([None, 2, 5, 8]) for n in LAYERS},
            activations={n: random.choice([None, 2, 9, 16]) for n in LAYERS},
            image=int(random.integers(2, 17)),
            ranges={n: int(5 * random.integers(5, 41)) for n in LAYERS},
            granularity=str(random.choice(GRANULARITIES)),
            weight_calibrator=str(random.choice(["min_max", "mse"])),
            calibrator=str(random.choice(CALIBRATORS)),
            own_ranges=bool(random.integers(2)),
        )
        quick.show(setting)
        picture(quick)
        assert quick.setting == setting


@pytest.mark.parametrize("percent", [20, 201, 62.5])
def test_a_setting_out_of_reach(quick: QuantizationLab, percent: float) -> None:
    with pytest.raises(ValueError, match=f"from 25 to 200 percent to be shown, got {percent} for"):
        quick.show(Setting(ranges={"conv2": percent}))
    assert quick.setting == Setting()


def test_every_control_changes_picture_and_sentence(
    quick: QuantizationLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "draw", lambda: quick.text)  # the estimate shows it
    quick.update()
    sliders = [
        row.slider
        for rows in (quick.weights, quick.activations, quick.ranges)
        for row in rows.values()
    ]
    assert len(sliders) == 13
    before = shown(quick)
    for slider in sliders:
        start = slider.value
        slider.value = slider.min
        assert all(new != old for new, old in zip(shown(quick), before, strict=True))
        slider.value = start
        assert shown(quick) == before
    for box in [*quick.float_weights.values(), *quick.float_activations.values()]:
        box.value = True
        assert all(new != old for new, old in zip(shown(quick), before, strict=True))
        box.value = False
    assert shown(quick) == before
    for menu in (quick.granularity, quick.weight_calibrator, quick.calibrator):
        start, texts = menu.value, set()
        for value in menu.options:
            menu.value = value
            texts.add(shown(quick)[1])
        menu.value = start
        assert len(texts) == len(menu.options)


def shown(explorer: QuantizationLab) -> tuple[bytes, str]:
    """The picture and the sentence; fails at an error."""
    return picture(explorer).tobytes(), explorer.text


def test_what_has_no_effect_is_disabled(quick: QuantizationLab) -> None:
    def disabled(row: Any) -> set[bool]:
        return {part.disabled for part in row.row.children[1:]}

    quick.float_weights["conv2"].value = True
    quick.float_activations["conv3"].value = True
    assert disabled(quick.weights["conv2"]) == {True}
    assert disabled(quick.activations["conv2"]) == {False}
    assert disabled(quick.activations["conv3"]) == disabled(quick.ranges["conv3"]) == {True}
    assert quick.own_ranges.disabled
    quick.show(Setting(2, 2, source="W2A2"))
    assert disabled(quick.weights["conv2"]) == disabled(quick.ranges["conv3"]) == {False}
    assert not quick.own_ranges.disabled
    with_them = quick.text
    assert "9 of 9 ranges their own" in with_them
    quick.own_ranges.value = False
    assert "0 of 9 ranges their own" in quick.text


def test_every_trained_model_can_be_chosen(quick: QuantizationLab) -> None:
    assert len(quick.source.options) == 1 + len(ROUNDED) + len(TRAINED)
    for name in ("W8A8", "W2A8"):  # others have the same form, and each takes seconds
        quick.source.value = f"trained at {name} (QAT)"
        picture(quick)
        assert quick.text.startswith(f"Trained at {name} (QAT), ")
        assert not quick._status.value


def test_every_handle_and_box_has_its_own_name(quick: QuantizationLab) -> None:
    names = [name for names in quick.children[-1].names.values() for name in names]
    boxes = [*quick.float_weights.values(), *quick.float_activations.values()]
    names += [box.description for box in boxes]
    assert len(names) == len(set(names)) == 13 + 9
    assert "conv2 weight bits" in names
    # A handle and its field are named together: they need a parent of their own.
    for rows in (quick.weights, quick.activations, quick.ranges):
        for control in rows.values():
            cells = [
                widget
                for widget in descendants(quick)
                if control.slider in getattr(widget, "children", ())
            ]
            (cell,) = cells
            fields = [w for w in cell.children if isinstance(w, widgets.BoundedIntText)]
            assert len(fields) == len(control.handles) == 1


def descendants(widget: Any) -> list[Any]:
    children = getattr(widget, "children", ())
    return [widget, *(found for child in children for found in descendants(child))]


def test_first_an_estimate_that_holds_the_result(explorer: QuantizationLab) -> None:
    for bits in (2, 3, 4, 8):
        explorer.show(Setting(activations=bits))
        said = float(re.search(r"([\d.]+)% of 1,500 images", explorer.text)[1])
        text = explorer.estimate()
        low, high = map(float, re.search(r": ([\d.]+)% to ([\d.]+)% right", text).groups())
        assert low <= said <= high
        assert "estimated on 1,000 images" in text


def test_nothing_of_the_setting_before_is_beside_an_estimate(explorer: QuantizationLab) -> None:
    explorer.show(PRESETS["where PTQ breaks"])
    before = explorer.plot.changes.row.text.texts[0]
    assert before.endswith(
        "of 1,500 images are answered differently, among them (true digit: before → after)"
    )
    explorer.setting = Setting(3, 3)
    explorer.estimate()
    assert "of 1,000 images are answered differently" in explorer.plot.changes.row.text.texts[0]
    assert explorer._flips
    assert max(explorer._flips) < 1000
    assert explorer.plot._points.get_text() == "estimated on 1,000 images"
    explorer.setting = PRESETS["float"]
    explorer.estimate()
    assert explorer.flipped.disabled
    assert explorer.plot.changes.row.text.texts == ("0 of 1,000 images are answered differently",)


def test_small_differences_are_seen(explorer: QuantizationLab, lab: Lab) -> None:
    """The bar of the errors, and the text above it."""
    for setting in (Setting(), Setting(4, weight_calibrator="mse"), Setting(3), Setting(2)):
        explorer.show(setting)
        wrong = round((1 - lab.measure(setting).accuracy) * IMAGES)
        assert f"{wrong:,} of 1,500 wrong; in float " in explorer.plot._points.get_text()
        bar = explorer.plot._bar
        assert bar.get_x() + bar.get_width() == pytest.approx(100 * wrong / IMAGES)
    line = explorer.plot._float_lines[0].get_xdata()[0]
    assert line == pytest.approx(100 * (1 - lab.float_accuracy))


def test_what_is_exact_has_no_bar(quick: QuantizationLab) -> None:
    quick.show(PRESETS["float"])
    assert quick.plot._ratios.lengths == 5 * [0]
    assert {figure.get_text() for _, figure in quick.plot._labels} == {"exact: the same floats"}
    quick.show(Setting(activations=16, image=16))
    lengths = quick.plot._ratios.lengths
    assert all(0 < length <= 80 for length in lengths[1:])


@pytest.mark.parametrize(
    ("setting", "origin"),
    [
        (Setting(), "Rounded to the nearest level\n(PTQ)"),
        (PRESETS["2-bit weights, AdaRound"], "Rounded by AdaRound for W2A8\n(PTQ)"),
        (PRESETS["rescued by QAT"], "Trained at W2A2 (QAT)"),
        (PRESETS["float"], "In float: the float baseline"),
    ],
)
def test_the_figure_names_the_rounding(
    quick: QuantizationLab, setting: Setting, origin: str
) -> None:
    quick.show(setting)
    assert quick.plot._origin.get_text() == origin


def test_several_moves_are_finished_once(explorer: QuantizationLab) -> None:
    finished = []
    measure = explorer.draw

    def finish() -> str:
        finished.append(explorer.setting.weights["conv1"])
        return measure()

    async def drag() -> None:
        for bits in (7, 5, 3):
            explorer.weights["conv1"].slider.value = bits
            assert "estimated" in explorer.text
        await asyncio.sleep(0.5)

    explorer.draw = finish
    try:
        asyncio.run(drag())
    finally:
        explorer.draw = measure
    assert finished == [3]
    assert "of 1,500 images right" in explorer.text


class TestDrawing:
    def test_both_models_answer(self, explorer: QuantizationLab, lab: Lab) -> None:
        explorer.show(PRESETS["where PTQ breaks"])
        before = picture(explorer)
        explorer.canvas.show(lab.images[3])
        said = describe_drawing(lab.logits(explorer.setting, lab.images[3]))
        assert explorer.text.endswith(f" {said}")
        assert (picture(explorer) != before).any()
        np.testing.assert_allclose(
            explorer.plot._digit.get_array(), lab.images[3][..., 0], atol=1e-6
        )
        widths = explorer.plot._logits[0][0].lengths
        assert np.argmax(widths) == lab.logits(explorer.setting, lab.images[3])[0].argmax()

    def test_an_empty_canvas(self, quick: QuantizationLab) -> None:
        quick.canvas.clear()
        assert quick.text.endswith("The canvas is empty.")
        quick.weights["conv1"].slider.value = 4
        assert quick.text.endswith("The canvas is empty.")
        picture(quick)
        quick.canvas.show(quick._lab.images[1])
        assert "Both models classify the drawing as" in quick.text

    def test_of_several_strokes_the_last_counts(
        self, quick: QuantizationLab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked, look = [], quick._look_at_drawing
        monkeypatch.setattr(quick, "_look_at_drawing", lambda s: looked.append(s) or look(s))

        async def draw() -> None:
            for index in range(5):
                quick.canvas.show(quick._lab.images[index])
            await asyncio.sleep(0.3)

        asyncio.run(draw())
        assert len(looked) == 1

    def test_flipped_images_are_loaded(self, explorer: QuantizationLab, lab: Lab) -> None:
        explorer.show(PRESETS["where PTQ breaks"])
        flips = np.flatnonzero(
            lab.measure(PRESETS["where PTQ breaks"]).answers != lab.float_answers
        )
        shown = flips[np.linspace(0, len(flips) - 1, 12).astype(int)]
        for index in shown[:2]:
            explorer.flipped.click()
            np.testing.assert_allclose(explorer.canvas.image, lab.images[index], atol=1e-6)
            assert "The float model classifies the drawing as" in explorer.text
        explorer.show(PRESETS["float"])
        assert explorer.flipped.disabled


class TestExport:
    def test_a_file(self, explorer: QuantizationLab, lab: Lab) -> None:
        explorer.show(PRESETS["4-bit weights"])
        assert "As a LiteRT file: weights only: 4 bits each" in explorer._note.value
        explorer.export.click()
        path = explorer._folder / "lab_PTQ_w4_afloat_w-mse.tflite"
        content = path.read_bytes()
        said = explorer._result.value
        assert f"lab_PTQ_w4_afloat_w-mse.tflite</b>, {len(content):,} bytes" in said
        right = tflite.evaluate(content, lab.images, lab.labels).accuracy
        assert f"LiteRT gets {right:.1%} of {IMAGES:,} images right" in said
        data = re.search(r"href='data:application/octet-stream;base64,([^']+)'", said)[1]
        assert base64.b64decode(data) == content
        assert not explorer.export.disabled
        explorer.weights["conv1"].slider.value = 5
        assert explorer._result.value == ""

    def test_no_file(self, quick: QuantizationLab) -> None:
        quick.show(Setting(4, 4))
        assert "No LiteRT file. The activations of conv1 have 4 bits" in quick._note.value
        quick.export.click()
        assert "<b>Not exported.</b> The activations of conv1 have 4" in quick._result.value
        assert not quick.export.disabled

    def test_an_error_is_shown(
        self, quick: QuantizationLab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise OSError("the disk is <full>")

        monkeypatch.setattr(quick._lab, "export", broken)
        quick.export.click()
        assert "role='alert'" in quick._result.value
        assert "OSError: the disk is &lt;full&gt;" in quick._result.value
        assert not quick.export.disabled


def test_a_missing_model_is_told_about(
    quick: QuantizationLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise FileNotFoundError(f"The trained model {name} is missing")

    monkeypatch.setattr(qat, "load_trained", missing)
    quick.source.value = "trained at W5A5 (QAT)"
    assert "The trained model W5A5 is missing" in quick.text
    assert "role='alert'" in quick._sentence.value
    assert not quick._status.value
    assert not quick._note.value
    quick.export.click()
    assert "The trained model W5A5 is missing" in quick._result.value
    quick.canvas.clear()
    assert "The trained model W5A5 is missing" in quick.text
    quick.source.value = "rounded to the nearest level (PTQ)"
    picture(quick)


def test_other_bits_than_those_of_the_rounding(quick: QuantizationLab) -> None:
    quick.show(PRESETS["2-bit weights, AdaRound"])
    assert "9 of 9 ranges their own" in quick.text
    assert "nearest level" not in quick._note.value
    quick.weights["conv2"].slider.value = 5
    assert "8 of 9 ranges their own" in quick.text
    note = quick._note.value
    assert "weights of conv2 have other bits or ranges than in the chosen model: they are" in note


def test_an_error_in_the_drawing_is_told_about(
    quick: QuantizationLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no answer")

    monkeypatch.setattr(quick._lab, "logits", broken)
    quick.canvas.show(quick._lab.images[7])
    assert quick.text == "Error: no answer"


def test_the_app_shows_only_the_dashboard() -> None:
    path = Path(__file__).parents[1] / "notebooks" / "10_quantization_lab.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = [cell["id"] for cell in cells if "not-in-app" not in cell["metadata"].get("tags", [])]
    assert shown == ["title", "setup", "load", "lab"]
