"""Simulated sweeps with known truth, as the samples that a real comparison reads.

A run of a point draws its own level (run-to-run noise, lognormal) and its own requests (heavy-tailed). Arrays are in
seconds. Draws come in the order rounds, points, so that any seed gives an independent sweep.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.samples import PointRuns, RunSample

__all__ = ["KIMI_K2", "Effect", "Noise", "Point", "sweep"]

Floats = NDArray[np.float64]
OSL = 128


@dataclass(frozen=True)
class Point:
    """A sweep point and the server's true figures there, seconds."""

    isl: int
    conc: int
    ttft_s: float  # median
    tpot_s: float  # median

    @property
    def key(self) -> str:
        """As in a test id."""
        return f"isl{self.isl}-osl{OSL}-conc{self.conc}"

    @property
    def n(self) -> int:
        """Requests of a run: the profile's 10 × concurrency."""
        return 10 * self.conc


KIMI_K2 = tuple(
    Point(isl, conc, 0.08 + isl * conc * 6e-6, 0.012 + conc * 3e-4 + isl * conc * 2e-8)
    for isl in (1024, 2048, 4096, 6144, 8192, 10240, 12288, 14336)
    for conc in (4, 8, 16, 32, 48, 64)
)


@dataclass(frozen=True)
class Noise:
    """Standard deviations of log figures: from run to run by point, of a part that a whole round shares, by request."""

    ttft: float = 0.08
    tpot: float = 0.02
    throughput: float = 0.02
    shared_ttft: float = 0.0
    shared_tpot: float = 0.0
    request_ttft: float = 0.35
    request_tpot: float = 0.05
    unlike: float = 0.0  # how much the points differ in run-to-run noise: sd of the log of their sd

    def times(self, factor: float) -> Noise:
        """The same with `factor` times the run-to-run noise."""
        return replace(self, ttft=factor * self.ttft, tpot=factor * self.tpot, throughput=factor * self.throughput)


@dataclass(frozen=True)
class Effect:
    """What the server does differently: factors on TTFT and TPOT, at one point or (point=None) at all."""

    ttft: float = 1.0
    tpot: float = 1.0
    point: str | None = None


def requests_ttft(rng: np.random.Generator, n: int, spread: float) -> Floats:
    """TTFT of n requests over the median: lognormal, every twentieth behind something long (Pareto)."""
    return _some_late(rng, rng.lognormal(0, spread, n), 1.0)


def requests_tpot(rng: np.random.Generator, n: int, spread: float) -> Floats:
    """TPOT of n requests over the median: lognormal, every twentieth slowed down (Pareto)."""
    return _some_late(rng, rng.lognormal(0, spread, n), 0.15)


def _some_late(rng: np.random.Generator, values: Floats, scale: float) -> Floats:
    late = np.flatnonzero(rng.random(len(values)) < 0.05)
    values[late] *= 1 + scale * rng.pareto(3.0, len(late))
    return values


def sweep(
    rng: np.random.Generator,
    noise: Noise,
    runs: int = 3,
    points: tuple[Point, ...] = KIMI_K2,
    effect: Effect = Effect(),
) -> list[PointRuns]:
    """One sweep of `runs` rounds. Throughput = conc · OSL / mean E2EL (without run-to-run noise) · its own noise."""
    shared = [(rng.normal(0, noise.shared_ttft), rng.normal(0, noise.shared_tpot)) for _ in range(runs)]
    got = []
    for point in points:
        hit = effect.point in (None, point.key)
        ttft_level, tpot_level = point.ttft_s * (effect.ttft if hit else 1), point.tpot_s * (effect.tpot if hit else 1)
        wide = float(np.exp(rng.normal(0, noise.unlike)))
        samples = []
        for round_ttft, round_tpot in shared:
            ttft = ttft_level * requests_ttft(rng, point.n, noise.request_ttft)
            tpot = tpot_level * requests_tpot(rng, point.n, noise.request_tpot)
            rate = point.conc * OSL / (ttft + (OSL - 1) * tpot).reshape(10, -1).mean(axis=1)  # of each wave
            level = float(np.exp(rng.normal(0, wide * noise.throughput) - round_tpot))
            samples.append(
                RunSample(
                    ttft * np.exp(round_ttft + rng.normal(0, wide * noise.ttft)),
                    tpot * np.exp(round_tpot + rng.normal(0, wide * noise.tpot)),
                    level * 10 / float((1 / rate).sum()),
                    level * rate,
                )
            )
        got.append(PointRuns(point.key, samples))
    return got
