"""`--against` from outside: two simulated servers side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench_tests.sim.simulator import SimSpec, Simulator
from tests.support.suite import QUICK, run_suite

PROFILE = QUICK.replace("isl = [64, 128]", "isl = [64]").replace(
    "num_prompts = 12", 'num_prompts = 24\nstart = "staggered"'
)


@pytest.fixture(scope="module")
def a() -> Iterator[Simulator]:
    with Simulator(SimSpec(base_ms=10.0, per_seq_us=1.0, prefill_tok_per_s=1e6)) as simulator:
        yield simulator


@pytest.mark.parametrize(("base_ms", "code", "word"), [(10.0, 0, "not slower"), (13.0, 1, "slower by")])
def test_a_slower_server_is_found_and_an_equal_one_is_not(tmp_path: Path, a: Simulator, base_ms: float, code: int, word: str) -> None:  # fmt: skip
    with Simulator(SimSpec(base_ms=base_ms, per_seq_us=1.0, prefill_tok_per_s=1e6)) as b:
        outcome = run_suite(tmp_path, "--base-url", a.url, "--against", b.url, "--repeat", "3", profile=PROFILE)
    assert outcome.code in {code, 12 if code == 0 else code}, outcome.out  # a busy machine may hide what is equal
    assert "| point" in outcome.out
    assert "B/A" in outcome.out
    if code:
        assert word in outcome.out
        assert "test_sweep_as_a_whole" in outcome.out
    here = outcome.results()
    there = {f.stem: json.loads(f.read_text()) for f in (outcome.results_dir / "against").glob("*.json")}
    assert set(here) == set(there), "both sides' results have the same names"
    assert len(here) == 2 * 6
    for name, result in here.items():
        other = there[name]
        assert other["first_serial"] == result["first_serial"], "runs of one number are of the same prompts"
        assert other["seed"] == result["seed"]
        assert other["run_id"] == result["run_id"]
        assert other["server"]["base_url"] == b.url
    dates = sorted([r["date"], side, r["run"]] for side, rs in (("A", here), ("B", there)) for r in rs.values() if r["point"]["conc"] == 4)  # fmt: skip
    assert len(dates) == 12


def test_one_server_can_be_held_against_itself(tmp_path: Path, a: Simulator) -> None:
    """The two sides' prompts have salts of their own: no cache answers one side from the other's."""
    outcome = run_suite(
        tmp_path, "--base-url", a.url, "--against", a.url, "--point", "isl512-osl8-conc2", profile=PROFILE
    )
    assert "prefix cache" not in outcome.out
    assert outcome.code in (0, 12), outcome.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--against", "nowhere://x"), "--against"),
        (("--against", "http://127.0.0.1:9", "--baseline", "results"), "one question at a time"),
        (("--against", "http://127.0.0.1:9", "--find", "conc"), "one question at a time"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, a: Simulator, args: tuple[str, ...], words: str) -> None:
    (tmp_path / "results").mkdir()
    args = tuple(str(tmp_path / arg) if arg == "results" else arg for arg in args)
    outcome = run_suite(tmp_path, "--base-url", a.url, *args, profile=PROFILE)
    assert outcome.code == 4, outcome.out
    assert words in outcome.out


def test_a_second_server_that_is_not_there_is_no_server(tmp_path: Path, a: Simulator) -> None:
    outcome = run_suite(tmp_path, "--base-url", a.url, "--against", "http://127.0.0.1:9", profile=PROFILE)
    assert outcome.code == 13, outcome.out
