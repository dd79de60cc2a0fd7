"""Exports of other load tools: their figures under the flat keys that formats.py reads, where they map; else what they are.

AIPerf and GenAI-Perf: `inter_token_latency` is (request latency − TTFT) / (output tokens − 1) of each request: the TPOT of
here. GuideLLM: likewise, from 0.4 on weighted by those tokens, which is the same where all answers are equally long; it
writes 0 for a request that had no first token. A figure that has no counterpart is left away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["NotAResult", "parts_of", "translated"]


class NotAResult(ValueError):
    """The object is no result of a point; the text says what is missing or wrong."""


_STATISTICS = (("avg", "mean"), ("mean", "mean"), ("p50", "median"), ("median", "median"), ("std", "std"),
               ("std_dev", "std"), ("p90", "p90"), ("p95", "p95"), ("p99", "p99"))  # fmt: skip
_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "us": 1e-6, "ns": 1e-9}
_NVIDIA = (("time_to_first_token", "ttft"), ("inter_token_latency", "tpot"), ("request_latency", "e2el"))
_GUIDELLM = (("time_to_first_token_ms", "ttft", 1e-3), ("inter_token_latency_ms", "tpot", 1e-3),
             ("request_latency", "e2el", 1.0))  # fmt: skip


def translated(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """`raw` itself where it has the flat keys, else a translation of it. Raises NotAResult for what cannot be one."""
    if ("time_to_first_token" in raw or "request_latency" in raw) and isinstance(raw.get("input_config"), Mapping):
        return _nvidia(raw)
    if "metrics" in raw and "time_to_first_token_ms" in _map(raw["metrics"]):
        return _guidellm(raw)
    if "load_summary" in raw and "successes" in raw:
        raise NotAResult("an inference-perf summary (not read): it says neither lengths nor a concurrency")
    if any(str(key).startswith("results_ttft_s_") for key in raw):
        raise NotAResult("an llmperf summary (not read): its figures are of other definitions")
    if "error_type" in raw and "run_number" in raw:
        raise NotAResult(f"failed run of a sweep ({str(raw['error_type'])[:60]})")
    if "results" in raw and "scenario" in raw:
        raise NotAResult("an llm-d benchmark report (not read)")
    if isinstance(raw.get("server_info"), Mapping):
        return _sglang(raw)
    return raw


def parts_of(whole: Mapping[str, Any]) -> list[Any] | None:
    """The benchmarks of a file that holds several (GuideLLM's); None for any other."""
    listed = whole.get("benchmarks")
    return listed if isinstance(listed, list) and "completed" not in whole else None


def _sglang(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A line of SGLang's client, which keeps what its server said of itself in a table: model, version, sizes."""
    server = raw["server_info"]
    said = {
        "model_id": server.get("served_model_name") or server.get("model_path"),
        "engine": "sglang",
        "engine_version": server.get("version"),
        "dp_attention": server.get("enable_dp_attention"),
        **{size: server.get(size) for size in ("tp_size", "pp_size", "dp_size", "ep_size")},
    }
    return {key: value for key, value in said.items() if value not in (None, "")} | dict(raw)


def _nvidia(raw: Mapping[str, Any]) -> dict[str, Any]:
    """An AIPerf or GenAI-Perf export: the same figures, the load's settings in another place by version.

    AIPerf: `loadgen` and `endpoint`, later `phases`, `datasets` and `models`. GenAI-Perf: flat, later `perf_analyzer`.
    """
    config = raw["input_config"]
    ai = "loadgen" in config or "phases" in config or "aiperf_version" in raw
    tool = "an AIPerf export" if ai else "a GenAI-Perf export"
    if raw.get("was_cancelled") is True:
        raise NotAResult(f"{tool} (not usable): the run was cancelled")
    endpoint, loadgen = _map(config.get("endpoint")), _map(config.get("loadgen")) or _phase(config.get("phases"))
    stimulus = _map(_map(config.get("perf_analyzer")).get("stimulus"))
    prompts = _map(_map(_one(config.get("datasets"))).get("prompts"))
    named = _map(_one(_map(config.get("models")).get("items"))).get("name")
    synthetic = _map(_map(config.get("input")).get("synthetic_tokens"))
    flat: dict[str, Any] = {
        "max_concurrency": next((c for t in (loadgen, stimulus, config) if (c := _first(t, "concurrency"))), None),
        "request_rate": next((r for t in (loadgen, stimulus, config) if (r := _first(t, "request_rate", "rate"))), None),
        "isl": _rounded(_average(raw, "input_sequence_length") or _first(config, "synthetic_input_tokens_mean")
                        or _first(_map(prompts.get("isl")), "mean") or _first(synthetic, "mean")),
        "osl": _rounded(_average(raw, "output_sequence_length") or _first(config, "output_tokens_mean")
                        or _first(_map(prompts.get("osl")), "mean")),
        "completed": _rounded(_average(raw, "request_count")),
        "failed": _rounded(_average(raw, "error_request_count")),
        "output_throughput": _average(raw, "output_token_throughput"),
        "request_throughput": _average(raw, "request_throughput"),
        "duration": _average(raw, "benchmark_duration"),
        "model_id": named or _one(endpoint.get("model_names") or config.get("model_names") or config.get("model")),
        "date": str(raw.get("start_time") or "").replace("-", "").replace("T", "-").replace(":", "")[:15],
        "engine": "unknown engine",
    }  # fmt: skip
    for name, latency in _NVIDIA:
        table = _map(raw.get(name))
        flat |= _statistics(table, latency, _SECONDS.get(str(table.get("unit")), 1e-3))
    return _complete(flat, tool)


def _phase(phases: object) -> Mapping[str, Any]:
    """The one phase that was measured; nothing where there were several, whose figures stand together."""
    listed = phases if isinstance(phases, list) else []
    measured = [p for p in map(_map, listed) if (p.get("kind") or p.get("name")) != "warmup"]
    return measured[0] if len(measured) == 1 else {}


def _guidellm(raw: Mapping[str, Any]) -> dict[str, Any]:
    metrics = _map(raw["metrics"])

    def successful(name: str) -> Mapping[str, Any]:
        table = _map(metrics.get(name))
        return _map(table.get("successful") or table.get("total"))

    strategy: Mapping[str, Any] = {}
    for place in ("config", "args", "scheduler"):
        strategy = strategy or _map(_map(raw.get(place)).get("strategy"))
    kind = str(strategy.get("type_") or strategy.get("type") or "")
    streams = _first(strategy, "streams", "max_concurrency")
    flat: dict[str, Any] = {
        "max_concurrency": streams or (1 if kind == "synchronous" else None),
        "request_rate": _first(strategy, "rate") if kind in ("constant", "poisson") else None,
        "isl": _rounded(successful("prompt_token_count").get("mean")),
        "osl": _rounded(successful("output_token_count").get("mean")),
        "completed": _first(_map(metrics.get("request_totals")), "successful")
        or _first(_map(_map(raw.get("run_stats")).get("requests_made")), "successful"),
        "duration": _first(raw, "duration"),
        "output_throughput": successful("output_tokens_per_second").get("mean"),
        "request_throughput": successful("requests_per_second").get("mean"),
        "model_id": _one(_map(raw.get("args")).get("model") or _map(raw.get("config")).get("model")
                         or _map(_map(raw.get("config")).get("backend")).get("model")
                         or _map(raw.get("worker")).get("backend_model")),
        "engine": "unknown engine",
    }  # fmt: skip
    for name, latency, scale in _GUIDELLM:
        table = successful(name)
        flat |= _statistics({**table, **_map(table.get("percentiles"))}, latency, scale)
    return _complete(flat, "a GuideLLM benchmark")


def _complete(flat: dict[str, Any], tool: str) -> dict[str, Any]:
    """Without the values that are not there. Raises NotAResult that names the tool and what a point would need."""
    found = {key: value for key, value in flat.items() if value not in (None, "")}
    needs = {
        "isl": "an ISL (input sequence length)",
        "osl": "an OSL (output sequence length)",
        "output_throughput": "an output throughput",
    }
    missing = [words for key, words in needs.items() if key not in found]
    if "max_concurrency" not in found and "request_rate" not in found:
        missing.insert(0, "a concurrency")
    if missing:
        raise NotAResult(f"{tool} (not usable): it does not say {', '.join(missing)}")
    if "input_throughput" not in found and "request_throughput" in found:
        found["input_throughput"] = found["isl"] * found["request_throughput"]
    return found


def _statistics(table: Mapping[str, Any], latency: str, seconds: float) -> dict[str, float]:
    """The statistics of a latency, seconds; one of 0 is none, but for the deviation."""
    return {
        f"{ours}_{latency}": value * seconds
        for theirs, ours in _STATISTICS
        if isinstance(value := table.get(theirs), int | float) and not isinstance(value, bool)
        and (value > 0 or (value == 0 and ours == "std"))
    }  # fmt: skip


def _average(raw: Mapping[str, Any], name: str) -> Any:
    return _map(raw.get(name)).get("avg")


def _rounded(value: Any) -> int | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e12
    return round(value) if usable else None


def _first(table: Mapping[str, Any], *names: str) -> Any:
    """The first usable number under one of the names; a sweep's list of one value counts as that value."""
    for name in names:
        value = _one(table.get(name))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    return None


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else None if isinstance(value, list) else value


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
