"""Drawings become images like MNIST's: checked on MNIST, and on the model that reads them."""

import itertools
import math
from typing import Any

from quant_tutorial import mnist, models
from quant_tutorial.drawing import PEN, SIDE, draw_strokes, is_empty, to_mnist, to_pixels
from quant_tutorial.metrics import accuracy, agreement

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> list:
    """Points of an ellipse from one angle to another, in degrees, clockwise from the right."""
    angles = np.radians(np.linspace(start, end, 40))
    return [(x + width * math.cos(a), y + height * math.sin(a)) for a in angles]


# Strokes in shares of the canvas' side.
DIGITS = {
    0: [arc(0.5, 0.5, 0.2, 0.33, -90, 270)],
    1: [[(0.52, 0.15), (0.48, 0.85)]],
    2: [[*arc(0.5, 0.34, 0.18, 0.17, -170, 40), (0.3, 0.82), (0.72, 0.82)]],
    3: [[*arc(0.48, 0.32, 0.18, 0.16, -150, 90), *arc(0.48, 0.66, 0.2, 0.18, -90, 150)]],
    4: [[(0.35, 0.18), (0.3, 0.52), (0.7, 0.52)], [(0.64, 0.18), (0.6, 0.85)]],
    5: [[(0.68, 0.18), (0.36, 0.18), (0.34, 0.46), *arc(0.48, 0.64, 0.19, 0.19, -120, 140)]],
    6: [[(0.62, 0.15), *arc(0.5, 0.62, 0.2, 0.22, -160, 210)]],
    7: [[(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)]],
    8: [[*arc(0.5, 0.33, 0.15, 0.16, 90, -270), *arc(0.5, 0.67, 0.18, 0.18, -90, 270)]],
    9: [[*arc(0.5, 0.34, 0.16, 0.17, 0, -360), (0.66, 0.34), (0.6, 0.85)]],
}


def drawn(digit: int, size: float = 1, at: tuple[float, float] = (0, 0)) -> np.ndarray:
    """The raster of one of `DIGITS`, drawn at a size and a place."""
    return draw_strokes([SIDE * (size * np.array(stroke) + at) for stroke in DIGITS[digit]])


def longest_side(images: np.ndarray) -> np.ndarray:
    boxes = [ndimage.find_objects((image > 0).astype(int))[0] for image in images]
    return np.array([max(side.stop - side.start for side in box) for box in boxes])


class TestToMnist:
    def test_mnist_comes_back(self, data: mnist.Mnist) -> None:
        """All but the three test images that fill 19 pixels, which MNIST's rule would enlarge."""
        images = data.x_test[4000:10_000]
        back = np.stack([to_mnist(image) for image in images])
        assert (back.dtype, back.shape) == (np.float32, (6000, 28, 28, 1))
        changed = np.abs(back - mnist.to_float(images)).max(axis=(1, 2, 3)) > 1e-6
        np.testing.assert_array_equal(changed, longest_side(images) != 20)
        assert changed.sum() == 3

    @pytest.mark.parametrize("filter_name", ["NEAREST", "BILINEAR", "BICUBIC"])
    def test_enlarged_and_moved_images_are_read(
        self, data: mnist.Mnist, baseline: Any, filter_name: str
    ) -> None:
        images, labels = data.x_test[:1000], data.y_test[:1000]
        original = models.predict(baseline, mnist.to_float(images))
        rng = np.random.default_rng(0)
        back, unprepared = [], []
        for image in images:
            raster = np.zeros((300, 300), np.uint8)
            top, left = rng.integers(0, 300 - 224, 2)
            large = Image.fromarray(image).resize((224, 224), Image.Resampling[filter_name])
            raster[top : top + 224, left : left + 224] = large
            back.append(to_mnist(raster))
            small = Image.fromarray(raster).resize((28, 28), Image.Resampling.BOX)
            unprepared.append(np.asarray(small)[..., np.newaxis] / np.float32(255))
        logits = models.predict(baseline, np.stack(back))
        assert accuracy(logits, labels) >= accuracy(original, labels) - 0.005
        assert agreement(logits.argmax(axis=1), original.argmax(axis=1)) >= 0.99
        # The bound means something: a raster that is only made smaller is misread far more often.
        assert accuracy(models.predict(baseline, np.stack(unprepared)), labels) < 0.97

    def test_size_and_centre(self) -> None:
        """Measured by SciPy on drawings of every size and place."""
        for digit in DIGITS:
            for size, at in [(1, (0, 0)), (0.3, (0, 0)), (0.5, (0.5, 0.5)), (0.7, (-0.1, 0.3))]:
                image = to_mnist(drawn(digit, size, at))[..., 0]
                assert longest_side(image[np.newaxis]) == 20
                assert np.abs(np.array(ndimage.center_of_mass(image)) - 14).max() <= 0.5 + 1e-6

    def test_averages_are_exact(self) -> None:
        """30 by 21 pixels become 20 by 14: the mean of the same areas on a raster twice as fine."""
        raster = np.random.default_rng(1).integers(1, 256, (30, 21), np.uint8)
        fine = raster.repeat(2, axis=0).repeat(2, axis=1)
        expected = np.asarray(Image.fromarray(fine).convert("F").reduce(3)) / 255
        image = to_mnist(raster)[..., 0]
        rows, columns = ndimage.find_objects((image > 0).astype(int))[0]
        np.testing.assert_allclose(image[rows, columns], expected, atol=1e-6)

    def test_aspect_ratio(self) -> None:
        """A bar of 60 by `width` holds 20 · width / 3 pixels' ink, alike on both sides."""
        for width in (9, 10, 1):
            raster = np.zeros((80, 80), np.uint8)
            raster[3:63, 50 : 50 + width] = 255
            image = to_mnist(raster)[..., 0]
            assert image.sum() == pytest.approx(20 * width / 3, rel=1e-5)
            ink = np.trim_zeros(image.sum(axis=0))
            np.testing.assert_allclose(ink, ink[::-1], rtol=1e-5)

    def test_turns_and_mirrors(self) -> None:
        raster = drawn(7, 0.7, (0.1, 0.2))
        np.testing.assert_allclose(to_mnist(raster.T)[..., 0], to_mnist(raster)[..., 0].T)

    def test_nothing_falls_outside(self) -> None:
        """All the mass at one end: centred, it would be cut; it stays whole instead."""
        raster = np.zeros((200, 200), np.uint8)
        raster[20:50, 20:180], raster[20:180, 98:102] = 255, 255
        image = to_mnist(raster)
        assert image.sum() == pytest.approx((raster / 255).sum() * (20 / 160) ** 2, rel=1e-5)

    def test_small_things_are_enlarged(self) -> None:
        raster = np.zeros((SIDE, SIDE), np.uint8)
        raster[0, SIDE - 1] = 255
        assert to_mnist(raster).sum() == 400

    def test_empty(self) -> None:
        raster = np.zeros((SIDE, SIDE), np.uint8)
        assert is_empty(raster)
        image = to_mnist(raster)
        assert (image.dtype, image.shape, image.any()) == (np.float32, (28, 28, 1), False)
        raster[5, 5] = 1
        assert not is_empty(raster)

    def test_types_and_shapes_agree(self, data: mnist.Mnist) -> None:
        image = data.x_test[0]
        expected = to_mnist(image)
        for same in (mnist.to_float(data.x_test[:1])[0], image / 255, image[..., np.newaxis]):
            np.testing.assert_array_equal(to_mnist(same), expected)
            np.testing.assert_array_equal(to_pixels(same), image)

    @pytest.mark.parametrize("call", [to_mnist, is_empty, to_pixels])
    @pytest.mark.parametrize(
        ("raster", "message"),
        [
            (np.zeros((1, 28, 28), np.uint8), r"shape \(height, width\).*got \(1, 28, 28\)"),
            (np.zeros((28, 0), np.uint8), r"got \(28, 0\)"),
            (np.zeros(784, np.uint8), r"got \(784,\)"),
            (np.zeros((28, 28), np.int64), "uint8 or floats in .*got int64"),
            (np.full((28, 28), 255.0), "in .0, 1., got 255 to 255: divide"),
            (np.full((28, 28), -0.1), "got -0.1 to -0.1"),
            (np.full((28, 28), np.nan), "got nan"),
        ],
    )
    def test_wrong_rasters(self, call: Any, raster: np.ndarray, message: str) -> None:
        with pytest.raises(ValueError, match=f"raster must .*{message}"):
            call(raster)


class TestDrawStrokes:
    @pytest.mark.parametrize(
        ("size", "at"), [(1, (0, 0)), (1.2, (-0.1, -0.1)), (0.55, (0, 0)), (0.55, (0.45, 0.45))]
    )
    def test_drawn_digits_are_read(
        self, baseline: Any, size: float, at: tuple[float, float]
    ) -> None:
        images = np.stack([to_mnist(drawn(digit, size, at)) for digit in DIGITS])
        assert models.predict(baseline, images).argmax(axis=1).tolist() == [*DIGITS]

    def test_against_pillow(self) -> None:
        """Pillow draws the same lines, eight times as large, and makes them smaller."""
        points = [(20, 30), (90, 40), (40, 100)]
        raster = draw_strokes([points])
        picture = Image.new("L", (8 * SIDE, 8 * SIDE))
        brush = np.hypot(*np.mgrid[-32:32, -32:32] + 0.5) <= 4 * PEN
        for start, end in itertools.pairwise(points):
            for share in np.linspace(0, 1, 500):
                x, y = np.rint(8 * (np.add(start, share * np.subtract(end, start)))).astype(int)
                picture.paste(255, (x - 32, y - 32), Image.fromarray(brush))
        expected = np.asarray(picture.reduce(8)).astype(int)
        assert np.abs(raster - expected).max() <= 40
        assert raster.sum() == pytest.approx(expected.sum(), rel=0.02)

    def test_pen_like_mnist(self, data: mnist.Mnist) -> None:
        """Drawn over 70 % of the height, a line is as wide as MNIST's: 2 pixels, measured alike."""

        def width(image: np.ndarray) -> float:
            large = np.kron(image > 0.5, np.ones((4, 4)))
            depth = ndimage.distance_transform_edt(large)
            ridge = (depth > 0) & (depth == ndimage.maximum_filter(depth, 5))
            return 2 * np.median(depth[ridge]) / 4

        real = [width(image / 255) for image in data.x_test[:300]]
        ours = [width(to_mnist(drawn(digit))[..., 0]) for digit in DIGITS]
        assert np.median(ours) == pytest.approx(np.median(real), abs=0.3)

    def test_dot_and_nothing(self) -> None:
        assert is_empty(draw_strokes([]))
        dot = draw_strokes([[(56, 56)]])
        assert dot.sum() / 255 == pytest.approx(math.pi * (PEN / 2) ** 2, rel=0.02)
        assert ndimage.center_of_mass(dot) == (55.5, 55.5)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([[1, 2]],), r"shape \(points, 2\), got \(2,\)"),
            (([np.zeros((0, 2))],), r"got \(0, 2\)"),
            (([[(1, math.nan)]],), "finite"),
            (([], 0), "side must be positive, got 0"),
            (([], 10, -1), "pen must be positive, got -1"),
        ],
    )
    def test_wrong_strokes(self, arguments: tuple, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            draw_strokes(*arguments)
