"""Keep the log lines of TensorFlow, Keras and LiteRT out of a reader's notebook.

TensorFlow logs from native code straight to the file descriptors 1 and 2, before any of its
settings takes effect; the TFLite converter also prints from Python. Both kinds of output are held
back here while a block runs. If the block raises an error, everything that was held back is shown
with it; otherwise it is dropped. With QUANT_TUTORIAL_VERBOSE=1 in the environment nothing is held
back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from types import ModuleType

VERBOSE = "QUANT_TUTORIAL_VERBOSE"

# The descriptors belong to the whole process. If two threads redirected them at the same time, the
# originals could be lost.
_LOCK = threading.RLock()


def load_tensorflow() -> tuple[ModuleType, ModuleType]:
    """Import Keras and TensorFlow, start them without their log lines, and return both.

    Inside the package, only `frameworks` calls this function. Unless the reader has chosen a level,
    TensorFlow's native log lines below the level "error" and its Python log lines below "warning"
    stay off afterwards. The course computes on the CPU, so that a machine with a GPU produces the
    figures that the lessons print. Keras uses TensorFlow, whatever backend is set in the reader's
    Keras configuration.

    Raises:
        ImportError: when Keras was already imported with another backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with native_output():
        import keras
        import tensorflow as tf

        # The first use of a device looks for GPUs and logs the result.
        tf.config.list_logical_devices()
    # TensorFlow makes its log handler at first use, and the handler keeps the stream that it finds.
    # That stream must not be the temporary one of a block, which is closed when the block ends.
    logger = tf.get_logger()
    if logger.level in (logging.NOTSET, logging.INFO):
        logger.setLevel(logging.WARNING)
    if keras.config.backend() != "tensorflow":
        raise ImportError(
            f"Keras runs on {keras.config.backend()!r} here: restart the kernel and import "
            "quant_tutorial.models before keras, so that it runs on TensorFlow."
        )
    return keras, tf


@contextlib.contextmanager
def native_output() -> Iterator[None]:
    """Hold back what native code writes to the file descriptors 1 and 2 while the block runs.

    This is for imports: Python's own streams stay as they are, because a log handler that is made
    during the import keeps the stream that it finds.
    """
    if os.environ.get(VERBOSE):
        yield
        return
    with _LOCK, tempfile.TemporaryFile() as held:
        _flush()
        originals = _redirect(held.fileno())
        try:
            yield
        except BaseException:
            _restore(originals)
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        else:
            _restore(originals)


@contextlib.contextmanager
def all_output() -> Iterator[None]:
    """Hold back native output and the prints, log lines and warnings of Python in the block."""
    if os.environ.get(VERBOSE):
        yield
        return
    with native_output(), tempfile.TemporaryFile("w+", encoding="utf-8") as held:
        # TensorFlow's log handler keeps the stream that it found at import, so redirecting
        # sys.stderr does not affect it: its lines are disabled instead.
        disabled = logging.root.manager.disable
        try:
            logging.disable(max(disabled, logging.WARNING))
            with contextlib.redirect_stdout(held), contextlib.redirect_stderr(held):
                yield
        except BaseException:
            held.seek(0)
            sys.stderr.write(held.read())
            raise
        finally:
            logging.disable(disabled)
            _remove_handlers_of(held)


def _remove_handlers_of(stream: object) -> None:
    """Remove the log handlers that write to a stream that is about to be closed.

    A library's first `logging.warning(…)` adds such a handler to the root logger, with the stream
    that is current at that moment.
    """
    named = (logging.getLogger(name) for name in list(logging.root.manager.loggerDict))
    for logger in (logging.root, *named):
        for handler in list(logger.handlers):
            if getattr(handler, "stream", None) is stream:
                logger.removeHandler(handler)


def _flush() -> None:
    # Otherwise lines buffered before the block would be written during it and be lost.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _redirect(target: int) -> dict[int, int]:
    """Redirect the descriptors 1 and 2 to the target and return copies of the originals."""
    originals = {}
    for fd in (1, 2):
        with contextlib.suppress(OSError):  # a process may run with one of them closed
            originals[fd] = os.dup(fd)
            os.dup2(target, fd)
    return originals


def _restore(originals: dict[int, int]) -> None:
    try:
        _flush()
    finally:
        for fd, original in originals.items():
            os.dup2(original, fd)
            os.close(original)
