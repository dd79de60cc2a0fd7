"""Whole sweeps of several configurations of the simulated server, here and as children."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.support.suite import QUICK, Outcome, run_suite

PROFILE = QUICK.replace("isl = [64, 128]", "isl = [64]").replace("num_prompts = 12", "num_prompts = 4")
SIM = """
[configs.fast]
sim.step_ms = 1.0
[configs.broken]
sim.kv_cache_tokens = 16
[configs.slow]
sim.step_ms = 4.0
"""
LOCAL = f"""
[server]
serve_command = ["{sys.executable}", "-m", "bench_tests.server.simulator", "--model", "{{model}}", "--api-key-env", "VLLM_API_KEY"]
port = 0
[configs.fast]
"--base-ms" = 1
[configs.broken]
"--no-such-flag" = 1
"""


def by_config(got: Outcome) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for name, result in got.results().items():
        assert f"_{result['config']['name']}_" in name
        found.setdefault(result["config"]["name"], []).append(result)
    return found


def test_each_configuration_is_measured_on_a_server_of_its_own_and_none_twice(tmp_path: Path) -> None:
    got = run_suite(tmp_path, "--server", "sim", profile=PROFILE + SIM)
    found = by_config(got)
    assert got.code == 12, got.out
    assert {name: {r["verdict"] for r in results} for name, results in found.items()} == {
        "fast": {"PASSED"}, "broken": {"ERROR"}, "slow": {"PASSED"},
    }  # fmt: skip
    assert len({r["server"]["base_url"] for r in found["fast"]}) == 1
    assert len({r["run_id"] for results in found.values() for r in results}) == 1
    assert {r["seed"] for r in found["fast"]} == {r["seed"] for r in found["slow"]}  # the same prompts
    assert min(r["median_tpot"] for r in found["slow"]) > max(r["median_tpot"] for r in found["fast"])
    assert all("kv_cache_tokens" in r["messages"][0] for r in found["broken"])
    assert all(r["start"]["ready_s"] > 0 for r in found["fast"])
    order = [
        got.out.index(f"  {name}-isl64-osl8-conc{conc}: ") for name in ("fast", "broken", "slow") for conc in (1, 4)
    ]
    assert order == sorted(order)

    # another speed of one of them: that one alone is measured again
    (tmp_path / "quick.toml").write_text(PROFILE + SIM.replace("4.0", "6.0"))
    again = run_suite(
        tmp_path, "--server", "sim", "--resume", "-k", "not broken", profile=PROFILE + SIM.replace("4.0", "6.0")
    )
    assert again.code == 0, again.out
    assert again.out.count("(reused)") >= 2
    now = by_config(again)
    assert [r["date"] for r in now["fast"]] == [r["date"] for r in found["fast"]]
    assert {r["run_id"] for r in now["slow"]}.isdisjoint(r["run_id"] for r in found["slow"])


def test_a_child_that_does_not_start_says_so_with_its_log(tmp_path: Path) -> None:
    got = run_suite(tmp_path, "--server", "local", "-k", "conc1", profile=PROFILE + LOCAL)
    found = by_config(got)
    assert got.code == 12, got.out
    assert [r["verdict"] for r in found["fast"]] == ["PASSED"]
    assert "--no-such-flag" in found["broken"][0]["messages"][0]  # the simulator's own words, from its log
    assert found["broken"][0]["start"] is None


def test_what_does_not_go_with_configurations_is_refused(tmp_path: Path) -> None:
    wrong = {
        ("--config", "fats", "--server", "sim"): "did you mean fast?",
        ("--config", "fast", "--config", "slow", "--base-url", "http://127.0.0.1:1"): "attaches to one server",
        ("--parallel-configs", "2", "--server", "sim"): "--server slurm",
    }
    for args, words in wrong.items():
        got = run_suite(tmp_path, *args, profile=PROFILE + SIM)
        assert got.code == 4, got.out
        assert words in got.out
