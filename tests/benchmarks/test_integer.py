"""Integer-only inference of all 10,000 test images: `make benchmark`."""

import time

from quant_tutorial import integer, mnist, models, tflite

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from pytest_benchmark.fixture import BenchmarkFixture


def reference_logits(content: bytes, images: np.ndarray) -> np.ndarray:
    """Run LiteRT's reference kernels, one image at a time, as the file asks."""
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    logits = []
    for image in images:
        interpreter.set_tensor(source["index"], image[np.newaxis])
        interpreter.invoke()
        logits.append(interpreter.get_tensor(target["index"])[0])
    return np.array(logits)


def test_10_000_images(benchmark: BenchmarkFixture) -> None:
    data = mnist.load()
    calibration = mnist.to_float(data.x_train[:500])
    content = tflite.convert(models.load_baseline(), "int8", calibration=calibration)
    images = (data.x_test.astype(np.int16) - 128).astype(np.int8)[..., np.newaxis]
    model = integer.load(content)

    start = time.perf_counter()
    expected = reference_logits(content, images)
    reference_seconds = time.perf_counter() - start
    logits = benchmark.pedantic(integer.run, (model, images), rounds=3, warmup_rounds=1)

    np.testing.assert_array_equal(logits, expected)
    benchmark.extra_info["images"] = len(images)
    benchmark.extra_info["LiteRT reference kernels, seconds"] = round(reference_seconds, 2)
    if benchmark.stats:  # none when benchmarks are disabled
        ratio = benchmark.stats.stats.median / reference_seconds
        benchmark.extra_info["ratio to LiteRT reference kernels"] = round(ratio, 2)
