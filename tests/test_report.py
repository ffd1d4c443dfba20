"""The report on a reader's model: what it reads, refuses, measures, mends, keeps and writes."""

import argparse
import dataclasses
import functools
import io
import json
import re
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from quant_tutorial import executor, models, report, tflite
from quant_tutorial.__main__ import main
from quant_tutorial.report import command, keeping, mending, writing
from quant_tutorial.report.variants import FLOAT32, INT8, VARIANTS

import keras
import numpy as np
import pytest

L = keras.layers
SHAPE = (8, 8, 2)


def network(factor: float = 1.0) -> keras.Model:
    """A small network, one channel of whose first layer is as many times as wide."""
    keras.utils.set_random_seed(7)
    image = keras.Input(SHAPE)
    x = L.Conv2D(6, 3, activation="relu", name="first", bias_initializer="ones")(image)
    x = L.Conv2D(4, 3, activation="relu", name="second", bias_initializer="ones")(x)
    model = keras.Model(image, L.Dense(3, name="last")(L.Flatten(name="flat")(x)), name="small")
    kernel, bias = model.get_layer("first").get_weights()
    kernel[..., 2] *= factor
    bias[2] *= factor
    model.get_layer("first").set_weights([kernel, bias])
    kernel, bias = model.get_layer("second").get_weights()
    kernel[:, :, 2] /= factor
    model.get_layer("second").set_weights([kernel, bias])
    return model


def threshold() -> keras.Model:
    """Class 1 for a pixel above 0.5."""
    model = keras.Sequential([keras.Input((1,)), L.Dense(2)])
    model.set_weights([np.array([[0.0, 1.0]]), np.array([0.5, 0.0])])
    return model


@functools.cache
def labelled() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.uniform(0, 1, (120, *SHAPE)).astype(np.float32)
    labels = models.predict(network(), images).argmax(axis=1)
    return {"x_train": images[:40], "x_test": images[40:], "y_test": labels[40:]}


def arrays() -> dict[str, np.ndarray]:
    return dict(labelled())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("report")
    network(512).save(folder / "small.keras")
    np.savez(folder / "data.npz", **arrays())
    return folder / "small.keras", folder / "data.npz"


@pytest.fixture(scope="module")
def subject(files: tuple[Path, Path]) -> report.Subject:
    return report.load(*files, labels="y_test", input_range=(0, 1))


@pytest.fixture(scope="module")
def written(
    files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """The folder of a whole report, and the lines of its progress."""
    out, stream = tmp_path_factory.mktemp("written") / "out", io.StringIO()
    options = {"labels": "y_test", "input_range": (0, 1)}
    assert command.make_report(*files, options, out, stream) == out / "report.html"
    return out, stream.getvalue().splitlines()


@pytest.fixture(scope="module")
def made(subject: report.Subject, written: tuple[Path, list[str]]) -> list[report.Made]:
    """Two of the report's files, as they were kept."""
    return report.measure_all(subject, written[0], [FLOAT32, INT8])


class TestReading:
    def test_what_is_read(self, subject: report.Subject) -> None:
        assert subject.name == "small"
        assert len(subject.calibration) == 40
        assert len(subject.images) == len(subject.labels) == len(subject.outputs) == 80
        assert subject.notes == ()
        assert "0 to 1, as told" in repr(subject)

    def test_without_calibration_images_none_serve_twice(
        self, files: tuple[Path, Path], tmp_path: Path
    ) -> None:
        images = arrays()["x_test"]
        np.savez(tmp_path / "one.npz", images=images, labels=arrays()["y_test"])
        found = report.load(files[0], tmp_path / "one.npz")
        used = np.concatenate([found.calibration, found.images])
        assert len(np.unique(used.reshape(len(used), -1), axis=0)) == len(images)
        assert found.labels is None
        assert found.input_range == (found.calibration.min(), found.calibration.max())
        assert "--labels labels" in found.notes[0]
        assert "of images calibrate" in found.notes[1]

    def test_the_fingerprint_depends_on_all(self, files: tuple[Path, Path]) -> None:
        found = {
            report.load(*files, **options).fingerprint
            for options in (
                {},
                {"labels": "y_test"},
                {"input_range": (0, 1)},
                {"images": "x_train"},
            )
        }
        assert len(found) == 4

    @pytest.mark.parametrize(
        ("changed", "options", "message"),
        [
            ({}, {"labels": "y"}, r"labels: the data file has no array 'y'; it has x_train \(40"),
            ({}, {"images": "pictures"}, "images: the data file has no array 'pictures'"),
            ({}, {"calibration": "c"}, "calibration: the data file has no array 'c'"),
            ({"x_test": None}, {}, "none of the arrays x_test, images, x"),
            ({"y_test": np.arange(79)}, {"labels": "y_test"}, "each of the 80 images of x_test"),
            ({"y_test": np.eye(80)}, {"labels": "y_test"}, r"y_test\.argmax\(axis=1\)"),
            ({"y_test": np.full(80, 0.5)}, {"labels": "y_test"}, "the number of a class"),
            ({"y_test": np.full(80, 3)}, {"labels": "y_test"}, "classes from 0 to 2, as the model"),
            ({"x_test": np.ones((80, 8, 8))}, {}, r"must have the shape \('n', 8, 8, 2\), got"),
            ({"x_test": np.full((80, 8, 8, 2), "a")}, {}, "x_test must hold numbers, got <U1"),
            ({"x_train": 255 * np.ones((9, 8, 8, 2))}, {"input_range": (0, 1)}, "expects 0 to 1"),
            ({"x_test": np.full((80, 8, 8, 2), np.nan)}, {}, "must be finite"),
        ],
    )
    def test_wrong_data(
        self,
        files: tuple[Path, Path],
        tmp_path: Path,
        changed: dict[str, Any],
        options: dict[str, Any],
        message: str,
    ) -> None:
        content = {k: v for k, v in {**arrays(), **changed}.items() if v is not None}
        np.savez(tmp_path / "wrong.npz", **content)
        with pytest.raises(ValueError, match=message):
            report.load(files[0], tmp_path / "wrong.npz", **options)

    def test_a_missing_axis_is_named(self, tmp_path: Path) -> None:
        keras.Sequential([keras.Input((4, 4, 1)), L.Flatten()]).save(tmp_path / "m.keras")
        np.savez(tmp_path / "d.npz", x_test=np.zeros((9, 4, 4)))
        with pytest.raises(ValueError, match=r"x_test\[\.\.\., np\.newaxis\]"):
            report.load(tmp_path / "m.keras", tmp_path / "d.npz")

    def test_wrong_files(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        broken = tmp_path / "broken.keras"
        broken.write_bytes(b"no model")
        for model, data, kind, message in (
            (tmp_path / "no.keras", files[1], FileNotFoundError, "model: there is no file"),
            (files[0], tmp_path / "no.npz", FileNotFoundError, "data: there is no file"),
            (files[1], files[1], ValueError, "model must be a .keras or .h5 file"),
            (broken, files[1], ValueError, "model: Keras cannot read"),
            (files[0], broken, ValueError, "data must be an .npz file of arrays"),
        ):
            with pytest.raises(kind, match=message):
                report.load(model, data)

    def test_objects_in_the_data_are_not_run(
        self, files: tuple[Path, Path], tmp_path: Path
    ) -> None:
        np.savez(tmp_path / "objects.npz", x_test=np.array([{}], object))
        with pytest.raises(ValueError, match=r"data must be an \.npz file of arrays"):
            report.load(files[0], tmp_path / "objects.npz")


class TestFindings:
    def test_a_sound_pair(self, subject: report.Subject) -> None:
        found = report.check(subject)
        found.stop()
        assert "The float model gets 100% of 80 images right as they are" in repr(found)
        assert "no layer that rescales" in repr(found)
        few = [finding.what for finding in found.found if finding.state == "look"]
        assert {"calibration images", "images to measure on"} <= set(few)

    def test_bytes_for_a_model_of_0_to_1(self, tmp_path: Path) -> None:
        threshold().save(tmp_path / "m.keras")
        pixels = np.arange(256).reshape(-1, 1)
        np.savez(tmp_path / "d.npz", x_test=pixels, y_test=pixels[:, 0] > 127)
        found = report.check(report.load(tmp_path / "m.keras", tmp_path / "d.npz", labels="y_test"))
        with pytest.raises(ValueError, match=r"scale of the images: .* 100% divided by 255"):
            found.stop()

    def test_what_other_scalings_bring_is_said_as_it_is(self, tmp_path: Path) -> None:
        threshold().save(tmp_path / "m.keras")
        unit = np.linspace(0, 1, 60)
        for values, bound, sentence in (
            (unit, 0.5, "100% of 60 images right as they are, and no more with another"),
            (unit, 0.7, "80% of 60 images right as they are, and 95% scaled to −1 to 1."),
            (6 * unit - 3, 0.5, "100% of 60 images right as they are. Their range is none"),
        ):
            data = {"x_test": values[:, np.newaxis], "y_test": values > bound}
            np.savez(tmp_path / "d.npz", **data)
            options = {"labels": "y_test", "calibration": "x_test"}
            found = report.check(report.load(tmp_path / "m.keras", tmp_path / "d.npz", **options))
            assert sentence in repr(found)

    def test_quantities_may_look_like_classes(
        self, files: tuple[Path, Path], subject: report.Subject
    ) -> None:
        found = {finding.what: finding for finding in report.check(report.load(*files)).found}
        assert found["output"].state == "look"
        assert "If the model predicts quantities, ignore" in found["output"].sentence
        assert "quantities" not in repr(report.check(subject))

    def test_layers_that_rescale_are_found_inside(self) -> None:
        inner = keras.Sequential([keras.Input((4,)), L.Rescaling(2.0, -1.0, name="re"), L.Dense(2)])
        model = keras.Sequential([keras.Input((4,)), inner])
        assert [layer.name for layer in report.scaling_layers(model)] == ["re"]

    def test_usual_scalings(self) -> None:
        unit = np.linspace(0, 1, 5, dtype=np.float32)
        for values in (unit, 255 * unit, 2 * unit - 1):
            ends = {
                (float(v.min()), float(v.max())) for v in report.preprocessings(values).values()
            }
            assert len(ends) == 2
            assert ends | {(float(values.min()), float(values.max()))} == {
                (0, 1),
                (0, 255),
                (-1, 1),
            }


@pytest.mark.slow
class TestDiagnosis:
    def test_the_wide_channel_is_found(
        self, subject: report.Subject, made: list[report.Made]
    ) -> None:
        diagnosis = report.diagnose_int8(subject, made)
        worst = diagnosis.worst[0]
        assert (worst.layer, worst.before) == ("second", "first")
        assert worst.before_spread > 100
        assert "one scale for channels that differ" in worst.cause
        assert report.layers_around([worst], ["first", "second", "last"]) == ("first", "second")
        ranges = report.channel_ranges(made[0].content, subject.images[:5])
        assert ranges["first"].argmax() == 2
        assert set(ranges) >= {"input", "first", "second", "last"}

    def test_it_is_mended(
        self,
        subject: report.Subject,
        made: list[report.Made],
        written: tuple[Path, list[str]],
    ) -> None:
        """Its files are those of the report, where the wide channel was found as well."""
        diagnosis = report.diagnose_int8(subject, made, written[0])
        attempts = {one.name: one for one in report.repairs(subject, diagnosis)}
        both = next(name for name in attempts if name == "int8, first, second in float")
        chosen = [attempts[name] for name in (both, "int8, equalized", "int8, MSE ranges")]
        found = {one.row.name: one.row for one in report.measure_all(subject, written[0], chosen)}
        start = made[1].row
        assert start.sqnr_db < 15
        assert found[both].sqnr_db > start.sqnr_db + 15
        assert not found[both].integer_only
        assert found["int8, equalized"].sqnr_db > start.sqnr_db + 15
        assert found["int8, equalized"].integer_only

    def test_layers_of_one_axis_are_rounded(self, tmp_path: Path) -> None:
        """What cannot be made of them, the room `rounding` refuses itself."""
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((32, 2)),
                L.Conv1D(6, 5, activation="relu"),
                L.DepthwiseConv1D(3, activation="relu"),
                L.SeparableConv1D(8, 3, activation="relu"),
                L.Conv1D(4, 3, strides=2, activation="relu"),
                L.GlobalAveragePooling1D(),
                L.Dense(3),
            ]
        )
        model.save(tmp_path / "m.keras")
        series = np.random.default_rng(0).normal(0, 1, (260, 32, 2)).astype(np.float32)
        np.savez(tmp_path / "d.npz", x_train=series[:60], x_test=series[60:])
        found = report.load(tmp_path / "m.keras", tmp_path / "d.npz")
        for one in report.measure_all(found, None, mending.REPAIRS):
            if one.row.name == "4-bit weights, GPTQ":
                assert "(DepthwiseConv1D) has no 4-bit weights in the file" in one.row.refused
            else:
                assert one.row.refused is None
                assert one.row.sqnr_db > 25

    @pytest.mark.parametrize("channels", [[1, 1, 8], [0, 0, 1, 1, 8]])
    def test_spread(self, channels: list[float]) -> None:
        assert report.spread(np.array(channels, float)) == 8
        assert report.spread(np.zeros(3)) == 1


@pytest.mark.slow
class TestMeasuring:
    def test_float32_changes_nothing(self, made: list[report.Made]) -> None:
        row = made[0].row
        assert row.right == row.float_right == row.same == row.images == 80
        assert row.file == len(made[0].content)
        assert not row.integer_only
        assert made[1].row.integer_only

    def test_the_limit_of_the_loss_covers_it(self) -> None:
        """Of many draws with a known loss, the limit is above it in about 97.5%."""
        random = np.random.default_rng(0)
        draws = random.multinomial(1000, [0.02, 0.01, 0.97], 2000)
        limits = [
            report.Row(
                "", "", right=0, same=0, images=1000, only_float=int(b), only_file=int(c)
            ).loss_limit
            for b, c, _ in draws
        ]
        assert 0.96 < np.mean(np.array(limits) >= 0.01) < 0.99

    def test_the_limit_is_that_of_others(self) -> None:
        """The example of ci.prop.ps(.05, 12, 4, 26, 6) in R's package statpsych."""
        row = report.Row("", "", right=0, same=0, images=48, only_float=26, only_file=4)
        assert row.loss_limit == pytest.approx(0.6252, abs=1e-4)

    def test_no_difference_among_few_images_is_no_certainty(self) -> None:
        row = report.Row("", "", right=50, same=50, images=50, only_float=0, only_file=0)
        assert row.loss_limit > 0.05

    def test_what_cannot_be_made_says_why(self, tmp_path: Path) -> None:
        image = keras.Input((6,))
        keras.Model(image, L.Dense(2)(keras.ops.sin(image))).save(tmp_path / "m.keras")
        np.savez(tmp_path / "d.npz", x_test=np.random.default_rng(0).uniform(0, 1, (30, 6)))
        found = report.load(tmp_path / "m.keras", tmp_path / "d.npz")
        (one,) = report.measure_all(found, None, [INT8])
        assert one.content is None
        assert "SIN" in one.row.refused
        assert report.refusals([one.row]).startswith("int8: A full-integer file is not possible")
        assert len(report.table([one.row]).lines) == 1

    def test_one_number_is_a_class_or_not(self) -> None:
        share = np.array([[0.2], [0.7]], np.float32)
        assert report.measuring.predicted(share).tolist() == [0, 1]
        assert report.measuring.predicted(4 * share - 2).tolist() == [0, 1]
        assert report.measuring.predicted(np.zeros((2, 3, 3))) is None

    def test_progress(self, subject: report.Subject) -> None:
        seen: list[Any] = []
        report.measure_all(subject, None, [FLOAT32], progress=lambda *what: seen.append(what))
        assert seen == [(0, 1, "float32"), (1, 1, "")]
        stream = io.StringIO()
        show = command.bar("files", stream)
        show(0, 2, "int8")
        show(2, 2, "")
        assert stream.getvalue() == "files 1/2: int8\n"

    def test_another_process(
        self, subject: report.Subject, made: list[report.Made], tmp_path: Path
    ) -> None:
        """It finds the same, and this process writes it. (Several do so in `test_executor`.)"""
        seen: list[Any] = []
        variants = [FLOAT32, INT8]
        with executor.processes(1) as one:
            found = report.measure_all(
                subject, tmp_path, variants, progress=lambda *what: seen.append(what), executor=one
            )
        assert found == made
        assert [done for done, _, _ in seen] == [0, 1, 2]
        assert seen[-1] == (2, 2, "")
        assert (tmp_path / "files" / "int8.tflite").read_bytes() == made[1].content
        nowhere = Executor()  # it computes nothing
        assert report.measure_all(subject, tmp_path, variants, executor=nowhere) == made

    def test_a_bar_in_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
        show = command.bar("files", stream)
        show(1, 2, "int8")
        assert stream.getvalue().endswith(f"files [{'#' * 12}{'-' * 12}] 1/2 int8")
        show(2, 2, "")
        assert stream.getvalue().endswith(f"[{'#' * 24}] 2/2 \n")


class TestRecommending:
    @staticmethod
    def rows(int8_lost: int = 0, **changed: Any) -> list[report.Row]:
        figures = {"images": 1000, "right": 980, "float_right": 980, "same": 1000}
        same = {"only_float": 0, "only_file": 0}
        lost = {"right": 980 - int8_lost, "only_float": int8_lost, "only_file": 0}
        return [
            report.Row("float32", "", file=100_000, **figures, **same),
            report.Row("int8", "", file=30_000, integer_only=True, **(figures | lost)),
            report.Row("4 bits", "", file=20_000, **(figures | same | changed)),
        ]

    def test_the_integer_only_file(self) -> None:
        found = report.recommend(self.rows())
        assert (found.name, found.smallest) == ("int8", "4 bits")
        assert "Where the size of the file alone counts: “4 bits” takes" in found.reason

    def test_a_loss_that_cannot_be_excluded(self) -> None:
        found = report.recommend(self.rows(int8_lost=20))
        assert found.name == "4 bits"
        assert "The plain int8 file is not surely good enough: 960 of 1,000 right" in found.reason

    def test_too_few_images(self) -> None:
        few = {"images": 20, "right": 20, "float_right": 20, "same": 20}
        row = report.Row("float32", "", file=9, only_float=0, only_file=0, **few)
        assert "No file is surely good enough" in report.recommend([row]).reason

    def test_without_labels_the_error_is_said_as_well(self) -> None:
        rows = [dataclasses.replace(row, right=None, sqnr_db=31.4) for row in self.rows()]
        found = report.recommend(rows)
        assert found.name == "int8"
        said = "the float model's class for 1,000 of 1,000 images, with an SQNR of 31.4 dB"
        assert said in found.reason

    def test_no_float_file(self) -> None:
        with pytest.raises(ValueError, match=r"a file 'float32', .*: there is no such row"):
            report.recommend([])
        with pytest.raises(ValueError, match="compared: it has a loop"):
            report.recommend([report.Row("float32", "", refused="it has a loop")])


class TestKeeping:
    def test_what_is_finished_is_not_made_again(self, tmp_path: Path) -> None:
        calls = []

        def make() -> keeping.Result:
            calls.append(1)
            return {"n": len(calls)}, b"content"

        def kept(mark: str) -> int:
            return keeping.kept(tmp_path, "a file", mark, make)[0]["n"]

        assert [kept("x"), kept("x")] == [1, 1]
        assert kept("y") == 2  # the model has changed
        (tmp_path / "files" / "a_file.tflite").write_bytes(b"cont")
        assert kept("y") == 3  # the file has
        (tmp_path / "parts" / "a_file.json").write_text("{")
        assert kept("y") == 4

    def test_a_stop_leaves_nothing_half_written(self, tmp_path: Path) -> None:
        def stopped() -> keeping.Result:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            keeping.kept(tmp_path, "a", "x", stopped)
        assert not list(tmp_path.rglob("*"))


class TestCommand:
    @pytest.mark.slow
    def test_a_report(
        self,
        files: tuple[Path, Path],
        written: tuple[Path, list[str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        out, lines = written
        assert lines[0] == f"files 1/{len(VARIANTS)}: float32"
        text = (out / "report.html").read_text(encoding="utf-8")
        assert "<h1" in text
        assert not re.search(r"(src|href)=[\"']https?:", text)
        assert 'alt="The SQNR goes from' in text
        assert "<strong>Recommended:</strong>" in text
        assert "Traceback" not in text
        found = json.loads((out / "report.json").read_text(encoding="utf-8"))
        assert [row["name"] for row in found["files"]][: len(VARIANTS)] == [
            v.name for v in VARIANTS
        ]
        for row in found["files"]:
            file = out / "files" / f"{keeping.file_name(row['name'])}.tflite"
            assert file.exists() == (row["refused"] is None)
            if file.exists():
                assert len(file.read_bytes()) == row["file"]
                tflite.inspect(file.read_bytes())
        card = (out / "model_card.md").read_text(encoding="utf-8")
        assert "Not told." in card
        assert found["recommendation"]["name"] in card

        def never(*_: Any) -> bytes:
            raise AssertionError("a finished file is made again")

        monkeypatch.setattr(mending, "make", never)
        again = report.load(*files, labels="y_test", input_range=(0, 1))
        rows = [one.row for one in report.measure_all(again, out)]
        assert [row.name for row in rows] == [variant.name for variant in VARIANTS]

    def test_the_cells_are_the_lesson_s(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        found = writing.notebook(*files, {"labels": "y_test"}, tmp_path)
        sources = {cell["id"]: cell["source"] for cell in found["cells"]}
        assert str(files[0]) in sources[writing.PARAMETERS]
        assert "options = {'labels': 'y_test'}" in sources[writing.PARAMETERS]
        code = "\n".join(c["source"] for c in found["cells"] if c["cell_type"] == "code")
        compile(code, "report", "exec")
        assert "digits" not in code

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["no.keras", "--data", "no.npz"], "Error: model: there is no file no.keras"),
            (["{model}", "--data", "no.npz"], "Error: data: there is no file no.npz"),
            (["{model}", "--data", "{data}", "--labels", "y"], "has no array 'y'"),
            (
                ["{model}", "--data", "{data}", "--input-range", "-9,-8"],
                "but the model expects -9 to -8",
            ),
        ],
    )
    def test_errors_are_one_line(
        self,
        files: tuple[Path, Path],
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        message: str,
    ) -> None:
        named = [text.format(model=files[0], data=files[1]) for text in arguments]
        assert main(["report", *named]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert len(said.splitlines()) == 1

    def test_a_range(self) -> None:
        assert command.input_range("-1,1") == (-1, 1)
        for wrong in ("1", "1,0", "a,b", ""):
            with pytest.raises(argparse.ArgumentTypeError, match="two numbers such as 0,1"):
                command.input_range(wrong)
