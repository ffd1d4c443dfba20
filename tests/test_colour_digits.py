"""The colour digits: the same on every machine, legible, and nothing that gives the class away."""

import hashlib

from quant_tutorial import colour_digits, mnist

import numpy as np
import pytest


def test_complete_and_read_only(data: mnist.Mnist) -> None:
    painted = colour_digits.load()
    assert painted._fields == data._fields
    assert painted.x_train.shape == painted.x_test.shape == (10_000, 32, 32, 3)
    assert painted.x_train.dtype == painted.x_test.dtype == np.uint8
    np.testing.assert_array_equal(painted.y_train, data.y_train[:10_000])
    np.testing.assert_array_equal(painted.y_test, data.y_test)
    with pytest.raises(ValueError, match="read-only"):
        painted.x_test[0, 0, 0] = 1
    assert colour_digits.load() is painted


def test_the_same_on_every_machine() -> None:
    """The figures that ship with the course were measured on these images."""
    painted = colour_digits.load()
    found = [hashlib.sha256(images).hexdigest() for images in (painted.x_train, painted.x_test)]
    assert found == [
        "130e3a1ccf36cb39fef366c42456ac389380761090c2c8cf48a20eb134412cf6",
        "6311928f7e1aa5e7f57186f9f3dcfb690dd172a567c36144de60fd07c889b29f",
    ]


def test_a_seed_and_a_place_determine_an_image(data: mnist.Mnist) -> None:
    digits = data.x_test[:250]
    images = colour_digits.paint(digits, 7)
    np.testing.assert_array_equal(colour_digits.paint(digits[:130], 7), images[:130])
    for other in (8, (7, 1)):
        assert (colour_digits.paint(digits, other) != images).mean() > 0.9
    assert colour_digits.paint(digits[:0], 7).shape == (0, 32, 32, 3)


def test_digits_stand_out_from_their_grounds() -> None:
    """In each channel, sometimes lighter and sometimes darker."""
    halves = np.zeros((2000, 28, 28), np.uint8)
    halves[:, :14] = 255  # wherever it is placed, rows 4 to 13 are ink, and 18 to 31 ground
    images = colour_digits.paint(halves, 3).astype(np.float32) / 255
    ink, ground = images[:, 4:14, 4:28].mean((1, 2)), images[:, 18:, 4:28].mean((1, 2))
    difference = ink - ground
    assert np.abs(difference).min() > 0.1
    lighter = difference > 0
    assert (np.abs(lighter.mean(axis=0) - 0.5) < 0.05).all()
    # The channels are independent: each of the eight combinations is as frequent as the others.
    counts = np.bincount(lighter @ [1, 2, 4], minlength=8)
    assert (np.abs(counts / len(images) - 1 / 8) < 0.04).all()


def test_each_texture_is_as_frequent_as_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour_digits, "_GRAIN", 0)
    monkeypatch.setattr(colour_digits, "_TEXTURE", 2)
    images = colour_digits.paint(np.zeros((600, 28, 28), np.uint8), 5)
    levels = np.array([max(len(np.unique(c)) for c in image.reshape(-1, 3).T) for image in images])
    blocks = images.reshape(600, 8, 4, 8, 4, 3)
    patches = (blocks == blocks[:, :, :1, :, :1]).all((1, 2, 3, 4, 5))
    stripes = (levels == 2) & ~patches
    for share in (patches.mean(), stripes.mean()):
        assert share == pytest.approx(1 / 3, abs=0.06)


def test_digits_are_shifted_by_up_to_two_pixels() -> None:
    dots = np.zeros((500, 28, 28), np.uint8)
    dots[:, 13, 14] = 255
    place = np.random.default_rng(0).random((500, 2), np.float32)
    placed = colour_digits._placed(dots, place)
    assert placed.shape == (500, 1, 32, 32)
    assert placed.sum() == 500
    _, _, rows, columns = np.nonzero(placed)
    assert (set(rows), set(columns)) == (set(range(13, 18)), set(range(14, 19)))


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 28, 28)), np.zeros((28, 28), np.uint8), np.zeros((2, 32, 32), np.uint8)]
)
def test_digits_that_are_none(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"digits must be uint8 of shape \(n, 28, 28\), got"):
        colour_digits.paint(wrong, 0)


def test_to_float() -> None:
    pixels = colour_digits.load().x_test[:500]
    images = colour_digits.to_float(pixels)
    assert images.shape == pixels.shape
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (-1, 1) == colour_digits.RANGE
    np.testing.assert_array_equal(np.rint((images + 1) * 127.5), pixels)
    for wrong in (images, pixels[0], pixels[..., :1]):
        with pytest.raises(ValueError, match=r"images must be uint8 of shape \(n, 32, 32, 3\)"):
            colour_digits.to_float(wrong)
