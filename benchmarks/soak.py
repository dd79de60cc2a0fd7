"""`python -m benchmarks.soak`: does the client stay the same over an hour? Memory, descriptors and threads over time.

Loads a simulated server at 256 streams in one load process and looks at that process and at its parent, the suite, each
few seconds. Prints a table, writes it as CSV and draws it where asked, and ends with 1 when something grew.

    python -m benchmarks.soak --minutes 60 --csv soak.csv --picture soak.png
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import sys
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from bench_tests.load.plan import LoadPlan
from bench_tests.load.team import LoadRun, run_load
from bench_tests.sim.simulator import SimSpec, Simulator
from bench_tests.sweep.settings import Model

__all__ = ["Sample", "draw", "grew", "main", "soak"]

SETTLE = 0.25  # of the run is left out of the comparison: pools and buffers fill


@dataclass(frozen=True)
class Sample:
    """One look at the load process and at the suite. Memory in MB of resident set."""

    at_s: float
    done: int
    memory_mb: float
    descriptors: int
    threads: int
    suite_mb: float
    suite_descriptors: int
    suite_threads: int


def look(pid: int, at_s: float, done: int) -> Sample | None:
    """Both processes now; None when the load process is gone."""
    try:
        return Sample(at_s, done, *_state(pid), *_state(os.getpid()))
    except (OSError, KeyError):
        return None


def _state(pid: int) -> tuple[float, int, int]:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(status["VmRSS"].split()[0]) / 1024, len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"])


def _child() -> int | None:
    """The load process of this one."""
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or b"bench_tests.load.worker" not in (entry / "cmdline").read_bytes():
                continue
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                return int(entry.name)
        except (OSError, IndexError):
            continue
    return None


def soak(
    minutes: float, streams: int, isl: int, osl: int, gap_ms: float, every_s: float
) -> tuple[list[Sample], LoadRun]:
    """Load for that long; the samples of the load process, and the run."""
    seconds_each = 0.2 + osl * gap_ms / 1000
    requests = int(streams * minutes * 60 / seconds_each)
    samples: list[Sample] = []
    start = time.monotonic()
    child: int | None = None
    progress = [0]

    async def watch() -> str | None:
        nonlocal child
        child = child or _child()
        now = time.monotonic() - start
        if child is not None and (not samples or now - samples[-1].at_s >= every_s):
            sample = look(child, now, progress[0])
            if sample is not None:
                samples.append(sample)
        return "the time is over" if now > minutes * 60 else None

    with Simulator(SimSpec(mode="paced", ttft_ms=200, gap_ms=gap_ms, ttft_jitter="uniform:100")) as sim:
        plan = LoadPlan(sim.url, isl, osl, streams, requests, 0, seed=1, model=Model("simulated"))
        run = asyncio.run(run_load(plan, gone=watch, show=lambda p: progress.__setitem__(0, p.done + p.failed)))
    return samples, run


def grew(samples: list[Sample]) -> list[str]:
    """What is more at the end than it was when all had settled, in words: 10 % and 5 MB of memory, or 2 of the others."""
    loaded = [s for s in samples if s.done]
    settled = [s for s in loaded if s.at_s >= loaded[0].at_s + SETTLE * (loaded[-1].at_s - loaded[0].at_s)]
    if len(settled) < 4:
        return ["too few samples to say; run it longer"]
    quarter = len(settled) // 4
    found = []
    for name in (f.name for f in fields(Sample)[2:]):
        # the largest of a quarter: what is kept goes to disk by the chunk, so memory goes up and down by as much
        before, after = (max(getattr(s, name) for s in part) for part in (settled[:quarter], settled[-quarter:]))
        if after > (before * 1.1 + 5 if name.endswith("_mb") else before + 2):
            found.append(f"{name}: {before:.0f}, then {after:.0f}")
    return found


def draw(samples: list[Sample], path: Path) -> None:
    """The samples as a picture: memory above, descriptors and threads below."""
    from matplotlib.figure import Figure  # heavy: only where a picture is wanted

    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    minutes = [s.at_s / 60 for s in samples]
    for axes, names in ((above, ("memory_mb", "suite_mb")), (below, ("descriptors", "threads"))):
        for name in names:
            label = {"memory_mb": "load process", "suite_mb": "suite"}.get(name, name)
            axes.plot(minutes, [getattr(s, name) for s in samples], label=label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(loc="center right")
    above.set_ylabel("resident memory, MB")
    below.set_ylabel("load process, number")
    below.set_xlabel("minutes")
    above.set_title(f"{samples[-1].done:,} requests in {minutes[-1]:.0f} minutes", loc="left")
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit status 1 when something grew or a request failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--isl", type=int, default=64)
    parser.add_argument("--osl", type=int, default=128)
    parser.add_argument("--gap-ms", type=float, default=50.0)
    parser.add_argument("--every-s", type=float, default=5.0)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--picture", type=Path, help="PNG or SVG")
    given = parser.parse_args(argv)
    samples, run = soak(given.minutes, given.streams, given.isl, given.osl, given.gap_ms, given.every_s)
    names = [f.name for f in fields(Sample)]
    widths = [max(8, len(name)) for name in names]
    print("  ".join(name.rjust(width) for name, width in zip(names, widths, strict=True)))
    for sample in samples[:: max(1, len(samples) // 20)]:
        values = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in astuple(sample))
        print("  ".join(value.rjust(width) for value, width in zip(values, widths, strict=True)))
    if given.csv:
        with given.csv.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(names)
            writer.writerows(map(astuple, samples))
    if given.picture and samples:
        draw(samples, given.picture)
    completed = int(run.records.completed.sum())
    failed = int((run.records.measured & (run.records.kind != 0)).sum()) - int(
        (run.records.error == "the time is over").sum()
    )
    failed -= int((run.records.error == "not sent: the time is over").sum())
    found = grew(samples)
    print(f"{completed} requests completed, {failed} failed; " + ("; ".join(found) or "nothing grew"))
    return 1 if found or failed else 0


if __name__ == "__main__":
    sys.exit(main())
