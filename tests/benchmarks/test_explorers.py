"""Kernel time from a moved slider to the new picture: `make benchmark`."""

import itertools

from quant_tutorial.explorers.affine import AffineExplorer

from pytest_benchmark.fixture import BenchmarkFixture


def test_affine_explorer(benchmark: BenchmarkFixture) -> None:
    explorer = AffineExplorer()
    widths = itertools.cycle([*range(2, 17), *range(15, 2, -1)])

    def move() -> None:
        explorer.bits.value = next(widths)

    benchmark.pedantic(move, rounds=50, warmup_rounds=3)
    assert explorer.text.startswith(f"{explorer.bits.value} bits")
