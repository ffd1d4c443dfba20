"""The package's shape: which module may import which, and that there is one of each."""

import ast
import graphlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "quant_tutorial"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
    if "app" not in path.parts and path.name != "conf.py"  # settings, which others execute
}
# From the bottom to the top: a room imports from itself and from those before it, never from those
# in its own line or after it, unless it is named there.
FLOORS = [
    ["quiet", "saving", "table", "arguments", "op_names"],
    ["executor"],
    ["affine"],
    ["scheme", "histogram", "flatbuffer", "metrics", "mnist", "drawing"],
    ["calibration", "colour_digits", "integer", "frameworks"],
    ["models"],
    ["tflite"],
    ["training", "simulate"],
    ["rounding"],
    ["qat"],
    ["deployment", "lab", "plotting"],
    ["explorers", "report"],
    ["checks", "web"],
    ["__main__"],
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
NUMPY_ONLY = (
    *("affine", "arguments", "calibration", "colour_digits", "drawing", "executor", "flatbuffer"),
    *("histogram", "integer", "metrics", "mnist", "op_names", "saving", "scheme", "table"),
)


def imports_of(module: str) -> Iterator[str]:
    """The modules of the package that a module imports, also inside its functions."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield below if below in MODULES else node.module


IMPORTS = {module: set(imports_of(module)) - {module} for module in MODULES}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_no_module_imports_itself_in_a_circle() -> None:
    order = list(graphlib.TopologicalSorter(IMPORTS).static_order())  # raises CycleError
    assert len(order) == len(MODULES)


def test_arrows_point_one_way() -> None:
    assert {room(module) for module in MODULES} - {""} == set(FLOOR)
    wrong = [
        f"{module} → {other}"
        for module, others in IMPORTS.items()
        for other in others
        if room(module) != room(other) and FLOOR[room(other)] >= FLOOR[room(module)]
    ]
    assert wrong == []


def test_numpy_is_enough() -> None:
    """One process imports them one after another, and says after which one more is loaded."""
    heavy = {"tensorflow", "keras", "scipy", "matplotlib", "ipywidgets", "PIL"}
    code = (
        f"import importlib, sys\nfor name in {NUMPY_ONLY}:\n"
        "    importlib.import_module(f'quant_tutorial.{name}')\n"
        f"    print(name, sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name} []" for name in NUMPY_ONLY]


@pytest.mark.parametrize(
    "name", ["tflite", "simulate", "rounding", "qat", "integer", "deployment", "lab", "report"]
)
def test_a_room_offers_what_it_says(name: str) -> None:
    found = import_module(f"quant_tutorial.{name}")
    assert all(hasattr(found, offered) for offered in found.__all__)
    # A function must not hide the module of its own name.
    files = {module.name for module in pkgutil.iter_modules(found.__path__)}
    assert not files & set(found.__all__)


def test_imports_stand_at_the_top() -> None:
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"noqa: *E402", text.replace('noqa: *E402", ', "")), path
        if path.name != Path(__file__).name:
            assert not re.search(r"sys\.path\.|syspath|spec_from_file_location", text), path


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        (r"\bInterpreter\(", ["tflite/interpreter.py"]),
        (  # one place that forgets the image before; a timed one, and one over stages
            r"\.invoke\(\)",
            ["deployment/timing.py", "simulate/staged.py", "tflite/interpreter.py"],
        ),
        (r"InitFromPackedBuf", ["flatbuffer/reading.py"]),
        (r"ops\.round\(steps\)", ["simulate/fake_quantize.py"]),
        (  # in tflite what TensorFlow does not offer elsewhere
            r"(?m)^\s*(import|from) (keras|tensorflow)\b",
            ["quiet.py", "tflite/saved_model.py", "tflite/selective.py"],
        ),
        (r"binomtest\(", ["metrics.py"]),
    ],
)
def test_one_of_each(pattern: str, places: list[str]) -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(pattern, path.read_text(encoding="utf-8"))
    }
    assert sorted(found) == places
