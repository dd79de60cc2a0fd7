"""How often two servers measured in turn are called different: the table of docs/statistics.md, made again.

    python -m benchmarks.paired_servers --quick        # seconds: a smoke test
    python -m benchmarks.paired_servers --docs docs    # a minute or two, and into docs/statistics.md

No server: the judge of real rounds is given figures of runs whose truth is known. A run's figures scatter as on the machines of
docs/statistics.md (2 % of TPOT, 8 % of TTFT), and the machine drifts meanwhile in a straight line, a wave, or at random.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Hashable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.change import SweepComparison
from bench_tests.compare.paired import ORDERS, compare_paired
from bench_tests.compare.samples import PointRuns, RunSample
from benchmarks._page import put

__all__ = ["comparison"]

BEGIN, END = "<!-- paired: begin -->", "<!-- paired: end -->"
POINTS = [(isl, conc) for isl in (1024, 4096, 8192) for conc in (1, 4, 16, 64)]
NOISE = {"p99_ttft": 0.08, "mean_tpot": 0.02, "output_throughput": 0.02}
N = 640


def _drift(kind: str, size: float, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """ln of how much slower the machine is at each of `count` moments, up to `size` over the session."""
    t = np.linspace(0, 1, count)
    if kind == "line":
        return size * t
    if kind == "wave":
        return size / 2 * np.sin(2 * math.pi * (t + rng.random()))
    walk = np.cumsum(rng.normal(0, 1, count))
    return size * walk / max(float(np.ptp(walk)), 1e-9)


def comparison(rng: np.random.Generator, rounds: int, effect: float, kind: str, points: int) -> SweepComparison:
    """A session of `rounds` rounds of ABBA and BAAB over the points; B has a TPOT larger by `effect`."""
    used = POINTS[:points]
    order = [(r, p, side) for r in range(rounds) for p in range(points) for side in ORDERS[r % 2]]
    drift = _drift(kind, math.log(1.1), rng, len(order))
    runs: dict[str, list[list[RunSample]]] = {side: [[] for _ in used] for side in "AB"}
    for moment, (_, p, side) in zip(drift, order, strict=True):
        isl, conc = used[p]
        slow = math.log1p(effect) * (side == "B") + moment
        noise = {name: rng.normal(0, sd) for name, sd in NOISE.items()}
        tpot = math.log(0.008 + 0.0001 * conc) + slow + noise["mean_tpot"]
        rate = math.log(conc / (0.008 + 0.0001 * conc)) - slow + noise["output_throughput"]
        ttft = math.log(0.05 + isl * 1e-5) + moment + noise["p99_ttft"]
        figures = {"mean_tpot": tpot, "output_throughput": rate, "p99_ttft": ttft}
        runs[side][p].append(RunSample(summary={k: math.exp(v) for k, v in figures.items()}, n=N))
    keys = [f"isl{isl}-conc{conc}" for isl, conc in used]
    a, b = ([PointRuns(key, found) for key, found in zip(keys, runs[side], strict=True)] for side in "AB")
    levels: dict[Hashable, tuple[float, float]] = {
        key: (float(conc), float(isl)) for key, (isl, conc) in zip(keys, used, strict=True)
    }
    return compare_paired(a, b, levels)


def report(tries: int, seed: int) -> tuple[str, bool]:
    """The table as Markdown, and whether what is promised is kept."""
    lines = [
        f"Made by `python -m benchmarks.paired_servers --tries {tries} --seed {seed}`: {tries} sessions a cell, {len(POINTS)} points or 1;",
        "runs scatter by 2 % of TPOT and throughput and 8 % of p99 TTFT; the machine drifts by 10 % over the session.",
        "",
        "| drift | points | rounds (ABBA) | A/A: any alarm | +2 % TPOT found | +5 % TPOT found |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    good = True
    cells = [("line", len(POINTS), 5), ("wave", len(POINTS), 5), ("random walk", len(POINTS), 5), ("line", len(POINTS), 3),
             ("line", 1, 5), ("line", 1, 10)]  # fmt: skip
    for place, (kind, points, rounds) in enumerate(cells):
        rng, count = np.random.default_rng([seed, place]), Counter[float]()
        for effect in (0.0, 0.02, 0.05):
            for _ in range(tries):
                count[effect] += bool(comparison(rng, rounds, effect, kind, points).regressions)
        shares = [f"{100 * count[effect] / tries:.1f} %" for effect in (0.0, 0.02, 0.05)]
        lines.append(f"| {kind} | {points} | {rounds} | {' | '.join(shares)} |")
        if points > 1 and rounds == 5 and kind == "line":
            good &= count[0.0] <= 0.01 * tries and count[0.02] >= 0.95 * tries
    return "\n".join(lines), good


def main() -> int:
    """Exit status 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=300, help="sessions a cell")
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--quick", action="store_true", help="20 sessions a cell")
    parser.add_argument("--docs", type=Path, help="the folder whose statistics.md gets the table")
    options = parser.parse_args()
    text, good = report(20 if options.quick else options.tries, options.seed)
    print(text)
    if options.docs:
        put(options.docs, BEGIN, END, text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
