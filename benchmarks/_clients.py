"""The clients that are compared: how each is called, and where it says what it has measured."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CLIENTS", "OWN", "Client", "Load"]

OWN = "this suite"
LATENCIES = ("ttft", "tpot", "itl", "e2el")


@dataclass(frozen=True)
class Load:
    """What each client is asked for."""

    url: str
    model: str
    isl: int
    osl: int
    streams: int
    requests: int
    tokenizer: str  # name or folder; this suite needs none
    folder: Path  # an empty one, for what the client writes

    @property
    def point(self) -> str:
        return f"isl{self.isl}-osl{self.osl}-conc{self.streams}"


@dataclass(frozen=True)
class Client:
    """One client. `read` gives its figures in seconds by names like p99_ttft, and `completed`."""

    name: str
    find: Callable[[], list[str] | None]  # the command's first words, None where it is not installed
    arguments: Callable[[Load], list[str]]
    read: Callable[[Path], dict[str, float]]


def _program(name: str) -> Callable[[], list[str] | None]:
    return lambda: [found] if (found := shutil.which(name)) else None


def _module(name: str) -> Callable[[], list[str] | None]:
    package = name.partition(".")[0]
    return lambda: [sys.executable, "-m", name] if importlib.util.find_spec(package) else None


def _own(load: Load) -> list[str]:
    profile = load.folder.with_suffix(".toml")  # with the default thresholds of validity, which the demo's are not
    profile.write_text(f'name = "truth"\n[model]\nid = "{load.model}"\n')
    return [
        f"--base-url={load.url}", f"--profile={profile}", f"--point={load.point}",
        f"--num-prompts={load.requests}", "--num-warmups=0", "--slo=none", f"--results-dir={load.folder}",
        "--no-plot", "-p", "no:cacheprovider", "-q",
    ]  # fmt: skip


def _read_own(folder: Path) -> dict[str, float]:
    (path,) = (path for path in folder.glob("*.json") if path.name != "report.json")
    result = json.loads(path.read_text())
    figures = {f"{level}_{of}": result[f"{key}_{of}"] for of in LATENCIES for level, key in _LEVELS}
    worker = result["client"]["processes"][0]
    return {
        **{name: value for name, value in figures.items() if value is not None},
        "completed": result["completed"],
        "valid": float(result["validity"]["valid"]),
        "itl_doubted": float(any(c["name"] == "client_lag" and c["text"] for c in result["validity"]["checks"])),
        "max_rss_mb": worker["max_rss_bytes"] / 2**20,
        "loop_us_per_event": result["client"]["cpu_us_per_event"],
    }


_LEVELS = (("p50", "median"), ("p99", "p99"))


def _vllm(load: Load) -> list[str]:
    return [
        "bench", "serve", "--backend", "openai", "--base-url", load.url, "--model", load.model,
        "--tokenizer", load.tokenizer, "--dataset-name", "random", "--random-input-len", str(load.isl),
        "--random-output-len", str(load.osl), "--num-prompts", str(load.requests), "--ignore-eos",
        "--max-concurrency", str(load.streams), "--percentile-metrics", "ttft,tpot,itl,e2el",
        "--metric-percentiles", "99", "--save-result", "--result-dir", str(load.folder),
        "--result-filename", "result.json", "--disable-tqdm",
    ]  # fmt: skip


def _sglang(load: Load) -> list[str]:
    return [
        "--backend", "vllm", "--base-url", load.url, "--model", load.model, "--tokenizer", load.tokenizer,
        "--dataset-name", "random-ids", "--random-input-len", str(load.isl), "--random-output-len", str(load.osl),
        "--random-range-ratio", "1.0", "--num-prompts", str(load.requests), "--max-concurrency", str(load.streams),
        "--warmup-requests", "0", "--output-file", str(load.folder / "result.json"), "--disable-tqdm",
    ]  # fmt: skip


def _read_flat(folder: Path) -> dict[str, float]:
    """The flat keys of `vllm bench serve` and those that took them over, milliseconds; the file's last line."""
    text = (folder / "result.json").read_text().strip()
    said: Mapping[str, Any] = json.loads(text if text.startswith("{\n") else text.splitlines()[-1])
    figures = {}
    for of in LATENCIES:
        for level, key in _LEVELS:
            name = f"{key}_{'e2e_latency' if f'{key}_{of}_ms' not in said and of == 'e2el' else of}_ms"
            if said.get(name) is not None:
                figures[f"{level}_{of}"] = said[name] / 1e3
    return {**figures, "completed": said["completed"]}


def _aiperf(load: Load) -> list[str]:
    return [
        "profile", "--model", load.model, "--url", load.url, "--endpoint-type", "completions", "--streaming",
        "--concurrency", str(load.streams), "--request-count", str(load.requests), "--tokenizer", load.tokenizer,
        "--isl", str(load.isl), "--isl-stddev", "0", "--osl", str(load.osl), "--osl-stddev", "0",
        "--extra-inputs", "ignore_eos:true", "--artifact-dir", str(load.folder), "--ui", "none",
    ]  # fmt: skip


def _read_aiperf(folder: Path) -> dict[str, float]:
    said = json.loads(next(folder.rglob("profile_export_aiperf.json")).read_text())
    names = {
        "ttft": "time_to_first_token",
        "tpot": "inter_token_latency",
        "itl": "inter_chunk_latency",
        "e2el": "request_latency",
    }
    found = {f"{q}_{of}": said[n][q] / 1e3 for of, n in names.items() if n in said for q in ("p50", "p99")}
    return {**found, "completed": said["request_count"]["avg"]}


def _guidellm(load: Load) -> list[str]:
    return [
        "run", "--backend", f"kind=openai_http,target={load.url},model={load.model},request_format=/v1/completions",
        "--profile", f"kind=concurrent,streams={load.streams}", "--constraint", f"kind=max_requests,count={load.requests}",
        "--tokenizer", f"kind=huggingface_auto,model={load.tokenizer}",
        "--data", f"kind=synthetic_text,prompt_tokens={load.isl},output_tokens={load.osl}",
        "--output", f"kind=json,path={load.folder / 'result.json'}", "--disable-console",
    ]  # fmt: skip


def _read_guidellm(folder: Path) -> dict[str, float]:
    (benchmark,) = json.loads(next(folder.rglob("*.json")).read_text())["benchmarks"]
    metrics = benchmark["metrics"]
    names = {
        "ttft": ("time_to_first_token_ms", 1e-3),
        "tpot": ("inter_token_latency_ms", 1e-3),
        "e2el": ("request_latency", 1.0),
    }
    found: dict[str, float] = {}
    for of, (name, unit) in names.items():
        said = metrics[name]["successful"]
        found |= {f"p50_{of}": said["median"] * unit, f"p99_{of}": said["percentiles"]["p99"] * unit}
    return {**found, "completed": metrics["request_totals"]["successful"]}


CLIENTS = {
    client.name: client
    for client in (
        Client(OWN, lambda: [sys.executable, "-m", "pytest"], _own, _read_own),
        Client("vllm", _program("vllm"), _vllm, _read_flat),
        Client("vllm-rs", _program("vllm-rs"), _vllm, _read_flat),
        Client("sglang", _module("sglang.bench_serving"), _sglang, _read_flat),
        Client("aiperf", _program("aiperf"), _aiperf, _read_aiperf),
        Client("guidellm", _program("guidellm"), _guidellm, _read_guidellm),
    )
}
