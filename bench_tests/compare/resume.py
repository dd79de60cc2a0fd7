"""What an earlier session has left: which of its results still answer the question, and which prompts were drawn.

A result that is there and is not asked again is reused; the session that reuses it names its session in `resumes`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench_tests.compare.comparable import differences
from bench_tests.results.read import read_folder, read_one
from bench_tests.sweep.settings import FILLING

__all__ = ["answer_of", "earlier_result", "prompts_drawn"]


def earlier_result(path: Path) -> dict[str, Any] | None:
    """Whatever is there; None for no file, half a file, or another's."""
    found = read_one(path)
    return dict(found.raw) if found is not None else None


def answer_of(path: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result at `path` if it was measured and answers what is `asked` (its `server`, `settings` and `slo`).

    A server that was there before us is the same at the same URL; one that is started for a sweep has another each
    time. In a requeued job ($BENCH_RESUME_JOB) only what this very job has measured counts: the rest is of another day.
    """
    result = earlier_result(path)
    if result is None or result.get("verdict") in (None, "ERROR"):
        return None
    if differences(result, asked) or result.get("slo") != asked["slo"]:
        return None
    if not _launched_alike(result.get("server"), asked["server"]):
        return None
    if _lasting_url(result.get("server")) != _lasting_url(asked["server"]):
        return None
    job, client = os.environ.get("BENCH_RESUME_JOB"), result.get("client")
    if job and not (isinstance(client, Mapping) and client.get("job_id") == job):
        return None
    return result


def prompts_drawn(folder: Path, seed: int) -> int:
    """How many prompts of this seed the results of a folder have had: the first serial number that is new."""
    serial = 0
    for result in (point.raw for point in read_folder(folder, below=False).points) if folder.is_dir() else ():
        if result.get("seed") != seed:
            continue
        settings = result.get("settings")
        said = settings if isinstance(settings, Mapping) else {}
        numbers = [result.get("first_serial"), said.get("num_prompts"), said.get("num_warmups")]
        if said.get("start") == "staggered" and isinstance(
            said.get("concurrency"), int
        ):  # a rate has no streams to fill
            numbers.append(FILLING * said["concurrency"])
        known = [n for n in numbers if isinstance(n, int) and 0 <= n < 2**53]
        if len(known) == len(numbers):
            serial = max(serial, sum(known))
    return serial


def _launched_alike(one: Any, other: Any) -> bool:
    """Whether two starts of ours were of the same command and settings; true where one says nothing of it."""
    said = [server.get("launch") for server in (one, other) if isinstance(server, Mapping)]
    return None in said or len(set(said)) < 2


def _lasting_url(server: Any) -> str | None:
    if not isinstance(server, Mapping) or server.get("kind") != "attach" or server.get("job_id"):
        return None
    return str(server.get("base_url"))
