"""Check the answers to the exercises of lesson 10."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

from quant_tutorial.checks.registry import exercise, no_bytes, tflite_accuracy

import numpy as np

if TYPE_CHECKING:  # it brings TensorFlow, which not every lesson needs
    from quant_tutorial.lab import Lab
    from quant_tutorial.simulate import Simulator


_IMAGES = 2000  # a lab of them takes a fifth of the memory of one with all


@cache
def _lab() -> Lab:
    """Return a lab with the first test images, for what need not be exact."""
    from quant_tutorial import mnist, models
    from quant_tutorial.lab import Lab

    data = mnist.load()
    images, labels = mnist.to_float(data.x_test[:_IMAGES]), data.y_test[:_IMAGES]
    return Lab(models.load_baseline(), mnist.to_float(data.x_train[:1000]), images, labels)


def _accuracy(setting: Any) -> tuple[float, int]:
    """Return accuracy on all test images, and bytes of the weights; for the baseline's weights."""
    from quant_tutorial import metrics, mnist
    from quant_tutorial.lab import model_params
    from quant_tutorial.simulate import StagedRun

    data, simulator = mnist.load(), _lab().simulator
    params = model_params(simulator, setting)
    images = mnist.to_float(data.x_test)
    run, outputs = StagedRun(simulator, images[:_IMAGES]), []
    for start in range(0, len(images), _IMAGES):
        run.set_images(images[start : start + _IMAGES])
        outputs.append(run.outputs(params))
    run.close()
    return metrics.accuracy(np.concatenate(outputs), data.y_test), simulator.weight_bytes(params)


def _no_setting(answer: Any) -> str | None:
    """Return the hint for an answer that is no setting."""
    from quant_tutorial.lab import Setting

    if isinstance(answer, Setting):
        return None
    return f"a Setting is needed, not {type(answer).__name__}."


@exercise("10.1")
def _own_small_setting(answer: Any) -> str | None:
    from quant_tutorial.lab import PTQ

    if hint := _no_setting(answer):
        return hint
    if answer.source != PTQ:
        return (
            f"source is {answer.source}: here the float baseline's weights are to be rounded to "
            "the nearest level."
        )
    accuracy, weight_bytes = _accuracy(answer)
    if weight_bytes > 5000:
        return f"its weights take {weight_bytes:,} bytes, and 5,000 fit."
    if accuracy >= 0.975:
        return None
    hint = f"its accuracy is {accuracy:.1%}."
    if answer.weight_calibrator == "min_max":
        return f"{hint} Which weight ranges suit few bits better?"
    if any(bits is not None and bits < 8 for bits in answer.activations.values()):
        return f"{hint} Only the weights are counted: the activations may be finer."
    return f"{hint} Which layer tolerates 2 bits best, and which saves most?"


@exercise("10.2")
def _own_small_file(answer: Any) -> str | None:
    if not isinstance(answer, bytes):
        return no_bytes(answer)
    if len(answer) > 9000:
        return f"it has {len(answer):,} bytes, and 9,000 fit: how many bits do the weights have?"
    accuracy = tflite_accuracy(answer)
    hint = "whose weights are they, and what activations were they trained with?"
    return None if accuracy >= 0.993 else f"its accuracy is {accuracy:.1%}: {hint}"


@exercise("10.3")
def _own_rule(answer: Any) -> str | None:
    from quant_tutorial.lab import Setting, model_params, plan

    if not callable(answer):
        return f"a function is needed, not {type(answer).__name__}."
    simulator = _simulator()
    usual = [(8, 8), (4, 8), (2, None), (8, None), (4, 4), (8, 16), (4, 16), (None, 8)]
    every = [(w, a) for w in (*range(2, 9), None) for a in (*range(2, 17), None)]
    for weights, activations in dict.fromkeys(usual + every):
        setting = Setting(weights, activations, image=activations)
        right = plan(simulator, model_params(simulator, setting))
        found = answer(weights, activations)
        if not isinstance(found, bool | np.bool_):
            return f"it must return True or False, not {found!r}."
        if found != (right.make is not None):
            is_there = "there is no such file" if right.make is None else "there is one"
            return (
                f"with weights of {_said(weights)} and activations of {_said(activations)} "
                f"{is_there}. {right.reason}"
            )
    return None


@cache
def _simulator() -> Simulator:
    """Return a simulator of the baseline, for what does not depend on the ranges."""
    from quant_tutorial import mnist, models
    from quant_tutorial.simulate import Simulator

    return Simulator(models.load_baseline(), mnist.to_float(mnist.load().x_train[:100]))


def _said(bits: int | None) -> str:
    return "float" if bits is None else f"{bits} bits"


@exercise("10.4")
def _own_pair(answer: Any) -> str | None:
    first, second = answer
    if hint := _no_setting(first) or _no_setting(second):
        return hint
    lab = _lab()
    decibels, accuracies = zip(
        *((r.sqnr["logits"], r.accuracy) for r in map(lab.measure, (first, second))), strict=True
    )
    said = (
        f"the first has {decibels[0]:.1f} dB and {accuracies[0]:.1%}, "
        f"the second {decibels[1]:.1f} dB and {accuracies[1]:.1%}"
    )
    if decibels[0] >= decibels[1] + 2 and accuracies[0] <= accuracies[1] - 0.2:
        return None
    if decibels[1] >= decibels[0] + 2 and accuracies[1] <= accuracies[0] - 0.2:
        return f"{said}: these are two such settings, in the other order."
    if first.source == second.source:
        return f"{said}. Both are compared with the same float network. Are there others?"
    return f"{said}. For which kind of weights does noise do no harm?"


@exercise("10.5")
def _own_choice(answer: Any) -> str | None:
    from quant_tutorial.lab import PTQ, ROUNDED

    if hint := _no_setting(answer):
        return hint
    if answer.source not in (PTQ, *ROUNDED):
        return f"the weights of {answer.source} were trained: no training is allowed here."
    if {*answer.activations.values(), answer.image} != {8}:
        return "a device without floats needs a full-integer file: input and activations of 8 bits."
    lab = _lab()
    found = lab.plan(answer)
    if found.make is None:
        return found.reason
    content = found.make(lab.images[:1])
    if len(content) > 13_000:
        return (
            f"its file has {len(content):,} bytes, and 13,000 fit. From how many bits on are "
            "weights packed in such a file?"
        )
    accuracy = tflite_accuracy(content)
    if accuracy >= 0.994:
        return None
    hint = f"its file has {len(content):,} bytes, and its accuracy is {accuracy:.2%}."
    if max(answer.weights.values()) < 4:
        return f"{hint} How large would it be with more bits?"
    return f"{hint} The nearest level is not the best choice for weights of few bits."


@exercise("10.6")
def _own_repair(answer: Any) -> str | None:
    from quant_tutorial.lab import SABOTAGED, Setting

    if hint := _no_setting(answer):
        return hint
    changed = [
        field.name
        for field in fields(Setting)
        if getattr(answer, field.name) != getattr(SABOTAGED, field.name)
    ]
    kept = [n for n in ("weights", "activations", "image", "source") if n in changed]
    if kept:
        return f"{kept[0]} must stay as it was."
    if len(changed) > 2:
        return f"these are {len(changed)} changes: {', '.join(changed)}. Which one gains least?"
    accuracy, _ = _accuracy(answer)
    if accuracy >= 0.97:
        return None
    hint = f"its accuracy is {accuracy:.1%}."
    if "ranges" not in changed:
        return f"{hint} Where does the SQNR drop most from one layer to the next?"
    return f"{hint} The ranges are changed. What else makes 3-bit weights coarse?"
