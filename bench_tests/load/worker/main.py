"""`python -m bench_tests.load.worker`: a load process. The plan comes in by standard input, the records go out.

It is a process of its own so that nothing (pytest, capture, plots, garbage collection) can delay the timed loop, and it
speaks by pipes alone, so that it can as well run on another host.

    in   one line of JSON: the plan          out  {"event": "prepared", ...}
    in   "go NS" (CLOCK_MONOTONIC) or "go"   out  {"event": "progress", ...} while the warm-up runs
                                             out  {"event": "warm", ...}
    in   "go NS" or "go"                     out  {"event": "progress", ...} while the measured part runs
                                             out  {"event": "measured"} when its share of a staggered start has ended
    in   "released" when all have said so
    in   "stop KIND WORDS" at any time       out  {"event": "done", "bytes": N, ...} and N bytes: the records (.npz)
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import os
import platform
import resource
import select
import statistics
import sys
import time
from typing import Any

import numpy as np

from bench_tests.errors import BenchError, UsageError
from bench_tests.load.arrivals import schedule_s
from bench_tests.load.dialect.choose import dialect_of
from bench_tests.load.ending import End, EndedEarly, Ending
from bench_tests.load.plan import LoadPlan
from bench_tests.load.requests import RequestFile
from bench_tests.load.texts import count_tokens
from bench_tests.load.worker.loop import Loop, PhaseStats
from bench_tests.load.worker.stagger import Stagger
from bench_tests.load.worker.tally import Tally
from bench_tests.load.worker.users import Users
from bench_tests.text import harmless

__all__ = ["main"]

PROGRESS_S = 0.5
NICE = -10  # asked for, and had where we may: the loop's own waiting is an error of the figures


class Control:
    """The other end of the pipes. While the timed loop runs nothing in here waits: what the pipe has no space for is
    kept, and goes out at one of the next calls."""

    def __init__(self) -> None:
        self.fd = sys.stdin.fileno()
        self.out_fd = sys.stdout.fileno()
        self._in = b""
        self._out = bytearray()
        self.stop: Ending | None = None
        self.enough = False  # no further request is needed; those that run are finished
        self.released = False  # the measured requests of all processes have ended

    @property
    def behind(self) -> bool:
        """Whether something that was said has not been taken yet."""
        return bool(self._out)

    def mention(self, event: str, **facts: Any) -> None:
        """Say something without ever waiting for it to be read."""
        self._out += json.dumps({"event": event, **facts}).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Hand over what the pipe has space for."""
        if not self._out:
            return
        os.set_blocking(self.out_fd, False)
        try:
            while self._out:
                del self._out[: os.write(self.out_fd, self._out)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._out.clear()  # nobody reads; reading our own side tells what that means

    def say(self, event: str, data: bytes = b"", **facts: Any) -> None:
        """Say something, `data` behind it, and wait until it has gone: between the phases, where nothing is timed."""
        self._out += json.dumps({"event": event, **facts}).encode() + b"\n"
        os.set_blocking(self.out_fd, True)
        for part in (self._out, data):
            view = memoryview(part)
            while view:
                view = view[os.write(self.out_fd, view) :]
            view.release()
        self._out.clear()

    def line(self) -> str:
        """The next line, waited for. A closed pipe ends the process: nobody is there to tell."""
        while b"\n" not in self._in:
            data = os.read(self.fd, 1 << 20)
            if not data:
                raise SystemExit(1)
            self._in += data
        line, _, self._in = self._in.partition(b"\n")
        return line.decode()

    def wait_go(self) -> bool:
        """Wait for the start; False when a stop came instead."""
        words = self.line().split(None, 1)
        if words[0] == "stop":
            self.stop = Ending.from_line(words[1] if len(words) > 1 else End.INTERRUPTED)
            return False
        if len(words) > 1:
            time.sleep(max(0, int(words[1]) - time.monotonic_ns()) / 1e9)
        return True

    def stopped(self) -> Ending | None:
        """What a stop that has come says; never waits."""
        if select.select([self.fd], [], [], 0)[0]:
            data = os.read(self.fd, 1 << 16)
            if not data:
                return Ending(End.ORPHANED, "the suite is gone")
            self._in += data
        while b"\n" in self._in:  # a stop may have come together with the go before it
            line, _, self._in = self._in.partition(b"\n")
            if line.startswith(b"stop"):
                self.stop = Ending.from_line(line.decode()[5:])
            elif line == b"enough":
                self.enough = True
            elif line == b"released":
                self.released = True
        return self.stop


def main() -> int:
    """Run one plan. Exit status 0 when the records were sent, 1 when an error was."""
    control = Control()
    try:
        plan = LoadPlan.from_json(control.line())
        _run(plan, control)
    except BenchError as why:
        ending = why.ending if isinstance(why, EndedEarly) else Ending()
        control.say("error", usage=isinstance(why, UsageError), message=str(why), end=ending.kind)
        return 1
    return 0


def _run(plan: LoadPlan, control: Control) -> None:
    start = time.monotonic()
    nice = _raise_priority()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a stream is a file; the usual 1,024 are soon used up
    files = RequestFile(plan)
    open_loop = math.isfinite(plan.load.request_rate)
    dialect = dialect_of(plan.load.endpoint)
    tally = Tally(plan.load.full_length, plan.worker, plan.secrets, from_due=open_loop, dialect=dialect)
    loop = Loop(plan, files, tally)
    users = Users(plan, files) if plan.users else None
    prepared = time.monotonic()
    loop.open_all()
    if files.primes:  # while everybody prepares: it must be over before the first warm-up of any process
        loop.run(files.primes, [time.time_ns()] * len(files.primes), control.stopped, None)
        tally.warm_s.clear()  # a prime is not as long as a request
        loop.open_all()
    control.say("prepared", prepare_s=prepared - start, connect_s=time.monotonic() - prepared)
    gc.collect()
    gc.freeze()
    gc.disable()
    progress = _Progress(control, tally, loop, plan.report_values)
    if not control.wait_go():
        raise _before_start(control.stop)
    warm = PhaseStats()
    warmups = files.warmups
    if files.filling and not warmups:
        warmups = [files.filling.pop()]  # a staggered start has to know how long a request takes
    if warmups:
        warm = loop.run(warmups, [time.time_ns()] * len(warmups), progress, None)
    if warm.end is End.SILENT:
        raise EndedEarly(f"warm-up: {warm.stopped}", Ending(warm.end, warm.stopped))
    loop.open_all()
    control.say("warm", stopped=warm.stopped, rows=tally.rows)
    if control.stop or not control.wait_go():
        raise _before_start(control.stop)
    zero = time.time_ns()
    due_s = () if users else schedule_s(plan)[np.array(plan.share(plan.num_prompts), np.intp)].tolist()
    stagger = Stagger(plan, tally.warm_s) if plan.filling else None
    if users is not None:
        tally.heard = users.heard
    order = users or stagger
    stats = loop.run(files.requests, [zero + int(s * 1e9) for s in due_s], progress, order)
    loop.close()
    files.close()
    del loop
    _give_memory_back()
    if tally.uncounted:
        _count(plan, tally)
    records = tally.records(zero).save(compressed=False)  # the suite compresses them once, for the file
    facts = (
        stats.as_dict()
        | (users.facts() if users else {})
        | {
            "nice": nice,
            "zero_unix_s": zero / 1e9,
            "host": os.environ.get("SLURMD_NODENAME") or platform.node(),
            "pid": os.getpid(),
            "max_rss_bytes": _max_rss_bytes(),
            "process_cpu_s": time.process_time(),  # all of it: imports, prompts, warm-up, parsing, records
            "uncounted": len(tally.uncounted),
            "models": {harmless(name): count for name, count in tally.models.items()},  # that the answers name
            "begun_over_s": stagger.span_s if stagger else None,  # of a staggered start; 0: no warm-up told a duration
        }
    )
    control.say("done", records, bytes=len(records), stats=facts)


def _before_start(stop: Ending | None) -> EndedEarly:
    """A stop before anything was measured."""
    stop = stop or Ending(End.INTERRUPTED)
    return EndedEarly(stop.words or stop.kind, stop)


def _count(plan: LoadPlan, tally: Tally) -> None:
    """Tokens of answers that came without usage, by the tokenizer; left unknown (-1) where there is none."""
    try:
        counts = count_tokens(plan, [text for _, text, _ in tally.uncounted])
    except UsageError:
        return
    for (row, _, _), tokens in zip(tally.uncounted, counts, strict=True):
        tally.recount(row, tokens)


def _raise_priority() -> int:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    except OSError:
        pass
    return os.getpriority(os.PRIO_PROCESS, 0)


def _give_memory_back() -> None:
    """The answers' memory, free by now but in pieces too small for the records, to the system (glibc's malloc_trim)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _Progress:
    """The loop's chore: hears a stop, and says twice a second how far it is."""

    def __init__(self, control: Control, tally: Tally, loop: Loop, report_values: bool) -> None:
        self.control, self.tally, self.loop, self.report_values = control, tally, loop, report_values
        self.next_s = 0.0
        self.told = False  # that the measured requests of this process have ended

    def __call__(self) -> Ending | None:
        now = time.monotonic()
        self.control.flush()
        if now >= self.next_s and not self.control.behind:  # a reader that is slow gets the next report instead
            self.next_s = now + PROGRESS_S
            recent = self.tally.recent = self.tally.recent[-256:]
            known = [[value for value in column if value is not None] for column in zip(*recent, strict=True)]
            medians = [statistics.median(column) if column else None for column in known] or [None, None]
            self.control.mention(
                "progress", rows=self.tally.rows, done=self.tally.completed, failed=self.tally.failed,
                ttft_s=medians[0], tpot_s=medians[1], values=self.tally.outcomes if self.report_values else [],
            )  # fmt: skip
            self.tally.outcomes = []
        stop = self.control.stopped()
        if self.control.enough:
            self.loop.enough()
        if (stagger := self.loop.stagger) is not None and stagger.own_ended and not stagger.released:
            if not self.told:
                self.told = True
                self.control.mention("measured")
            stagger.released = self.control.released
        return stop


def _max_rss_bytes() -> int:
    """The most memory that this program held; getrusage's figure begins with that of the process which started it."""
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
