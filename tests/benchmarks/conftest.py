"""What the course promises on speed, measured in one run: `make benchmark`.

Times depend on the machine and on its other work, so these are not tests. Each figure is a median,
and where one is compared with another, both were measured in turn.
"""

import os

import pytest
from measuring import Report

_FIGURES = pytest.StashKey[list[tuple[str, str, str, str]]]()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Return a function that records a figure, and fails if it misses what is promised."""

    def note(what: str, value: float, unit: str, promised: float | None = None) -> None:
        kept = promised is None or value <= promised
        digits = 2 if value < 10 else 0
        bound = "" if promised is None else f"{promised:.3g} {unit}"
        verdict = "" if promised is None else ("kept" if kept else "MISSED")
        figures = request.config.stash.setdefault(_FIGURES, [])
        figures.append((what, f"{value:.{digits}f} {unit}", bound, verdict))
        assert kept, f"{what}: {value:.{digits}f} {unit}, promised {bound}. Is the machine busy?"

    return note


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
