"""`--budget` from outside: sessions that have time, that have none, and what `--resume` makes of those."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.suite import QUICK, run_suite

SLO = '[slo]\np99_ttft = "10s"\np99_tpot = "10s"\n'
PROFILE = QUICK.replace("num_prompts = 12\nnum_warmups = 2", "prompts_per_concurrency = 40\nnum_warmups = 1") + SLO


def test_a_sweep_with_time_settles_each_point_by_fewer_requests(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, "--server", "sim", "--budget", "10m", profile=PROFILE)
    assert outcome.code == 0, outcome.out
    results = outcome.results()
    assert len(results) == 4
    assert all(r["completed"] == 24 for r in results.values())
    assert "4 of 4 points settled" in outcome.out
    assert all("settled by the first" in " ".join(r["messages"]) for r in results.values())


def test_without_time_points_are_left_out_by_name_and_resume_measures_them(tmp_path: Path) -> None:
    slow = PROFILE.replace("step_ms = 1.0", "step_ms = 40.0")
    first = run_suite(tmp_path, "--server", "sim", "--budget", "20s", profile=slow)
    assert first.code == 12, first.out
    assert "left out: " in first.out
    measured = sum(r["verdict"] == "PASSED" for r in first.results().values())
    assert measured < 4
    again = run_suite(tmp_path, "--server", "sim", "--budget", "10m", "--resume", profile=slow)
    assert again.code == 0, again.out
    assert len(again.results()) == 4
    assert again.out.count("(reused)") >= measured


@pytest.mark.parametrize(
    "args", [("--budget", "job"), ("--budget", "soon"), ("--budget", "1h", "--find", "conc"), ("--budget", "")]
)
def test_a_budget_that_means_nothing_is_wrong_usage(tmp_path: Path, args: tuple[str, ...]) -> None:
    outcome = run_suite(tmp_path, "--server", "sim", *args, profile=PROFILE, env={"SLURM_JOB_END_TIME": ""})
    assert outcome.code == 4, outcome.out
    assert "--budget" in outcome.out
