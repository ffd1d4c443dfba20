"""The data set: canonical, complete, and clear about what is wrong with a bad file."""

from collections.abc import Callable
from pathlib import Path

from quant_tutorial import mnist

import numpy as np
import pytest


def test_complete_and_read_only(data: mnist.Mnist) -> None:
    assert data.x_train.shape == (60000, 28, 28)
    assert data.x_test.shape == (10000, 28, 28)
    # The counts of each digit that the data set is known for.
    assert np.bincount(data.y_test).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    with pytest.raises(ValueError, match="read-only"):
        data.x_test[0, 0, 0] = 1
    assert mnist.load() is data


def test_the_archive_is_small() -> None:
    assert mnist.PATH.stat().st_size < 11.6e6


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing: .*nowhere\.npz\. Get the original"):
        mnist.load(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("size", [0, 100, 5_000_000])
def test_cut(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.npz"
    path.write_bytes(mnist.PATH.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"damaged .*cut\.npz\. Get the original"):
        mnist.load(path)


def test_flipped_byte(tmp_path: Path) -> None:
    content = bytearray(mnist.PATH.read_bytes())
    content[4_000_000] ^= 1
    path = tmp_path / "flipped.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"(damaged|altered).*Get the original"):
        mnist.load(path)


@pytest.mark.parametrize("start", [1_000, 4_000_000, 9_549_656])
def test_overwritten_block(tmp_path: Path, start: int) -> None:
    content = bytearray(mnist.PATH.read_bytes())
    content[start : start + 4096] = bytes(4096)
    path = tmp_path / "overwritten.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged .*overwritten\.npz\. Get the original"):
        mnist.load(path)


def test_one_array_instead_of_an_archive(tmp_path: Path, data: mnist.Mnist) -> None:
    np.save(tmp_path / "array.npy", data.y_test)
    path = (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(ValueError, match="damaged"):
        mnist.load(path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("y_test", lambda labels: np.roll(labels, 1)),
        ("x_train", lambda images: images[:-1]),
        ("x_test", lambda images: images.astype(np.float32)),
    ],
)
def test_altered(
    tmp_path: Path, data: mnist.Mnist, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = tmp_path / "altered.npz"
    np.savez(path, **{**data._asdict(), name: change(data._asdict()[name])})
    with pytest.raises(ValueError, match=f"altered: its array {name} .*Get the original"):
        mnist.load(path)


def test_an_array_is_missing(tmp_path: Path, data: mnist.Mnist) -> None:
    path = tmp_path / "three.npz"
    np.savez(path, x_train=data.x_train[:1], y_train=data.y_train[:1], x_test=data.x_test[:1])
    with pytest.raises(ValueError, match="y_test"):
        mnist.load(path)


def test_to_float(data: mnist.Mnist) -> None:
    images = mnist.to_float(data.x_test[:5])
    assert images.shape == (5, 28, 28, 1)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert (np.rint(images[..., 0] * 255) == data.x_test[:5]).all()
    for wrong in (images, data.x_test[0], data.y_test):
        with pytest.raises(ValueError, match=r"images must be uint8 of shape \(n, 28, 28\)"):
            mnist.to_float(wrong)
