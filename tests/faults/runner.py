"""Runs a row of the matrix: the suite as a user starts it, against a server with the fault, then reads all it left."""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench_tests.sim.simulator import SimSpec, Simulator
from tests.faults import provoke_here, provoke_servers  # noqa: F401  # they register what provokes
from tests.faults.case import PROVOKE, Case
from tests.faults.row import ERROR, FAILED, NOTHING, PASSED, Row

__all__ = ["Outcome", "Servers", "run_row"]

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 90
TIMEOUTS = ("first_token", "between_tokens", "request")
COMMON = """
name = "common"
[model]
id = "simulated"
vocab_size = 5000
[sweep]
isl = [64]
osl = [8]
concurrency = [4]
[load]
num_prompts = 12
num_warmups = 1
[timeouts]
connect = "5s"
first_token = "{first_token}"
between_tokens = "{between_tokens}"
request = "{request}"
point = "60s"
[slo]
p99_ttft = "20s"
[validity]
max_pause = "{max_pause}"
max_core_wait = 1.0
max_client_cpu = 1.0
min_concurrency_share = 0.1
max_blur_share = 1.0
"""


@dataclass
class Outcome:
    """What a row led to."""

    code: int
    printed: str
    kept: dict[str, str] = field(default_factory=dict)  # each file that was written, as text; records unpacked

    @property
    def results(self) -> list[dict[str, Any]]:
        """The result files that are whole."""
        found = []
        for name, text in self.kept.items():
            if name.startswith("results/tiny_") and name.endswith(".json"):
                found.append(json.loads(text))
        return found

    @property
    def verdict(self) -> str:
        """The worst of all points."""
        words = {result["verdict"] for result in self.results}
        return next((word for word in (ERROR, FAILED, PASSED) if word in words), NOTHING)


class Servers:
    """Simulated servers for the rows, each used by one at a time; most rows share them."""

    def __init__(self, key: str) -> None:
        self.spec = SimSpec(base_ms=5.0, per_seq_us=0, prefill_tok_per_s=1e6, vocab_size=100_000, api_key=key)
        self.free: queue.SimpleQueue[Simulator] = queue.SimpleQueue()
        self.all: list[Simulator] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def use(self, row: Row) -> Iterator[Simulator]:
        if row.spec or row.own_server:
            with Simulator(replace(self.spec, faults=row.switches, **row.spec)) as own:
                time.sleep(1.5)  # a restart within a second of its start cannot be told by its start time
                yield own
            return
        try:
            shared = self.free.get_nowait()
        except queue.Empty:
            shared = Simulator(self.spec)
            shared.start()
            with self._lock:
                self.all.append(shared)
        try:
            shared.set_faults(*row.switches)
            yield shared
        finally:
            shared.set_faults()
            self.free.put(shared)

    def stop(self) -> None:
        for server in self.all:
            server.stop()


def run_row(row: Row, folder: Path, servers: Servers, key: str) -> Outcome:
    """Run it and give back what it led to. Raises what the provoker raises (a skip among it)."""
    folder.mkdir(parents=True)
    # a busy machine's pauses are no row's fault, but the row's that provokes one
    waits = any(switch.startswith(("stall", "slow", "endless")) for switch in row.switches)
    limits = (
        {"first_token": "1.5s", "between_tokens": "1s", "request": "2s"} if waits else dict.fromkeys(TIMEOUTS, "30s")
    )
    limits["max_pause"] = "250ms" if row.name == "held_back" else "20s"
    (folder / "common.toml").write_text(COMMON.format(**limits))
    (folder / "tiny.toml").write_text('base = "common.toml"\n' + row.profile)
    results = folder / "results"
    env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("PYTEST")}
    env |= {"OPENAI_API_KEY": key, "COLUMNS": "240", "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
    env |= {"SERVER_INFO": str(folder / "none.txt")}

    def command(case: Case, options: list[str]) -> list[str]:
        words = [*case.prefix, sys.executable, "-m", "pytest", f"--profile={folder / 'tiny.toml'}"]
        words += [f"--base-url={case.url}"] if case.attach else []
        words += [f"--results-dir={results}", "--no-plot", f"--junitxml={folder / 'junit.xml'}"]
        return [
            *words,
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",
            "-p",
            "no:anyio",
            *case.options,
            *options,
        ]

    def again(options: list[str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command(case, options), cwd=ROOT, env=case.env, text=True, capture_output=True, timeout=LIMIT_S, check=False
        )
        (folder / "first-run.txt").write_text(done.stdout + done.stderr)
        return done

    with servers.use(row) as sim:
        case = Case(folder, results, key, sim.url, env, list(row.options), again, sim)
        provoked = PROVOKE[row.provoke](case) if row.provoke else contextlib.nullcontext()
        with provoked:
            process = subprocess.Popen(
                command(case, []), cwd=ROOT, env=case.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                preexec_fn=case.limit,
            )  # fmt: skip
            try:
                if case.during is not None:
                    case.during(process)
                printed, _ = process.communicate(timeout=LIMIT_S)
            except (TimeoutError, subprocess.TimeoutExpired) as why:
                process.kill()
                why.add_note(process.communicate()[0][-4000:])
                raise
            finally:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
    return Outcome(process.returncode, printed, _kept(folder))


def _kept(folder: Path) -> dict[str, str]:
    """All that the row has written, but for what was given to it."""
    given = ("common.toml", "tiny.toml", "server_info.txt", "hook/", "tls/")
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(given):
            data = path.read_bytes()
            found[name] = _UNPACK.get(path.suffix, _plain)(data)
    return found


def _plain(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _columns(data: bytes) -> str:
    with np.load(io.BytesIO(data), allow_pickle=False) as columns:
        return "\n".join(columns["error"].tolist()) if "error" in columns else ""  # a server's series are numbers alone


def _members(data: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(data)) as pages:
        return "\n".join(_plain(pages.read(name)) for name in pages.namelist())


_UNPACK = {".npz": _columns, ".zip": _members}
