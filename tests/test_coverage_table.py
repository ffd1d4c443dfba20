"""The table of the layers that are treated, in the reference page: complete, and measured."""

import json
from pathlib import Path

import coverage_models
import coverage_table
import pytest

REFERENCE = Path(__file__).parent.parent / "notebooks" / "reference.md"
FIGURES = json.loads(coverage_table.FIGURES.read_text(encoding="utf-8"))
NETWORKS = json.loads(
    coverage_table.FIGURES.with_name("applications.json").read_text(encoding="utf-8")
)


def test_each_kind_has_a_row() -> None:
    assert list(FIGURES) == list(coverage_models.KINDS)
    for found in FIGURES.values():
        assert tuple(found) == coverage_table.COLUMNS


def test_the_page_shows_what_was_measured() -> None:
    page = REFERENCE.read_text(encoding="utf-8")
    assert coverage_table.table(FIGURES) in page
    assert coverage_table.networks_table(NETWORKS) in page
    assert coverage_table.draws_table(NETWORKS) in page
    assert coverage_table.trained_table(NETWORKS) in page
    assert coverage_table.digits_table(NETWORKS) in page
    assert coverage_table.ops_table(NETWORKS["MobileNetV3Small"]["ops"]) in page


def test_each_op_alone_is_one_step_off_at_most() -> None:
    for name, found in NETWORKS["MobileNetV3Small"]["ops"].items():
        assert max(found["simulation_largest"], found["reference_largest"]) <= 1, name


def test_what_the_page_promises() -> None:
    for name, found in FIGURES.items():
        assert found["convert"] == "integers", name
        for column in ("simulate", "QAT"):
            if not isinstance(found[column], dict):
                assert found[column] <= 3, name
        if not isinstance(found["integer"], dict):
            same, *of, count = found["integer"].split()
            assert same == (count if of else "1"), name


def test_the_networks_are_simulated_as_closely_as_kernels_agree() -> None:
    assert len(NETWORKS) == 5
    for name, found in NETWORKS.items():
        assert found["simulation_to_default_mean"] <= found["reference_to_default_mean"], name
        assert found["nodes_with_the_parameters_of_the_file"] == found["nodes"], name
        assert found["rewriting"] < 1e-4, name


def test_on_average_the_simulation_is_closer_in_each_draw() -> None:
    found = NETWORKS["MobileNetV3Small"]
    ours, kernels = (found[f"draws_{kind}_to_default_mean"] for kind in ("simulation", "reference"))
    assert len(ours) == 5
    assert all(one < other for one, other in zip(ours, kernels, strict=True))


def test_the_networks_train_and_their_integers_are_equal() -> None:
    trained = {name: found for name, found in NETWORKS.items() if "trained_size" in found}
    assert len(trained) == 5
    for name, found in trained.items():
        # A scale whose values are levels already has no gradient.
        assert found["trained_variables_moved"] >= 0.98 * found["trained_variables"], name
        assert found["trained_output_levels"] > 100, name
        assert found["trained_to_before_mean"] > 1, name
        assert found["computed_tensors_equal"] == found["computed_tensors"], name
        assert found["computed_values_different"] == 0, name


def test_networks_that_have_learned_digits() -> None:
    learned = [found for found in NETWORKS.values() if "digits_images" in found]
    assert len(learned) >= 2
    for found in learned:
        images = found["digits_images"]
        for kind in ("float", "simulation", "default", "reference"):
            assert found[f"digits_{kind}_right"] >= 0.95 * images
        same = [found[f"digits_same_class_{kind}_default"] for kind in ("simulation", "reference")]
        assert min(same) >= 0.995 * images


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Conv2DTranspose", "shared layer"])
def test_a_row_again(name: str) -> None:
    again = coverage_table.measured(name)
    assert set(again) == set(FIGURES[name])
    for column in ("convert", "integer"):
        assert again[column] == FIGURES[name][column]
    for column in ("simulate", "QAT"):
        assert abs(again[column] - FIGURES[name][column]) <= 1
    assert again["debug"] == pytest.approx(FIGURES[name]["debug"], abs=0.1)
    assert again["rounding"] == pytest.approx(FIGURES[name]["rounding"], rel=0.3)
