"""The experiments behind verdict_error_rates: each returns counts, and each uses the code that judges a real sweep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.run_noise import RunNoise, assumed_noise, pool_run_noise
from bench_tests.compare.samples import METRICS, PointRuns, RunSample, log_figure
from bench_tests.verdict.confidence import judge, quantile_interval
from bench_tests.verdict.sequential import SequentialJudge
from benchmarks._simulated_sweeps import KIMI_K2, Noise, requests_tpot, requests_ttft, sweep

__all__ = ["DISTRIBUTIONS", "Sweeps", "coverage", "false_fails", "fixed_sizes",
           "sequential_border", "sequential_sweep"]  # fmt: skip

USUAL = Noise()
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]
DISTRIBUTIONS: dict[str, Draw] = {
    "lognormal": lambda rng, shape: rng.lognormal(0, 0.5, shape),
    "bimodal": lambda rng, shape: rng.lognormal(0, 0.1, shape) * np.where(rng.random(shape) < 0.3, 4.0, 1.0),
    "heavy-tailed": lambda rng, shape: (1 - rng.random(shape)) ** -0.5,  # Pareto, infinite variance
}


@lru_cache(maxsize=64)
def _true_quantile(kind: str, q: float) -> float:
    if kind == "heavy-tailed":
        return float((1 - q) ** -0.5)
    draws = DISTRIBUTIONS[kind](np.random.default_rng(0), (1, 8_000_000))
    return float(np.quantile(draws, q))


def coverage(kind: str, q: float, n: int, repeats: int, seed: int) -> float:
    """Share of 95 % intervals of the q-quantile of n requests that hold the true one."""
    rng = np.random.default_rng(seed)
    real = _true_quantile(kind, q)
    hits = 0
    for _ in range(repeats):
        interval = quantile_interval(DISTRIBUTIONS[kind](rng, (1, n)), q)
        hits += interval.low <= real <= interval.high
    return hits / repeats


@dataclass(frozen=True)
class Sweeps:
    """Sweeps to judge against objectives that lie at `ratio` = true p99 / limit."""

    label: str
    sweeps: int
    seed: int
    noise: Noise = USUAL
    runs: int = 3
    ratio: float = 0.8


@lru_cache(maxsize=4)
def _p99(quantity: str, spread: float) -> float:
    draw = requests_ttft if quantity == "ttft" else requests_tpot
    return float(np.quantile(draw(np.random.default_rng(0), 2_000_000, spread), 0.99))


def _values(run: RunSample, quantity: str) -> Floats:
    values = run.ttft_s if quantity == "ttft" else run.tpot_s
    assert values is not None
    return values


def _measured_noise(points: list[PointRuns], quantity: str) -> RunNoise:
    logs = [[log_figure(run, METRICS[f"median_{quantity}"]) for run in point.runs] for point in points]
    medians = [np.exp([figure for figure, _ in point]) for point in logs]
    return pool_run_noise(quantity, medians, [float(np.mean([var for _, var in point])) for point in logs])


def false_fails(job: Sweeps) -> Counter[str]:
    """Verdicts of `confident` mode on p99 TTFT and p99 TPOT of each point."""
    rng = np.random.default_rng(job.seed)
    count: Counter[str] = Counter(sweeps=job.sweeps)
    for _ in range(job.sweeps):
        points = sweep(rng, job.noise, job.runs)
        verdicts: Counter[str] = Counter()
        for quantity in ("ttft", "tpot"):
            noise = _measured_noise(points, quantity) if job.runs > 1 else assumed_noise(quantity)
            spread = job.noise.request_ttft if quantity == "ttft" else job.noise.request_tpot
            for point, runs in zip(KIMI_K2, points, strict=True):
                level = point.ttft_s if quantity == "ttft" else point.tpot_s
                values = np.concatenate([_values(run, quantity) for run in runs.runs])
                limit = level * _p99(quantity, spread) / job.ratio
                verdicts[judge(values, 0.99, limit, "confident", noise=noise, runs=job.runs).verdict] += 1
                count["point mode FAIL"] += judge(values, 0.99, limit).verdict == "FAIL"
        count.update(verdicts)
        count["any FAIL"] += verdicts["FAIL"] > 0
    return count


def sequential_sweep(points: int, budget: int, seed: int) -> list[tuple[float, int, str, tuple[str, ...]]]:
    """For points at 0.5 to 2 times their SLO (log-uniform): (ratio, requests used, verdict, verdicts of fixed runs).

    The fixed runs have FIXED[i] requests, the first of the same ones.
    """
    rng = np.random.default_rng(seed)
    rows: list[tuple[float, int, str, tuple[str, ...]]] = []
    for _ in range(points):
        ratio = float(np.exp(rng.uniform(math.log(0.5), math.log(2))))
        values = ratio * requests_ttft(rng, budget, 0.35) / _p99("ttft", 0.35)
        sequential = SequentialJudge(0.99, 1.0, max_requests=budget)
        for start in range(0, budget, 50):
            if sequential.update(values[start : start + 50]):
                break
        used = sequential.decided_at or budget
        fixed = tuple(judge(values[:n], 0.99, 1.0, "confident").verdict for n in fixed_sizes(budget))
        rows.append((ratio, used, sequential.verdict or "INSUFFICIENT", fixed))
    return rows


def fixed_sizes(budget: int) -> list[int]:
    """Sizes of fixed runs that are tried against a sequential one."""
    return list(range(100, budget + 1, 100))


def sequential_border(repeats: int, budget: int, conc: int, icc: float, seed: int) -> Counter[str]:
    """Wrong verdicts with a p99 exactly at its limit: `plain` takes requests as independent, `aware` knows the block.

    Requests of a wave of `conc` share a part of their log latency: `icc` of its variance.
    """
    rng = np.random.default_rng(seed)
    limit = math.exp(0.5 * 2.3263478740408408)
    count: Counter[str] = Counter(repeats=repeats)
    for _ in range(repeats):
        waves = budget // conc
        shared, own = rng.normal(0, math.sqrt(icc), (waves, 1)), rng.normal(0, math.sqrt(1 - icc), (waves, conc))
        values = np.exp(0.5 * (shared + own)).ravel()
        for name, block in (("plain", 1), ("aware", conc)):
            sequential = SequentialJudge(0.99, limit, max_requests=waves * conc, block=block)
            for start in range(0, len(values), 10 * conc):
                if verdict := sequential.update(values[start : start + 10 * conc]):
                    count[f"{name} {verdict}"] += 1
                    break
    return count
