"""A real vLLM that the suite starts itself, and one whose engine dies. Apart from the other file: one engine at a time."""

from __future__ import annotations

import subprocess
import threading
import time
from asyncio import run
from pathlib import Path

from bench_tests.server.client import post_json
from bench_tests.server.local import LocalServer
from bench_tests.server.metrics import read_metrics
from bench_tests.server.served import Endpoint
from bench_tests.sweep.profile import load_profile
from tests.support.suite import run_suite
from tests.vllm.conftest import needs_vllm, sweep

pytestmark = needs_vllm


def test_local_server_is_started_measured_and_stopped(tmp_path: Path, profile: str) -> None:
    outcome = run_suite(
        tmp_path, "--server", "local", "--point", "isl128-osl8-conc2", "--num-prompts", "8", profile=profile
    )
    assert outcome.code == 0, outcome.out
    (result,) = outcome.results().values()
    assert result["completed"] == 8
    assert result["server"]["kind"] == "local"
    left = subprocess.run(
        ["pgrep", "-f", f"served-model-name tiny.*--port {_port(result)}"], capture_output=True, text=True
    )
    assert left.stdout == "", "a process of the server is left"


def _port(result: dict[str, object]) -> str:
    return str(result["server"]["base_url"]).rpartition(":")[2]  # type: ignore[index]


def _kill_when_loaded(endpoint: Endpoint) -> None:
    deadline = time.monotonic() + 180
    while run(read_metrics(endpoint, "tiny")).values.get("running", 0) < 4 and time.monotonic() < deadline:
        time.sleep(0.5)
    body = {"model": "tiny", "prompt": [300] * 12000, "max_tokens": 64, "seed": 1, "temperature": 1.0}
    run(post_json(endpoint, "/v1/completions", body))


def test_an_engine_that_dies_in_the_middle_is_an_error_and_ends_the_session(tmp_path: Path, profile: str) -> None:
    """A seeded long prompt kills the CPU build's engine: error events in 200 streams, then no server at all."""
    path = tmp_path / "tiny.toml"
    path.write_text(profile)
    local = run(LocalServer.start(load_profile(str(path)), tmp_path, print))
    try:
        killer = threading.Thread(target=_kill_when_loaded, args=(local.endpoint,))
        killer.start()
        outcome = sweep(
            tmp_path, local.endpoint, "--point", "isl2048-osl2000-conc4", "--point", "isl64-osl8-conc1", profile=profile
        )
        killer.join()
    finally:
        run(local.stop())
    assert outcome.code == 13, outcome.out
    first = outcome.results()["tiny_vllm_tp1_isl2048_osl2000_conc4_starttogether"]
    assert first["verdict"] == "ERROR"
    assert first["failed"] > 0
    assert "isl64-osl8-conc1: PASSED" not in outcome.out
