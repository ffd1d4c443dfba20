"""Chatter is held back, errors are not."""

import logging
import os
import re
import subprocess
import sys

from quant_tutorial import quiet

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# pytest captures streams, logs and warnings itself: only a process of its own shows what is seen.
CHATTER = """
import logging, os, sys, threading, warnings
from quant_tutorial import quiet

handler = logging.StreamHandler()  # keeps the stream it finds, as TensorFlow's does
logging.getLogger("early").addHandler(handler)

def chatter():
    os.write(1, b"native out\\n")
    os.write(2, b"native err\\n")
    print("printed")
    print("printed to stderr", file=sys.stderr)
    logging.getLogger("early").warning("logged early")
    logging.getLogger("late").warning("logged late")
    warnings.warn("warned")
"""


def test_all_output_is_held_back() -> None:
    result = run(
        CHATTER + "print('before', end=' ')\n"
        "with quiet.all_output():\n    chatter()\n"
        "print('after')\nlogging.getLogger('early').warning('logged after')"
    )
    assert (result.returncode, result.stdout, result.stderr) == (
        0,
        "before after\n",
        "logged after\n",
    )


def test_native_output_leaves_pythons_streams() -> None:
    result = run(
        CHATTER + "stream = sys.stdout\nwith quiet.native_output():\n"
        "    os.write(1, b'native')\n    assert sys.stdout is stream\nprint('after')"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "after\n", "")


def test_threads_take_turns() -> None:
    result = run(
        CHATTER
        + """
def work():
    for _ in range(50):
        with quiet.all_output():
            os.write(1, b"native")

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("after")
"""
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "after\n", "")


def test_a_closed_descriptor_does_no_harm() -> None:
    result = run(CHATTER + "os.close(1)\nwith quiet.native_output():\n    pass\nos.write(2, b'ok')")
    assert result.stderr.startswith("ok")


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


# All that needs a TensorFlow that has just started, which takes seconds, in one process: what one
# part writes stands on both streams before the line that ends the part.
STARTED = """
import gc, os, sys

sys.ps1 = ">>> "  # as in a kernel, where TensorFlow's logger begins with all that informs

def end(part):
    for stream in (sys.stdout, sys.stderr):
        print("end of", part, file=stream, flush=True)

from quant_tutorial import frameworks
print(gc.isenabled(), gc.get_freeze_count() > 5 * len(gc.get_objects()))
end("garbage")

from quant_tutorial import models
models.load_baseline()
end("start")

from quant_tutorial import tflite
print(*sys.modules)
end("modules")

# The handler is made at the first line, and would keep the stream of the block.
from quant_tutorial import quiet
import tensorflow as tf
with quiet.all_output():
    tf.get_logger().error("inside")
tf.get_logger().info("chatter")
tf.get_logger().error("outside")
end("logs")

import keras
keras.config.backend = lambda: "jax"
try:
    quiet.load_tensorflow()
except ImportError as error:
    print(error)
end("backend")
"""


@pytest.fixture(scope="module")
def started() -> dict[str, tuple[str, str]]:
    """What each part of `STARTED` has written to standard output and to standard error."""
    result = run(STARTED)
    assert result.returncode == 0, result.stderr
    # The text, the name of its part, the next text, and so on.
    out, err = (re.split(r"end of (\w+)\n", text) for text in (result.stdout, result.stderr))
    assert out[1::2] == err[1::2] == ["garbage", "start", "modules", "logs", "backend"]
    parts = zip(out[1::2], out[::2], err[::2], strict=False)
    return {part: (of_out, of_err) for part, of_out, of_err in parts}


@pytest.mark.slow
def test_tensorflow_starts_without_a_word(started: dict[str, tuple[str, str]]) -> None:
    assert started["garbage"][1] == ""
    assert started["start"] == ("", "")


@pytest.mark.slow
def test_garbage_is_not_looked_for_in_what_the_import_made(
    started: dict[str, tuple[str, str]],
) -> None:
    assert started["garbage"][0] == "True True\n"


@pytest.mark.slow
def test_converting_loads_no_other_frameworks(started: dict[str, tuple[str, str]]) -> None:
    loaded = set(started["modules"][0].split())
    assert "quant_tutorial.tflite" in loaded
    assert "tensorflow" in loaded
    assert not loaded & {"tf_keras", "tensorflow_model_optimization", "litert_quantizer"}


@pytest.mark.slow
def test_another_keras_backend_is_named(started: dict[str, tuple[str, str]]) -> None:
    assert "Keras runs on 'jax' here: restart the kernel" in started["backend"][0]


def test_a_log_handler_made_in_a_silenced_block_goes_with_it() -> None:
    code = (
        "import logging; from quant_tutorial import quiet\n"
        "with quiet.all_output():\n    logging.warning('inside')\n"
        "assert not logging.root.handlers\nlogging.getLogger('other').warning('outside')"
    )
    assert run(code).stderr == "outside\n"


@pytest.mark.slow
def test_tensorflows_log_lines_outlive_a_silenced_block(
    started: dict[str, tuple[str, str]],
) -> None:
    said = "".join(started["logs"])  # in a kernel TensorFlow's handler writes to standard output
    assert "outside" in said
    assert "inside" not in said
    assert "closed file" not in said
    assert "chatter" not in said
