"""Runs one point's load in processes of their own and brings their records together. Knows the plan and the records."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

from bench_tests.errors import NotMeasured, UsageError
from bench_tests.load.plan import LoadPlan
from bench_tests.load.records import Records
from bench_tests.paths import ROOT

__all__ = ["INTERRUPTED", "LoadRun", "Progress", "run_load"]

INTERRUPTED = "interrupted"

START_DELAY_NS = 50_000_000  # from "go" to the start that all processes of this host share
STOP_GRACE_S = 20.0


# (TTFT, TPOT) of further requests, seconds, None for one that failed → whether no more are needed
Enough = Callable[[list[tuple[float | None, float | None]]], bool]


@dataclass
class Progress:
    """How far a run is; for a person to look at."""

    phase: str = "prepare"  # prepare, warm-up, measure
    done: int = 0
    failed: int = 0
    total: int = 0
    ttft_s: float | None = None  # medians of the latest requests
    tpot_s: float | None = None


@dataclass(frozen=True)
class LoadRun:
    """What a run gave: its records, and what each load process says of itself."""

    records: Records
    stats: list[dict[str, Any]]
    stopped: str  # why it ended before all was sent; "" when it did not
    prepare_s: float
    workers: int = 1


@dataclass
class _Worker:
    plan: LoadPlan
    process: subprocess.Popen[bytes]
    stderr: IO[bytes]
    buffer: bytearray = field(default_factory=bytearray)
    state: str = "starting"
    facts: dict[str, Any] = field(default_factory=dict)
    records: Records | None = None
    want: int = -1  # bytes of records still to come; -1: lines


def run_load(
    plan: LoadPlan,
    *,
    launcher: Sequence[Sequence[str]] | None = None,
    watch: Callable[[], str | None] | None = None,
    enough: Enough | None = None,
    show: Callable[[Progress], None] | None = None,
    cores: Sequence[int] | None = None,
) -> LoadRun:
    """Run `plan` in `plan.workers` processes that start together.

    `launcher` gives each worker's command prefix (srun on another host); without it all run here. `watch` is asked
    twice a second and stops the run for the reason it returns. `enough` (with plan.report_values) is given (TTFT, TPOT) of
    further requests in the order of their numbers, and ends the run early, its running requests finished, when it says so. KeyboardInterrupt stops it too: what was measured so
    far comes back with `stopped` = INTERRUPTED; a second one, while it stops, is raised. Raises NotMeasured and
    UsageError.
    """
    try:
        team = _Team(plan, launcher, cores, show)
        team.enough = enough
    except OSError as why:  # from None: a traceback through Popen would show the environment, keys included
        what = f"{why.strerror}{f' ({why.filename})' if why.filename else ''}"
        raise NotMeasured(
            f"load processes could not be started: {what}; see ulimit -n, ulimit -u and $TMPDIR"
        ) from None
    stopped = ""
    try:
        team.until("prepared", watch)
        team.go()
        team.until("warm", watch)
        team.go()
        team.until("done", watch)
    except KeyboardInterrupt:
        team.stop(INTERRUPTED)  # a second Ctrl-C in here ends it at once
        stopped = INTERRUPTED
    finally:
        team.close()
    parts = [w.records for w in team.workers if w.records is not None]
    stats = [w.facts.get("stats", {}) for w in team.workers]
    prepare_s = max((w.facts.get("prepare_s", 0.0) for w in team.workers), default=0.0)
    stopped = stopped or next((s["stopped"] for s in stats if s.get("stopped")), "")
    return LoadRun(Records.merge(parts), stats, stopped, prepare_s, len(team.workers))


class _Team:
    """The processes of one run, and the pipes to them."""

    def __init__(
        self,
        plan: LoadPlan,
        launcher: Sequence[Sequence[str]] | None,
        cores: Sequence[int] | None,
        show: Callable[[Progress], None] | None,
    ) -> None:
        self.show = show
        self.local = launcher is None
        self.progress = Progress(total=plan.num_prompts)
        self.by_worker: dict[int, dict[str, Any]] = {}
        self.enough: Enough | None = None
        self.values: dict[int, tuple[float | None, float | None]] = {}  # told, but not yet in an unbroken row
        self.judged = 0  # requests that `enough` has seen
        self.workers: list[_Worker] = []
        self.selector = selectors.DefaultSelector()
        count = max(1, min(plan.workers, plan.conc))
        try:
            for number in range(count):
                prefix = list(launcher[number]) if launcher else []
                if cores and not launcher:
                    prefix = ["taskset", "-c", str(cores[number % len(cores)])]
                self._start(replace(plan, worker=number, workers=count), prefix)
        except BaseException:
            self.close()
            raise

    def _start(self, plan: LoadPlan, prefix: list[str]) -> None:
        stderr = tempfile.TemporaryFile()  # noqa: SIM115  # read when the process dies without a word
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "bench_tests.load.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is for the suite, which then stops the load in order
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        worker = _Worker(plan, process, stderr)
        self.workers.append(worker)
        if process.stdout is None:  # pragma: no cover  # it was asked for as a pipe
            raise AssertionError
        os.set_blocking(process.stdout.fileno(), False)
        self.selector.register(process.stdout, selectors.EVENT_READ, worker)
        self._tell(worker, plan.to_json())  # the key is in it: kept in no variable that a traceback could show

    def _tell(self, worker: _Worker, line: str) -> None:
        try:
            if worker.process.stdin is not None:
                worker.process.stdin.write(line.encode() + b"\n")
                worker.process.stdin.flush()
        except OSError:
            pass  # it has died; reading says how

    def go(self) -> None:
        """Start the next phase of all: here at one moment of the clock they share, elsewhere at the message."""
        when = f" {time.monotonic_ns() + START_DELAY_NS}" if self.local else ""
        for worker in self.workers:
            self._tell(worker, f"go{when}")

    def stop(self, reason: str) -> None:
        """Ask all to stop, and wait a moment for their records."""
        for worker in self.workers:
            self._tell(worker, f"stop {reason}")
        deadline = time.monotonic() + STOP_GRACE_S
        while any(w.state not in ("done", "dead") for w in self.workers) and time.monotonic() < deadline:
            try:
                self._read(0.2)
            except (NotMeasured, UsageError):
                pass  # it is being stopped: what else goes wrong now adds nothing

    def until(self, state: str, watch: Callable[[], str | None] | None) -> None:
        """Wait until all have come to `state`."""
        told = False
        while any(w.state != state for w in self.workers):
            self._read(0.5)
            reason = watch() if watch is not None and not told else None
            if reason:
                told = True
                for worker in self.workers:
                    self._tell(worker, f"stop {' '.join(reason.split())}")
        if self.show is not None:
            self.show(self.progress)

    def _read(self, timeout_s: float) -> None:
        for key, _ in self.selector.select(timeout_s):
            worker: _Worker = key.data
            data = os.read(key.fd, 1 << 20)
            if not data:
                self.selector.unregister(key.fileobj)
                self._died(worker)
                continue
            worker.buffer += data
            self._take(worker)
        if self.show is not None:
            self.show(self.progress)

    def _take(self, worker: _Worker) -> None:
        while True:
            if worker.want >= 0:
                if len(worker.buffer) < worker.want:
                    return
                worker.records = Records.load(bytes(worker.buffer[: worker.want]))
                worker.state, worker.want = "done", -1
                worker.buffer.clear()
                return
            line, newline, rest = worker.buffer.partition(b"\n")
            if not newline:
                return
            worker.buffer = bytearray(rest)
            self._heard(worker, json.loads(line))

    def _heard(self, worker: _Worker, message: dict[str, Any]) -> None:
        event = message.pop("event")
        if event == "progress":
            self._add_up(worker, message)
        elif event == "error":
            worker.state = "dead"
            raise (UsageError if message["usage"] else NotMeasured)(message["message"])
        elif event == "done":
            worker.facts |= message
            worker.want = int(message["bytes"])
            if reason := message["stats"].get("stopped"):  # the point is over: the others need not finish their share
                for other in self.workers:
                    self._tell(other, f"stop {' '.join(str(reason).split())}")
        else:
            worker.facts |= message
            worker.state = event
            self.progress.phase = "warm-up" if event == "prepared" else "measure"

    def _add_up(self, worker: _Worker, message: dict[str, Any]) -> None:
        self.by_worker[worker.plan.worker] = message
        latest = self.by_worker.values()
        self.progress.done = sum(m["done"] for m in latest)
        self.progress.failed = sum(m["failed"] for m in latest)
        self.progress.ttft_s, self.progress.tpot_s = message["ttft_s"], message["tpot_s"]
        if self.enough is not None:
            self.values |= {index: (ttft, tpot) for index, ttft, tpot in message["values"]}
            self._judge(self.enough)

    def _judge(self, enough: Enough) -> None:
        """In the order of sending, up to the first request that is still running: the fast ones must not come first."""
        new = []
        while self.judged in self.values:
            new.append(self.values.pop(self.judged))
            self.judged += 1
        if new and enough(new):
            self.enough = None
            for worker in self.workers:
                self._tell(worker, "enough")

    def _died(self, worker: _Worker) -> None:
        if worker.state == "done":
            return
        worker.state = "dead"
        status = worker.process.wait()
        worker.stderr.seek(0)
        said = worker.stderr.read().decode("utf-8", "replace").strip().splitlines()
        last = said[-1] if said else "it said nothing"
        how = f"signal {-status}" if status < 0 else f"status {status}"
        raise NotMeasured(f"load process {worker.plan.worker} ended with {how}: {last}")

    def close(self) -> None:
        """End all processes; those that are done have ended by themselves."""
        for worker in self.workers:
            process = worker.process
            if worker.state == "done":
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
            else:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, worker.stderr):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        pass
        self.selector.close()
