"""Check the answers to the exercises of lesson 10."""

from __future__ import annotations

from typing import Any

from quant_tutorial.checks.registry import exercise, no_bytes, tflite_accuracy


@exercise("10.1")
def _own_small_setting(answer: Any) -> str | None:
    from quant_tutorial import mnist, models
    from quant_tutorial.lab import PTQ, Lab, Setting

    if not isinstance(answer, Setting):
        return f"a Setting is needed, not {type(answer).__name__}."
    if answer.source != PTQ:
        return (
            f"source is {answer.source}: here the float baseline's weights are to be rounded to "
            "the nearest level."
        )
    data = mnist.load()
    images, labels = mnist.to_float(data.x_test), data.y_test
    lab = Lab(models.load_baseline(), mnist.to_float(data.x_train[:1000]), images, labels)
    reading = lab.measure(answer)
    if reading.weight_bytes > 5000:
        return f"its weights take {reading.weight_bytes:,} bytes, and 5,000 fit."
    hint = f"its accuracy is {reading.accuracy:.1%}: which layer bears 2 bits best?"
    return None if reading.accuracy >= 0.975 else hint


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
    from quant_tutorial import mnist, models
    from quant_tutorial.lab import Setting, model_params, plan
    from quant_tutorial.simulate import Simulator

    if not callable(answer):
        return f"a function is needed, not {type(answer).__name__}."
    images = mnist.to_float(mnist.load().x_train[:100])
    simulator = Simulator(models.load_baseline(), images)
    for weights in (None, *range(2, 9)):
        for activations in (None, *range(2, 17)):
            setting = Setting(weights, activations, image=activations)
            right = plan(simulator, model_params(simulator, setting))
            if bool(answer(weights, activations)) != (right.make is not None):
                is_there = "there is no such file" if right.make is None else "there is one"
                return (
                    f"with weights of {weights} and activations of {activations} bits "
                    f"{is_there}. {right.reason}"
                )
    return None
