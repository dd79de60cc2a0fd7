"""What the pictures draw, pinned as data: small cases by hand, whole sweeps against golden files.

After a wanted change: `BENCH_WRITE_GOLDEN=1 pytest tests/plotting/test_data.py`, and look at the difference.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench_tests.results.formats import to_point
from bench_tests.verdict.summary import summarize
from plotting import PointResult, Results, read_folder
from plotting.compare import compare_data, ratio_interval
from plotting.distribution import distribution_data
from plotting.frontier import chosen_tiers, frontier_data
from plotting.group import Group, split
from plotting.heatmap import heatmap_data
from plotting.latency import latency_data
from plotting.lines import lines_data
from plotting.pareto import pareto_data
from plotting.timeline import timeline_data
from tests.support.plotting_examples import PUBLISHED, example_records, example_result, write_sweep

GOLDEN = Path(__file__).parents[1] / "support" / "data" / "golden"


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list | tuple) else value


def same_as_golden(name: str, data: Any) -> None:
    path = GOLDEN / f"{name}.json"
    got = rounded(asdict(data))
    if os.environ.get("BENCH_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(got, indent=1, ensure_ascii=False) + "\n")
    assert got == json.loads(path.read_text())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_folder(write_sweep(tmp_path_factory.mktemp("sweep")))


@pytest.fixture(scope="module")
def glm() -> Group:
    (group,) = split(read_folder(PUBLISHED / "glm-5").points)
    return group


def point(isl: int, conc: int, **changed: Any) -> PointResult:
    return to_point(example_result(isl, conc=conc, **changed), Path("r.json"))


def test_golden_pictures_of_the_example_sweep(sweep: Results) -> None:
    (group,) = split(sweep.points)
    same_as_golden("frontier", frontier_data([group]))
    same_as_golden("lines", lines_data([group]))
    same_as_golden("pareto", pareto_data(group))
    same_as_golden("latency", latency_data(group, 1024))
    same_as_golden("heatmap", heatmap_data(group))


def test_golden_frontier_of_published_results(glm: Group) -> None:
    same_as_golden(
        "frontier-glm5", frontier_data([glm], {"ttft": (1, 2, 3, 5, 10), "tpot": (0.02, 0.035, 0.05, 0.075)})
    )


def test_golden_comparison(sweep: Results, tmp_path: Path) -> None:
    slower = read_folder(write_sweep(tmp_path / "slower", slow=1.25))
    base = replace(sweep, folder=Path("base"))
    same_as_golden("compare", compare_data(base, [slower]))


def test_frontier_takes_the_best_throughput_within_each_tier() -> None:
    points = [
        point(512, 2, p99_ttft=0.4, input_throughput=100.0),
        point(512, 4, p99_ttft=0.9, input_throughput=300.0),
        point(512, 8, p99_ttft=2.5, input_throughput=900.0),
        point(1024, 2, p99_ttft=1.0, input_throughput=200.0),  # at the limit is within it
        point(2048, 2, p99_ttft=9.0, input_throughput=150.0),
    ]
    prefill = frontier_data(split(points), {"ttft": (2.0, 1.0), "tpot": (1.0,)}).rows[0][1]
    assert prefill.isls == (512, 1024, 2048)
    assert [band.limit_s for band in prefill.bands] == [1.0, 2.0]
    assert prefill.bands[0].best == (150.0, 100.0, None)  # per GPU of 2; a gap and no zero where nothing meets it
    assert len(prefill.points) == 5


def test_decode_tiers_name_the_interactivity(sweep: Results) -> None:
    decode = frontier_data(split(sweep.points), {"tpot": (0.02,)}).rows[0][2]
    assert decode.bands[0].label == "≤ 20 ms  (≥ 50 tok/s/user)"


def test_an_invalid_point_is_on_no_frontier() -> None:
    doubted = {"valid": False, "checks": []}
    good, bad = (
        point(512, 2, output_throughput=10.0),
        point(512, 4, output_throughput=999.0, verdict="ERROR", validity=doubted),
    )
    data = frontier_data(split([good, bad]), {"ttft": (100,), "tpot": (100,)})
    assert data.rows[0][2].bands[0].best == (5.0,)
    assert data.rows[0][2].points == ((512, 5.0),)
    assert lines_data(split([good, bad])).rows[0][2].series[1].y == (None,)


def test_a_point_whose_verdict_is_open_is_drawn_and_named() -> None:
    good, left = point(512, 2, output_throughput=10.0), point(512, 4, output_throughput=30.0, verdict="ERROR")
    assert left.raw["validity"]["valid"], "each check held"
    data = frontier_data(split([good, left]), {"ttft": (100,), "tpot": (100,)})
    assert data.rows[0][2].bands[0].best == (15.0,)  # per GPU of 2
    (group,) = split([good, left])
    assert heatmap_data(group).state == (("PASSED",), ("open",))
    assert "the verdicts of 1 open" in group.sample


def test_tiers_without_a_profile_are_three_round_ones() -> None:
    assert chosen_tiers([0.11, 0.4, 0.45, 1.2, 4.1, 6.0, 30.0, 31.0]) == [0.5, 2.0, 7.5]
    assert chosen_tiers([]) == []
    assert chosen_tiers([0.0002]) == [0.0002]


def test_lines_leave_a_gap_where_a_point_is_missing(glm: Group) -> None:
    prefill = lines_data([glm]).rows[0][1]
    series = {line.name: line for line in prefill.series}
    assert list(series) == ["conc 4", "conc 8", "conc 16", "conc 32", "conc 48", "conc 64"]
    assert series["conc 48"].y[prefill.isls.index(10240)] is None
    assert series["conc 16"].y[prefill.isls.index(4096)] == pytest.approx(6580.1532456 / 8)


def test_interactivity_is_one_over_the_median_tpot(glm: Group) -> None:
    data = pareto_data(glm)
    line = next(line for line in data.series if line.order == 4096)
    at = data.levels[data.series.index(line)].index(16)
    assert line.x[at] == pytest.approx(1 / 0.06929355874)
    assert line.y[at] == pytest.approx(205.62978894 / 8)


def test_heat_map_tells_failed_error_and_missing_apart(sweep: Results) -> None:
    (group,) = split(p for p in sweep.points if p.point_id != "isl256-osl24-conc2")
    data = heatmap_data(group)
    assert data.state == (("", "PASSED", "PASSED"), ("PASSED", "PASSED", "FAILED"), ("PASSED", "FAILED", "ERROR"))
    assert data.text[2][2] == ""


def test_distribution_is_the_share_of_completed_requests() -> None:
    records = example_records(n=100, fail=10)
    bare = replace(point(256, 8), metrics={})  # a file that holds no percentiles of its own
    data = distribution_data(bare, records, "t", "c")
    curves = {curve.metric: curve for curve in data.curves}
    assert list(curves) == ["ttft", "tpot", "itl", "e2el"]
    assert curves["ttft"].n == 90
    assert curves["itl"].n == 90 * 23
    assert curves["ttft"].share[-1] == 1.0
    assert all(a <= b for a, b in zip(curves["ttft"].x, curves["ttft"].x[1:], strict=False))
    assert curves["ttft"].p99 == pytest.approx(float(np.percentile(records.ttft_s()[records.completed], 99)))
    assert curves["ttft"].limit == 1.0


def test_timeline_counts_requests_and_tokens() -> None:
    records = example_records(conc=8, n=64, warm=16)
    start = float(records.send_s[16])
    data = timeline_data(replace(point(256, 8), steady=(start + 0.5, start + 2.0)), records, "t", "c")
    assert data is not None
    assert max(data.running) == 8
    assert data.running[-1] == 0
    assert sum(data.arrivals) == 80
    assert sum(data.tok_per_s) * data.bin_s == pytest.approx(80 * 24)
    assert [phase.name for phase in data.phases] == ["warm-up", "steady state", "drain"]
    assert data.phases[0].end_s == 0.0
    assert (data.phases[1].start_s, data.phases[1].end_s) == pytest.approx((0.5, 2.0))
    assert data.phases[2].start_s == pytest.approx(float(records.send_s.max()) - start)


def test_timeline_shows_waves_and_the_end_of_the_start_burst() -> None:
    records = example_records(conc=8, n=64, warm=16)
    data = timeline_data(point(256, 8), records, "t", "c")
    assert data is not None
    measured = np.flatnonzero(records.measured)[:8]
    zero = float(records.send_s[records.measured].min())
    assert data.burst_end_s == pytest.approx(float(records.first_s[measured].max()) - zero)
    assert "in step (independent streams: 35 %), start burst 12 % of requests" in data.waves
    level = [r for r in data.in_step if r is not None]
    assert len(data.in_step) == len(data.bin_start)
    assert all(0 <= r <= 1 for r in level)
    together = replace(records, send_s=np.zeros(80), end_s=np.full(80, 4.0), last_s=np.full(80, 4.0))
    moved = timeline_data(point(256, 8), together, "t", "c")
    assert moved is not None
    assert [r for r in moved.in_step if r is not None] == pytest.approx([1.0] * 120), "all of one phase"
    assert timeline_data(point(256, 1), records, "t", "c").in_step == ()  # type: ignore[union-attr]


def test_timeline_of_nothing_sent_is_none() -> None:
    records = example_records(n=4, warm=0)
    nothing = replace(records, send_s=np.full(4, np.nan))
    assert timeline_data(point(256, 8), nothing, "t", "c") is None


def results(name: str, *points: PointResult) -> Results:
    return Results(Path(name), points)


def test_a_regression_needs_both_the_threshold_and_the_interval() -> None:
    def at(ttft: float, half: float | None) -> PointResult:
        ci = {} if half is None else {"p99_ttft": [ttft - half, ttft + half]}
        return point(256, 8, p99_ttft=ttft, ci95=ci)

    def state(old: PointResult, new: PointResult) -> str:
        data = compare_data(results("a", old), [results("b", new)])
        return next(r.state for r in data.ratios if r.metric == "p99_ttft")

    assert state(at(1.0, 0.01), at(1.2, 0.01)) == "worse"
    assert state(at(1.0, 0.30), at(1.2, 0.30)) == "unknown"  # beyond 5 %, but the intervals leave it open
    assert state(at(1.0, 0.001), at(1.04, 0.001)) == "same"  # apart, but within 5 %
    assert state(at(1.0, None), at(1.2, 0.01)) == "worse?"
    assert state(at(1.0, 0.01), at(0.8, 0.01)) == "better"


def test_an_interval_with_an_open_end_settles_only_the_other_side() -> None:
    old = point(256, 8, p99_ttft=1.0, ci95={"p99_ttft": [0.9, None], "p99_tpot": [None, None]})
    assert old.intervals == {"p99_ttft": (0.9, math.inf)}
    assert ratio_interval(1.0, (0.9, math.inf), 2.0, (1.8, math.inf)) == (0.0, math.inf)
    low, high = ratio_interval(1.0, (0.9, 1.1), 2.0, (1.8, math.inf)) or (0.0, 0.0)
    assert low == pytest.approx(2 / math.exp(math.hypot(math.log(2 / 1.8), math.log(1.1))))
    assert high == math.inf


def test_the_distribution_of_gaps_holds_those_of_zero_and_marks_the_results_own_percentiles() -> None:
    whole = example_records(n=100)
    together = whole.event_s.copy()
    together[1::2] = together[0::2]  # events two by two in one read
    records = replace(whole, event_s=together)
    result = summarize(records, 8)
    data = distribution_data(to_point(example_result(256, conc=8) | result, Path("r.json")), records, "t", "c")
    itl = next(curve for curve in data.curves if curve.metric == "itl")
    assert itl.n == 100 * 23
    assert itl.zero == pytest.approx(12 / 23)
    assert (itl.p50, itl.p99) == (result["median_itl"], result["p99_itl"]) == (0.0, result["p99_itl"])


def test_less_throughput_is_worse() -> None:
    old = [point(256, 8, run=r, output_throughput=v) for r, v in ((1, 100.0), (2, 101.0), (3, 99.0))]
    new = [point(256, 8, run=r, output_throughput=v) for r, v in ((1, 80.0), (2, 81.0), (3, 79.0))]
    data = compare_data(results("a", *old), [results("b", *new)])
    ratio = next(r for r in data.ratios if r.metric == "output_throughput")
    assert ratio.state == "worse"
    assert ratio.ratio == pytest.approx(0.8)
    assert data.regressions == 1


def test_ratio_interval_of_equal_halves() -> None:
    low, high = ratio_interval(1.0, (1 / 1.1, 1.1), 2.0, (2 / 1.1, 2.2)) or (0.0, 0.0)
    half = math.exp(math.sqrt(2) * math.log(1.1))
    assert low == pytest.approx(2 / half)
    assert high == pytest.approx(2 * half)
    assert ratio_interval(1.0, None, 2.0, (1.9, 2.1)) is None


def test_points_of_one_run_alone_are_counted_and_not_compared(glm: Group) -> None:
    base, other = read_folder(PUBLISHED / "glm-5"), read_folder(PUBLISHED / "qwen3.5")
    data = compare_data(base, [other])
    assert (len(data.points), data.unmatched, data.runs, data.base) == (44, 9, ("qwen3.5",), "glm-5")


def of_rate(isl: int, rate: float, **changed: Any) -> PointResult:
    load = {"request_rate": rate, "max_concurrency": None, "point": {"isl": isl, "osl": 24, "rate": rate}}
    settings = {"isl": isl, "osl": 24, "concurrency": None, "request_rate": rate, "start": "staggered"}
    return to_point(example_result(isl, **{**load, "settings": settings, **changed}), Path("r.json"))


def recorded(**changed: Any) -> PointResult:
    trace = {"format": "mooncake", "digest": "ab" * 8, "replayed": "cd" * 8, "requests": 40}
    settings = {"isl": None, "osl": None, "concurrency": None, "request_rate": 12.8205128, "trace": trace}
    load = {"request_rate": 12.8205128, "max_concurrency": None, "point": {"workload": "trace_t"}, "settings": settings}
    return to_point(example_result(**{**load, **changed}), Path("r.json"))


def test_rates_are_one_picture_with_an_axis_of_rates() -> None:
    points = [of_rate(isl, rate) for isl in (512, 1024) for rate in (16.0, 4.0, 8.5)]
    (group,) = split(points)
    assert (group.axis, group.apart) == ("rate (requests/s)", "open loop")
    assert list(group.levels.items()) == [(4.0, "4"), (8.5, "8.5"), (16.0, "16")]
    panel = lines_data([group]).rows[0][1]
    assert [line.name for line in panel.series] == ["4 req/s", "8.5 req/s", "16 req/s"]
    assert all(None not in line.y for line in panel.series)
    assert latency_data(group, 512).loads == heatmap_data(group).loads == ("4", "8.5", "16")
    assert pareto_data(group).loads[0] == ("4 req/s", "8.5 req/s", "16 req/s")


def test_a_trace_is_a_point_without_lengths_and_without_a_rate() -> None:
    point = recorded()
    assert (point.point_id, point.case, point.request_rate) == ("trace_t", point.point, math.inf)
    (group,) = split([point])
    assert group.title.endswith("trace_t, trace mooncake cdcdcdcd · recorded lengths")
    assert heatmap_data(group).loads == ("trace_t",)
    other = {**point.raw["settings"]["trace"], "replayed": "ef" * 8}
    assert len(split([point, recorded(settings={**point.raw["settings"], "trace": other})])) == 2


def test_loads_of_all_kinds_are_compared_each_with_its_like(tmp_path: Path) -> None:
    points = (of_rate(512, 4.0), of_rate(512, 8.0), recorded(), replace(of_rate(512, 8.0), conc=64))
    base = Results(Path("a"), points)
    twice = tuple(replace(p, metrics={k: 2 * v for k, v in p.metrics.items()}) for p in points)
    data = compare_data(base, [Results(Path("b"), twice)])
    assert (len(data.points), data.unmatched) == (4, 0)
    assert len({place.words for place in data.points}) == 4
    assert all(ratio.ratio == pytest.approx(2) for ratio in data.ratios)
    one = compare_data(base, [Results(Path("b"), twice[:1])])
    assert (len(one.points), one.unmatched) == (1, 3)


def test_both_starts_of_a_closed_loop_are_named_beside_each_other() -> None:
    def started(start: str) -> PointResult:
        return point(512, 4, settings={"isl": 512, "osl": 24, "concurrency": 4, "request_rate": "inf", "start": start})

    assert {group.apart for group in split([started("together"), started("staggered")])} == {
        "start together",
        "start staggered",
    }
    assert [group.apart for group in split([started("together")])] == [""]
    assert not any("start" in group.apart for group in split([of_rate(512, 4.0)]))


def test_loads_that_differ_in_how_streams_begin_are_compared_where_that_is_asked() -> None:
    def run(start: str, scale: float) -> Results:
        settings = {"isl": 512, "osl": 24, "concurrency": 4, "request_rate": "inf", "start": start}
        one = point(512, 4, settings=settings)
        return Results(Path(start), (replace(one, metrics={k: scale * v for k, v in one.metrics.items()}),))

    runs = run("together", 3.0), run("staggered", 1.0)
    assert not compare_data(runs[0], runs[1:]).ratios
    data = compare_data(runs[0], runs[1:], any_load=True)
    assert data.unmatched == 0
    assert next(r for r in data.ratios if r.metric == "p99_ttft").ratio == pytest.approx(1 / 3)
    assert "start staggered" in data.captions[1]
