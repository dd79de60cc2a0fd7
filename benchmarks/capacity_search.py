"""How often a search's interval holds the capacity, and what it costs: the table of docs/statistics.md, made again.

    python -m benchmarks.capacity_search --quick            # seconds: a smoke test
    python -m benchmarks.capacity_search --docs docs        # two minutes, and into docs/statistics.md

No server: the search and the judge of real probes are given requests of a server whose p99 TPOT at each load is known.
TPOT = (base + per_seq · conc) · e^(σ·x), x normal; a part of x is shared by all requests of a wave. The capacity is where
the p99 of that meets the limit; it is drawn anew for each search, uniformly on a log scale.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.capacity import Capacity, Probe, Search, Word
from bench_tests.sweep.find import MOST_PROBES, Find
from bench_tests.sweep.profile import Profile, load_profile
from bench_tests.sweep.slo import Slo
from bench_tests.verdict.early import Criterion, EarlyVerdict
from benchmarks._page import put

__all__ = ["Server", "search"]

BEGIN, END = "<!-- capacity: begin -->", "<!-- capacity: end -->"
BASE_S, PER_SEQ_S, Q99 = 0.008, 0.0003, 2.3263478740408408
TOLD = 4  # times in a wave's time that a run is looked at


@dataclass(frozen=True)
class Server:
    """`sigma`: of the log TPOT of a request; `shared`: which part of its variance a wave shares."""

    sigma: float
    shared: float

    def p99_s(self, conc: float) -> float:
        return (BASE_S + PER_SEQ_S * conc) * math.exp(Q99 * self.sigma)

    def draw(self, rng: np.random.Generator, conc: int, n: int) -> NDArray[np.float64]:
        """TPOT of n requests in the order of sending, seconds, shape (n,)."""
        waves = -(-n // conc)
        start = int(rng.integers(conc))  # where a wave begins is not known
        common = np.repeat(rng.normal(0, 1, waves + 1), conc)[start : start + n]
        scores = self.shared**0.5 * common + (1 - self.shared) ** 0.5 * rng.normal(0, 1, n)
        return np.asarray((BASE_S + PER_SEQ_S * conc) * np.exp(self.sigma * scores))


def _find(attain: float | None) -> Find:
    return Find("conc", 1, 256, 0.05, attain)


def probe(
    rng: np.random.Generator, server: Server, conc: int, limit_s: float, attain: float | None, look: bool
) -> Probe:
    """What the judge says of one load."""
    find = _find(attain)
    profile = find.profile(_profile(limit_s), find.point(1024, 128, conc), look)
    slo = profile.slo
    if look:
        seen = server.draw(rng, conc, profile.num_prompts(find.point(1024, 128, conc)))
        return Probe(conc, "looked", len(seen), over=math.log(float(np.quantile(seen, 0.99)) / limit_s))
    objectives = slo.objectives(find.point(1024, 128, conc))
    criterion = Criterion(objectives, slo.level, attain, {"tpot": limit_s} if attain else {}, 128, slo.first)
    judge = EarlyVerdict(criterion, slo.max_requests, conc, burst=False)
    values = server.draw(rng, conc, slo.max_requests)
    step = max(1, conc // TOLD)
    for begin in range(0, slo.max_requests, step):
        if judge.add([(0.1, v) for v in values[begin : begin + step].tolist()]):
            break
    found = {j.verdict for j in judge.judges.values()}
    taken = min(judge.taken + conc, slo.max_requests)  # those in flight are finished
    word: Word = "beyond" if "FAIL" in found else "within" if found == {"PASS"} else "unclear"
    seen = values[: judge.taken]
    return Probe(conc, word, taken, over=math.log(float(np.quantile(seen, attain or 0.99)) / limit_s))


def _profile(limit_s: float) -> Profile:
    return replace(load_profile("demo"), slo=Slo({"p99_tpot": limit_s}))


def search(
    rng: np.random.Generator, server: Server, capacity: float, attain: float | None = None
) -> tuple[Capacity, int]:
    """One search for a known capacity, and the requests that it took."""
    quantile = Q99 if attain is None else float(_normal_quantile(attain))
    limit_s = (BASE_S + PER_SEQ_S * capacity) * math.exp(quantile * server.sigma)
    found, total = Search(_find(attain)), 0
    while (load := found.next()) is not None:
        told = probe(rng, server, int(load), limit_s, attain, found.look)
        total += told.n
        found.tell(told)
    return Capacity.of(1024, 128, found), total


def _normal_quantile(q: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(q))


def holds(found: Capacity, capacity: float) -> bool:
    """Whether the capacity lies in the interval: lo ≤ capacity < hi, an end that was not found being no bound."""
    return (found.lo is None or found.lo <= capacity) and (found.hi is None or capacity < found.hi)


def grid_requests(width: float) -> int:
    """Requests of a grid from 1 to 256 whose neighbours lie `width` apart, each point with a probe's most requests."""
    find, at, total = _find(None), 1.0, 0
    while at <= 256:
        total += find.profile(_profile(1.0), find.point(1024, 128, int(at))).slo.max_requests
        at = max(at + 1, at * (1 + width))
    return total


def report(tries: int, seed: int) -> tuple[str, bool]:
    """The table as Markdown, and whether what is promised is kept."""
    doubling = grid_requests(1.0)
    lines = [
        f"Made by `python -m benchmarks.capacity_search --tries {tries} --seed {seed}`:",
        f"`--find conc --between 1:256 --within 5%`, {tries} searches a row. The doubling grid is 1, 2, 4",
        f"... 256 with a probe's most requests at each point ({doubling:,}); it knows the capacity to a factor of 2. The even grid",
        "has its points as close as the median interval of the row is wide.",
        "",
        "| criterion | σ of log TPOT | shared by a wave | interval holds the capacity | probes: mean, most | interval: median width | requests | of the doubling grid | of the even grid | nothing decided |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    good = True
    cells = [(attain, sigma, shared) for attain in (None, 0.99, 0.9) for sigma in (0.02, 0.1) for shared in (0.0, 0.3)]
    for place, (attain, sigma, shared) in enumerate(cells):
        rng, count, widths, probes, used = np.random.default_rng([seed, place]), Counter[str](), [], [], 0
        for _ in range(tries):
            capacity = math.exp(rng.uniform(math.log(1.5), math.log(250)))
            found, total = search(rng, Server(sigma, shared), capacity, attain)
            count["holds"] += holds(found, capacity) and not found.why_not
            count["wrong"] += not holds(found, capacity)
            count["undecided"] += bool(found.why_not)
            if found.lo and found.hi:
                widths.append(found.hi / found.lo - 1)
            probes.append(sum(p.word != "looked" for p in found.probes))
            used += total
        width = float(np.median(widths))
        share = used / tries / grid_requests(width)
        good &= count["holds"] >= 0.95 * tries and max(probes) <= MOST_PROBES and share <= 0.5
        said = "p99 TPOT" if attain is None else f"goodput, --attain {attain:.0%}"
        lines.append(
            f"| {said} | {sigma:.0%} | {shared:.0%} | {100 * count['holds'] / tries:.1f} % | {np.mean(probes):.1f}, {max(probes)} | "
            f"{width:.1%} | {used / tries:,.0f} | {used / tries / doubling:.0%} | {share:.0%} | {count['undecided']} |"
        )
    return "\n".join(lines), good


def main() -> int:
    """Exit status 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=200, help="searches a row")
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--quick", action="store_true", help="10 searches a row")
    parser.add_argument("--docs", type=Path, help="the folder whose statistics.md gets the table")
    options = parser.parse_args()
    text, good = report(10 if options.quick else options.tries, options.seed)
    print(text)
    if options.docs:
        put(options.docs, BEGIN, END, text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
