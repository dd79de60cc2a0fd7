"""From one JSON object to a PointResult, for each of the formats in use.

Ours and the older client's: flat keys, seconds. `vllm bench serve --save-result`: the same names with `_ms`. SGLang's:
likewise, with `e2e_latency`. InferenceX aggregates: `tput_per_gpu`, `conc`, `isl`, `hw`, seconds. Others: results/others.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.figures import ECONOMY, FIGURES, LATENCIES, figures_where
from bench_tests.results.names import gpus_of, parallel_in
from bench_tests.results.others import NotAResult, translated
from bench_tests.results.schema import SCHEMA_VERSION, Objective, PointResult
from bench_tests.results.values import count_of, first_of, list_of, map_of, number_of, text_of
from bench_tests.sweep.point import Point

__all__ = ["NotAResult", "to_point"]

_OF_RUN = ("p99_ttft_from_schedule", "p99_e2el_from_schedule")  # what an open loop is judged by
_RATES = (*(row.name for row in FIGURES.values() if row.unit in ("tok/s", "req/s")), *ECONOMY, *_OF_RUN)
_LENGTHS_IN_NAME = re.compile(r"_isl(\d{1,8})_osl(\d{1,8})(?:_|$)")
_RUN_IN_NAME = re.compile(r"_run(\d{1,6})$")
_SERVE_IN_FOLDER = re.compile(r"^SERVE-+(.*?)-+BENCH(?:-|$)")  # `vllm bench sweep serve` names its folders so
_LONG_LIST = 200  # raw per-request lists of other tools: not wanted, and large
_AGREE = 0.1  # a stated length and the mean of what was sent agree to this share
#: names of the sizes in result files, ours and others', and their short names
_SIZES = {
    "tensor_parallel": "tp", "tensor_parallel_size": "tp", "tp": "tp", "tp_size": "tp",
    "pipeline_parallel": "pp", "pipeline_parallel_size": "pp", "pp": "pp", "pp_size": "pp",
    "data_parallel": "dp", "data_parallel_size": "dp", "dp": "dp", "dp_size": "dp",
    "expert_parallel": "ep", "expert_parallel_size": "ep", "ep": "ep", "ep_size": "ep",
    "pcp_size": "pcp", "dcp_size": "dcp",
}  # fmt: skip


def to_point(raw: Mapping[str, Any], source: Path) -> PointResult:
    """The point that `raw` describes. Raises NotAResult with the reason when it describes none."""
    version = number_of(raw.get("schema_version")) or 0
    if version > SCHEMA_VERSION:
        raise NotAResult(f"schema_version {version:g} is newer than this suite's {SCHEMA_VERSION}; update it")
    if count_of(raw.get("run_number")) is None and number_of(raw.get("run_number")) is not None:
        raise NotAResult("warm-up run: run_number is below 0")
    raw = translated(raw)
    aggregate = "tput_per_gpu" in raw and ("hw" in raw or "conc" in raw)
    server, config = map_of(raw.get("server")), map_of(raw.get("config"))
    point = map_of(raw.get("point"))
    named = _LENGTHS_IN_NAME.search(source.stem)
    n = count_of(raw.get("completed"))
    conc = first_of(count_of(point.get("conc")), count_of(raw.get("max_concurrency")), count_of(raw.get("conc")))
    rate = _rate(point if point.get("rate") else raw)
    workload = _workload(point.get("workload"))
    if workload and not conc and not point.get("rate"):
        rate = math.inf  # a trace's and a ramp's mean rate is no part of what was asked
    if not conc and not math.isfinite(rate) and not workload:
        raise NotAResult("no max_concurrency (or point.conc) of at least 1, and no request rate")
    own_lengths = bool(workload) and not point.get("isl")  # a trace or a dataset has lengths of its own
    isl = 0 if own_lengths else _length(point.get("isl"), raw, "input", n, int(named[1]) if named else None)
    osl = 0 if own_lengths else _length(point.get("osl"), raw, "output", n, int(named[2]) if named else None)
    metrics = _latencies(raw, zero_is_none=not n) | _rates(raw)
    verdict = raw.get("verdict") if raw.get("verdict") in ("PASSED", "FAILED", "ERROR") else None
    # an ERROR has no figures and is still a point of the grid; anything else without figures is no result
    if verdict != "ERROR" and n != 0 and not aggregate and "output_throughput" not in metrics:
        raise NotAResult("no output_throughput")
    run_in_name = _RUN_IN_NAME.search(source.stem)
    parallel = _parallel(raw, server) or ({} if server else parallel_in(source.stem))
    folder = _SERVE_IN_FOLDER.match(source.parent.name)
    steady = map_of(raw.get("steady_state"))
    start, end = number_of(steady.get("start_s")), number_of(steady.get("end_s"))
    return PointResult(
        isl=isl,
        osl=osl,
        conc=conc or 0,
        run=_run(raw, int(run_in_name[1]) if run_in_name else 1),
        gpus=_gpus(raw, server, parallel),
        model=text_of(raw.get("model_id"))
        or text_of(raw.get("model"))
        or text_of(server.get("model"))
        or "unknown model",
        engine=text_of(raw.get("engine"))
        or text_of(server.get("engine"))
        or text_of(raw.get("framework"))
        or _old_engine(raw),
        engine_version=text_of(raw.get("engine_version")) or text_of(server.get("version")),
        date=text_of(raw.get("date")),
        simulated=server.get("simulated") is True or raw.get("simulated") is True,
        verdict=verdict,
        n=n,
        source=source,
        profile=text_of(raw.get("profile")),
        run_id=text_of(raw.get("run_id")),
        resumes=tuple(text_of(name) for name in list_of(raw.get("resumes"))[:100]),
        request_rate=rate,
        workload=workload,
        parallel=parallel,
        config=text_of(config.get("name")) or text_of(raw.get("config")) or (folder[1].strip("-") if folder else ""),
        config_settings=dict(map_of(config.get("settings"))),
        start_s=_start_s(raw),
        metrics=metrics,
        intervals=_intervals(raw),
        slo=_objectives(raw),
        tiers=_tiers(raw),
        messages=tuple(m[:2000] for m in list_of(raw.get("messages"))[:50] if isinstance(m, str)),
        steady=(start, end) if start is not None and end is not None and start < end else None,
        per_gpu=_per_gpu(raw) if aggregate else {},
        raw={k: v for k, v in raw.items() if not (isinstance(v, list) and len(v) > _LONG_LIST)},
    )


def _run(raw: Mapping[str, Any], named: int) -> int:
    """Which repetition, from 1; `run_number` of others counts from 0."""
    if (run := count_of(raw.get("run"))) is not None:
        return run or 1
    number = count_of(raw.get("run_number"))
    return named if number is None else number + 1


def _rate(raw: Mapping[str, Any]) -> float:
    """Requests started per second; infinite in a closed loop, and where nothing is said."""
    rate = raw.get("rate") or raw.get("request_rate")
    if isinstance(rate, str):
        try:
            rate = float(rate)
        except ValueError:
            return math.inf
    number = number_of(rate)
    return number if number is not None and number > 0 else math.inf


def _workload(value: object) -> str:
    """The workload's name where it can be one; whatever else a file says is none."""
    try:
        return Point(1, 1, 1, workload=value).workload if isinstance(value, str) else ""
    except UsageError:
        return ""


def _length(stated: object, raw: Mapping[str, Any], side: str, n: int | None, named: int | None) -> int:
    """ISL or OSL of the point, tokens. Formula without a stated one: total tokens / completed requests.

    A range ratio makes that mean wander around the grid's value: the one of the file's name or of `random_input_len` stands
    when it agrees to 10 %. It does not where a tool draws lengths from 1 up to it (SGLang): the totals are the truth.
    """
    short = "isl" if side == "input" else "osl"
    exact = first_of(count_of(stated), count_of(raw.get(short)))
    if exact:
        return exact
    asked = count_of(raw.get(f"random_{side}_len"))
    total = first_of(count_of(raw.get(f"total_{side}_tokens")), count_of(raw.get(f"total_{side}")))
    requests = n or count_of(raw.get("num_prompts"))
    if total and requests:
        mean = total / requests
        agrees = (value for value in (named, asked) if value and abs(mean / value - 1) <= _AGREE)
        return next(agrees, max(1, round(mean)))
    if asked:
        return asked
    if named and n == 0:
        return named
    raise NotAResult(f"no {short.upper()}: neither point.{short} nor total_{side}_tokens with completed requests")


def _latencies(raw: Mapping[str, Any], *, zero_is_none: bool) -> dict[str, float]:
    """Statistics of the latencies in seconds; older clients wrote 0 where every request failed, which is no figure."""
    got: dict[str, float] = {}
    for row in figures_where(of="request"):
        value = next((v for key, scale in _keys(row.name, row.latency, row.statistic)
                      if (v := number_of(raw.get(key))) is not None and (v := v * scale) >= 0), None)  # fmt: skip
        if value is not None and not (value == 0 and zero_is_none):
            got[row.name] = value
    return got


def _keys(name: str, latency: str, statistic: str) -> list[tuple[str, float]]:
    """The names that a statistic of a latency has in files, each with the seconds of its unit."""
    keys = [(name, 1.0), (f"{name}_ms", 1e-3), (f"{latency}_{'p50' if statistic == 'median' else statistic}", 1.0)]
    if latency == "e2el":
        keys.append((f"{statistic}_e2e_latency_ms", 1e-3))
    if statistic == "median":
        keys.append((f"p50_{latency}_ms", 1e-3))
    return keys


def _rates(raw: Mapping[str, Any]) -> dict[str, float]:
    got = {name: value for name in _RATES if (value := number_of(raw.get(name))) is not None and value >= 0}
    if "input_throughput" not in got and {"total_token_throughput", "output_throughput"} <= got.keys():
        got["input_throughput"] = max(0.0, got["total_token_throughput"] - got["output_throughput"])
    return got


def _start_s(raw: Mapping[str, Any]) -> dict[str, float]:
    """How long the server took to start, seconds: what of it was measured."""
    said = map_of(raw.get("start"))
    found = {name: number_of(said.get(f"{name}_s")) for name in ("load", "compile", "ready")}
    return {name: value for name, value in found.items() if value is not None and value >= 0}


def _per_gpu(raw: Mapping[str, Any]) -> dict[str, float]:
    total, out = number_of(raw.get("tput_per_gpu")), number_of(raw.get("output_tput_per_gpu"))
    into = number_of(raw.get("input_tput_per_gpu"))
    if into is None and total is not None and out is not None:
        into = max(0.0, total - out)
    return {side: value for side, value in (("input", into), ("output", out)) if value is not None}


def _parallel(raw: Mapping[str, Any], server: Mapping[str, Any]) -> dict[str, int]:
    """The parallel sizes that a file states, by their short names: `{"tp": 8, "dp": 1, "pp": 1}`."""
    found: dict[str, int] = {}
    for table in (server, raw):
        for key, value in table.items():
            short = _SIZES.get(str(key).replace("-", "_"))
            if short and short not in found and (size := count_of(value)):
                found[short] = size
    return found


def _gpus(raw: Mapping[str, Any], server: Mapping[str, Any], parallel: Mapping[str, int]) -> int | None:
    """GPUs of the server: the stated number, else what the parallel sizes take; None where nothing says it."""
    if stated := count_of(server.get("gpus")):
        return stated
    split = [count_of(raw.get(key)) for key in ("num_prefill_gpu", "num_decode_gpu")]
    if any(split):
        return sum(part or 0 for part in split)
    if "gpus" in server:  # 0: a CPU server; null: nobody has named them
        return None
    if raw.get("dp_attention") in (True, "true", "True") and "tp" in parallel:  # its replicas share the GPUs of TP
        return gpus_of({kind: size for kind, size in parallel.items() if kind != "dp"})
    return gpus_of(parallel)


def _old_engine(raw: Mapping[str, Any]) -> str:
    return text_of(raw.get("backend")) or "vllm"


def _intervals(raw: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    got = {}
    for name, pair in map_of(raw.get("ci95")).items():
        if not isinstance(pair, list) or len(pair) != 2 or pair == [None, None]:
            continue
        # too few requests leave an end open: [0.18, null] says "0.18 or more"
        low = 0.0 if pair[0] is None else number_of(pair[0])
        high = math.inf if pair[1] is None else number_of(pair[1])
        if low is not None and high is not None and 0 <= low <= high:
            got[str(name)[:40]] = (low, high)
    return got


def _objectives(raw: Mapping[str, Any]) -> tuple[Objective, ...]:
    found = []
    for item in list_of(map_of(raw.get("slo")).get("objectives"))[:20]:
        metric, limit = map_of(item).get("metric"), number_of(map_of(item).get("limit"))
        if isinstance(metric, str) and limit is not None and limit > 0:
            try:
                found.append(Objective(metric[:40], limit))
            except UsageError:
                continue  # a metric of another tool or a later version
    return tuple(found)


def _tiers(raw: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    got = {}
    for metric in LATENCIES:
        values = [number_of(v) for v in list_of(map_of(raw.get("slo_tiers")).get(metric))[:12]]
        kept = tuple(sorted({v for v in values if v is not None and v > 0}))
        if kept:
            got[metric] = kept
    return got
