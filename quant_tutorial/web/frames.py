"""Draw a notebook's explorers at several positions of their controls, for the web edition.

Run as `python -m quant_tutorial.web.frames NOTEBOOK FOLDER FRAMES`. Only the statements on
which an explorer depends are executed, in a new namespace. The explorer's sentence must then equal
the one that the notebook was committed with. This works for every subclass of `Explorer`, through
the sliders, menus and checkboxes that it shows; a new one needs no code here.
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
INEXACT = "nbval-ignore-output"  # a cell with this tag may print something else at each run
SECONDS = 75  # of computing for an explorer's frames; two are timed to choose their number


@dataclass(frozen=True)
class Axis:
    """A control of an explorer, at the positions that a page offers.

    Attributes:
        label: Its name on the page.
        kind: "range" (a slider), "choice" (a menu) or "check" (a checkbox).
        values: The values to set, one for each position.
        texts: The same values as the reader sees them.
        start: The position in the committed notebook.
    """

    label: str
    kind: str
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    start: int


@dataclass(frozen=True)
class Stepped:
    """An explorer's frames: every combination of the axes' positions, the last axis fastest.

    `pictures` holds the file names and `sentences` the explorer's sentences, one for each frame.
    `still` names the controls that are not stepped. `size` is the pictures' size in pixels.
    """

    axes: tuple[Axis, ...]
    pictures: tuple[str, ...]
    sentences: tuple[str, ...]
    still: tuple[str, ...]
    size: tuple[int, int]


def explorer_cells(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the cells of a notebook that show an explorer: a picture whose text is a sentence."""
    return [
        cell
        for cell in notebook["cells"]
        if any(is_explorer(output) for output in cell.get("outputs", []))
    ]


def is_explorer(output: Mapping[str, Any]) -> bool:
    """Return whether an output is an explorer's; other pictures have the text `<Figure size …>`."""
    data = output.get("data", {})
    text = "".join(data.get("text/plain", "")).strip()
    return "image/png" in data and bool(text) and not text.startswith("<")


def stands_still(cell: Mapping[str, Any]) -> bool:
    """Return whether a cell's picture is not to be stepped.

    This holds for cells with the tag `STATIC`, and for pictures that are updated while their cell
    runs: that of a training, for example, shows what has happened in this run.
    """
    return STATIC in tags(cell) or "display_id=" in "".join(cell["source"])


def tags(cell: Mapping[str, Any]) -> list[str]:
    """Return the tags of a cell."""
    return cell.get("metadata", {}).get("tags", [])


# Statements that an explorer depends on


def slice_for(
    statements: Sequence[tuple[ast.stmt, str]], names: set[str]
) -> list[tuple[ast.stmt, str]]:
    """Return the statements, in order, on which the values of some names may depend.

    Statements that only print, draw or compare something are left out, and with them most of the
    time that a notebook takes. The selection is a guess, since Python code can change anything from
    anywhere. The caller therefore has to check the result.

    Args:
        statements: All statements, each with the name of its cell.
        names: The names whose values are needed.
    """
    imported = {name for s, _ in statements if _is_import(s) for name in _bound(s)}
    touched = [_bound(s) | _changed(s, imported) for s, _ in statements]
    wanted: set[str] = set()
    kept: list[int] = []
    # Repeated until no name is added, since a later line may change an object that an earlier
    # one has passed on.
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
    """Return the names that have a value only inside a function or a comprehension."""
    inside = [n.target for n in ast.walk(node) if isinstance(n, ast.comprehension)]
    found = {name.id for target in inside for name in _names(target)}
    if isinstance(node, ast.FunctionDef):
        found |= {name.id for name in _names(node) if isinstance(name.ctx, ast.Store)}
        found |= {argument.arg for argument in ast.walk(node) if isinstance(argument, ast.arg)}
    return found


def _changed(statement: ast.stmt, imported: set[str]) -> set[str]:
    """Return the names of the objects that a statement's calls may change.

    These are the objects whose methods are called and, where the value that a function returns is
    discarded, the arguments of the function.
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


@dataclass(frozen=True)
class Shown:
    """A cell's explorer: the expression whose value it is, and the statements before it.

    `before` holds all these statements, each with the name of its cell, and `needed` those on which
    the explorer seems to depend.
    """

    needed: Sequence[tuple[ast.stmt, str]]
    before: Sequence[tuple[ast.stmt, str]]
    expression: ast.expr
    cell: str


def shown_by(notebook: Mapping[str, Any], cell: Mapping[str, Any]) -> Shown:
    """Return the expression and the statements from which the explorer of a cell is made.

    Raises:
        ValueError: when the cell does not end with an expression.
    """
    statements: list[tuple[ast.stmt, str]] = []
    for each in notebook["cells"]:
        if each["cell_type"] == "code":
            source, name = "".join(each["source"]), f"<cell {each['id']}>"
            # AutoGraph and tracebacks look up the source of a function here.
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            statements += [(statement, name) for statement in ast.parse(source, name).body]
        if each is cell:
            break
    own = [place for place, (_, found) in enumerate(statements) if found == name]
    # The argument of the last `display(…)`, or the cell's last line; later lines are not run.
    place = next((n for n in reversed(own) if _is_display(statements[n][0])), own[-1])
    shown, before = statements[place][0], statements[:place]
    if not isinstance(shown, ast.Expr):
        raise ValueError(f"Cell {cell['id']} shows an explorer, but ends with no expression.")
    argument = shown.value.args[0] if _is_display(shown) else shown.value
    return Shown(slice_for(before, _loaded(argument)), before, argument, name)


def build(
    notebook: Mapping[str, Any],
    cell: Mapping[str, Any],
    namespace: dict[str, Any] | None = None,
) -> Any:
    """Return the explorer of a cell, made as in the notebook.

    Args:
        notebook: The notebook.
        cell: One of its cells that shows an explorer.
        namespace: All names of the notebook after a run, if there was one. It is tried first.

    Raises:
        ValueError: when the cell shows no `Explorer`, or one whose sentence differs from the one
            that the notebook was committed with.
    """
    from quant_tutorial.explorers.base import Explorer

    output = next(output for output in cell["outputs"] if is_explorer(output))
    committed, shown = "".join(output["data"]["text/plain"]), shown_by(notebook, cell)
    # If the sentence may differ, a selection of statements could not be checked.
    inexact = INEXACT in tags(cell)
    namespaces = [functools.partial(executed, shown.before)]
    if not inexact:
        namespaces.insert(0, functools.partial(executed, shown.needed))
    if namespace is not None:
        namespaces.insert(0, lambda: namespace)
    for names in namespaces:
        try:
            found = evaluate(shown, names())
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


def executed(statements: Sequence[tuple[ast.stmt, str]]) -> dict[str, Any]:
    """Return a namespace in which the given statements of a notebook have been executed."""
    handle = SimpleNamespace(update=lambda *_, **__: None)
    namespace = {"__name__": "__main__", "display": lambda *_, **__: handle}
    with contextlib.redirect_stdout(io.StringIO()):
        for statement, cell in statements:
            exec(compile(ast.Module([statement], []), cell, "exec"), namespace)
    return namespace


def evaluate(shown: Shown, namespace: dict[str, Any]) -> Any:
    """Return the value of a cell's expression in a namespace."""
    with contextlib.redirect_stdout(io.StringIO()):
        return eval(compile(ast.Expression(shown.expression), shown.cell, "eval"), namespace)


# Positions of the controls


def controls_of(explorer: Any) -> list[tuple[Callable[[Any], None], list[Axis]]]:
    """List an explorer's controls, the most informative first, each as a setter and its axes.

    The axes of a control have many positions first, then few. The presets come first if the
    explorer has `presets`, a mapping of names to buttons. Then come the sliders, the menus and the
    checkboxes.
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
            move(axis.values[axis.start])  # the clicks in _presets may have moved it
        explorer.settle()
    return [*presets, *setters]


def _presets(explorer: Any) -> list[tuple[Callable[[Any], None], list[Axis]]]:
    """Return the presets as one control; none if the explorer's state is not one of them."""
    presets, said = getattr(explorer, "presets", {}), explorer.text

    def click(name: str) -> None:
        presets[name].click()
        explorer.settle()

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
        # Mostly bit widths: each of those up to 8 matters, and a few of those above.
        fine = {low, high, *range(low, min(high, 8) + 1), 12, 16, 24}
        coarse = {low, high, 3, 4, 8}
        sets = [[v for v in sorted(s) if low <= v <= high] for s in (fine, coarse)]
    else:
        sets = [_spread(low, high, count, step) for count in (10, 4)]
    return [_axis(label, values, value, {low, high}) for values in sets]


def _upper_end(label: str, slider: Any) -> list[Axis]:
    """Return axes for the upper end of a range; the lower end stays as in the notebook."""
    lower, upper = slider.value
    sets = [_spread(lower, slider.max, count, slider.step)[1:] for count in (10, 4)]
    axes = [_axis(label, values, upper, {slider.max}) for values in sets]
    return [
        Axis(a.label, a.kind, tuple((lower, value) for value in a.values), a.texts, a.start)
        for a in axes
    ]


def _spread(low: float, high: float, count: int, step: float) -> list[float]:
    """Return the borders of `count` equal parts, on the slider's own stops."""
    exact = (low + (high - low) * part / count for part in range(count + 1))
    stops = {round(low + round((value - low) / step) * step, 9) for value in exact}
    return sorted(stop for stop in stops if stop <= high)


def _axis(label: str, values: Sequence[float], value: float, ends: set[float]) -> Axis:
    """Return a slider's axis, with the notebook's own value among the positions.

    If it is missing, it replaces the nearest position or, where that is one of `ends`, is added.
    """
    values = list(values)
    if value not in values:
        nearest = min(values, key=lambda other: abs(other - value))
        if nearest not in ends:
            values.remove(nearest)
        values = sorted([*values, value])
    texts = tuple(f"{v:g}".replace("-", "−") for v in values)
    return Axis(label, "range", tuple(values), texts, values.index(value))


def choose(controls: Sequence[Sequence[Axis]], frames: int) -> list[Axis]:
    """Choose axes whose combinations are at most `frames` frames.

    Args:
        controls: The axes of each control, with many positions first, then few; the most
            informative control comes first.
        frames: The upper limit, at least 2.

    Returns:
        Axes of the first controls: as many sliders as fit with few positions, then more positions
        for each, then menus and checkboxes. The presets are chosen alone, if there are any.

    Raises:
        ValueError: for fewer than 2 frames.
    """
    if frames < 2:
        raise ValueError(f"frames must be 2 or more, got {frames}.")

    def product(axes: Sequence[Axis]) -> int:
        return math.prod(len(axis.values) for axis in axes)

    if controls and controls[0][0].label == "Preset":  # presets set all other controls
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
    """Return the axis with at most `count` positions: the start and its neighbours."""
    first = min(max(axis.start - count // 2, 0), max(len(axis.values) - count, 0))
    kept = slice(first, first + count)
    return Axis(axis.label, axis.kind, axis.values[kept], axis.texts[kept], axis.start - first)


# Frames


def step(explorer: Any, folder: Path, frames: int) -> Stepped | None:
    """Set an explorer's controls to every chosen combination, and write the pictures.

    Args:
        explorer: The explorer, in the state that the notebook shows.
        folder: The folder for the pictures, which are lossless WebP named after their content.
        frames: The largest number of frames; if they take long, there are fewer.

    Returns:
        The frames, or None when the explorer has no control.

    Raises:
        RuntimeError: when the explorer shows an error, or another sentence after its controls were
            set back.
    """
    said = explorer.text
    controls = controls_of(explorer)
    if not controls:
        return None
    move, (axis, *_) = controls[0]
    began = time.process_time()
    for value in (axis.values[axis.start - 1], axis.values[axis.start]):
        move(value)
        explorer.settle()
    each = max((time.process_time() - began) / 2, 1e-3)
    axes = choose([axes for _, axes in controls], min(frames, max(2, round(SECONDS / each))))
    moves = [move for move, _ in controls[: len(axes)]]

    def set_to(values: Sequence[Any]) -> None:
        for move, value in zip(moves, values, strict=True):
            move(value)
        explorer.settle()

    pictures, sentences = [], []
    for values in itertools.product(*(axis.values for axis in axes)):
        set_to(values)
        if explorer.text.startswith("Error: "):
            raise RuntimeError(f"{type(explorer).__name__} at {values}: {explorer.text}")
        name, size = _write(explorer.pixels(), folder)
        pictures.append(name)
        sentences.append(explorer.text)
    still = tuple(axes[0].label for _, axes in controls[len(moves) :])
    set_to([axis.values[axis.start] for axis in axes])
    if (now := explorer.text) != said:
        raise RuntimeError(f"{type(explorer).__name__} said {said!r} and, set back, {now!r}.")
    return Stepped(tuple(axes), tuple(pictures), tuple(sentences), still, size)


def _write(pixels: Any, folder: Path) -> tuple[str, tuple[int, int]]:
    from PIL import Image

    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    # A third of a PNG's size; a higher effort takes twice the time and saves another tenth.
    picture.save(buffer, "webp", lossless=True, method=2, quality=0)
    name = f"{hashlib.sha256(buffer.getvalue()).hexdigest()[:20]}.webp"
    (folder / name).write_bytes(buffer.getvalue())
    return name, picture.size


def _write_live(explorer: Any, folder: Path) -> str | None:
    """Write the data of a live explorer; return the file's name, or None if it cannot live."""
    from quant_tutorial.explorers.exported import exported

    data = exported(explorer)
    if data is None:
        return None
    # Strict: Infinity and NaN are no JSON, and a page could not read them.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    name = f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
    (folder / name).write_text(text, encoding="utf-8")
    return name


def write(path: Path, folder: Path, frames: int, namespace: dict[str, Any] | None = None) -> None:
    """Write the pictures of a notebook's explorers, and frames.json: a `Stepped` by cell id.

    An explorer that can live in a page also has a file of data there, whose name is "live".

    Args:
        path: The notebook.
        folder: An existing folder for the files.
        frames: The largest number of frames for an explorer.
        namespace: All names of the notebook after a run, if there was one.

    Raises:
        RuntimeError: as for `step`.
        ValueError: as for `build`.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    made = {}
    for cell in explorer_cells(notebook):
        if not stands_still(cell):
            explorer = build(notebook, cell, namespace)
            stepped = step(explorer, folder, frames)
            if stepped:
                made[cell["id"]] = {**asdict(stepped), "live": _write_live(explorer, folder)}
    # A menu's values may be of any type; a page needs only their texts.
    text = json.dumps(made, ensure_ascii=False, default=str)
    (folder / "frames.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Write the pictures of a notebook's explorers, and what their positions are."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("frames", type=int)
    arguments = parser.parse_args()
    path, folder = arguments.notebook.resolve(), arguments.folder.resolve()
    os.environ["MPLBACKEND"] = "Agg"
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        write(path, folder, arguments.frames)


if __name__ == "__main__":
    main()
