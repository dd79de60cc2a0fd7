"""`bench.load` without a server: what one case has found out, the next one knows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench_tests.errors import NotMeasured
from bench_tests.measure.point import Measurement, Sweep
from bench_tests.pytest_plugin.bench import Bench
from bench_tests.server.attach import AttachedServer, ServedModel
from bench_tests.server.served import Endpoint
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import load_profile
from bench_tests.verdict.decide import Verdict


def test_a_tokenizer_that_cannot_be_had_is_known_to_the_next_case() -> None:
    known: list[bool] = []

    async def measure(mine: Any, point: Point, run: int) -> Measurement:
        known.append(mine.uncountable)
        mine.uncountable = True
        return Measurement(point, run, {}, Path("none.json"), Verdict("ERROR", ("answers without usage",)))

    sweep: Any = SimpleNamespace(profile=load_profile("demo"), serial=0, vocab_size=0, uncountable=False)
    bench = Bench(sweep, measure, lambda point, run: False)
    for isl in (64, 128):
        with pytest.raises(NotMeasured):
            asyncio.run(bench.load(isl=isl, osl=8, conc=1))
    assert known == [False, True]


def test_a_case_of_text_prompts_is_told_which_tokenizer_is_missing(tmp_path: Path) -> None:
    demo = load_profile("demo")
    model = ServedModel("simulated", ("simulated",), None, "1", True)
    sweep = Sweep(demo, AttachedServer(Endpoint("http://127.0.0.1:9"), "--base-url"), model, tmp_path)
    sweep.vocab_size, sweep.uncountable = 1000, True
    point = Point.parse("isl64-osl8-conc1")
    assert asyncio.run(sweep.plan(point, 1)).model.tokenizer == ""
    sweep.profile = replace(demo, load=replace(demo.load, prompt_format="text"))
    assert asyncio.run(sweep.plan(point, 1)).model.tokenizer == (demo.model.tokenizer or "simulated")
