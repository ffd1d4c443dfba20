"""LiteRT's kernels side by side."""

from quant_tutorial import tflite
from quant_tutorial.affine import quantize

import numpy as np
import pytest


@pytest.fixture(scope="module")
def content(files: dict[str, bytes]) -> bytes:
    return files["int8, int8 input"]


@pytest.fixture(scope="module")
def images(content: bytes, x_test: np.ndarray) -> np.ndarray:
    source, _ = tflite.input_output(content)
    return quantize(x_test[:50], source.params)


@pytest.mark.parametrize("name", tflite.KERNELS)
def test_outputs_of_each(name: str, content: bytes, images: np.ndarray) -> None:
    outputs = tflite.run(content, images, name)
    assert outputs.dtype == np.int8
    assert outputs.shape == (50, 10)
    others = tflite.run(content, images, "default")
    assert np.abs(outputs.astype(int) - others).max() <= 2


def test_the_default_is_what_predict_uses(
    content: bytes, images: np.ndarray, x_test: np.ndarray
) -> None:
    _, target = tflite.input_output(content)
    scale, zero_point = target.params.scale, target.params.zero_point
    real = (tflite.run(content, images).astype(int) - zero_point) * scale
    np.testing.assert_allclose(real, tflite.predict(content, x_test[:50]), atol=1e-4)


@pytest.mark.parametrize("name", ["reference", "optimized"])
def test_all_tensors(name: str, content: bytes, images: np.ndarray) -> None:
    found = tflite.run_all(content, images, name)
    shapes = [values.shape[1:] for values in found.values()]
    assert shapes == [
        (28, 28, 1),
        (28, 28, 8),
        (14, 14, 8),
        (14, 14, 16),
        (7, 7, 16),
        (5, 5, 32),
        (800,),
        (10,),
    ]
    first, *_, last = found.values()
    np.testing.assert_array_equal(first, images)
    np.testing.assert_array_equal(last, tflite.run(content, images, name))


def test_a_float_file(files: dict[str, bytes], x_test: np.ndarray) -> None:
    found = tflite.run_all(files["float32"], x_test[:5])
    np.testing.assert_allclose(
        list(found.values())[-1], tflite.predict(files["float32"], x_test[:5]), atol=1e-4
    )


def test_bad_arguments(content: bytes, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="kernels must be one of reference, optimized, default"):
        tflite.run(content, images, "fast")
    with pytest.raises(ValueError, match="XNNPACK keeps no tensors"):
        tflite.run_all(content, images, "default")
    with pytest.raises(ValueError, match=r"x must hold int8 images, got float32: quantize"):
        tflite.run(content, images.astype(np.float32))
    with pytest.raises(ValueError, match=r"x must have the shape \('n', 28, 28, 1\) with n ≥ 1"):
        tflite.run(content, images[:0])
    with pytest.raises(ValueError, match=r"not a \.tflite model"):
        tflite.run(b"nothing", images)


def test_what_xnnpack_takes(ladder: dict[str, bytes], exported: bytes) -> None:
    weight_only = {
        bits: tflite.apply_recipe(exported, f"weight_only_wi{bits}_afp32") for bits in (8, 4)
    }
    for content in (ladder["float32"], ladder["int8"], ladder["float16"], weight_only[8]):
        assert all(tflite.delegated_ops(content))
    assert not any(tflite.delegated_ops(ladder["int16x8"]))
    found = zip(
        tflite.inspect(weight_only[4]).ops, tflite.delegated_ops(weight_only[4]), strict=True
    )
    taken = {op.type for op, given in found if given}
    assert taken == {"MAX_POOL_2D", "RESHAPE"}
    with pytest.raises(ValueError, match=r"not a \.tflite model"):
        tflite.delegated_ops(b"something else")
