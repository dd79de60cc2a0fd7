"""The server's side in whole sessions: what is kept, what is said, and how it is turned off."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from bench_tests.server.metrics import parse_metrics
from tests.support.suite import run_suite

POINT = ("--point=isl64-osl8-conc4", "--server=sim")


def test_what_the_server_said_is_kept_as_it_came_and_told_with_v(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, *POINT, "-v")
    assert outcome.code == 0, outcome.out
    assert "client and network + " in outcome.out
    (result,) = outcome.results().values()
    side = result["server_side"]
    assert side["same_requests"]
    with zipfile.ZipFile(outcome.results_dir / side["raw"]) as packed:
        lines = json.loads(packed.read("samples.json"))
        last = parse_metrics(packed.read(lines[-1]["member"]), "simulated")
    assert len(lines) == side["samples"]
    assert last.histograms["ttft"].count >= 14
    with np.load(outcome.results_dir / side["series"]) as series:
        assert len(series["t_s"]) == side["samples"]
        assert series["t_s"][0] < 0 < series["t_s"][-1]
    quiet = run_suite(tmp_path, *POINT)
    assert "client and network + " not in quiet.out


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, *POINT, "--server-metrics=none")
    assert outcome.code == 0, outcome.out
    assert "are not read (--server-metrics none)" in outcome.out
    (result,) = outcome.results().values()
    assert result["mean_ttft_server"] is None
    assert "raw" not in result["server_side"]


def test_wrong_urls_are_wrong_usage(tmp_path: Path) -> None:
    for value in ("ftp://x", "http://a,http://a", "none,http://a", ""):
        outcome = run_suite(tmp_path, *POINT, f"--server-metrics={value}")
        assert outcome.code == 4, outcome.out
        assert "--server-metrics" in outcome.out


PREEMPTING = """
name = "preempting"
[model]
id = "simulated"
vocab_size = 32000
[sweep]
isl = [512]
osl = [64]
concurrency = [16]
[load]
num_prompts = 64
num_warmups = 0
[sim]
max_model_len = 1024
kv_cache_tokens = 8000
preempt = true
step_ms = 20.0
[slo]
p99_tpot = "10s"
[validity]
max_blur_share = 1.0
max_core_wait = "1s"
max_pause = "10s"
min_concurrency_share = 0.1
"""


def test_a_preemption_is_seen_counted_and_named_as_the_cause(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, "--server=sim", "-v", profile=PREEMPTING)
    assert outcome.code == 0, outcome.out
    (result,) = outcome.results().values()
    assert result["completed"] == 64
    assert result["total_output_tokens"] == 64 * 64
    counted = result["server"]["counted"]
    assert counted["preemptions"] > 0
    assert counted["generation_tokens"] == 64 * 64, "what is computed again is counted once"
    assert counted["prompt_tokens"] == 64 * 512
    side = result["server_side"]
    assert side["same_requests"]
    assert side["peaks"]["waiting"] > 0
    assert any("preempted" in spike["cause"] for spike in side["spikes"]), side["spikes"]
    assert "TTFT spikes: " in outcome.out
    assert "preempted" in side["spike_words"]
