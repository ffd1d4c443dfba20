"""Integer-only inference of all 10,000 test images, beside LiteRT's reference kernels."""

from quant_tutorial import integer, mnist, models
from quant_tutorial.tflite.interpreter import make_interpreter

import numpy as np
from measuring import Report, in_turn


def test_10_000_images(report: Report) -> None:
    content = models.load_int8_baseline()
    images = (mnist.load().x_test.astype(np.int16) - 128).astype(np.int8)[..., np.newaxis]
    model = integer.load(content)
    interpreter = make_interpreter(content, kernels="reference")
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def reference() -> np.ndarray:
        """Run LiteRT's reference kernels, one image at a time, as the file asks."""
        logits = []
        for image in images:
            interpreter.set_tensor(source["index"], image[np.newaxis])
            interpreter.invoke()
            logits.append(interpreter.get_tensor(target["index"])[0])
        return np.array(logits)

    np.testing.assert_array_equal(integer.run(model, images), reference())
    ours, theirs = in_turn(lambda: integer.run(model, images), reference, rounds=3)
    report("10,000 images in NumPy integers, to LiteRT's reference kernels", ours / theirs, "×")
