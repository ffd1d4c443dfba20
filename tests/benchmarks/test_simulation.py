"""Full-test-set accuracy after a move, beside LiteRT and Keras on the same images.

Each round of the project's is another state, so that nothing is remembered from the round before.
"""

import itertools
import os
import resource
import tempfile
from collections.abc import Callable

from quant_tutorial import mnist, models, quiet
from quant_tutorial.metrics import accuracy
from quant_tutorial.scheme import QuantScheme, TensorScheme
from quant_tutorial.simulate import Simulator, StagedRun
from quant_tutorial.tflite.interpreter import make_interpreter

import keras
import numpy as np
import pytest
import tensorflow as tf
from measuring import Report, in_turn

BATCH, THREADS = 50, os.cpu_count() or 1
WIDTHS = itertools.cycle([*range(2, 17), *range(15, 2, -1)])
DATA = mnist.load()
X, Y = mnist.to_float(DATA.x_test), DATA.y_test
CALIBRATION = mnist.to_float(DATA.x_train[:500])


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(models.load_baseline(), CALIBRATION)


@pytest.fixture(scope="module")
def run(simulator: Simulator) -> StagedRun:
    return StagedRun(simulator, X)


@pytest.fixture(scope="module")
def litert() -> Callable[[], np.ndarray]:
    """The float model in LiteRT, on the same images and threads, in batches that suit it."""
    return in_batches(converted(full_integer=False), X)


def in_batches(content: bytes, images: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a function that runs a `.tflite` file on all images, 50 at a time."""
    interpreter = make_interpreter(content, threads=THREADS)
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]

    def predict() -> np.ndarray:
        outputs = []
        for start in range(0, len(images), BATCH):
            interpreter.set_tensor(source, images[start : start + BATCH])
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(target))
        return np.concatenate(outputs)

    return predict


def converted(full_integer: bool) -> bytes:
    """Convert the baseline for batches of 50, which LiteRT runs faster than single images."""
    signature = [keras.InputSpec(shape=(BATCH, 28, 28, 1), dtype="float32")]
    with tempfile.TemporaryDirectory() as folder, quiet.all_output():
        model = models.load_baseline()
        model.export(folder, "tf_saved_model", verbose=False, input_signature=signature)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if full_integer:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            batches = CALIBRATION.reshape(-1, BATCH, 28, 28, 1)
            converter.representative_dataset = lambda: ([batch] for batch in batches)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter.convert()


def weights(bits: int) -> TensorScheme:
    return TensorScheme(bits, symmetric=True, granularity="channel-wise")


MOVES: dict[str, Callable[[int], QuantScheme]] = {
    "weights": lambda bits: QuantScheme(weights(bits)),
    "activations": lambda bits: QuantScheme(activations=TensorScheme(bits)),
    "input": lambda bits: QuantScheme(input=TensorScheme(bits)),
    "all three": lambda bits: QuantScheme(weights(bits), TensorScheme(bits), TensorScheme(bits)),
}


@pytest.mark.parametrize("move", MOVES)
def test_move(
    simulator: Simulator,
    run: StagedRun,
    litert: Callable[[], np.ndarray],
    move: str,
    report: Report,
) -> None:
    def measure(bits: int | None = None) -> float:
        params = simulator.params(MOVES[move](next(WIDTHS) if bits is None else bits))
        return accuracy(run.outputs(params), Y)

    ours, theirs = in_turn(measure, litert)
    assert measure(8) > 0.99
    assert accuracy(litert(), Y) > 0.99
    what = f"10,000 images after a move of the bits of {move}, to LiteRT float32"
    report(what, ours / theirs, "×", 1.3)


def test_estimate(simulator: Simulator, run: StagedRun, report: Report) -> None:
    def measure() -> float:
        params = simulator.params(MOVES["all three"](next(WIDTHS)))
        return accuracy(run.outputs(params, 1000), Y[run.sample(1000)])

    (seconds,) = in_turn(measure)
    report("first estimate, on 1,000 images", 1000 * seconds, "ms", 25)


def test_the_others(litert: Callable[[], np.ndarray], report: Report) -> None:
    model = models.load_baseline()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    images = np.clip(np.round(X * 255) - 128, -128, 127).astype(np.int8)
    int8 = in_batches(converted(full_integer=True), images)
    evaluate = lambda: model.evaluate(X, Y, batch_size=500, verbose=0)  # noqa: E731
    assert accuracy(int8(), Y) > 0.99
    assert evaluate()[1] > 0.99
    float32, integers, in_keras = in_turn(litert, int8, evaluate, rounds=8)
    report("10,000 images: LiteRT float32", 1000 * float32, "ms")
    report("LiteRT int8, to float32", integers / float32, "×")
    report("Keras evaluate, to LiteRT float32", in_keras / float32, "×")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report("peak memory of this process", peak, "MB")
