"""The pictures at the end of a sweep, and of `--plot`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from bench_tests.compare.words import comparison_lines
from bench_tests.errors import UsageError
from bench_tests.pytest_plugin.state import Session

__all__ = ["draw"]


def draw(state: Session, say: Callable[[str], None], details: bool) -> list[Path]:
    """Draw the results directory's pictures; the plotting package is imported only now."""
    start = time.monotonic()
    from plotting import draw_all

    folder = state.results_dir / "plots"
    try:
        report = Path(state.option("--report") or folder / "report.html")
        if report.is_dir():
            raise UsageError(
                f"--report {report}: it is a folder; name the file in it, such as {report / 'report.html'}"
            )
        against = comparison_lines(state.comparison) if state.comparison else []
        lines = [line.removeprefix("- ") for line in against]
        drawn = draw_all(state.results_dir, folder, report=report, details=details, against=lines)
    except (UsageError, OSError) as why:  # a full disk must not end the session with the code of a breach
        say(f"no pictures: {why}")
        return []
    except KeyboardInterrupt:
        state.interrupted = True
        say("interrupted while drawing: the results are kept, and `pytest --plot` draws them")
        return []
    if drawn.left_out:
        say(drawn.count)
    for left in drawn.left_out[:20]:
        say(f"left out: {left.path}: {left.reason}")
    for note in drawn.notes:
        say(note)
    for file in sorted(drawn.files, key=lambda file: file.suffix != ".html"):  # the report has all of them in it
        say(f"drawn: {_shown(file)}")
    say(f"{len(drawn.files)} file{'s' * (len(drawn.files) != 1)} in {time.monotonic() - start:.1f} s")
    return list(drawn.files)


def _shown(file: Path) -> str:
    """From here where it lies below here, else from the root: no row of `../`."""
    path = os.path.relpath(file)
    return os.path.abspath(file) if path.startswith("..") else path
