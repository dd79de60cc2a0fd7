"""`python -m tests.faults.write_docs`: docs/faults.md from the matrix; a test checks that it is current."""

from __future__ import annotations

from pathlib import Path

from tests.faults.matrix import GROUPS, ROWS
from tests.faults.row import Row

__all__ = ["DOCS", "page"]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
_OPENING = """# What goes wrong, and what it leads to

Each row is a test: the suite is run as a user runs it, with the fault provoked, and must end with this verdict, this exit
code and these words, without a traceback, without half a file, and without a trace of the API key in anything that it has
printed or written (results, records, report.json, JUnit). `pytest -m faults tests/faults` runs the {count} of them.

Verdict: the worst of all points of the run; – where no point came to a result. Exit codes: 0 passed, 1 an objective was
breached, 2 interrupted, 4 wrong usage, 12 something was not measured, 13 no server.

`--fault` is an option of the simulated server (`python -m bench_tests.server.simulator`): with it anybody can try how their
own gate takes the fault.

This page is made from `tests/faults/matrix.py` by `python -m tests.faults.write_docs`.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _line(row: Row) -> str:
    words = ", ".join(f"“{word}”" for word in row.words)
    return f"| {_cell(row.fault)} | {_cell(row.told_how)} | {row.verdict} | {row.exit} | {_cell(words)} |"


def page() -> str:
    """The whole page."""
    parts = [_OPENING.format(count=len(ROWS))]
    for group, rows in GROUPS.items():
        head = "| fault | provoked by | verdict | exit | it says |\n| --- | --- | --- | ---: | --- |"
        parts.append(f"\n## {group}\n\n{head}\n" + "\n".join(map(_line, rows)) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    DOCS.write_text(page())
    print(DOCS)
