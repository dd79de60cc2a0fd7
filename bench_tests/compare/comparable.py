"""Whether two results are comparable: one key, for baseline, resume, pictures and report.

A setting that an older file lacks is its default, so that an upgrade of the suite leaves every kept result comparable. What
a foreign file doesn't say, and what nobody knows of a server, differs from nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from bench_tests.results.names import parallel_words
from bench_tests.results.schema import PointResult
from bench_tests.sweep.settings import Load
from bench_tests.sweep.workload import Workload

__all__ = ["differences", "group_key", "load_differences", "load_words", "question", "server_differences"]

#: sizes of a sample: two runs compare when they are equal, and lie in one picture also when they are not
SIZES = ("num_prompts", "num_warmups")
_DEFAULTS: Mapping[str, Any] = {
    spec.name: spec.default if spec.default is not dataclasses.MISSING else {}
    for spec in (*dataclasses.fields(Load), *dataclasses.fields(Workload))
    if spec.metadata.get("shapes", True)
}
#: keys of [load] that say how a load is made and carried, not what it is
_NO_LOAD = {spec.name for spec in dataclasses.fields(Load)} - set(_DEFAULTS) - set(SIZES)
_SERVER = ("model", "engine", "version", "gpus", "simulated")
_SHORT = {"tensor_parallel": "tp", "data_parallel": "dp", "pipeline_parallel": "pp", "expert_parallel": "ep"}
_POINT = ("isl", "osl", "concurrency")


def question(result: PointResult | Mapping[str, Any]) -> dict[str, Any]:
    """What a result is an answer to, by `server gpus`, `settings isl` ...; what isn't said or known isn't there.

    A mapping is one of our results, or the `server` and `settings` of one that is yet to be measured.
    """
    raw = result.raw if isinstance(result, PointResult) else result
    server = raw.get("server")
    said = server if isinstance(server, Mapping) else {"model": raw.get("model_id")}
    found = {key: said.get(key) for key in _SERVER}
    if isinstance(server, Mapping):
        found["simulated"] = bool(found["simulated"])
        found["parallel"] = _parallel(said)
    if isinstance(result, PointResult):
        found["gpus"] = result.gpus
        found["parallel"] = parallel_words(result.parallel) if result.gpus else None
    config = raw.get("config")
    found["config"] = config.get("name") if isinstance(config, Mapping) else config
    return {f"server {key}": value for key, value in found.items() if value not in (None, "")} | _load(raw)


def _parallel(server: Mapping[str, Any]) -> str | None:
    sizes = {short: server.get(key) or 1 for key, short in _SHORT.items()}
    return parallel_words(sizes) if server.get("tensor_parallel") and server.get("gpus") is not None else None


def _load(raw: Mapping[str, Any]) -> dict[str, Any]:
    settings = raw.get("settings")
    if isinstance(settings, Mapping):
        said = {key: value for key, value in {**_DEFAULTS, **settings}.items() if key not in _NO_LOAD}
        # a closed loop has no gaps that it draws, an open one has no streams that begin
        idle = "burstiness" if math.isinf(_plain("request_rate", said["request_rate"])) else "start"
        said[idle] = _DEFAULTS[idle]
    else:  # what the older client and vLLM's say of a load
        said = {key: raw[key] for key in ("num_prompts", "request_rate", "burstiness") if key in raw}
    return {f"settings {key}": _plain(key, value) for key, value in said.items()}


def _plain(key: str, value: Any) -> Any:
    """One spelling of a value: infinity as a number, an endpoint by its last word, tuples as lists."""
    if key == "request_rate":
        try:
            return math.inf if value is None else float(value)
        except (TypeError, ValueError):
            return math.inf
    if key == "endpoint" and isinstance(value, str):
        return value.removeprefix("/v1/").partition("/")[0]
    return list(value) if isinstance(value, tuple) else value


def differences(one: PointResult | Mapping[str, Any], other: PointResult | Mapping[str, Any]) -> list[str]:
    """In what two results differ that makes them answers to other questions, in words; empty when they compare."""
    a, b = question(one), question(other)
    found = []
    for name in dict.fromkeys((*a, *b)):
        stated = name in a and name in b
        # a setting that this version has no default for, of two that say all their settings
        unknown = (
            not stated and name.startswith("settings ") and "settings ignore_eos" in a and "settings ignore_eos" in b
        )
        sample = name.removeprefix("settings ") in (*_POINT, *SIZES)
        if (stated or (unknown and not sample)) and a.get(name) != b.get(name):
            found.append(f"{name}: {a.get(name)!r} and {b.get(name)!r}")
    return found


def load_differences(one: PointResult, other: PointResult) -> list[str]:
    """As differences, of the load alone: what must be equal where two servers are compared on purpose."""
    return [words for words in differences(one, other) if words.startswith("settings ") and not _of_point(words)]


def _of_point(words: str) -> bool:
    return words.removeprefix("settings ").partition(":")[0] in (*_POINT, *SIZES)


def server_differences(one: PointResult, other: PointResult) -> list[str]:
    """As differences, of the server alone."""
    return [words for words in differences(one, other) if words.startswith("server ")]


def group_key(result: PointResult, *, version: bool = True) -> tuple[object, ...]:
    """What all results of one picture share: the server, and the load but for point, rate and sample size.

    Hashable; what isn't said is its default, so that a folder of one tool's files is one picture.
    """
    server = (
        result.model,
        result.engine,
        result.engine_version if version else "",
        result.gpus or 0,
        parallel_words(result.parallel),
        result.config,
        result.simulated,
    )
    return (*server, load_words(result))


def load_words(result: PointResult) -> str:
    """What sets a load apart from a closed loop of the suite's defaults: `4 req/s, burstiness 0.5`; mostly empty.

    Without a cap on the requests in flight the rate is the point's own: `open loop`.
    """
    words = [result.workload] if result.workload not in ("", "ramp") else []  # a ramp's own key says it
    if math.isfinite(result.request_rate):
        words.append(f"{result.request_rate:g} req/s" if result.conc else "open loop")
    for name, value in question(result).items():
        table, _, key = name.partition(" ")
        if table != "settings" or key in (*_POINT, *SIZES, "request_rate"):
            continue
        if value != _plain(key, _DEFAULTS.get(key)) and not (key == "burstiness" and not words):
            words.append(f"{key.replace('_', ' ')} {_said(value)}")
    return ", ".join(words)


def _said(value: Any) -> str:
    """A value in a few words; a trace or dataset by the digest of what was replayed of it."""
    if not isinstance(value, Mapping):
        return str(value)
    if digest := value.get("replayed") or value.get("digest"):
        return f"{value.get('format', '')} {str(digest)[:8]}".strip()
    return " ".join(f"{key}={one}" for key, one in sorted(value.items(), key=str))
