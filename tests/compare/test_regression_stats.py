"""Comparing sweeps: Holm by hand, no alarm when nothing changed, what must be found, and the weaker rules."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench_tests.compare.pooled import add_variances, hommel, moderate, prior_df, trend, weighted_holm
from bench_tests.compare.regression import SweepComparison, compare_sweeps
from bench_tests.compare.samples import (
    METRICS,
    Origin,
    PointRuns,
    RunSample,
    log_figure,
    sample_of_records,
    sample_of_summary,
)
from bench_tests.load.records import Records
from benchmarks._simulated_sweeps import KIMI_K2, Effect, Noise, sweep

SMALL = KIMI_K2[:12]
USUAL = Noise()


def pair(
    seed: int, effect: Effect, runs: int = 3, noise: Noise = USUAL, base_runs: int | None = None
) -> SweepComparison:
    """Now and then on one start of the server: nothing between them but rounds."""
    rng = np.random.default_rng(seed)
    now = of_start("one", "now", sweep(rng, noise, runs, SMALL, effect))
    return compare_sweeps(now, of_start("one", "then", sweep(rng, noise, base_runs or runs, SMALL)))


def of_start(start: str, session: str, points: list[PointRuns], day: float = 0.0, **facts: Any) -> list[PointRuns]:
    """The same runs as of a start of the server and a session."""
    origin = Origin(session, start, day, **facts)
    return [PointRuns(p.key, [replace(run, origin=origin) for run in p.runs]) for p in points]


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .5, times 4 3 2 1 = .04 .06 .06 .5
    assert weighted_holm(np.array([0.03, 0.01, 0.5, 0.02]), np.ones(4)) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    # weights 1 and 1/4: .01·1.25 = .0125; then .02/.25·.25 = .02
    assert weighted_holm(np.array([0.01, 0.02]), np.array([1.0, 0.25])) == pytest.approx([0.0125, 0.02])
    assert weighted_holm(np.array([0.9, 0.8]), np.ones(2)) == pytest.approx([1.0, 1.0])
    assert len(weighted_holm(np.empty(0), np.empty(0))) == 0


def test_hommel_by_hand() -> None:
    # two questions that agree pay nothing; alone one pays for two
    assert hommel(np.array([0.01, 0.01])) == pytest.approx([0.01, 0.01])
    assert hommel(np.array([0.01, 0.9])) == pytest.approx([0.02, 0.9])
    # it is the closed test of Simes': the largest p of all sets of questions that hold this one
    rng = np.random.default_rng(8)
    for n in (2, 3, 4, 5):
        p = rng.random(n) ** 3
        sets = [np.flatnonzero([k >> i & 1 for i in range(n)]) for k in range(1, 2**n)]
        simes = [float(np.min(np.sort(p[of]) * len(of) / np.arange(1, len(of) + 1))) for of in sets]
        closed = [max(value for of, value in zip(sets, simes, strict=True) if i in of) for i in range(n)]
        assert hommel(p) == pytest.approx(closed)


def test_variances_add_with_their_degrees_of_freedom() -> None:
    assert add_variances([(2.0, 4.0), (2.0, 4.0)]) == pytest.approx((4.0, 8.0))
    assert add_variances([(4.0, 5.0), (0.0, 1.0)]) == pytest.approx((4.0, 5.0))


def test_variances_are_pooled() -> None:
    rng = np.random.default_rng(1)
    df, ones = np.full(200, 4.0), np.ones(200)
    alike = 0.04 * rng.chisquare(4, 200) / 4
    fit = trend(alike, df, ones, ones)
    assert fit == pytest.approx(np.full(200, 0.04), rel=0.2)
    assert 20 < prior_df(alike, df, fit) <= 200  # never taken for certain
    unlike = alike * rng.choice([0.2, 1.0, 5.0], 200)
    d0 = prior_df(unlike, df, trend(unlike, df, ones, ones))
    assert d0 < 6
    assert moderate(np.array([1.0]), np.array([4.0]), np.array([0.5]), 4.0) == pytest.approx([0.75])


def test_noise_follows_the_concurrency_and_the_input_length() -> None:
    rng = np.random.default_rng(2)
    level, size = np.tile([4.0, 8, 16, 32, 64], 40), np.repeat([1024.0, 2048, 4096, 8192], 50)
    true = 0.001 * level**-0.7 * size**0.4
    s2 = true * rng.chisquare(4, 200) / 4
    assert np.log(trend(s2, np.full(200, 4.0), level, size) / true) == pytest.approx(np.zeros(200), abs=0.4)


@pytest.mark.parametrize("q, metric", [(0.5, "median_ttft"), (0.99, "p99_ttft")])
def test_sampling_variance_is_that_of_repeated_runs(q: float, metric: str) -> None:
    rng = np.random.default_rng(3)
    got = [log_figure(RunSample(rng.lognormal(0, 0.4, 640), None), METRICS[metric]) for _ in range(400)]
    figures, variances = np.array(got).T
    assert np.mean(variances) == pytest.approx(np.var(figures), rel=0.3)
    values = rng.lognormal(0, 0.4, 640)
    assert log_figure(RunSample(values), METRICS[metric])[0] == pytest.approx(math.log(np.quantile(values, q)))


def test_no_alarm_when_nothing_changed() -> None:
    alarms = [pair(seed, Effect()).regressions for seed in range(25)]
    assert sum(map(bool, alarms)) <= 1


def test_a_slower_point_is_named_and_no_other() -> None:
    slow = SMALL[7].key
    got = pair(1, Effect(tpot=1.2, point=slow))
    assert {change.point for change in got.regressions} == {slow}
    change = next(c for c in got.of(slow) if c.metric == "mean_tpot")
    assert change.verdict == "regression"
    assert change.low < 1.2 < change.high
    assert change.ratio == pytest.approx(change.current / change.baseline)
    assert change.p_adjusted <= 0.02
    assert not change.weak
    assert change.runs == (3, 3)


def test_improvements_mirror_regressions() -> None:
    rng = np.random.default_rng(4)
    now, then = sweep(rng, Noise(), 3, SMALL, Effect(tpot=1.2)), sweep(rng, Noise(), 3, SMALL)
    worse, better = compare_sweeps(now, then), compare_sweeps(then, now)
    assert {(c.point, c.metric) for c in worse.regressions} == {(c.point, c.metric) for c in better.improvements}
    assert not worse.improvements
    assert worse.regressions[0].ratio == pytest.approx(1 / better.improvements[0].ratio)


def test_a_lower_throughput_is_the_regression() -> None:
    def at(rate: float) -> list[PointRuns]:
        return [PointRuns(k, [RunSample(output_throughput=rate * (1 + 0.001 * r), ttft_s=None, tpot_s=np.ones(40))
                              for r in range(3)]) for k in range(4)]  # fmt: skip

    assert {c.metric for c in compare_sweeps(at(80), at(100)).regressions} == {"output_throughput"}
    assert {c.metric for c in compare_sweeps(at(100), at(80)).improvements} == {"output_throughput"}


def test_a_significant_change_within_the_factor_is_no_regression() -> None:
    quiet = Noise(0.001, 0.001, 0.001, request_ttft=0.001, request_tpot=0.001)
    got = pair(5, Effect(tpot=1.03), noise=quiet)
    tpot = [c for c in got.changes if c.metric == "mean_tpot"]
    assert len(tpot) == len(SMALL)
    assert not any(c.verdict == "regression" for c in tpot)
    assert next(c for c in got.overall if c.metric == "mean_tpot").verdict == "regression"


def test_a_small_shift_of_the_whole_sweep_is_found_by_the_sweep() -> None:
    found = [pair(seed, Effect(tpot=1.04)).overall for seed in range(10)]
    named = [{c.metric for c in overall if c.verdict == "regression"} for overall in found]
    assert sum("mean_tpot" in names for names in named) >= 9
    assert {c.point for overall in found for c in overall} == {None}


def test_one_point_far_off_is_no_shift_of_the_sweep() -> None:
    got = [pair(seed, Effect(tpot=3.0, point=SMALL[5].key)) for seed in range(5)]
    assert all({c.point for c in one.regressions} == {SMALL[5].key} for one in got)


def test_noise_that_a_whole_run_shares_raises_no_alarm() -> None:
    noise = Noise(shared_ttft=0.3, shared_tpot=0.1)
    assert sum(bool(pair(seed, Effect(), noise=noise).regressions) for seed in range(25)) <= 2


def test_single_runs_follow_a_weaker_rule_and_say_so() -> None:
    got = pair(6, Effect(tpot=1.5, point=SMALL[3].key), runs=1)
    assert {c.point for c in got.regressions} == {SMALL[3].key}
    assert all(c.weak and c.rule == "single runs" for c in got.changes)
    assert "assumed" in " ".join(got.notes)
    assert sum(bool(pair(seed, Effect(), runs=1).regressions) for seed in range(25)) <= 2


def test_several_runs_against_one_baseline_run() -> None:
    got = pair(7, Effect(tpot=1.6, point=SMALL[3].key), runs=3, base_runs=1)
    assert {c.point for c in got.regressions} == {SMALL[3].key}
    assert got.changes[0].runs == (3, 1)


def older(points: list[PointRuns]) -> list[PointRuns]:
    """The same runs as files of the older client give them: summary figures and n, the requests unknown."""
    got = []
    for point in points:
        runs = []
        for run in point.runs:
            assert run.ttft_s is not None
            assert run.tpot_s is not None
            summary = {"output_throughput": run.output_throughput or math.nan}
            for name, values in (("ttft", run.ttft_s), ("tpot", run.tpot_s)):
                summary |= {f"p99_{name}": float(np.quantile(values, 0.99)), f"median_{name}": float(np.median(values))}
                summary |= {f"mean_{name}": float(values.mean())}
            runs.append(RunSample(summary=summary, n=len(run.ttft_s)))
        got.append(PointRuns(point.key, runs))
    return got


def test_summary_only_files_are_compared_by_a_weaker_rule() -> None:
    rng = np.random.default_rng(9)
    base = older(sweep(rng, Noise(), 1, SMALL))
    got = compare_sweeps(sweep(rng, Noise(), 1, SMALL, Effect(tpot=1.5, point=SMALL[0].key)), base)
    assert {c.point for c in got.regressions} == {SMALL[0].key}
    assert {c.rule for c in got.changes} == {"summary only"}
    assert not compare_sweeps(older(sweep(rng, Noise(), 1, SMALL)), base).regressions


def test_records_become_a_sample() -> None:
    # four requests, two after two, each: first event after 0.2 s, four more events 0.1 s apart, two tokens an event
    send = np.array([0.0, 0.0, 0.6, 0.6])
    events = (send[:, None] + 0.2 + 0.1 * np.arange(5)).ravel()
    empty = Records.empty()
    columns = {name: np.zeros(4, getattr(empty, name).dtype) for name in vars(empty)}
    columns |= {"measured": np.ones(4, bool), "send_s": send, "first_s": send + 0.2, "last_s": send + 0.6}
    columns |= {"output_tokens": np.full(4, 10), "events": np.full(4, 5), "event_s": events}
    got = sample_of_records(Records(**columns), block=2)
    assert got.ttft_s == pytest.approx(np.full(4, 0.2))
    assert got.tpot_s == pytest.approx(np.full(4, 0.4 / 9))
    assert got.output_throughput == pytest.approx(40 / 1.2)
    assert got.slices_tok_per_s is not None
    assert len(got.slices_tok_per_s) == 8
    failed = Records(**(columns | {"kind": np.full(4, 2, np.int8)}))
    nothing = sample_of_records(failed)
    assert all(math.isnan(log_figure(nothing, METRICS[name])[0]) for name in METRICS)


def test_summary_keys_become_a_sample() -> None:
    old = {"p99_ttft": 1.6, "median_ttft": 0.8, "mean_tpot": None, "output_throughput": 0.0, "num_prompts": 40}
    got = sample_of_summary(old)
    assert got.summary == {"p99_ttft": 1.6, "median_ttft": 0.8}
    assert got.n == 40
    # 13.94 · (ln 2 / 2.326)² / 40
    assert log_figure(got, METRICS["p99_ttft"]) == pytest.approx((math.log(1.6), 13.94 * 0.0888 / 40), rel=1e-2)
    assert math.isnan(log_figure(got, METRICS["mean_tpot"])[0])


def test_points_of_one_side_are_listed_not_judged() -> None:
    rng = np.random.default_rng(10)
    now, then = sweep(rng, Noise(), 2, SMALL[:3]), sweep(rng, Noise(), 2, SMALL[1:4])
    got = compare_sweeps(now, then)
    assert got.new == (SMALL[0].key,)
    assert got.missing == (SMALL[3].key,)
    assert {c.point for c in got.changes} == {p.key for p in SMALL[1:3]}


def test_no_common_point_is_said() -> None:
    got = compare_sweeps([], [PointRuns("a", [RunSample(tpot_s=np.ones(40))])])
    assert not got.changes
    assert "not compared" in got.notes[0]


def test_one_point_is_compared_alone() -> None:
    def at(level: float) -> list[PointRuns]:
        rng = np.random.default_rng(12)
        return [PointRuns("a", [RunSample(tpot_s=level * rng.lognormal(0, 0.05, 80)) for _ in range(5)])]

    assert compare_sweeps(at(1.5), at(1.0)).regressions
    assert not compare_sweeps(at(1.0), at(1.0)).regressions


def test_identical_figures_do_not_divide_by_zero() -> None:
    same = [PointRuns(k, [RunSample(tpot_s=np.ones(40), ttft_s=np.ones(40), output_throughput=5.0)] * 3) for k in "ab"]
    got = compare_sweeps(same, same)
    assert {c.verdict for c in got.changes} == {"same"}


def test_a_point_twice_is_refused() -> None:
    twice = [PointRuns("a", []), PointRuns("a", [])]
    with pytest.raises(ValueError, match="twice"):
        compare_sweeps(twice, [])
