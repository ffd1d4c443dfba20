"""Models with several inputs and outputs, against LiteRT's own signature runner and Keras.

The names sort differently from their order, and two inputs and two outputs have the same shape: to
swap two of them changes the answers and nothing else.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quant_tutorial import deployment, flatbuffer, integer, models, quiet, tflite
from quant_tutorial.affine import dequantize, quantize
from quant_tutorial.tflite import soundness, trial

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from saved_models import saved_model

pytestmark = pytest.mark.slow
layers = keras.layers
COUNT = 24
DATA = {
    "visible": np.random.default_rng(0).uniform(0, 1, (COUNT, 6, 6, 1)).astype(np.float32),
    # No name of a Python argument, and in another range.
    "infra-red": np.random.default_rng(1).uniform(-3, 3, (COUNT, 6, 6, 1)).astype(np.float32),
    "words": np.random.default_rng(2).integers(0, 9, (COUNT, 4)).astype(np.int32),
}
RANGES = {"visible": (0, 1), "infra-red": (-3, 3)}
PICTURES = [*RANGES]
OUTPUTS = ["output_0", "output_1", "output_2"]


def branches() -> tuple[dict[str, Any], list[Any]]:
    """Pictures of two cameras and a few words, and what is made of them."""
    keras.utils.set_random_seed(3)
    inputs = {name: keras.Input((6, 6, 1), name=name) for name in PICTURES}
    inputs["words"] = keras.Input((4,), dtype="int32", name="words")
    seen = layers.Conv2D(2, 3, activation="relu", name="zoom")(inputs["visible"])
    warm = layers.Conv2D(3, 3, name="edges")(inputs["infra-red"])
    both = layers.Concatenate()([layers.Flatten()(seen), layers.Flatten()(warm)])
    told = layers.Flatten()(layers.Embedding(9, 3, name="meanings")(inputs["words"]))
    return inputs, [
        layers.Dense(3, activation="softmax", name="species")(layers.Concatenate()([both, told])),
        layers.Dense(3, name="age")(both),
        seen,
    ]


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Lists of three inputs, one of them of integers, and of three outputs."""
    inputs, outputs = branches()
    return keras.Model([*inputs.values()], outputs, name="lists")


@pytest.fixture(scope="module")
def named() -> keras.Model:
    """Dictionaries of two inputs and of two outputs."""
    inputs, (_, age, seen) = branches()
    pictures = {name: inputs[name] for name in PICTURES}
    return keras.Model(pictures, {"years": age, "map": seen}, name="dictionaries")


@pytest.fixture(scope="module")
def files(model: keras.Model, named: keras.Model) -> dict[str, bytes]:
    pictures = {name: DATA[name] for name in PICTURES}
    ranged = {"calibration": DATA, "input_range": RANGES}
    return {
        "float32": tflite.convert(model, "float32"),
        "int8": tflite.convert(model, "int8", **ranged),
        "float32 io": tflite.convert(model, "int8", io="float32", **ranged),
        "exported": tflite.export_litert(model),
        "named": tflite.convert(named, "float32"),
        "named int8": tflite.convert(named, "int8", calibration=pictures, input_range=None),
        "named exported": tflite.export_litert(named),
    }


def of(name: str) -> dict[str, np.ndarray]:
    """The data for a file."""
    return {key: DATA[key] for key in (PICTURES if "named" in name else DATA)}


def by_runner(content: bytes, data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What LiteRT's own signature runner returns, with the scales that it tells."""
    runner = Interpreter(model_content=content).get_signature_runner()
    entries, exits = runner.get_input_details(), runner.get_output_details()
    assert set(entries) == set(data)

    def stored(name: str, image: np.ndarray) -> np.ndarray:
        (scale, zero), kind = entries[name]["quantization"], entries[name]["dtype"]
        if scale == 0:
            return image.astype(kind)
        ends = np.iinfo(kind)
        # LiteRT rounds halves away from zero.
        q = np.trunc(image / np.float32(scale) + np.copysign(0.5, image)) + zero
        return np.clip(q, ends.min, ends.max).astype(kind)

    found: dict[str, list[np.ndarray]] = {name: [] for name in exits}
    for row in range(COUNT):
        answers = runner(
            **{key: stored(key, values[row : row + 1]) for key, values in data.items()}
        )
        for name, values in answers.items():
            scale, zero = exits[name]["quantization"]
            found[name].append(values if scale == 0 else (values.astype(float) - zero) * scale)
    return {name: np.concatenate(rows) for name, rows in found.items()}


class TestFiles:
    @pytest.mark.parametrize(
        "name",
        ["float32", "int8", "float32 io", "exported", "named", "named int8", "named exported"],
    )
    def test_as_the_runner_and_as_keras(
        self, model: keras.Model, named: keras.Model, files: dict[str, bytes], name: str
    ) -> None:
        content, data = files[name], of(name)
        source = named if "named" in name else model
        expected = keras.tree.flatten(source(data))  # Keras takes both by their names
        outputs, theirs = tflite.predict(content, data), by_runner(content, data)
        wanted = ["map", "years"] if "named" in name else OUTPUTS
        assert list(tflite.inputs_outputs(content)[1]) == wanted
        for key, found, right in zip(wanted, outputs, expected, strict=True):
            np.testing.assert_allclose(found, theirs[key], atol=1e-5)
            bound = 0.05 * np.abs(right).max() if "io" in name or "int8" in name else 1e-5
            np.testing.assert_allclose(found, right, atol=bound)
        comparisons = tflite.compare(source, content, data)
        assert [found.output for found in comparisons] == wanted
        for found, before, after in zip(comparisons, expected, outputs, strict=True):
            assert found.largest == pytest.approx(np.abs(before - after).max(), abs=1e-5)
            assert f"at output {found.output} differ" in str(found)
            assert found.sqnr_db > 20

    @pytest.mark.parametrize("name", ["float32", "int8", "exported"])
    def test_order(self, files: dict[str, bytes], name: str) -> None:
        """The interpreter lists inputs and outputs as the model does."""
        interpreter = Interpreter(model_content=files[name])
        runner = interpreter.get_signature_runner()
        for listed, known, names in (
            (interpreter.get_input_details(), runner.get_input_details(), [*DATA]),
            (interpreter.get_output_details(), runner.get_output_details(), OUTPUTS),
        ):
            assert [entry["index"] for entry in listed] == [known[key]["index"] for key in names]

    def test_types(self, files: dict[str, bytes]) -> None:
        for name, kinds in (
            ("int8", ["int8", "int8", "int32"]),
            ("float32 io", ["float32", "float32", "int32"]),
        ):
            inputs, outputs = tflite.inputs_outputs(files[name])
            assert {key: tensor.type for key, tensor in inputs.items()} == dict(
                zip(DATA, kinds, strict=True)
            )
            assert {tensor.type for tensor in outputs.values()} == {kinds[0]}
        assert tflite.inspect(files["int8"]).integer_only
        found = tflite.inspect(files["float32 io"])
        assert not found.integer_only
        assert found.verdict.count("the input is float32") == 2
        assert found.verdict.count("the output is float32") == 3

    def test_a_list_is_in_the_models_order(self, files: dict[str, bytes]) -> None:
        for name in ("float32", "int8"):
            expected = tflite.predict(files[name], DATA)
            for found, right in zip(
                tflite.predict(files[name], [*DATA.values()]), expected, strict=True
            ):
                np.testing.assert_array_equal(found, right)
            swapped = [DATA[key] for key in ("infra-red", "visible", "words")]
            assert np.abs(tflite.predict(files[name], swapped)[1] - expected[1]).max() > 0.5

    def test_integers(self, files: dict[str, bytes]) -> None:
        """`run` takes and returns a file's own integers."""
        content = files["int8"]
        inputs, outputs = tflite.inputs_outputs(content)
        given = {
            key: DATA[key] if entry.params is None else quantize(DATA[key], entry.params)
            for key, entry in inputs.items()
        }
        found, real = tflite.run(content, given, "reference"), tflite.predict(content, DATA)
        every = tflite.run_all(content, given)
        for (key, exit_), q, floats in zip(outputs.items(), found, real, strict=True):
            assert q.dtype == np.int8, key
            np.testing.assert_allclose(
                dequantize(q, exit_.params), floats, atol=2 * exit_.scales[0]
            )
            np.testing.assert_array_equal(every[exit_.index], q)

    def test_refused(self, files: dict[str, bytes]) -> None:
        for use in (tflite.predict, tflite.run):
            with pytest.raises(ValueError, match=r"3 inputs, and 'words' is missing: give \{'vis"):
                use(files["float32"], of("named"))
            # A dictionary has no order that its reader knows.
            with pytest.raises(ValueError, match=r"says no order .* a list: give \{'infra-red'"):
                use(files["named"], [DATA[key] for key in PICTURES])
        with pytest.raises(ValueError, match="a pair, as of inputs and labels: give the inputs al"):
            tflite.predict(files["float32"], (DATA, np.zeros(COUNT)))
        with pytest.raises(ValueError, match=r"must have one input here.*inputs_outputs returns"):
            tflite.input_output(files["float32"])

    def test_evaluation(self, model: keras.Model, files: dict[str, bytes]) -> None:
        species = models.predict(model, DATA)[0].argmax(axis=1)
        found = tflite.evaluate(files["float32"], DATA, species, output="output_0")
        assert found.accuracy == 1
        by_number = tflite.evaluate(files["float32"], DATA, species, output=0)
        assert by_number.accuracy == found.accuracy
        assert tflite.evaluate(files["float32"], DATA, species, output="output_1").accuracy < 0.8
        with pytest.raises(ValueError, match=r"3 outputs, .*: say which .* output='output_0'"):
            tflite.evaluate(files["float32"], DATA, species)
        with pytest.raises(ValueError, match="output must be one of output_0, output_1, output_2"):
            tflite.evaluate(files["float32"], DATA, species, output="species")
        with pytest.raises(ValueError, match=r"y must hold one class .* shape \(24,\)"):
            tflite.evaluate(files["float32"], DATA, species[1:], output="output_0")
        facts = deployment.DIGIT_FACTS
        timed = [deployment.latency(files["int8"], {k: v[:1] for k, v in DATA.items()}, runs=1)]
        card = {"name": "n", "made": "By hand.", "facts": facts}
        text = deployment.model_card(files["int8"], found, timed, output="output_0", **card)
        for name in (*(f"input `{key}`" for key in DATA), *(f"output `{key}`" for key in OUTPUTS)):
            assert f"| {name} |" in text
        assert "whose largest value of output `output_0` is at the right" in text
        with pytest.raises(ValueError, match="say which one holds the classes"):
            deployment.model_card(files["int8"], found, timed, **card)
        with pytest.raises(ValueError, match=r"image must have the shape \(1, …\)"):
            deployment.latency(files["int8"], DATA, runs=1)


class TestConversion:
    def test_calibration_in_other_forms(self, model: keras.Model, files: dict[str, bytes]) -> None:
        backwards = dict(reversed(DATA.items()))
        for given in (backwards, [*DATA.values()]):
            content = tflite.convert(model, "int8", calibration=given, input_range=RANGES)
            assert content == files["int8"]

    def test_refused(self, model: keras.Model, named: keras.Model) -> None:
        def convert(calibration: Any, source: keras.Model = model, **options: Any) -> None:
            tflite.convert(source, "int8", calibration=calibration, **options)

        with pytest.raises(
            ValueError, match=r"calibration\['infra-red'\] holds .* say input_range"
        ):
            convert(DATA)
        with pytest.raises(ValueError, match=r"calibration\['words'\] must hold int32 values"):
            convert(DATA | {"words": DATA["visible"]}, input_range=None)
        with pytest.raises(ValueError, match="same number of examples for each input, got 24 for"):
            convert(DATA | {"words": DATA["words"][:3]}, input_range=None)
        with pytest.raises(ValueError, match="the model has no input 'age'"):
            convert(DATA | {"age": DATA["words"]}, input_range=None)
        with pytest.raises(ValueError, match=r"says no order .* a list: give \{'infra-red': …"):
            convert([DATA[key] for key in PICTURES], named)
        with pytest.raises(ValueError, match=r"hundred .* 'words' of the shape \('n', 4\), scaled"):
            convert(None)
        with pytest.raises(ValueError, match="whose input 'words' holds int32 values"):
            tflite.convert(model, "int16x8", calibration=DATA, input_range=None)

    def test_a_layer_that_computes_infinite_values(self) -> None:
        a, b = keras.Input((4,), name="b"), keras.Input((4,), name="a")
        broken = keras.Model([a, b], [a + b, keras.ops.log(b)])
        x = np.random.default_rng(0).uniform(0.1, 1, (2, 8, 4)).astype(np.float32)
        with pytest.raises(ValueError, match=r"[Ll]og.* from calibration image 0, and the conver"):
            tflite.convert(broken, "int8", calibration={"b": x[0], "a": 0 * x[1]}, input_range=None)
        first, second = soundness.finite_outputs(broken, [*x], COUNT)
        np.testing.assert_allclose(first, x[0] + x[1], rtol=1e-6)
        np.testing.assert_allclose(second, np.log(x[1]), rtol=1e-5)

    def test_swapped_files_are_found(self, named: keras.Model, files: dict[str, bytes]) -> None:
        content, data = files["named"], of("named")
        same = {key: key for key in ("map", "years")}
        swapped = flatbuffer.with_ends(
            content, dict(zip(PICTURES, PICTURES[::-1], strict=True)), same, is_ordered=False
        )
        assert min(found.sqnr_db for found in tflite.compare(named, content, data)) > 80
        assert max(found.sqnr_db for found in tflite.compare(named, swapped, data)) < 5

    def test_a_file_that_is_worse_than_its_rounding(self, files: dict[str, bytes]) -> None:
        """The second output alone shows it."""
        broken = flatbuffer.read(files["named int8"])
        (op,) = (op for op in flatbuffer.graph(files["named int8"]).ops if "age" in op.layers)
        scales = broken.subgraphs[0].tensors[op.inputs[1].index].quantization
        scales.scale = scales.scale * np.float32(0.1)
        floats, data = files["named"], of("named")
        trial.require_like_floats(files["named int8"], floats, data)
        with pytest.raises(ValueError, match=r"worse than its rounding explains.*age.*its weights"):
            trial.require_like_floats(flatbuffer.write(broken), floats, data)

    def test_layers_in_float(self, model: keras.Model) -> None:
        """The name of an output's layer is lost in the file, and found by its place."""
        content = tflite.convert(
            model,
            "int8_fallback",
            calibration=DATA,
            input_range=None,
            float_layers=["species", "edges"],
        )
        kinds = {op.type: op.outputs[0].type for op in tflite.inspect(content).ops}
        assert kinds["SOFTMAX"] == "float32"
        convolutions = [op for op in tflite.inspect(content).ops if op.type == "CONV_2D"]
        assert sorted(op.outputs[0].type for op in convolutions) == ["float32", "int8"]
        for found in tflite.compare(model, content, DATA):
            assert found.sqnr_db > 20

    def test_debugging(self, model: keras.Model, files: dict[str, bytes]) -> None:
        some = {key: values[:8] for key, values in DATA.items()}
        debugged = {n: tflite.debug(model, files[n], some) for n in ("int8", "float32 io")}
        for found in debugged.values():
            doors = [row for row in found.rows if row.op == "INPUT"]
            assert [row.layers for row in doors] == [(key,) for key in PICTURES]  # words are exact
            for row, key in zip(doors, PICTURES, strict=True):
                low, high = RANGES[key]
                assert row.scale == pytest.approx((high - low) / 255, rel=0.02)
            assert found.worst.own < 1
        again = tflite.debug(files["float32"], files["int8"], [*some.values()])
        assert [row.own_rmse for row in again.rows] == [
            row.own_rmse for row in debugged["int8"].rows
        ]
        with pytest.raises(ValueError, match=r"must have the same inputs, got visible.* and inf"):
            tflite.debug(files["float32"], files["named int8"], some)

    def test_recipes(self, model: keras.Model, files: dict[str, bytes]) -> None:
        # The quantizer averages the ranges of the images, so that values of most would be clipped.
        alike = {key: np.repeat(values[:1], COUNT, axis=0) for key, values in DATA.items()}
        static = {"calibration": [*alike.values()], "input_range": RANGES}
        for recipe, data, options in (
            ("static_wi8_ai8", alike, static),
            ("weight_only_wi8_afp32", DATA, {}),
        ):
            content = tflite.apply_recipe(files["exported"], recipe, **options)
            outputs, theirs = tflite.predict(content, [*data.values()]), by_runner(content, data)
            for found, key in zip(outputs, OUTPUTS, strict=True):
                np.testing.assert_allclose(found, theirs[key], atol=1e-5)
            assert min(found.sqnr_db for found in tflite.compare(model, content, data)) > 20
        with pytest.raises(ValueError, match=r"calibration\['infra-red'\] holds values"):
            tflite.apply_recipe(files["exported"], "static_wi8_ai8", calibration=DATA)


def test_integers_alone(files: dict[str, bytes]) -> None:
    content, data = files["named int8"], of("named")
    model, inputs = integer.load(content), tflite.inputs_outputs(content)[0]
    given = {key: quantize(data[key], entry.params) for key, entry in inputs.items()}
    for ours, theirs in zip(
        integer.run(model, given), tflite.run(content, given, "reference"), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    floats = tflite.predict(content, data)
    for ours, theirs in zip(integer.predict(model, data), floats, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.05)
    with pytest.raises(ValueError, match=r"says no order .* a list: give \{'infra-red'"):
        integer.run(model, [*given.values()])


class TestOtherModels:
    def test_more_than_ten_outputs(self, tmp_path: Path) -> None:
        """A signature sorts output_10 before output_2, and Keras' own export leaves it so."""
        image = keras.Input((3,), name="image")
        model = keras.Model(image, [image * float(n + 1) for n in range(12)])
        x = np.random.default_rng(0).uniform(0, 1, (2, 3)).astype(np.float32)
        with quiet.all_output():
            model.export(tmp_path / "own.tflite", format="litert", verbose=False)
        foreign = (tmp_path / "own.tflite").read_bytes()
        for content in (foreign, tflite.convert(model, "float32"), tflite.export_litert(model)):
            outputs = tflite.predict(content, x)
            np.testing.assert_allclose(outputs, [x * (n + 1) for n in range(12)], rtol=1e-6)

    def test_a_file_of_another_tool(self, model: keras.Model, tmp_path: Path) -> None:
        with quiet.all_output():
            model.export(tmp_path / "own.tflite", format="litert", verbose=False)
        foreign = (tmp_path / "own.tflite").read_bytes()
        # It has names for its inputs that TensorFlow takes.
        data = {name.replace("-", "_"): values for name, values in DATA.items()}
        data = {name: data[name.replace("-", "_")] for name in tflite.inputs_outputs(foreign)[0]}
        outputs = tflite.predict(foreign, data)
        for found, right in zip(outputs, models.predict(model, DATA), strict=True):
            np.testing.assert_allclose(found, right, atol=1e-5)
        with pytest.raises(ValueError, match="says no order of its inputs"):
            tflite.predict(foreign, [*data.values()])

    def test_one_tensor_as_two_outputs(self) -> None:
        a, b = keras.Input((3,), name="z"), keras.Input((3,), name="unused")
        doubled = layers.Dense(2, name="dense")(a)
        x = {
            name: np.random.default_rng(0).uniform(0, 1, (9, 3)).astype(np.float32) for name in "z"
        }
        x["unused"] = x["z"] + 1
        twice = keras.Model([a, b], {"b": doubled, "a": doubled, "c": a})
        for mode in ("float32", "int8"):
            options = {"calibration": x, "input_range": None} if mode == "int8" else {}
            content = tflite.convert(twice, mode, **options)
            expected = keras.tree.flatten(twice(x))
            for found, right in zip(tflite.predict(content, x), expected, strict=True):
                np.testing.assert_allclose(found, right, atol=0.05)

    @pytest.mark.parametrize("pack", [lambda a, b: [a, b], lambda a, b: {"z": a, "a": b}])
    def test_tf_keras(self, pack: Callable[..., Any]) -> None:
        a, b = tf_keras.Input((3,), name="z"), tf_keras.Input((3,), name="a")
        dense = tf_keras.layers.Dense(2)
        model = tf_keras.Model(pack(a, b), [dense(a) - 2 * dense(b), dense(b)])
        z, y = np.random.default_rng(0).uniform(0, 1, (2, 9, 3)).astype(np.float32)
        kernel = dense.get_weights()[0]
        for mode in ("float32", "int8"):
            options = {"calibration": {"a": y, "z": z}} if mode == "int8" else {}
            content = tflite.convert(model, mode, **options)
            bound = 0.05 if options else 1e-5
            found = tflite.predict(content, {"a": y, "z": z})
            np.testing.assert_allclose(found[0], (z - 2 * y) @ kernel, atol=bound)
            np.testing.assert_allclose(found[1], y @ kernel, atol=bound)

    def test_a_saved_model(self, tmp_path: Path) -> None:
        folder = saved_model(
            tmp_path / "model",
            lambda z, a: {"late": z - 2.0 * a, "early": a},
            *(tf.TensorSpec((None, 3), name=name) for name in "za"),
        )
        z, a = np.random.default_rng(0).uniform(0, 1, (2, 9, 3)).astype(np.float32)
        for mode in ("float32", "int8"):
            options = {"calibration": {"a": a, "z": z}} if mode == "int8" else {}
            content = tflite.convert(folder, mode, **options)
            assert list(tflite.inputs_outputs(content)[1]) == ["early", "late"]
            early, late = tflite.predict(content, {"a": a, "z": z})
            np.testing.assert_allclose(early, a, atol=0.01)
            np.testing.assert_allclose(late, z - 2 * a, atol=0.03)
        with pytest.raises(ValueError, match="says no order of its inputs"):
            tflite.convert(folder, "int8", calibration=[z, a])

    def test_a_fixed_number_of_images(self) -> None:
        a, b = (keras.Input((3,), batch_size=4, name=name) for name in "za")
        model = keras.Model([a, b], [a - 2 * b, b])
        z, y = np.random.default_rng(0).uniform(0, 1, (2, 6, 3)).astype(np.float32)
        content = tflite.convert(model, "int8", calibration=[z, y])
        np.testing.assert_allclose(tflite.predict(content, [z, y])[0], z - 2 * y, atol=0.03)


def test_predicting_with_keras(model: keras.Model, named: keras.Model) -> None:
    """In parts of 500, and in the model's own structure."""
    many = {key: np.resize(values, (1003, *values.shape[1:])) for key, values in DATA.items()}
    expected = model([many[key] for key in DATA], training=False)
    for given in (many, dict(reversed(many.items())), [*many.values()], tuple(many.values())):
        found = models.predict(model, given)
        assert isinstance(found, list)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    found = models.predict(named, {key: DATA[key] for key in PICTURES})
    assert set(found) == {"years", "map"}
    with pytest.raises(ValueError, match="the model has no input 'words'"):
        models.predict(named, DATA)
    with pytest.raises(ValueError, match="x must hold the same number of examples"):
        models.predict(named, {"visible": DATA["visible"], "infra-red": DATA["infra-red"][:2]})
