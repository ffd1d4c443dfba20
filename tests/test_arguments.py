"""What a caller hands over: taken in every sound form, else refused by name."""

from typing import Any

from quant_tutorial.arguments import (
    ModelInput,
    by_input,
    checked_calibration,
    checked_calibration_inputs,
    checked_choice,
    checked_images,
    checked_inputs,
    checked_whole,
    ranges_by_input,
)

import numpy as np
import pytest
import tensorflow as tf

SHAPE = (4, 4, 1)
IMAGES = np.random.default_rng(0).random((3, *SHAPE), np.float32)


class TestImages:
    @pytest.mark.parametrize(
        "given",
        [
            IMAGES,
            list(IMAGES),
            tuple(IMAGES),
            IMAGES.tolist(),
            IMAGES.astype(np.float64),
            tf.constant(IMAGES),
        ],
        ids=["array", "list", "tuple", "nested lists", "float64", "tensor"],
    )
    def test_floats(self, given: Any) -> None:
        found = checked_images("x", given, SHAPE)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, IMAGES, rtol=1e-6)

    @pytest.mark.parametrize("kind", [tf.float16, tf.bfloat16])
    def test_floats_of_16_bits(self, kind: tf.DType) -> None:
        found = checked_images("x", tf.cast(IMAGES, kind), SHAPE)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, IMAGES, atol=0.005)

    def test_integers_of_the_models_own_type(self) -> None:
        pixels = (100 * IMAGES).astype(np.int8)
        assert checked_images("x", pixels, SHAPE, np.int8) is pixels

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (None, r"x must be an array of images, shape \('n', 4, 4, 1\), got NoneType"),
            ("text", "x must be an array of images"),
            (iter(IMAGES), "x must be an array of images.*np.concatenate"),
            (3.0, "x must be an array of images"),
            (np.float32(3), r"x must have the shape \('n', 4, 4, 1\) with n ≥ 1, got \(\)"),
            (IMAGES[0], r"x must have the shape .* got \(4, 4, 1\)"),
            (IMAGES[:0], r"x must have the shape .* with n ≥ 1, got \(0, 4, 4, 1\)"),
            ([IMAGES[0], IMAGES[1][:2]], r"x must hold images of one shape, \('n', 4, 4, 1\)"),
            (
                np.arange(0, 240, 5, np.uint8).reshape(3, *SHAPE),
                r"x must hold floats .*, shape \('n', 4, 4, 1\), got uint8 from 0 to 235: scale "
                r"them as for the model's training\. A model that scales pixels itself takes them "
                r"with astype\(np\.float32\)\.$",
            ),
            (IMAGES > 0.5, "x must hold floats .* got bool: scale"),
            (np.zeros((0, *SHAPE), int), "x must hold floats .* got int64: scale"),
            (np.full((1, *SHAPE), "7"), "x must hold floats .* got <U1: scale"),
            (np.where(IMAGES > 0.5, np.nan, IMAGES), "x must be finite, got NaN or infinite"),
            (np.full((1, *SHAPE), 1e300), "x must be finite"),
        ],
    )
    def test_others_are_refused_by_name(self, given: Any, message: str) -> None:
        with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
            checked_images("x", given, SHAPE)


COURSE = {"mnist.to_float": (28, 28, 1), "colour_digits.to_float": (32, 32, 3)}


class TestWhoseImages:
    """Another model's reader is not told how to scale the course's digits."""

    @pytest.mark.parametrize("shape", [SHAPE, (6,), (224, 224, 3), (32, 32, 1), *COURSE.values()])
    def test_of_whole_pixels(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="got uint8 from 7 to 7: scale") as caught:
            checked_images("x", np.full((1, *shape), 7, np.uint8), shape)
        self.check(str(caught.value), shape)

    @pytest.mark.parametrize("shape", [SHAPE, (None, None, 3), (32, 32, 1), *COURSE.values()])
    @pytest.mark.parametrize("value", [7, 0.001])
    def test_of_another_range(self, shape: tuple[int | None, ...], value: float) -> None:
        images = np.full((1, *(side or 9 for side in shape)), value, np.float32)
        expected = tuple(images.shape[1:]) if None in shape else shape
        with pytest.raises(ValueError, match=r"say input_range=\(low, high\)") as caught:
            checked_calibration(images, (None, *expected), (0, 1))
        self.check(str(caught.value), shape)

    def check(self, message: str, shape: tuple[int | None, ...]) -> None:
        assert "as for the model's training" in message
        for name, own in COURSE.items():
            assert (name in message) == (shape == own)


class TestCalibration:
    @pytest.mark.parametrize("form", [np.asarray, list, lambda images: images.tolist()])
    @pytest.mark.parametrize("kind", [np.uint8, np.int64, np.bool_])
    def test_integers_are_taken_as_they_are(self, form: Any, kind: type) -> None:
        whole = (IMAGES > 0.5).astype(kind)
        found = checked_calibration(form(whole), (None, *SHAPE), None)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, whole)

    def test_none(self) -> None:
        for empty in ([], IMAGES[:0]):
            with pytest.raises(ValueError, match="calibration must hold at least one image"):
                checked_calibration(empty, (None, *SHAPE), None)


INPUTS = {
    "photo": ModelInput((None, *SHAPE), np.dtype(np.float32)),
    "infrared": ModelInput((None, *SHAPE), np.dtype(np.float32)),
    "words": ModelInput((None, 2), np.dtype(np.int32)),
}
GIVEN = {
    "infrared": IMAGES,  # not in the model's order
    "words": np.arange(6).reshape(3, 2),
    "photo": 1 - IMAGES,
}
FORM = r"\{'photo': …, 'infrared': …, 'words': …\}"
WANTED = r"x must hold an array for each of the model's 3 inputs"


class TestSeveralInputs:
    @pytest.mark.parametrize("form", [dict, lambda given: [given[key] for key in INPUTS]])
    def test_in_the_models_order(self, form: Any) -> None:
        for found in (
            checked_inputs("x", form(GIVEN), INPUTS),
            checked_calibration_inputs(form(GIVEN), INPUTS, (0, 1)),
        ):
            assert [*found] == [*INPUTS]
            assert {key: values.dtype.name for key, values in found.items()} == {
                "photo": "float32",
                "infrared": "float32",
                "words": "int32",
            }
            for key, values in GIVEN.items():
                np.testing.assert_array_equal(found[key], values)

    def test_one_input_is_taken_as_ever(self) -> None:
        one = {"photo": INPUTS["photo"]}
        assert checked_inputs("x", IMAGES, one)["photo"] is IMAGES
        with pytest.raises(ValueError, match=r"calibration holds .*say input_range=\(low, high\)"):
            checked_calibration_inputs(9 * IMAGES, one, (0, 1))
        with pytest.raises(ValueError, match=r"x must be an array of images.*the keys are 'photo'"):
            checked_inputs("x", {"photo": IMAGES}, one)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (IMAGES, rf"{WANTED}, got one array of the shape \(3, 4, 4, 1\): give {FORM}, or a "
                "list in the order photo, infrared, words"),
            ([IMAGES, IMAGES], f"{WANTED}, got 2 arrays"),
            (None, f"{WANTED}, got NoneType"),
            ((GIVEN, np.zeros(3)), f"{WANTED}, got a pair, as of inputs and labels"),
            (([IMAGES] * 3, np.zeros(3)), f"{WANTED}, got a pair, as of inputs and labels"),
            ({"photo": IMAGES, "words": IMAGES},
                f"{WANTED}, and 'infrared' is missing: give {FORM}"),
            (GIVEN | {"age": IMAGES}, f"{WANTED}, and the model has no input 'age'"),
            (GIVEN | {"photo": IMAGES[:2]}, "same number of examples for each input, got 2 for "
                "'photo', 3 for 'infrared', 3 for 'words'"),
            (GIVEN | {"words": IMAGES}, r"x\['words'\] must hold int32 values"),
            (GIVEN | {"photo": IMAGES[:, 1:]}, r"x\['photo'\] must have the shape"),
            (GIVEN | {"photo": np.nan * IMAGES}, r"x\['photo'\] must be finite"),
            (tf.data.Dataset.from_tensor_slices(GIVEN).batch(2), f"{WANTED}, got .*Dataset "
                r"\(collect some hundred of its examples into an array for each input\)"),
        ],
    )  # fmt: skip
    def test_others_are_refused_by_name(self, given: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            checked_inputs("x", given, INPUTS)

    def test_a_list_where_the_order_is_not_known(self) -> None:
        assert [*by_input("x", GIVEN, [*INPUTS], listed=False)] == [*INPUTS]
        message = f"says no order of its inputs, got a list: give {FORM}"
        with pytest.raises(ValueError, match=message):
            by_input("x", [IMAGES, IMAGES, IMAGES], [*INPUTS], listed=False)

    def test_a_range_for_each(self) -> None:
        ranges = {"photo": (0, 1), "infrared": None}
        assert ranges_by_input(ranges, INPUTS) == ranges | {"words": None}
        assert ranges_by_input((0, 1), INPUTS) == {
            "photo": (0, 1),
            "infrared": (0, 1),
            "words": None,
        }
        assert set(ranges_by_input(None, INPUTS).values()) == {None}
        dark = GIVEN | {"infrared": 50 + IMAGES}
        checked_calibration_inputs(dark, INPUTS, ranges)
        with pytest.raises(
            ValueError,
            match=r"calibration\['infrared'\] holds values .* say "
            r"input_range\['infrared'\]=\(low, high\)",
        ):
            checked_calibration_inputs(dark, INPUTS, (0, 1))
        with pytest.raises(ValueError, match="input_range lacks the input 'infrared': give"):
            ranges_by_input({"photo": (0, 1)}, INPUTS)
        with pytest.raises(ValueError, match="input_range: the model has no input 'age'"):
            ranges_by_input(ranges | {"age": None}, INPUTS)


@pytest.mark.parametrize("value", [4, np.int64(4), np.uint8(4)])
def test_whole_numbers(value: Any) -> None:
    assert type(checked_whole("bits", value, 2, 16)) is int


@pytest.mark.parametrize("value", [True, 4.0, "4", None, np.float32(4), np.array([4])])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match="bits must be an integer, got"):
        checked_whole("bits", value, 2, 16)


def test_whole_numbers_out_of_range() -> None:
    with pytest.raises(ValueError, match="bits must be from 2 to 16, got 17"):
        checked_whole("bits", np.int16(17), 2, 16)
    with pytest.raises(ValueError, match="runs must be at least 1, got 0"):
        checked_whole("runs", 0, 1)


@pytest.mark.parametrize("value", ["c", None, 3, ["a"], np.array(["a", "b"])])
def test_choices(value: Any) -> None:
    assert checked_choice("mode", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match="mode must be one of a, b, got"):
        checked_choice("mode", value, ("a", "b"))
