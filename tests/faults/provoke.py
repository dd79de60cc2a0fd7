"""What the rows of the matrix do to provoke their fault: each a context around the run that may change its case."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bench_tests.server.simulator import Simulator
from tests.scripted_server import ScriptedServer, read_request

__all__ = ["PROVOKE", "Case"]


@dataclass
class Case:
    """One run of a row, as it will be started. Provokers change it."""

    folder: Path
    results: Path
    key: str
    url: str
    env: dict[str, str]
    options: list[str]
    run: Callable[[list[str]], subprocess.CompletedProcess[str]]  # another run of the same command, further options
    sim: Simulator | None = None
    prefix: list[str] = field(default_factory=list)  # of the command
    limit: Callable[[], None] | None = None  # called in the child before the command
    during: Callable[[subprocess.Popen[str]], None] | None = None  # called while it runs
    attach: bool = True  # give --base-url
    requests_before: float = 0  # that the server has had before this run


PROVOKE: dict[str, Callable[[Case], contextlib.AbstractContextManager[None]]] = {}


def provoker(make: Callable[[Case], Iterator[None]]) -> Callable[[Case], Iterator[None]]:
    PROVOKE[make.__name__] = contextlib.contextmanager(make)
    return make


def hook(case: Case, code: str, where: str = "load.worker") -> None:
    """Run code at the start of each of the suite's processes whose command line names `where`."""
    folder = case.folder / "hook"
    folder.mkdir(exist_ok=True)
    lines = "\n".join("    " + line for line in code.strip().splitlines())
    (folder / "sitecustomize.py").write_text(f"import sys\nif any({where!r} in a for a in sys.orig_argv):\n{lines}\n")
    case.env["PYTHONPATH"] = str(folder)


def until(true: Callable[[], bool], what: str, seconds: float = 75) -> None:
    """Wait for something that the run does."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def worker_of(process: subprocess.Popen[str]) -> int:
    """The load process of a running session."""
    found: list[int] = []

    def look() -> bool:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == process.pid and b"bench_tests.load.worker" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return bool(found)

    until(look, "a load process")
    return found[0]


def busy(case: Case, process: subprocess.Popen[str]) -> None:
    """Wait until the server has a measured request or two. Gives up when the run has ended before."""
    assert case.sim is not None
    sim = case.sim
    before = case.requests_before
    until(
        lambda: process.poll() is not None or sim.stats()["running"] + sim.stats()["requests"] - before > 3, "requests"
    )


def during_load(action: Callable[[Case, subprocess.Popen[str]], None]) -> Callable[[Case], Iterator[None]]:
    def make(case: Case) -> Iterator[None]:
        assert case.sim is not None
        case.requests_before = case.sim.stats()["requests"]

        def during(process: subprocess.Popen[str]) -> None:
            busy(case, process)
            if process.poll() is None:
                action(case, process)

        case.during = during
        yield

    make.__name__ = action.__name__
    provoker(make)
    return make


# ---- servers


@provoker
def dead_port(case: Case) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    case.url = f"http://127.0.0.1:{port}"
    yield


def _serve(case: Case, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    with ScriptedServer(serve) as server:
        case.url = server.url
        yield


@provoker
def silent(case: Case) -> Iterator[None]:
    yield from _serve(case, lambda conn: time.sleep(60))


@provoker
def not_http(case: Case) -> Iterator[None]:
    def ssh(conn: socket.socket) -> None:
        conn.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        conn.recv(1)

    yield from _serve(case, ssh)


def _answer(conn: socket.socket, status: str, kind: str, body: bytes) -> None:
    conn.sendall(f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)


@provoker
def web_page(case: Case) -> Iterator[None]:
    def page(conn: socket.socket) -> None:
        while read_request(conn):
            _answer(conn, "200 OK", "text/html", b"<html>It works!</html>")

    yield from _serve(case, page)


@provoker
def echo(case: Case) -> Iterator[None]:
    def repeat(conn: socket.socket) -> None:
        while request := read_request(conn):
            head = request[0].decode()
            if "/completions" in head:
                _answer(conn, "400 Bad Request", "text/plain", f"I do not like {head}".encode())
            else:
                _answer(conn, "200 OK", "application/json", b'{"data":[{"id":"simulated"}]}')

    yield from _serve(case, repeat)


@provoker
def other_key(case: Case) -> Iterator[None]:
    case.env["OPENAI_API_KEY"] = case.key[::-1]
    yield


@provoker
def key_with_line_end(case: Case) -> Iterator[None]:
    case.env["OPENAI_API_KEY"] = case.key + "\n"
    yield


@provoker
def dead_proxy(case: Case) -> Iterator[None]:
    case.env |= {"http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    yield


_AUTHORITY = """[ca]
default_ca = own
[own]
database = index.txt
rand_serial = yes
new_certs_dir = .
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""


def certify(
    folder: Path, name: str, first_day: str = "20200101000000Z", last_day: str = "21000101000000Z"
) -> tuple[str, str]:
    """A certificate for a subjectAltName, signed by itself, and its key: the paths of both."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    folder.mkdir()
    (folder / "ca.cnf").write_text(_AUTHORITY)
    (folder / "index.txt").write_text("")
    asked = (
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test -keyout key.pem -out req.pem"
    )
    signed = "ca -batch -selfsign -notext -config ca.cnf -keyfile key.pem -in req.pem -out cert.pem"
    for words in (
        [*asked.split(), "-addext", f"subjectAltName={name}"],
        [*signed.split(), "-startdate", first_day, "-enddate", last_day],
    ):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    return str(folder / "cert.pem"), str(folder / "key.pem")


def _tls(case: Case, name: str, trusted: bool, last_day: str = "21000101000000Z") -> Iterator[None]:
    assert case.sim is not None
    cert, key = certify(case.folder / "tls", name, last_day=last_day)
    if trusted:
        case.env["SSL_CERT_FILE"] = cert
    with Simulator(replace(case.sim.spec, tls_cert=cert, tls_key=key)) as sim:
        case.url = sim.url
        yield


@provoker
def tls_wrong_name(case: Case) -> Iterator[None]:
    yield from _tls(case, "DNS:elsewhere.example", True)


@provoker
def tls_expired(case: Case) -> Iterator[None]:
    yield from _tls(case, "IP:127.0.0.1", True, "20200102000000Z")


@provoker
def tls_unknown(case: Case) -> Iterator[None]:
    yield from _tls(case, "IP:127.0.0.1", False)


@provoker
def tls_proper(case: Case) -> Iterator[None]:
    yield from _tls(case, "IP:127.0.0.1", True)


@provoker
def also_not_chunked(case: Case) -> Iterator[None]:
    assert case.sim is not None
    case.sim.set_faults("stall_mid_stream", "not_chunked")
    yield


@provoker
def swap_model(case: Case) -> Iterator[None]:
    assert case.sim is not None
    sim = case.sim

    def swap(process: subprocess.Popen[str]) -> None:
        until(lambda: bool(list(case.results.glob("*_conc2.json"))), "the first point")
        sim.set_faults("model_swapped")

    case.during = swap
    yield


@during_load
def kill_server(case: Case, process: subprocess.Popen[str]) -> None:
    assert case.sim is not None
    for pid in case.sim.pids:
        os.kill(pid, signal.SIGKILL)


@provoker
def twice(case: Case) -> Iterator[None]:
    assert case.run([]).returncode == 0
    yield


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
