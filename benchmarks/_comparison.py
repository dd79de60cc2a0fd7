"""How often a comparison of two sweeps is wrong, and how small a change it finds: scenarios, counts and tables.

Constants of the rule (what is assumed, degrees of freedom of one or two runs, how far a stray round lies off, the parts of the
error budget) were chosen by theory, by runs on an H100 and by looking at some of these rows, which say so: those of false alarms
marked `used`, and those of power, of which no record tells them apart. The other rows set no constant; their figures
had been seen, with other seeds, before the last constants were set.
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
    "Alarm",
    "Found",
    "Pairs",
    "alarm_targets",
    "count",
    "hits",
    "interval",
    "oracle",
    "rows_of_alarms",
    "rows_of_power",
    "share",
    "wanted",
]

ALPHA = 0.01
ONE = Scenario("", one_start=True)
DAYS = Scenario("")


@dataclass(frozen=True)
class Alarm:
    """Noise under which nothing changed."""

    family: str
    scenario: Scenario
    used: bool = False  # while constants of the rule were chosen
    extra: bool = False  # beyond the kinds of noise that the rule was written for: simulated after the others

    @property
    def name(self) -> str:
        """Of all rows."""
        return f"{self.family}: {self.scenario.name}"


def _days(sd: float, used: bool) -> tuple[Alarm, ...]:
    return tuple(
        Alarm(f"days, sd {100 * sd:g} %", DAYS.with_(f"baseline of {n} day{'s' * (n > 1)}", day=sd, days=n), used)
        for n in (1, 3, 10)
    )


_COUPLED, _BY_CONC, _TAILS, _STRAY = "coupled throughput", "noise by concurrency", "tails", "stray round"
_WALK = "rounds that walk"
FALSE_ALARMS: tuple[Alarm, ...] = (
    Alarm(_COUPLED, ONE.with_("2 % TPOT, 8 % TTFT, one start"), True),
    Alarm(_COUPLED, DAYS.with_("the same, two starts"), True, True),
    Alarm(_COUPLED, ONE.with_("noise twice as large", times=2.0), True),
    Alarm(_COUPLED, ONE.with_("1 run against 1", runs=(1, 1)), True),
    Alarm(_COUPLED, ONE.with_("1 against 1, noise twice as large", runs=(1, 1), times=2.0), True),
    Alarm(_COUPLED, ONE.with_("1 against 3", runs=(1, 3)), True),
    Alarm(_COUPLED, ONE.with_("1 against 3, noise twice as large", runs=(1, 3), times=2.0), True),
    Alarm(_COUPLED, ONE.with_("throughput's own noise of 2 %", own_throughput=0.02), True, True),
    Alarm("points unlike", ONE.with_("sd × lognormal 35 %", unlike=0.35), True),
    Alarm(_BY_CONC, ONE.with_("falling from 4 to 0.5 %", by_conc=(0.04, 0.005))),
    Alarm(_BY_CONC, ONE.with_("rising from 0.5 to 4 %", by_conc=(0.005, 0.04))),
    Alarm(_BY_CONC, ONE.with_("rising, 1 run against 1", by_conc=(0.005, 0.04), runs=(1, 1)), extra=True),
    Alarm(_BY_CONC, DAYS.with_("rising, 1 run against 1, a day's sd of 1 %", by_conc=(0.005, 0.04), runs=(1, 1), day=0.01), extra=True),
    Alarm(_TAILS, ONE.with_("t(3)", t3=True)),
    Alarm(_TAILS, ONE.with_("t(3), 1 run against 1", t3=True, runs=(1, 1))),
    Alarm(_TAILS, ONE.with_("t(3), 1 against 3", t3=True, runs=(1, 3)), True),  # the degrees of freedom of one run
    Alarm("bimodal TTFT", ONE.with_("30 % of requests four times as long", bimodal=0.3)),
    Alarm("bimodal TTFT", ONE.with_("1 % of requests", bimodal=0.01)),
    Alarm(_STRAY, ONE.with_("one round 30 % slower", stray=0.3), True),
    Alarm(_STRAY, ONE.with_("one round 5 % slower", stray=0.05)),
    Alarm(_STRAY, ONE.with_("one round 10 % slower", stray=0.1)),
    # the degrees of freedom of two runs
    Alarm(_STRAY, ONE.with_("one round 30 % slower on both sides", stray=0.3, stray_sides=(0, 1)), True, True),
    *_days(0.01, True),
    *_days(0.005, False),
    *_days(0.02, False),
    Alarm("drift within a session", ONE.with_("0 to 2 %", drift=0.02)),
    Alarm("drift within a session", ONE.with_("0 to 2 %, going on", drift=0.02, goes_on=True), extra=True),
    Alarm(_WALK, ONE.with_("by 0.6 %", walk=0.006), True),
    Alarm(_WALK, ONE.with_("by 0.6 %, on from one session to the next", walk=0.006, goes_on=True), True),
    Alarm("rounds that differ as a whole", ONE.with_("sd 0.6 %", shared=0.006), extra=True),
    Alarm("rounds that differ as a whole", ONE.with_("sd 2 %", shared=0.02), extra=True),
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A change to be found: of a point named, or of the sweep."""

    scenario: Scenario
    metric: str  # by this figure, or by any ("")
    target: bool = True

    @property
    def name(self) -> str:
        """Of all rows."""
        return f"found: {self.scenario.name}"


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
        got["blind sweep"] += any(c.blind for c in judged.overall)
        got["blind points"] += len({c.point for c in judged.changes if c.blind})
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
        got["beyond x"] += tpot.visible < effect.tpot - 1
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


def alarm_targets(c: Counter[str]) -> tuple[tuple[str, float, float], ...]:
    """What a row of false alarms is held to: (of what, measured, at most)."""
    high = interval(c["any"], c["pairs"])[1]
    return ("any false regression", c["any"] / c["pairs"], ALPHA), ("upper end of its interval", high, 2 * ALPHA)


def wanted(found: Found) -> float:
    """The share that is to be found: 95 % where a test that knows the noise finds as many, else 5 points less than it."""
    best = oracle(found)
    return 0.95 if best >= 0.95 else best - 0.05


def rows_of_alarms(counts: Iterable[tuple[Alarm, Counter[str]]]) -> list[list[str]]:
    """Rows of the table of false alarms."""
    rows = []
    for alarm, c in counts:
        missed = [f"{100 * got:.2f} > {100 * most:g} %" for _, got, most in alarm_targets(c) if got > most]
        rows.append(
            [
                alarm.family,
                alarm.scenario.name,
                "used" if alarm.used else "not used",
                str(c["pairs"]),
                share(c["any"], c["pairs"]),
                f"{c['points']}, {c['sweep']}",
                f"**missed** ({', '.join(missed)})" if missed else "met",
                f"{100 * c['blind'] / c['pairs']:.0f} %, {c['blind points'] / c['pairs']:.1f}",
            ]
        )
    return rows


def rows_of_power(counts: Iterable[tuple[Found, Counter[str]]]) -> list[list[str]]:
    """Rows of the table of what is found."""
    rows = []
    for found, c in counts:
        got, want = hits(found, c) / c["pairs"], wanted(found)
        held = "" if not found.target else "met" if got >= want else f"**missed** (≥ {100 * want:.1f} %)"
        rows.append(
            [
                found.scenario.name,
                str(c["pairs"]),
                share(hits(found, c), c["pairs"]),
                f"{100 * oracle(found):.1f} %",
                held,
                f"{c['untrue x']} of {c['not found']}",
                f"{c['untrue x']} of {c['beyond x']}",
            ]
        )
    return rows
