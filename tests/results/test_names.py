"""A result's name says its point, its server's sizes and its kind of load: no question takes the file of another."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from bench_tests.results.names import gpus_of, parallel_in, result_name
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import load_profile
from bench_tests.sweep.selected import apply_options
from bench_tests.sweep.workload import Workload

POINT = Point(4096, 128, 16)


def name(profile: str = "kimi_k2", point: Point = POINT, run: int = 1, **options: Any) -> str:
    given = {f"--{key.replace('_', '-')}": value for key, value in options.items()}
    return result_name(apply_options(load_profile(profile), given.get), "vllm", point, run)


def test_the_sweeps_own_load_has_the_short_name() -> None:
    assert name() == "kimi_k2_vllm_tp8_isl4096_osl128_conc16"
    assert name("minimax_m2.1") == "minimax_m2.1_vllm_tp4_isl4096_osl128_conc16"
    assert name(run=2) == "kimi_k2_vllm_tp8_isl4096_osl128_conc16_run2"


def test_each_kind_of_load_has_a_name_of_its_own() -> None:
    names = [
        name(),
        name(request_rate=4.0),
        name(request_rate=8.0),
        name(request_rate=8.0, burstiness=0.5),
        name(random_range_ratio=0.2),
        name(random_prefix_len=512),
        name(ignore_eos=False),
        name(point=Point(4096, 128, 0, 8.0)),
    ]
    workloads = [Workload(trace="t"), Workload(trace="t", speed=2.0), Workload(trace="t", window="0:10m"),
                 Workload(trace="t", window="10m:20m"), Workload(ramp="1:5/1m"), Workload(ramp="1:5/1m/5")]  # fmt: skip
    for workload in workloads:
        profile = replace(load_profile("kimi_k2"), workload=workload)
        names.append(result_name(profile, "vllm", Point(0, 0, workload=workload.name)))
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w.-]+", one) for one in names)
    assert names[2] == "kimi_k2_vllm_tp8_isl4096_osl128_conc16_rate8"
    assert names[7] == "kimi_k2_vllm_tp8_isl4096_osl128_rate8"


def test_parallel_sizes_stand_in_the_name_and_are_read_from_it() -> None:
    profile = load_profile("kimi_k2")
    profile = replace(profile, server=replace(profile.server, tensor_parallel=4, pipeline_parallel=2, data_parallel=3))
    made = result_name(profile, "vllm", POINT)
    assert made == "kimi_k2_vllm_tp4_pp2_dp3_isl4096_osl128_conc16"
    assert parallel_in(made) == {"tp": 4, "pp": 2, "dp": 3}
    assert gpus_of(parallel_in(made)) == profile.gpus == 24
