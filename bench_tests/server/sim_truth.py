"""What really happened: one JSON line a request, written the moment it ended."""

from __future__ import annotations

import json
import os
import resource
from itertools import pairwise
from typing import Any

from bench_tests.server.sim_clock import now_ns
from bench_tests.server.sim_spec import SimSpec
from bench_tests.server.sim_stream import Reply

__all__ = ["TruthLog"]


class TruthLog:
    """Appends to the file of the settings, if any. All processes append whole lines to the same file.

    Keys: id (with the client's x-request-id), outcome ("ok", else what went wrong), chat, stream, conn_req (1 for a
    connection's first), prompt_tokens, cached_tokens, n_tokens, n_events; in ns of CLOCK_MONOTONIC t_first_byte (the
    kernel's receive stamp of the request, without TLS), t_first_token, t_last_token, t_end; max_lag_us (a token's
    write behind its due time), blocked (writes that the kernel did not take at once); with log_tokens itl_ns.
    """

    def __init__(self, spec: SimSpec) -> None:
        self._tokens = spec.log_tokens
        self._fd = -1
        if spec.truth_log is not None:
            self._fd = os.open(spec.truth_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._stats = dict.fromkeys(("requests", "ok", "failed", "events", "tokens"), 0)
        self._max_lag = 0

    def log(self, reply: Reply) -> None:
        """The request has ended."""
        sequences = reply.sequences
        stamps = sorted(t for s in sequences for t in s.stamps) if len(sequences) > 1 else []
        if len(sequences) == 1:
            stamps = sequences[0].stamps
        lag = max((s.max_lag for s in sequences), default=0)
        tokens = reply.tokens()
        self._max_lag = max(self._max_lag, lag)
        self._stats["requests"] += 1
        self._stats["ok" if reply.outcome == "ok" else "failed"] += 1
        self._stats["events"] += len(stamps)
        self._stats["tokens"] += tokens
        if self._fd < 0:
            return
        row: dict[str, Any] = {"id": reply.voice.id, "outcome": reply.outcome, "chat": int(reply.voice.chat)}
        row |= {"stream": int(reply.stream), "conn_req": reply.connection_request}
        row |= {"prompt_tokens": reply.voice.prompt_tokens, "cached_tokens": reply.cached(), "n_tokens": tokens}
        row |= {"n_events": len(stamps), "t_first_byte": reply.t_first_byte}
        row |= {"t_first_token": stamps[0] if stamps else 0, "t_last_token": stamps[-1] if stamps else 0}
        row |= {"t_end": now_ns(), "max_lag_us": lag / 1e3, "blocked": getattr(reply.transport, "blocked", 0)}
        if self._tokens:
            row["itl_ns"] = [b - a for a, b in pairwise(stamps)]
        os.write(self._fd, json.dumps(row, separators=(",", ":")).encode() + b"\n")

    def stats(self) -> dict[str, Any]:
        """Counts of this process, its CPU seconds, and its worst lag since the last call; the log is complete."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        lag, self._max_lag = self._max_lag, 0
        return {"t": now_ns(), **self._stats, "max_lag_us": lag / 1e3, "cpu_s": usage.ru_utime + usage.ru_stime}
