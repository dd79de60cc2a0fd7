"""From one JSON object to a PointResult, for each of the formats in use.

Ours and the older client's: flat keys, seconds. `vllm bench serve --save-result`: the same names with `_ms`.
InferenceX aggregates: `tput_per_gpu`, `conc`, `isl`, `hw`, seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plotting.model import METRICS, Objective, PointResult

__all__ = ["NotAResult", "to_point"]

_STATISTICS = ("mean", "median", "std", "p90", "p95", "p99")
_RATES = ("input_throughput", "output_throughput", "total_token_throughput", "request_throughput", "request_goodput")
_IN_NAME = re.compile(r"_tp(\d{1,4})_isl(\d{1,8})_osl(\d{1,8})_conc\d+")
_RUN_IN_NAME = re.compile(r"_run(\d{1,6})$")
_LONG_LIST = 200  # raw per-request lists of other tools: not wanted, and large
_NAME_CHARS = 200


class NotAResult(ValueError):
    """The object is no result of a point; the text says what is missing or wrong."""


def _number(value: object) -> float | None:
    """A finite number, or None: bools, strings, NaN and infinities are no figures."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _count(value: object) -> int | None:
    number = _number(value)
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        number = float(value)
    return int(number) if number is not None and 0 <= number < 1e12 and number == int(number) else None


def _text(value: object) -> str:
    return value[:_NAME_CHARS] if isinstance(value, str) else ""


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def to_point(raw: Mapping[str, Any], source: Path) -> PointResult:
    """The point that `raw` describes. Raises NotAResult with the reason when it describes none."""
    aggregate = "tput_per_gpu" in raw and ("hw" in raw or "conc" in raw)
    server = _map(raw.get("server"))
    point = _map(raw.get("point"))
    named = _IN_NAME.search(source.stem)
    n = _count(raw.get("completed"))
    conc = _first(_count(point.get("conc")), _count(raw.get("max_concurrency")), _count(raw.get("conc")))
    if not conc:
        raise NotAResult("no max_concurrency (or point.conc) of at least 1")
    isl = _length(point.get("isl"), raw, "input", n, int(named[2]) if named else None)
    osl = _length(point.get("osl"), raw, "output", n, int(named[3]) if named else None)
    metrics = _latencies(raw, zero_is_none=not n) | _rates(raw)
    verdict = raw.get("verdict") if raw.get("verdict") in ("PASSED", "FAILED", "ERROR") else None
    # an ERROR has no figures and is still a point of the grid; anything else without figures is no result
    if verdict != "ERROR" and n != 0 and not aggregate and "output_throughput" not in metrics:
        raise NotAResult("no output_throughput")
    run_in_name = _RUN_IN_NAME.search(source.stem)
    steady = _map(raw.get("steady_state"))
    start, end = _number(steady.get("start_s")), _number(steady.get("end_s"))
    return PointResult(
        isl=isl,
        osl=osl,
        conc=conc,
        run=_first(_count(raw.get("run")), int(run_in_name[1]) if run_in_name else None) or 1,
        gpus=_gpus(raw, server, int(named[1]) if named else None),
        model=_text(raw.get("model_id")) or _text(raw.get("model")) or _text(server.get("model")) or "unknown model",
        engine=_text(raw.get("engine"))
        or _text(server.get("engine"))
        or _text(raw.get("framework"))
        or _old_engine(raw),
        engine_version=_text(raw.get("engine_version")) or _text(server.get("version")),
        date=_text(raw.get("date")),
        simulated=server.get("simulated") is True or raw.get("simulated") is True,
        verdict=verdict,
        n=n,
        source=source,
        profile=_text(raw.get("profile")),
        run_id=_text(raw.get("run_id")),
        metrics=metrics,
        intervals=_intervals(raw),
        slo=_objectives(raw),
        tiers=_tiers(raw),
        messages=tuple(m[:2000] for m in _list(raw.get("messages"))[:50] if isinstance(m, str)),
        steady=(start, end) if start is not None and end is not None and start < end else None,
        per_gpu=_per_gpu(raw) if aggregate else {},
        raw={k: v for k, v in raw.items() if not (isinstance(v, list) and len(v) > _LONG_LIST)},
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _length(stated: object, raw: Mapping[str, Any], side: str, n: int | None, named: int | None) -> int:
    """ISL or OSL of the point, tokens. Formula without a stated one: total tokens / completed requests.

    A range ratio makes that mean wander around the grid's value: the file name's one stands when it agrees to 10 %.
    """
    short = "isl" if side == "input" else "osl"
    exact = _first(_count(stated), _count(raw.get(short)), _count(raw.get(f"random_{side}_len")))
    if exact:
        return exact
    total = _first(_count(raw.get(f"total_{side}_tokens")), _count(raw.get(f"total_{side}")))
    requests = n or _count(raw.get("num_prompts"))
    if total and requests:
        mean = total / requests
        return named if named and abs(mean / named - 1) <= 0.1 else max(1, round(mean))
    if named and n == 0:
        return named
    raise NotAResult(f"no {short.upper()}: neither point.{short} nor total_{side}_tokens with completed requests")


def _latencies(raw: Mapping[str, Any], *, zero_is_none: bool) -> dict[str, float]:
    """Statistics of the latencies in seconds; older clients wrote 0 where every request failed, which is no figure."""
    got: dict[str, float] = {}
    for metric in METRICS:
        for statistic in _STATISTICS:
            name = f"{statistic}_{metric}"
            value = _number(raw.get(name))
            if value is None and (ms := _number(raw.get(f"{name}_ms"))) is not None:
                value = ms / 1000
            if value is None:
                value = _number(raw.get(f"{metric}_{'p50' if statistic == 'median' else statistic}"))
            if value is not None and value >= 0 and not (value == 0 and zero_is_none):
                got[name] = value
    return got


def _rates(raw: Mapping[str, Any]) -> dict[str, float]:
    got = {name: value for name in _RATES if (value := _number(raw.get(name))) is not None and value >= 0}
    if "input_throughput" not in got and {"total_token_throughput", "output_throughput"} <= got.keys():
        got["input_throughput"] = max(0.0, got["total_token_throughput"] - got["output_throughput"])
    return got


def _per_gpu(raw: Mapping[str, Any]) -> dict[str, float]:
    total, out = _number(raw.get("tput_per_gpu")), _number(raw.get("output_tput_per_gpu"))
    into = _number(raw.get("input_tput_per_gpu"))
    if into is None and total is not None and out is not None:
        into = max(0.0, total - out)
    return {side: value for side, value in (("input", into), ("output", out)) if value is not None}


def _gpus(raw: Mapping[str, Any], server: Mapping[str, Any], named_tp: int | None) -> int | None:
    """GPUs of the server. Formula without a stated number: tensor × data × pipeline parallel."""
    if stated := _count(server.get("gpus")):
        return stated
    split = [_count(raw.get(key)) for key in ("num_prefill_gpu", "num_decode_gpu")]
    if any(split):
        return sum(part or 0 for part in split)
    if server.get("gpus") == 0:  # a CPU server: there is no GPU to divide by
        return None
    tensor = _first(_count(server.get("tensor_parallel")), _count(raw.get("tp")), named_tp if not server else None)
    if not tensor:
        return None
    return tensor * (_count(server.get("data_parallel")) or 1) * (_count(server.get("pipeline_parallel")) or 1)


def _old_engine(raw: Mapping[str, Any]) -> str:
    return _text(raw.get("backend")) or "vllm"


def _intervals(raw: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    got = {}
    for name, pair in _map(raw.get("ci95")).items():
        if not isinstance(pair, list) or len(pair) != 2 or pair == [None, None]:
            continue
        # too few requests leave an end open: [0.18, null] says "0.18 or more"
        low = 0.0 if pair[0] is None else _number(pair[0])
        high = math.inf if pair[1] is None else _number(pair[1])
        if low is not None and high is not None and 0 <= low <= high:
            got[str(name)[:40]] = (low, high)
    return got


def _objectives(raw: Mapping[str, Any]) -> tuple[Objective, ...]:
    found = []
    for item in _list(_map(raw.get("slo")).get("objectives"))[:20]:
        metric, limit = _map(item).get("metric"), _number(_map(item).get("limit"))
        if isinstance(metric, str) and limit is not None and limit > 0:
            found.append(Objective(metric[:40], limit))
    return tuple(found)


def _tiers(raw: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    got = {}
    for metric in ("ttft", "tpot"):
        values = [_number(v) for v in _list(_map(raw.get("slo_tiers")).get(metric))[:12]]
        kept = tuple(sorted({v for v in values if v is not None and v > 0}))
        if kept:
            got[metric] = kept
    return got
