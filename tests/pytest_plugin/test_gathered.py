"""A comparison rests on its figures as a verdict on its objectives: what a proxy gathers is neither slower nor faster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench_tests.sim.simulator import SimSpec, Simulator
from tests.support.suite import QUICK, run_suite

pytestmark = pytest.mark.sessions
SPEC = SimSpec(base_ms=8.0, per_seq_us=0.0, prefill_tok_per_s=1e6)
PROFILE = QUICK.replace("max_gathered_share = 1.0\n", "")
ASKED = ("--point", "isl64-osl16-conc2", "--num-prompts", "12", "--repeat", "2", "--slo", "none")


def test_a_stream_that_something_gathers_is_not_compared(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with Simulator(SPEC) as direct, Simulator(replace(SPEC, faults=("coalesce:64",))) as behind:
        first = run_suite(tmp_path, "--base-url", direct.url, f"--save-baseline={kept}", *ASKED, profile=PROFILE)
        assert first.code == 0, first.out
        then = run_suite(tmp_path, "--base-url", behind.url, f"--baseline={kept}", *ASKED, profile=PROFILE)
        assert then.code == 12, then.out
        assert "gathers the stream" in then.out
        assert "regression: " not in then.out
        assert "improvement: " not in then.out
        alone = run_suite(tmp_path, "--base-url", behind.url, *ASKED, profile=PROFILE)
        assert alone.code == 0, alone.out  # nothing is asserted of its times: a note
        volume = PROFILE + '[regression]\nfigures = ["output_throughput"]\n'
        same = run_suite(tmp_path, "--base-url", behind.url, f"--baseline={alone.results_dir}", *ASKED, profile=volume)
        assert "throughput" in same.out, same.out
        assert same.code in (0, 12), same.out  # two runs a side may tell too little
        assert "gathered_stream" not in same.out
        later = run_suite(
            tmp_path, "--base-url", direct.url, f"--baseline={alone.results_dir}", *ASKED, profile=PROFILE
        )
        assert later.code == 4, later.out
        assert "gathered_stream" in later.out
