"""A history of which some sessions have lost their results: what is left is compared, and what is gone is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench_tests.compare.history.store import add_verdict
from bench_tests.errors import UsageError
from bench_tests.pytest_plugin.history import begin, tell
from tests.compare.history.test_store import keep


def told(folder: Path) -> tuple[Any, list[str]]:
    """A session's state after it has begun with this history, and what it says of it."""
    lines: list[str] = []
    options = {"--history": str(folder), "--baseline": "", "--no-plot": True}
    state: Any = SimpleNamespace(
        option=options.get, choice=None, history=None, history_gone="", baseline=None, trend=None, run_id="now"
    )
    begin(state)
    tell(state, SimpleNamespace(section=lambda *_: None, write_line=lines.append))
    return state, lines


def nights(folder: Path, count: int) -> None:
    for at in range(1, count + 1):
        keep(folder, at)
        add_verdict(folder, f"s{at}", [])


def lose(folder: Path, *numbers: int) -> None:
    for at in numbers:
        shutil.rmtree(folder / "sessions" / f"s{at}")


def test_what_is_left_is_compared_and_what_is_gone_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    nights(folder, 5)
    assert not any("gone" in line for line in told(folder)[1])
    lose(folder, 2, 4)
    state, lines = told(folder)
    assert state.baseline is not None
    (line,) = (line for line in lines if "gone" in line)
    assert f"the results of 2 of the last 5 accepted sessions are gone ({folder / 'sessions'})" in line
    assert "the 3 that are left" in line
    lose(folder, 1)
    with pytest.raises(UsageError, match="3 of its 5 accepted sessions are gone"):
        told(folder)


def test_older_results_may_be_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    nights(folder, 13)
    lose(folder, 1, 2, 3)
    assert not any("gone" in line for line in told(folder)[1])
    lose(folder, 13)
    state, lines = told(folder)
    assert state.baseline is not None
    assert any("1 of the last 10" in line and "the 9 that are left" in line for line in lines)
