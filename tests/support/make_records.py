"""Records made by hand for tests: sends and events in seconds, everything else as it is when all is well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench_tests.load.records import KINDS, OF_SESSIONS, Records


def records(
    send: Sequence[float],
    events: Sequence[Sequence[float]],
    kind: Sequence[str] | None = None,
    measured: Sequence[bool] | None = None,
    **columns: Any,
) -> Records:
    """One request for each of `send`; output tokens = events unless `output_tokens` says otherwise."""
    n = len(send)
    kinds = list(kind) if kind is not None else ["completed"] * n
    first = [e[0] if len(e) else np.nan for e in events]
    last = [e[-1] if len(e) else np.nan for e in events]
    tokens = [len(e) for e in events]
    base: dict[str, Any] = {
        "kind": np.array([KINDS.index(k) for k in kinds], np.int8),
        "measured": np.array([True] * n if measured is None else measured, np.bool_),
        "http_status": np.full(n, 200, np.int16),
        "scheduled_s": np.nan_to_num(np.array(send, float)),
        "send_s": np.array(send, float),
        "first_s": np.array(first, float),
        "last_s": np.array(last, float),
        "end_s": np.array(last, float),
        "answer_s": np.full(n, np.nan),
        "answer_blur_s": np.zeros(n),
        "reasoning_tokens": np.full(n, -1, np.int64),
        **{name: np.full(n, -1 if name == "session" else 0, np.int64) for name in OF_SESSIONS},
        "connect_s": np.zeros(n),
        "asked_input": np.full(n, 10, np.int64),
        "asked_output": np.array(tokens, np.int64),
        "input_tokens": np.full(n, 10, np.int64),
        "output_tokens": np.array(tokens, np.int64),
        "cached_tokens": np.full(n, -1, np.int64),
        "events": np.array(tokens, np.int64),
        "event_s": np.array([t for e in events for t in e], float),
        "moments": np.array([len(set(e)) for e in events], np.int64),
        "number": np.arange(n),
        "lag_s": np.full(n, 1e-4),
        "first_blur_s": np.zeros(n),
        "last_blur_s": np.zeros(n),
        "worker": np.zeros(n, np.int16),
        "error": np.array(["" if k == "completed" else f"was {k}" for k in kinds], np.str_),
    }
    types = {name: column.dtype for name, column in base.items()}
    base |= {name: np.array(value, types[name]) for name, value in columns.items() if name != "error"}
    if "error" in columns:
        base["error"] = np.array(columns["error"], np.str_)
    return Records(**base)
