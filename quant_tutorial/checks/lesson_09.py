"""Check the answers to the exercises of lesson 09."""

from __future__ import annotations

from typing import Any

from quant_tutorial.checks.registry import exercise, is_calibrated, is_number, no_bytes

import numpy as np


@exercise("09.1")
def _reported_latency(answer: Any) -> str | None:
    timed = [95, 31, 12, 11, 14, 340, 13, 12, 11]
    hint = "leave out the warm-up, and take the figure that one disturbed run does not move."
    return is_number(answer, float(np.median(timed[2:])), hint)


@exercise("09.2")
def _own_micro_file(answer: Any) -> str | None:
    from quant_tutorial import deployment, tflite

    if not isinstance(answer, bytes):
        return no_bytes(answer)
    reason = deployment.micro_refusal(answer)
    if reason is not None:
        return f"TFLM does not run it: {reason}"
    for side, tensor in zip(("input", "output"), tflite.input_output(answer), strict=True):
        if tensor.type != "uint8":
            return f"the model's {side} is {tensor.type}; it must be uint8."
    if len(answer) > 20_000:
        return f"it has {len(answer):,} bytes, and 20,000 fit."
    arena = deployment.arena_bytes(answer)
    if arena > 8000:
        return f"its activations need {arena:,} bytes, and there are 8,000."
    return is_calibrated(answer)


@exercise("09.3")
def _own_header(answer: Any) -> str | None:
    import re
    import tempfile
    from pathlib import Path

    from quant_tutorial import deployment

    random = np.random.default_rng(9).bytes(1000)
    for content, name in ((b"\x00\xff", "two_bytes"), (random, "model")):
        text = answer(content, name)
        if not isinstance(text, str):
            return f"the result must be a text, got {type(text).__name__}."
        if deployment.read_c_array(text) != content:
            return f"the array does not hold the {len(content):,} bytes that it was given."
        for word in (f"{name}[", f"{name}_len"):
            if word not in re.sub(r"\s+\[", "[", text):
                return f"{word.rstrip('[')} is not defined."
        code = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
        if not re.search(r"align\w*\s*\(+\s*16\b", code, re.IGNORECASE):
            return "the array must be aligned to 16 bytes: alignas(16) before its type."
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "header.h"
            path.write_text(text, encoding="utf-8")
            try:
                compiled = deployment.compile_and_read_back(path)
            except RuntimeError as error:
                return "\n".join(str(error).splitlines()[:4])
        if compiled not in (None, content):
            return "the compiled array holds other bytes."
    return None
