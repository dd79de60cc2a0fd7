"""How often `confident` verdicts are wrong, and what they find: the table of docs/statistics.md, made again.

    python -m benchmarks.confident_verdicts --quick          # a minute: a smoke test
    python -m benchmarks.confident_verdicts --out FILE       # minutes: Markdown
    python -m benchmarks.confident_verdicts --docs docs      # ... and into docs/statistics.md

No server: the judges of real runs are given requests whose true p99 is known. `dependence`'s constants were chosen with
the families marked "tuned"; the others were looked at once they stood.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench_tests.verdict.confidence import quantile_interval
from bench_tests.verdict.counts import shared, verdict_of_counts
from bench_tests.verdict.sequential import SequentialJudge
from benchmarks._page import put

__all__ = ["FAMILIES", "Family", "coverage", "verdicts"]

Floats = NDArray[np.float64]
BEGIN, END = "<!-- confident: begin -->", "<!-- confident: end -->"
BUDGET, SIGMA, Q = 2000, 0.05, 0.99
COLUMNS = ("dependence", "", "concurrency", "ICC", "at the limit: PASS, FAIL", "sequential: PASS, FAIL",
           "1.2 × truth: PASS", "sequential (requests)", "0.8 × truth: FAIL", "sequential (requests)")  # fmt: skip
CONCURRENCIES, CORRELATIONS = (8, 64), (0.0, 0.2, 0.5)


def _waves(rng: np.random.Generator, n: int, conc: int) -> tuple[int, Callable[[tuple[int, int]], Floats]]:
    return -(-n // conc), lambda shape: rng.normal(0, 1, shape)


def normal(rng: np.random.Generator, n: int, conc: int, icc: float) -> Floats:
    """A part of the log latency is shared by all requests of a wave."""
    count, draw = _waves(rng, n, conc)
    return np.ravel(icc**0.5 * draw((count, 1)) + (1 - icc) ** 0.5 * draw((count, conc)))[:n]


def misaligned(rng: np.random.Generator, n: int, conc: int, icc: float) -> Floats:
    """The same, but where a wave begins is not known."""
    start = int(rng.integers(conc))
    return normal(rng, n + conc, conc, icc)[start : start + n]


def remembered(rng: np.random.Generator, n: int, conc: int, icc: float, phi: float = 0.8) -> Floats:
    """The shared part drifts: an autoregression from wave to wave."""
    count, draw = _waves(rng, n, conc)
    shocks, shared = draw((count, 1)).ravel(), np.empty(count)
    shared[0] = shocks[0]
    for i in range(1, count):
        shared[i] = phi * shared[i - 1] + (1 - phi * phi) ** 0.5 * shocks[i]
    return np.ravel(icc**0.5 * shared[:, None] + (1 - icc) ** 0.5 * draw((count, conc)))[:n]


def heavy(rng: np.random.Generator, n: int, conc: int, icc: float) -> Floats:
    """Slow waves are slow as a whole: a Student's t with 3 degrees of freedom, the scale shared by the wave."""
    count = -(-n // conc)
    scale = np.sqrt(rng.chisquare(3, (count, 1)) / 3) if icc else np.sqrt(rng.chisquare(3, (count, conc)) / 3)
    return np.ravel(normal(rng, count * conc, conc, icc).reshape(count, conc) / scale)[:n]


def staircase(rng: np.random.Generator, n: int, conc: int, icc: float) -> Floats:
    """A wave stands in line for its prefill: latency rises with the place in it, and waves differ."""
    count, draw = _waves(rng, n, conc)
    return np.ravel(icc**0.5 * draw((count, 1)) + 3 * np.arange(conc) / conc + 0.3 * draw((count, conc)))[:n]


def skewed(rng: np.random.Generator, n: int, conc: int, icc: float) -> Floats:
    """Exponential parts, shared and own."""
    count = -(-n // conc)
    return np.ravel(icc**0.5 * rng.exponential(1, (count, 1)) + (1 - icc) ** 0.5 * rng.exponential(1, (count, conc)))[
        :n
    ]


def scaled(rng: np.random.Generator, n: int, conc: int, icc: float) -> Floats:
    """Waves differ in how far their requests spread: a log-normal scale, shared by the wave where anything is."""
    count = -(-n // conc)
    scale = np.exp(0.5 * rng.normal(0, 1, (count, 1 if icc else conc)))
    return np.ravel(normal(rng, count * conc, conc, icc).reshape(count, conc) * scale)[:n]


def stalls(rng: np.random.Generator, n: int, conc: int, icc: float) -> Floats:
    """One wave in twenty stalls as a whole, by six standard deviations; the others share a normal part."""
    count = -(-n // conc)
    hit = rng.random((count, 1 if icc else conc)) < 0.05
    return np.ravel(normal(rng, count * conc, conc, icc).reshape(count, conc) + 6 * hit)[:n]


@dataclass(frozen=True)
class Family:
    """A kind of dependence: draws log latencies in units of SIGMA, shape (n,)."""

    label: str
    draw: Callable[[np.random.Generator, int, int, float], Floats]
    tuned: bool = False


FAMILIES = {
    "normal": Family("shared part of the wave, normal", normal, tuned=True),
    "misaligned": Family("the same, waves begin anywhere", misaligned, tuned=True),
    "remembered": Family("shared part drifts, 0.8 from wave to wave", remembered, tuned=True),
    "half remembered": Family("shared part drifts, 0.5 from wave to wave", partial(remembered, phi=0.5)),
    "heavy": Family("slow waves are slow as a whole, t(3)", heavy, tuned=True),
    "staircase": Family("latency rises with the place in the wave", staircase),
    "skewed": Family("exponential parts", skewed),
    "scaled": Family("waves differ in their spread, log-normal", scaled),
    "stalls": Family("one wave in twenty stalls as a whole", stalls, tuned=True),
}


def _truth(family: str, conc: int, icc: float) -> float:
    draw, rng = FAMILIES[family].draw, np.random.default_rng(99)
    return float(np.quantile(np.concatenate([draw(rng, 400 * conc, conc, icc) for _ in range(5000 // conc)]), Q))


def verdicts(family: str, conc: int, icc: float, tries: int, seed: int) -> Counter[str]:
    """Verdicts of `tries` runs of 2,000 requests less the start burst, limits at 1, 1.2 and 0.8 times the true p99.

    Keys: "fixed 1 PASS", "sequential 1.2 PASS", ... and "used 1.2": requests of the sequential runs, summed.
    """
    rng, count = np.random.default_rng(seed), Counter[str](tries=tries)
    truth = np.exp(SIGMA * _truth(family, conc, icc))
    n = BUDGET - conc
    for _ in range(tries):
        values = np.exp(SIGMA * FAMILIES[family].draw(rng, n, conc, icc))
        for factor in (1, 1.2, 0.8):
            limit = float(truth * factor)
            over = float((values > limit).sum())
            fixed = verdict_of_counts(over, over, n, 1 - Q, 0.025)
            if fixed != "INSUFFICIENT":
                fixed = verdict_of_counts(over, over, n, 1 - Q, 0.025, shared(values, Q, limit, conc))
            judge = SequentialJudge(Q, limit, max_requests=n, block=conc)
            count[f"fixed {factor} {fixed}"] += 1
            count[f"sequential {factor} {judge.update(values)}"] += 1
            count[f"used {factor}"] += judge.decided_at or n
    return count


def coverage(phi: float, conc: int, waves: int, tries: int, seed: int) -> Counter[str]:
    """How many 95 % intervals of the median of `waves` waves hold the true one; half of the log variance is shared by a
    wave, and its part drifts with `phi` from one to the next (1: a straight line across the run, as far as 4 sd).
    """
    rng, count = np.random.default_rng(seed), Counter[str](tries=tries)
    for _ in range(tries):
        if phi == 1:
            line = np.repeat(np.linspace(-2, 2, waves) * rng.choice([-1, 1]), conc)
            scores = normal(rng, waves * conc, conc, 0.0) + line
        else:
            scores = remembered(rng, waves * conc, conc, 0.5, phi)
        for name, block in (("waves", conc), ("independent", None)):
            ends = quantile_interval(np.exp(0.02 * scores), 0.5, block=block)
            count[name] += ends.low <= 1 <= ends.high
    return count


def _share(count: Counter[str], key: str) -> str:
    return f"{100 * count[key] / count['tries']:.1f} %"


def _spread(job: tuple[str, int, float, int, int]) -> Counter[str]:
    return verdicts(*job)


def _spread_coverage(job: tuple[float, int, int, int, int]) -> Counter[str]:
    return coverage(*job)


def report(tries: int, seed: int, processes: int) -> tuple[str, bool]:
    """The tables as Markdown, and whether the families without memory keep to 2.5 % (within chance) at the limit."""
    cells = [(name, conc, icc) for name in FAMILIES for conc in CONCURRENCIES for icc in CORRELATIONS]
    drifts = [(phi, conc, waves) for phi in (0.0, 0.5, 0.8, 1.0) for conc in (4, 64) for waves in (10, 40, 160)]
    with ProcessPoolExecutor(processes) as pool:
        found = list(pool.map(_spread, [(*cell, tries, seed + i) for i, cell in enumerate(cells)]))
        covered = list(pool.map(_spread_coverage, [(*cell, tries, seed + i) for i, cell in enumerate(drifts)]))
    error = 100 * (0.025 * 0.975 / tries) ** 0.5
    lines = [
        f"Made by `python -m benchmarks.confident_verdicts --tries {tries} --seed {seed}`:",
        f"p99 of {BUDGET:,} requests less the start burst, latencies with a standard deviation of {SIGMA:.0%} (of the",
        f"logarithm), {tries} runs a cell (standard error of 2.5 %: {error:.1f} %).",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "| --- " * len(COLUMNS) + "|",
    ]
    good = True
    for (name, conc, icc), count in zip(cells, found, strict=True):
        family = FAMILIES[name]
        wrong = [
            f"{_share(count, f'{kind} 1 PASS')}, {_share(count, f'{kind} 1 FAIL')}" for kind in ("fixed", "sequential")
        ]
        power = []
        for factor, word in ((1.2, "PASS"), (0.8, "FAIL")):
            used = count[f"used {factor}"] / tries
            power += [
                _share(count, f"fixed {factor} {word}"),
                f"{_share(count, f'sequential {factor} {word}')} ({used:,.0f})",
            ]
        lines.append(
            f"| {family.label} | {'tuned' if family.tuned else 'held out'} | {conc} | {icc:g} | {' | '.join(wrong + power)} |"
        )
        if name == "normal":
            limit = tries * (0.025 + 3 * error / 100)
            good &= (
                max(count[f"{kind} 1 {word}"] for kind in ("fixed", "sequential") for word in ("PASS", "FAIL")) <= limit
            )
    lines += [
        "",
        "Coverage of the 95 % interval of the median, half of the log variance shared by a wave:",
        "",
        "| shared part from wave to wave | concurrency | waves | with the waves | requests taken as independent |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (phi, conc, waves), count in zip(drifts, covered, strict=True):
        what = "none shared, a straight line across the run" if phi == 1 else f"correlation {phi:g}"
        lines.append(f"| {what} | {conc} | {waves} | {_share(count, 'waves')} | {_share(count, 'independent')} |")
    return "\n".join(lines), good


def main() -> int:
    """Exit status 1 when a promised error rate is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=1000, help="runs a cell")
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="40 runs a cell")
    parser.add_argument("--out", type=Path, help="a file for the Markdown")
    parser.add_argument("--docs", type=Path, help="the folder whose statistics.md gets the tables")
    options = parser.parse_args()
    text, good = report(40 if options.quick else options.tries, options.seed, options.processes)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    if options.docs:
        put(options.docs, BEGIN, END, text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
