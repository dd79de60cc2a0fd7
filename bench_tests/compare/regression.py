"""One sweep against an earlier one: which points changed, and whether the sweep as a whole did.

A regression needs two conditions: worse by more than a factor, and statistically different with the noise from run to
run taken into account, corrected over the whole sweep (Holm). Figures are compared as logarithms. Three runs of a point
know their own variance badly, so all points are asked together (limma's moderated t: Smyth 2004). A part that a whole
run shares (a slow day) moves all points alike; it is estimated from the means of the rounds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench_tests.compare.samples import METRICS, Metric, PointRuns, RunSample
from bench_tests.compare.sweep_noise import Rule, log_table, sweep_noise, sweep_shift
from bench_tests.verdict.pooling import holm

__all__ = ["DEFAULT_THRESHOLDS", "Change", "PointRuns", "RunSample", "SweepComparison", "compare_sweeps"]

DEFAULT_THRESHOLDS: Mapping[str, float] = {"p99_ttft": 0.10, "median_tpot": 0.05, "output_throughput": 0.05}
POINTS_PART = 0.7  # of the error budget goes to the points' questions, the rest to the sweep's, which need less
OVERALL_SHARE = 0.2  # the sweep's shift counts from this share of a point's threshold: 1 % TPOT, 2 % TTFT
ChangeVerdict = Literal["regression", "improvement", "same", "unclear"]


@dataclass(frozen=True)
class Change:
    """One figure of one point (or of the sweep as a whole: `point` is None) against the baseline."""

    point: Hashable | None
    metric: str
    current: float  # geometric mean over the runs, seconds or tok/s; NaN for the sweep
    baseline: float
    ratio: float  # current / baseline
    low: float  # 95 % interval of the ratio, for this question alone
    high: float
    p: float  # two-sided, for this question alone
    p_holm: float  # corrected over all questions of its kind
    verdict: ChangeVerdict
    rule: Rule  # "repeated runs" is the full rule; the others are weaker and say so in SweepComparison.notes
    runs: tuple[int, int]  # current, baseline

    @property
    def weak(self) -> bool:
        """Whether a weaker rule was used: noise from run to run was assumed, not measured."""
        return self.rule != "repeated runs"


@dataclass(frozen=True)
class SweepComparison:
    """What a comparison found."""

    changes: tuple[Change, ...]  # every point and metric
    overall: tuple[Change, ...]  # one a metric: the sweep as a whole
    missing: tuple[Hashable, ...]  # points of the baseline that were not measured now
    new: tuple[Hashable, ...]  # points that the baseline does not have
    notes: tuple[str, ...]  # how it was judged, and where the rule was weaker

    def _all(self, verdict: ChangeVerdict) -> tuple[Change, ...]:
        return tuple(c for c in (*self.overall, *self.changes) if c.verdict == verdict)

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What became worse; the sweep as a whole first."""
        return self._all("regression")

    @property
    def improvements(self) -> tuple[Change, ...]:
        """What became better; the sweep as a whole first."""
        return self._all("improvement")

    def of(self, point: Hashable) -> tuple[Change, ...]:
        """The changes of one point, one a metric."""
        return tuple(c for c in self.changes if c.point == point)


@dataclass(frozen=True)
class _Question:
    """One t test on the log scale: has this figure moved?"""

    point: Hashable | None
    metric: Metric
    current: float
    baseline: float
    moved: float  # ln(current / baseline)
    error: float  # its standard error
    df: float
    rule: Rule
    runs: tuple[int, int]
    factor: float  # beyond which it counts


def _answer(questions: Sequence[_Question], alpha: float) -> tuple[Change, ...]:
    """Answer one family of questions, corrected among themselves."""
    from scipy.special import stdtr, stdtrit

    moved = np.array([question.moved for question in questions])
    error = np.array([question.error for question in questions])
    df = np.minimum([question.df for question in questions], 1e9)
    p = np.asarray(2 * stdtr(df, -np.abs(moved / error)), np.float64)
    weights = np.array([1.0 if question.point is None else question.metric.weight for question in questions])
    half = stdtrit(df, 0.975) * error
    answers = []
    columns = p.tolist(), holm(p, weights).tolist(), half.tolist()
    for question, p_one, p_all, width in zip(questions, *columns, strict=True):
        low, high = question.moved - width, question.moved + width
        verdict = _verdict(question, low, high, p_all, alpha)
        answers.append(
            Change(
                question.point,
                question.metric.name,
                question.current,
                question.baseline,
                math.exp(question.moved),
                math.exp(low),
                math.exp(high),
                p_one,
                p_all,
                verdict,
                question.rule,
                question.runs,
            )
        )
    return tuple(answers)


def _verdict(question: _Question, low: float, high: float, p_holm: float, alpha: float) -> ChangeVerdict:
    edge = math.log1p(question.factor)
    if p_holm <= alpha and abs(question.moved) > edge:
        return "regression" if (question.moved > 0) != question.metric.higher_is_better else "improvement"
    return "same" if -edge <= low and high <= edge else "unclear"


def compare_sweeps(
    current: Sequence[PointRuns],
    baseline: Sequence[PointRuns],
    thresholds: Mapping[str, float] = DEFAULT_THRESHOLDS,
    alpha: float = 0.01,
) -> SweepComparison:
    """Compare two sweeps, point by point and as a whole.

    `thresholds`: by METRICS' name, the factor beyond which a change counts (0.05: worse than 1.05 times, the same for
    the better; a throughput below 1 / 1.05); only these metrics are compared. `alpha`: when nothing changed, the chance
    of any false regression is at most `alpha`: POINTS_PART of it belongs to the points' questions and the rest to the
    sweep's, each family held to twice its part, two-sided, by Holm, so that half lies on the side of regressions. Points of one side only are listed, not judged.
    Without repeats on either side, or with summary figures alone, the rule is weaker (see `notes`).
    Raises KeyError for an unknown metric, ValueError for a point that comes twice.
    """
    ours, theirs = {point.key: point for point in current}, {point.key: point for point in baseline}
    if len(ours) < len(current) or len(theirs) < len(baseline):
        raise ValueError("a point comes twice in one sweep: give all its runs in one PointRuns")
    keys = [key for key in ours if key in theirs]
    pairs = [(ours[key], theirs[key]) for key in keys]
    points: list[_Question] = []
    sweep: list[_Question] = []
    notes: list[str] = []
    for name, factor in thresholds.items():
        figures = log_table(pairs, METRICS[name])
        if not figures.usable.any():
            notes.append(f"{name}: not compared, no point has it on both sides")
            continue
        noise = sweep_noise(figures)
        notes.append(noise.note)
        n_cur, n_base = figures.runs
        error = np.sqrt(noise.var * (1 / np.maximum(n_cur, 1) + 1 / np.maximum(n_base, 1)))
        for i in np.flatnonzero(figures.usable).tolist():
            now, then = math.exp(figures.mean_cur[i]), math.exp(figures.mean_base[i])
            runs = int(n_cur[i]), int(n_base[i])
            points.append(_Question(keys[i], figures.metric, now, then, float(figures.delta[i]), float(error[i]),
                                    float(noise.df[i]), noise.rule, runs, factor))  # fmt: skip
        if figures.usable.sum() > 1:
            runs = int(n_cur[figures.usable].min()), int(n_base[figures.usable].min())
            sweep.append(_Question(None, figures.metric, math.nan, math.nan, *sweep_shift(figures, noise),
                                   noise.rule, runs, OVERALL_SHARE * factor))  # fmt: skip
    return SweepComparison(
        _answer(points, 2 * alpha * POINTS_PART),
        _answer(sweep, 2 * alpha * (1 - POINTS_PART)),
        tuple(key for key in theirs if key not in ours),
        tuple(key for key in ours if key not in theirs),
        tuple(notes),
    )
