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

_CLOSING = """
## Beyond the table

**Real vLLM** (`tests/vllm`, in each CI run): an engine that crashes in the middle of a point ends the session with 13; an engine
that is stopped (SIGSTOP) behind a front whose /health still says 200 is named as stuck, 13; Ctrl-C leaves no request running on
the server; ids outside of the vocabulary, which it answers with 200 and an error event, are failed requests.

**kill -9 at any moment.** `tests/faults/kill_test.py` kills sweeps of six points at random moments: after each kill every
result file and its records are whole, and `--resume` completes the sweep without measuring a finished point again. 312 kills on
2026-11-22 (12 sweeps side by side on 16 cores, 123 sweeps completed): 767 finished points were there before a kill, and none
was measured or written again; no load process was left. Four kills are in each CI run; `BENCH_KILLS=300 pytest tests/faults/kill_test.py`.

**An hour.** `python -m benchmarks.soak --minutes 60` holds 256 streams on the simulated server: memory, file descriptors and
threads must not grow. A short one is in each CI run.

![Memory, descriptors and threads over an hour](img/soak.png)

On 2026-11-22 (two cores of an AMD EPYC, 50 ms between tokens): 139,636 requests, none failed; the load process stayed between 99 and 107 MB
from the first minute to the last, with 265 descriptors and 35 threads, the suite at 38 MB. At the end all records come into memory at once, about 25 bytes an event.

**Fuzzing.** Hypothesis has the stream parser, the framing, server_info.txt, profiles, results, records, `/metrics` and `-k` in
each CI run. `python -m tests.fuzz TARGET` puts all of these but the records under a coverage-guided fuzzer (atheris, by hand), and
compares the two ways in which a stream is read, and one cut into pieces with the whole: on 2026-11-22, 21 minutes and 8 million inputs over eight targets found no traceback and no
difference.
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
    parts.append(_CLOSING)
    return "".join(parts)


if __name__ == "__main__":
    DOCS.write_text(page())
    print(DOCS)
