"""The simulated server: an OpenAI-compatible server that runs no model, in processes of its own.

It speaks vLLM's protocol and keeps the truth of its own timing. All that it serves is marked as simulated: its name
in the `server` header and in `owned_by`, `"simulated": true` in /version, `bench_tests_simulated` in /metrics.

    python -m bench_tests.server.simulator --port 8000 --mode batch
    with Simulator(SimSpec(mode="paced", ttft_ms=50)) as sim: load(sim.url)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from bench_tests.errors import ServerError, UsageError
from bench_tests.paths import ROOT
from bench_tests.sim.faults import FAULTS
from bench_tests.sim.spec import MODES, SimSpec

__all__ = ["SimSpec", "Simulator", "main"]

_START_S = 30.0
_STOP_S = 5.0


class Simulator:
    """A simulated server as a child process that ends with this one, also when this one is killed.

    Raises ServerError when it does not start.
    """

    def __init__(self, spec: SimSpec | None = None) -> None:
        self.spec = spec if spec is not None else SimSpec()
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self.last_words = ""  # the last line of its stderr, once it has ended
        self._url = ""
        self._pids: list[int] = []

    @property
    def url(self) -> str:
        """Its base URL, for example http://127.0.0.1:40123; "" before it was started."""
        return self._url

    @property
    def pids(self) -> list[int]:
        """The processes that serve."""
        return list(self._pids)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> str:
        """Start it and wait until it listens; returns its URL."""
        root = str(ROOT)
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        # a session of its own: Ctrl-C at the terminal reaches the client first, which then stops us
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "bench_tests.server.simulator", "--spec-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        line = b""
        try:
            process.stdin.write(self.spec.to_json().encode() + b"\n")
            process.stdin.flush()
            if select.select([process.stdout], [], [], _START_S)[0]:
                line = process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            self.stop()
            raise ServerError(f"the simulated server did not start: {self.last_words}")
        ready = json.loads(line)
        self._url, self._pids = ready["url"], ready["pids"]
        return self._url

    def stop(self) -> None:
        """End it; harmless when it has ended already."""
        process = self._process
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()  # the end of its stdin is an end signal too
                except BrokenPipeError:
                    pass
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._stderr is not None and not self._stderr.closed:
            self._stderr.seek(0)
            lines = self._stderr.read().decode(errors="replace").strip().splitlines()
            self.last_words = lines[-1] if lines else "it said nothing"
            self._stderr.close()

    def request(self, path: str, body: Any = None) -> bytes:
        """GET, or POST of JSON, to one of its own pages; for tests and tools, not timed. Raises OSError."""
        with ThreadPoolExecutor(1) as apart:  # with a loop of its own: the caller may run in one
            return apart.submit(asyncio.run, self._ask(path, body)).result()

    async def _ask(self, path: str, body: Any) -> bytes:
        import aiohttp

        headers = {} if self.spec.api_key is None else {"authorization": f"Bearer {self.spec.api_key}"}
        context: ssl.SSLContext | bool = True
        if self.spec.tls_cert is not None:
            context = ssl.create_default_context(cafile=self.spec.tls_cert)
            context.check_hostname = False
        connector = aiohttp.TCPConnector(force_close=True, ssl=context)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(10)) as http:
            method = "GET" if body is None else "POST"
            async with http.request(method, self._url + path, json=body, headers=headers) as answer:
                if answer.status >= 400:
                    raise OSError(f"{path}: HTTP {answer.status}")
                return await answer.read()

    def set_faults(self, *faults: str) -> None:
        """Switch these faults on and all others off, for the requests from now on."""
        self.request("/sim/faults", {"faults": list(faults)})

    def stats(self) -> dict[str, Any]:
        """What /truth/stats says; the truth log holds all requests that had ended before."""
        got: dict[str, Any] = json.loads(self.request("/truth/stats"))
        return got

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


_HELP = {
    "model": "the name that it serves",
    "version": "what /version says",
    "max_model_len": "tokens of context, prompt and answer together",
    "vocab_size": "token ids from here on are refused",
    "host": "the address to listen on, IPv6 too",
    "port": "0: any free port, said in the line that is printed",
    "processes": "each with an engine of its own; the kernel deals the connections out",
    "tls_cert": "serve HTTPS with this certificate (PEM)",
    "tls_key": "its key",
    "mode": "batch models continuous batching; paced gives each stream fixed times",
    "base_ms": "batch: a step's time",
    "per_seq_us": "batch: and for each sequence that decodes",
    "per_ktoken_us": "batch: and for each 1000 tokens of their contexts",
    "prefill_tok_per_s": "batch: how fast prompts are computed",
    "max_num_batched_tokens": "batch: tokens of a step, which waiting prompts share, first come, first served",
    "max_num_seqs": "batch: sequences that run at the same time",
    "kv_cache_tokens": "batch: tokens of all contexts together",
    "preempt": "batch: the KV cache is given out as answers grow; when it is full the youngest is computed again later",
    "prefix_caching": "what a prompt shares with an earlier one, in blocks of 16 tokens, is not computed again",
    "enable_prompt_tokens_details": "usage says how many prompt tokens were cached",
    "ttft_ms": "paced: time to the first token",
    "ttft_us_per_token": "paced: and for each token of the prompt",
    "gap_ms": "paced: time between tokens",
    "ttft_jitter": "paced: none, uniform:MS, normal:MS or exp:MS",
    "gap_jitter": "paced: likewise, for each token",
    "jitter_wave": "paced: so many requests in a row share a part of the TTFT's jitter",
    "jitter_icc": "paced: and this share of its variance",
    "step": "paced: all streams write at multiples of the gap, in one burst",
    "stop_after": "tokens after which a request without ignore_eos stops by itself",
    "utf8": "some tokens are of several bytes",
    "think_tokens": "tokens of thinking that a chat's answer begins with",
    "thinking_key": "of the events that are thinking: reasoning, or reasoning_content",
    "tool_tokens": "tokens of a tool call that a chat's answer ends with",
    "role_at_once": "a chat's first event, a role and nothing else, comes before the first token",
    "truth_log": "write what really happened here, one JSON line a request",
    "log_tokens": "with every gap between events",
    "seed": "of all that is random",
    "spin_us": "busy-wait for the last microseconds before a deadline",
}


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(FAULTS)
    parser = argparse.ArgumentParser(
        prog="python -m bench_tests.server.simulator",
        description="A simulated OpenAI-compatible server. Prints one line of JSON when it listens.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for field in fields(SimSpec):
        if field.name in ("faults", "api_key"):
            continue
        option = f"--{field.name.replace('_', '-')}"
        text = _HELP[field.name]
        kind = str(field.type).partition(" |")[0]
        default = None if field.default is MISSING else field.default
        if kind == "bool":
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=default, help=text)
        else:
            types = {"int": int, "float": float, "str": str}
            choices = MODES if field.name == "mode" else None
            parser.add_argument(option, type=types[kind], default=default, help=text, choices=choices)
    parser.add_argument("--fault", action="append", default=[], metavar="NAME[:PROBABILITY[:ARG]]", help=names)
    parser.add_argument("--api-key-env", metavar="NAME", help="the environment variable that holds the key to ask for")
    parser.add_argument("--outlive-parent", action="store_true", help="go on when the process that started this ends")
    parser.add_argument("--spec-stdin", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = vars(_parser().parse_args(argv))
    from_stdin, outlive = options.pop("spec_stdin"), options.pop("outlive_parent")
    key_name, faults = options.pop("api_key_env"), options.pop("fault")
    try:
        if from_stdin:
            spec = SimSpec.from_json(_first_line())
        else:
            key = os.environ.get(key_name) if key_name else None
            if key_name and not key:
                raise UsageError(f"--api-key-env {key_name}: that variable is not set; export it first")
            spec = SimSpec(**options, api_key=key, faults=tuple(faults))
        # imported here: whoever only wants the Simulator class need not wait for aiohttp
        from bench_tests.sim.worker import bind, supervise, tls_context, wait

        tls = tls_context(spec)
        if spec.truth_log is not None:
            Path(spec.truth_log).write_bytes(b"")
        socks = bind(spec)
    except (UsageError, OSError) as why:
        print(why, file=sys.stderr)
        return 4
    host, port = (f"[{spec.host}]" if ":" in spec.host else spec.host), socks[0].getsockname()[1]
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    pids = supervise(spec, socks, tls)
    url = f"{'http' if tls is None else 'https'}://{host}:{port}"
    print(json.dumps({"url": url, "pid": os.getpid(), "pids": pids, "simulated": True}), flush=True)
    return wait(pids, watch_parent=not outlive, watch_stdin=from_stdin)


def _first_line() -> str:
    """The first line of stdin, unbuffered: select() must see what comes after it."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            raise UsageError("simulated server: no settings on stdin")
        line += part
    return line.decode()
