"""Write results as `vllm bench sweep plot` and `vllm bench sweep plot_pareto` read them.

They read every `summary.json` below the folder that they are given: a list with one object a run, flat, latencies in
milliseconds under `vllm bench serve`'s names, throughputs of the whole server, numbers of GPUs as parallel sizes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_tests.results.schema import METRICS, PointResult
from plotting.group import cells, split

__all__ = ["export_vllm", "vllm_run"]

_COPIED = ("date", "tokenizer_id", "num_prompts", "request_rate", "burstiness", "duration", "completed", "failed",
           "total_input_tokens", "total_output_tokens", "request_throughput", "request_goodput", "output_throughput",
           "total_token_throughput")  # fmt: skip


def export_vllm(points: Sequence[PointResult], output: Path) -> list[Path]:
    """One folder a point with its `summary.json` in `output`; returns the files. Points without figures stay out."""
    written = []
    for group in split(point for point in points if point.measured):
        for cell in cells(group.points):
            name = f"SERVE-{group.slug}-BENCH-{cell.runs[0].point_id}"
            path = output / name / "summary.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps([vllm_run(p, number) for number, p in enumerate(cell.runs)], indent=1) + "\n")
            written.append(path)
    return written


def vllm_run(point: PointResult, run_number: int) -> dict[str, Any]:
    """One run under vLLM's keys: `p99_ttft_ms` and the like in ms, `tokens per second` of the whole server."""
    run: dict[str, Any] = {key: point.raw[key] for key in _COPIED if point.raw.get(key) is not None}
    gpus = point.gpus or 1
    for side in ("input", "output"):
        if f"{side}_throughput" not in run and (per_gpu := point.throughput(side)) is not None:
            run[f"{side}_throughput"] = point.metrics.get(f"{side}_throughput", per_gpu * gpus)
    if "total_token_throughput" not in run and {"input_throughput", "output_throughput"} <= run.keys():
        run["total_token_throughput"] = run["input_throughput"] + run["output_throughput"]
    for metric in METRICS:
        for name, value in point.metrics.items():
            if name.endswith(f"_{metric}"):
                run[f"{name}_ms"] = value * 1000
        if f"median_{metric}" in point.metrics:
            run[f"p50_{metric}_ms"] = point.metrics[f"median_{metric}"] * 1000
    return run | {
        "model_id": point.model,
        "backend": point.engine,
        "random_input_len": point.isl or None,
        "random_output_len": point.osl or None,
        "max_concurrency": point.conc or None,
        # the whole number of GPUs: plot_pareto multiplies tensor, pipeline and data parallel sizes
        "tensor_parallel_size": gpus,
        "gpu_count": gpus,
        "run_number": run_number,
    }
