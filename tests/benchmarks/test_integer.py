"""Integer-only inference of all 10,000 test images, beside LiteRT's reference kernels."""

from quant_tutorial import integer, mnist, models, tflite

import numpy as np
from measuring import Report, in_turn


def test_10_000_images(report: Report) -> None:
    content = models.load_int8_baseline()
    images = (mnist.load().x_test.astype(np.int16) - 128).astype(np.int8)[..., np.newaxis]
    model = integer.load(content)

    def reference() -> np.ndarray:
        return tflite.run(content, images, "reference")

    np.testing.assert_array_equal(integer.run(model, images), reference())
    ours, theirs = in_turn(lambda: integer.run(model, images), reference, rounds=3)
    report("10,000 images in NumPy integers, to LiteRT's reference kernels", ours / theirs, "×")
