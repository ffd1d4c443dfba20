"""Write a report: the cells of lesson 12 executed on the reader's model (lesson 12)."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant_tutorial import deployment, saving
from quant_tutorial.report.diagnosing import Diagnosis
from quant_tutorial.report.findings import Findings
from quant_tutorial.report.measuring import Row
from quant_tutorial.report.recommending import Recommendation
from quant_tutorial.report.subject import Subject

LESSON = Path(__file__).parents[2] / "notebooks" / "12_your_own_model.ipynb"
TAG = "report"  # of the lesson's cells that a report executes
PARAMETERS = "report-parameters"  # the id of the cell with the reader's lines
_SETUP = """\
from quant_tutorial import plotting, report

import matplotlib.pyplot as plt"""
_SECONDS = 3600  # for a cell: most of the work is done before the page is made
_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 0 auto;
  padding: 0 1rem 3rem; }
h1, h2, h3 { line-height: 1.2; margin-top: 2rem; }
a.anchor-link { display: none; }
img { max-width: 100%; height: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 14px; }
code { overflow-wrap: anywhere; }
.output_html, .rendered_html { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; margin: 0.5rem 0; }
th, td { border-bottom: 1px solid #d0d0d0; padding: 0.2rem 0.6rem; vertical-align: top;
  white-space: nowrap; }
details { margin: 0.5rem 0; }
"""
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def notebook(
    model_file: Path,
    data_file: Path,
    options: Mapping[str, Any],
    folder: Path,
    summary: str = "",
) -> dict[str, Any]:
    """Return lesson 12's report as a notebook on a reader's files, not yet executed (lesson 12).

    Args:
        model_file: The reader's model.
        data_file: The data file.
        options: The further arguments of `report.load`.
        folder: Where finished files are found and kept.
        summary: What stands under the title, as Markdown.

    Raises:
        FileNotFoundError: when the lesson is missing.
        ValueError: when it is damaged or has no such cells.
    """
    lesson = saving.read_json(LESSON, "The report's cells", "Get the course's notebooks back.")
    cells = [c for c in lesson["cells"] if TAG in c["metadata"].get("tags", [])]
    if PARAMETERS not in [cell["id"] for cell in cells]:
        raise ValueError(f"{LESSON} has no cell {PARAMETERS!r}: get the course's notebooks back.")
    lines = (
        f"model_file = {str(model_file.resolve())!r}",
        f"data_file = {str(data_file.resolve())!r}",
        f"options = {dict(options)!r}",
        f"folder = {str(folder.resolve())!r}",
    )
    title = f"# Quantization report: {model_file.stem}\n\n{summary}".strip()
    made = [_cell("markdown", "report-title", title), _cell("code", "setup", _SETUP)]
    for cell in cells:
        source = "\n".join(lines) if cell["id"] == PARAMETERS else "".join(cell["source"])
        made.append(_cell(cell["cell_type"], cell["id"], source))
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def execute(content: Mapping[str, Any], folder: Path) -> Any:
    """Return a notebook with its outputs, executed in a fresh kernel (lesson 12).

    Raises:
        RuntimeError: when a cell fails; the message names the cell and the error.
    """
    import nbclient  # imported here, as nbconvert below: only the page needs them
    import nbformat

    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # the kernel must be that of this Python
    found = nbformat.from_dict(content)
    client = nbclient.NotebookClient(
        found,
        timeout=_SECONDS,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute(stderr=subprocess.DEVNULL)
    except nbclient.exceptions.CellExecutionError as error:
        raise RuntimeError(f"The page could not be made ({error.ename}: {error.evalue}).") from None
    return found


def page(executed: Any, title: str) -> str:
    """Return an executed notebook as one HTML page that loads nothing (lesson 12).

    The code is left out; the notebook beside the page has it. A picture's text is the sentence that
    its cell prints.
    """
    import nbconvert

    for cell in executed.cells:
        _describe_pictures(cell.get("outputs", []))
    exporter = nbconvert.HTMLExporter(
        template_name="basic", exclude_input=True, exclude_output_prompt=True
    )
    body, _ = exporter.from_notebook_node(executed)
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def figures(
    subject: Subject,
    findings: Findings,
    rows: list[Row],
    diagnosis: Diagnosis | None,
    times: Mapping[str, deployment.Latency],
    choice: Recommendation,
) -> dict[str, Any]:
    """Return all that a report has measured, as what JSON can hold (lesson 12)."""
    return {
        "model": subject.name,
        "fingerprint": subject.fingerprint,
        "input_range": list(subject.input_range),
        "images": len(subject.images),
        "calibration_images": len(subject.calibration),
        "findings": [finding._asdict() for finding in findings.found],
        "files": [dataclasses.asdict(row) for row in rows],
        "layers": [] if diagnosis is None else [one._asdict() for one in diagnosis.suspects],
        "seconds_per_image": {name: dataclasses.asdict(each) for name, each in times.items()},
        "recommendation": dataclasses.asdict(choice),
    }


def write_text(path: Path, text: str) -> Path:
    """Write a text as UTF-8, whole or not at all, and return its path (lesson 12).

    Raises:
        OSError: when the file cannot be written.
    """
    return saving.write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> Path:
    """Write JSON, whole or not at all, and return its path (lesson 12).

    Raises:
        OSError: when the file cannot be written.
    """
    return write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _cell(kind: str, identity: str, source: str) -> dict[str, Any]:
    cell = {"cell_type": kind, "id": identity, "metadata": {}, "source": source}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def _describe_pictures(outputs: list[Any]) -> None:
    """Give each picture of a cell the text that the cell prints after it."""
    said = " ".join(o.text.strip() for o in outputs if o.output_type == "stream")
    for output in outputs:
        if "image/png" in output.get("data", {}):
            shape = output.metadata.setdefault("image/png", {})
            if isinstance(shape, dict):
                shape["alt"] = said
