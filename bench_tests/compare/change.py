"""What a comparison says: one figure of one point, and all of them together."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

from bench_tests.compare.sweep_noise import Rule

__all__ = ["Change", "ChangeVerdict", "SweepComparison"]

ChangeVerdict = Literal["regression", "improvement", "same", "unclear"]


@dataclass(frozen=True)
class Change:
    """One figure of one point (or of the sweep as a whole: `point` is None) against the baseline."""

    point: Hashable | None
    metric: str
    current: float  # geometric mean over the runs, seconds or tok/s; NaN for the sweep
    baseline: float
    ratio: float  # current / baseline
    low: float  # 95 % interval of the ratio, for this question alone, with what starts and days do
    high: float
    p: float  # two-sided, for this question alone
    p_adjusted: float  # corrected over all questions; at most 2·alpha counts
    verdict: ChangeVerdict
    rule: Rule  # "repeated runs" is the full rule; the others are weaker and say so in SweepComparison.notes
    runs: tuple[int, int]  # current, baseline
    visible: float  # a slowdown of this factor, 0.09: 9 %, would be found with a chance of 95 %
    blind: bool  # whether that is more than the comparison may leave unseen
    higher_is_better: bool = False

    @property
    def weak(self) -> bool:
        """Whether a weaker rule was used: noise from run to run was assumed, not measured."""
        return self.rule != "repeated runs"

    @property
    def slower(self) -> float:
        """By how much serving is slower by this figure: 0.05: 5 %; negative: faster. Formula: ratio − 1, or 1/ratio − 1."""
        return (1 / self.ratio if self.higher_is_better else self.ratio) - 1

    @property
    def at_most(self) -> float:
        """The upper end of the 95 % interval of `slower`."""
        return (1 / self.low if self.higher_is_better else self.high) - 1


@dataclass(frozen=True)
class SweepComparison:
    """What a comparison found."""

    changes: tuple[Change, ...]  # every point and metric
    overall: tuple[Change, ...]  # one a metric: the sweep as a whole
    missing: tuple[Hashable, ...]  # points of the baseline that were not measured now
    new: tuple[Hashable, ...]  # points that the baseline does not have
    notes: tuple[str, ...]  # how it was judged, what was set aside, and where the rule was weaker
    context: tuple[str, ...] = ()  # what else differs between the sides: starts, nodes, versions, loads

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

    @property
    def blind(self) -> tuple[Change, ...]:
        """Where a change beyond what may stay unseen would not have been seen, and none was."""
        return tuple(c for c in (*self.overall, *self.changes) if c.blind and c.verdict != "regression")

    def of(self, point: Hashable) -> tuple[Change, ...]:
        """The changes of one point, one a metric."""
        return tuple(c for c in self.changes if c.point == point)
