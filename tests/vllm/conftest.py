"""What the tests with a real vLLM share: the tiny model, a profile that serves it, and how the suite is run on it."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import time
from asyncio import run
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench_tests.server.client import get
from bench_tests.server.metrics import read_metrics
from bench_tests.server.served import Endpoint
from tests.support.suite import Outcome, run_suite
from tests.vllm.make_tiny_model import DTYPE

VLLM = os.environ.get("BENCH_VLLM") or shutil.which("vllm")
needs_vllm = pytest.mark.skipif(not VLLM, reason="no vLLM: set $BENCH_VLLM (tests/vllm/install.sh makes one)")

ENGINE = ["--load-format", "dummy", "--max-model-len", "16384", "--enforce-eager", "--dtype", DTYPE]
# two cores are shared by the engine and the client: where it is starved of CPU is not what these tests are about
LENIENT = """
[validity]
max_core_wait = "1s"
max_pause = "30s"
max_blur_share = 1.0
max_gathered_share = 1.0
max_lateness = "10s"
min_rate_share = 0.1
min_concurrency_share = 0.0
"""
PROFILE = """
name = "tiny"
base = "demo"
[model]
id = "tiny"
vocab_size = 4096
[server]
serve_command = ["{vllm}", "serve", "{model}", "--served-model-name", "tiny"]
serve_args = {args}
startup_timeout = "5min"
port = 0
env = {{ VLLM_CPU_KVCACHE_SPACE = "2", OMP_NUM_THREADS = "1", HF_HUB_OFFLINE = "1", VLLM_LOGGING_LEVEL = "WARNING" }}
[slo]
p99_ttft = "60s"
p99_tpot = "10s"
[validity]
max_core_wait = "1s"
max_pause = "30s"
max_blur_share = 1.0
max_gathered_share = 1.0
min_concurrency_share = 0.0
"""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.vllm.make_tiny_model import make

    folder = tmp_path_factory.mktemp("model") / "tiny"
    folder.mkdir()
    assert make(folder) == 4096
    return folder


@contextmanager
def serving(model: Path, log: Path) -> Iterator[tuple[Endpoint, int]]:
    """A vLLM of the model, ready; it says how many tokens of each prompt were cached."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "2", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_API_KEY": "sk-real-vllm-key",
    }  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(VLLM), "serve", str(model), "--served-model-name", "tiny", "--port", str(port), *ENGINE,
             "--enable-prompt-tokens-details"],
            stdout=out, stderr=out, env=env, start_new_session=True,
        )  # fmt: skip
    endpoint = Endpoint(f"http://127.0.0.1:{port}", "sk-real-vllm-key")
    try:
        deadline = time.monotonic() + 300
        while (answer := run(get(endpoint, "/health", 2.0))) is None or answer.status != 200:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(1)
        yield endpoint, process.pid
    finally:
        os.killpg(process.pid, 15)
        process.wait(60)


@pytest.fixture(scope="session")
def started(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Endpoint, int]]:
    """One vLLM that runs on its own, as a user's would, with a key, and the group of its processes."""
    with serving(model, tmp_path_factory.mktemp("vllm") / "log") as found:
        yield found


@pytest.fixture(scope="session")
def server(started: tuple[Endpoint, int]) -> Endpoint:
    return started[0]


@pytest.fixture(scope="session")
def profile(model: Path) -> str:
    return PROFILE.format(vllm=VLLM, model=model, args=json.dumps(ENGINE)).replace(
        'serve", "tiny"', f'serve", "{model}"'
    )


def sweep(
    folder: Path,
    server: Endpoint,
    *args: str,
    profile: str | None = None,
    during: Callable[[subprocess.Popen[str]], None] | None = None,
) -> Outcome:
    """The suite, attached to that server."""
    env = {"OPENAI_API_KEY": server.api_key or ""}
    # together: what fills a staggered start is more than these tests count, and one long request goes ahead of it
    how = ("--base-url", server.base_url, "--start=together")
    return run_suite(folder, *how, *args, profile=profile, env=env, during=during, timeout_s=900)


def busy(server: Endpoint) -> float:
    """How many requests vLLM says that it works on or will; NaN when it says nothing."""
    said = run(read_metrics(server, "tiny")).values
    return said.get("running", math.nan) + said.get("waiting", math.nan)
