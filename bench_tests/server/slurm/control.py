"""Slurm's commands: submit, look at, cancel. Asyncio subprocesses: a slurmctld that hangs holds up nothing but its asker,
and every call has a time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench_tests.errors import ServerError
from bench_tests.server.slurm import words as slurm_words
from bench_tests.text import harmless

__all__ = ["Job", "Queued", "SlurmAway", "available", "cancel", "look", "queued", "submit", "version"]

_KEY = re.compile(r"(?:^|\s)([A-Z][A-Za-z:/_]*)=")
_GPUS = re.compile(r"gres[/:]gpu(?:[:][A-Za-z][^:,=]*)?[=:](\d+)")
_SIGNAL_LEAD_S = 100  # serve.sh asks for TERM 60 s before the limit, and Slurm looks every 30 s
_ID = re.compile(r"\d+(_\d+)?")


_KILLED_S = 2.0  # how long a killed command is waited for
_CANCEL_ASK_S = 15.0


class SlurmAway(Exception):
    """slurmctld does not answer just now: nothing is known about the job."""


class Told(NamedTuple):
    """What one of Slurm's commands said."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Job:
    """What `scontrol show job` says. `state` is UNKNOWN for a job that Slurm has forgotten."""

    job_id: str
    state: str
    reason: str = ""
    nodes: str = ""
    num_nodes: int = 0
    partition: str = ""
    gpus: int | None = None  # over all nodes; None: Slurm does not say
    cpus: int = 0  # over all nodes; 0: Slurm does not say
    restarts: int = 0
    start: str = ""
    exit_code: str = "0:0"
    time_limit: str = ""
    run_time_s: float = 0.0
    log: str = ""

    @property
    def ended(self) -> bool:
        """It will not run again."""
        return self.state in slurm_words.ENDED

    @property
    def waiting(self) -> bool:
        """It does not run yet, or not yet again."""
        return self.state in slurm_words.WAITING

    def words(self) -> str:
        """Its state for a person, as the rest of a sentence that begins with `job N`."""
        if self.state == "UNKNOWN":
            return "is not known to Slurm any more: it ended some time ago"
        if self.state == "RUNNING":
            return f"runs on {self.nodes}"
        if self.waiting:
            return "is pending: " + slurm_words.pending_words(self.reason)[0]
        limit_s = _seconds(self.time_limit)
        return slurm_words.ended_words(
            self.state,
            self.reason,
            self.exit_code,
            time_limit=self.time_limit,
            near_limit=limit_s is not None and self.run_time_s > limit_s - _SIGNAL_LEAD_S,
            nodes=self.nodes,
        )


@dataclass(frozen=True)
class Queued:
    """One of the user's own jobs in the queue. `command`: the script as it was submitted, and its arguments."""

    job_id: str
    state: str
    folder: str
    command: str


def available() -> bool:
    """Slurm's commands are on PATH."""
    return shutil.which("sbatch") is not None and shutil.which("scontrol") is not None


async def version() -> str | None:
    """Such as `22.05.8`; None when Slurm is not there."""
    try:
        told = await _run(["sbatch", "--version"], 10.0)
    except (SlurmAway, ServerError):
        return None
    return told.stdout.split()[-1] if told.returncode == 0 and told.stdout.split() else None


async def submit(options: Sequence[str], script: str, arguments: Sequence[str], env: Mapping[str, str]) -> str:
    """sbatch; the job's id. Raises ServerError with Slurm's own words when it refuses.

    An interrupt in the middle of it leaves no job: the id is waited for and the job cancelled.
    """
    if not available():
        raise ServerError("sbatch is not on PATH; expected a Slurm cluster, or use --base-url or --server local")
    argv = ["sbatch", "--parsable", *options, script, *arguments]
    child = await asyncio.create_subprocess_exec(
        *argv,
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us: sbatch must finish, so that we learn the id
    )
    talk = asyncio.ensure_future(child.communicate())
    try:
        told, complained = await asyncio.wait_for(asyncio.shield(talk), 120)
    except BaseException as why:
        done, _ = await asyncio.wait({talk}, timeout=_CANCEL_ASK_S)
        if not done:
            await _end(child, talk)
        elif _ID.fullmatch(late := _first_id(talk.result()[0].decode("utf-8", "replace"))):
            await cancel(late)
        if isinstance(why, TimeoutError):
            raise ServerError("sbatch gave no answer for 120 s; see `scontrol ping`") from why
        raise
    out, err = told.decode("utf-8", "replace"), complained.decode("utf-8", "replace")
    job_id = _first_id(out)
    if child.returncode != 0 or not _ID.fullmatch(job_id):
        said = "; ".join(
            line.removeprefix("sbatch: ").removeprefix("error: ") for line in err.splitlines() if line.strip()
        )
        raise ServerError(
            f"Slurm refuses the job: {harmless(said) or 'no reason given'} (asked for: {' '.join(options)})"
        )
    return job_id


async def look(job_id: str, timeout_s: float = 10.0) -> Job:
    """The job as Slurm sees it now. Raises SlurmAway when slurmctld does not answer."""
    if not _ID.fullmatch(job_id):
        raise ServerError(f"job_id {job_id!r} is no Slurm job; expected a number")
    told = await _run(["scontrol", "-o", "show", "job", job_id], timeout_s)
    if told.returncode == 0 and "JobId=" in told.stdout:
        return _parse(job_id, told.stdout.splitlines()[0])
    if "Invalid job id" in told.stderr:
        return await _from_accounting(job_id, timeout_s)
    raise SlurmAway(told.stderr.strip() or "scontrol says nothing")


async def queued(timeout_s: float = 10.0, *, ended: bool = False) -> list[Queued]:
    """The user's own jobs that have not ended; `ended`: also those that Slurm still remembers, five minutes mostly.

    Raises SlurmAway when slurmctld does not answer.
    """
    form = ["-o", "%A|%T|%Z|%o", *(["-t", "all"] if ended else [])]
    told = await _run(["squeue", "-h", "--me", *form], timeout_s)
    if told.returncode != 0 and "--me" in told.stderr:  # Slurm before 20.02, and sites' own wrappers, lack it
        told = await _run(["squeue", "-h", "-u", getpass.getuser(), *form], timeout_s)
    if told.returncode != 0:
        raise SlurmAway(harmless(told.stderr) or "squeue says nothing")
    cells = [line.split("|", 3) for line in told.stdout.splitlines()]
    return [Queued(*cell) for cell in cells if len(cell) == 4 and _ID.fullmatch(cell[0])]


async def cancel(job_id: str) -> bool:
    """scancel. True when Slurm took it (or the job had already ended)."""
    try:
        told = await _run(["scancel", job_id], _CANCEL_ASK_S)
    except SlurmAway:
        return False
    return told.returncode == 0 or "Invalid job id" in told.stderr or "already" in told.stderr


async def _run(argv: Sequence[str], timeout_s: float) -> Told:
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as why:
        raise ServerError(f"{argv[0]}: {why.strerror or why}; expected Slurm's commands on PATH") from why
    talk = asyncio.ensure_future(child.communicate())
    try:
        out, err = await asyncio.wait_for(asyncio.shield(talk), timeout_s)
    except TimeoutError as why:
        await _end(child, talk)
        raise SlurmAway(f"{argv[0]} gave no answer for {timeout_s:g} s") from why
    except asyncio.CancelledError:
        await _end(child, talk)
        raise
    return Told(int(child.returncode or 0), out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


async def _end(child: asyncio.subprocess.Process, talk: asyncio.Future[tuple[bytes, bytes]]) -> None:
    """Kill a command and what it started, and do not wait long: one that hangs in the kernel does not end."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    await asyncio.wait({talk}, timeout=_KILLED_S)
    talk.cancel()


def _first_id(out: str) -> str:
    return out.strip().splitlines()[-1].partition(";")[0] if out.strip() else ""  # `ID;CLUSTER`


def _parse(job_id: str, line: str) -> Job:
    line = re.sub(r"JobName=.*? UserId=", "UserId=", line, count=1)  # a name may hold anything
    found = list(_KEY.finditer(line))
    said: dict[str, str] = {}
    for this, following in zip(found, [*found[1:], None], strict=True):
        value = line[this.end() : following.start() if following else len(line)].strip()
        said.setdefault(this[1], "" if value in ("(null)", "N/A") else value)
    nodes = said.get("NodeList", "")
    count = _count(said.get("NumNodes", ""))
    total = _GPUS.search(said.get("AllocTRES") or said.get("TRES", ""))
    each = _GPUS.search(said.get("TresPerNode", ""))
    state = said.get("JobState", "UNKNOWN")
    return Job(
        job_id=job_id,
        # shown for a moment while any signal is delivered, a warning too: the job runs until Slurm says that it ends
        state="RUNNING" if state == "SIGNALING" else state,
        reason="" if said.get("Reason") == "None" else said.get("Reason", ""),
        nodes=nodes,
        num_nodes=count,
        partition=said.get("Partition", ""),
        gpus=int(total[1]) if total else int(each[1]) * max(count, 1) if each else None,
        cpus=_count(said.get("NumCPUs", "")),
        restarts=_count(said.get("Restarts", "")),
        start=said.get("StartTime", ""),
        exit_code=said.get("ExitCode", "0:0"),
        time_limit=said.get("TimeLimit", ""),
        run_time_s=_seconds(said.get("RunTime", "")) or 0.0,
        log=said.get("StdOut", ""),
    )


async def _from_accounting(job_id: str, timeout_s: float) -> Job:
    # a job that ended more than MinJobAge ago is known to the accounting alone, where there is one
    try:
        told = await _run(
            ["sacct", "-n", "-X", "-P", "-j", job_id, "-o", "State,ExitCode,NodeList,Timelimit"], timeout_s
        )
    except (SlurmAway, ServerError):
        return Job(job_id, "UNKNOWN")
    cells = told.stdout.strip().splitlines()[-1].split("|") if told.returncode == 0 and told.stdout.strip() else []
    if len(cells) != 4 or not cells[0]:
        return Job(job_id, "UNKNOWN")
    return Job(job_id, cells[0].split()[0], nodes=cells[2], exit_code=cells[1], time_limit=cells[3])


def _count(text: str) -> int:
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0


def _seconds(text: str) -> float | None:
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if not found:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24.0 + hours) * 60 + minutes) * 60 + seconds
