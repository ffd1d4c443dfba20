"""Check the answers to the exercises of lesson 05."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from quant_tutorial.affine import QuantParams, fake_quantize, params_from_range
from quant_tutorial.checks.registry import exercise, number_hint, with_suspect
from quant_tutorial.metrics import packed_bytes
from quant_tutorial.scheme import LayerScheme, QuantScheme, TensorScheme

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from quant_tutorial.simulate import StagedRun

CONVOLUTIONS, DENSE = (72, 1152, 4608), 8000  # weights of the baseline
SEARCH = slice(1000, 4000)  # training images that neither calibrate nor test


@exercise("05.1")
def _mixed_bytes(answer: Any) -> str | None:
    def size(convolutions: int, dense: int) -> int:
        return sum(packed_bytes(n, convolutions) for n in CONVOLUTIONS) + packed_bytes(DENSE, dense)

    mistakes = {
        8 * size(5, 3): "these are bits. A byte has 8 of them.",
        size(3, 5): "the dense layer has 3 bits, the convolutions have 5.",
        size(5, 3) + 4 * 66: "leave out the biases.",
        size(5, 3) - packed_bytes(CONVOLUTIONS[0], 5): "there are three convolutions.",
        size(8, 8): "this is the size at 8 bits. How many bits does each weight have here?",
        size(4, 4): "the layers differ in size: 5 and 3 bits are not 4 bits on average.",
        4 * (sum(CONVOLUTIONS) + DENSE): "this is the size in float.",
    }
    value = float(answer)
    if value == size(5, 3):
        return None
    return mistakes.get(value, "count the bits of each kernel; a byte has 8 of them.")


@exercise("05.2")
def _one_value(answer: Any) -> str | None:
    x, low, high, highs = 3.3, 0.1, 6.4, (5.6, 6.4, 4.9)

    def through(end: float, steps: int = 15) -> float:
        scale = end / steps
        return math.floor(x / scale + 0.5) * scale

    right, shifted = through(high), (high - low) / 15
    mistakes = {
        "this is the number of steps. How large is the value?": 8.0,
        "this takes the mean of the maxima. What does min/max keep?": through(sum(highs) / 3),
        "this takes the last batch alone.": through(highs[-1]),
        "this takes the first batch alone.": through(highs[0]),
        "16 levels have 15 steps between them.": through(high, 16),
        "the range has to contain 0.": low + math.floor((x - low) / shifted + 0.5) * shifted,
        "the activations are asymmetric: all 16 levels are available.": through(high, 7),
        "this rounds down. Which level is nearest?": math.floor(x / (high / 15)) * high / 15,
        "only 16 values can come out of the node.": x,
    }
    hint = "which range do the three batches give together, and how long is a step?"
    return number_hint(answer, right, mistakes, hint)


_Node = Callable[[NDArray[np.float64], float, int, int], NDArray[np.float64]]


def _limits(bits: int) -> tuple[int, int]:
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


# What a reader's node may do instead. Each is tried on the same values.
NODE_SUSPECTS: dict[str, _Node] = {
    "it does not clamp": lambda x, s, z, bits: np.round(x / s) * s,
    "it returns the integers, and leaves out the way back": lambda x, s, z, bits: np.clip(
        np.round(x / s) + z, *_limits(bits)
    ),
    "it does not subtract the zero point on the way back": lambda x, s, z, bits: (
        np.clip(np.round(x / s) + z, *_limits(bits)) * s
    ),
    "it leaves out the zero point": lambda x, s, z, bits: (
        np.clip(np.round(x / s), *_limits(bits)) * s
    ),
    "it subtracts the zero point on the way there": lambda x, s, z, bits: (
        (np.clip(np.round(x / s) - z, *_limits(bits)) + z) * s
    ),
    "its integers are unsigned": lambda x, s, z, bits: (
        (np.clip(np.round(x / s) + z, 0, 2**bits - 1) - z) * s
    ),
    "its integers are those of the narrow range": lambda x, s, z, bits: (
        (np.clip(np.round(x / s) + z, _limits(bits)[0] + 1, _limits(bits)[1]) - z) * s
    ),
    "it rounds down": lambda x, s, z, bits: (np.clip(np.floor(x / s) + z, *_limits(bits)) - z) * s,
    "it multiplies by the scale where it must divide": lambda x, s, z, bits: (
        (np.clip(np.round(x * s) + z, *_limits(bits)) - z) * s
    ),
    "it does not round": lambda x, s, z, bits: (np.clip(x / s + z, *_limits(bits)) - z) * s,
    "its limits are those of 8 bits, whatever the bit width": lambda x, s, z, bits: (
        (np.clip(np.round(x / s) + z, -128, 127) - z) * s
    ),
}


@exercise("05.3")
def _own_node(answer: Any) -> str | None:
    x = np.random.default_rng(5).normal(0, 2, 500)
    suspects, found = dict(NODE_SUSPECTS), None
    for low, high, bits in ((-1.3, 4.1, 8), (0, 3, 3), (-2, 0.5, 2)):
        params = params_from_range(low, high, bits)
        given = params.scale, params.zero_point, bits
        got = np.asarray(answer(x, *given), float)
        if got.shape != x.shape:
            return f"it must return one value for each value: shape {x.shape}, not {got.shape}."
        suspects = {h: f for h, f in suspects.items() if np.allclose(got, f(x, *given))}
        wrong = np.flatnonzero(~np.isclose(got, fake_quantize(x, params)))
        if wrong.size and found is None:
            found = _node_hint(x[wrong[0]], params)
    return with_suspect(found, suspects)


def _node_hint(x: float, params: QuantParams) -> str:
    return (
        f"x = {x:.4f} with scale {params.scale:.4g}, zero point {params.zero_point} "
        f"and {params.bits} bits must give {float(fake_quantize(x, params)):.4f}."
    )


_Share = Callable[[NDArray[np.float64], NDArray[np.int64]], float]


def _leaders(outputs: NDArray[np.float64]) -> NDArray[np.bool_]:
    return outputs == outputs.max(axis=1, keepdims=True)


def _true(leaders: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    return leaders[np.arange(len(labels)), labels]


def fair_share(outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the expected accuracy when a tie for the first place is decided at random."""
    leaders = _leaders(outputs)
    return float(np.mean(_true(leaders, labels) / leaders.sum(axis=1)))


# What a reader's function may return instead.
SHARE_SUSPECTS: dict[str, _Share] = {
    "it lets the first of the leaders win, as argmax does": lambda o, y: np.mean(
        o.argmax(axis=1) == y
    ),
    "it lets the last of the leaders win": lambda o, y: np.mean(
        o.shape[1] - 1 - o[:, ::-1].argmax(axis=1) == y
    ),
    "it counts an image as right whenever the true class is among the leaders": lambda o, y: (
        np.mean(_true(_leaders(o), y))
    ),
    "it counts ties as wrong": lambda o, y: np.mean(
        _true(_leaders(o), y) & (_leaders(o).sum(axis=1) == 1)
    ),
    "it leaves out the images with a tie": lambda o, y: np.mean(
        _true(_leaders(o), y)[_leaders(o).sum(axis=1) == 1]
    ),
    "it counts half an image for every tie, also where three or more lead": lambda o, y: np.mean(
        _true(_leaders(o), y) * np.where(_leaders(o).sum(axis=1) > 1, 0.5, 1)
    ),
    "it divides by the number of leaders even where the true class is not one of them": (
        lambda o, y: np.mean(1 / _leaders(o).sum(axis=1))
    ),
    "it returns the number of images, not their share": lambda o, y: fair_share(o, y) * len(y),
    "it returns per cent": lambda o, y: 100 * fair_share(o, y),
}


@exercise("05.4")
def _fair_ties(answer: Any) -> str | None:
    random = np.random.default_rng(4)
    suspects, found = dict(SHARE_SUSPECTS), None
    for images, classes, levels in ((400, 10, 6), (150, 4, 3)):
        outputs = random.integers(-levels, levels, (images, classes)).astype(float)
        labels = np.where(
            random.random(images) < 0.7,
            random.permuted(np.arange(images) % classes),
            outputs.argmax(axis=1),
        )
        got = float(answer(outputs, labels))
        right = fair_share(outputs, labels)
        suspects = {h: f for h, f in suspects.items() if np.isclose(got, f(outputs, labels))}
        if not np.isclose(got, right) and found is None:
            found = (
                f"for {images} images of {classes} classes it must return {right:.4f}, and yours "
                f"returns {got:.4f}."
            )
    return with_suspect(found, suspects)


@exercise("05.5")
def _best_layer(answer: Any) -> str | None:
    name, more = str(answer[0]), float(answer[1])
    counts = dict(zip(("conv1", "conv2", "conv3", "logits"), (*CONVOLUTIONS, DENSE), strict=True))
    if name not in counts:
        return f"a pair is needed: one of {', '.join(counts)}, and the bytes that it costs."
    count = counts[name]
    hints = {
        packed_bytes(count, 8): "these are all bytes of the layer. How many had it before?",
        count * 6: "these are bits.",
        packed_bytes(count, 2): "these are the bytes that the layer had before.",
    }
    if more != packed_bytes(count, 8) - packed_bytes(count, 2):
        return hints.get(more, "how many bits more does each weight of the layer have?")
    if name != "conv2":
        return (
            "the bytes are right for this layer, but another one helps more. Measure all four: one "
            "layer at 8 bits, the others at 2."
        )
    return None


@exercise("05.6")
def _claims(answer: Any) -> str | None:
    given = {str(letter).strip().upper() for letter in answer if str(letter).strip(" ,")}
    if not given or not given <= set("ABCDE"):
        return 'letters from A to E are needed, such as "AC".'
    wrong = {
        "A": "one of them compares two models that differ in more than the widths.",
        "C": "one of them takes the best of many on the images that chose it.",
        "D": "one of them trusts a file that holds its rounded values as floats.",
    }
    for letter, hint in wrong.items():
        if letter in given:
            return hint
    if given != set("BE"):
        return "what you name is right, and there is one more."
    return None


@cache
def _search() -> tuple[StagedRun, NDArray[np.uint8]]:
    """Return the baseline, ready to run on training images that were held out, and the labels."""
    from quant_tutorial import mnist, models
    from quant_tutorial.simulate import Simulator, StagedRun

    data = mnist.load()
    simulator = Simulator(models.load_baseline(), mnist.to_float(data.x_train[:1000]))
    return StagedRun(simulator, mnist.to_float(data.x_train[SEARCH])), data.y_train[SEARCH]


def searched(scheme: QuantScheme) -> tuple[float, int]:
    """Return a scheme's accuracy on the training images held out, and its bytes of weights."""
    run, labels = _search()
    params = run.simulator.params(scheme)
    right = run.outputs(params).argmax(axis=1) == labels
    return float(right.mean()), run.simulator.weight_bytes(params)


_NEEDED = 0.99  # the accuracy on the training images held out


@exercise("05.7")
def _good_three_bits(answer: Any) -> str | None:
    if not isinstance(answer, QuantScheme):
        return f"a QuantScheme is needed, not {type(answer).__name__}."
    simulator = _search()[0].simulator
    params = simulator.params(answer)
    for name, chosen in params.weights.items():
        if chosen is None or chosen.bits > 3:
            return f"the weights of {name} have {chosen.bits if chosen else 32} bits, not 3."
    for name, chosen in params.activations.items():
        most = 8 if name in ("image", "logits") else 4
        if chosen is None or chosen.bits > most:
            width = chosen.bits if chosen else 32
            return f"the activation {name} has {width} bits; {most} are allowed."
    share, _ = searched(answer)
    if share >= _NEEDED:
        return None
    hint = f"its accuracy is {share:.1%}:"
    weights = [answer.for_layer(name).weights for name in simulator.weights]
    if any(one.granularity != "channel-wise" for one in weights):
        return f"{hint} look at the granularity of the weights."
    if any(one.calibrator != "mse" for one in weights):
        return f"{hint} look at the ranges of the weights. Which calibrator clips?"
    if params.activations["logits"].bits < 8:
        return f"{hint} look at the last output. How often do two digits share the first place?"
    return f"{hint} look at the ranges and the bits of the activations."


def broken_scheme() -> QuantScheme:
    """Return the scheme that exercise 05.8 asks to repair: three of its nine places spoil it."""

    def layer(weights: TensorScheme, bits: int, calibrator: str = "mse") -> LayerScheme:
        return LayerScheme(weights, TensorScheme(bits, calibrator=calibrator))

    def weights(bits: int) -> TensorScheme:
        return TensorScheme(bits, True, "channel-wise", "mse")

    layers: Mapping[str, LayerScheme | None] = {
        "conv1": layer(weights(2), 4),
        "conv2": layer(TensorScheme(4, True, "layer-wise"), 2, "entropy"),
        "conv3": layer(weights(3), 3),
        "logits": layer(weights(3), 3, "min_max"),
    }
    return QuantScheme(input=TensorScheme(2), overrides=layers)


CHANGES, LARGEST = 3, 6000  # places that may change, and bytes of weights


@exercise("05.8")
def _repaired(answer: Any) -> str | None:
    if not isinstance(answer, QuantScheme):
        return f"a QuantScheme is needed, not {type(answer).__name__}."
    names = _search()[0].simulator.layers
    places = [_places(scheme, names) for scheme in (broken_scheme(), answer)]
    changed = [name for name, scheme in places[0].items() if places[1][name] != scheme]
    if not changed:
        return "nothing has changed yet."
    if len(changed) > CHANGES:
        return (
            f"{len(changed)} places have changed ({', '.join(changed)}); at most {CHANGES} may. "
            "Take back the changes that help least."
        )
    share, size = searched(answer)
    if size > LARGEST:
        return f"its weights take {size:,} bytes; at most {LARGEST:,} are allowed."
    if share >= _NEEDED:
        return None
    hint = f"its accuracy is {share:.1%}, and {_NEEDED:.0%} are needed."
    if len(changed) < CHANGES:
        return f"{hint} You may change {CHANGES - len(changed)} more."
    if "the input" in changed:
        return f"{hint} Two bits for pixels look few: does the accuracy change without that change?"
    return (
        f"{hint} Begin with the one place whose change alone lifts the accuracy, keep that change, "
        "and measure the other places again."
    )


def _places(scheme: QuantScheme, names: tuple[str, ...]) -> dict[str, TensorScheme]:
    """Return the scheme of each of a model's places by name."""
    found = {"the input": scheme.input}
    for name in names:
        layer = scheme.for_layer(name)
        found |= {f"weights of {name}": layer.weights, f"output of {name}": layer.activations}
    return found
