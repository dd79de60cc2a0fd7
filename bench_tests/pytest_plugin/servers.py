"""The session's servers: one, or one for each configuration of the profile in turn; each started anew with `--restarts N`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench_tests.calibration.store import Calibration
from bench_tests.errors import ServerError, UsageError
from bench_tests.measure.point import Sweep
from bench_tests.pytest_plugin.leave import leave
from bench_tests.pytest_plugin.live import work_of
from bench_tests.pytest_plugin.state import Session
from bench_tests.server.absent import AbsentServer, expected_model
from bench_tests.server.attach import ServedModel, look_at
from bench_tests.server.choose import Choice, obtain
from bench_tests.server.lock import ServerLock
from bench_tests.server.probe import probe
from bench_tests.server.served import Say, Served
from bench_tests.server.start_times import start_words
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import Profile

__all__ = ["ServerOf", "Servers", "check", "or_leave", "start_of"]

COMPARING = ("--baseline", "--save-baseline", "--history", "--against")  # figures of these sessions decide something


def check(state: Session, choice: Choice) -> None:
    """Raise UsageError where the session's server can't be started so often, or its configurations not so measured."""
    restarts, beside = int(state.option("--restarts")), int(state.option("--parallel-configs"))
    if choice.configs and state.option("--against"):
        raise UsageError(
            f"--against and {choice.profile.source} with configurations: one question at a time; use another profile"
        )
    if beside > 1 and choice.kind != "slurm":
        raise UsageError(
            f"--parallel-configs {beside}: servers side by side need jobs of their own (--server slurm); leave it out"
        )
    if beside > 1 and state.option("--find"):
        raise UsageError("--parallel-configs and --find: a search is measured alone; drop one")
    if restarts == 1:
        return
    if choice.kind == "attach":
        raise UsageError(
            f"--restarts {restarts}: this session attaches to a server that it has not started ({choice.source}); use "
            "--server slurm or local, or leave --restarts out"
        )
    if state.option("--keep-server"):
        raise UsageError(f"--restarts {restarts} and --keep-server: the server is stopped between starts; drop one")
    if restarts > state.runs:
        raise UsageError(f"--restarts {restarts}: there are {state.runs} rounds; use --repeat {restarts} or more")


def start_of(run: int, runs: int, restarts: int) -> int:
    """On which start of the server, from 0, round `run` of `runs` (from 1) is measured; as even as it can be."""
    return (run - 1) * restarts // runs


@contextlib.contextmanager
def or_leave(state: Session) -> Iterator[None]:
    """Ends the session without a server, or for wrong usage."""
    try:
        yield
    except ServerError as why:
        state.no_server = str(why)
        leave(why)
    except UsageError as why:
        leave(why)


@dataclass
class ServerOf:
    """The server of one configuration (`""`: of a profile without any) and what is measured on it, start after start.

    Of a configuration that does not start, each point is an ERROR that says why, and the session goes on. A session
    without configurations ends there.
    """

    state: Session
    choice: Choice
    config: str
    hosts: Sequence[str]
    metadata: Mapping[str, Any]
    calibrations: Sequence[Calibration]
    sweep: Sweep | None = None
    beside: bool = False  # other configurations are measured meanwhile
    _lock: ServerLock | None = None
    _like: Sweep | None = field(default=None, repr=False)  # another configuration's: of the same session and prompts

    async def at(self, run: int) -> Sweep:
        """What round `run` is measured on; its server runs, unless nothing is left to be measured or it does not start."""
        wanted = start_of(run, self.state.runs, int(self.state.option("--restarts")))
        if self.sweep is None:
            self.sweep = self._reused() or await self._first(wanted)
        elif wanted != self.sweep.start:
            await self._again(self.sweep, wanted)
        return self.sweep

    @property
    def cases(self) -> list[tuple[Point, int]]:
        """What this session measures of it."""
        return [(point, run) for point, run in self.state.selected if point.config == self.config]

    @contextlib.contextmanager
    def _said(self) -> Iterator[Say]:
        if self.beside:  # whoever waits for it holds the terminal
            yield lambda text: self.state.terminal.say(f"[{self.config}] {text}")
            return
        with self.state.terminal.uncaptured() as say:
            yield say

    def _absent(self, why: str = "") -> Sweep:
        profile, kind = self.choice.profile, self.choice.kind
        found = self._sweep(profile, AbsentServer(kind), expected_model(profile, kind))
        found.refused = why
        return found

    def _sweep(self, profile: Profile, served: Served, model: ServedModel) -> Sweep:
        folder = self.state.results_dir
        found = Sweep(profile, served, model, folder, self.metadata, self.calibrations, hosts=self.hosts)
        if any(self.state.option(flag) for flag in COMPARING):
            found.compared = profile.regression.figures
        if self._like is not None:
            found.run_id, found.seed = self._like.run_id, self._like.seed
        return found

    def _reused(self) -> Sweep | None:
        """Where `--resume` has the results of all its cases: no server is started for them."""
        if not self.config or not self.state.option("--resume") or self.choice.kind == "attach":
            return None
        found = self._absent()
        if not self.cases or not all(found.kept(point, run) for point, run in self.cases):
            return None
        with self._said() as say:
            say(f"{self.config}: all its points are measured already, so it is not started")
        found.join_sessions(self.cases)
        return found

    async def _first(self, start: int) -> Sweep:
        with self._said() as say, self._or_absent() as failed:
            if self.config:
                say(f"configuration {self.config}: {_settings(self.choice)}")
            keep = bool(self.state.option("--keep-server"))
            served = await obtain(self.choice, self.state.results_dir / "logs", keep, say)
            try:
                self._take_lock(served, say)
                model = await look_at(served.endpoint, self.choice.profile.model.id)
                probed = await probe(served.endpoint, self.choice.profile, model)
            except BaseException:
                await self._leave(served)
                raise
        if failed:
            found = self._absent(failed[0])
            found.start = start
            return found
        found = self._sweep(probed.profile, served, model)
        found.start = start
        found.several = "" if probed.profile.server.counts_apart else probed.several
        found.refused, found.template_tokens = probed.refused, probed.template_tokens
        found.token_ids = probed.token_ids
        self._prepare(found)
        with self._said() as say:
            self.state.terminal.header(found, self.cases, say, self.state.workload_lines)
            if self.config:  # the time left is that of all configurations
                left = [case for case in self.state.selected if case not in self.state.measurements]
                self.state.terminal.pace.plan(work_of(found, left))
            if took := start_words(getattr(served, "start_s", {})):
                say(f"start: {took}")
            for note in (*model.notes, *probed.notes):
                say(f"note: {note}")
        return found

    def _prepare(self, found: Sweep) -> None:
        if self.choice.profile.slo.mode == "confident" and not self.state.option("--against"):
            for point, run in self.cases:
                found.repeated.planned.setdefault(point, []).append(run)
        if self.state.option("--resume"):
            found.pass_over_prompts()
            found.join_sessions(self.cases)

    async def _again(self, sweep: Sweep, start: int) -> None:
        """The same configuration on a new start of its server."""
        with self._said() as say, self._or_absent() as failed:
            say(f"starting the server anew: start {start + 1} of {self.state.option('--restarts')}")
            await self._leave(sweep.served)
            sweep.refused = ""
            sweep.served = await obtain(self.choice, self.state.results_dir / "logs", False, say)
            sweep.model = await look_at(sweep.served.endpoint, self.choice.profile.model.id)
            self._take_lock(sweep.served, say)
        sweep.start = start
        if failed:
            await sweep.served.stop()
            sweep.served, sweep.refused = AbsentServer(self.choice.kind), failed[0]

    @contextlib.contextmanager
    def _or_absent(self) -> Iterator[list[str]]:
        """Why a configuration's server did not start is added to the list; without configurations it ends the session."""
        failed: list[str] = []
        if not self.config:
            with or_leave(self.state):
                yield failed
            return
        try:
            yield failed
        except (ServerError, UsageError) as why:
            failed.append(f"configuration {self.config} did not start: {why}")

    def _take_lock(self, served: Served, say: Say) -> None:
        self._lock = ServerLock(served.endpoint.base_url)
        if not self._lock.take():
            say(f"warning: another sweep of this host loads {served.endpoint.base_url}: the two measure each other; "
                "stop one, or let it end first")  # fmt: skip

    async def _leave(self, served: Served) -> None:
        if self._lock is not None:
            self._lock.release()
        await served.stop()

    async def stop(self) -> None:
        """End its server. May be called twice."""
        if self.sweep is not None:
            await self._leave(self.sweep.served)


@dataclass
class Servers:
    """One server at a time: that of the case's configuration."""

    state: Session
    choice: Choice
    hosts: Sequence[str]
    metadata: Mapping[str, Any]
    calibrations: Sequence[Calibration]
    current: ServerOf | None = None
    first: Sweep | None = None  # whose session and prompts the others share

    def __post_init__(self) -> None:
        if self.choice.configs:
            self.first = self.of(self.choice.configs[0])._absent()

    def of(self, config: str, hosts: Sequence[str] | None = None) -> ServerOf:
        """The server of a configuration, not started yet."""
        asked = self.hosts if hosts is None else hosts
        found = ServerOf(self.state, self.choice.of(config), config, asked, self.metadata, self.calibrations)
        found._like = self.first
        return found

    async def at(self, config: str, run: int = 1) -> Sweep:
        """What this round of a configuration's points is measured on; the server before is stopped first."""
        if self.current is None or self.current.config != config:
            if self.current is not None:
                with self.state.terminal.uncaptured():
                    await self.current.stop()
            self.current = self.of(config)
        return await self.current.at(run)

    async def stop(self) -> None:
        if self.current is not None:
            with self.state.terminal.uncaptured():
                await self.current.stop()


def _settings(choice: Choice) -> str:
    config = choice.profile.config
    return ", ".join(f"{key} = {value}" for key, value in config.settings.items()) if config else ""
