"""kill -9 at random moments of a sweep: every result file is whole, and --resume measures only what is missing.

    BENCH_KILLS=300 python -m pytest tests/faults/kill_test.py

Not collected by itself (its name is no test_*.py); a few kills are part of tests/faults/test_kill.py.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench_tests.load.records import Records
from bench_tests.results.read import read_one
from bench_tests.sim.simulator import SimSpec, Simulator

__all__ = ["kill_and_resume", "test_kills"]

ROOT = Path(__file__).resolve().parents[2]
POINTS = 6
PROFILE = """
name = "kill"
[model]
id = "simulated"
vocab_size = 5000
[sweep]
isl = [64, 128]
osl = [8]
concurrency = [1, 2, 4]
[load]
num_prompts = 8
num_warmups = 0
[slo]
p99_ttft = "30s"
[validity]
max_pause = "30s"
max_core_wait = 1.0
max_client_cpu = 1.0
min_concurrency_share = 0.0
max_blur_share = 1.0
"""


def command(folder: Path, url: str) -> list[str]:
    return [
        sys.executable, "-m", "pytest", f"--profile={folder / 'kill.toml'}", f"--base-url={url}", "--resume", "-q",
        f"--results-dir={folder / 'results'}", "--no-plot", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:anyio",
    ]  # fmt: skip


def whole_results(folder: Path) -> dict[str, tuple[str, int]]:
    """Name → (run_id, time of writing) of each result; raises where one, or its records, is not whole."""
    found = {}
    for path in sorted((folder / "results").glob("kill_*.json")):
        read = read_one(path)
        assert read is not None, path
        result = read.raw
        assert result["verdict"] == "PASSED", result["messages"]
        assert len(Records.load(path.parent / result["records"])) == result["num_prompts"]
        found[path.name] = (result["run_id"], path.stat().st_mtime_ns)
    return found


def kill_and_resume(folder: Path, url: str, kills: int, seed: int) -> dict[str, float]:
    """Kill sweeps until there were `kills` kills; a finished sweep is followed by a new one. Counts what happened."""
    rng = random.Random(seed)
    (folder / "kill.toml").write_text(PROFILE)
    env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("PYTEST")}
    start = time.monotonic()
    subprocess.run(command(folder, url), cwd=ROOT, env=env, check=True, capture_output=True, timeout=120)
    lasts = time.monotonic() - start  # a whole sweep
    killed = finished = kept = 0
    while killed < kills:
        if len(whole_results(folder)) == POINTS:
            finished += 1
            for path in (folder / "results").glob("kill_*.json"):
                path.unlink()
        before = whole_results(folder)
        kept += len(before)
        process = subprocess.Popen(
            command(folder, url), cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )  # fmt: skip
        try:
            process.wait(rng.uniform(0.1, 1.0) * lasts)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        after = whole_results(folder)
        assert {name: after[name] for name in before} == before, "a finished point was measured again"
    done = subprocess.run(
        command(folder, url), cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert len(whole_results(folder)) == POINTS
    report = json.loads((folder / "results" / "report.json").read_text())
    assert report["summary"]["passed"] == POINTS
    return {"kills": killed, "sweeps": finished, "points_kept": kept, "minutes": (time.monotonic() - start) / 60}


def load_processes() -> set[str]:
    """Load processes on this machine, by what their standard input is told; those of a killed session must be gone."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"bench_tests.load.worker" in (entry / "cmdline").read_bytes():
                found.add(entry.name)
        except OSError:
            pass
    return found


def test_kills(tmp_path: Path) -> None:
    """$BENCH_KILLS kills; afterwards no load process of theirs is left."""
    before = load_processes()
    with Simulator(SimSpec(base_ms=4.0, per_seq_us=0, prefill_tok_per_s=1e6)) as sim:
        counted = kill_and_resume(tmp_path, sim.url, int(os.environ.get("BENCH_KILLS", "4")), seed=20261121)
    print(counted)
    deadline = time.monotonic() + 30
    while (left := load_processes() - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not {p for p in left if os.getsid(int(p)) == int(p) and _orphan(p)}


def _orphan(pid: str) -> bool:
    try:
        return int((Path("/proc") / pid / "stat").read_text().rpartition(")")[2].split()[1]) == 1
    except OSError:
        return False
