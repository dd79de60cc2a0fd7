"""Scenarios of noise for the comparison of sweeps: pairs of sweeps with known truth, as the tables that a real one fills.

What one run's requests add is drawn from a pool of simulated runs of each size, so that a pair costs milliseconds; what
rounds, sessions and days add is drawn anew. Throughput follows the same requests' E2EL, as it does in a closed loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.samples import METRICS
from bench_tests.compare.table import Column, LogTable, Side, Sides
from benchmarks._simulated_sweeps import KIMI_K2, OSL, requests_tpot, requests_ttft

__all__ = ["CONC", "FIGURES", "KEYS", "Effect", "Scenario", "pair", "pool"]

Floats = NDArray[np.float64]
FIGURES = ("p99_ttft", "mean_tpot", "output_throughput")
KEYS = tuple(point.key for point in KIMI_K2)
POINTS = len(KIMI_K2)
CONC = np.array([point.conc for point in KIMI_K2], np.float64)
ISL = np.array([point.isl for point in KIMI_K2], np.float64)
TTFT_S = np.array([point.ttft_s for point in KIMI_K2])
TPOT_S = np.array([point.tpot_s for point in KIMI_K2])
POOL = 3000  # simulated runs of each size


@dataclass(frozen=True)
class Effect:
    """What is slower now: factors on TTFT and TPOT, at one point drawn for each pair or at all."""

    ttft: float = 1.0
    tpot: float = 1.0
    one_point: bool = False


@dataclass(frozen=True)
class Scenario:
    """Noise, and how often each side was measured. Standard deviations of logarithms."""

    name: str
    runs: tuple[int, int] = (3, 3)  # rounds of a session, now and then
    ttft: float = 0.08
    tpot: float = 0.02
    times: float = 1.0  # on both
    own_throughput: float = 0.0  # of throughput beyond what its requests explain
    unlike: float = 0.0  # sd of the log of a point's sd
    by_conc: tuple[float, float] | None = (
        None  # sd of TPOT at the lowest and the highest concurrency, TTFT four times that
    )
    t3: bool = False  # run-to-run noise with the tails of t(3)
    bimodal: float = 0.0  # share of requests whose TTFT is four times as long
    stray: float = 0.0  # one round slower by this factor, on a side drawn for each pair
    stray_sides: tuple[int, ...] | None = None  # of these sides instead: 0 now, 1 the baseline
    day: float = 0.0  # of a day, shared by all points, TTFT and TPOT
    days: int = 1  # of the baseline, with runs[1] rounds each
    stray_day: float = 0.0  # one day of the baseline slower by this factor
    drift: float = 0.0  # most of a session's linear drift, uniform from 0
    walk: float = 0.0  # step of a random walk from round to round
    goes_on: bool = False  # the walk and the drift go on from the baseline's session to the present one
    shared: float = 0.0  # of a round, shared by all points
    one_start: bool = False  # both sides on one start and day: nothing between them but rounds
    effect: Effect = Effect()
    requests_seed: int = 0  # of the pool of runs that what requests add is drawn from

    def with_(self, name: str = "", **changes: object) -> Scenario:
        """The same with changes."""
        return replace(self, name=name or self.name, **changes)  # type: ignore[arg-type]


@lru_cache(maxsize=32)
def pool(n: int, bimodal: float, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Of POOL simulated runs of n requests: p99 TTFT, mean TTFT, mean TPOT, over their medians."""
    rng = np.random.default_rng([n, seed] if seed else n)
    p99, ttft, tpot = np.empty(POOL), np.empty(POOL), np.empty(POOL)
    for k in range(POOL):
        some = requests_ttft(rng, n, 0.35)
        if bimodal:
            some = some * np.where(rng.random(n) < bimodal, 4.0, 1.0)
        p99[k], ttft[k] = np.quantile(some, 0.99), some.mean()
        tpot[k] = requests_tpot(rng, n, 0.05).mean()
    return p99, ttft, tpot


def _noise(rng: np.random.Generator, s: Scenario, sd: Floats, shape: tuple[int, int]) -> Floats:
    draw = rng.standard_t(3, shape) / np.sqrt(3) if s.t3 else rng.normal(size=shape)
    return np.asarray(sd[:, None] * draw)


def _session(
    rng: np.random.Generator,
    s: Scenario,
    rounds: int,
    sds: tuple[Floats, Floats],
    slow: Floats,
    effect: tuple[Floats, Floats],
) -> dict[str, Floats]:
    """Log figures of a session, (P, rounds) each. `slow`: log slowdown of each point in each round, (P, rounds)."""
    shape = (POINTS, rounds)
    ttft = TTFT_S[:, None] * np.exp(_noise(rng, s, sds[0], shape) + slow) * effect[0][:, None]
    tpot = TPOT_S[:, None] * np.exp(_noise(rng, s, sds[1], shape) + slow) * effect[1][:, None]
    p99, mean_ttft, mean_tpot = np.empty(shape), np.empty(shape), np.empty(shape)
    for conc in np.unique(CONC):
        at = np.flatnonzero(conc == CONC)
        drawn, pick = pool(int(10 * conc), s.bimodal, s.requests_seed), rng.integers(POOL, size=(len(at), rounds))
        p99[at], mean_ttft[at], mean_tpot[at] = (column[pick] for column in drawn)
    e2el = ttft * mean_ttft + (OSL - 1) * tpot * mean_tpot
    own = rng.normal(0, s.own_throughput * s.times, shape) if s.own_throughput else 0.0
    return {"p99_ttft": np.log(ttft * p99), "mean_tpot": np.log(tpot * mean_tpot),
            "output_throughput": np.log(CONC[:, None] * OSL / e2el) + own}  # fmt: skip


def _sds(rng: np.random.Generator, s: Scenario) -> tuple[Floats, Floats]:
    """Run-to-run sd of TTFT and TPOT by point."""
    if s.by_conc is not None:
        place = np.log(CONC / CONC.min()) / np.log(CONC.max() / CONC.min())
        tpot = np.exp(np.log(s.by_conc[0]) * (1 - place) + np.log(s.by_conc[1]) * place)
        ttft = 4 * tpot
    else:
        ttft, tpot = np.full(POINTS, s.ttft), np.full(POINTS, s.tpot)
    wide = np.exp(rng.normal(0, s.unlike, POINTS)) * s.times
    return ttft * wide, tpot * wide


def pair(rng: np.random.Generator, s: Scenario) -> tuple[dict[str, LogTable], int | None]:
    """One pair of sweeps: its tables, and which point is slower where it is one."""
    sds = _sds(rng, s)
    hit = int(rng.integers(POINTS)) if s.effect.one_point else None
    here = np.ones(POINTS, bool) if hit is None else np.arange(POINTS) == hit
    effect = np.where(here, s.effect.ttft, 1.0), np.where(here, s.effect.tpot, 1.0)
    none = np.ones(POINTS), np.ones(POINTS)
    sides = s.stray_sides if s.stray_sides is not None else ((int(rng.integers(2)),) if s.stray else ())
    bad_day = int(rng.integers(s.days)) if s.stray_day else -1
    parts: dict[str, list[list[Floats]]] = {name: [[], []] for name in FIGURES}
    columns: list[list[Column]] = [[], []]
    level = 0.0
    for side in (1, 0):
        for day in range(s.days if side else 1):
            rounds = s.runs[side]
            steps = np.cumsum(np.concatenate([[0.0], rng.normal(0, s.walk, rounds - 1)])) + level
            if s.goes_on and side == 0:
                steps = steps + rng.normal(0, s.walk)
            when = (np.arange(rounds)[None, :] + np.arange(POINTS)[:, None] / POINTS) / rounds
            drift = rng.uniform(0, s.drift) if s.drift else 0.0
            slow = steps[None, :] + drift * when + rng.normal(0, s.day) + rng.normal(0, s.shared, rounds)[None, :]
            level = float(steps[-1]) + drift if s.goes_on else 0.0
            if side in sides and day == 0:
                slow[:, rng.integers(rounds)] += np.log1p(s.stray)
            if side and day == bad_day:
                slow = slow + np.log1p(s.stray_day)
            got = _session(rng, s, rounds, sds, slow, effect if side == 0 else none)
            for name in FIGURES:
                parts[name][side].append(got[name])
            start = "one" if s.one_start else f"{side}-{day}"
            at = 1000.0 if s.one_start else 1000.0 + 2 * day + 100 * (1 - side)
            columns[side] += [Column(f"{side}-{day}", start, k, at) for k in range(rounds)]
    both = Sides(Side(tuple(columns[0])), Side(tuple(columns[1])))
    nothing, no = np.zeros(POINTS), np.zeros(POINTS, bool)
    return {
        name: LogTable(METRICS[name], np.concatenate(parts[name][0], axis=1), np.concatenate(parts[name][1], axis=1),
                       nothing, CONC, ISL, no, both, nothing)
        for name in FIGURES
    }, hit  # fmt: skip
