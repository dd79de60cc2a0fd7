"""Loads that are mixed: several models by weight, and requests that are cancelled on purpose."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from bench_tests.errors import UsageError
from bench_tests.load.mix import cancel_after_s, model_of
from bench_tests.load.records import COMPLETED, WITHDRAWN
from bench_tests.load.team import run_load
from bench_tests.sim.simulator import SimSpec, Simulator
from bench_tests.sweep.mix import cancel_table, models_table
from tests.support.plans import make_plan
from tests.support.suite import QUICK, run_suite


def test_models_and_cancellations_are_drawn_by_their_weights() -> None:
    plan = make_plan("http://x", models={"a": 7.0, "b": 3.0}, cancel={"share": 0.2, "after": 1.5})
    drawn = Counter(model_of(plan, serial) for serial in range(5000))
    assert drawn["a"] / 5000 == pytest.approx(0.7, abs=0.02)
    waits = Counter(cancel_after_s(plan, serial) for serial in range(5000))
    assert set(waits) == {0.0, 1.5}
    assert waits[1.5] / 5000 == pytest.approx(0.2, abs=0.02)
    assert model_of(make_plan("http://x"), 3) == "simulated"


@pytest.mark.parametrize("value", [5, {"a": 0}, {"a": "x"}, {" ": 1}])
def test_what_are_no_models(value: object) -> None:
    with pytest.raises(UsageError, match=r"load\.models"):
        models_table(value, "load.models")


@pytest.mark.parametrize(
    "value", [5, {"share": 0.1}, {"share": 0, "after": "1s"}, {"share": 0.5, "after": "x"}, {"a": 1}]
)
def test_what_is_no_cancellation(value: object) -> None:
    with pytest.raises(UsageError, match=r"load\.cancel"):
        cancel_table(value, "load.cancel")


def test_a_cancelled_request_ends_on_the_server_and_is_neither_completed_nor_failed() -> None:
    with Simulator(SimSpec(mode="paced", ttft_ms=20, gap_ms=40)) as sim:
        plan = make_plan(sim.url, osl=50, conc=4, num_prompts=24, cancel={"share": 0.5, "after": 0.3})
        records = asyncio.run(run_load(plan)).records
    meant = [bool(cancel_after_s(plan, serial)) for serial in range(24)]
    by_number = dict(zip(records.number.tolist(), records.kind.tolist(), strict=True))
    assert [by_number[i] for i in range(24)] == [WITHDRAWN if left else COMPLETED for left in meant]
    assert 0 < sum(meant) < 24


def test_a_sweep_over_models_with_cancellations(tmp_path: Path) -> None:
    mixed = QUICK.replace(
        "[load]", '[load]\nmodels = {simulated = 1, other = 1}\ncancel = {share = 0.3, after = "100ms"}'
    )
    mixed = mixed.replace("num_prompts = 12", "num_prompts = 30").replace("concurrency = [1, 4]", "concurrency = [4]")
    mixed = mixed.replace("isl = [64, 128]", "isl = [64]").replace("osl = [8]", "osl = [200]")
    done = run_suite(tmp_path, "--server=sim", profile=mixed)
    [result] = done.results().values()
    # the simulated server serves one model: requests for the other are failures, of that model alone
    assert done.code == 12, done.out
    assert result["by_model"]["simulated"]["failed"] == 0
    assert result["by_model"]["other"]["completed"] == 0
    assert result["by_model"]["other"]["failed"] > 0
    assert result["cancelled_on_purpose"] > 0
    assert result["completed"] + result["failed"] + result["cancelled_on_purpose"] == 30
