"""How true benchmark clients are: what each reports against the server's own log of what really happened.

    python -m benchmarks.client_truth                                        # on the built-in simulated server
    python -m benchmarks.client_truth --url URL --truth-log FILE             # on any server that keeps such a log
    python -m benchmarks.client_truth --clients "this suite,vllm" --program vllm=/opt/vllm/bin/vllm --tokenizer DIR

All clients get the same load in turn, round after round, on one core apart from the server's. Each figure is the median
over the rounds with its range. A truth log has one JSON line a request (`outcome` t_first_byte t_first_token t_last_token
n_tokens itl_ns max_lag_us; ns of CLOCK_MONOTONIC); GET /truth/stats makes it complete.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from bench_tests.calibration.ladder import figures, place, share_cores, truth_of
from bench_tests.calibration.store import host_facts
from bench_tests.errors import NotMeasured
from bench_tests.markdown import markdown
from bench_tests.sim.simulator import SimSpec, Simulator
from benchmarks._clients import CLIENTS, OWN, Client, Load

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("p99_ttft", "p50_ttft", "p99_tpot", "p99_itl")
SAMPLE_S = 0.1


@dataclass(frozen=True)
class Run:
    """One client's run: relative errors (reported / truth − 1), what completed, and its CPU."""

    client: str
    streams: int
    errors: Mapping[str, float]
    reported: Mapping[str, float]
    events_per_s: float
    cpu_us_per_event: float  # of all its processes, from the first request's arrival to the last token
    cpu_s: float  # of the whole command
    wall_s: float
    server_lag_s: float  # p99 over requests
    notes: str = ""


@dataclass
class Source:
    """A server and its truth log."""

    url: str
    log: Path
    model: str
    cores: Sequence[int] | None  # the clients'
    opener: Any = field(default_factory=lambda: build_opener(ProxyHandler({})))

    def flush(self) -> None:
        """Have the server complete its log."""
        try:
            with self.opener.open(f"{self.url}/truth/stats", timeout=60) as answer:
                answer.read()
        except OSError as why:
            raise NotMeasured(f"{self.url}/truth/stats: {why}; expected a server that keeps a truth log") from why

    def rows(self, offset: int, osl: int, last: int) -> list[dict[str, Any]]:
        """The last completed requests of `osl` tokens that were logged behind `offset`: without a client's own tries."""
        self.flush()
        with self.log.open("rb") as log:
            log.seek(offset)
            rows = [row for row in map(json.loads, log) if row["outcome"] == "ok" and row["n_tokens"] == osl]
        return sorted(rows, key=lambda row: int(row["t_first_byte"]))[-last:]


@contextmanager
def simulated(folder: Path, args: argparse.Namespace) -> Iterator[Source]:
    """The built-in server, paced, kept to the cores that the clients do not use."""
    client_cores, server_cores = share_cores(1)
    spec = SimSpec(
        mode="paced", ttft_ms=args.ttft_ms, gap_ms=args.gap_ms, processes=min(8, len(server_cores)),
        prefix_caching=False, truth_log=str(folder / "truth.jsonl"), log_tokens=True, faults=tuple(args.fault),
    )  # fmt: skip
    with Simulator(spec) as simulator:
        for pid in simulator.pids:
            place(pid, server_cores)
        yield Source(simulator.url, folder / "truth.jsonl", spec.model, client_cores)


@contextmanager
def external(args: argparse.Namespace) -> Iterator[Source]:
    """A server that runs already, on cores that are its user's business."""
    source = Source(args.url.rstrip("/"), args.truth_log, args.model, share_cores(1)[0])
    if not source.model:
        with source.opener.open(f"{source.url}/v1/models", timeout=10) as answer:
            source.model = json.load(answer)["data"][0]["id"]
    yield source


class CpuWatch:
    """CPU seconds of a process and all that descend from it, looked at while they run."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.samples: list[tuple[int, float]] = []  # monotonic ns, CPU s so far
        self._last: dict[int, float] = {}
        self._tick = os.sysconf("SC_CLK_TCK")

    def look(self) -> None:
        """One sample. A process that has ended keeps what it had at the last look."""
        parents: dict[int, int] = {}
        used: dict[int, float] = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    text = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                parents[int(entry.name)] = int(text[1])
                used[int(entry.name)] = (int(text[11]) + int(text[12])) / self._tick
        ours = {self.pid}
        while more := {pid for pid, parent in parents.items() if parent in ours and pid not in ours}:
            ours |= more
        self._last |= {pid: used[pid] for pid in ours if pid in used}
        self.samples.append((time.monotonic_ns(), sum(self._last.values())))

    def between(self, start_ns: int, end_ns: int) -> float:
        """CPU seconds between two moments, by the samples around them."""
        at = [max((s for s in self.samples if s[0] <= t), default=self.samples[0])[1] for t in (start_ns, end_ns)]
        return at[1] - at[0]


def measure(client: Client, program: list[str], source: Source, load: Load, timeout_s: float) -> Run:
    """Run one client once and hold its report against the log."""
    offset = source.log.stat().st_size if source.log.exists() else 0
    command = [*program, *client.arguments(load)]
    if source.cores:
        command = ["taskset", "-c", ",".join(map(str, source.cores)), *command]
    start = time.monotonic()
    said = load.folder.with_suffix(".log")
    with said.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        watch = CpuWatch(process.pid)
        while process.poll() is None and time.monotonic() < start + timeout_s:
            watch.look()
            time.sleep(SAMPLE_S)
        if process.poll() is None:
            process.kill()
    process.wait()
    wall_s = time.monotonic() - start
    rows = source.rows(offset, load.osl, load.requests)
    run = Run(client.name, load.streams, {}, {}, 0.0, 0.0, watch.samples[-1][1], wall_s, 0.0)
    if not rows:
        return replace(run, notes=f"no request completed (status {process.returncode}): {_last_words(said)}")
    truth = truth_of(rows)
    true = figures(truth.ttft, truth.tpot, truth.itl)
    first, last = int(rows[0]["t_first_byte"]), max(int(row["t_last_token"]) for row in rows)
    run = replace(
        run,
        events_per_s=truth.events / (last - first) * 1e9,
        cpu_us_per_event=watch.between(first, last) / truth.events * 1e6,
        server_lag_s=float(sorted(truth.lag_s)[int(0.99 * (len(rows) - 1))]),
    )
    try:
        reported = client.read(load.folder)
    except (OSError, KeyError, ValueError, StopIteration) as why:
        return replace(run, notes=f"no report (status {process.returncode}; {type(why).__name__}): {_last_words(said)}")
    errors = {name: reported[name] / true[name] - 1 for name in true if name in reported and true[name]}
    wrong = "" if reported["completed"] == load.requests else f"{reported['completed']:g} of {load.requests} completed"
    own = {"valid": (0.0, "called INVALID by itself"), "itl_doubted": (1.0, "p99 ITL doubted by itself")}
    wrong = "; ".join(filter(None, [wrong, *(words for name, (at, words) in own.items() if reported.get(name) == at)]))
    return replace(run, errors=errors, reported=reported, notes=wrong)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].replace("|", "/")[-120:] if lines else "it said nothing"


# ---------------------------------------------------------------------------------------------------------- said


def spread(values: Sequence[float], text: str) -> str:
    """Median, and the range behind it where there is one."""
    if not values:
        return "–"
    middle = format(statistics.median(values), text)
    return middle if len(values) == 1 else f"{middle} ({format(min(values), text)} to {format(max(values), text)})"


def table(runs: Sequence[Run]) -> str:
    """One line a number of streams and client: errors of what it reports, its CPU in the load, what went wrong."""
    columns = ("streams", "client", *(f"{n[:3]} {n[4:].upper()}" for n in SHOWN), "events/s", "CPU µs/event", "notes")
    lines = []
    for streams, name in dict.fromkeys((run.streams, run.client) for run in runs):
        mine = [run for run in runs if (run.streams, run.client) == (streams, name)]
        shown = [spread([run.errors[n] for run in mine if n in run.errors], "+.2%") for n in SHOWN]
        rate = f"{statistics.median(run.events_per_s for run in mine):,.0f}"
        cpu = spread([run.cpu_us_per_event for run in mine], ".1f")
        notes = "; ".join(dict.fromkeys(run.notes for run in mine if run.notes))
        lines.append((str(streams), name, *shown, rate, cpu, notes))
    return markdown(lines, columns)


def _version(program: Sequence[str]) -> str:
    try:
        said = subprocess.run([*program, "--version"], capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = (said.stdout or said.stderr).strip().splitlines()
    return lines[-1].split()[-1] if lines and said.returncode == 0 else "unknown"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(prog="python -m benchmarks.client_truth", description=__doc__.splitlines()[0])
    out.add_argument("--url", help="a server that keeps a truth log; default: the built-in simulated server")
    out.add_argument("--truth-log", type=Path, help="its log, with --url")
    out.add_argument("--model", default="", help="the model as it serves it (default: its first)")
    out.add_argument("--clients", default=",".join(CLIENTS), help="which to compare, by comma (default: %(default)s)")
    out.add_argument("--program", action="append", default=[], metavar="CLIENT=COMMAND", help="where a client is")
    out.add_argument("--tokenizer", default="", help="name or folder, for the clients that need one")
    out.add_argument("--streams", default="64,256,1024", help="concurrencies, by comma (default: %(default)s)")
    out.add_argument("--requests-per-stream", type=int, default=4, metavar="N")
    out.add_argument("--isl", type=int, default=1024)
    out.add_argument("--osl", type=int, default=128)
    out.add_argument("--ttft-ms", type=float, default=200.0, help="of the simulated server (default: %(default)s)")
    out.add_argument("--gap-ms", type=float, default=20.0, help="of the simulated server (default: %(default)s)")
    out.add_argument("--fault", action="append", default=[], help="of the simulated server, e.g. split")
    out.add_argument("--rounds", type=int, default=3)
    out.add_argument("--timeout", type=float, default=600.0, metavar="S", help="for one run of one client")
    out.add_argument("--out", type=Path, metavar="FILE", help="all runs as JSON")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; returns 0, or 2 when no client was there."""
    options = parser()
    args = options.parse_args(argv)
    named = [name.strip() for name in args.clients.split(",")]
    for name in named:
        if name not in CLIENTS:
            options.error(f"--clients {name}: expected some of {', '.join(CLIENTS)}")
    if (args.url is None) != (args.truth_log is None):
        options.error("--url and --truth-log go together")
    given = dict(item.partition("=")[::2] for item in args.program)
    programs = {name: shlex.split(given[name]) if name in given else CLIENTS[name].find() for name in named}
    there = {name: program for name, program in programs.items() if program}
    for name in [name for name in named if name not in there]:
        print(f"{name}: not installed, not run")
    if not there:
        return 2
    facts = host_facts()
    versions = {name: facts["suite"] if name == OWN else _version(program) for name, program in there.items()}
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="client-truth-") as temporary:
        folder = Path(temporary)
        with external(args) if args.url else simulated(folder, args) as source:
            for streams in map(int, args.streams.split(",")):
                for number in range(args.rounds):
                    for name, program in there.items():
                        own = folder / f"{name.replace(' ', '-')}-{streams}-{number}"
                        own.mkdir()
                        requests = args.requests_per_stream * streams
                        load = Load(
                            source.url, source.model, args.isl, args.osl, streams, requests, args.tokenizer, own
                        )
                        try:
                            runs.append(measure(CLIENTS[name], program, source, load, args.timeout))
                        except NotMeasured as why:
                            print(f"{name}: {why}", file=sys.stderr)
                            continue
                        print(_line(runs[-1]), file=sys.stderr, flush=True)
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {facts['cores']} cores of {facts['cpu']}, kernel {facts['kernel']}; "
          + ", ".join(f"{name} {versions[name]}" for name in there) + "\n")  # fmt: skip
    print(table(runs))
    if args.out:
        args.out.write_text(
            json.dumps({"host": facts, "versions": versions, "runs": [asdict(r) for r in runs]}, indent=1)
        )
    return 0


def _line(run: Run) -> str:
    errors = ", ".join(f"{name} {run.errors[name]:+.3%}" for name in SHOWN if name in run.errors)
    return f"{run.streams} streams, {run.client}: {errors}; {run.cpu_us_per_event:.1f} µs/event {run.notes}"


if __name__ == "__main__":
    sys.exit(main())
