"""Runs one point's load in processes of their own and brings their records together: tasks of the caller's event loop.

Nothing here can hold up the timed loops: a load process never waits for its pipe to be read.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench_tests.errors import BenchError, NotMeasured, UsageError
from bench_tests.load.ending import End, EndedEarly, Ending
from bench_tests.load.plan import LoadPlan
from bench_tests.load.process import LoadProcess
from bench_tests.load.records import Records

__all__ = ["Enough", "Gone", "LoadRun", "Progress", "run_load"]

START_DELAY_NS = 50_000_000  # from "go" to the start that all processes of this host share
STOP_GRACE_S = 20.0
GONE_EVERY_S = 0.5

# (TTFT, TPOT) of further requests, seconds, None for one that failed → whether no more are needed
Enough = Callable[[list[tuple[float | None, float | None]]], bool]
Gone = Callable[[], Awaitable[str | None]]  # why the server is not there any more; None while nothing speaks against it


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
    """What a run gave: its records, what each load process says of itself, and why it ended."""

    records: Records
    stats: list[dict[str, Any]]
    ending: Ending
    prepare_s: float
    workers: int = 1


async def run_load(
    plan: LoadPlan,
    *,
    launcher: Sequence[Sequence[str]] | None = None,
    gone: Gone | None = None,
    enough: Enough | None = None,
    show: Callable[[Progress], None] | None = None,
    cores: Sequence[int] | None = None,
) -> LoadRun:
    """Run `plan` in `plan.workers` processes that start together.

    `launcher` gives each worker's command prefix (srun on another host); without it all run here. `gone` is asked twice
    a second, in a task of its own however long it takes, and stops the run for the reason that it returns. `enough`
    (with plan.report_values) is given (TTFT, TPOT) of further requests in the order of their numbers, and ends the run
    early, its running requests finished, when it says so.

    A cancellation of the caller's task (Ctrl-C) ends the run in order: what was measured so far comes back with the
    ending INTERRUPTED, and the caller raises CancelledError when it has kept it. A second one, while it stops, is raised
    at once. Raises NotMeasured and UsageError.
    """
    team = _Team(plan, enough, show)
    try:
        try:
            await team.start(launcher, cores)
        except OSError as why:  # from None: a traceback through Popen would show the environment, keys included
            what = f"{why.strerror}{f' ({why.filename})' if why.filename else ''}"
            raise NotMeasured(
                f"load processes could not be started: {what}; see ulimit -n, ulimit -u and $TMPDIR"
            ) from None
        await team.run(gone)
    finally:
        await team.close()
    return team.outcome()


class _Team:
    """The processes of one run, and the pipes to them."""

    def __init__(self, plan: LoadPlan, enough: Enough | None, show: Callable[[Progress], None] | None) -> None:
        self.plan = plan
        self.enough = enough
        self.show = show
        self.progress = Progress(total=plan.num_prompts)
        self.by_worker: dict[int, dict[str, Any]] = {}
        self.values: dict[int, tuple[float | None, float | None]] = {}  # told, but not yet in an unbroken row
        self.judged = 0  # requests that `enough` has seen
        self.local = True
        self.workers: list[LoadProcess] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.ending = Ending()

    # ------------------------------------------------------------------ a run

    async def start(self, launcher: Sequence[Sequence[str]] | None, cores: Sequence[int] | None) -> None:
        """Start all processes, and tell each its plan. Raises OSError."""
        self.local = launcher is None
        count = max(1, min(self.plan.workers, self.plan.conc) if self.plan.capped else self.plan.workers)
        for number in range(count):
            prefix = list(launcher[number]) if launcher else []
            if cores and not launcher:
                prefix = ["taskset", "-c", str(cores[number % len(cores)])]
            self.workers.append(await LoadProcess.start(replace(self.plan, worker=number, workers=count), prefix))

    async def run(self, gone: Gone | None) -> None:
        """Hear all processes to their end."""
        hearing = {asyncio.create_task(self._hear(worker)) for worker in self.workers}
        watching = {asyncio.create_task(self._watch(gone))} if gone is not None else set()
        self.tasks = hearing | watching
        try:
            await self._until_done(hearing, watching)
        except asyncio.CancelledError:
            self.stop(Ending(End.INTERRUPTED, "interrupted"))
            await asyncio.wait(hearing, timeout=STOP_GRACE_S)  # a second Ctrl-C in here ends it at once

    async def _until_done(self, hearing: set[asyncio.Task[None]], watching: set[asyncio.Task[None]]) -> None:
        """Until all processes are done, or one task has failed, whose error is raised."""
        waiting = hearing | watching
        while waiting & hearing:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def _watch(self, gone: Gone) -> None:
        while True:
            reason = await gone()
            if reason:
                self.stop(Ending(End.SERVER_GONE, reason))
                return
            await asyncio.sleep(GONE_EVERY_S)

    def stop(self, ending: Ending) -> None:
        """Ask all to stop; they send what they have. One that still prepares its prompts has nothing to send."""
        if not self.ending.early:
            self.ending = ending
        for worker in self.workers:
            if worker.state == "starting" and ending.kind is End.INTERRUPTED:
                worker.kill()
            else:
                worker.tell(f"stop {ending.line()}")

    def outcome(self) -> LoadRun:
        """The run, its records merged."""
        stats = [w.facts.get("stats", {}) for w in self.workers]
        ending = self.ending
        if not ending.early:
            said = (Ending(End(s["end"]), s["stopped"]) for s in stats if s.get("end", End.DONE) != End.DONE)
            ending = next(said, ending)
        prepare_s = max((w.facts.get("prepare_s", 0.0) for w in self.workers), default=0.0)
        parts = [Records.load(w.records) for w in self.workers if w.records]
        return LoadRun(Records.merge(parts), stats, ending, prepare_s, len(self.workers))

    # ------------------------------------------------------------------ what a process says

    async def _hear(self, worker: LoadProcess) -> None:
        """All that one process says, until it is done. Raises NotMeasured and UsageError."""
        while worker.state != "done":
            line = await worker.out.readline()
            if not line:
                why = await worker.death()
                if worker.state != "warm" or len(self.workers) == 1:
                    raise why
                worker.state = "done"  # the others send what they have measured
                self.stop(Ending(End.LOST, str(why)))
                return
            message = json.loads(line)
            event = message.pop("event")
            if event == "progress":
                self._add_up(worker, message)
            elif event == "measured":
                worker.measured = True
                self._release()
            elif event == "error":
                raise _error(message)
            else:
                worker.facts |= message
                if event == "done":
                    try:
                        worker.records = await worker.out.readexactly(int(message["bytes"]))
                    except asyncio.IncompleteReadError:
                        raise await worker.death() from None
                worker.state = event
                self._go_on(worker, event)
            if self.show is not None:
                self.show(self.progress)

    def _go_on(self, worker: LoadProcess, state: str) -> None:
        """Start the next phase when all have come to its beginning: here at one moment of the clock they share."""
        if state == "done":
            ended = Ending(End(worker.facts["stats"]["end"]), str(worker.facts["stats"]["stopped"]))
            if ended.early:  # the point is over: the others need not finish their share
                for other in self.workers:
                    other.tell(f"stop {ended.line()}")
            self._release()
            return
        self.progress.phase = "warm-up" if state == "prepared" else "measure"
        if all(w.state == state for w in self.workers):
            together = self.local and (state == "warm" or self.plan.num_warmups)
            when = f" {time.monotonic_ns() + START_DELAY_NS}" if together else ""
            for each in self.workers:
                each.tell(f"go{when}")

    def _release(self) -> None:
        """Let go of those that keep a staggered loop full for the others, when nobody's measured requests run any more."""
        if all(w.measured or w.state == "done" for w in self.workers):
            for each in self.workers:
                each.tell("released")

    def _add_up(self, worker: LoadProcess, message: dict[str, Any]) -> None:
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
            self.ending = Ending(End.ENOUGH)
            for worker in self.workers:
                worker.tell("enough")

    # ------------------------------------------------------------------ the end

    async def close(self) -> None:
        """End all processes and tasks; processes that are done have ended by themselves."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, *(worker.close() for worker in self.workers), return_exceptions=True)


def _error(message: dict[str, Any]) -> BenchError:
    """What a load process says instead of its records."""
    words, end = str(message["message"]), End(message["end"])
    if message["usage"]:
        return UsageError(words)
    return NotMeasured(words) if end is End.DONE else EndedEarly(words, Ending(end, words))
