"""Check the answers to the exercises of lesson 03."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from typing import Any

from quant_tutorial.affine import fake_quantize, params_from_range
from quant_tutorial.calibration import kl_divergence, mse_range
from quant_tutorial.checks.registry import exercise, is_number
from quant_tutorial.histogram import Distribution
from quant_tutorial.metrics import mse

import numpy as np
from numpy.typing import NDArray

_STORED = ["relu1", "relu2", "dense"]
# What each of the other layers of exercise 03.1 is, as a hint to those who measure its range.
_NO_MEASURING = {
    "image": "the range of the image is known before any image is seen.",
    **dict.fromkeys(
        ["conv1", "bn1", "conv2", "bn2"],
        "convolution, batch norm and ReLU are one kernel: of which layer is the output rounded?",
    ),
    **dict.fromkeys(
        ["pool1", "flatten"],
        "max-pooling and flatten return values that they were given: which scale do those have?",
    ),
    "softmax": "the range of the softmax is known, whatever the image: probabilities.",
}


@exercise("03.1")
def _measured_tensors(answer: Any) -> str | None:
    if isinstance(answer, str) or not all(isinstance(name, str) for name in answer):
        return "a list of names is needed."
    given = set(answer)
    if unknown := given - {*_STORED, *_NO_MEASURING}:
        return f"{sorted(unknown)[0]} is no layer of this model."
    for name in _NO_MEASURING:
        if name in given:
            return f"about {name}: {_NO_MEASURING[name]}"
    missing = [name for name in _STORED if name not in given]
    if missing:
        return f"of the layers whose range depends on the images, {len(missing)} are missing."
    return None


@exercise("03.2")
def _batches_after_an_outlier(answer: Any) -> str | None:
    right = _first_below(lambda k: 5 + 95 * 0.9**k)
    return _known_mistakes(
        answer,
        right,
        {
            right - 1: "after so many batches it is still a little above 6.",
            right + 1: "count the batches after the first one.",
            _first_below(lambda k: 5 + 95 * 0.1**k): "which of the two numbers has the weight 0.9?",
            _first_below(lambda k: 5 + (10 - 5) * 0.9**k): (
                "the first batch sets the average; the average does not start at 0."
            ),
            _first_below(lambda k: (100 + 5 * k) / (k + 1)): (
                "that is the plain mean of all batches, in which each has the same weight."
            ),
        },
        "each further batch multiplies the distance from 5 by the same factor.",
    )


@exercise("03.3")
def _best_end(answer: Any) -> str | None:
    values = np.random.default_rng(3).exponential(1, 10_000)
    ends = np.arange(1, 8.5, 0.5)

    def rounded(end: float, intervals: int, top: int) -> NDArray[np.float64]:
        scale = end / intervals
        return np.clip(np.floor(values / scale + 0.5), 0, top) * scale

    def best(error: Any) -> float:
        return float(ends[np.argmin([error(end) for end in ends])])

    intervals = "how many intervals lie between the levels of 2 bits?"
    return _known_mistakes(
        answer,
        best(lambda end: mse(values, fake_quantize(values, params_from_range(0, end, 2)))),
        {
            best(lambda end: mse(values, rounded(end, 4, 4))): intervals,
            best(lambda end: mse(values, rounded(end, 4, 3))): intervals,
            best(lambda end: np.abs(values - rounded(end, 3, 3)).mean()): (
                "that end has the smallest mean absolute error; squares weigh large errors more."
            ),
            best(lambda end: np.abs(values - rounded(end, 3, 3)).max()): (
                "that end has the smallest largest error; the mean is over all values."
            ),
            best(lambda end: np.square(values - rounded(end, 3, 3))[values <= end].mean()): (
                "the values beyond the range have an error, too."
            ),
        },
        "compute the mean squared error of each of the fifteen ends over all values.",
    )


@exercise("03.4")
def _safe_percentile(answer: Any) -> str | None:
    return _known_mistakes(
        answer,
        92,
        {
            92.5: "that is the breakdown point itself; the percentile must leave out more.",
            99.9: "that tolerates bad values of up to 0.1%; which share of the values is bad here?",
            97: "3 of 100 is 3%; how many images are there here?",
            95: "that tolerates bad values of up to 5%; which share of the values is bad here?",
            90: "that is safe, but it clips more than it has to.",
        },
        "which share of all the values is bad? The answer is one of the six.",
    )


@exercise("03.5")
def _divergence_by_hand(answer: Any) -> str | None:
    p, q = np.array([6, 2, 0, 8]), np.array([4, 4, 0, 4])  # 1 and 3 are clipped into the last bin
    right = kl_divergence(p, q)
    backwards = kl_divergence(q, p)
    spread = kl_divergence(p, np.array([4, 4, 2, 2]))
    unfilled = kl_divergence(np.array([6, 2, 0, 4]), q)
    both = kl_divergence(p, np.array([4, 4, 0, 8]))
    return _known_mistakes(
        answer,
        right,
        {
            unfilled: "where do the 4 values beyond the kept bins go in p?",
            both: "q is made from the kept bins before the clipped values are added to the last.",
            spread: "an empty bin stays empty in q.",
            backwards: "that is the divergence of p from q the other way round: Σ p · ln(p / q).",
            right / math.log(2): "that is in bits (log2); the lesson's is in nats (ln).",
        },
        "write down p (4 bins, with what is clipped) and q (2 groups), and scale both to sum 1.",
    )


@exercise("03.6")
def _enough_images(answer: Any) -> str | None:
    from quant_tutorial import mnist, models
    from quant_tutorial.frameworks import keras

    model = models.fold_batch_norm(models.load_baseline())
    probe = keras.Model(model.input, model.get_layer("relu2").output)
    images = mnist.to_float(mnist.load().x_train[:1000])
    tops = models.predict(probe, images).max(axis=(1, 2, 3))

    def smallest(reached: Any) -> int:
        return next(n for n in (1, 2, 5, 10, 20, 50) if reached(n) >= 0.75 * tops.max())

    def draws(n: int) -> list[float]:
        random = np.random.default_rng(0)
        return [tops[random.choice(1000, n, replace=False)].max() for _ in range(20)]

    return _known_mistakes(
        answer,
        smallest(lambda n: min(draws(n))),
        {
            smallest(
                lambda n: np.median(draws(n))
            ): "half of the draws fall short; look at all 20.",
            smallest(
                lambda n: tops[:n].max()
            ): "that is one draw, the first images; look at all 20.",
        },
        "for each n compute the 20 largest values, and compare the least of them with the bound.",
    )


@exercise("03.7")
def _own_observer(answer: Any) -> str | None:
    if not callable(answer):
        return f"a class is needed, not {type(answer).__name__}."
    try:
        answer(4).range()
    except ValueError:
        pass
    else:
        return "range() must raise a ValueError when nothing was observed."
    for name, batches in _streams().items():
        seen = answer(4)
        for batch in batches:
            seen.observe(batch.copy())
        low, high = map(float, seen.range())
        if hint := _range_hint(name, np.concatenate(batches), low, high):
            return hint
    seen = answer(4)
    for batch in 40 * [_streams()["with a long tail"][0]]:
        seen.observe(batch.copy())
    size = len(pickle.dumps(vars(seen)))
    if size > 300_000:
        return (
            f"after 40 batches of 5,000 values the observer holds {size:,} bytes: a histogram of "
            "fixed size is enough."
        )
    return None


def _streams() -> Mapping[str, list[NDArray[np.float64]]]:
    """Return batches of values, by a name for them that ends the sentence "the values are …"."""
    random = np.random.default_rng(7)
    tail = [random.exponential(1, 5000) for _ in range(6)]
    return {
        "with a long tail": tail,
        "all positive, from 3 up": [3 + batch for batch in tail],
        "all negative": [-batch for batch in tail],
        "of both signs": [random.standard_t(4, 5000) for _ in range(6)],
        "larger in each batch": [4**k * batch for k, batch in enumerate(tail)],
        "smaller in each batch": [batch / 4**k for k, batch in enumerate(tail)],
        "all 0": [np.zeros(100)] * 2,
    }


def _range_hint(name: str, values: NDArray[np.float64], low: float, high: float) -> str | None:
    """Return a hint unless a range is about as good as the best one for 4 bits."""
    chosen = f"where the values are {name}, it chose {low:.4g} to {high:.4g}"
    if not low <= high:
        return f"{chosen}: the lower end must not exceed the upper."
    slack = 0.01 * np.ptp(values)  # the width of a histogram's bin
    if low < values.min() - slack or high > values.max() + slack:
        return (
            f"{chosen}, which is wider than their extremes, {values.min():.4g} to "
            f"{values.max():.4g}: with what does the observer start?"
        )
    exact = Distribution.from_values(values)
    best = params_from_range(*mse_range(exact, 4), 4)
    error, least, widest = (
        sum(exact.error(params))
        for params in (
            params_from_range(low, high, 4),
            best,
            params_from_range(values.min(), values.max(), 4),
        )
    )
    if error <= 1.15 * least:
        return None
    hints = {
        "min_max": "that is min/max; leave out the tail.",
        "wide": "the range is wider than it needs to be.",
        "narrow": "too many values are clipped.",
    }
    reach = max(high, 0) - min(low, 0)
    kind = "wide" if reach > best.maximum - best.minimum else "narrow"
    if math.isclose(error, widest, rel_tol=1e-3):
        kind = "min_max"
    return f"{chosen}, with {error / least:.2f}× the smallest error at 4 bits: {hints[kind]}"


def _first_below(average: Any, bound: float = 6) -> int:
    """Return after how many batches a falling average first lies below a bound."""
    return next(k for k in range(1000) if average(k) < bound)


def _known_mistakes(
    answer: Any, right: float, mistakes: Mapping[float, str], hint: str
) -> str | None:
    """Return None for the right number, the hint of a known mistake, or else the general hint."""
    if is_number(answer, right, hint) is None:
        return None
    for wrong, meaning in mistakes.items():
        if is_number(answer, wrong, meaning) is None:
            return meaning
    return hint
