"""Joules and prices by token, their objectives, and a session whose GPUs' power stands in a file."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from bench_tests.errors import UsageError
from bench_tests.measure.economy import economy
from bench_tests.server.power import PowerReading
from bench_tests.server.power_files import Samples
from bench_tests.sweep.cost import Cost, Power
from bench_tests.sweep.slo import Objective, parse_objectives, parse_slo_table
from bench_tests.verdict.decide import decide
from tests.support.make_records import records
from tests.support.suite import QUICK, run_suite

ZERO = 1_790_000_000.0
# ten seconds, ten requests with 10 input and 5 output tokens each
RUN = records([float(t) for t in range(10)], [[t + 0.2, t + 0.4, t + 0.6, t + 0.8, t + 1.0] for t in range(10)])


def reading(seconds: range = range(-5, 20), watts: float = 400.0) -> PowerReading:
    found = Samples()
    for t in seconds:
        found.add("GPU 0", (ZERO + t, 1e6 + t * watts, watts))
    return PowerReading(found, ZERO + 20)


def test_joules_and_prices_by_token() -> None:
    found = economy(RUN, 1, ZERO, Power("nvml"), reading(), Cost(3.60, "EUR"), 1)
    figures = found.figures
    assert figures["energy_j"] == pytest.approx(4000, rel=1e-3)
    assert figures["avg_power_w"] == pytest.approx(400, rel=1e-3)
    assert figures["j_per_output_token"] == pytest.approx(4000 / 50, rel=1e-3)
    assert figures["j_per_input_token"] == pytest.approx(4000 / 100, rel=1e-3)
    assert figures["j_per_total_token"] == pytest.approx(4000 / 150, rel=1e-3)
    # 5 output tokens a second: 18,000 an hour for 3.60
    assert figures["cost_per_million_output"] == pytest.approx(3.60 / 18_000 * 1e6)
    assert figures["cost_per_million_input"] == pytest.approx(3.60 / 36_000 * 1e6)
    assert figures["cost_per_million_total"] == pytest.approx(3.60 / 54_000 * 1e6)
    assert found.power["power_valid"]
    assert [check.ok for check in found.checks] == [True]


def test_without_power_and_price_nothing_is_known() -> None:
    found = economy(RUN, 1, ZERO, Power(), None, Cost(), 1)
    assert set(found.figures.values()) == {None}
    assert (found.power, found.checks) == ({}, ())
    unknown = economy(RUN, 1, ZERO, Power(), None, Cost(3.60), None)
    assert set(unknown.figures.values()) == {None}, "a price of unknown GPUs"


def test_energy_that_is_not_known_is_an_error_where_it_is_asserted() -> None:
    bad = reading(range(5))
    found = economy(RUN, 1, ZERO, Power("nvml"), bad, Cost(), 1)
    assert found.figures["energy_j"] is None
    assert "its samples end" in found.power["power_invalid_reasons"][0]
    assert [(check.made, check.ok) for check in found.checks] == [(False, True)]
    asserted = [Objective("j_per_output_token", 0.9)]
    found = economy(RUN, 1, ZERO, Power("nvml"), bad, Cost(), 1, asserted)
    assert [(check.made, check.ok) for check in found.checks] == [(True, False)]
    assert decide(RUN, asserted, "point", found.checks, figures=found.figures).word == "ERROR"


# ---- objectives


def test_objectives_on_them() -> None:
    limits = parse_objectives("j_per_output_token<=0.9,cost_per_million_output<=2.5,avg_power_w<=700W,p99_ttft<=2s")
    assert limits == {"j_per_output_token": 0.9, "cost_per_million_output": 2.5, "avg_power_w": 700.0, "p99_ttft": 2.0}
    table = parse_slo_table({"j_per_output_token": 0.9, "j_per_total_token": "0.1 J", "p99_ttft": "2s"}, "p.toml")
    assert table.limits_s == {"j_per_output_token": 0.9, "j_per_total_token": 0.1, "p99_ttft": 2.0}
    assert str(Objective("j_per_output_token", 0.9)) == "energy an output token ≤ 0.9 J"
    for wrong in ("j_per_output_token<=2s", "j_per_output_token<=0", "j_per_output_token<=nan", "j_per_token<=1"):
        with pytest.raises(UsageError) as why:
            parse_objectives(wrong)
        assert "\n" not in str(why.value)


@pytest.mark.parametrize(
    "value, word, words",
    [
        (0.95, "FAILED", "energy an output token 0.95 J > 0.9 J (+6 %)"),
        (0.81, "PASSED", "energy an output token 0.81 J ≤ 0.9 J (-10 %)"),
        (None, "ERROR", "not known"),
    ],
)
def test_a_verdict_on_a_figure_of_the_run(value: float | None, word: str, words: str) -> None:
    for mode in ("point", "confident"):
        verdict = decide(RUN, [Objective("j_per_output_token", 0.9)], mode, [], figures={"j_per_output_token": value})
        assert verdict.word == word
        assert words in verdict.messages[0]


# ---- a session

SESSION = (
    QUICK
    + """
[server]
gpus = 2
[power]
source = "csv"
file = "{file}"
[cost]
gpu_hour = 2.10
currency = "EUR"
"""
)


def nvidia_smi(path: Path, gpus: int, done: threading.Event) -> None:
    """As `nvidia-smi -l 1` writes for GPUs of 500 W; four times as often."""
    with path.open("w") as out:
        out.write("timestamp, index, power.draw [W]\n")
        while not done.is_set():
            now = datetime.fromtimestamp(time.time()).strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]
            out.writelines(f"{now}, {gpu}, 500.00 W\n" for gpu in range(gpus))
            out.flush()
            done.wait(0.25)


@pytest.mark.parametrize("gpus", [2, 1])
def test_a_points_energy_and_price_are_in_its_result(tmp_path: Path, gpus: int) -> None:
    file, done = tmp_path / "power.csv", threading.Event()
    writer = threading.Thread(target=nvidia_smi, args=(file, gpus, done))
    writer.start()
    try:
        slo = "--slo=j_per_output_token<=100,cost_per_million_output<=1000"
        outcome = run_suite(
            tmp_path, "--point=isl64-osl8-conc4", "--server=sim", slo, profile=SESSION.format(file=file)
        )
    finally:
        done.set()
        writer.join()
    (result,) = outcome.results().values()
    power = result["power"]
    assert result["cost_per_million_output"] == pytest.approx(2 * 2.10 / (result["output_throughput"] * 3600) * 1e6)
    if gpus == 1:
        assert outcome.code == 12, outcome.out
        assert "a GPU is missing" in outcome.out
        assert result["energy_j"] is None
        return
    assert outcome.code == 0, outcome.out
    assert power["power_valid"], power
    assert result["avg_power_w"] == pytest.approx(1000.0, rel=1e-3)
    assert result["energy_j"] == pytest.approx(1000.0 * result["duration"], rel=1e-3)
    assert result["j_per_output_token"] == pytest.approx(1000.0 / result["output_throughput"], rel=1e-3)
    assert "J/out tok" in outcome.out
    assert "EUR/Mtok" in outcome.out
    assert (outcome.results_dir / power["raw"]).read_text().startswith("timestamp, index, power.draw [W]\n")
