"""Prepare README, notebooks, reference and teachers' page as Sphinx sources for the web edition.

A picture becomes an `<img>` with the sentence beside it as its alternative text. An explorer
becomes a figure, to which `static/stepper.js` adds controls; where it can, the explorer of `live/`
takes its place. The answer to a question gets the data with which `static/reader` asks it first,
and each exercise a place for its box. `start` makes the start page, with the table of contents.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant_tutorial.web import predictions, start
from quant_tutorial.web.frames import is_explorer

ROOT = Path(__file__).resolve().parents[2]
FIGURES = "figures"  # the folder of all pictures, beside the pages
_NAMED = 8  # controls that an explorer's note names at most
_BOX = re.compile(r"^(\s*- )\[ \] ", re.M)  # of a checklist: JupyterLab makes boxes, Sphinx none
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def notebooks() -> list[Path]:
    """List the lessons and then the solutions, each in the order of the course."""
    folder = ROOT / "notebooks"
    return [*sorted(folder.glob("[0-9]*.ipynb")), *sorted(folder.glob("solutions/[0-9]*.ipynb"))]


# The pages that are no notebooks.
REFERENCE, TEACHING = (ROOT / "notebooks" / f"{name}.md" for name in ("reference", "teaching"))
README = ROOT / "README.md"
PAGES = (REFERENCE, TEACHING, README)


def title(path: Path) -> str:
    """Return a lesson's number and its heading up to the colon, for the table of contents.

    Raises:
        ValueError: when the notebook has no heading.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    heading = re.search(r"^# (?:Solutions: )?([^:\n]+)", text, re.M)
    if heading is None:
        raise ValueError(f"{path} has no heading.")
    return f"{path.stem[:2]} {heading[1].strip()[:1].upper()}{heading[1].strip()[1:]}"


def anchor(heading: str) -> str:
    """Return the anchor that Jupyter gives a heading, so that the notebooks' links work in both."""
    return heading.replace(" ", "-")


def prepare(sources: Path, extra: Path, steps: Mapping[Path, Mapping[str, Any]]) -> None:
    """Write the sources that Sphinx reads.

    Args:
        sources: An empty folder for the documents.
        extra: The folder whose content Sphinx copies beside the pages; the pictures go there.
        steps: The frames of the explorers by notebook and cell id, with the fields of
            `frames.Stepped`; the pictures that they name are in `extra / FIGURES`.
    """
    (extra / FIGURES).mkdir(parents=True, exist_ok=True)
    prepared = {}
    for path in notebooks():
        prepared[path] = notebook = json.loads(path.read_text(encoding="utf-8"))
        _prepare_notebook(notebook, path, sources, extra / FIGURES, steps.get(path, {}))
    for path in PAGES:
        _write(sources / path.relative_to(ROOT), _prepared_text(path, sources))
    shown = (_output(prepared, *place) for place in (start.RESULT, start.TABLE))
    _write(sources / "index.md", start.page(ROOT, *shown) + _contents())


def _output(prepared: Mapping[Path, Mapping[str, Any]], stem: str, name: str) -> str:
    """Return the HTML of a lesson's cell, for a page in the folder above the lesson's."""
    cells = prepared[ROOT / "notebooks" / f"{stem}.ipynb"]["cells"]
    (cell,) = (cell for cell in cells if cell["id"] == name)
    (output,) = cell["outputs"]
    return "".join(output["data"]["text/html"]).replace(f"../{FIGURES}/", f"{FIGURES}/")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _contents() -> str:
    lessons = [path for path in notebooks() if path.parent.name == "notebooks"]
    solutions = [path for path in notebooks() if path not in lessons]
    blocks = []

    def entry(name: str, path: Path) -> str:
        return f"{name} <{path.relative_to(ROOT).with_suffix('').as_posix()}>"

    def page(path: Path) -> str:
        return entry(path.read_text(encoding="utf-8").split("\n", 1)[0][2:], path)

    for caption, entries in (
        ("Lessons", [entry(title(path), path) for path in lessons]),
        ("To look up", [page(REFERENCE)]),
        ("Solutions", [entry(title(path), path) for path in solutions]),
        ("For teachers", [page(TEACHING)]),
        ("On your machine", [entry("Install, publish, contribute", README)]),
    ):
        options = [":hidden:", f":caption: {caption}", ""]
        if caption == "Lessons":
            entries.insert(0, "Start <self>")
        blocks.append("\n".join(["", "```{toctree}", *options, *entries, "```", ""]))
    return "".join(blocks)


def _prepared_text(path: Path, sources: Path) -> str:
    return _relinked(path.read_text(encoding="utf-8"), path, sources)


def _relinked(text: str, path: Path, sources: Path) -> str:
    """Return a text, and copy the files that it links to."""

    def target(match: re.Match[str]) -> str:
        linked = (path.parent / match[1]).resolve()
        if linked.is_file() and linked.suffix != ".ipynb" and linked not in PAGES:
            copy = sources / linked.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if linked.suffix == ".md":  # becomes a page that is in no table of contents
                _write(copy, "---\norphan: true\n---\n\n" + linked.read_text(encoding="utf-8"))
            else:
                shutil.copyfile(linked, copy)
        return match[0]

    return _LINK.sub(target, text)


def _prepare_notebook(
    notebook: dict[str, Any],
    path: Path,
    sources: Path,
    figures: Path,
    steps: Mapping[str, Any],
) -> None:
    relative = path.relative_to(ROOT)
    to_figures = "../" * len(relative.parent.parts) + FIGURES
    is_lesson = path.parent.name == "notebooks"
    cells = []
    for cell in notebook["cells"]:
        cells.append(cell)
        if cell["cell_type"] == "markdown":
            text = _BOX.sub(r"\1☐ ", predictions.marked(cell, path.stem[:2]))
            cell["source"] = _relinked(text, path, sources)
        elif is_lesson:
            for number in start.exercises(cell):
                place = f'<p class="exercise-done" data-exercise="{number}"></p>'
                cells.append(
                    {
                        "cell_type": "markdown",
                        "id": f"{cell['id']}-done",
                        "metadata": {},
                        "source": place,
                    }
                )
        if "outputs" in cell:  # an empty one is there only for JupyterLab
            cell["outputs"] = [output for output in cell["outputs"] if output.get("data") != {}]
        for place, output in enumerate(cell.get("outputs", [])):
            data = output.get("data", {})
            if "image/png" not in data:
                continue
            # An explorer's sentence is in the same output; that of a figure is printed after it.
            after = [o for o in cell["outputs"][place:] if o.get("name") == "stdout"]
            said = data["text/plain"] if is_explorer(output) else after[0]["text"] if after else ""
            sentence = " ".join("".join(said).split())
            name = f"{path.parent.name}-{path.stem}-{cell['id']}-{place}.png"
            picture = base64.b64decode("".join(data["image/png"]))
            (figures / name).write_bytes(picture)
            size = output.get("metadata", {}).get("image/png") or _pixels(picture)
            shown = _image(f"{to_figures}/{name}", sentence, size)
            if is_explorer(output):
                shown = _explorer(shown, sentence, to_figures, steps.get(cell["id"]))
            output["data"] = {"text/html": shown}
            output["metadata"] = {}
    notebook["cells"] = cells
    _write(sources / relative, json.dumps(notebook, ensure_ascii=False))


def _pixels(picture: bytes) -> dict[str, int]:
    width, height = struct.unpack(">II", picture[16:24])
    return {"width": width, "height": height}


def _image(source: str, sentence: str, size: Mapping[str, int]) -> str:
    return (
        f'<img class="figure dark-light" src="{source}" alt="{html.escape(sentence)}" '
        f'width="{size["width"]}" height="{size["height"]}">'
    )


def _explorer(image: str, sentence: str, to_figures: str, stepped: Any) -> str:
    """Return the figure of an explorer: picture, sentence and the data for `stepper.js`."""
    data, live, note = "", "", "This picture stands still; in JupyterLab it moves."
    if stepped:
        axes = [{k: v for k, v in axis.items() if k != "values"} for axis in stepped["axes"]]
        told = {
            "axes": axes,
            "pictures": [f"{to_figures}/{name}" for name in stepped["pictures"]],
            "sentences": stepped["sentences"],
        }
        # `</` would end the script element, even within a string.
        text = json.dumps(told, ensure_ascii=False).replace("</", "<\\/")
        data = f'<script type="application/json">{text}</script>'
        if stepped.get("live"):
            live = f' data-live="{to_figures}/{stepped["live"]}"'
        shown, rest = stepped["still"][:_NAMED], len(stepped["still"][_NAMED:])
        also = ", ".join([*map(html.escape, shown), *([f"and {rest} more"] if rest else [])])
        note = f"In JupyterLab all controls move freely{', also: ' + also if also else ''}."
    return (
        f'<figure class="explorer"{live}><div class="explorer-picture" tabindex="0" role="group" '
        f'aria-label="Picture, scrolls where it is wider than the page">{image}</div>'
        f"<figcaption>{html.escape(sentence)}</figcaption>"
        f'<p class="explorer-note">{note}</p>{data}</figure>'
    )
