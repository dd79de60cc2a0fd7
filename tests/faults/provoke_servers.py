"""Faults of servers and of what lies between."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench_tests.sim.simulator import Simulator
from tests.faults.case import Case, during_load, provoker, until
from tests.support.scripted_server import ScriptedServer, read_request


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
