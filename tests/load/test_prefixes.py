"""Prefixes that are shared on purpose: how long, how often, and that the server's cache hits what theory says."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench_tests.errors import UsageError
from bench_tests.load.prompts import group_of, prompt_ids
from bench_tests.load.requests import RequestFile
from bench_tests.sweep.prefix import Prefix, prefix_table
from bench_tests.sweep.profile import load_profile
from bench_tests.sweep.selected import selected_points
from bench_tests.sweep.workload import Workload
from tests.support.plans import make_plan
from tests.support.suite import QUICK, run_suite

SHARED = QUICK.replace("[load]", "[load]\nprefix = {groups = 3, tokens = 160, zipf = 1.0}").replace(
    "isl = [64, 128]", "isl = [64]"
)


def test_prompts_of_a_group_share_its_prefix_and_nothing_else() -> None:
    plan = make_plan("http://x", prefix={"groups": 4, "tokens": 48}, num_prompts=200)
    prefix = Prefix(**plan.load.prefix)
    by_group: dict[int, list[np.ndarray]] = {}
    for serial in range(200):
        ids = prompt_ids(plan, 30_000, serial, 64)
        assert len(ids) == 48 + 64
        by_group.setdefault(group_of(plan, prefix, serial), []).append(ids)
    assert set(by_group) == {0, 1, 2, 3}
    heads = {tuple(ids[:48].tolist()) for of in by_group.values() for ids in of}
    assert len(heads) == 4
    assert len({int(ids[48]) for of in by_group.values() for ids in of}) == 200


@pytest.mark.parametrize("order", ["shuffled", "grouped", "turns"])
def test_groups_come_by_zipf_and_order(order: str) -> None:
    plan = make_plan("http://x", prefix={"groups": 4, "tokens": 16, "zipf": 1.0, "order": order}, num_prompts=4000)
    drawn = [group_of(plan, Prefix(**plan.load.prefix), serial) for serial in range(4000)]
    counts = [Counter(drawn)[g] / 4000 for g in range(4)]
    want = [0.25] * 4 if order == "turns" else [1 / k / (1 + 1 / 2 + 1 / 3 + 1 / 4) for k in (1, 2, 3, 4)]
    assert counts == pytest.approx(want, abs=0.03)
    assert (sorted(drawn) == drawn) is (order == "grouped")


def test_hit_is_a_share_of_the_isl_in_whole_blocks() -> None:
    prefix = Prefix(hit=0.6)
    assert (prefix.length(1000), prefix.own(1000), prefix.hit_tokens(1000), prefix.count) == (592, 408, 592, 1)
    assert (Prefix(groups=2, tokens=100).hit_tokens(64), Prefix(groups=2, tokens=100).own(64)) == (96, 64)
    assert not Prefix().used


@pytest.mark.parametrize(
    "value",
    [
        5,
        {"group": 3},
        {"tokens": 5, "hit": 0.5},
        {"groups": 4},
        {"hit": 1.5},
        {"tokens": -1},
        {"order": "x", "tokens": 1},
    ],
)
def test_what_is_no_prefix_is_told(value: object) -> None:
    with pytest.raises(UsageError, match=r"load\.prefix"):
        prefix_table(value, "load.prefix")


def test_prompts_of_a_file_begin_with_no_prefix() -> None:
    base = load_profile("demo")
    with_prefix = replace(base, load=replace(base.load, prefix={"tokens": 64}))
    selected_points(with_prefix, None)
    for workload in (Workload(trace="t.jsonl"), Workload(dataset="d.jsonl")):
        with pytest.raises(UsageError, match=r"load\.prefix"):
            selected_points(replace(with_prefix, workload=workload), None)


def test_each_model_has_each_prefix_in_its_cache() -> None:
    files = RequestFile(make_plan("http://x", prefix={"groups": 3, "tokens": 48}, models={"a": 1.0, "b": 1.0}))
    try:
        bodies = [os.pread(files.fileno, one.size, one.offset).partition(b"\r\n\r\n")[2] for one in files.primes]
    finally:
        files.close()
    said = [json.loads(body) for body in bodies]
    assert len({(one["model"], tuple(one["prompt"])) for one in said}) == len(said) == 6
    assert {one["model"] for one in said} == {"a", "b"}
    assert all(one["max_tokens"] == 1 for one in said)


def test_a_sweep_with_shared_prefixes_hits_what_it_must(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "--server=sim", profile=SHARED)
    assert done.code == 0, done.out
    for result in done.results().values():
        checks = {check["name"]: check for check in result["validity"]["checks"]}
        assert checks["prefix_hits"]["figure"] == pytest.approx(1, abs=1e-9)
        assert checks["prefix_cache"]["ok"]
        assert result["settings"]["prefix"] == {"groups": 3, "tokens": 160, "zipf": 1.0}


def test_a_block_size_that_is_not_the_servers_is_an_ERROR(tmp_path: Path) -> None:
    other = SHARED.replace("tokens = 160", "tokens = 160, block = 128").replace(
        "concurrency = [1, 4]", "concurrency = [4]"
    )
    done = run_suite(tmp_path, "--server=sim", profile=other)
    assert done.code == 12, done.out
    assert "prefix cache hit 125.0%" in done.out
