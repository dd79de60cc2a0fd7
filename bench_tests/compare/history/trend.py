"""The trend of a history: the levels of each figure, of the sweep as a whole and of each point beyond it, and their changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.history.changes import segments
from bench_tests.compare.history.store import History, Session
from bench_tests.compare.judge import OVERALL_SHARE
from bench_tests.compare.samples import METRICS
from bench_tests.figures import label_of
from bench_tests.sweep.settings import Regression

__all__ = ["ALPHA", "BASELINE", "RECENT", "ChangePoint", "Series", "Trend", "trend_of"]

Floats = NDArray[np.float64]
ALPHA = 0.0004  # of all questions of a night together: of histories of 60 nights, 1 in 40 has a false change point
BASELINE = 10  # sessions that the newest is held against
RECENT = 7  # a change point within so many of the last sessions is an alarm


@dataclass(frozen=True)
class ChangePoint:
    """A figure is another since a session. `point`: None for the sweep as a whole. `ratio`: new over old level."""

    metric: str
    point: str | None
    at: int  # number of the first session of the new level
    session: Session
    before: Session
    ratio: float
    p: float

    @property
    def worse(self) -> bool:
        return (self.ratio > 1) != METRICS[self.metric].higher_is_better

    @property
    def words(self) -> str:
        """`mean TPOT of the whole sweep +4.1 % since 20261105-230000 (SESSION); version 0.25 → 0.26`."""
        of = "the whole sweep" if self.point is None else self.point
        moved = f"{self.ratio - 1:+.1%}".replace("%", " %")
        also = [
            f"{name} {old} → {new}"
            for name, new in self.session.facts.items()
            if (old := self.before.facts.get(name, "")) and new and old != new
        ]
        what = f"; {', '.join(also)}" if also else "; version, image, node and start as before, as far as known"
        return f"{label_of(self.metric)} of {of} {moved} since {self.session.date} ({self.session.id}){what}"


@dataclass(frozen=True)
class Series:
    """A figure over the sessions: ln of it over the first level, shape (sessions,), NaN where it was not measured."""

    metric: str
    point: str | None
    values: Floats
    changes: tuple[ChangePoint, ...]


@dataclass(frozen=True)
class Trend:
    """What a history says: the sessions of the newest one's question, and each figure's series."""

    sessions: tuple[Session, ...]
    series: tuple[Series, ...]

    @property
    def changes(self) -> list[ChangePoint]:
        """All changes, the latest last."""
        return sorted((c for s in self.series for c in s.changes), key=lambda c: (c.at, c.point or ""))

    @property
    def suspect(self) -> list[str]:
        """The sessions since the first change for the worse that is not accepted: no baseline."""
        first = min((c.at for c in self.alarms), default=len(self.sessions))
        return [session.id for session in self.sessions[first:]]

    @property
    def alarms(self) -> list[ChangePoint]:
        """Changes for the worse within the last sessions that nobody has accepted: at, or after, no accepted session."""
        taken = max((at for at, session in enumerate(self.sessions) if session.accepted), default=-1)
        return [c for c in self.changes if c.worse and c.at >= len(self.sessions) - RECENT and c.at > taken]


def trend_of(history: History | Sequence[Session], rule: Regression | None = None, alpha: float = ALPHA) -> Trend:
    """The trend over the sessions that share a point with the newest one.

    A sweep's series is the mean over its points of ln(figure / the point's median); a point's is what it moved beyond that. Half of the
    error goes to the sweep's questions, half to the points'. A change counts from the threshold of the figure on, the sweep's from a
    fifth of it.
    """
    sessions = history.sessions if isinstance(history, History) else tuple(history)
    rule = rule or Regression()
    if not sessions:
        return Trend((), ())
    keys = list(sessions[-1].figures)
    same = tuple(s for s in sessions if any(key in s.figures for key in keys))
    figures = rule.counts()
    out: list[Series] = []
    for name, factor in figures.items():
        raw = np.array([[s.figure(key, name) for key in keys] for s in same])
        logs = np.log(raw)
        known = (~np.isnan(logs)).any(axis=0)
        if not known.any():
            continue
        logs, names = logs[:, known], [key for key, there in zip(keys, known, strict=True) if there]
        logs = logs - np.nanmedian(logs, axis=0)
        present = ~np.isnan(logs)
        counts = present.sum(axis=1)
        whole = np.where(counts > 0, np.where(present, logs, 0.0).sum(axis=1) / np.maximum(counts, 1), math.nan)
        part = alpha / (2 * len(figures))
        out.append(
            _series(name, None, whole, same, part if len(names) > 1 else 2 * part, math.log1p(OVERALL_SHARE * factor))
        )
        if len(names) > 1:
            for k, key in enumerate(names):
                own = logs[:, k] - whole
                out.append(_series(name, key.partition(" ")[0], own, same, part / len(names), math.log1p(factor)))
    return Trend(same, tuple(out))


def _series(
    metric: str, point: str | None, values: Floats, sessions: Sequence[Session], alpha: float, smallest: float
) -> Series:
    found = tuple(
        ChangePoint(metric, point, s.at, sessions[s.at], sessions[s.at - 1], math.exp(s.moved), s.p)
        for s in segments(values, alpha, smallest)
    )
    return Series(metric, point, values, found)
