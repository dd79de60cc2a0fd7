"""Sessions as a user sweeps them: points of users, what a result and its picture show, and what is wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench_tests.errors import UsageError
from bench_tests.results.read import read_folder
from bench_tests.sweep.point import Point, rewrite_keyword
from bench_tests.sweep.profile import Profile, load_profile
from bench_tests.sweep.selected import selected_points
from plotting.turns import turns_data
from tests.support.suite import QUICK, run_suite

TALK = (
    QUICK
    + """
max_lateness = "10s"
[workload]
sessions = "synthetic"
[sessions]
turns = 3
new_tokens = 60
osl = 8
think_time = "20ms"
"""
)
TALK = TALK.replace("[sweep]", "[sweep]\nusers = [2, 4]")


def profile(folder: Path, text: str) -> Profile:
    path = folder / "mine.toml"
    path.write_text(text)
    return load_profile(str(path))


def test_points_of_users_are_swept_and_drawn(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, "--server", "sim", profile=TALK, env={"PLOTS": "1"})
    assert outcome.code == 0, outcome.out
    results = outcome.results()
    assert sorted(results) == ["quick_sim_tp1_users2", "quick_sim_tp1_users4"]
    for result in results.values():
        assert [row["turn"] for row in result["by_turn"]] == [1, 2, 3]
        assert sum(row["n"] for row in result["by_turn"]) == result["completed"] == 12
        assert result["settings"]["sessions"]["turns"] == 3
        assert result["sessions"]["counted_cached_tokens"] == result["sessions"]["theory_cached_tokens"] > 0
    assert len(list((outcome.results_dir / "plots").glob("turns-users*.png"))) == 2
    read = read_folder(outcome.results_dir)
    assert sorted(point.point_id for point in read.points) == ["users2", "users4"]
    data = turns_data(read.points[0], "t", "c")
    assert data is not None
    assert (data.turn, data.hit_rate, len(data.theory)) == ((1, 2, 3), (None, None, None), 3)
    again = run_suite(tmp_path, "--server", "sim", "-k", "users4", "--collect-only", "-q", profile=TALK)
    assert "users4]" in again.out
    assert "users2]" not in again.out


def test_a_file_of_sessions_gives_its_points_its_name(tmp_path: Path) -> None:
    turns = [
        {"t": 0.1 * i, "in": 40 + 30 * i, "out": 5, "hash_ids": list(range((40 + 30 * i) // 16))} for i in range(3)
    ]
    path = tmp_path / "Agents.json"
    path.write_text(json.dumps([{"id": "a", "block_size": 16, "requests": turns}]))
    outcome = run_suite(
        tmp_path, "--server", "sim", f"--sessions={path}", "--point", "users2",
        profile=TALK.replace('sessions = "synthetic"', ""),
    )  # fmt: skip
    assert outcome.code == 0, outcome.out
    assert "1 session (weka), 3 turns" in outcome.out
    assert "sessions_agents_users2" in outcome.out


@pytest.mark.quick
@pytest.mark.parametrize("text", ["users32", "mine_users7"])
def test_a_point_of_users_is_read_by_its_name(text: str) -> None:
    point = Point.parse(text)
    assert str(point) == text
    assert point.users == int(text.rpartition("users")[2])
    assert Point.parse("isl64-osl8-conc2").users == 0


@pytest.mark.quick
def test_users_are_a_keyword_of_their_own() -> None:
    assert rewrite_keyword("users3") == "/users3/"
    assert rewrite_keyword("users3 and not users32") == "/users3/ and not /users32/"


@pytest.mark.quick
@pytest.mark.parametrize(
    "said, points, words",
    [
        ("", ["users4"], "--sessions"),
        ('[workload]\nsessions = "synthetic"', ["isl64-osl8-conc2"], "users"),
        ('[workload]\nsessions = "synthetic"', [], "sweep.users"),
        ('[workload]\nsessions = "synthetic"\n[load]\nrequest_rate = 3', ["users4"], "request_rate"),
        ('[workload]\nsessions = "synthetic"\nramp = "1:2/5s"', ["users4"], "ramp"),
        ('[workload]\nsessions = "synthetic"\n[load]\nprompt_format = "text"', ["users4"], "prompt_format"),
        ('[workload]\nsessions = "synthetic"', ["users4", "users4"], "twice"),
    ],
)
def test_what_users_cannot_have_is_wrong_usage(said: str, points: list[str], words: str, tmp_path: Path) -> None:
    mine = profile(tmp_path, f'base = "demo"\n{said}')
    with pytest.raises(UsageError, match=words):
        selected_points(mine, [Point.parse(point) for point in points])
