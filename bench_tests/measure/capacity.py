"""Searches for the highest load within the objectives: each probe is a measurement of its own, judged as it runs."""

from __future__ import annotations

import copy
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_tests.compare.capacity import Capacity, Probe, Search
from bench_tests.figures import key_of
from bench_tests.measure.point import Measurement, Sweep, bring_back
from bench_tests.results.write import write_result
from bench_tests.sweep.find import Find
from bench_tests.sweep.point import Point
from bench_tests.verdict.decide import FAILED, PASSED

__all__ = ["capacity_path", "find_capacity", "over_of", "probe_of"]

Measure = Callable[[Sweep, Point, int], Awaitable[Measurement]]
TRIES = 2  # of a load that could not be measured: a client that was starved for a moment is no end of a search
FIGURES = ("p99_ttft", "p99_tpot", "output_throughput", "request_throughput", "duration")


async def find_capacity(sweep: Sweep, find: Find, start: Point, measure: Measure) -> Capacity:
    """Probe load after load until the interval is as narrow as asked, and keep what was found. Raises as `measure` does.

    `start`: any point of the ISL and OSL. A load that could not be measured twice ends the search: nothing is said
    then.
    """
    search, broken = Search(find), "interrupted"
    try:
        broken = await _probed(search, sweep, start, measure)
    finally:  # what was proven until then is kept whatever ends the search
        capacity = Capacity.of(start.isl, start.osl, search, broken, start.config)
        write_result(capacity_path(sweep, start, find), _about(sweep, capacity))
    return capacity


async def _probed(search: Search, sweep: Sweep, start: Point, measure: Measure) -> str:
    """Measure the loads that the search asks for, until it is over. Returns why it was broken off; "" where it was not."""
    find = search.find
    while (load := search.next()) is not None:
        point = replace(find.point(start.isl, start.osl, load), config=start.config)
        mine = copy.copy(sweep)  # the same server, seed and running number of prompts
        mine.profile = find.profile(sweep.profile, point, search.look)
        mine.name_ends = "_look" if search.look else "_probe"
        for run in range(1, TRIES + 1):
            try:
                found = await measure(mine, point, run)
            finally:
                bring_back(sweep, mine)
            probe = probe_of(found, load, search.look)
            if probe is not None:
                break
        if probe is None:
            return f"{find.say(load)} could not be measured: {'; '.join(found.verdict.messages)}"
        search.tell(probe)
    return ""


def probe_of(found: Measurement, load: float, look: bool = False) -> Probe | None:
    """A measurement as the search takes it, `look`: which was to prove nothing; None where it says nothing of the server."""
    result = found.result
    validity = result.get("validity") or {}
    doubted = any(not check.get("ok", True) for check in validity.get("checks", ()))
    word: Any = {PASSED: "within", FAILED: "beyond"}.get(found.verdict.word, "unclear")
    if word == "unclear" and (doubted or not validity.get("checks")):
        return None
    if look:
        word = "looked"
    figures = {name: float(result[name]) for name in FIGURES if isinstance(result.get(name), int | float)}
    return Probe(
        load, word, int(result.get("num_prompts") or 0), float(result.get("duration") or 0.0),
        over_of(result), "; ".join(found.verdict.messages), figures, found.path.name,
    )  # fmt: skip


def over_of(result: Mapping[str, Any]) -> float:
    """How far a result lies beyond its limits, above 0 where it does: an estimate, the worst of its objectives.

    Formula: ln(figure / limit); where a share of the requests decides, of the percentile that is nearest to that share.
    """
    slo = result["slo"]
    attain = slo.get("attain")
    if not attain:
        ratios = [(result.get(key_of(o["metric"])), o["limit"]) for o in slo["objectives"]]
        return max((math.log(value / limit) for value, limit in ratios if value), default=0.0)
    nearest = min((90, 95, 99), key=lambda q: abs(q / 100 - attain))
    ratios = [(result.get(f"p{nearest}_{name}"), limit) for name, limit in slo["limits"].items()]
    over = max((math.log(value / limit) for value, limit in ratios if value), default=0.0)
    attempted = int(result["completed"]) + int(result["failed"])
    beyond = int(result["good_completed"]) < attain * attempted  # requests that failed are in no percentile
    return over if (over > 0) == beyond else math.copysign(1e-3, 1.0 if beyond else -1.0)


def capacity_path(sweep: Sweep, start: Point, find: Find) -> Path:
    """Where the outcome is kept: `capacity/NAME_isl4096_osl128_conc.json` in the results' folder."""
    name = sweep.path(find.point(start.isl, start.osl, find.low), 1).stem
    return (
        sweep.results_dir / "capacity" / f"{name.partition('_isl')[0]}_isl{start.isl}_osl{start.osl}_{find.axis}.json"
    )


def _about(sweep: Sweep, capacity: Capacity) -> dict[str, Any]:
    server = sweep.server_facts()
    objectives = sweep.slo(capacity.find.point(capacity.isl, capacity.osl, capacity.find.low))
    return {
        "run_id": sweep.run_id,
        "profile": sweep.profile.name,
        "server": server,
        **sweep.config_facts(),
        "slo": objectives,
        **capacity.as_dict(),
    }
