"""Load processes on several hosts of a Slurm allocation: which hosts, and how a process gets onto one.

The processes speak by pipes, and srun carries pipes: nothing else is different from one host.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from bench_tests.errors import UsageError

__all__ = ["load_hosts", "srun_prefixes"]


def load_hosts(asked: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The hosts of this allocation that `asked` names: `all`, how many, or names with commas. Raises UsageError."""
    environ = os.environ if environ is None else environ
    nodes = environ.get("SLURM_JOB_NODELIST")
    if not environ.get("SLURM_JOB_ID") or not nodes:
        raise UsageError(
            f"--load-hosts {asked}: this is not inside of a Slurm allocation; use e.g. `salloc -N 3 pytest --load-hosts all`"
        )
    there = _names(nodes)
    if asked == "all":
        return there
    if asked.isdigit():
        count = int(asked)
        if not 1 <= count <= len(there):
            raise UsageError(f"--load-hosts {asked}: the allocation has {len(there)} hosts ({', '.join(there)})")
        return there[:count]
    wanted = [name.strip() for name in asked.split(",") if name.strip()]
    for name in wanted:
        if name not in there:
            raise UsageError(f"--load-hosts {asked}: {name} is not in this allocation ({', '.join(there)})")
    if not wanted:
        raise UsageError(f"--load-hosts {asked!r}: expected all, a number, or host names with commas")
    return wanted


def _names(nodes: str) -> list[str]:
    try:
        done = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as why:
        raise UsageError(f"--load-hosts: scontrol does not tell the allocation's hosts ({why})") from why
    if done.returncode or not done.stdout.split():
        raise UsageError(f"--load-hosts: scontrol does not tell the allocation's hosts ({done.stderr.strip()})")
    return done.stdout.split()


def srun_prefixes(hosts: list[str], workers: int) -> list[list[str]]:
    """What stands before each load process's command; they go around the hosts in turn."""
    return [
        [
            "srun",
            "--nodes=1",
            "--ntasks=1",
            f"--nodelist={hosts[i % len(hosts)]}",
            "--overlap",
            "--unbuffered",
            "--quiet",
        ]
        for i in range(workers)
    ]
