"""How soon a history sees a step, how often it sees none that is there, and how fast: the table of docs/statistics.md.

    python -m benchmarks.history_nights --quick        # seconds: a smoke test
    python -m benchmarks.history_nights --docs docs    # a minute or two, and into docs/statistics.md

No server: 60 nights whose truth is known, one after the other as they come. Each night moves all points by a day's deviation; each
point scatters by itself. A history raises an alarm on the first night on which a change for the worse lies within its last sessions.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench_tests.compare.history.store import Session, read_history
from bench_tests.compare.history.trend import ALPHA, BASELINE, trend_of
from bench_tests.compare.regression import compare_sweeps
from bench_tests.compare.samples import Origin, PointRuns, RunSample
from bench_tests.sweep.settings import COMPARED
from benchmarks._page import put

__all__ = ["first_alarm", "nights"]

BEGIN, END = "<!-- history: begin -->", "<!-- history: end -->"
POINTS = [f"isl{isl}-osl128-conc{conc} q" for isl in (1024, 4096, 8192) for conc in (1, 4, 16, 64)]
OWN = {"p99_ttft": 0.08, "mean_tpot": 0.01, "output_throughput": 0.01}
NIGHTS, STEP_AT = 60, 40


def nights(
    rng: np.random.Generator, day_sd: float, step: float, memory: float = 0.0, tails: float = 0.0
) -> list[Session]:
    """60 sessions; from night 40 on TPOT is larger by `step`. `memory`: of a day by the next; `tails`: chance of a day ×4."""
    found, day = [], 0.0
    for night in range(NIGHTS):
        day = memory * day + (1 - memory**2) ** 0.5 * rng.normal(0, day_sd)
        moved = day * (4 if rng.random() < tails else 1)
        slow = math.log1p(step) * (night >= STEP_AT)
        figures = {}
        for key in POINTS:
            at = {"p99_ttft": 0.2, "mean_tpot": 0.02, "output_throughput": 500.0}
            shift = {"p99_ttft": moved, "mean_tpot": moved + slow, "output_throughput": -moved - slow}
            figures[key] = {n: at[n] * math.exp(shift[n] + rng.normal(0, OWN[n])) for n in at}
        found.append(Session(f"s{night:03d}", f"202601{night:02d}-230000", figures))
    return found


def first_alarm(sessions: list[Session]) -> tuple[int, int] | None:
    """(night of the first alarm, night that it names); None where no night raised one.

    As pytest --history: a change point for the worse among the last sessions, or slower than the last accepted ones.
    """
    runs = [_runs(session) for session in sessions]
    for night in range(3, len(sessions)):
        if alarms := trend_of(sessions[: night + 1]).alarms:
            return night, min(alarms, key=lambda c: c.p).at
        base = runs[max(0, night - BASELINE) : night]
        then = [PointRuns(key, [earlier[key] for earlier in base]) for key in POINTS]
        now = [PointRuns(key, [run]) for key, run in runs[night].items()]
        if compare_sweeps(now, then, alpha=ALPHA).regressions:
            return night, night
    return None


def _runs(session: Session) -> dict[str, RunSample]:
    origin = Origin(session=session.id, start=session.id, day=float(session.id[1:]))
    return {key: RunSample(summary=dict(values), n=640, origin=origin) for key, values in session.figures.items()}


def timed(count: int, points: int) -> float:
    """Seconds from the folder of `count` sessions of so many points, with all figures, to the answer."""
    rng = np.random.default_rng(5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = []
        import orjson

        for at in range(count):
            drawn = np.exp(rng.normal(0, 0.02, (points, len(COMPARED)))).tolist()
            figures = {f"isl{k}-osl128-conc1 q": dict(zip(COMPARED, row, strict=True)) for k, row in enumerate(drawn)}
            lines.append(
                orjson.dumps({"event": "session", "session": f"s{at:06d}", "date": f"{at:08d}", "figures": figures})
            )
        (folder / "index.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        start = time.perf_counter()
        trend_of(read_history(folder))
        return time.perf_counter() - start


def report(tries: int, seed: int) -> tuple[str, bool]:
    """The table as Markdown, and whether what is promised is kept."""
    lines = [
        f"Made by `python -m benchmarks.history_nights --tries {tries} --seed {seed}`: {tries} histories a row, {NIGHTS} nights,",
        f"{len(POINTS)} points that scatter by 1 % (TPOT, throughput) and 8 % (p99 TTFT) beside what the day does to all; the step is at",
        f"night {STEP_AT}.",
        "",
        "| a day's sd | step | alarm within 5 nights | and at the right night ± 1 | nights to the alarm, median | alarm before the step, or without one |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    good = True
    rows = [("1 %", 0.01, 0.04, 0, 0), ("1 %", 0.01, 0.0, 0, 0), ("0.5 %", 0.005, 0.02, 0, 0), ("1 %", 0.01, 0.02, 0, 0), ("2 %", 0.02, 0.04, 0, 0),
            ("1 %, half of a day's goes on to the next", 0.01, 0.0, 0.5, 0), ("1 %, one day in twenty 4 times as far", 0.01, 0.0, 0, 0.05)]  # fmt: skip
    for place, (words, sd, step, memory, tails) in enumerate(rows):
        rng = np.random.default_rng([seed, place])
        alarms = [first_alarm(nights(rng, sd, step, memory, tails)) for _ in range(tries)]
        early = sum(a is not None and (not step or a[0] < STEP_AT) for a in alarms)
        soon = [a for a in alarms if a and STEP_AT <= a[0] < STEP_AT + 5] if step else []
        right = sum(abs(a[1] - STEP_AT) <= 1 for a in soon)
        wait = [a[0] - STEP_AT + 1 for a in alarms if a and a[0] >= STEP_AT] if step else []
        share = [f"{100 * n / tries:.1f} %" if step else "–" for n in (len(soon), right)]
        lines.append(
            f"| {words} | {f'+{step:.0%}'.replace('%', ' %') if step else 'none'} | {' | '.join(share)} | "
            f"{f'{np.median(wait):.0f}' if wait else '–'} | {100 * early / tries:.1f} % |"
        )
        good &= place != 0 or right >= 0.9 * tries
        good &= place != 1 or early <= 0.05 * tries
    seconds = timed(10_000, 48)
    good &= seconds <= 5
    lines += ["", f"10,000 sessions of 48 points: from the folder to the answer in {seconds:.1f} s."]
    return "\n".join(lines), good


def main() -> int:
    """Exit status 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=100, help="histories a row")
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--quick", action="store_true", help="10 histories a row")
    parser.add_argument("--docs", type=Path, help="the folder whose statistics.md gets the table")
    options = parser.parse_args()
    text, good = report(10 if options.quick else options.tries, options.seed)
    print(text)
    if options.docs:
        put(options.docs, BEGIN, END, text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
