"""Write results as InferenceX's aggregate rows and as llm-d's Benchmark Report 0.2."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.figures import figures_where
from bench_tests.results.schema import PointResult

__all__ = ["export_inferencex", "export_llm_d", "inferencex_row", "llm_d_report"]

_ENERGY = {  # our figure → InferenceX's key
    "energy_j": "total_gpu_energy_j",
    "avg_power_w": "avg_power_w",
    "j_per_output_token": "joules_per_output_token",
    "j_per_input_token": "joules_per_input_token",
    "j_per_total_token": "joules_per_total_token",
}
_TIMES = {"ttft": ("time_to_first_token", "s"), "tpot": ("time_per_output_token", "s/token"),
          "itl": ("inter_token_latency", "s/token"), "e2el": ("request_latency", "s")}  # fmt: skip


def export_inferencex(points: Sequence[PointResult], output: Path) -> list[Path]:
    """One `inferencex.json` in `output` with a row a run. Raises UsageError where the GPUs of none are known."""
    rows = [inferencex_row(point) for point in points if point.measured and (point.gpus or point.per_gpu)]
    if not rows:
        raise UsageError("--format inferencex: its figures are per GPU, and no result says its GPUs; give --gpus N")
    return [_written(output / "inferencex.json", rows)]


def inferencex_row(point: PointResult) -> dict[str, Any]:
    """One run under InferenceX's keys: seconds, tokens per second per GPU. What nobody has told is null; `hw`, `precision`,
    `image` and the like are taken from the result's metadata.

    Formula: interactivity = 1 / TPOT, statistic by statistic.
    """
    about = _map(point.raw.get("metadata"))
    sizes = point.parallel
    into, out = point.throughput("input"), point.throughput("output")
    side, power = _map(point.raw.get("server_side")), _map(point.raw.get("power"))
    row: dict[str, Any] = {
        "hw": about.get("hw"),
        "conc": point.conc or None,
        "image": about.get("image"),
        "model": point.model,
        "infmax_model_prefix": about.get("infmax_model_prefix"),
        "framework": point.engine,
        "precision": about.get("precision"),
        "spec_decoding": "draft" if side.get("speculation") else about.get("spec_decoding", "none"),
        "disagg": {"prefill", "decode"} <= _map(side.get("roles")).keys(),
        "is_multinode": bool((_map(point.raw.get("server")).get("num_nodes") or 1) > 1),
        "isl": point.isl or None,
        "osl": point.osl or None,
        "tp": sizes.get("tp", 1),
        "pp": sizes.get("pp", 1),
        "dcp_size": sizes.get("dcp", 1),
        "pcp_size": sizes.get("pcp", 1),
        "ep": sizes.get("ep", 1),
        "dp_attention": sizes.get("dp", 1) > 1,
        "tput_per_gpu": None if into is None or out is None else into + out,
        "input_tput_per_gpu": into,
        "output_tput_per_gpu": out,
    }
    for figure in figures_where(of="request"):
        if figure.name in point.metrics and figure.latency in _TIMES:
            row[figure.name] = value = point.metrics[figure.name]
            if figure.latency == "tpot" and figure.statistic != "std" and value > 0:
                row[f"{figure.statistic}_intvty"] = 1 / value
    if power:
        row |= {theirs: point.metrics.get(ours) for ours, theirs in _ENERGY.items()}
        row |= {name: power.get(name) for name in ("power_valid", "power_invalid_reasons")}
    return row


def export_llm_d(points: Sequence[PointResult], output: Path) -> list[Path]:
    """One Benchmark Report 0.2 a run in `output` (JSON, which YAML's readers take as well)."""
    return [_written(output / f"{p.source.stem}.report.json", llm_d_report(p)) for p in points if p.measured]


def llm_d_report(point: PointResult) -> dict[str, Any]:
    """One run as a Benchmark Report 0.2: seconds, tokens per second of the whole server."""
    raw, settings = point.raw, _map(point.raw.get("settings"))
    gpus = point.gpus or 1
    rates = {
        side: point.metrics.get(f"{side}_throughput", _times(point.per_gpu.get(side), gpus))
        for side in ("input", "output")
    }
    rates["total"] = point.metrics.get("total_token_throughput")
    failed = raw.get("failed")
    return {
        "version": "0.2",
        "run": {
            "uid": "-".join(filter(None, [point.run_id or point.date, point.point_id, f"run{point.run}"])),
            "eid": point.run_id or None,
            "time": _time(point),
        },
        "scenario": {
            "stack": _stack(point),
            "load": {
                "metadata": {"schema_version": "0.0.1"},
                "standardized": {
                    "tool": "bench-tests",
                    "tool_version": _map(raw.get("client")).get("suite"),
                    "source": "random" if not point.workload else point.workload,
                    "input_seq_len": _length(point.isl, settings),
                    "output_seq_len": _length(point.osl, settings),
                    **({"concurrency": point.conc} if point.conc else {}),
                    **({"rate_qps": point.request_rate} if math.isfinite(point.request_rate) else {}),
                },
                "native": {"config": dict(settings)},
            },
        },
        "results": {
            "request_performance": {
                "aggregate": {
                    "requests": {
                        "total": point.n + failed if point.n is not None and isinstance(failed, int) else point.n,
                        "failures": failed if isinstance(failed, int) else None,
                    },
                    "latency": _latency(point),
                    "throughput": {
                        **{
                            f"{side}_token_rate": {"units": "tokens/s", "mean": rate}
                            for side, rate in rates.items()
                            if rate is not None
                        },
                        "request_rate": {"units": "queries/s", "mean": point.metrics.get("request_throughput")},
                    },
                }
            }
        },
    }


def _latency(point: PointResult) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for figure in figures_where(of="request"):
        if figure.name in point.metrics and figure.latency in _TIMES:
            name, units = _TIMES[figure.latency]
            statistic = {"median": "p50", "std": "stddev"}.get(figure.statistic, figure.statistic)
            found.setdefault(name, {"units": units})[statistic] = point.metrics[figure.name]
    return found


def _stack(point: PointResult) -> list[dict[str, Any]]:
    """The engine, or its roles where the server's counters were read by role."""
    about = _map(point.raw.get("metadata"))
    roles = list(_map(_map(point.raw.get("server_side")).get("roles"))) or ["replica"]
    sizes = {name: point.parallel.get(name, 1) for name in ("tp", "dp", "pp", "ep")}
    return [
        {
            "metadata": {"label": role},
            "standardized": {
                "kind": "inference_engine",
                "tool": point.engine,
                "tool_version": point.engine_version or None,
                "role": role if role in ("prefill", "decode") else "replica",
                "replicas": 1,
                "model": {"name": point.model},
                "accelerator": {"model": about.get("hw"), "count": point.gpus, "parallelism": sizes},
            },
            "native": {},
        }
        for role in roles
    ]


def _length(tokens: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    spread = settings.get("range_ratio")
    return {"distribution": "uniform" if spread else "fixed" if tokens else "other", "value": tokens or None}


def _time(point: PointResult) -> dict[str, Any]:
    try:
        start = datetime.strptime(point.date, "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return {}
    duration = point.raw.get("duration")
    known = isinstance(duration, int | float) and not isinstance(duration, bool) and 0 <= duration < 1e9
    if not known:
        return {"start": start.isoformat()}
    assert isinstance(duration, int | float)
    end = start + timedelta(seconds=duration)
    return {"start": start.isoformat(), "end": end.isoformat(), "duration": f"PT{duration:g}S"}


def _times(rate: float | None, gpus: int) -> float | None:
    return None if rate is None else rate * gpus


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    return path
