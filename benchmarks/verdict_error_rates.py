"""How often the verdicts are wrong, and how small a change they find: the figures of docs/statistics.md, made again.

    python -m benchmarks.verdict_error_rates --quick            # under a minute: a smoke test with wider bounds
    python -m benchmarks.verdict_error_rates --out DIR          # minutes: Markdown, JSON and pictures into DIR
    python -m benchmarks.verdict_error_rates --docs docs        # ... and into docs/statistics.md and docs/img

Each part is written to DIR as it ends; with `--only PART` the others are taken from there. Simulated pairs are written to
DIR/pairs.jsonl in pieces of 50: a run that was ended goes on there, and with `--minutes 0` the tables are made of what there is.
No server: simulated sweeps with known truth go through the code that judges real ones. Exit status 1 when a target is
missed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks._comparison import (
    FALSE_ALARMS,
    FOUND,
    Alarm,
    Found,
    alarm_targets,
    hits,
    oracle,
    rows_of_alarms,
    rows_of_power,
    share,
    wanted,
)
from benchmarks._error_rate_runs import DISTRIBUTIONS, coverage
from benchmarks._not_judged import CELLS, DAY, Cell, needed, rows_of_cells
from benchmarks._page import put
from benchmarks._pieces import in_order, simulate
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


@dataclass
class Work:
    """How much is to be done, and by whom."""

    seed: int
    scale: float = 1.0
    pairs: int = 600  # a row
    workers: int = 2  # processes
    file: Path | None = None  # where simulated pairs are kept
    stop_s: float | None = None  # when no further pairs are begun

    def map(self, work: Callable[[J], R], jobs: list[J]) -> list[R]:
        """The results in the order of the jobs."""
        if self.workers == 1:
            return [work(job) for job in jobs]
        with ProcessPoolExecutor(self.workers) as pool:
            return list(pool.map(work, jobs))

    def seeds(self, part: int, jobs: int) -> list[int]:
        """A seed for each job of a part."""
        return [int(seed) for seed in np.random.SeedSequence([self.seed, part]).generate_state(jobs)]


def _cover(job: tuple[str, float, int, int, int]) -> float:
    return coverage(*job)


def report_coverage(work: Work, report: Report) -> None:
    """Coverage of the 95 % intervals."""
    repeats = round(4000 * max(work.scale, 0.1))
    cells = [(q, n) for q in (0.5, 0.99) for n in (40, 80, 160, 320, 368, 480, 640, 1000, 2000)]
    asked = [(kind, q, n) for q, n in cells for kind in DISTRIBUTIONS]
    jobs = [(*cell, repeats, seed) for cell, seed in zip(asked, work.seeds(0, len(asked)), strict=True)]
    got = dict(zip(asked, work.map(_cover, jobs), strict=True))
    report.table(
        f"Coverage of the 95 % interval, {repeats} runs a cell (standard error {100 * math.sqrt(0.0475 / repeats):.2f})",
        ["quantile", "n", "ends", *DISTRIBUTIONS],
        [[f"p{100 * q:.0f}", str(n), "two" if q == 0.5 or n >= 368 else "lower only",
          *(f"{100 * got[kind, q, n]:.1f} %" for kind in DISTRIBUTIONS)] for q, n in cells],
    )  # fmt: skip
    report.figures["coverage"] = {f"{kind} p{100 * q:.0f} n={n}": value for (kind, q, n), value in got.items()}
    report.target("lowest coverage", min(got.values()), "≥", 0.93, repeats)
    report.target("highest coverage", max(got.values()), "≤", 0.97, repeats)


def report_comparison(work: Work, report: Report) -> None:
    """False regressions by the kind of noise, and what is found."""
    held = {row.name: row.scenario for row in FALSE_ALARMS if not row.extra}
    held |= {row.name: row.scenario for row in FOUND if row.target}
    every: list[Alarm | Found] = [*FALSE_ALARMS, *FOUND]
    rest = {row.name: row.scenario for row in every if row.name not in held}
    pairs = max(8, round(work.pairs * work.scale))
    counts = simulate(
        in_order([held, rest], pairs), work.seed, workers=work.workers, file=work.file, stop_s=work.stop_s
    )
    report.figures["comparison"] = {name: dict(c) for name, c in counts.items()}
    report.lines += [f"Not simulated: {row.name}" for row in every if row.name not in counts]
    alarms = [(row, counts[row.name]) for row in FALSE_ALARMS if row.name in counts]
    report.table(
        "Nothing changed: pairs of 48-point sweeps with any false regression (3 runs each side if not said)",
        ["noise", "simulated", "while choosing constants", "pairs", "any false regression, % (95 % interval)",
         "pairs: of a point, of the sweep", "at most 1 %, interval up to 2 %", "not judged (12): pairs, points a pair"],
        rows_of_alarms(alarms),
    )  # fmt: skip
    for used, word in ((True, "used while choosing constants"), (False, "not used")):
        of = [c for row, c in alarms if row.used == used]
        if of:
            got = share(sum(c["any"] for c in of), total := sum(c["pairs"] for c in of))
            report.lines += [f"All rows {word} together: {got} of {total:,} pairs.", ""]
    for row, c in alarms:
        for of_what, got_share, most in alarm_targets(c)[: 1 if report.quick else 2]:
            report.target(f"{of_what}, {row.name}", got_share, "≤", most, c["pairs"])
    found = [(row, counts[row.name]) for row in FOUND if row.name in counts]
    report.table(
        "Found: pairs in which a slower server was named",
        ["what is slower", "pairs", "found, % (95 % interval)", "a test that knows the noise", "wanted",
         "missed ones: x said was below the truth", "pairs with x below the truth: missed"],
        rows_of_power(found),
    )  # fmt: skip
    for name, (title, like) in CURVES.items():
        curve = [(f, c) for f, c in found if like in f.scenario.name]
        report.curves[name] = {
            title: [(100 * (f.scenario.effect.tpot - 1), hits(f, c) / c["pairs"]) for f, c in curve],
            "a test that knows the noise": [(100 * (f.scenario.effect.tpot - 1), oracle(f)) for f, _ in curve],
        }
    for f, c in found:
        if f.target:
            report.target(f.name, hits(f, c) / c["pairs"], "≥", wanted(f), c["pairs"])
        if c["not found"]:
            report.target(
                f"x said was less than the truth, of those missed, {f.name}",
                c["untrue x"] / c["not found"],
                "≤",
                0.05,
                c["not found"],
            )


def report_not_judged(work: Work, report: Report) -> None:
    """How much must be measured for a comparison that can pass."""
    pairs = max(4, round(work.pairs * work.scale / 10))
    jobs = [Cell(s, pairs, seed) for s, seed in zip(CELLS, work.seeds(1, len(CELLS)), strict=True)]
    rows = list(zip(CELLS, work.map(needed, jobs), strict=True))
    report.table(
        f"Nothing changed, two starts, days of sd {100 * DAY:g} %: comparisons in which all is judged, and the `blind` that judges 95 %",
        ["noise of TPOT, TTFT", "rounds", "pairs", "default figures", "without throughput"],
        rows_of_cells(rows),
    )


def markdown(report: Report, pairs: int = 600) -> str:
    """All tables, the targets that were missed first."""
    command = f"python -m benchmarks.verdict_error_rates{' --quick' if report.quick else ''} --seed {report.seed}"
    command += f" --pairs {pairs}" if pairs != 600 else ""
    missed = [target for target in report.targets if not target[-1]]
    lines = [
        f"Made by `{command}` on {datetime.now(UTC):%Y-%m-%d}, numpy {np.__version__}.",
        "",
        f"{len(report.targets) - len(missed)} of {len(report.targets)} targets met{'; missed:' if missed else '.'}",
        "",
    ]
    if missed:
        lines += ["| missed target | measured | wanted |", "| --- | --- | --- |"]
        lines += [
            f"| {name} | {100 * got:.2f} % | {sign} {100 * bound:.4g} % |" for name, got, sign, bound, _ in missed
        ]
    return "\n".join([*lines, "", *report.lines]).rstrip() + "\n"


PARTS: dict[str, Callable[[Work, Report], None]] = {
    "comparison": report_comparison,
    "not_judged": report_not_judged,
    "coverage": report_coverage,
}


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute; bounds wider by three standard errors")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--pairs", type=int, default=600, help="pairs of sweeps a row (default: 600)")
    parser.add_argument(
        "--minutes", type=float, help="begin no pairs after so long; rows have the pairs that they have"
    )
    parser.add_argument("--out", type=Path, help="write verdict_error_rates.md, .json and pictures into this folder")
    parser.add_argument("--docs", type=Path, help="renew the figures in DIR/statistics.md and DIR/img")
    parser.add_argument("--only", choices=[*PARTS], help="make this part alone again, take the others from --out")
    options = parser.parse_args(argv)
    if options.only and not options.out:
        parser.error("--only PART: needs --out DIR with the other parts")
    report = Report(options.quick, options.seed)
    missing: list[str] = []
    file = options.out / "pairs.jsonl" if options.out and not options.quick else None
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    stop_s = None if options.minutes is None else 60 * options.minutes
    work = Work(options.seed, 0.04 if options.quick else 1.0, options.pairs, options.workers, file, stop_s)
    for name, measure in PARTS.items():
        kept = options.out / f"{name}.json" if options.out else None
        if options.only in (None, name):
            part = Report(options.quick, options.seed)
            began = time.monotonic()
            measure(work, part)
            part.took_s = time.monotonic() - began
            print(f"{name}: {part.took_s:.0f} s", file=sys.stderr)
            if kept:
                kept.write_text(json.dumps({"numpy": np.__version__, **asdict(part)}, indent=1), encoding="utf-8")
        elif kept and kept.exists():
            found = json.loads(kept.read_text(encoding="utf-8"))
            part = Report(**{key.name: found[key.name] for key in fields(Report)})
        else:
            print(f"{name}: {kept} is missing, make it with --only {name}", file=sys.stderr)
            missing.append(name)
            continue
        report.add(part)
    text = markdown(report, options.pairs)
    print(text)
    for folder in filter(None, (options.out, options.docs / "img" if options.docs and not missing else None)):
        for name, curves in report.curves.items():
            draw(folder / f"{name}.png", TITLES[name], curves)
    if options.out:
        (options.out / "verdict_error_rates.md").write_text(text, encoding="utf-8")
    if options.docs and missing:
        parser.error(f"--docs: not renewed without {', '.join(missing)}")
    if options.docs:
        put(options.docs, BEGIN, END, text.rstrip("\n"))
    return 0 if all(target[-1] for target in report.targets) else 1


if __name__ == "__main__":
    sys.exit(main())
