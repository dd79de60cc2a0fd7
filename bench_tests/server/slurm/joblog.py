"""Which lines of a failed job's log say why: the end of it, and before that what pyxis said first."""

from __future__ import annotations

from pathlib import Path

from bench_tests.server.process import log_tail

__all__ = ["LINES", "last_words"]

LINES = 40
_ALL = 2000
_PYXIS = 15  # its reason stands in its first lines, and advice of many lines follows


def last_words(log: Path, *, since: int = 0) -> str:
    """At most 40 lines of a log, nothing before the byte `since`: its end, and the first lines of pyxis."""
    lines = log_tail(log, _ALL, since=since).splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("serve: starting ")]
    lines = lines[starts[-1] if starts else 0 :]  # a requeued job's log goes on where it was
    first = [number for number, line in enumerate(lines) if "pyxis:" in line][:_PYXIS]
    shown = sorted({*first, *range(max(0, len(lines) - LINES + len(first) + 1), len(lines))})
    text, before = [], -1
    for number in shown:
        text += ["..."] if number > before + 1 and before >= 0 else []
        text.append(lines[number])
        before = number
    return "\n".join(text[-LINES:])
