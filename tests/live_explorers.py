"""Explorers with data of their own, which need no model, for tests of their live twins."""

from itertools import product

from quant_tutorial.affine import quantize
from quant_tutorial.calibration import Statistics, weight_params
from quant_tutorial.explorers.affine import AffineExplorer
from quant_tutorial.explorers.calibration import RangeExplorer
from quant_tutorial.explorers.granularity import GranularityExplorer
from quant_tutorial.explorers.rounding import RoundingExplorer
from quant_tutorial.rounding import Rounded
from quant_tutorial.scheme import TensorScheme
from quant_tutorial.simulate import ModelParams

import numpy as np


def affine() -> AffineExplorer:
    """The explorer of lesson 02."""
    return AffineExplorer()


def ranges() -> RangeExplorer:
    """That of lesson 03, for what comes out of a ReLU, for logits, and for data below 0 only."""
    draw = np.random.default_rng(0)
    batches = {
        "relu": np.maximum(draw.normal(-0.5, 1.5, size=(2, 20_000)), 0).astype(np.float32),
        "logits": draw.standard_t(4, size=(2, 5000)).astype(np.float32) * 5,
        "negative": -draw.gamma(2, 0.01, size=(2, 5000)),
    }
    seen = {name: Statistics() for name in batches}
    for name, each in batches.items():
        for batch in each:
            seen[name].observe(batch)
    return RangeExplorer(seen, "relu", bits=4)


def granularity() -> GranularityExplorer:
    """That of lesson 04, for layers as large as the baseline's; a channel of one is 0."""
    draw = np.random.default_rng(0)
    weights = {}
    for name, shape in (
        ("conv1", (3, 3, 1, 8)),
        ("conv3", (3, 3, 16, 32)),
        ("logits", (800, 10)),
    ):
        spread = draw.lognormal(sigma=0.5, size=shape[-1])
        weights[name] = (draw.normal(size=shape) * 0.1 * spread).astype(np.float32)
    weights["conv1"][..., 3] = 0
    accuracy = {(4, "channel-wise"): 0.9919, (8, "tensor-wise"): 0.99255}
    return GranularityExplorer(weights, accuracy)


def rounding() -> RoundingExplorer:
    """That of lesson 11, for two layers rounded to any level, more or less near."""
    draw = np.random.default_rng(11)
    weights = {
        "conv2": draw.normal(0, 0.1, (3, 3, 8, 16)).astype(np.float32),
        "logits": draw.normal(0, 0.1, (80, 10)).astype(np.float32),
    }
    rounded, sqnr, accuracy = {}, {}, {}
    for method, bits in product(("nearest", "GPTQ", "AdaRound"), (2, 3)):
        scheme = TensorScheme(bits, True, "channel-wise", "mse")
        params = weight_params(weights, scheme)
        top = 2 ** (bits - 1) - 1
        integers = {
            name: np.clip(quantize(w, params[name]) + draw.integers(-2, 3, w.shape), -top, top)
            if method != "nearest"
            else quantize(w, params[name])
            for name, w in weights.items()
        }
        model = ModelParams(params, {})
        rounded[method, bits] = Rounded(model, integers, {}, None)
        sqnr[method, bits] = dict.fromkeys(weights, draw.uniform(-2, 30))
        accuracy[method, bits] = draw.uniform(0.1, 1)
    return RoundingExplorer(weights, rounded, sqnr, accuracy, 0.9946)


MAKERS = {"affine": affine, "range": ranges, "granularity": granularity, "rounding": rounding}
