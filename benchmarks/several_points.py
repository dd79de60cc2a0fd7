"""Several points of a sweep slower by themselves: how often a comparison goes red, and how many of them it names.

python -m benchmarks.several_points --docs docs    # minutes; the table of docs/statistics.md

Points that change scatter as noise does. The column "without" judges the same pairs with no look at how rounds follow each
other, the part of the rule that takes that scatter in.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.following import Following
from bench_tests.compare.judge import judge_tables
from benchmarks import _comparison as comparison
from benchmarks._page import put
from benchmarks._scenarios import ISL, KEYS, Scenario, pair

__all__ = ["ROWS", "Row", "found", "main"]

BEGIN, END = "<!-- several points: begin -->", "<!-- several points: end -->"
QUIET = Scenario("", one_start=True)  # 2 % on TPOT, 8 % on TTFT, three rounds a side
MOVES = {"p99_ttft": 0.0, "mean_tpot": 1.0, "output_throughput": -1.0}  # OSL 128: TPOT makes most of E2EL


@dataclass(frozen=True)
class Row:
    """So many points of 48, any or those of the longest inputs, and how much their TPOT rises."""

    points: int
    slower: float
    longest: bool = False

    @property
    def words(self) -> str:
        return f"{self.points} points{' of the longest inputs' if self.longest else ''}, +{self.slower:.0%}".replace(
            "%", " %"
        )

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        if self.longest:
            return np.argsort(-ISL, kind="stable")[: self.points]
        return rng.choice(len(KEYS), self.points, replace=False)


ROWS = (
    Row(3, 0.10),
    Row(6, 0.10),
    Row(12, 0.08),
    Row(12, 0.10),
    Row(12, 0.10, longest=True),
    Row(24, 0.10, longest=True),
)


def found(row: Row, pairs: int, seed: int, order: bool = True) -> tuple[int, int]:
    """In how many pairs anything was named a regression, and how many of the slower points were, over all pairs."""
    rng, red, named = np.random.default_rng([seed, ROWS.index(row)]), 0, 0
    for _ in range(pairs):
        tables, _moments = pair(rng, replace(QUIET, requests_seed=seed))
        at = row.draw(rng)
        added = np.zeros((len(KEYS), 1))
        added[at] = np.log1p(row.slower)
        tables = {name: replace(table, cur=table.cur + MOVES[name] * added) for name, table in tables.items()}
        if order:
            judged = judge_tables(tables, KEYS, alpha=comparison.ALPHA)
        else:
            with patch("bench_tests.compare.judge.following", lambda *_: Following()):
                judged = judge_tables(tables, KEYS, alpha=comparison.ALPHA)
        points = {c.point for c in judged.changes if c.verdict == "regression"}
        red += bool(points) or any(c.verdict == "regression" for c in judged.overall)
        named += sum(KEYS[i] in points for i in at.tolist())
    return red, named


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=400, help="a row (default: 400)")
    parser.add_argument("--seed", type=int, default=55120807)
    parser.add_argument("--docs", type=Path, help="renew the table in DIR/statistics.md")
    options = parser.parse_args(argv)
    lines = ["| slower in TPOT | pairs | exit code 1, % (95 % interval) | of these points named | without: exit code 1 | named |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for row in ROWS:
        red, named = found(row, options.pairs, options.seed)
        plain_red, plain_named = found(row, options.pairs, options.seed, order=False)
        of = options.pairs * row.points
        lines.append(
            f"| {row.words} | {options.pairs} | {comparison.share(red, options.pairs)} | {100 * named / of:.0f} % | "
            f"{100 * plain_red / options.pairs:.1f} % | {100 * plain_named / of:.0f} % |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    text = "\n".join(lines)
    print(text)
    if options.docs:
        made = f"Made by `python -m benchmarks.several_points --pairs {options.pairs} --seed {options.seed}`:"
        put(options.docs, BEGIN, END, f"{made}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
