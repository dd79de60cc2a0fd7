"""The raw outcome of each request of a run, as arrays; what the client writes and everything later reads.

Depends on numpy alone, so that a reader of old files needs no client.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench_tests.errors import UsageError

__all__ = ["COMPLETED", "KINDS", "OF_SESSIONS", "WITHDRAWN", "Records"]

# The order is part of the file format: append, never reorder.
KINDS = (
    "completed",
    "connect",  # no connection could be opened
    "http",  # an HTTP status other than 200
    "error_event",  # an error event inside a stream that began with 200
    "cut_off",  # the stream ended without finish_reason, [DONE] or its last chunk
    "stalled",  # a timeout: connect, first token, between tokens or the whole request
    "malformed",  # what came was not the protocol
    "short",  # fewer or more tokens than asked for
    "cancelled",  # the run was interrupted; says nothing about the server
    "withdrawn",  # cancelled on purpose (load.cancel): neither completed nor failed
)
COMPLETED = KINDS.index("completed")
CANCELLED = KINDS.index("cancelled")
WITHDRAWN = KINDS.index("withdrawn")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
OF_SESSIONS = ("session", "turn", "turns", "history_tokens", "shared_tokens")
_INTS = (
    "asked_input", "asked_output", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "events",
    "moments", "number", *OF_SESSIONS,
)  # fmt: skip


@dataclass(frozen=True)
class Records:
    """One row a request, in the order of sending. Times in seconds since the run's zero; NaN where there is none.

    `event_s` holds the arrivals of all events that carry a choice, request after request: `events[i]` of them belong
    to request i, so that `np.split(event_s, np.cumsum(events)[:-1])` gives them back.
    """

    kind: NDArray[np.int8]  # index into KINDS
    measured: NDArray[np.bool_]  # False: a warm-up
    http_status: NDArray[np.int16]  # 0: no answer
    scheduled_s: Floats  # when the arrival process wanted it to start
    send_s: Floats  # the moment before its first byte was handed to the kernel
    first_s: Floats  # arrival of the first event that carries a choice
    last_s: Floats  # arrival of the last such event
    answer_s: Floats  # arrival of the first event of the answer itself, behind all thinking; NaN: none, or nobody says
    end_s: Floats  # arrival of the answer's last byte: until then the request is in flight
    connect_s: Floats  # time to open its connection, 0 when one was open already
    asked_input: Ints  # prompt tokens that were sent
    asked_output: Ints  # max_tokens
    input_tokens: Ints  # the server's usage; -1: not said
    output_tokens: Ints  # the server's usage; -1: not said
    cached_tokens: Ints  # of the prompt, by the server's usage; -1: not said
    reasoning_tokens: Ints  # of the output, by the server's usage; -1: not said
    events: Ints  # events that carried a choice
    event_s: Floats  # all their arrivals, flattened
    moments: Ints  # distinct moments at which they arrived; what this client itself may have merged counts apart
    lag_s: Floats  # how long what came waited for the client to read it, at most, in this request
    first_blur_s: Floats  # how far before its stamp the first event may really have arrived (merged reads), at most
    last_blur_s: Floats  # likewise the last event
    answer_blur_s: Floats  # likewise the answer's first
    session: Ints  # whose turn it is, a number of the run's; -1: of no session
    turn: Ints  # which of the session's turns, from 1; 0: of no session
    turns: Ints  # how many turns the session has
    history_tokens: Ints  # tokens of the prompt that stand in the session's history
    shared_tokens: Ints  # of these such as the server has computed before: what its prefix cache can hit, at most
    number: Ints  # the request's place in the run's order, whichever process sent it
    worker: NDArray[np.int16]  # which load process sent it
    error: NDArray[np.str_]  # what was wrong, in words; "" for a completed request

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def completed(self) -> NDArray[np.bool_]:
        """Measured requests that completed, as a mask of shape (n,)."""
        return np.asarray(self.measured & (self.kind == COMPLETED))

    @property
    def open_loop(self) -> bool:
        """Whether an arrival process said when each request starts; in a closed loop all are wanted at once."""
        return bool((self.scheduled_s[self.measured] > 0).any())

    @property
    def continuous(self) -> bool:
        """Whether others were in flight when the first measured request was sent (a staggered start): the measured ones
        then have neither a start burst nor a drain, and share the server with those others.
        """
        if not self.measured.any() or np.isnan(self.send_s[self.measured]).all():
            return False
        first = np.nanmin(self.send_s[self.measured])
        # without an end: given up when all that is measured had ended; a warm-up that failed has none either
        given_up = np.isnan(self.end_s) & (self.kind == CANCELLED)
        return bool(((self.end_s > first) | given_up)[~self.measured & (self.send_s < first)].any())

    def ttft_s(self) -> Floats:
        """Time to first token of each request, seconds, shape (n,). Formula: first − send."""
        return np.asarray(self.first_s - self.send_s)

    def thinking_s(self) -> Floats:
        """How long each answer was thought about, seconds, shape (n,). Formula: first of the answer itself − first."""
        return np.asarray(self.answer_s - self.first_s)

    def e2el_s(self) -> Floats:
        """End-to-end latency of each request, seconds, shape (n,). Formula: last − send."""
        return np.asarray(self.last_s - self.send_s)

    def tpot_s(self) -> Floats:
        """Time per output token, seconds, shape (n,); NaN below two tokens. Formula: (E2EL − TTFT) / (output − 1)."""
        steps = np.where(self.output_tokens > 1, self.output_tokens - 1.0, np.nan)
        return np.asarray((self.last_s - self.first_s) / steps)

    def queue_s(self) -> Floats:
        """Time that each request stood in line in the client, seconds, shape (n,). Formula: send − scheduled."""
        return np.asarray(self.send_s - self.scheduled_s)

    def itl_s(self, of: NDArray[np.bool_]) -> Floats:
        """Gaps between the events of the requests in the mask `of`, seconds, pooled. Formula: event[i+1] − event[i]."""
        if not len(self.event_s):
            return np.empty(0)
        owner = np.repeat(np.arange(len(self)), self.events)
        gaps = np.diff(self.event_s)
        inside = (owner[1:] == owner[:-1]) & of[owner[1:]]
        return np.asarray(gaps[inside])

    def save(self, compressed: bool = True) -> bytes:
        """The records as the bytes of an .npz file; compressing takes as long as parsing half of the answers."""
        out = io.BytesIO()
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        (np.savez_compressed if compressed else np.savez)(out, **columns)
        return out.getvalue()

    @classmethod
    def load(cls, source: Path | bytes) -> Records:
        """Read an .npz file or its bytes. Raises UsageError when it is not one of ours; runs no code from it."""
        name = str(source) if isinstance(source, Path) else "records"
        try:
            with np.load(source if isinstance(source, Path) else io.BytesIO(source), allow_pickle=False) as data:
                columns = {f.name: data[f.name] for f in fields(cls) if f.name in data.files}
                if len(columns) < len(fields(cls)):
                    columns = _derived(columns) | columns
                got = cls(**columns)
        except Exception as why:  # a damaged zip or array header raises nearly anything
            reason = " ".join(f"{type(why).__name__} {why}".split())[:200]
            raise UsageError(f"{name}: not a records file of this suite ({reason}); measure the point again") from why
        empty = cls.empty()
        for spec in fields(cls):
            column, wanted = getattr(got, spec.name), getattr(empty, spec.name)
            if getattr(column, "ndim", 0) != 1 or column.dtype.kind != wanted.dtype.kind:
                raise UsageError(f"{name}: {spec.name} is not a column of its type; measure the point again")
        if any(len(getattr(got, f.name)) != len(got) for f in fields(cls) if f.name != "event_s"):
            raise UsageError(f"{name}: columns of unequal length; measure the point again")
        if (got.events < 0).any() or len(got.event_s) != int(got.events.sum()):
            raise UsageError(f"{name}: event_s does not match events; measure the point again")
        return got

    @classmethod
    def empty(cls) -> Records:
        """Records of no request."""
        none: dict[str, Any] = {f.name: np.empty(0) for f in fields(cls)}
        none |= {name: np.empty(0, np.int64) for name in _INTS}
        none |= {"kind": np.empty(0, np.int8), "measured": np.empty(0, np.bool_), "http_status": np.empty(0, np.int16)}
        none |= {"worker": np.empty(0, np.int16), "error": np.empty(0, np.str_)}
        return cls(**none)

    @classmethod
    def merge(cls, parts: list[Records]) -> Records:
        """One set of records from several load processes, sorted by the time of sending."""
        if not parts:
            return cls.empty()
        whole = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        key = np.where(np.isnan(whole["send_s"]), whole["scheduled_s"], whole["send_s"])
        order = np.argsort(key, kind="stable")
        ends = np.cumsum(whole["events"])
        starts = ends - whole["events"]
        lengths = whole["events"][order]
        # the events of each request move with it: positions = its start, repeated, plus 0, 1, 2 ... within it
        inner = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        events = whole["event_s"][np.repeat(starts[order], lengths) + inner]
        return cls(**{name: column[order] for name, column in whole.items() if name != "event_s"}, event_s=events)


def _derived(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The columns that files of earlier versions lack, as well as the others say them; raises on damaged ones."""
    events, event_s = columns["events"], columns["event_s"]
    if (events < 0).any() or len(event_s) != int(events.sum()):
        raise ValueError("event_s does not match events")
    owner = np.repeat(np.arange(len(events)), events)
    new = np.ones(len(event_s), np.int64)
    new[1:] = (owner[1:] != owner[:-1]) | (np.diff(event_s) > 0)  # events of one read have one stamp
    moments = np.bincount(owner, new, minlength=len(events)).astype(np.int64)
    nothing = np.full(len(events), np.nan)
    chat = {"answer_s": nothing, "answer_blur_s": nothing, "reasoning_tokens": np.full(len(events), -1)}
    chat |= {name: np.full(len(events), -1 if name == "session" else 0) for name in OF_SESSIONS}
    return {"end_s": columns["last_s"], "moments": moments, "number": np.arange(len(events)), **chat}
