"""Full-test-set accuracy after a move, beside LiteRT and Keras on the same images.

Each round of the project's is another state, so that nothing is remembered from the round before.
"""

import itertools
import os
import resource
import tempfile
from collections.abc import Callable
from typing import Any

from quant_tutorial import mnist, models, quiet
from quant_tutorial.metrics import accuracy
from quant_tutorial.scheme import QuantScheme, TensorScheme
from quant_tutorial.simulate import Simulator, StagedRun

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS, BATCH, THREADS = 30, 50, os.cpu_count() or 1
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


def in_batches(content: bytes) -> Callable[[], np.ndarray]:
    """Give a function that runs a float `.tflite` file on all images, 50 at a time."""
    with quiet.native_output():
        interpreter = Interpreter(model_content=content, num_threads=THREADS)
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]

    def predict(images: np.ndarray = X) -> np.ndarray:
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


def test_litert_float32(benchmark: BenchmarkFixture) -> None:
    predict = in_batches(converted(full_integer=False))
    benchmark.pedantic(predict, rounds=ROUNDS, warmup_rounds=2)
    assert accuracy(predict(), Y) > 0.99


def test_litert_int8(benchmark: BenchmarkFixture) -> None:
    predict = in_batches(converted(full_integer=True))
    images = np.clip(np.round(X * 255) - 128, -128, 127).astype(np.int8)
    benchmark.pedantic(predict, args=(images,), rounds=ROUNDS, warmup_rounds=2)
    assert accuracy(predict(images), Y) > 0.99


def test_keras_evaluate(benchmark: BenchmarkFixture) -> None:
    model = models.load_baseline()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    measure = lambda: model.evaluate(X, Y, batch_size=500, verbose=0)  # noqa: E731
    benchmark.pedantic(measure, rounds=8, warmup_rounds=1)
    assert measure()[1] > 0.99


def weights(bits: int) -> TensorScheme:
    return TensorScheme(bits, symmetric=True, granularity="channel-wise")


MOVES: dict[str, Callable[[int], QuantScheme]] = {
    "weight_bits": lambda bits: QuantScheme(weights(bits)),
    "activation_bits": lambda bits: QuantScheme(activations=TensorScheme(bits)),
    "input_bits": lambda bits: QuantScheme(input=TensorScheme(bits)),
    "all_bits": lambda bits: QuantScheme(weights(bits), TensorScheme(bits), TensorScheme(bits)),
}


@pytest.mark.parametrize("move", MOVES)
def test_move(benchmark: BenchmarkFixture, simulator: Any, run: StagedRun, move: str) -> None:
    def measure(bits: int) -> float:
        return accuracy(run.outputs(simulator.params(MOVES[move](bits))), Y)

    benchmark.pedantic(measure, setup=lambda: ((next(WIDTHS),), {}), rounds=ROUNDS, warmup_rounds=2)
    assert measure(8) > 0.99
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    benchmark.extra_info["peak memory of the whole process, MB"] = round(peak)


def test_estimate(benchmark: BenchmarkFixture, simulator: Any, run: StagedRun) -> None:
    def measure(bits: int) -> float:
        params = simulator.params(MOVES["all_bits"](bits))
        return accuracy(run.outputs(params, 1000), Y[run.sample(1000)])

    benchmark.pedantic(measure, setup=lambda: ((next(WIDTHS),), {}), rounds=ROUNDS, warmup_rounds=2)
    assert measure(8) > 0.99
