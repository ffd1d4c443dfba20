"""Check the answers to the exercises of lesson 12, and make the models that it repairs."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from quant_tutorial.checks.registry import exercise, no_bytes

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from quant_tutorial.frameworks import keras

_SETS = {"A": (1.0, 0.0), "B": (255.0, 0.0), "C": (2.0, -1.0)}  # factor and offset of 0 to 1
_CAUSES = {"A": "one class", "B": "one scale", "C": "bytes"}
_ENOUGH, _IMAGES = 0.95, 500
_COUNTS = (14, 9, 2000)


def handed_over() -> keras.Model:
    """Return the model of the lesson's colleague, as it is handed over (lesson 12).

    It takes photos in [0, 1], rescales them to [−1, 1], runs the colour model as a nested base and
    ends in a softmax. One channel of the base is 1,024 times as wide as it was trained.
    """
    return wrapped(with_wide_channel("depthwise4", 7, 1024))


def with_wide_channel(name: str, channel: int, factor: float) -> keras.Model:
    """Return the colour model with one channel of a layer widened, and narrowed by the next layer.

    The outputs stay the same bit for bit if the factor is a power of two. Lesson 12.
    """
    from quant_tutorial import models

    model = models.load_colour_digits(spread=False)
    norm = model.get_layer(f"{name}_bn")
    weighted = [layer.name for layer in model.layers if hasattr(layer, "kernel")]
    following = model.get_layer(weighted[weighted.index(name) + 1])
    for variable in (norm.gamma, norm.beta):
        values = variable.numpy()
        values[channel] *= factor
        variable.assign(values)
    kernel = following.kernel.numpy()
    kernel[..., channel, :] /= factor  # the input channels are on the last axis but one
    following.kernel.assign(kernel)
    return model


def wrapped(base: keras.Model, *, scale: float = 2.0) -> keras.Model:
    """Return a model with a Rescaling layer, a nested base and a softmax (lesson 12).

    The layer maps 0 to −1; a scale of 2 maps 1 to 1, and one of 2/255 maps 255 to 1.
    """
    from quant_tutorial.frameworks import keras

    layers = keras.layers
    photo = keras.Input((32, 32, 3), name="photo")
    inner = keras.Model(base.input, base.output, name="base")
    x = inner(layers.Rescaling(scale, -1.0, name="rescaling")(photo))
    return keras.Model(photo, layers.Softmax(name="probabilities")(x), name="colleague")


def stubborn() -> keras.Model:
    """Return the model of exercise 12.4: another layer has a channel that is too wide."""
    return wrapped(with_wide_channel("conv1", 3, 512))


def sabotaged() -> keras.Model:
    """Return the model of exercise 12.5: another wide channel, and bytes at its input."""
    return wrapped(with_wide_channel("pointwise3", 5, 1024), scale=2 / 255)


def three_sets() -> tuple[keras.Model, dict[str, NDArray[np.float32]]]:
    """Return the model and the three calibration sets of exercise 12.1."""
    from quant_tutorial import colour_digits, models

    model = wrapped(models.load_colour_digits(spread=False), scale=2 / 255)
    unit = colour_digits.load().x_train[:100] / np.float32(255)
    return model, {
        name: (unit * np.float32(factor) + np.float32(offset)).astype(np.float32)
        for name, (factor, offset) in _SETS.items()
    }


@cache
def three_files() -> dict[str, bytes]:
    """Return the three int8 files of exercise 12.2, each spoiled in one way."""
    from quant_tutorial import mnist, models, tflite

    data, model = mnist.load(), models.load_baseline()
    images = mnist.to_float(data.x_train[:200])
    ones = mnist.to_float(data.x_train[data.y_train == 1][:200])
    options: dict[str, dict[str, Any]] = {
        "one class": {"calibration": ones},
        "one scale": {"calibration": images, "per_channel": False},
        "bytes": {"calibration": images * np.float32(255), "input_range": None},
    }
    return {
        name: tflite.convert(model, "int8", **options[cause]) for name, cause in _CAUSES.items()
    }


@exercise("12.1")
def _right_set(answer: Any) -> str | None:
    hints = {
        "A": "the model multiplies its input by 2/255: what does it make of 1, the largest?",
        "C": "these have been scaled to −1 to 1 already, and the model does it once more.",
    }
    if not isinstance(answer, str) or answer not in _SETS:
        return "one of the names A, B, C is needed."
    return hints.get(answer)


@exercise("12.2")
def _causes(answer: Any) -> str | None:
    if not isinstance(answer, dict) or set(answer) != set(_CAUSES):
        return "a dictionary with a cause for each of A, B and C is needed."
    if wrong := [cause for cause in answer.values() if cause not in _CAUSES.values()]:
        return f"{wrong[0]!r} is none of the causes: {', '.join(sorted(_CAUSES.values()))}."
    if len(set(answer.values())) < len(_CAUSES):
        return "each cause belongs to one file."
    if answer == _CAUSES:
        return None
    if answer["C"] != "bytes":
        return "which real range do the integers of each input stand for?"
    return (
        "C is right. Of A and B, one file has far fewer scales than the other, and one has ops "
        "with a large own error."
    )


@exercise("12.3")
def _widest(answer: Any) -> str | None:
    random = np.random.default_rng(12)
    # "c" has the largest value, "b" the largest ratio to the mean or the smallest, "a" is right.
    ranges = {
        "a": np.array([1, 1, 1, 1, 40, 1.2, 1.1], np.float32),
        "b": np.array([0.001, 5, 5, 6, 6, 5, 90], np.float32),
        "c": np.array([500, 600, 700, 600, 900], np.float32),
        "dead": np.zeros(4, np.float32),
        "sparse": np.array([0, 0, 0, 0, 3, 3, 3.5], np.float32),
    }
    given = answer({name: values.copy() for name, values in ranges.items()})
    hints = {
        "b": "b has one very narrow channel; compare the widest one with the median.",
        "c": "c has the largest values, but its channels are alike. What counts is the ratio.",
        "dead": "all channels of this one are 0: it has no median of others, and is left out.",
        "sparse": "channels that are always 0 do not count, also for the median.",
    }
    if given != "a":
        return hints.get(given, f"it returns {given!r}; the name of a layer is needed.")
    for _ in range(20):
        other = {f"layer{i}": random.uniform(0, 1, 9).astype(np.float32) for i in range(5)}
        right = max(other, key=lambda name: other[name].max() / np.median(other[name]))
        if answer(dict(other)) != right:
            return "it is right for the first ranges, but not for random ones: is it a median?"
    return None


@exercise("12.4")
def _exempt(answer: Any) -> str | None:
    from quant_tutorial import colour_digits, tflite

    if isinstance(answer, str) or not all(isinstance(name, str) for name in answer):
        return "a list of names is needed."
    layers = list(dict.fromkeys(answer))
    right = {"conv1", "depthwise2"}
    if not layers:
        return "without a layer in float it is the int8 file as it was."
    model, data = stubborn(), colour_digits.load()
    known = [layer.name for layer in model.get_layer("base").layers]
    if unknown := [name for name in layers if name not in known]:
        return f"the base has no layer {unknown[0]!r}; it has {', '.join(known)}."
    if set(layers) < right:
        return (
            f"{layers[0]} is one of them. But the tensor that it shares with the other one is "
            "still int8: who makes it, and who uses it?"
        )
    if not right <= set(layers):
        return "these do not help: at which op does the SQNR fall, and which tensor is before it?"
    if len(layers) > len(right):
        return f"{len(layers)} layers in float are more than it needs."
    content = tflite.convert(
        model,
        "int8_fallback",
        calibration=data.x_train[:100] / np.float32(255),
        float_layers=layers,
    )
    share = _share(content, data.x_test[:_IMAGES] / np.float32(255))
    return None if share >= _ENOUGH else f"it gets {share:.0%} right."


@exercise("12.5")
def _repaired(answer: Any) -> str | None:
    from quant_tutorial import colour_digits, tflite

    if not isinstance(answer, bytes):
        return no_bytes(answer)
    found = tflite.inspect(answer)
    if not found.integer_only:
        return f"a float op is left: {found.reason}."
    entry = tflite.input_output(answer)[0]
    if entry.shape != (1, 32, 32, 3) or entry.type != "int8":
        return f"the input must be int8, shape (1, 32, 32, 3); it is {entry.type}, {entry.shape}."
    low, high = entry.params.minimum, entry.params.maximum
    if not (-3 <= low <= 3 and 240 <= high <= 270):
        return (
            f"its input stands for {low:.1f} to {high:.1f}: look at the Rescaling layer of this "
            "model, and calibrate with what comes before it."
        )
    share = _share(answer, colour_digits.load().x_test[:_IMAGES].astype(np.float32))
    if share >= _ENOUGH:
        return None
    return (
        f"it gets {share:.0%} of the images right, and 95% are needed: the calibration is right. "
        "Which channel takes the whole range of its tensor, and who can give some of it away?"
    )


@exercise("12.6")
def _limit(answer: Any) -> str | None:
    from quant_tutorial import report

    only_float, only_file, images = _COUNTS
    row = report.Row(
        "", "", right=0, same=0, images=images, only_float=only_float, only_file=only_file
    )
    limit, loss = row.loss_limit, (only_float - only_file) / images
    spread = np.sqrt(only_float + only_file - (only_float - only_file) ** 2 / images) / images
    given = float(answer)
    hints = {
        100 * loss: "that is the loss on these images. How much can it be on others?",
        100 * (loss + 1.96 * spread): "one image is to be added to either count, and two to n.",
        limit: "in percentage points, please.",
        100 * (loss - 1.96 * spread): "that is the other end of the interval.",
        100 * (loss + spread): "a standard deviation is not yet the end of the interval.",
    }
    if np.isclose(given, 100 * limit, rtol=0.004):
        return None
    for wrong, hint in hints.items():
        if np.isclose(given, wrong, rtol=0.004):
            return hint
    return "put b = 14 + 1, c = 9 + 1 and n = 2,002 into the formula."


@exercise("12.7")
def _own_report(answer: Any) -> str | None:
    from quant_tutorial import report, tflite

    if not isinstance(answer, tuple) or len(answer) != 3:
        return "a tuple is needed: the subject, the list of what was made, the recommendation."
    subject, made, choice = answer
    if not isinstance(subject, report.Subject):
        return f"the first must be what report.load returns, not {type(subject).__name__}."
    if subject.model.name in ("baseline", "colour_digits", "colleague"):
        return f"{subject.model.name} is one of the course's models: take another."
    files = report.contents(made)
    if missing := [name for name in ("float32", "int8") if name not in files]:
        return f"there is no {missing[0]} file among them."
    if choice.name not in files:
        return f"the recommendation is {choice.name!r}, and there is no such file among them."
    row = next(one.row for one in made if one.row.name == choice.name)
    outputs = tflite.predict(files[choice.name], subject.images)
    if row.same is not None and len(outputs) == row.images:
        same = report.measure("", "", files[choice.name], subject.images, None, subject.outputs)
        if same.same != row.same:
            return "the file does not do what the list says: was it made from another model?"
    if not report.is_good(row):
        return (
            f"{choice.name} is recommended, though it is not surely good enough ({row.damage}). "
            "With more images, or after a repair, it may be."
        )
    return None


def _share(content: bytes, images: NDArray[np.floating]) -> float:
    """Return the accuracy of a file on the first colour digits, 0 to 1."""
    from quant_tutorial import colour_digits, tflite

    labels = colour_digits.load().y_test[: len(images)]
    return tflite.evaluate(content, images.astype(np.float32), labels).accuracy
