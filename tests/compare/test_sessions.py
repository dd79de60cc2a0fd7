"""Results belong to sessions: a folder's pictures and baselines are of one session a point, and say which they leave out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench_tests.compare.sessions import read_latest
from plotting.group import split
from tests.support.plotting_examples import example_result


def put(folder: Path, name: str, session: str, date: str, **changes: Any) -> None:
    (folder / f"{name}.json").write_text(json.dumps(example_result(run_id=session, date=date, **changes)))


def test_last_weeks_repetitions_are_not_mixed_into_todays_run(tmp_path: Path) -> None:
    put(tmp_path, "p", "new", "20260308-100000", p99_ttft=1.0)
    for run in (2, 3):
        put(tmp_path, f"p_run{run}", "old", "20260301-100000", run=run, p99_ttft=9.0)
    results = read_latest(tmp_path)
    (cell,) = split(results.points)[0].cells
    assert cell.metric("p99_ttft") == 1.0
    assert len(cell.runs) == 1
    assert results.count == "3 files read, 2 left out: 2 × run of an earlier session"
    assert all("old" in left.reason and "new" in left.reason for left in results.left_out)


def test_a_session_that_was_resumed_is_one_with_it(tmp_path: Path) -> None:
    put(tmp_path, "p", "first", "20260301-100000", p99_ttft=1.0)
    put(tmp_path, "p_run2", "second", "20260301-110000", run=2, p99_ttft=2.0, resumes=["first"])
    assert len(read_latest(tmp_path).points) == 2


def test_sessions_of_other_points_and_loads_stand_beside_each_other(tmp_path: Path) -> None:
    put(tmp_path, "a", "one", "20260301-100000")
    put(tmp_path, "b", "two", "20260302-100000", conc=16)
    put(tmp_path, "c", "three", "20260303-100000", request_rate=4.0)
    other = example_result()["settings"] | {"range_ratio": 0.2}
    put(tmp_path, "d", "four", "20260304-100000", settings=other)
    results = read_latest(tmp_path)
    assert len(results.points) == 4
    assert {group.apart for group in split(results.points)} == {"", "4 req/s", "range ratio 0.2"}


def test_after_an_upgrade_the_point_is_measured_again_not_beside(tmp_path: Path) -> None:
    server = example_result()["server"]
    put(tmp_path, "p", "new", "20260308-100000", engine_version="0.33.0", server=server | {"version": "0.33.0"})
    put(tmp_path, "p_run2", "old", "20260301-100000", run=2)
    assert [point.engine_version for point in read_latest(tmp_path).points] == ["0.33.0"]
