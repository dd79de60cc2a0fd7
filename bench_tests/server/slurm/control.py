"""Slurm's commands: submit, look at, cancel. Standard library only; every call has a time limit.

Knows the errors and Slurm's words.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench_tests.errors import ServerError
from bench_tests.server.slurm import words as slurm_words

__all__ = ["Job", "Queued", "SlurmAway", "available", "cancel", "look", "queued", "submit", "version"]

_KEY = re.compile(r"(?:^|\s)([A-Z][A-Za-z:/_]*)=")
_GPUS = re.compile(r"gres[/:]gpu(?:[:][A-Za-z][^:,=]*)?[=:](\d+)")
_SIGNAL_LEAD_S = 100  # serve.sh asks for TERM 60 s before the limit, and Slurm looks every 30 s
_ID = re.compile(r"\d+(_\d+)?")


class SlurmAway(Exception):
    """slurmctld does not answer just now: nothing is known about the job."""


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


def version() -> str | None:
    """Such as `22.05.8`; None when Slurm is not there."""
    try:
        told = _run(["sbatch", "--version"], 10.0)
    except (SlurmAway, ServerError):
        return None
    return told.stdout.split()[-1] if told.returncode == 0 and told.stdout.split() else None


def submit(options: Sequence[str], script: str, arguments: Sequence[str], env: Mapping[str, str]) -> str:
    """sbatch; the job's id. Raises ServerError with Slurm's own words when it refuses.

    An interrupt in the middle of it leaves no job: the id is waited for and the job cancelled.
    """
    if not available():
        raise ServerError("sbatch is not on PATH; expected a Slurm cluster, or use --base-url or --server local")
    argv = ["sbatch", "--parsable", *options, script, *arguments]
    child = subprocess.Popen(
        argv,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for us: sbatch must finish, so that we learn the id
    )
    try:
        out, err = child.communicate(timeout=120)
    except BaseException as why:
        try:
            out, _ = child.communicate(timeout=15)
            if _ID.fullmatch(_first_id(out)):
                cancel(_first_id(out))
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
        if isinstance(why, subprocess.TimeoutExpired):
            raise ServerError("sbatch gave no answer for 120 s; see `scontrol ping`") from why
        raise
    job_id = _first_id(out)
    if child.returncode != 0 or not _ID.fullmatch(job_id):
        said = "; ".join(
            line.removeprefix("sbatch: ").removeprefix("error: ") for line in err.splitlines() if line.strip()
        )
        raise ServerError(f"Slurm refuses the job: {said or 'no reason given'} (asked for: {' '.join(options)})")
    return job_id


def look(job_id: str, timeout_s: float = 10.0) -> Job:
    """The job as Slurm sees it now. Raises SlurmAway when slurmctld does not answer."""
    if not _ID.fullmatch(job_id):
        raise ServerError(f"job_id {job_id!r} is no Slurm job; expected a number")
    told = _run(["scontrol", "-o", "show", "job", job_id], timeout_s)
    if told.returncode == 0 and "JobId=" in told.stdout:
        return _parse(job_id, told.stdout.splitlines()[0])
    if "Invalid job id" in told.stderr:
        return _from_accounting(job_id, timeout_s)
    raise SlurmAway(told.stderr.strip() or "scontrol says nothing")


def queued(timeout_s: float = 10.0) -> list[Queued]:
    """The user's own jobs that have not ended. Raises SlurmAway when slurmctld does not answer."""
    told = _run(["squeue", "-h", "--me", "-o", "%A|%T|%Z|%o"], timeout_s)
    if told.returncode != 0:
        raise SlurmAway(told.stderr.strip() or "squeue says nothing")
    cells = [line.split("|", 3) for line in told.stdout.splitlines()]
    return [Queued(*cell) for cell in cells if len(cell) == 4 and _ID.fullmatch(cell[0])]


def cancel(job_id: str) -> bool:
    """scancel. True when Slurm took it (or the job had already ended)."""
    try:
        told = _run(["scancel", job_id], 15.0)
    except SlurmAway:
        return False
    return told.returncode == 0 or "Invalid job id" in told.stderr or "already" in told.stderr


def _run(argv: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env={**os.environ, "SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"},
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as why:
        raise SlurmAway(f"{argv[0]} gave no answer for {timeout_s:g} s") from why
    except OSError as why:
        raise ServerError(f"{argv[0]}: {why.strerror or why}; expected Slurm's commands on PATH") from why


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
        restarts=_count(said.get("Restarts", "")),
        start=said.get("StartTime", ""),
        exit_code=said.get("ExitCode", "0:0"),
        time_limit=said.get("TimeLimit", ""),
        run_time_s=_seconds(said.get("RunTime", "")) or 0.0,
        log=said.get("StdOut", ""),
    )


def _from_accounting(job_id: str, timeout_s: float) -> Job:
    # a job that ended more than MinJobAge ago is known to the accounting alone, where there is one
    try:
        told = _run(["sacct", "-n", "-X", "-P", "-j", job_id, "-o", "State,ExitCode,NodeList,Timelimit"], timeout_s)
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
