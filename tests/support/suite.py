"""Runs the suite from outside, as a user does: a pytest process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

QUICK = """
name = "quick"
[model]
id = "simulated"
[sweep]
isl = [64, 128]
osl = [8]
concurrency = [1, 4]
[load]
num_prompts = 12
num_warmups = 2
[sim]
step_ms = 1.0
[validity]
max_blur_share = 1.0
max_gathered_share = 1.0
max_core_wait = "1s"
max_pause = "10s"
min_concurrency_share = 0.1
"""


@dataclass(frozen=True)
class Outcome:
    """What a run of the suite left: its status, its words, its results."""

    code: int
    out: str
    results_dir: Path

    def results(self) -> dict[str, dict[str, Any]]:
        """The result files by name, without the session's index."""
        files = sorted(self.results_dir.glob("*.json"))
        return {f.stem: json.loads(f.read_text()) for f in files if f.name != "report.json"}

    def only_starved(self) -> bool:
        """Whether all that was measured is there, and was refused for this alone: the machine gave the client no CPU.

        That is the right answer on a busy machine, and what a test asks of such a point's tokens still holds.
        """
        found = [result.get("validity") for result in self.results().values()]
        failed = [check for validity in found for check in (validity or {}).get("checks", []) if not check["ok"]]
        return self.code == 12 and all(found) and any(map(_of_client, failed)) and all(map(_comes_of_it, failed))


def _of_client(check: dict[str, Any]) -> bool:
    return bool(check["name"].startswith("client_"))


def _comes_of_it(check: dict[str, Any]) -> bool:
    """Of the client itself, or what follows where it is late: too few in flight, events that it read together."""
    late = check["name"] in ("concurrency", "request_rate", "schedule_kept")
    return _of_client(check) or late or (check["name"] == "gathered_stream" and "starved of CPU" in check["text"])


def run_suite(
    folder: Path,
    *args: str,
    profile: str | None = QUICK,
    env: dict[str, str] | None = None,
    during: Callable[[subprocess.Popen[str]], None] | None = None,
    timeout_s: float = 300.0,
) -> Outcome:
    """Run `pytest ARGS` on the suite with its results in `folder`; with a profile of its own unless that is None.

    `during` is called beside it, in a thread, with the running process.
    """
    results = folder / "results"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--results-dir={results}"]
    if profile is not None:
        path = folder / "quick.toml"
        path.write_text(profile)
        command.append(f"--profile={path}")
    if "--plot" not in args and "PLOTS" not in (env or {}):
        command.append("--no-plot")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "GITHUB_", "PYTEST_", "SERVER_INFO"))}
    clean |= {"SERVER_INFO": str(folder / "server_info.txt"), **(env or {})}
    with subprocess.Popen(
        [*command, *args], cwd=ROOT, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        beside = threading.Thread(target=during or (lambda _: None), args=(process,))
        beside.start()
        try:
            out, _ = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
            beside.join()
    return Outcome(process.returncode, out, results)
