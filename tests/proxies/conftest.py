"""A paced simulated server, and a real nginx or HAProxy of the system before it, each with a configuration of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench_tests.sim.simulator import SimSpec, Simulator

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} {tls};
    {certificate}
    location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_read_timeout 60s; {settings} }}
  }}
}}
"""
HAPROXY = """
global
  maxconn 512
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  {settings}
frontend front
  bind 127.0.0.1:{port}
  default_backend engine
backend engine
  server one 127.0.0.1:{upstream}
"""

Proxy = Callable[..., str]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def engine() -> Iterator[Simulator]:
    """Streams at 20 ms a token, the first after 100 ms; TPOT and TTFT do not depend on the load."""
    with Simulator(SimSpec(mode="paced", ttft_ms=100, gap_ms=20, processes=1)) as running:
        yield running


@contextmanager
def _running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    with (folder / "said").open("w+") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (folder / "said").read_text()
                time.sleep(0.05)
            else:
                raise AssertionError(f"{command[0]} does not listen: {(folder / 'said').read_text()}")
            yield
        finally:
            process.terminate()


@pytest.fixture
def proxy(engine: Simulator, tmp_path: Path) -> Iterator[Proxy]:
    """`proxy("haproxy", "option http-no-delay")` → its URL; before it stands the engine."""
    with ExitStack() as running:

        def start(kind: str, settings: str = "", certificate: tuple[str, str] | None = None) -> str:
            if shutil.which(kind) is None:
                pytest.skip(f"{kind} is not installed (apt-get install {kind})")
            port, upstream = free_port(), engine.url.rsplit(":", 1)[1]
            lines = f"ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};" if certificate else ""
            text = (NGINX if kind == "nginx" else HAPROXY).format(
                port=port, upstream=upstream, settings=settings, folder=tmp_path, certificate=lines,
                tls="ssl" if certificate else "",
            )  # fmt: skip
            path = tmp_path / f"{kind}.conf"
            path.write_text(text)
            command = (
                [kind, "-p", str(tmp_path), "-c", str(path)] if kind == "nginx" else [kind, "-db", "-f", str(path)]
            )
            running.enter_context(_running(command, port, tmp_path))
            return f"{'https' if certificate else 'http'}://127.0.0.1:{port}"

        yield start
