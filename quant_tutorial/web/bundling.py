"""Bundle the scripts of `live/` for the pages, with what they import from npm.

Deno resolves and bundles them; it is one of the pinned tools. An npm package is imported by its
exact version, `import … from "npm:name@1.2.3"`, and `live/deno.lock` has its hash. After a change
of these imports, `python -m quant_tutorial.web.bundling` writes that file anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCRIPTS = HERE / "live"
ENTRY = "main.js"  # a module; what ends in `_worker.js` is an entry too, a classic script
FOLDER = "live"  # within the site's `_static`
LOCK = SCRIPTS / "deno.lock"
STYLES = [HERE.parent / "explorers" / "canvas.css"]  # of what the scripts take from JupyterLab's


@dataclass(frozen=True)
class Package:
    """An npm package that is part of a bundle, as Deno has installed it."""

    name: str
    version: str
    folder: Path

    @property
    def licence(self) -> str:
        """The licence that the package names."""
        return json.loads((self.folder / "package.json").read_text(encoding="utf-8"))["license"]


def entries() -> list[Path]:
    """List the scripts that a page or a worker loads; the others are imported by these."""
    return [SCRIPTS / ENTRY, *sorted(SCRIPTS.glob("*_worker.js"))]


def bundle(folder: Path) -> None:
    """Write each entry with all that it imports into one file of its own name.

    `licences.txt` lists the packages that are in them, with their licences.

    Raises:
        RuntimeError: when Deno is missing or refuses, such as for a package that is not in the lock
            file with the same hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for entry in entries():
        bundle_script(entry, folder / entry.name)
    for style in STYLES:
        shutil.copyfile(style, folder / style.name)
    found = packages()
    if found:
        listed = "".join(f"{each.name} {each.version}: {each.licence}\n" for each in found)
        texts = "".join(
            f"\n--- {each.name} ---\n\n{path.read_text(encoding='utf-8')}"
            for each in found
            for path in sorted(each.folder.glob("[Ll][Ii][Cc][Ee][Nn]*"))
        )
        apache = (ROOT / "LICENSE").read_text(encoding="utf-8")
        text = f"{listed}{texts}\n--- Apache-2.0 ---\n\n{apache}"
        (folder / "licences.txt").write_text(text, encoding="utf-8")


def bundle_script(entry: Path, output: Path) -> None:
    """Write a script with all that it imports into one file; see `bundle`."""
    kind = "iife" if entry.name.endswith("_worker.js") else "esm"
    options = ["--platform", "browser", "--format", kind, "--minify"]
    _deno("bundle", "--quiet", *options, "--output", str(output), str(entry))


def packages() -> list[Package]:
    """List the npm packages in the bundles, by name.

    Raises:
        RuntimeError: as for `bundle`.
    """
    found = {}
    for entry in entries():
        graph = json.loads(_deno("info", "--json", str(entry)))
        for each in graph.get("npmPackages", {}).values():
            package = Package(each["name"], each["version"], Path(each["localPath"]))
            found[package.name] = package
    return [found[name] for name in sorted(found)]


def copy_files(package: str, pattern: str, folder: Path) -> list[Path]:
    """Copy files of an npm package that it loads when it runs, such as WebAssembly.

    Args:
        package: The package's name; an entry must import it.
        pattern: A glob within the package.
        folder: Where to; it must exist.

    Raises:
        ValueError: when no entry imports the package, or no file matches.
    """
    known = {each.name: each for each in packages()}
    if package not in known:
        raise ValueError(f"package must be one of {sorted(known)}, got {package!r}.")
    files = sorted(known[package].folder.glob(pattern))
    if not files:
        raise ValueError(f"pattern {pattern!r} matches no file of {package}.")
    return [Path(shutil.copyfile(file, folder / file.name)) for file in files]


def _deno(command: str, *arguments: str, frozen: bool = True) -> str:
    """Run Deno, and return what it says; `frozen` keeps it from changing the lock file."""
    deno = shutil.which("deno", path=Path(sys.executable).parent) or shutil.which("deno")
    if deno is None:
        raise RuntimeError("Deno is missing, which bundles the scripts: run make tools.")
    locked = ["--lock", str(LOCK), f"--frozen={str(frozen).lower()}"]
    run = subprocess.run(
        [deno, command, "--no-config", *locked, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"},
    )
    if run.returncode:
        raise RuntimeError(f"deno {command}:\n{run.stderr}")
    return run.stdout


def main() -> None:
    """Write the lock file anew."""
    LOCK.unlink(missing_ok=True)
    for entry in entries():
        _deno("cache", str(entry), frozen=False)


if __name__ == "__main__":
    main()
