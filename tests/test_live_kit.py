"""The live explorers' JavaScript computes and writes what Python does; Deno runs it here.

tests/browser/test_live.py compares the explorers themselves, in a page.
"""

import math
import pkgutil
import random
from importlib import import_module

from quant_tutorial import explorers, mnist
from quant_tutorial.affine import (
    dequantize,
    params_from_range,
    quantize,
    round_half_away,
    split_error,
)
from quant_tutorial.drawing import draw_strokes, to_mnist
from quant_tutorial.explorers import controls
from quant_tutorial.explorers.affine import AffineExplorer
from quant_tutorial.explorers.calibration import RangeExplorer, slider_limits
from quant_tutorial.explorers.exported import encoded, exported, exported_controls
from quant_tutorial.histogram import Histogram
from quant_tutorial.plotting import describe_number
from quant_tutorial.web import bundling

import ipywidgets as widgets
import numpy as np
import pytest
from live_script import javascript


class TestFormat:
    SPECS = ("g", ".3g", ".4g", "+.4f", ".4f", ".2f", ".0f", ".1f", ".1%", ",.0f", "+.2f", ".1g")

    def test_numbers_are_written_as_python_writes_them(self) -> None:
        draw = random.Random(0)
        numbers = [draw.uniform(-1, 1) * 10.0 ** draw.randint(-9, 9) for _ in range(2000)]
        # Ties, for which Python takes the even digit, and what rounds up to another power of ten.
        numbers += [n / 8 for n in range(-40, 41)] + [n + 0.5 for n in range(-9, 9)]
        numbers += [0.0, -0.0, 9.9996, 99.995, 0.00009999996, 999999.5, 1e6, 123456.5, 1e21, 2e22]
        numbers += [math.ldexp(1, -n) for n in range(1, 60)]
        cases = [(number, spec) for number in numbers for spec in self.SPECS]
        # JSON has no negative zero in JavaScript's printing, but its parser knows it.
        found = javascript("format.js", "given.map(([v, s]) => module.format(v, s))", cases)
        for (number, spec), text in zip(cases, found, strict=True):
            assert text == format(number, spec), (number, spec)

    def test_integers_and_what_is_no_number(self) -> None:
        found = javascript(
            "format.js",
            "[[7, 'd'], [-7, 'd'], [0, 'd'], [-Infinity, '.1f'], [NaN, 'g'], [-1.5, '.1f']]"
            ".map(([v, s]) => module.describeNumber(v, s))",
            None,
        )
        numbers = [(7, "d"), (-7, "d"), (0, "d"), (-math.inf, ".1f"), (math.nan, "g")]
        assert found == [describe_number(*each) for each in [*numbers, (-1.5, ".1f")]]

    def test_another_specification_is_refused(self) -> None:
        code = "{ try { module.format(1, given); } catch (error) { return error.message; } }"
        assert javascript("format.js", code, ">8") == (
            'spec must be like "+.4f", ".3g", "d" or ".1%", got ">8".'
        )


class TestAffine:
    def test_rounding(self) -> None:
        values = [n / 2 for n in range(-9, 10)] + [0.49999999999999994, -2.5000001, 1e300]
        found = javascript("affine.js", "given.map(module.roundHalfAway)", values)
        assert found == round_half_away(values).tolist()

    def test_parameters_and_numbers(self) -> None:
        draw = random.Random(0)
        cases = []
        for _ in range(500):
            low, high = sorted(draw.choice((0.0, draw.uniform(-9, 9))) for _ in range(2))
            flags = [draw.random() < 0.5 for _ in range(3)]
            bits = draw.randint(2, 16)
            step = (high - low) / (2**bits - 1)
            # Often in the very middle between two levels.
            x = draw.choice((draw.uniform(-10, 10), step * (draw.randint(-9, 9) + 0.5)))
            cases.append((low, high, bits, *flags, x))
        code = """given.map(([low, high, bits, symmetric, narrowRange, unsigned, x]) => {
          const kind = { symmetric, narrowRange, unsigned };
          const params = module.paramsFromRange(low, high, bits, kind);
          const q = module.quantize(x, params);
          return [params.scale, params.zeroPoint, params.qmin, params.qmax, q,
            module.dequantize(q, params), ...module.splitError(x, params)];
        })"""
        for case, found in zip(cases, javascript("affine.js", code, cases), strict=True):
            low, high, bits, symmetric, narrow, unsigned, x = case
            params = params_from_range(
                low, high, bits, symmetric=symmetric, narrow_range=narrow, signed=not unsigned
            )
            q = int(quantize(x, params))
            back = float(dequantize(q, params, float))
            own = [params.scale, params.zero_point, params.qmin, params.qmax, q, back]
            assert found == [*own, *split_error(x, params)], case

    @pytest.mark.parametrize("bits", [2, 8, 16])
    def test_float32_stays_float32(self, bits: int) -> None:
        draw = np.random.default_rng(0)
        values = draw.normal(size=(500, 3)).astype(np.float32) * np.float32([0.1, 1, 3])
        # Ties in float32, which are none in float64.
        values[:200] = (np.arange(600).reshape(200, 3) - 300 + 0.5) * np.float32(0.05)
        params = params_from_range(values.min(0), values.max(0), bits, axis=1)
        each = [
            {"scale": s, "zeroPoint": z, "qmin": params.qmin, "qmax": params.qmax}
            for s, z in zip(params.scale.tolist(), params.zero_point.tolist(), strict=True)
        ]
        code = """{
          const q = module.quantize32(Float32Array.from(given[0]), given[1]);
          return [[...q], [...module.dequantize32(q, given[1])]];
        }"""
        given = [values.ravel().tolist(), each]
        found = javascript("affine.js", code, given)
        q = quantize(values, params)
        assert found == [q.ravel().tolist(), dequantize(q, params).ravel().tolist()]


class TestDistribution:
    @pytest.mark.parametrize("bits", [2, 5, 8, 12, 16])
    def test_the_errors_of_any_range(self, bits: int) -> None:
        draw = np.random.default_rng(bits)
        seen = Histogram()
        seen.observe(np.maximum(draw.normal(size=20_000), -0.3) * 3)
        own = seen.distribution()
        ends = [sorted(pair) for pair in draw.uniform(-2, 15, size=(60, 2)).tolist()]
        params = [params_from_range(*pair, bits) for pair in [*ends, (-0.9, 0), (0, 30)]]
        each = [
            {"scale": p.scale, "zeroPoint": p.zero_point, "qmin": p.qmin, "qmax": p.qmax}
            for p in params
        ]
        counts = np.diff(own.sums[0]).astype(int).tolist()
        code = """{
          const found = module.distribution(Float64Array.from(given[0]), given[1], given[2]);
          return given[3].map((params) => module.meanSquaredErrors(found, params));
        }"""
        found = javascript("distribution.js", code, [own.values.tolist(), counts, own.width, each])
        np.testing.assert_allclose(found, [own.error(p) for p in params], rtol=1e-9, atol=1e-15)


class TestExported:
    def test_controls_are_the_widgets(self) -> None:
        found = exported_controls(AffineExplorer(bits=5, value_range=(-1, 6), x=2.5))
        assert [each["name"] for each in found] == [
            *("bits", "value_range", "x", "symmetric", "narrow_range", "unsigned")
        ]
        bits, ends, x, symmetric, *_ = found
        assert bits == {
            "name": "bits",
            "kind": "integer",
            "label": "Bit width",
            "value": 5,
            "low": 2,
            "high": 16,
            "step": 1,
        }
        assert (ends["label"], ends["value"]) == ("Range", (-1, 6))
        assert ends["handles"] == ["Range: lower end", "Range: upper end"]
        assert (x["low"], x["high"], x["step"], x["value"]) == (-10, 10, 0.05, 2.5)
        assert symmetric == {
            "name": "symmetric",
            "kind": "check",
            "label": "symmetric",
            "value": False,
        }

    def test_what_has_no_twin_is_not_exported(self) -> None:
        class Other(AffineExplorer):
            live = ""

        assert exported(Other()) is None

    def test_a_control_that_the_page_does_not_have_is_named(self) -> None:
        class Other(AffineExplorer):
            def __init__(self) -> None:
                super().__init__()
                self.text_field = widgets.Text(description="Name")
                self.options = (*self.options, self.text_field)

        with pytest.raises(TypeError, match="'Name' is a Text"):
            exported(Other())

    def test_a_control_without_a_name_is_named(self) -> None:
        class Other(AffineExplorer):
            def __init__(self) -> None:
                super().__init__()
                self.options = (*self.options, controls.checkbox("lost"))

        with pytest.raises(TypeError, match="'lost' is a Checkbox"):
            exported(Other())

    @pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int32", "uint8", "uint32"])
    def test_an_array_comes_back(self, dtype: str) -> None:
        array = np.array([[0, 1, 2.5], [100, 7, 3]]).astype(dtype)
        code = "[...module.decoded(given, given.dtype)]"
        assert javascript("arrays.js", code, encoded(array)) == array.ravel().tolist()

    def test_another_type_is_refused(self) -> None:
        code = "{ try { module.decoded(given, 'int8'); } catch (error) { return error.message; } }"
        found = javascript("arrays.js", code, encoded(np.float32([1])))
        assert found == "The array must be of type int8, got float32."

    @pytest.mark.slow
    def test_the_limits_are_those_that_the_slider_gets(self) -> None:
        from quant_tutorial.calibration import Statistics

        seen = {"a": Statistics(), "b": Statistics()}
        seen["a"].observe([0.0, 0.5, 3.3])
        seen["b"].observe([-7.0, 0.5, 0.7])
        explorer = RangeExplorer(seen, "a")
        data = explorer.page_data()
        explorer.layer.value = "b"
        low, high, step = slider_limits(-7, 0.7)
        assert data["b"]["limits"] == {"low": low, "high": high, "step": step, "value": (low, high)}
        assert (explorer.range.min, explorer.range.max) == (low, high)
        assert explorer.range.value == (low, high)
        assert list(data["b"]["ranges"]) == list(range(2, 17))


@pytest.mark.slow
def test_every_kind_has_a_module() -> None:
    kinds = set()
    for found in pkgutil.iter_modules(explorers.__path__):
        module = import_module(f"{explorers.__name__}.{found.name}")
        kinds |= {each.live for each in vars(module).values() if hasattr(each, "page_data")}
    modules = {path.stem for path in (bundling.SCRIPTS / "explorers").glob("*.js")}
    assert kinds - {""} == modules != set()


def test_a_drawing_becomes_the_same_image() -> None:
    draw = np.random.default_rng(10)
    strokes = [draw.uniform(10, 100, (points, 2)) for points in (2, 3, 5)]
    drawings = [draw_strokes([stroke]) for stroke in strokes]
    drawings += [np.zeros((112, 112), np.uint8), np.eye(112, dtype=np.uint8) * 255]
    drawings.append(mnist.load().x_test[0].repeat(4, axis=0).repeat(4, axis=1))
    given = [drawing.ravel().tolist() for drawing in drawings]
    found = javascript(
        "drawing.js",
        "given.map((each) => [...module.toMnist(Uint8Array.from(each))])",
        given,
    )
    for image, drawing in zip(found, drawings, strict=True):
        np.testing.assert_allclose(image, to_mnist(drawing).ravel(), atol=1e-6)
