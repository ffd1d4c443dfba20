"""Chatter is held back, errors are not."""

import logging
import os
import subprocess
import sys
import warnings

from quant_tutorial import quiet

import pytest


def chatter() -> None:
    os.write(1, b"native out\n")
    os.write(2, b"native err\n")
    print("printed")
    logging.getLogger("quant_test").warning("logged")
    warnings.warn("warned", stacklevel=1)


def test_all_output_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet.all_output():
        chatter()
    print("after")
    logging.getLogger("quant_test").warning("logged after")
    out, err = capfd.readouterr()
    assert out == "after\n"
    assert "native" not in err
    assert "warned" not in err


def test_native_output_leaves_pythons_streams(capfd: pytest.CaptureFixture[str]) -> None:
    stream = sys.stdout
    with quiet.native_output():
        os.write(1, b"native out\n")
        assert sys.stdout is stream
    assert capfd.readouterr() == ("", "")


def test_what_was_printed_before_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    print("before", end="")
    with quiet.all_output():
        print("during")
    assert capfd.readouterr().out == "before"


def test_an_error_brings_everything_to_light(capfd: pytest.CaptureFixture[str]) -> None:
    @quiet.all_output()
    def fail() -> None:
        os.write(2, b"native err\n")
        print("printed")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    err = capfd.readouterr().err
    assert "native err" in err
    assert "printed" in err
    assert not logging.root.manager.disable


def test_verbose_holds_nothing_back(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(quiet.VERBOSE, "1")
    with quiet.all_output():
        print("printed")
        os.write(2, b"native err\n")
    out, err = capfd.readouterr()
    assert "printed" in out
    assert "native err" in err


def test_tensorflow_starts_without_a_word() -> None:
    code = "from quant_tutorial import models; models.load_baseline()"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert (result.stdout, result.stderr) == ("", "")


def test_another_keras_backend_is_named() -> None:
    code = (
        "import keras; keras.config.backend = lambda: 'jax'\n"
        "from quant_tutorial import quiet; quiet.load_tensorflow()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "Keras runs on 'jax' here: restart the kernel" in result.stderr
