"""How often a comparison of two sweeps is wrong, and how small a change it finds: scenarios, counts and tables.

Constants of the rule (what is assumed, how far a stray round lies off, the parts of the error budget) were chosen with the
families that say so and by theory; the others were run afterwards.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bench_tests.compare.change import Change
from bench_tests.compare.judge import DEFAULT_THRESHOLDS, POINTS_PART, TAILS_PART, judge_tables
from bench_tests.compare.samples import METRICS
from benchmarks._scenarios import CONC, KEYS, Effect, Scenario, pair, pool

__all__ = [
    "FALSE_ALARMS",
    "FOUND",
    "Found",
    "Pairs",
    "count",
    "hits",
    "interval",
    "oracle",
    "rows_of_alarms",
    "rows_of_power",
]

ALPHA = 0.01
ONE = Scenario("", one_start=True)
DAYS = Scenario("")

# (family, chosen with it, scenarios)
FALSE_ALARMS: tuple[tuple[str, bool, tuple[Scenario, ...]], ...] = (
    ("coupled throughput", True, (
        ONE.with_("2 % TPOT, 8 % TTFT, one start"),
        DAYS.with_("the same, two starts"),
        ONE.with_("noise twice as large", times=2.0),
        ONE.with_("1 run against 1", runs=(1, 1)),
        ONE.with_("1 against 1, noise twice as large", runs=(1, 1), times=2.0),
        ONE.with_("1 against 3", runs=(1, 3)),
        ONE.with_("1 against 3, noise twice as large", runs=(1, 3), times=2.0),
        ONE.with_("throughput's own noise of 2 %", own_throughput=0.02))),
    ("points unlike", True, (ONE.with_("sd × lognormal 35 %", unlike=0.35),)),
    ("noise by concurrency", False, (
        ONE.with_("falling from 4 to 0.5 %", by_conc=(0.04, 0.005)),
        ONE.with_("rising from 0.5 to 4 %", by_conc=(0.005, 0.04)),
        ONE.with_("rising, 1 run against 1", by_conc=(0.005, 0.04), runs=(1, 1)),
        DAYS.with_("rising, 1 run against 1, a day's sd of 1 %", by_conc=(0.005, 0.04), runs=(1, 1), day=0.01))),
    ("tails", False, (
        ONE.with_("t(3)", t3=True),
        ONE.with_("t(3), 1 run against 1", t3=True, runs=(1, 1)),
        ONE.with_("t(3), 1 against 3", t3=True, runs=(1, 3)))),
    ("bimodal TTFT", False, (
        ONE.with_("30 % of requests four times as long", bimodal=0.3),
        ONE.with_("1 % of requests", bimodal=0.01))),
    ("stray round", True, (ONE.with_("one round 30 % slower", stray=0.3),)),
    ("smaller stray round", False, (
        ONE.with_("one round 5 % slower", stray=0.05),
        ONE.with_("one round 10 % slower", stray=0.1),
        ONE.with_("one round 30 % slower on both sides", stray=0.3, stray_sides=(0, 1)))),
    ("days, sd 1 %", True, tuple(DAYS.with_(f"baseline of {n} day{'s' * (n > 1)}", day=0.01, days=n) for n in (1, 3, 10))),
    ("days, sd 0.5 %", False, tuple(DAYS.with_(f"baseline of {n} day{'s' * (n > 1)}", day=0.005, days=n) for n in (1, 3, 10))),
    ("days, sd 2 %", False, tuple(DAYS.with_(f"baseline of {n} day{'s' * (n > 1)}", day=0.02, days=n) for n in (1, 3, 10))),
    ("drift within a session", False, (
        ONE.with_("0 to 2 %", drift=0.02), ONE.with_("0 to 2 %, going on", drift=0.02, goes_on=True))),
    ("rounds that walk", True, (
        ONE.with_("by 0.6 %", walk=0.006), ONE.with_("by 0.6 %, on from one session to the next", walk=0.006, goes_on=True))),
    ("rounds that differ as a whole", False, (
        ONE.with_("sd 0.6 %", shared=0.006), ONE.with_("sd 2 %", shared=0.02))),
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A change to be found: of a point named, or of the sweep."""

    scenario: Scenario
    metric: str  # by this figure, or by any ("")
    target: bool = True


def _slower(
    name: str, like: Scenario, effect: Effect, metric: str = "", target: bool = True, **changes: object
) -> Found:
    return Found(like.with_(name, effect=effect, **changes), metric, target)


FOUND: tuple[Found, ...] = (
    *(_slower(f"+{e} % TPOT at one point, 3 against 3", ONE, Effect(tpot=1 + e / 100, one_point=True), target=e == 10)
      for e in (4, 6, 8, 10, 12, 15)),
    _slower("+10 % TPOT at one point, two starts", DAYS, Effect(tpot=1.1, one_point=True)),
    *(_slower(f"+{e} % TPOT over the sweep, one start", ONE, Effect(tpot=1 + e / 100), "mean_tpot", e == 3)
      for e in (1, 2, 3, 4)),
    _slower("+20 % over the sweep, two starts, a stray round of 30 % on either side", DAYS, Effect(1.2, 1.2), stray=0.3),
    _slower("+20 % over the sweep, a stray round on both sides", DAYS, Effect(1.2, 1.2), stray=0.3, stray_sides=(0, 1)),
    _slower("+50 % over the sweep, one of three baseline days 30 % slow", DAYS, Effect(1.5, 1.5), stray_day=0.3, days=3),
    *(_slower(f"+{e} % over the sweep, a day's sd of 1 %, ten baseline days", DAYS, Effect(1 + e / 100, 1 + e / 100),
              target=e == 5, day=0.01, days=10) for e in (3, 4, 5, 6)),
    _slower("+10 % over the sweep, two starts, one day each", DAYS, Effect(1.1, 1.1), target=False),
)  # fmt: skip


@dataclass(frozen=True)
class Pairs:
    """Pairs of sweeps to compare."""

    scenario: Scenario
    pairs: int
    seed: int


def count(job: Pairs) -> Counter[str]:
    """How many of the pairs raised which alarm, and how often what an unclear answer says it would see was not so."""
    rng = np.random.default_rng(job.seed)
    got: Counter[str] = Counter(pairs=job.pairs)
    effect = job.scenario.effect
    for _ in range(job.pairs):
        tables, hit = pair(rng, job.scenario)
        judged = judge_tables(tables, KEYS, alpha=ALPHA)
        points = [c for c in judged.changes if c.verdict == "regression"]
        whole = [c for c in judged.overall if c.verdict == "regression"]
        got["any"] += bool(points or whole)
        got["points"] += bool(points)
        got.update(f"points {metric}" for metric in {c.metric for c in points})
        got["sweep"] += bool(whole)
        got["stray"] += bool(judged.strays)
        got["blind"] += any(c.blind for c in (*judged.changes, *judged.overall))
        asked: Sequence[Change] = (
            [c for c in judged.changes if c.point == KEYS[hit]] if hit is not None else judged.overall
        )
        found = {c.metric for c in asked if c.verdict == "regression"}
        got["found"] += bool(found)
        got.update(f"found {metric}" for metric in found)
        tpot = next(c for c in asked if c.metric == "mean_tpot")
        if effect.tpot > 1 and tpot.verdict != "regression":
            got["not found"] += 1
            got["untrue x"] += tpot.visible < effect.tpot - 1 or tpot.verdict == "improvement"
    return got


def hits(found: Found, c: Counter[str]) -> int:
    """In how many pairs it was found, by the figure that it is to be found by."""
    return c[f"found {found.metric}" if found.metric else "found"]


def interval(got: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    low = float(betaincinv(got, of - got + 1, 0.025)) if got else 0.0
    high = float(betaincinv(got + 1, of - got, 0.975)) if got < of else 1.0
    return low, high


def share(got: int, of: int) -> str:
    """`0.33 % (0.04 to 1.20)`."""
    low, high = interval(got, of)
    return f"{100 * got / of:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def oracle(found: Found) -> float:
    """Chance that a z test finds it that knows every variance, at the same error rate for this question alone."""
    from scipy.special import ndtr, ndtri

    s = found.scenario
    effect = math.log(s.effect.tpot)
    n_now, n_then = s.runs[0], s.runs[1] * s.days
    run = np.array([(s.times * s.tpot) ** 2 + float(np.log(pool(int(10 * c), 0.0)[2]).var()) for c in CONC])
    if s.effect.one_point:
        weights = sum(METRICS[name].weight for name in DEFAULT_THRESHOLDS) * len(CONC)
        z = -float(ndtri(ALPHA * POINTS_PART / weights))
        return float(np.mean(ndtr(effect / np.sqrt(run * (1 / n_now + 1 / n_then)) - z)))
    own = 1 / float((1 / (run * (1 / n_now + 1 / n_then))).sum())
    var = own + s.day**2 * (1 + 1 / s.days)
    z = -float(ndtri(ALPHA * (1 - POINTS_PART) * (1 - TAILS_PART)))
    return float(ndtr(effect / math.sqrt(var) - z))


def rows_of_alarms(counts: Iterable[tuple[str, bool, Scenario, Counter[str]]]) -> list[list[str]]:
    """Rows of the table of false alarms."""
    return [
        [family, "chosen with" if tuned else "run afterwards", s.name, str(c["pairs"]), share(c["any"], c["pairs"]),
         str(c["points"]), str(c["sweep"])]
        for family, tuned, s, c in counts
    ]  # fmt: skip


def rows_of_power(counts: Iterable[tuple[Found, Counter[str]]]) -> list[list[str]]:
    """Rows of the table of what is found."""
    rows = []
    for found, c in counts:
        untrue = f"{100 * c['untrue x'] / c['pairs']:.1f} %"
        rows.append(
            [
                found.scenario.name,
                str(c["pairs"]),
                share(hits(found, c), c["pairs"]),
                f"{100 * oracle(found):.1f} %",
                untrue,
            ]
        )
    return rows
