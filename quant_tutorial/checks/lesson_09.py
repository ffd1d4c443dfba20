"""Check the answers to the exercises of lesson 09."""

from __future__ import annotations

import itertools
import re
from typing import Any

from quant_tutorial.checks.registry import exercise, no_bytes, tflite_accuracy

import numpy as np

_TIMES = [95, 31, 12, 11, 14, 340, 13, 12, 11]
_WARM_UP = 2
# Activations and weights of the network of exercise 2.
_ACTIVATIONS = [32 * 32 * 3, 32 * 32 * 16, 16 * 16 * 16, 16 * 16 * 32, 10]
_WEIGHTS = [3 * 3 * 3 * 16, 3 * 3 * 16 * 32, 16 * 16 * 32 * 10]
# For each candidate of exercise 3 the images that only it, and only the model in use, gets right.
_COUNTS = {"A": (9, 24), "B": (4, 18), "C": (30, 35), "D": (5, 15)}
_FLASH, _ARENA = 17_000, 8_000


@exercise("09.1")
def _reported_latency(answer: Any) -> str | None:
    given, timed = float(answer), _TIMES[_WARM_UP:]
    right = float(np.median(timed))
    hints = {
        float(np.median(_TIMES)): "it is a median, but the warm-up is in it.",
        float(np.median(_TIMES[1:])): "how many runs were there to warm up?",
        float(np.mean(timed)): "without the warm-up, but this is the mean: one disturbed run has "
        "moved it far from all others.",
        float(np.mean(_TIMES)): "this is the mean of all runs, the warm-up included.",
        float(min(timed)): "this is the fastest run. How long does a typical one take?",
        float(np.mean([t for t in timed if t < 100])): "a run is not left out because it is slow. "
        "Which figure needs no such choice?",
    }
    if given == right:
        return None
    for wrong, hint in hints.items():
        if abs(given - wrong) < 0.05:
            return hint
    return "leave out the warm-up, and take the figure that one disturbed run does not move."


@exercise("09.2")
def _memory_by_hand(answer: Any) -> str | None:
    if len(answer) != 2:
        return "two numbers are needed: (a) and (b)."
    whole, unpacked = (float(number) for number in answer)
    pairs = [one + two for one, two in itertools.pairwise(_ACTIVATIONS)]
    peak, weights = max(pairs), sum(_WEIGHTS)
    hints = {
        sum(_ACTIVATIONS): "(a) not all activations are in RAM at the same time.",
        max(_ACTIVATIONS): "(a) while a layer is computed, its input is needed as well.",
        pairs[0]: "(a) this is the first layer. Does another one need more?",
        pairs[2]: "(a) this is the second convolution. Does another layer need more?",
        4 * peak: "(a) these would be floats. How many bytes does an int8 activation take?",
    }
    if whole != peak:
        return hints.get(int(whole), "(a) add up input and output of each layer; the largest sum?")
    hints = {
        4 * peak: "these are the activations. The weights are unpacked beside them.",
        4 * weights: "these are the weights. There are activations, too.",
        peak + 4 * weights: "the activations of a weight-only file are not int8.",
        4 * peak + weights: "a weight is unpacked to a float. How many bytes is that?",
        4 * peak + weights // 2: "these are the weights as in the file. They are unpacked.",
        4
        * (peak + max(_WEIGHTS)): "this forgets the weights of the other layers; LiteRT does not.",
        4 * (max(pairs[2:]) + weights): "which layer has the largest pair of activations?",
    }
    if unpacked != 4 * (peak + weights):
        hint = "add the activations as floats and all weights as floats."
        return f"(a) is right. (b) {hints.get(int(unpacked), hint)}"
    return None


@exercise("09.3")
def _several_differences(answer: Any) -> str | None:
    from quant_tutorial import metrics

    given = _letters(answer, "ABCD")
    if isinstance(given, str):
        return given
    tests = {name: metrics.sign_test(won, won + lost) for name, (won, lost) in _COUNTS.items()}
    corrected = dict(zip(tests, metrics.holm(list(tests.values())), strict=True))
    right = {name for name, p in corrected.items() if p < 0.05}
    hints = (
        ({n for n, p in tests.items() if p < 0.05}, "these are below 0.05 without a correction."),
        (
            {n for n, p in tests.items() if p * len(tests) < 0.05},
            "multiplying every p by 4 is Bonferroni's correction. By what does Holm multiply the "
            "second smallest?",
        ),
        (set(_COUNTS), "none of the models gets the same images right, but chance does that, too."),
    )
    if given == right:
        return None
    for wrong, hint in hints:
        if given == wrong:
            return hint
    if "C" in given:
        return "30 to 35: how often does a fair coin divide 65 images at least as unevenly?"
    return "compute p for each, sort them, and correct them one after the other."


@exercise("09.4")
def _own_header(answer: Any) -> str | None:
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
        code = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
        for word in (f"{name}[", f"{name}_len"):
            if word not in re.sub(r"\s+\[", "[", code):
                return f"{word.rstrip('[')} is not defined."
        if not re.search(r"align\w*\s*\(+\s*16\b", code, re.IGNORECASE):
            return "the array must be aligned to 16 bytes: alignas(16) before its type."
        declared = re.search(rf"([^;{{}}]*)\b{name}\s*\[", code)
        if declared is None or not re.search(r"\bconst\b", declared[1]):
            return "the array would be copied to RAM. Which word leaves it in flash?"
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


@exercise("09.5")
def _false_statements(answer: Any) -> str | None:
    given = _letters(answer, "ABCDE")
    if isinstance(given, str):
        return given
    hints = {
        "A": "A is true: it speaks of the weights, not of the file.",
        "D": "D is true: look at the table of what TFLM takes.",
    }
    for letter, hint in hints.items():
        if letter in given:
            return hint
    missing = {
        "B": "in which type does a weight-only file compute?",
        "C": "where do the weights go that are unpacked?",
        "E": "machine A is no phone. One statement carries its figures over to another device.",
    }
    for letter, hint in missing.items():
        if letter not in given:
            return f"what you name has to go, and there is more: {hint}"
    return None


@exercise("09.6")
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
    if len(answer) > _FLASH:
        return (
            f"it has {len(answer):,} bytes, and {_FLASH:,} fit. Which layers can have narrower "
            "weights?"
        )
    arena = deployment.arena_bytes(answer)
    if arena > _ARENA:
        return (
            f"it needs {arena:,} bytes of RAM, and there are {_ARENA:,}. Which op needs most, and "
            "what does it unpack?"
        )
    accuracy = tflite_accuracy(answer)
    if accuracy <= 0.99:
        return f"its accuracy is {accuracy:.1%}: which images calibrate it, and how is it rounded?"
    return None


def _letters(answer: Any, allowed: str) -> set[str] | str:
    """Return the letters of an answer such as "AC" or ["a", "c"], or a hint."""
    given = {str(letter).strip().upper() for letter in answer if str(letter).strip(" ,")}
    if not given or not given <= set(allowed):
        return f'letters from {allowed[0]} to {allowed[-1]} are needed, such as "AC".'
    return given
