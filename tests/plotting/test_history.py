"""The picture and the page of a history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from bench_tests.compare.history.trend import trend_of
from benchmarks.history_nights import nights
from plotting.history import history_rows, write_history


def test_the_page_names_each_change_and_what_else_is_another(tmp_path: Path) -> None:
    sessions = nights(np.random.default_rng(1), 0.003, 0.1)
    sessions = [replace(s, facts={"version": "<b>2" if at >= 40 else "1"}) for at, s in enumerate(sessions)]
    trend = trend_of(sessions)
    rows = history_rows(trend)
    assert any(row[2:4] == ("mean TPOT", "the whole sweep") and "version 1 → <b>2" in row[6] for row in rows)
    picture, page = write_history(trend, tmp_path)
    assert picture.stat().st_size > 20_000
    assert "&lt;b&gt;2" in page.read_text()
    assert "<b>2" not in page.read_text(), "what a server says is text"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["history.html", "history.png"]


def test_a_history_of_one_session_is_drawn(tmp_path: Path) -> None:
    trend = trend_of(nights(np.random.default_rng(1), 0.01, 0.0)[:1])
    assert not trend.changes
    assert len(write_history(trend, tmp_path)) == 2
