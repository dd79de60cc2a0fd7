"""`--find` from outside: searches on a simulated server whose capacity its model gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.suite import QUICK, run_suite

#: a step takes 2 ms + 0.4 ms a sequence, so that TPOT meets 8 ms at 15 sequences
MODEL = """
[slo]
mode = "confident"
max_requests = 600
p50_tpot = "8ms"
[load]
num_warmups = 2
"""
SEARCHED = QUICK.replace("isl = [64, 128]", "isl = [64]").replace("osl = [8]", "osl = [16]").replace(
    "[load]\nnum_prompts = 12\nnum_warmups = 2\n", ""
).replace("step_ms = 1.0", "step_ms = 2.0\nstep_per_seq_us = 400.0\nstep_per_ktoken_us = 0.0\nprefill_tok_per_s = 1e6") + MODEL  # fmt: skip


def capacity(folder: Path) -> dict[str, Any]:
    (file,) = (folder / "capacity").glob("*.json")
    return dict(json.loads(file.read_text()))


def test_a_search_ends_with_an_interval_and_resume_takes_its_probes(tmp_path: Path) -> None:
    args = ("--server", "sim", "--find", "conc", "--between", "4:64")
    outcome = run_suite(tmp_path, *args, profile=SEARCHED)
    assert outcome.code in (0, 12), outcome.out  # a busy machine may decide nothing
    assert "test_capacity" in (outcome.results_dir / "report.json").read_text()
    found = capacity(outcome.results_dir)
    kept = [name.rpartition("_")[2] for name in outcome.results()]
    looks = sum(p["word"] == "looked" for p in found["probes"])
    assert looks
    assert 1 <= len(found["probes"]) - looks <= 8
    assert (kept.count("look"), kept.count("probe")) == (looks, len(found["probes"]) - looks)
    assert found["words"] in outcome.out
    lo, hi = found["within"], found["beyond"]  # the client and the server of a busy machine are slower, never faster
    assert lo is None or lo <= 20  # 2 + 0.4 · 20 ms: 10 ms a step
    assert hi is None or lo is None or hi > lo
    again = run_suite(tmp_path, *args, "--resume", profile=SEARCHED)
    decided = sum(p["word"] != "unclear" for p in found["probes"])
    assert again.out.count("(reused)") >= min(decided, 1)


@pytest.mark.parametrize(
    ("slo", "least", "code", "words"),
    [("p50_tpot<=1us", "4", 1, "conc 4 wanted"), ("p50_tpot<=10s", "4", 0, "at least conc 4")],
)
def test_the_capacity_that_is_wanted_decides_the_exit_code(tmp_path: Path, slo: str, least: str, code: int, words: str) -> None:  # fmt: skip
    args = ("--server", "sim", "--find", "conc", "--between", "1:4", "--min-capacity", least, "--slo", slo)
    outcome = run_suite(tmp_path, *args, profile=SEARCHED)
    assert outcome.code == code, outcome.out
    assert words in outcome.out


def test_failed_requests_count_where_a_share_is_the_criterion(tmp_path: Path) -> None:
    profile = SEARCHED.replace("[sim]", '[sim]\nfaults = ["status_500:0.5"]')
    args = ("--server", "sim", "--find", "conc", "--between", "1:4", "--attain", "90%", "--goodput", "ttft:10s")
    outcome = run_suite(tmp_path, *args, profile=profile)
    assert outcome.code == 1, outcome.out
    assert "goodput" in outcome.out


def test_wrong_usage_is_told_before_the_first_load(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, "--server", "sim", "--find", "rate", "--attain", "99%", profile=SEARCHED)
    assert outcome.code == 4
    assert "no request has a limit" in outcome.out
