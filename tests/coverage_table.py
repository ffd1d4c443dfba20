"""Measure what the course does with each kind of layer, for the table of the reference page.

`python tests/coverage_table.py` measures the models of `coverage_models.KINDS`, all or those that
are named, and writes the figures into `networks/coverage.json`. Kinds that are there already are
not measured again, unless they are named. With `--table` it prints the tables as they stand in
`notebooks/reference.md`: this one, and those of `applications.py`.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FIGURES = Path(__file__).with_name("networks") / "coverage.json"
COLUMNS = ("convert", "simulate", "rounding", "QAT", "debug", "integer")
HEADINGS = ("kind", "`convert`", "`simulate`", "`rounding`", "`qat`", "`debug`", "`integer`")


def measured(name: str) -> dict[str, Any]:
    """Return the figures of a kind by column, or why a tool refuses it."""
    from quant_tutorial import flatbuffer, integer, models, qat, rounding, tflite
    from quant_tutorial.affine import dequantize, quantize
    from quant_tutorial.scheme import QuantScheme, named_scheme
    from quant_tutorial.simulate import Simulator

    import coverage_models
    import keras

    model = coverage_models.settled(coverage_models.KINDS[name])
    images = coverage_models.images_for(model)
    content = tflite.convert(model, "int8", calibration=images, input_range=None)
    graph = flatbuffer.graph(content)
    entries = graph.inputs_by_name
    given: Any = {
        name: quantize(images[name] if len(entries) > 1 else images, entry.params).astype(np.int8)
        for name, entry in entries.items()
    }
    given = given if len(given) > 1 else given.popitem()[1]
    # The reference kernels have no TILE.
    kernels = "optimized" if "TILE" in graph.op_types else "reference"
    flat, exits = keras.tree.flatten, graph.outputs_by_name.values()
    integers = flat(tflite.run(content, given, kernels))
    wanted = [dequantize(q, exit_.params) for q, exit_ in zip(integers, exits, strict=True)]
    simulator: list[Simulator] = []

    def steps(outputs: Any, others: Any, file: bytes) -> int:
        """Return the largest difference of any output, in steps of this output."""
        ends = flatbuffer.graph(file).outputs_by_name.values()
        return max(
            int(np.rint(np.abs(one - other).max() / end.params.scale))
            for one, other, end in zip(flat(outputs), flat(others), ends, strict=True)
        )

    def simulated() -> int:
        simulator.append(Simulator(model, images))
        rounded = simulator[0].simulated(simulator[0].params(QuantScheme()))
        return steps(models.predict(rounded, images), wanted, content)

    def better() -> float:
        scheme, floats = named_scheme(3, 8), flat(models.predict(model, images))
        errors = []
        for rounded in (
            rounding.nearest(simulator[0], scheme),
            rounding.gptq(simulator[0], scheme, images),
        ):
            outputs = flat(tflite.predict(rounding.int8_file(rounded), images))
            squares = [(one - other) ** 2 for one, other in zip(outputs, floats, strict=True)]
            errors.append(float(np.mean(np.concatenate(squares, axis=None))))
        return float(f"{errors[1] / errors[0]:.2f}")

    def trained() -> int:
        trainable = qat.quantize_aware(model, QuantScheme(), images)
        losses = keras.tree.map_structure(lambda _: "mse", model.output)
        trainable.compile(keras.optimizers.SGD(1e-3), losses, run_eagerly=True)
        zeros = [np.zeros_like(values) for values in wanted]
        trainable.train_on_batch(images, keras.tree.pack_sequence_as(trainable.output, zeros))
        file = qat.int8_file(trainable)
        return steps(tflite.predict(file, images), models.predict(trainable, images), file)

    def own_error() -> float:
        first = keras.tree.map_structure(lambda values: values[:10], images)
        worst = tflite.debug(model, content, first).worst
        return float(f"{worst.own:.2f}")

    def equal() -> str:
        ours = integer.run_all(integer.load(content), given)
        theirs = tflite.run_all(content, given, kernels)
        if kernels != "reference":
            off = max(np.abs(np.subtract(ours[i], theirs[i], dtype=np.int32)).max() for i in ours)
            return f"{off} step" if off == 1 else f"{off} steps"
        same = sum(np.array_equal(ours[index], theirs[index]) for index in ours)
        return f"{same} of {len(ours)}"

    tools: dict[str, Callable[[], Any]] = {
        "convert": lambda: "integers" if tflite.inspect(content).integer_only else "floats",
        "simulate": simulated,
        "rounding": better,
        "QAT": trained,
        "debug": own_error,
        "integer": equal,
    }
    found = {}
    for column, tool in tools.items():
        try:
            found[column] = tool()
        except ValueError as error:
            found[column] = {"refused": str(error)}
    return found


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown, and what a tool refuses as a list."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"| --- | --- |{' ---: |' * 5}"]
    refused = []
    for name, found in figures.items():
        cells = []
        for column, heading in zip(COLUMNS, HEADINGS[1:], strict=True):
            value = found[column]
            if isinstance(value, dict):
                reason = value["refused"].replace("\n", " ")
                refused.append(f"- {name}, {heading}: {reason}")
                value = "refused"
            cells.append(f"{value:.2f}" if isinstance(value, float) else str(value))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, *(["", *refused] if refused else [])])


def _numbers(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table in Markdown: names, and to their right numbers."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def networks_table(figures: dict[str, dict[str, Any]]) -> str:
    """Return the figures of `applications.py` as a table in Markdown."""
    headings = (
        *("network", "layers", "integer tensors", "simulation", "reference kernels", "float model"),
        *("simulation, same class", "reference kernels, same class", "float model, same class"),
    )
    rows = []
    for name, found in figures.items():
        others = ("simulation", "reference", "float")
        means = [f"{found[f'{other}_to_default_mean']:.1f}" for other in others]
        same = [str(found[f"same_class_{other}_default"]) for other in others]
        rows.append([name, found["layers"], found["nodes"], *means, *same])
    return _numbers(headings, rows)


def draws_table(figures: dict[str, dict[str, Any]]) -> str:
    """Return the largest differences of several draws of pictures as a table in Markdown."""
    headings = ("network", "simulation, largest of each draw", "reference kernels")
    rows = []
    for name, found in figures.items():
        if "draws_simulation_to_default_largest" in found:
            largest = (
                ", ".join(f"{value:.0f}" for value in found[f"draws_{kind}_to_default_largest"])
                for kind in ("simulation", "reference")
            )
            rows.append([name, *largest])
    return _numbers(headings, rows)


def ops_table(found: dict[str, dict[str, int]]) -> str:
    """Return what `application_ops.py` found in a network as a table in Markdown."""
    headings = ("op", "ops", "integers", "simulation, different", "reference kernels, different")
    rows = []
    for kind, own in found.items():
        shares = (own[f"{one}_differs"] / own["integers"] for one in ("simulation", "reference"))
        percents = (f"{share:.3%}" for share in shares)
        rows.append([kind, own["ops"], f"{own['integers']:,}", *percents])
    return _numbers(headings, rows)


def digits_table(figures: dict[str, dict[str, Any]]) -> str:
    """Return what `applications.py` found after training on digits as a table in Markdown.

    Networks that it has not trained have no row.
    """
    headings = (
        *("network", "epochs", "float model, right", "simulation, right", "file, right"),
        *("simulation, same class", "reference kernels, same class"),
        *("simulation, mean", "reference kernels, mean"),
    )
    rows = []
    for name, found in figures.items():
        if "digits_images" not in found:
            continue
        counts = [found["digits_epochs"]]
        counts += [found[f"digits_{kind}_right"] for kind in ("float", "simulation", "default")]
        pair = ("simulation", "reference")
        counts += [found[f"digits_same_class_{kind}_default"] for kind in pair]
        means = [f"{found[f'digits_{kind}_to_default_mean']:.2f}" for kind in pair]
        rows.append([name, *counts, *means])
    return _numbers(headings, rows)


def trained_table(figures: dict[str, dict[str, Any]]) -> str:
    """Return what `applications.py` found after a step of training as a table in Markdown.

    Networks that it has not trained have no row.
    """
    headings = (
        *("network", "changed variables", "trained model, mean", "largest"),
        *("reference kernels, mean", "largest", "`integer`, equal tensors"),
    )
    rows = []
    for name, found in figures.items():
        if "trained_size" not in found:
            continue
        steps = [
            f"{found[f'{pair}_to_default_{which}']:.1f}"
            for pair in ("trained", "trained_reference")
            for which in ("mean", "largest")
        ]
        counts = [
            f"{found[part]} of {found[of]}"
            for part, of in (
                ("trained_variables_moved", "trained_variables"),
                ("computed_tensors_equal", "computed_tensors"),
            )
        ]
        rows.append([name, counts[0], *steps, counts[1]])
    return _numbers(headings, rows)


def main() -> None:
    """Measure the kinds of layers, or print the tables."""
    import coverage_models

    found = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    if sys.argv[1:] == ["--table"]:
        networks = json.loads(FIGURES.with_name("applications.json").read_text(encoding="utf-8"))
        tables = (networks_table, draws_table, digits_table, trained_table)
        ops = (ops_table(one["ops"]) for one in networks.values() if "ops" in one)
        print(table(found), *(of(networks) for of in tables), *ops, sep="\n\n")
        return
    names = sys.argv[1:] or [name for name in coverage_models.KINDS if name not in found]
    for name in names:
        found[name] = measured(name)
        print(name, found[name], flush=True)
        ordered = {name: found[name] for name in coverage_models.KINDS if name in found}
        FIGURES.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
