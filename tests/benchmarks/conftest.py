"""What the course promises on speed, measured in one run: `make benchmark`.

Times depend on the machine and on its other work, so these are not tests. Each figure is a median,
and where one is compared with another, both were measured in turn.
"""

import os
from collections.abc import Generator

import pytest
from measuring import Report

_FIGURES = pytest.StashKey[list[tuple[str, str, str, str]]]()
_MISSED = pytest.StashKey[list[str]]()


def figure(value: float, unit: str) -> str:
    """Write a figure with two or more digits."""
    return f"{value:.{2 if value < 10 else 0}f} {unit}"


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Return a function that records a figure; the test fails if one misses what is promised."""

    def note(what: str, value: float, unit: str, promised: float | None = None) -> None:
        kept = promised is None or value <= promised
        measured = figure(value, unit)
        bound = "" if promised is None else figure(promised, unit)
        verdict = "" if promised is None else ("kept" if kept else "MISSED")
        figures = request.config.stash.setdefault(_FIGURES, [])
        figures.append((what, measured, bound, verdict))
        if not kept:
            missed = request.node.stash.setdefault(_MISSED, [])
            missed.append(f"{what}: {measured}, promised {bound}.")

    return note


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a test at its end, so that one missed figure does not hide those after it."""
    result = yield
    if missed := pyfuncitem.stash.get(_MISSED, []):
        pytest.fail("\n".join([*missed, "Is the machine busy?"]), pytrace=False)
    return result


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    figures = config.stash.get(_FIGURES, [])
    if not figures:
        return
    terminalreporter.section(
        f"medians; {os.cpu_count()} cores, {os.getloadavg()[0]:.1f} processes at work"
    )
    table = [("", "measured", "promised", ""), *figures]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for what, measured, promised, verdict in table:
        line = f"{what:{widths[0]}}  {measured:>{widths[1]}}  {promised:>{widths[2]}}  {verdict}"
        terminalreporter.write_line(line.rstrip())
