"""What a caller hands over: taken in every sound form, else refused by name."""

from typing import Any

from quant_tutorial.arguments import (
    checked_calibration,
    checked_choice,
    checked_images,
    checked_whole,
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
