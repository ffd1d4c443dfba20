"""Which layers suffer, and how many bits each needs."""

import itertools
import math
from concurrent.futures import Executor
from typing import Any

from quant_tutorial import executor, metrics, simulate
from quant_tutorial.affine import QuantParams, params_from_range
from quant_tutorial.metrics import HEALTHY
from quant_tutorial.scheme import FLOAT, QuantScheme, TensorScheme
from quant_tutorial.simulate import Mix, Simulator, StagedRun, pareto_front, rounding_ratio

import keras
import numpy as np
import pytest

NOTHING = QuantScheme(FLOAT, FLOAT, FLOAT)


def scheme(bits: int) -> QuantScheme:
    return QuantScheme(TensorScheme(bits, True, "channel-wise"), TensorScheme(bits))


@pytest.fixture(scope="module")
def part(simulator: Simulator, x_test: np.ndarray) -> StagedRun:
    return StagedRun(simulator, x_test[:1000])


@pytest.fixture(scope="module")
def labels(data: Any) -> np.ndarray:
    return data.y_test[:1000]


class TestLayers:
    def test_each_by_hand(self, simulator: Simulator, part: StagedRun, labels: np.ndarray) -> None:
        found = simulate.layer_sensitivity(simulator, part, labels, scheme(3))
        assert [one.layer for one in found] == list(simulator.layers)
        reference = part.outputs(simulator.params(NOTHING))
        for one in found:
            alone = NOTHING.with_layer(one.layer, scheme(3).for_layer(one.layer))
            outputs = part.outputs(simulator.params(alone))
            assert one.alone == np.mean(outputs.argmax(axis=1) == labels)
            noise = np.sum((outputs - reference) ** 2.0)
            assert one.alone_db == pytest.approx(
                10 * math.log10(np.sum(reference**2.0) / noise), abs=1e-3
            )
            spared = part.outputs(simulator.params(scheme(3).with_layer(one.layer, None)))
            assert one.spared == np.mean(spared.argmax(axis=1) == labels)
            assert one.alone_db > one.spared_db  # one layer's noise against that of three

    def test_some_layers(self, simulator: Simulator, part: StagedRun, labels: np.ndarray) -> None:
        found = simulate.layer_sensitivity(simulator, part, labels, scheme(4), ["conv3"])
        assert [one.layer for one in found] == ["conv3"]
        with pytest.raises(ValueError, match="conv9"):
            simulate.layer_sensitivity(simulator, part, labels, scheme(4), ["conv9"])


class TestSearch:
    def test_least_size_for_an_accuracy(
        self, simulator: Simulator, part: StagedRun, labels: np.ndarray
    ) -> None:
        search = simulate.search_bits(simulator, part, labels, QuantScheme(), accuracy=0.99)
        assert search.chosen.accuracy >= 0.99
        assert all(
            mix.weight_bytes >= search.chosen.weight_bytes
            for mix in search.tried
            if mix.accuracy >= 0.99
        )
        params = simulator.params(simulate.with_weight_bits(QuantScheme(), search.chosen.bits))
        assert {name: p.bits for name, p in params.weights.items()} == search.chosen.bits
        assert simulator.weight_bytes(params) == search.chosen.weight_bytes
        assert metrics.accuracy(part.outputs(params), labels) == search.chosen.accuracy
        # Mixed widths beat the best of one width for all.
        uniform = []
        for bits in range(2, 9):
            params = simulator.params(
                simulate.with_weight_bits(QuantScheme(), dict.fromkeys(simulator.weights, bits))
            )
            if metrics.accuracy(part.outputs(params), labels) >= 0.99:
                uniform.append(simulator.weight_bytes(params))
        assert search.chosen.weight_bytes < min(uniform)

    def test_best_accuracy_for_a_size(
        self, simulator: Simulator, part: StagedRun, labels: np.ndarray
    ) -> None:
        search = simulate.search_bits(simulator, part, labels, QuantScheme(), weight_bytes=8000)
        assert search.chosen.weight_bytes <= 8000
        within = [mix.accuracy for mix in search.tried if mix.weight_bytes <= 8000]
        assert search.chosen.accuracy == max(within)

    def test_each_step_narrows_one_layer(
        self, simulator: Simulator, part: StagedRun, labels: np.ndarray
    ) -> None:
        search = simulate.search_bits(
            simulator, part, labels, QuantScheme(), weight_bytes=0, widths=(8, 4, 2)
        )
        assert search.chosen is None  # nothing is so small
        assert set(search.path[0].bits.values()) == {8}
        assert set(search.path[-1].bits.values()) == {2}
        for before, after in itertools.pairwise(search.path):
            changed = [name for name in before.bits if before.bits[name] != after.bits[name]]
            assert len(changed) == 1
            assert after.weight_bytes < before.weight_bytes
        assert len(search.path) == 9

    def test_kernels_of_a_few_bytes(self) -> None:
        # 5 weights take 4 bytes at 6 bits, and at 5 bits.
        model = keras.Sequential(
            [keras.Input((5,)), keras.layers.Dense(1), keras.layers.Dense(2), keras.layers.Dense(2)]
        )
        x = np.random.default_rng(0).random((40, 5), np.float32)
        tiny = Simulator(model, x)
        staged = StagedRun(tiny, x)
        y = staged.outputs(tiny.params(NOTHING)).argmax(axis=1)
        search = simulate.search_bits(tiny, staged, y, QuantScheme(), weight_bytes=10**6)
        assert len(search.path) == 1 + 3 * 6
        sizes = [mix.weight_bytes for mix in search.path]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) < len(sizes)  # there are steps that save nothing

    @pytest.mark.slow
    def test_in_another_process(
        self, simulator: Simulator, part: StagedRun, labels: np.ndarray
    ) -> None:
        def search(where: Executor | None) -> simulate.Search:
            limits = {"weight_bytes": 8000, "widths": (8, 2)}
            return simulate.search_bits(
                simulator, part, labels, QuantScheme(), **limits, executor=where
            )

        with executor.processes(1) as elsewhere:
            assert search(elsewhere) == search(None)

    @pytest.mark.parametrize("accuracy", [99, 1.01, -0.1, math.nan])
    def test_an_accuracy_is_a_share(
        self, simulator: Simulator, part: StagedRun, labels: np.ndarray, accuracy: float
    ) -> None:
        with pytest.raises(ValueError, match=r"accuracy must be a share from 0 to 1, got.*0\.99"):
            simulate.search_bits(simulator, part, labels, QuantScheme(), accuracy=accuracy)

    @pytest.mark.parametrize(
        "limits", [{}, {"accuracy": 0.9, "weight_bytes": 9}, {"accuracy": 0.9, "widths": (2, 8)}]
    )
    def test_bad_limits(
        self, simulator: Simulator, part: StagedRun, labels: np.ndarray, limits: dict
    ) -> None:
        with pytest.raises(ValueError, match=r"Give one limit|widths must fall"):
            simulate.search_bits(simulator, part, labels, QuantScheme(), **limits)

    def test_pareto_front_against_its_definition(self) -> None:
        rng = np.random.default_rng(1)
        mixes = [
            Mix({}, int(size), float(share), 0.0)
            for size, share in zip(rng.integers(0, 30, 60), rng.integers(0, 30, 60), strict=True)
        ]
        best = {
            (a.weight_bytes, a.accuracy)
            for a in mixes
            if not any(
                b.weight_bytes <= a.weight_bytes
                and b.accuracy >= a.accuracy
                and (b.weight_bytes, b.accuracy) != (a.weight_bytes, a.accuracy)
                for b in mixes
            )
        }
        front = pareto_front(mixes)
        assert {(mix.weight_bytes, mix.accuracy) for mix in front} == best
        assert len(front) == len(best)
        assert [mix.weight_bytes for mix in front] == sorted(mix.weight_bytes for mix in front)


class TestHealth:
    def test_even_spread(self) -> None:
        x = np.random.default_rng(2).uniform(-3, 3, 100_000)
        assert rounding_ratio(x, params_from_range(-3, 3, 6)) == pytest.approx(HEALTHY, rel=0.01)

    def test_per_channel(self) -> None:
        x = np.random.default_rng(2).uniform(-1, 1, (5000, 2)) * [1, 100]
        params = params_from_range([-1, -100], [1, 100], 6, axis=1)
        assert rounding_ratio(x, params) == pytest.approx(HEALTHY, rel=0.02)
        shared = params_from_range(-100, 100, 6)
        assert rounding_ratio(x[:, 0], shared) > 0  # and far from healthy: few steps
        assert abs(rounding_ratio(x[:, 0], shared) - HEALTHY) > 0.02

    def test_on_levels_and_clipped(self) -> None:
        params = QuantParams(4, 0.5, 0)
        assert rounding_ratio(np.arange(-4, 3) * 0.5, params) == 0
        assert rounding_ratio(np.array([10.0, 0.0, 0.0]), params) == pytest.approx(13)
        with pytest.raises(ValueError, match="all 0"):
            rounding_ratio(np.zeros(3), params)

    def test_of_a_model(self, simulator: Simulator, part: StagedRun) -> None:
        found = {
            (h.place.what, h.place.name): h for h in simulate.health(simulator, part, scheme(8))
        }
        assert len(found) == 9
        assert found["weights", "conv2"].ratio == pytest.approx(HEALTHY, rel=0.1)
        assert found["activation", "relu2"].ratio == pytest.approx(HEALTHY, rel=0.1)
        assert found["input", "image"].ratio < 0.01  # pixels of 8 bits lie on levels
        mse = QuantScheme(activations=TensorScheme(3, calibrator="mse"))
        relu1 = {h.place.name: h for h in simulate.health(simulator, part, mse)}["relu1"]
        assert relu1.clipped > 0
        assert relu1.inside < relu1.ratio
        sparse = simulate.health(simulator, part, NOTHING.with_layer("conv1", None))
        assert sparse == []

    def test_a_dead_layer(self) -> None:
        model = keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.Dense(4, "relu", name="dead", kernel_initializer="zeros"),
                keras.layers.Dense(3, name="last"),
            ]
        )
        x = np.random.default_rng(0).random((40, 5), np.float32)
        tiny = Simulator(model, x)
        found = simulate.health(tiny, StagedRun(tiny, x), QuantScheme())
        ratios = {(h.place.what, h.place.name): (h.ratio, h.clipped) for h in found}
        assert ratios["weights", "dead"] == ratios["activation", "dead"] == (0, 0)
        assert ratios["weights", "last"][0] > 0
