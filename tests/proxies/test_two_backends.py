"""Two replicas behind one HAProxy, turn by turn: what their counters say is not put together, and no false word is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench_tests.sim.simulator import SimSpec, Simulator
from tests.proxies.conftest import _running, free_port
from tests.proxies.test_proxies import LENIENT
from tests.support.suite import run_suite

CONFIG = """
global
  maxconn 512
defaults
  mode http
  option http-no-delay
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend front
  bind 127.0.0.1:{port}
  default_backend engines
backend engines
  balance roundrobin
  server one 127.0.0.1:{one}
  server two 127.0.0.1:{two}
"""
FALSE = ("restarted", "prompt tokens of others", "other load", "preempted", "prefix cache: ")


def test_two_replicas_are_recognised_and_measured(tmp_path: Path) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed (apt-get install haproxy)")
    spec = SimSpec(mode="paced", ttft_ms=100, gap_ms=20, processes=1)
    with Simulator(spec) as one, Simulator(spec) as two:
        port, path = free_port(), tmp_path / "haproxy.conf"
        ports = {name: sim.url.rsplit(":", 1)[1] for name, sim in (("one", one), ("two", two))}
        path.write_text(CONFIG.format(port=port, **ports))
        with _running(["haproxy", "-db", "-f", str(path)], port, tmp_path):
            outcome = run_suite(
                tmp_path, f"--base-url=http://127.0.0.1:{port}", "--point", "isl64-osl16-conc4", "--num-prompts=24",
                "--num-warmups=4", "--slo", "p99_ttft<=30s,p99_tpot<=5s", profile=LENIENT,
            )  # fmt: skip
    assert outcome.code == 0, outcome.out
    assert "several servers answer here" in outcome.out
    assert not [words for words in FALSE if words in outcome.out], outcome.out
    (result,) = outcome.results().values()
    assert result["completed"] == 24
    assert result["total_input_tokens"] == 24 * 64


NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream engines {{ server 127.0.0.1:{one}; server 127.0.0.1:{two}; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://engines; proxy_buffering off; proxy_http_version 1.1; }}
  }}
}}
"""


def test_the_counters_of_two_named_replicas_add_up_to_what_was_sent(tmp_path: Path) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed (apt-get install nginx)")
    spec = SimSpec(mode="paced", ttft_ms=100, gap_ms=20, processes=1)
    with Simulator(spec) as one, Simulator(spec) as two:
        port, path = free_port(), tmp_path / "nginx.conf"
        ports = {name: sim.url.rsplit(":", 1)[1] for name, sim in (("one", one), ("two", two))}
        path.write_text(NGINX.format(port=port, folder=tmp_path, **ports))
        with _running(["nginx", "-c", str(path), "-p", str(tmp_path)], port, tmp_path):
            outcome = run_suite(
                tmp_path, f"--base-url=http://127.0.0.1:{port}", "--point", "isl64-osl16-conc4", "--num-prompts=24",
                "--num-warmups=4", "--start=together", "--slo", "p99_ttft<=30s", f"--server-metrics={one.url},{two.url}", "-v", profile=LENIENT,
            )  # fmt: skip
    assert outcome.code == 0, outcome.out
    (result,) = outcome.results().values()
    side = result["server_side"]
    assert side["tokens"]["prompt"] == {"client": 28 * 64, "server": 28 * 64}
    assert side["tokens"]["generation"] == {"client": 28 * 16, "server": 28 * 16}
    assert side["same_requests"]
    parts = side["roles"].values()
    assert all(part["prompt_tokens"] > 0 for part in parts), "one of them had nothing to do"
    assert sum(part["prompt_tokens"] for part in parts) == 28 * 64
    assert side["ttft"]["client_and_network_s"] >= 0
    assert result["server"]["counted"]["prompt_tokens"] == 28 * 64
    checked = {check["name"] for check in result["validity"]["checks"]}
    assert {"prefix_cache", "server_ttft"} <= checked
    assert "client and network" in outcome.out
