"""The job's own side of power: the sampler beside the server, on each of its nodes. The standard library alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench_tests.server import power_sampler
from bench_tests.sweep.profile import Profile

__all__ = ["JobPower"]


class JobPower:
    """Samples the GPUs of all nodes until it is ended, where the profile wants them sampled by NVML."""

    def __init__(self, profile: Profile, environ: Mapping[str, str], job_id: str) -> None:
        self.file = ""  # what each node writes, {host} being its name; "": nothing is sampled
        self._process: subprocess.Popen[bytes] | None = None
        if profile.power.source != "nvml":
            return
        self.file = str(Path(environ["LOGS_DIR"]).absolute() / f"power-{job_id}.{{host}}.jsonl")
        argv = [sys.executable, "-I", power_sampler.__file__, self.file]
        nodes = profile.server.nodes
        if nodes > 1:
            argv = ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", *argv]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def end(self) -> None:
        """End it, and wait for that. May be called twice."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
