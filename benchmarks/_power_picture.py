"""Curves of power against effect size, ours beside a test that knows the noise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from benchmarks._simulated_sweeps import KIMI_K2, Noise, requests_tpot, requests_ttft

__all__ = ["draw", "oracle_point_power", "oracle_sweep_power", "sampling_var"]


def sampling_var(quantity: str, q: float, n: int, noise: Noise, repeats: int = 1500) -> float:
    """Variance of the log q-quantile of n requests, by simulation."""
    rng = np.random.default_rng(n)
    draw_one = requests_ttft if quantity == "ttft" else requests_tpot
    spread = noise.request_ttft if quantity == "ttft" else noise.request_tpot
    values = draw_one(rng, repeats * n, spread).reshape(repeats, n)
    return float(np.log(np.quantile(values, q, axis=1)).var())


def _run_var(quantity: str, q: float, noise: Noise) -> list[float]:
    run = (noise.ttft if quantity == "ttft" else noise.tpot) ** 2
    by_n = {n: run + sampling_var(quantity, q, n, noise) for n in {point.n for point in KIMI_K2}}
    return [by_n[point.n] for point in KIMI_K2]


def oracle_point_power(factor: float, alpha_one: float, noise: Noise, runs: int = 3) -> float:
    """Chance that a z test with the true variances finds `factor` on one point's median TPOT, at this p-value."""
    from scipy.special import ndtr, ndtri

    z = -float(ndtri(alpha_one / 2))
    effects = [math.log(factor) / math.sqrt(2 * var / runs) for var in _run_var("tpot", 0.5, noise)]
    return float(np.mean(ndtr(np.array(effects) - z)))


def oracle_sweep_power(factor: float, alpha_one: float, quantity: str, q: float, noise: Noise, runs: int = 3) -> float:
    """The same for a shift of all points, weighted by their true precision."""
    from scipy.special import ndtr, ndtri

    precision = sum(runs / (2 * var) for var in _run_var(quantity, q, noise))
    return float(ndtr(math.log(factor) * math.sqrt(precision) + float(ndtri(alpha_one / 2))))


def draw(path: Path, title: str, curves: dict[str, list[tuple[float, float]]]) -> None:
    """Write a PNG: one line a curve of (effect in per cent, power); an oracle's is dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, points in curves.items():
        known = "knows the noise" in name
        x, y = zip(*points, strict=True)
        axes.plot(x, [100 * v for v in y], "--" if known else "o-", color="0.35" if known else None, ms=4, label=name)
    axes.axhline(95, color="0.8", lw=0.8, zorder=0)
    axes.set(xlabel="true slowdown (%)", ylabel="found (%)", ylim=(-2, 102), title=title)
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
