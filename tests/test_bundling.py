"""The scripts of the live explorers, as a site gets them."""

import re
from pathlib import Path

from quant_tutorial.web import bundling

import pytest

pytestmark = pytest.mark.slow


def test_each_entry_becomes_one_file_that_needs_no_other(tmp_path: Path) -> None:
    bundling.bundle(tmp_path / "new")
    written = {path.name: path.read_text("utf-8") for path in (tmp_path / "new").glob("*.js")}
    assert set(written) == {entry.name for entry in bundling.entries()} >= {bundling.ENTRY}
    for name, text in written.items():
        assert not re.search(r"\bfrom\s*[\"']|\bimport\s*[\"'{]", text), name
    listed = tmp_path / "new" / "licences.txt"
    for package in bundling.packages():
        assert f"{package.name} {package.version}: {package.licence}\n" in listed.read_text("utf-8")


def test_a_script_that_deno_cannot_bundle_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / bundling.ENTRY).write_text('import "./missing.js";')
    monkeypatch.setattr(bundling, "SCRIPTS", tmp_path)
    with pytest.raises(RuntimeError, match=r"(?s)deno bundle:.*missing\.js"):
        bundling.bundle(tmp_path / "new")


def test_files_of_an_unknown_package_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"package must be one of .*, got 'left-pad'"):
        bundling.copy_files("left-pad", "*.wasm", tmp_path)
