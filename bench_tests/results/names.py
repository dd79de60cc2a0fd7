"""The names of result files: how one is made, and what one says."""

from __future__ import annotations

import dataclasses
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench_tests.sweep.point import Point, number
from bench_tests.sweep.profile import Profile

__all__ = ["gpus_of", "load_name", "parallel_in", "parallel_words", "result_name"]

_PARALLEL = re.compile(r"(?:^|[_-])(tp|pp|dp|ep|tep|dep|pcp|dcp)(\d{1,4})(?=[_-]|$)", re.IGNORECASE)
#: short words for keys of [load] in a result's name; any other key stands by its own name
_WORDS = {
    "burstiness": "burst",
    "range_ratio": "range",
    "prefix_len": "prefix",
    "prompt_format": "",
    "ramp": "",
    "endpoint": "",
}


def result_name(profile: Profile, engine: str, point: Point, run: int = 1) -> str:
    """`kimi_k2_vllm_tp8_isl4096_osl128_conc16`: without the ending.

    Other parallel sizes follow tp (`tp4_pp2`), then the name of a configuration; another load than a closed loop of the profile's own settings follows the
    concurrency (`conc64_rate8`), so that no question takes another's file; `_run2` for a repetition.
    """
    server = profile.server
    sizes = f"tp{server.tensor_parallel}"
    sizes += f"_pp{server.pipeline_parallel}" if server.pipeline_parallel > 1 else ""
    sizes += f"_dp{server.data_parallel}" if server.data_parallel > 1 else ""
    sizes += f"_{profile.config.name}" if profile.config else ""
    again = f"_run{run}" if run > 1 else ""
    place = str(replace(point, config="")).replace("-", "_")
    return f"{profile.name}_{engine}_{sizes}_{place}{load_name(profile, point)}{again}"


def load_name(profile: Profile, point: Point) -> str:
    """`_rate8`, what else the command line changed of the profile's load: `_range0.2`, and what is said of its workload:
    `_speed2`; empty when nothing.
    """
    load, own = profile.load, profile.load_of_file or profile.load
    words = "" if point.rate or math.isinf(load.request_rate) else f"_rate{number(load.request_rate)}"
    for spec in dataclasses.fields(load):
        value = getattr(load, spec.name)
        if spec.name != "request_rate" and spec.metadata.get("shapes", True) and value != getattr(own, spec.name):
            words += f"_{_value_word(spec.name, value)}"
    return words + "".join(f"_{_value_word(key, value)}" for key, value in profile.workload.shape().items())


def _value_word(key: str, value: Any) -> str:
    word = _WORDS.get(key, key.replace("_", "-"))
    if isinstance(value, bool):
        return word if value else f"no-{word}"
    if isinstance(value, int | float):
        return f"{word}{value:g}"
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", str(value)).strip("-")
    return word + (plain if len(plain) <= 20 else f"{zlib.crc32(str(value).encode()):08x}")


def parallel_in(name: str) -> dict[str, int]:
    """The parallel sizes that a file's name says: `{"tp": 4, "pp": 2}` for `m_vllm_tp4_pp2_isl1024_...`."""
    return {kind.lower(): int(size) for kind, size in _PARALLEL.findall(name) if int(size) > 0}


def parallel_words(sizes: Mapping[str, Any]) -> str:
    """`tp4 pp2`; sizes of 1 go without saying, beside others."""
    more = {kind: size for kind, size in sizes.items() if size != 1}
    return " ".join(f"{kind}{size}" for kind, size in (more or dict(list(sizes.items())[:1])).items())


def gpus_of(sizes: Mapping[str, int]) -> int | None:
    """The GPUs that parallel sizes take; None without any.

    Formula: TP × PP × DP × PCP. Expert parallelism lies on the same GPUs (EP alone: as many as it says), and `tep8` and
    `dep8` name the GPUs that tensor or data parallel attention and the experts share. DCP lies within TP.
    """
    if not sizes:
        return None
    wide = max(sizes.get("tp", 1) * sizes.get("dp", 1), *(sizes.get(kind, 1) for kind in ("ep", "tep", "dep")))
    return wide * sizes.get("pp", 1) * sizes.get("pcp", 1)
