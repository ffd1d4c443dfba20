"""What the live explorers draw is computed as Python computes it."""

from quant_tutorial.affine import QuantParams, fake_quantize, params_from_range
from quant_tutorial.calibration import weight_params
from quant_tutorial.explorers.affine import _levels
from quant_tutorial.explorers.calibration import RangeExplorer, _moving_ends, slider_limits
from quant_tutorial.explorers.exported import exported
from quant_tutorial.metrics import channel_sqnr_db
from quant_tutorial.scheme import GRANULARITIES, TensorScheme

import live_explorers
import numpy as np
import pytest
from live_script import javascript


def given(params: QuantParams) -> dict[str, float]:
    """Return per-tensor parameters as the scripts have them."""
    ends = {"qmin": params.qmin, "qmax": params.qmax}
    return {"scale": params.scale, "zeroPoint": params.zero_point, **ends}


@pytest.fixture(scope="module")
def ranges() -> RangeExplorer:
    return live_explorers.ranges()


@pytest.mark.parametrize("bits", [2, 5, 16])
def test_the_levels_of_the_staircase(bits: int) -> None:
    wide = {"low": -10.6, "high": 10.6}
    ends = [(0, 10), (-3, 4.5), (0, 0), (-0.05, 0), (-10, 10)]
    params = [params_from_range(*pair, bits) for pair in ends]
    each = [given(p) for p in params]
    code = "given[0].map((params) => module.shown(params, given[1]))"
    found = javascript("explorers/affine.js", code, [each, wide])
    for p, levels in zip(params, found, strict=True):
        expected = _levels(p, *wide.values())
        np.testing.assert_allclose(levels, expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["relu", "logits", "negative"])
def test_the_errors_while_an_end_moves(layer: str, ranges: RangeExplorer) -> None:
    low, high, _ = slider_limits(*ranges._statistics[layer].range("min_max", 4))
    ends = (0.7 * low, 0.4 * high)
    settings = {"layer": layer, "bits": 4, "range": ends}
    code = "module.default.compute(given[0], module.default.prepare(given[1])).curve"
    data = {layer: exported(ranges)["data"][layer]}
    curve = np.array(javascript("explorers/range.js", code, [settings, data]), float)
    places, errors = _moving_ends(ranges._statistics[layer].distribution, ends, 4)
    np.testing.assert_allclose(curve[:, 0], places, rtol=1e-12)
    np.testing.assert_allclose(curve[:, 1:], errors.T, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_sqnr_of_each_channel(symmetric: bool) -> None:
    explorer = live_explorers.granularity()
    settings = {"layer": "conv3", "bits": 5, "granularity": "layer-wise"}
    settings["symmetric"] = symmetric
    code = "module.default.compute(given[0], module.default.prepare(given[1])).sqnr"
    data = exported(explorer)["data"]
    found = javascript("explorers/granularity.js", code, [settings, data])
    kernel = explorer._weights["conv3"]
    assert list(found) == list(GRANULARITIES)
    for granularity, values in found.items():
        scheme = TensorScheme(5, symmetric, granularity)
        params = weight_params(explorer._weights, scheme)["conv3"]
        expected = channel_sqnr_db(kernel, fake_quantize(kernel, params))
        np.testing.assert_allclose(values, expected, rtol=1e-9)
