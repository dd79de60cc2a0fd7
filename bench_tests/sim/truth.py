"""What really happened: one JSON line a request, written the moment it ended."""

from __future__ import annotations

import os
import resource
from itertools import pairwise
from typing import Any

from bench_tests.sim.clock import now_ns
from bench_tests.sim.events import dump
from bench_tests.sim.metrics import Metrics
from bench_tests.sim.spec import SimSpec
from bench_tests.sim.stream import Reply

__all__ = ["TruthLog"]


class TruthLog:
    """Appends to the file of the settings, if any. All processes append whole lines to the same file.

    Keys: id (with the client's x-request-id), outcome ("ok", else what went wrong), chat, stream, conn_req (1 for a
    connection's first), prompt_tokens, cached_tokens, n_tokens, n_events (those that carry
    a text; a chat's role is none), of a chat reasoning_tokens; in ns of CLOCK_MONOTONIC t_first_byte (the
    kernel's receive stamp of the request, without TLS), t_first_token, t_last_token, t_end, of a chat t_first_answer (content or a tool call; 0: none); max_lag_us (a token's
    write behind its due time), blocked (writes that the kernel did not take at once); with log_tokens itl_ns.
    """

    def __init__(self, spec: SimSpec, metrics: Metrics) -> None:
        self._tokens = spec.log_tokens
        self._fd = -1
        if spec.truth_log is not None:
            self._fd = os.open(spec.truth_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._metrics = metrics

    def log(self, reply: Reply) -> None:
        """The request has ended."""
        sequences = reply.sequences
        stamps = sorted(t for s in sequences for t in s.stamps) if len(sequences) > 1 else []
        if len(sequences) == 1:
            stamps = sequences[0].stamps
        lag = max((s.max_lag for s in sequences), default=0)
        tokens = reply.tokens()
        count = self._metrics.add
        count("truth:requests", 1)
        count("truth:ok" if reply.outcome == "ok" else "truth:failed", 1)
        count("truth:events", len(stamps))
        count("truth:tokens", tokens)
        self._metrics.peak("truth:max_lag_us", lag / 1e3)
        if self._fd < 0:
            return
        row: dict[str, Any] = {"id": reply.voice.id, "outcome": reply.outcome, "chat": int(reply.voice.chat)}
        row |= {"stream": int(reply.stream), "conn_req": reply.connection_request}
        row |= {"prompt_tokens": reply.voice.prompt_tokens, "cached_tokens": reply.cached(), "n_tokens": tokens}
        row |= {"n_events": len(stamps), "t_first_byte": reply.t_first_byte}
        row |= {"t_first_token": stamps[0] if stamps else 0, "t_last_token": stamps[-1] if stamps else 0}
        row |= {"t_end": now_ns(), "max_lag_us": lag / 1e3, "blocked": getattr(reply.transport, "blocked", 0)}
        if reply.voice.chat:
            row |= {"t_first_answer": reply.first_answer(), "reasoning_tokens": reply.thought()}
        if self._tokens:
            row["itl_ns"] = [b - a for a, b in pairwise(stamps)]
        os.write(self._fd, dump(row) + b"\n")

    def sync(self, running: int) -> None:
        """Tell the other processes of what is counted nowhere else."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._metrics.set("truth:cpu_s", usage.ru_utime + usage.ru_stime)
        self._metrics.set("truth:running", running)

    def stats(self) -> dict[str, float]:
        """Counts of all processes, their CPU seconds, and the worst lag since the last call. The log is complete.

        Other processes publish their CPU time and their running requests twenty times a second.
        """
        return {"t": now_ns(), **self._metrics.truth()}
