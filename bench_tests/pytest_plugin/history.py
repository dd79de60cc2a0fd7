"""`--history DIR`: the baseline is taken from many nights, and this session goes among them with what was said of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_tests.compare.baseline import read_baseline
from bench_tests.compare.history.store import SESSIONS, History, add_session, add_verdict, read_history
from bench_tests.compare.history.trend import ALPHA, BASELINE, Trend, trend_of
from bench_tests.compare.words import change_line
from bench_tests.errors import NotMeasured, UsageError
from bench_tests.pytest_plugin.state import Session
from bench_tests.sweep.settings import Regression
from bench_tests.verdict.decide import ERROR

FEWEST = 3  # accepted sessions before one is held against them: of fewer nights it is not known what a night does
SHOWN = 5  # change points on the terminal


def begin(state: Session) -> None:
    """Read the history and, of its last accepted sessions, the baseline. Raises UsageError."""
    folder = state.option("--history")
    if not folder:
        return
    if state.option("--baseline"):
        raise UsageError("--history and --baseline: a history has its own baseline; leave one of them out")
    state.history = read_history(Path(folder))
    earlier = trend_of(state.history, _regression(state))
    places = state.history.last_accepted(BASELINE, earlier.suspect)
    gone = state.history.gone(earlier.suspect)
    if len(places) < FEWEST <= len(places) + gone:
        raise UsageError(
            f"--history {folder}: the results of {gone} of its {len(places) + gone} accepted sessions are gone "
            f"({Path(folder) / SESSIONS}), so that nothing can be compared; restore them (a cache has to keep the whole "
            "folder), or name a new one"
        )
    if len(places) >= FEWEST:
        state.baseline = read_baseline(Path(folder), places, rule_of(state).figures)
        state.history_gone = _gone_words(state.history, earlier.suspect, len(places))


def _gone_words(history: History, suspect: Sequence[str], left: int) -> str:
    """How many of the sessions that this one should be held against have lost their results; "" where none has.

    Older ones are not counted: their results may be deleted.
    """
    gone = history.gone(suspect, BASELINE)
    if not gone:
        return ""
    return (
        f"the results of {gone} of the last {min(BASELINE, left + history.gone(suspect))} accepted sessions are gone ({history.folder / SESSIONS}): "
        f"compared with the {left} that are left; restore them (a cache has to keep the whole folder)"
    )


def _regression(state: Session) -> Regression:
    return state.choice.profile.regression if state.choice else Regression()


def rule_of(state: Session) -> Regression:
    """The rule of a comparison; against a history the error is that of one night of many."""
    rule = _regression(state)
    return rule if state.history is None else replace(rule, alpha=min(rule.alpha, ALPHA))


def keep(state: Session) -> Trend | None:
    """Add this session, once. None where nothing was measured. Raises NotMeasured."""
    if state.history is None or state.trend is not None:
        return state.trend
    paths = [m.path for m in state.measurements.values() if m.verdict.word != ERROR]
    folder = Path(state.option("--history"))
    if not paths or not state.run_id or add_session(folder, state.run_id, paths) is None:
        return None
    state.trend = trend_of(read_history(folder), _regression(state))
    return state.trend


def end(state: Session) -> None:
    """Write down what was said of this session: an alarm keeps it from being a baseline."""
    if state.history is None or state.trend_told:
        return
    state.trend_told = True
    try:
        found = keep(state)
        if found is None:
            return
        slower = [
            f"{c.point or 'sweep'}: {change_line(c)}"
            for c in (state.comparison.regressions if state.comparison else ())
        ]
        add_verdict(state.history.folder, state.run_id, [*slower, *(change.words for change in found.alarms)])
    except (NotMeasured, UsageError) as why:
        state.not_measured = True
        state.terminal.say(str(why))


def tell(state: Session, reporter: Any) -> None:
    """The history's lines below the table, and its picture and page."""
    if state.history is None:
        return
    reporter.section("history", "=")
    say = reporter.write_line
    before = len(state.history.sessions)
    say(f"{state.history.folder}: {before} earlier sessions" + (f", this one is {state.run_id}" if state.trend else ""))
    if state.history.broken:
        say(f"{state.history.broken} lines of its index are none (a writer was killed): left out")
    if state.history_gone:
        say(state.history_gone)
    if state.baseline is None:
        say(f"fewer than {FEWEST} accepted sessions: nothing was compared yet")
    if state.trend is None:
        return
    for change in state.trend.changes[-SHOWN:]:
        say(f"change: {change.words}")
    if state.trend.alarms:
        say(
            f"if that is as it should be: python -m plotting history accept {state.run_id} --history {state.history.folder}"
        )
    if not state.option("--no-plot"):
        from plotting.history import write_history

        try:
            for file in write_history(state.trend, state.history.folder):
                say(f"drawn: {os.path.relpath(file)}")
        except OSError as why:
            say(f"no picture of the history: {why}")
