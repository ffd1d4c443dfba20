"""Pictures of a notebook's explorers at several positions of their controls.

Run as a script: `python .site/frames.py NOTEBOOK FOLDER FRAMES`. Of the cells before the explorer
only those statements are executed that it is made from, in a namespace of their own; what the
explorer then says must be what the notebook was committed with. Any subclass of `Explorer` is
stepped, by the sliders, menus and boxes that it shows: a new one needs nothing here.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import hashlib
import io
import itertools
import json
import linecache
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

STATIC = "site-static"  # a cell with this tag keeps the one picture that it was committed with
INEXACT = "nbval-ignore-output"  # a cell with this tag may say something else at each run
SECONDS = 75  # of computing that an explorer's frames may take; its first two tell how many


@dataclass(frozen=True)
class Axis:
    """A control of an explorer, at the positions that a page offers.

    Attributes:
        label: Its name in the page.
        kind: "range" (a slider), "choice" (a menu) or "check" (a box).
        values: What is set, one for each position.
        texts: The same as the reader sees it.
        start: The position at which the notebook was committed.
    """

    label: str
    kind: str
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    start: int


@dataclass(frozen=True)
class Stepped:
    """An explorer's frames: every combination of the axes' positions, the last axis fastest.

    `pictures` are file names and `sentences` what the explorer says, one for each frame; `still`
    names the controls that are not stepped, and `size` is the pictures' on the page.
    """

    axes: tuple[Axis, ...]
    pictures: tuple[str, ...]
    sentences: tuple[str, ...]
    still: tuple[str, ...]
    size: tuple[int, int]


def explorer_cells(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the cells of a notebook that show an explorer: a picture whose text is a sentence."""
    return [
        cell
        for cell in notebook["cells"]
        if any(is_explorer(output) for output in cell.get("outputs", []))
    ]


def is_explorer(output: Mapping[str, Any]) -> bool:
    """Tell whether an output is an explorer's; other pictures say `<Figure size …>`."""
    data = output.get("data", {})
    text = "".join(data.get("text/plain", "")).strip()
    return "image/png" in data and bool(text) and not text.startswith("<")


def stands_still(cell: Mapping[str, Any]) -> bool:
    """Tell whether a cell's picture is not to be stepped: it is tagged so, or shows its own run.

    A picture that is updated while its cell runs, as a training's is, shows what has happened.
    """
    return STATIC in tags(cell) or "display_id=" in "".join(cell["source"])


def tags(cell: Mapping[str, Any]) -> list[str]:
    """Give the tags of a cell."""
    return cell.get("metadata", {}).get("tags", [])


# What the explorer is made from


def slice_for(
    statements: Sequence[tuple[ast.stmt, str]], names: set[str]
) -> list[tuple[ast.stmt, str]]:
    """Give those statements, in order, that the values of the names may depend on.

    What is printed, drawn or compared on the way to the explorer is left out, and with it most of
    the time that a notebook takes. It is a guess, since Python code can change anything from
    anywhere: whoever uses it checks the result.

    Args:
        statements: Each with the name of its cell.
        names: Those that are to have their values afterwards.
    """
    imported = {name for s, _ in statements if _is_import(s) for name in _bound(s)}
    touched = [_bound(s) | _changed(s, imported) for s, _ in statements]
    wanted: set[str] = set()
    kept: list[int] = []
    # Over and over, since a later line may change what an earlier one has passed on.
    while not names <= wanted:
        wanted |= names
        kept = [place for place, some in enumerate(touched) if some & wanted]
        names = {name for place in kept for name in _loaded(statements[place][0])}
    return [statements[place] for place in kept]


def _is_import(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Import | ast.ImportFrom)


def _loaded(node: ast.AST) -> set[str]:
    return {name.id for name in _names(node) if isinstance(name.ctx, ast.Load)} - _local(node)


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    found = {name.id for name in _names(statement) if isinstance(name.ctx, ast.Store)}
    for node in ast.walk(statement):
        if _is_import(node):
            found |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            found.add(_root(node))
    return found - _local(statement)


def _names(node: ast.AST) -> Iterator[ast.Name]:
    return (name for name in ast.walk(node) if isinstance(name, ast.Name))


def _local(node: ast.AST) -> set[str]:
    """Name what has its value only inside a function or a comprehension."""
    inside = [n.target for n in ast.walk(node) if isinstance(n, ast.comprehension)]
    found = {name.id for target in inside for name in _names(target)}
    if isinstance(node, ast.FunctionDef):
        found |= {name.id for name in _names(node) if isinstance(name.ctx, ast.Store)}
        found |= {argument.arg for argument in ast.walk(node) if isinstance(argument, ast.arg)}
    return found


def _changed(statement: ast.stmt, imported: set[str]) -> set[str]:
    """Name what a statement's calls may change.

    That is an object whose method is called and, where a function's value is thrown away, what the
    function is given.
    """
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.add(_root(node.func))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            owner = _root(call.func)
            is_function = isinstance(call.func, ast.Name) or owner in imported
            if is_function and owner not in ("print", "display", "plt", "plotting", "check"):
                found |= {_root(argument) for argument in call.args}
    return found - imported


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def build(notebook: Mapping[str, Any], cell: Mapping[str, Any]) -> Any:
    """Make the explorer of a cell as the notebook makes it; give the object.

    Raises:
        ValueError: when the cell shows no `Explorer`, or one that says something else than the
            notebook was committed with.
    """
    from quant_tutorial.explorers.base import Explorer

    output = next(output for output in cell["outputs"] if is_explorer(output))
    committed = "".join(output["data"]["text/plain"])
    statements: list[tuple[ast.stmt, str]] = []
    for each in notebook["cells"]:
        if each["cell_type"] == "code":
            source, name = "".join(each["source"]), f"<cell {each['id']}>"
            # AutoGraph and tracebacks look a function's source up here.
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            statements += [(statement, name) for statement in ast.parse(source, name).body]
        if each is cell:
            break
    own = [place for place, (_, found) in enumerate(statements) if found == name]
    # What `display(…)` is given, or the cell's last line; what comes after it is not run.
    place = next((n for n in reversed(own) if _is_display(statements[n][0])), own[-1])
    shown, before = statements[place][0], statements[:place]
    if not isinstance(shown, ast.Expr):
        raise ValueError(f"Cell {cell['id']} shows an explorer, but ends with no expression.")
    argument = shown.value.args[0] if _is_display(shown) else shown.value
    # Where what it says cannot be compared, a slice could not be checked.
    inexact = INEXACT in tags(cell)
    for part in [before] if inexact else [slice_for(before, _loaded(argument)), before]:
        try:
            found = _run(part, argument, name)
        except Exception as error:
            problem = error
            continue
        if not isinstance(found, Explorer):
            problem = ValueError(
                f"Cell {cell['id']} gives {type(found).__name__}, which is no Explorer: derive it "
                f"from Explorer, or give the cell the tag {STATIC}."
            )
        elif found.text == committed or inexact:
            return found
        else:
            problem = ValueError(
                f"Cell {cell['id']} was committed with {committed!r} and now says {found.text!r}: "
                "run make notebooks."
            )
    raise problem


def _is_display(statement: ast.stmt) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    name = call.func if isinstance(call, ast.Call) else None
    return isinstance(name, ast.Name) and name.id == "display" and bool(call.args)


def _run(statements: Sequence[tuple[ast.stmt, str]], shown: ast.expr, name: str) -> Any:
    handle = SimpleNamespace(update=lambda *_, **__: None)
    namespace = {"__name__": "__main__", "display": lambda *_, **__: handle}
    with contextlib.redirect_stdout(io.StringIO()):
        for statement, cell in statements:
            exec(compile(ast.Module([statement], []), cell, "exec"), namespace)
        return eval(compile(ast.Expression(shown), name, "eval"), namespace)


# Positions of the controls


def controls_of(explorer: Any) -> list[tuple[Callable[[Any], None], list[Axis]]]:
    """List an explorer's controls, the most telling first; each with how it is set.

    Each comes with its axis from many positions to few. An explorer with `presets`, a mapping of
    names to buttons, is stepped through these; of others the sliders come first, then the menus,
    then the boxes.
    """
    import ipywidgets as widgets

    names: dict[str, tuple[str, ...]] = {}
    found: list[tuple[int, Any, list[Axis]]] = []
    for widget in _descendants(explorer):
        names |= getattr(widget, "names", None) or {}
    for widget in _descendants(explorer):
        if getattr(widget, "disabled", False):
            continue
        handles = [names[css] for css in getattr(widget, "_dom_classes", ()) if css in names]
        label = handles[0][-1] if handles else getattr(widget, "description", "")
        if isinstance(widget, widgets.IntSlider | widgets.FloatSlider):
            found.append((1, widget, _slider(label, widget)))
        elif isinstance(widget, widgets.IntRangeSlider | widgets.FloatRangeSlider):
            found.append((1, widget, _upper_end(label, widget)))
        elif isinstance(widget, widgets.Dropdown | widgets.RadioButtons | widgets.ToggleButtons):
            values = [value for _, value in widget._options_full]
            texts = tuple(text for text, _ in widget._options_full)
            start = values.index(widget.value)
            found.append((2, widget, [Axis(label, "choice", tuple(values), texts, start)]))
        elif isinstance(widget, widgets.Checkbox):
            axis = Axis(label, "check", (False, True), ("off", "on"), int(widget.value))
            found.append((3, widget, [axis]))
    found.sort(key=lambda entry: entry[0])
    setters = [(functools.partial(setattr, widget, "value"), axes) for _, widget, axes in found]
    presets = _presets(explorer)
    if not presets:
        for move, (axis, *_) in setters:
            move(axis.values[axis.start])  # where looking for a preset may have moved it from
    return [*presets, *setters]


def _presets(explorer: Any) -> list[tuple[Callable[[Any], None], list[Axis]]]:
    """Give the presets as one control; none where the explorer does not stand at one of them."""
    presets, said = getattr(explorer, "presets", {}), explorer.text

    def click(name: str) -> None:
        presets[name].click()

    for start, name in enumerate(presets):
        click(name)
        if explorer.text == said:
            return [(click, [Axis("Preset", "choice", tuple(presets), tuple(presets), start)])]
    return []


def _descendants(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _descendants(child)


def _slider(label: str, slider: Any) -> list[Axis]:
    low, high, step, value = slider.min, slider.max, slider.step, slider.value
    if isinstance(low, int) and high <= 32:
        # Bit widths, most of them: each of the first eight matters, of those above a few.
        fine = {low, high, *range(low, min(high, 8) + 1), 12, 16, 24}
        coarse = {low, high, 3, 4, 8}
        sets = [[v for v in sorted(s) if low <= v <= high] for s in (fine, coarse)]
    else:
        sets = [_spread(low, high, count, step) for count in (10, 4)]
    return [_axis(label, values, value, {low, high}) for values in sets]


def _upper_end(label: str, slider: Any) -> list[Axis]:
    """Step the upper end of a range; the lower one stays where the notebook has it."""
    lower, upper = slider.value
    sets = [_spread(lower, slider.max, count, slider.step)[1:] for count in (10, 4)]
    axes = [_axis(label, values, upper, {slider.max}) for values in sets]
    return [
        Axis(a.label, a.kind, tuple((lower, value) for value in a.values), a.texts, a.start)
        for a in axes
    ]


def _spread(low: float, high: float, count: int, step: float) -> list[float]:
    """Give the borders of so many equal parts, on the slider's own stops."""
    exact = (low + (high - low) * part / count for part in range(count + 1))
    stops = {round(low + round((value - low) / step) * step, 9) for value in exact}
    return sorted(stop for stop in stops if stop <= high)


def _axis(label: str, values: Sequence[float], value: float, ends: set[float]) -> Axis:
    """Let the notebook's own value take the place of its neighbour, if that is no end."""
    values = list(values)
    if value not in values:
        nearest = min(values, key=lambda other: abs(other - value))
        if nearest not in ends:
            values.remove(nearest)
        values = sorted([*values, value])
    texts = tuple(f"{v:g}".replace("-", "−") for v in values)
    return Axis(label, "range", tuple(values), texts, values.index(value))


def choose(controls: Sequence[Sequence[Axis]], frames: int) -> list[Axis]:
    """Choose the axes whose combinations are at most so many frames.

    Args:
        controls: Each control's axis from many positions to few, the most telling control first.
        frames: The bound; at least 2.

    Returns:
        Axes of the first controls: the sliders as far as they fit with few positions, then more
        positions for each, then menus and boxes.
    """
    if frames < 2:
        raise ValueError(f"frames must be 2 or more, got {frames}.")

    def product(axes: Sequence[Axis]) -> int:
        return math.prod(len(axis.values) for axis in axes)

    if controls and controls[0][0].label == "Preset":  # it sets all the others
        return [_thinned(controls[0][0], frames)]
    chosen: list[Axis] = []
    sliders = [axes for axes in controls if axes[0].kind == "range"]
    for axes in sliders:
        few = axes[-1] if chosen else axes[0]
        if product([*chosen, few]) > frames:
            break
        chosen.append(few)
    for place in range(1, len(chosen)):
        more = [*chosen[:place], sliders[place][0], *chosen[place + 1 :]]
        if product(more) <= frames:
            chosen = more
    if len(chosen) == len(sliders):
        for (axis,) in controls[len(sliders) :]:
            if product([*chosen, axis]) > frames:
                break
            chosen.append(axis)
    if chosen or not controls:
        return chosen
    return [_thinned(controls[0][-1], frames)]


def _thinned(axis: Axis, count: int) -> Axis:
    """Keep so many positions, the start and its neighbours."""
    first = min(max(axis.start - count // 2, 0), max(len(axis.values) - count, 0))
    kept = slice(first, first + count)
    return Axis(axis.label, axis.kind, axis.values[kept], axis.texts[kept], axis.start - first)


# Frames


def step(explorer: Any, folder: Path, frames: int) -> Stepped | None:
    """Set an explorer's controls to every chosen combination and write its pictures.

    Args:
        explorer: It stands as the notebook shows it.
        folder: Where the pictures go, as lossless WebP named after their content.
        frames: How many there may be; fewer where they take long.

    Returns:
        What was made, or None when the explorer has no control.
    """
    said = explorer.text
    controls = controls_of(explorer)
    if not controls:
        return None
    move, (axis, *_) = controls[0]
    began = time.process_time()
    for value in (axis.values[axis.start - 1], axis.values[axis.start]):
        move(value)
    each = max((time.process_time() - began) / 2, 1e-3)
    axes = choose([axes for _, axes in controls], min(frames, max(2, round(SECONDS / each))))
    moves = [move for move, _ in controls[: len(axes)]]

    def set_to(values: Sequence[Any]) -> None:
        for move, value in zip(moves, values, strict=True):
            move(value)

    pictures, sentences = [], []
    for values in itertools.product(*(axis.values for axis in axes)):
        set_to(values)
        if explorer.text.startswith("Error: "):
            raise RuntimeError(f"{type(explorer).__name__} at {values}: {explorer.text}")
        name, size = _write(explorer.png(), folder)
        pictures.append(name)
        sentences.append(explorer.text)
    still = tuple(axes[0].label for _, axes in controls[len(moves) :])
    set_to([axis.values[axis.start] for axis in axes])
    if (now := explorer.text) != said:
        raise RuntimeError(f"{type(explorer).__name__} said {said!r} and, set back, {now!r}.")
    return Stepped(tuple(axes), tuple(pictures), tuple(sentences), still, size)


def _write(png: bytes, folder: Path) -> tuple[str, tuple[int, int]]:
    from PIL import Image

    picture = Image.open(io.BytesIO(png))
    buffer = io.BytesIO()
    # A third of the PNG's size; more effort than this takes twice the time for a tenth less.
    picture.save(buffer, "webp", lossless=True, method=2, quality=0)
    name = f"{hashlib.sha256(buffer.getvalue()).hexdigest()[:20]}.webp"
    (folder / name).write_bytes(buffer.getvalue())
    return name, picture.size


def main() -> None:
    """Write frames.json, what `Stepped` holds by cell id, and the pictures it names."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("frames", type=int)
    arguments = parser.parse_args()
    notebook = json.loads(arguments.notebook.read_text(encoding="utf-8"))
    folder = arguments.folder.resolve()
    os.environ["MPLBACKEND"] = "Agg"
    made = {}
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        for cell in explorer_cells(notebook):
            if not stands_still(cell):
                stepped = step(build(notebook, cell), folder, arguments.frames)
                if stepped:
                    made[cell["id"]] = asdict(stepped)
    # A menu's values may be anything; a page needs their texts only.
    text = json.dumps(made, ensure_ascii=False, default=str)
    (folder / "frames.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
