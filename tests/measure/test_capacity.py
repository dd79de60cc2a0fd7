"""A search against a server: what it keeps, also when it is broken off."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench_tests.measure.capacity import find_capacity
from bench_tests.measure.point import Measurement
from bench_tests.sweep.find import Find
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import load_profile
from bench_tests.verdict.decide import Verdict

TRUTH, CHECKED = 40, {"checks": [{"name": "counts", "ok": True}]}


def sweep(folder: Path) -> Any:
    return SimpleNamespace(
        profile=load_profile("demo"), serial=0, vocab_size=0, uncountable=False, results_dir=folder, run_id="r", name_ends="",
        path=lambda point, run: folder / f"demo_isl{point.isl}.json", server_facts=dict, config_facts=dict, slo=lambda point: {},
    )  # fmt: skip


def test_what_was_proven_is_kept_when_a_search_is_interrupted(tmp_path: Path) -> None:
    """Hours of a GPU may lie in it; the outcome says that it was interrupted, and nothing is said of the capacity."""
    asked: list[tuple[int, str]] = []

    async def measure(mine: Any, point: Point, run: int) -> Measurement:
        asked.append((point.conc, mine.profile.slo.mode))
        if len(asked) > 4:
            raise KeyboardInterrupt
        word = "FAILED" if point.conc > TRUTH else "PASSED"
        slo = {"objectives": [{"metric": "p99_ttft", "limit": float(TRUTH)}]}
        result = {"p99_ttft": float(point.conc), "slo": slo, "num_prompts": 40, "validity": CHECKED}
        return Measurement(point, run, result, tmp_path / "probe.json", Verdict(word))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(find_capacity(sweep(tmp_path), Find("conc", 1, 256), Point(1024, 128, 1), measure))
    kept = json.loads(next(tmp_path.glob("capacity/*.json")).read_text())
    assert asked[:3] == [(8, "point"), (64, "point"), (64, "confident")]
    assert kept["beyond"] is not None
    assert kept["why_not"] == "interrupted"
    assert [probe["word"] for probe in kept["probes"]][:3] == ["looked", "looked", "beyond"]


def test_a_tokenizer_that_cannot_be_had_is_known_to_the_next_search(tmp_path: Path) -> None:
    """Each look-up without a network takes the better part of a minute."""
    known: list[bool] = []

    async def measure(mine: Any, point: Point, run: int) -> Measurement:
        known.append(mine.uncountable)
        mine.uncountable = True
        return Measurement(point, run, {}, tmp_path / "probe.json", Verdict("ERROR", ("answers without usage",)))

    ours = sweep(tmp_path)
    for isl in (1024, 2048):
        asyncio.run(find_capacity(ours, Find("conc", 1, 256), Point(isl, 128, 1), measure))
    assert known == [False, True, True, True]
