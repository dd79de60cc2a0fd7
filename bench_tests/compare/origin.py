"""Where a run comes from, by what its result says: session, start of the server, node, and how its streams moved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bench_tests.compare.samples import Origin
from bench_tests.load.records import Records
from bench_tests.verdict.in_step import in_step

__all__ = ["origin_of"]


def origin_of(result: Mapping[str, Any], records: Records | None = None) -> Origin:
    """The origin of a run. Results of older versions lack the in-step figure and tokens per event: `records` give them."""
    server = result.get("server")
    said: Mapping[str, Any] = server if isinstance(server, Mapping) else {}
    waves, tokens = _number(result.get("in_step")), _number(result.get("tokens_per_event"))
    if records is not None:
        done = records.completed
        if waves is None and not records.open_loop and int(_number(result.get("max_concurrency")) or 1) > 1:
            waves = in_step(records)
        events = int(records.events[done].sum())
        if tokens is None and events:
            tokens = float(records.output_tokens[done].clip(0).sum()) / events
    return Origin(
        session=str(result.get("run_id") or ""),
        start=_start(said),
        day=_day(result.get("date")),
        node=_node(result, said),
        version=str(said.get("version") or result.get("engine_version") or ""),
        in_step=waves,
        tokens_per_event=tokens,
    )


def _node(result: Mapping[str, Any], server: Mapping[str, Any]) -> str:
    """Where the server ran: its job's nodes, its own word, or for a child of ours this host; "": not known."""
    client = result.get("client")
    here = client.get("hostname") if isinstance(client, Mapping) and server.get("kind") in ("local", "sim") else None
    return next((said for said in (server.get("nodes"), server.get("hostname"), here) if isinstance(said, str)), "")


def _start(server: Mapping[str, Any]) -> str:
    """What is one start of the server: by its id, the moment its process began, or its job; "": not known."""
    counted = server.get("counted")
    began = counted.get("started") if isinstance(counted, Mapping) else None
    for said in (began, server.get("start"), server.get("started"), server.get("job_id")):
        if isinstance(said, str | int | float) and not isinstance(said, bool) and said not in ("", 0):
            return str(said)
    return ""


def _number(value: object) -> float | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fits else None  # type: ignore[arg-type]


def _day(date: object) -> float | None:
    """Days since 1970 of a result's date, `20261125-230001`."""
    try:
        return datetime.strptime(str(date), "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp() / 86400
    except ValueError:
        return None
