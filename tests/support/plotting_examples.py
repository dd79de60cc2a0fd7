"""Small example results and records for the tests of the pictures and the report: made up, seeded, all shapes."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from bench_tests.load.records import COMPLETED, Records

__all__ = ["PUBLISHED", "example_records", "example_result", "write_matrix", "write_sweep"]

#: Result files that others published; the README beside them names source and licence.
PUBLISHED = Path(__file__).parent / "data" / "inferencex"


def example_records(conc: int = 8, n: int = 64, warm: int = 16, osl: int = 24, seed: int = 1, fail: int = 0) -> Records:
    """A closed loop at `conc`: `warm` unmeasured requests, then `n` measured ones, the last `fail` of them cut off."""
    rng = np.random.default_rng(seed)
    free = np.zeros(conc)
    send, first, last, events = [], [], [], []
    for i in range(warm + n):
        if i == warm:
            free[:] = free.max() + 0.05
        slot = int(free.argmin())
        start = float(free[slot])
        ttft = 0.12 + 0.02 * conc * rng.lognormal(-2.0, 0.8)
        stamps = start + ttft + np.concatenate([[0.0], np.cumsum(rng.lognormal(np.log(0.015), 0.35, osl - 1))])
        send.append(start)
        first.append(stamps[0])
        last.append(stamps[-1])
        events.append(stamps)
        free[slot] = stamps[-1] + 0.0003
    size = warm + n
    kind = np.full(size, COMPLETED, np.int8)
    kind[size - fail :] = 4
    whole = np.full(size, osl, np.int64)
    known: dict[str, Any] = {
        "kind": kind,
        "measured": np.arange(size) >= warm,
        "http_status": np.full(size, 200, np.int16),
        "scheduled_s": np.zeros(size),  # all wanted at once, and held back by the concurrency
        "send_s": np.array(send),
        "first_s": np.array(first),
        "last_s": np.array(last),
        "end_s": np.array(last),
        "asked_input": np.full(size, 256, np.int64),
        "asked_output": whole,
        "input_tokens": np.full(size, 256, np.int64),
        "output_tokens": whole,
        "cached_tokens": np.zeros(size, np.int64),
        "events": whole,
        "event_s": np.concatenate(events),
        "lag_s": np.full(size, 1e-4),
        "worker": np.zeros(size, np.int16),
        "error": np.array([""] * size),
    }
    empty = Records.empty()
    return Records(**{f.name: np.zeros(size, getattr(empty, f.name).dtype) for f in fields(Records)} | known)


def example_result(
    isl: int = 256, osl: int = 24, conc: int = 8, run: int = 1, slow: float = 1.0, **changed: Any
) -> dict[str, Any]:
    """A result file's object, as a sweep of this suite writes it; `slow` stretches its latencies."""
    ttft, tpot = slow * (0.1 + isl * conc / 20_000), slow * (0.010 + 0.0004 * conc)
    n = 10 * conc
    duration = n / conc * (ttft + tpot * osl)
    limit = 1.0
    late = ttft * 1.5 > limit
    result: dict[str, Any] = {
        "schema_version": 1,
        "date": "20260301-101500",
        "model_id": "example/Tiny-1B",
        "tokenizer_id": "example/Tiny-1B",
        "engine": "vllm",
        "engine_version": "0.32.0",
        "profile": "demo",
        "run_id": "20260301-101500-aaaaaa",
        "run": run,
        "point": {"isl": isl, "osl": osl, "conc": conc},
        "num_prompts": n,
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": conc,
        "duration": duration,
        "completed": n,
        "failed": 0,
        "good_completed": None,
        "total_input": isl * n,
        "total_input_tokens": isl * n,
        "total_output": osl * n,
        "total_output_tokens": osl * n,
        "request_throughput": n / duration,
        "request_goodput": None,
        "input_throughput": isl * n / duration,
        "output_throughput": osl * n / duration,
        "total_token_throughput": (isl + osl) * n / duration,
        "mean_ttft": ttft,
        "median_ttft": ttft,
        "std_ttft": ttft / 5,
        "p90_ttft": ttft * 1.2,
        "p95_ttft": ttft * 1.3,
        "p99_ttft": ttft * 1.5,
        "mean_tpot": tpot,
        "median_tpot": tpot,
        "std_tpot": tpot / 9,
        "p90_tpot": tpot * 1.1,
        "p95_tpot": tpot * 1.15,
        "p99_tpot": tpot * 1.2,
        "median_e2el": ttft + tpot * osl,
        "p99_e2el": ttft * 1.5 + tpot * osl,
        "ci95": {
            "p99_ttft": [ttft * 1.4, ttft * 1.6],
            "median_ttft": [ttft * 0.95, ttft * 1.05],
            "p99_tpot": [tpot * 1.15, tpot * 1.25],
            "median_tpot": [tpot * 0.98, tpot * 1.02],
        },
        "verdict": "FAILED" if late else "PASSED",
        "messages": [f"p99 TTFT {ttft * 1.5:.3f} s > {limit:.3f} s (n={n})"] if late else [],
        "slo": {
            "mode": "point",
            "objectives": [{"metric": "p99_ttft", "limit": limit}, {"metric": "p99_tpot", "limit": 0.05}],
        },
        "slo_tiers": {"ttft": [0.25, 0.5, 1.0], "tpot": [0.015, 0.02]},
        "goodput": None,
        "validity": {
            "valid": True,
            "checks": [
                {
                    "name": "client_lag",
                    "figure": 0.0002,
                    "limit": 0.002,
                    "unit": "s",
                    "ok": True,
                    "text": "the client read events 0.2 ms late at worst",
                }
            ],
        },
        "client": {"host": "node1", "calibration": {"p99_ttft_error": 0.0001}},
        "server": {
            "base_url": "http://127.0.0.1:8000",
            "model": "example/Tiny-1B",
            "engine": "vllm",
            "version": "0.32.0",
            "gpus": 2,
            "tensor_parallel": 2,
            "data_parallel": 1,
            "pipeline_parallel": 1,
            "simulated": False,
        },
        "settings": {"seed": 7, "ignore_eos": True},
        "errors": {},
    }
    return result | changed


def write_sweep(
    folder: Path, *, slow: float = 1.0, runs: int = 1, records: bool = False, simulated: bool = False
) -> Path:
    """A folder with a sweep of 3 ISLs × 3 concurrencies, one point an ERROR; records of one point when asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    for isl in (256, 1024, 4096):
        for conc in (2, 8, 32):
            for run in range(1, runs + 1):
                result = example_result(isl, conc=conc, run=run, slow=slow * (1 + 0.01 * (run - 1)))
                result["server"]["simulated"] = simulated
                if (isl, conc) == (4096, 32):
                    dead = (
                        ("verdict", "ERROR"),
                        ("completed", 0),
                        ("output_throughput", None),
                        ("input_throughput", None),
                    )
                    result |= dict(dead) | {
                        "messages": ["320 of 320 requests failed: http 500; look at the server's log"]
                    }
                    result |= {key: None for key in result if key.startswith(("mean_", "median_", "std_", "p9"))}
                name = f"demo_vllm_tp2_isl{isl}_osl24_conc{conc}" + (f"_run{run}" if run > 1 else "")
                if records and (isl, conc) == (256, 8):
                    (folder / "records").mkdir(exist_ok=True)
                    (folder / "records" / f"{name}.npz").write_bytes(example_records().save())
                    result["records"] = f"records/{name}.npz"
                    result["steady_state"] = {"start_s": 1.6, "end_s": 4.2, "duration": 2.6}
                (folder / f"{name}.json").write_text(json.dumps(result))
    return folder


#: name, GPUs, how much slower a request is, how fast it grows with the streams: small ones are cheap, wide ones quick
MATRIX = (("tp2", 2, 1.0, 0.3), ("tp4", 4, 0.6, 0.28), ("tp8", 8, 0.4, 0.25), ("tp8-mbt32768", 8, 0.45, 0.2))


def write_matrix(folder: Path, *, simulated: bool = True, cost: bool = True) -> Path:
    """A folder with four configurations of one server, 2 ISLs × 4 concurrencies each; the fifth did not start."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, gpus, base, growth in MATRIX:
        for isl in (1024, 4096):
            for conc in (4, 16, 64, 128):
                ttft = base * (0.1 + growth * isl * conc / 200_000)
                tpot = base * (0.008 + growth * 0.0005 * conc)
                result = example_result(isl, osl=128, conc=conc)
                duration = 10 * (ttft + tpot * 128)
                output = 128 * 10 * conc / duration
                for key, factor in (("median", 1.0), ("p99", 1.5)):
                    result |= {f"{key}_ttft": ttft * factor, f"{key}_tpot": tpot * (1 + (factor - 1) / 3)}
                result |= {
                    "ci95": {"p99_ttft": [ttft * 1.4, ttft * 1.6]}, "output_throughput": output,
                    "input_throughput": output * isl / 128, "verdict": "PASSED", "messages": [],
                    "config": {"name": name, "settings": {"tensor_parallel": gpus}},
                    "start": {"load_s": 20.0 + gpus, "compile_s": 12.0, "ready_s": 45.0 + gpus},
                    "slo_tiers": {"ttft": [0.5, 1.0, 2.0], "tpot": [0.008, 0.015, 0.03]},
                }  # fmt: skip
                result["slo"] = {"objectives": []}
                result["server"] |= {"gpus": gpus, "tensor_parallel": gpus, "simulated": simulated}
                if cost:
                    hourly = 1e6 / (output / gpus) / 3600 * 2.5
                    result |= {"cost_per_million_output": hourly, "cost": {"currency": "USD", "gpu_hour": 2.5}}
                (folder / f"demo_{name}_vllm_tp{gpus}_isl{isl}_osl128_conc{conc}.json").write_text(json.dumps(result))
    dead = example_result(1024, osl=128, conc=4, verdict="ERROR", completed=0, messages=["the server did not start"])
    dead |= {"slo": {"objectives": []}, "slo_tiers": {}}
    dead["config"] = {"name": "tp1", "settings": {"tensor_parallel": 1}}
    dead["server"] |= {"gpus": 1, "tensor_parallel": 1, "simulated": simulated}
    (folder / "demo_tp1_vllm_tp1_isl1024_osl128_conc4.json").write_text(json.dumps(dead))
    return folder
