"""Faults of ourselves, of this host and its files, interruptions, wrong usage."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.case import Case, during_load, hook, provoker, worker_of

# ---- ourselves


def _limited(what: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (value, value))


@provoker
def few_descriptors(case: Case) -> Iterator[None]:
    case.limit = _limited(resource.RLIMIT_NOFILE, 48)
    yield


def _namespace(case: Case, flag: str, setup: str) -> None:
    """Run the command in a namespace of its own, where that is allowed."""
    case.prefix = ["unshare", flag, "sh", "-ec", setup + '\nexec "$@"', "sh"]
    tried = subprocess.run([*case.prefix, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"unshare {flag} is not allowed here: {tried.stderr.strip()[:80]}")


@provoker
def few_ports(case: Case) -> Iterator[None]:
    _namespace(case, "-n", 'ip link set lo up; echo "40000 40029" > /proc/sys/net/ipv4/ip_local_port_range')
    case.attach = False
    case.options.append("--server=sim")
    yield


@provoker
def little_memory(case: Case) -> Iterator[None]:
    hook(case, "import resource\nresource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))")
    yield


@during_load
def kill_worker(case: Case, process: subprocess.Popen[str]) -> None:
    os.kill(worker_of(process), signal.SIGKILL)


@during_load
def stop_worker(case: Case, process: subprocess.Popen[str]) -> None:
    worker = worker_of(process)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(1)
    os.kill(worker, signal.SIGCONT)


@provoker
def step_clock(case: Case) -> Iterator[None]:
    code = """
import time
real, first = time.time_ns, []
def stepped():
    first or first.append(time.monotonic())
    return real() + (20_000_000 if time.monotonic() > first[0] + 0.3 else 0)
time.time_ns = stepped
"""
    hook(case, code)
    yield


@provoker
def crash(case: Case) -> Iterator[None]:
    code = """
import importlib.abc
class Break(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "prometheus_client.parser":
            raise RuntimeError("provoked here")
sys.meta_path.insert(0, Break())
"""
    hook(case, code, where="pytest")
    yield


def _small_folder(case: Case, name: str, size: str, options: str = "") -> Path:
    folder = case.folder / name
    folder.mkdir(exist_ok=True)
    _namespace(case, "-m", f"mount -t tmpfs -o size={size}{options} none {folder}")
    return folder


@provoker
def full_temp(case: Case) -> Iterator[None]:
    case.env["TMPDIR"] = str(_small_folder(case, "temp", "64k"))
    yield


# ---- files


@provoker
def full_disk(case: Case) -> Iterator[None]:
    _small_folder(case, "results", "4k")
    yield


@provoker
def read_only(case: Case) -> Iterator[None]:
    _small_folder(case, "results", "64k", ",ro")
    yield


@provoker
def results_is_a_file(case: Case) -> Iterator[None]:
    case.results.write_text("a file")
    yield


@provoker
def whole_result(case: Case) -> Iterator[None]:
    assert case.run(["--num-prompts=12"]).returncode == 0
    yield


@provoker
def half_result(case: Case) -> Iterator[None]:
    assert case.run([]).returncode == 0
    (kept,) = case.results.glob("tiny_*.json")
    kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])
    yield


@provoker
def two_sweeps(case: Case) -> Iterator[None]:
    def other(process: subprocess.Popen[str]) -> None:
        assert case.run([]).returncode == 0

    case.during = other
    yield


# ---- interruption


@during_load
def interrupt(case: Case, process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


@during_load
def terminate(case: Case, process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)


@during_load
def interrupt_twice(case: Case, process: subprocess.Popen[str]) -> None:
    os.kill(worker_of(process), signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.wait(10)  # the first waits 20 s for the load process, the second does not


# ---- usage


@provoker
def key_in_url(case: Case) -> Iterator[None]:
    case.url = f"http://user:{case.key}@127.0.0.1:8000"
    yield


@provoker
def hostile_info(case: Case) -> Iterator[None]:
    info = case.folder / "server_info.txt"
    info.write_text(f"file:///etc/passwd\napi_key={case.key}\n")
    case.attach = False
    case.options.append(f"--server-info={info}")
    yield
