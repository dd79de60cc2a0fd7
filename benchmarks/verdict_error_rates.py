"""How often the verdicts are wrong, and how small a change they find: the figures of docs/statistics.md, made again.

    python -m benchmarks.verdict_error_rates --quick            # under a minute: a smoke test with wider bounds
    python -m benchmarks.verdict_error_rates --out DIR          # minutes: Markdown, JSON and pictures into DIR
    python -m benchmarks.verdict_error_rates --docs docs        # ... and into docs/statistics.md and docs/img

Each part is written to DIR as it ends; with `--only PART` the others are taken from there.
No server: simulated sweeps with known truth go through the code that judges real ones. Exit status 1 when a target is
missed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks._comparison import FALSE_ALARMS, FOUND, Pairs, count, hits, oracle, rows_of_alarms, rows_of_power
from benchmarks._error_rate_runs import DISTRIBUTIONS, coverage
from benchmarks._power_picture import draw

__all__ = ["main"]

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
TITLES = {
    "power_point": "Found: one point of 48 slower in TPOT (that point named)",
    "power_sweep": "Found: all points slower in TPOT, within one start of the server",
    "power_days": "Found: all points slower, ten baseline days, a day's sd of 1 %",
}
CURVES = {  # by picture: what is drawn, and which rows
    "power_point": ("this point named", "TPOT at one point, 3 against 3"),
    "power_sweep": ("the sweep's mean TPOT", "TPOT over the sweep, one start"),
    "power_days": ("the sweep", "ten baseline days"),
}
J = TypeVar("J")
R = TypeVar("R")
Curves = dict[str, list[tuple[float, float]]]


@dataclass
class Report:
    """What was measured; tables go to Markdown, targets decide the exit status."""

    quick: bool
    seed: int
    lines: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    targets: list[tuple[str, float, str, float, bool]] = field(default_factory=list)
    curves: dict[str, Curves] = field(default_factory=dict)
    took_s: float = 0.0

    def add(self, part: Report) -> None:
        """Take in what another part of the experiments found."""
        self.lines += part.lines
        self.figures |= part.figures
        self.targets += part.targets
        self.curves |= part.curves
        self.took_s += part.took_s

    def table(self, title: str, head: list[str], rows: Iterable[list[str]]) -> None:
        """Add a Markdown table."""
        self.lines += [f"**{title}**", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
        self.lines += [f"| {' | '.join(row)} |" for row in rows] + [""]

    def target(self, name: str, measured: float, sign: str, bound: float, trials: int) -> None:
        """Hold a figure against a target; a quick run is too small for that and allows three standard errors more."""
        slack = 3 * math.sqrt(bound * (1 - bound) / trials) if self.quick else 0.0
        ok = measured <= bound + slack if sign == "≤" else measured >= bound - slack
        self.targets.append((name, measured, sign, bound, ok))


class Work:
    """Runs jobs on at most two processes, each job cut into pieces with seeds of their own."""

    def __init__(self, pool: ProcessPoolExecutor, seeds: np.random.SeedSequence, scale: float) -> None:
        self.pool, self.seeds, self.scale = pool, seeds, scale

    def seed(self) -> int:
        """A fresh seed."""
        return int(self.seeds.spawn(1)[0].generate_state(1)[0])

    def map(self, work: Callable[[J], R], jobs: list[J]) -> list[R]:
        """The results in the order of the jobs."""
        return list(self.pool.map(work, jobs))

    def pairs(self, jobs: list[Pairs]) -> list[Counter[str]]:
        """Total the alarms of each job."""
        return self._total(count, "pairs", jobs)

    def _total(self, work: Callable[[Any], Counter[str]], field_name: str, jobs: list[Any]) -> list[Counter[str]]:
        pieces: list[Any] = []
        owner: list[int] = []
        for i, job in enumerate(jobs):
            left = max(8, round(getattr(job, field_name) * self.scale))
            while left > 0:
                pieces.append(replace(job, seed=self.seed(), **{field_name: min(left, 50)}))
                owner.append(i)
                left -= 50
        totals: list[Counter[str]] = [Counter() for _ in jobs]
        for i, got in zip(owner, self.map(work, pieces), strict=True):
            totals[i].update(got)
        return totals


def _cover(job: tuple[str, float, int, int, int]) -> float:
    return coverage(*job)


def report_coverage(work: Work, report: Report) -> None:
    """Coverage of the 95 % intervals."""
    repeats = round(4000 * max(work.scale, 0.1))
    cells = [(q, n) for q in (0.5, 0.99) for n in (40, 80, 160, 320, 368, 480, 640, 1000, 2000)]
    jobs = [(kind, q, n, repeats, work.seed()) for q, n in cells for kind in DISTRIBUTIONS]
    got = dict(zip([job[:3] for job in jobs], work.map(_cover, jobs), strict=True))
    report.table(
        f"Coverage of the 95 % interval, {repeats} runs a cell (standard error {100 * math.sqrt(0.0475 / repeats):.2f})",
        ["quantile", "n", "ends", *DISTRIBUTIONS],
        [[f"p{100 * q:.0f}", str(n), "two" if q == 0.5 or n >= 368 else "lower only",
          *(f"{100 * got[kind, q, n]:.1f} %" for kind in DISTRIBUTIONS)] for q, n in cells],
    )  # fmt: skip
    report.figures["coverage"] = {f"{kind} p{100 * q:.0f} n={n}": value for (kind, q, n), value in got.items()}
    report.target("lowest coverage", min(got.values()), "≥", 0.93, repeats)
    report.target("highest coverage", max(got.values()), "≤", 0.97, repeats)


def report_false_alarms(work: Work, report: Report) -> None:
    """False regressions, by the kind of noise."""
    cells = [(family, tuned, scenario) for family, tuned, scenarios in FALSE_ALARMS for scenario in scenarios]
    got = work.pairs([Pairs(scenario, 600, 0) for *_, scenario in cells])
    rows = [(*cell, c) for cell, c in zip(cells, got, strict=True)]
    report.table(
        "Nothing changed: pairs of 48-point sweeps with any false regression, % with 95 % interval (3 runs each side if not said)",
        ["noise", "constants were", "simulated", "pairs", "any", "pairs: of a point", "of the sweep"],
        rows_of_alarms(rows),
    )
    report.figures["false alarms"] = {f"{family}: {s.name}": dict(c) for family, _, s, c in rows}
    for family, _, scenario, c in rows:
        report.target(f"any false regression, {family}: {scenario.name}", c["any"] / c["pairs"], "≤", 0.01, c["pairs"])


def report_power(work: Work, report: Report) -> None:
    """What is found."""
    got = work.pairs([Pairs(found.scenario, 600, 0) for found in FOUND])
    rows = list(zip(FOUND, got, strict=True))
    report.table(
        "Found: pairs in which a slower server was named, % with 95 % interval",
        ["what is slower", "pairs", "found", "a test that knows the noise", "missed, though beyond what would be seen"],
        rows_of_power(rows),
    )
    report.figures["power"] = {found.scenario.name: dict(c) for found, c in rows}
    for name, (title, like) in CURVES.items():
        of = [(found, c) for found, c in rows if like in found.scenario.name]
        report.curves[name] = {
            title: [(100 * (f.scenario.effect.tpot - 1), hits(f, c) / c["pairs"]) for f, c in of],
            "a test that knows the noise": [(100 * (f.scenario.effect.tpot - 1), oracle(f)) for f, _ in of],
        }
    for found, c in rows:
        if found.target:
            wanted = min(0.95, oracle(found) - 0.05)
            report.target(f"found: {found.scenario.name}", hits(found, c) / c["pairs"], "≥", wanted, c["pairs"])
        report.target(
            f"missed beyond what would be seen: {found.scenario.name}",
            c["untrue x"] / c["pairs"],
            "≤",
            0.05,
            c["pairs"],
        )


def markdown(report: Report) -> str:
    """All tables, the targets first."""
    command = f"python -m benchmarks.verdict_error_rates{' --quick' if report.quick else ''} --seed {report.seed}"
    head = [
        f"Made by `{command}` on {datetime.now(UTC):%Y-%m-%d}, numpy {np.__version__}, in {report.took_s:.0f} s.",
        "",
    ]
    lines = ["| target | measured | wanted | |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {100 * got:.2f} % | {sign} {100 * bound:g} % | {'met' if ok else '**missed**'} |"
              for name, got, sign, bound, ok in report.targets]  # fmt: skip
    return "\n".join([*head, *lines, "", *report.lines]).rstrip() + "\n"


PARTS: dict[str, Callable[[Work, Report], None]] = {
    "coverage": report_coverage,
    "false_alarms": report_false_alarms,
    "power": report_power,
}


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute; bounds wider by three standard errors")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--out", type=Path, help="write verdict_error_rates.md, .json and pictures into this folder")
    parser.add_argument("--docs", type=Path, help="renew the figures in DIR/statistics.md and DIR/img")
    parser.add_argument("--only", choices=[*PARTS], help="make this part alone again, take the others from --out")
    options = parser.parse_args(argv)
    if options.only and not options.out:
        parser.error("--only PART: needs --out DIR with the other parts")
    report = Report(options.quick, options.seed)
    missing: list[str] = []
    with ProcessPoolExecutor(options.workers) as pool:
        for index, (name, measure) in enumerate(PARTS.items()):
            kept = options.out / f"{name}.json" if options.out else None
            if options.only in (None, name):
                part = Report(options.quick, options.seed)
                seeds = np.random.SeedSequence([options.seed, index])
                began = time.monotonic()
                measure(Work(pool, seeds, 0.04 if options.quick else 1.0), part)
                part.took_s = time.monotonic() - began
                print(f"{name}: {part.took_s:.0f} s", file=sys.stderr)
                if kept:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_text(json.dumps({"numpy": np.__version__, **asdict(part)}, indent=1), encoding="utf-8")
            elif kept and kept.exists():
                found = json.loads(kept.read_text(encoding="utf-8"))
                part = Report(**{key.name: found[key.name] for key in fields(Report)})
            else:
                print(f"{name}: {kept} is missing, make it with --only {name}", file=sys.stderr)
                missing.append(name)
                continue
            report.add(part)
    text = markdown(report)
    print(text)
    for folder in filter(None, (options.out, options.docs / "img" if options.docs and not missing else None)):
        for name, curves in report.curves.items():
            draw(folder / f"{name}.png", TITLES[name], curves)
    if options.out:
        (options.out / "verdict_error_rates.md").write_text(text, encoding="utf-8")
    if options.docs and missing:
        parser.error(f"--docs: not renewed without {', '.join(missing)}")
    if options.docs:
        page = options.docs / "statistics.md"
        before, rest = page.read_text(encoding="utf-8").split(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return 0 if all(target[-1] for target in report.targets) else 1


if __name__ == "__main__":
    sys.exit(main())
