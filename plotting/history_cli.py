"""`python -m plotting history`: draw a history, or accept one of its sessions."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bench_tests.compare.history.store import accept, read_history
from bench_tests.compare.history.trend import trend_of
from bench_tests.errors import NotMeasured, UsageError

__all__ = ["history_command"]


def history_command(arguments: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Draw the picture and the page, or `accept SESSION`. Raises UsageError."""
    parser.add_argument("action", nargs="?", choices=("accept",), help="take a session's level as it is")
    parser.add_argument("session", nargs="?", metavar="SESSION", help="the session that is accepted, by its id")
    parser.add_argument(
        "--history", type=Path, default=Path("history"), metavar="DIR", help="the folder (default: history)"
    )
    options = parser.parse_args(arguments)
    if (options.action is None) != (options.session is None):
        raise UsageError(
            "history accept: no session; name one: python -m plotting history accept SESSION --history DIR"
        )
    try:
        if options.action:
            accept(options.history, options.session)
            print(f"{options.session}: accepted; it is a baseline, and changes up to it raise no alarm")
    except NotMeasured as why:
        raise UsageError(str(why)) from None
    history = read_history(options.history)
    if not history.sessions:
        raise UsageError(
            f"--history {options.history}: no session in it; add some with pytest --history {options.history}"
        )
    from plotting.history import write_history

    trend = trend_of(history)
    for file in write_history(trend, options.history):
        print(file)
    for change in trend.changes:
        print(f"{'alarm' if change in trend.alarms else 'change'}: {change.words}")
