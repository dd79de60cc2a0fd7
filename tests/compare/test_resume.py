"""What --resume keeps of an earlier session, and which prompts it does not send again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench_tests.compare.resume import answer_of, prompts_drawn
from bench_tests.sim.simulator import Simulator
from bench_tests.sim.spec import SimSpec
from tests.support.suite import run_suite

ASKED: dict[str, Any] = {
    "server": {"kind": "attach", "base_url": "http://a:1", "model": "m", "gpus": 8},
    "settings": {"isl": 8, "num_prompts": 40, "num_warmups": 8},
    "slo": {"mode": "point", "objectives": []},
}


def keep(folder: Path, **changes: Any) -> Path:
    path = folder / "one.json"
    result = {
        "completed": 40,
        "verdict": "PASSED",
        "client": {"job_id": "7"},
        "output_throughput": 1.0,
        **ASKED,
        **changes,
    }
    result["point"] = {"isl": 8, "osl": 8, "conc": 4}
    path.write_text(json.dumps(result))
    return path


def test_an_answer_to_the_same_question_is_kept(tmp_path: Path) -> None:
    assert answer_of(keep(tmp_path), ASKED) is not None
    assert answer_of(tmp_path / "none.json", ASKED) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "ERROR"},
        {"verdict": None},
        {"settings": {**ASKED["settings"], "num_prompts": 41}},
        {"settings": {**ASKED["settings"], "request_rate": 8.0}},
        {"slo": {"mode": "confident", "objectives": []}},
        {"server": {**ASKED["server"], "gpus": 4}},
        {"server": {**ASKED["server"], "base_url": "http://b:1"}},
        {"server": {**ASKED["server"], "kind": "local"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_answer_to_another_question_is_not(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert answer_of(keep(tmp_path, **changes), ASKED) is None


def test_a_server_that_is_started_for_the_sweep_has_another_url_each_time(tmp_path: Path) -> None:
    for kind in ("local", "slurm"):
        now = {**ASKED, "server": {**ASKED["server"], "kind": kind}}
        before = keep(tmp_path, server={**now["server"], "base_url": "http://another:9"})
        assert answer_of(before, now) is not None


def test_a_requeued_job_keeps_what_it_has_measured_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keep(tmp_path)
    monkeypatch.setenv("BENCH_RESUME_JOB", "7")
    assert answer_of(path, ASKED) is not None
    monkeypatch.setenv("BENCH_RESUME_JOB", "8")
    assert answer_of(path, ASKED) is None
    assert answer_of(keep(tmp_path, client=None), ASKED) is None


def test_prompts_of_the_same_seed_are_counted(tmp_path: Path) -> None:
    assert prompts_drawn(tmp_path / "none", 7) == 0
    keep(tmp_path, seed=7, first_serial=100)
    assert prompts_drawn(tmp_path, 7) == 148
    assert prompts_drawn(tmp_path, 8) == 0
    for concurrency, drawn in ((4, 160), (None, 148)):
        keep(
            tmp_path,
            seed=7,
            first_serial=100,
            settings={**ASKED["settings"], "start": "staggered", "concurrency": concurrency},
        )
        assert prompts_drawn(tmp_path, 7) == drawn, "a rate fills no loop"
    keep(tmp_path, seed=7, first_serial="100")
    (tmp_path / "half.json").write_text('{"completed": ')
    assert prompts_drawn(tmp_path, 7) == 0


def test_a_sweep_that_goes_on_with_its_seed_sends_new_prompts(tmp_path: Path) -> None:
    spec = SimSpec(prefill_tok_per_s=1e6, base_ms=1.0, prefix_caching=True)
    with Simulator(spec) as caching:
        args = ["--base-url", caching.url, "--seed", "3", "--resume"]
        assert run_suite(tmp_path, *args, "-k", "isl64").code == 0
        rest = run_suite(tmp_path, *args)
    assert rest.code == 0, rest.out  # isl128 would begin with isl64's prompts, which are in the cache
    assert rest.out.count("PASSED (reused)") >= 2
