"""What can be made to go wrong in the simulated server, as data, and the draw that decides it for each request."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from bench_tests.errors import UsageError
from bench_tests.sim.events import error_body

__all__ = ["FAULTS", "Fault", "FaultKind", "draw", "parse_fault", "refusal"]


@dataclass(frozen=True)
class FaultKind:
    """One row of the registry. `arg` says what the argument means ("" for none), `default` is its value."""

    text: str
    arg: str = ""
    default: float = 0.0
    arg_first: bool = False  # a single number after the name is the argument and not the probability
    server_wide: bool = False  # holds for the whole server while it is set; the probability has no meaning


FAULTS: dict[str, FaultKind] = {
    # before an answer
    "reset_before_headers": FaultKind("the connection is reset before a byte of the answer"),
    "slow_headers": FaultKind("the response headers come this late, the tokens after them", "seconds", 5.0),
    "late_headers": FaultKind("the response headers come only with the first token"),
    "stall_first_token": FaultKind("200 and headers, then nothing for this long, then silence's end", "seconds", 3600),
    "status_400": FaultKind("HTTP 400 with vLLM's error body"),
    "status_401": FaultKind('HTTP 401 {"error":"Unauthorized"}'),
    "status_404": FaultKind("HTTP 404: the model does not exist"),
    "status_429": FaultKind("HTTP 429 with Retry-After", "Retry-After, seconds", 1),
    "status_500": FaultKind("HTTP 500 with vLLM's error body"),
    "status_503": FaultKind("HTTP 503 with vLLM's error body"),
    "html": FaultKind("an HTML page, as of a proxy or a login wall", "its HTTP status, 200 or 502", 502),
    "redirect": FaultKind("HTTP 307 to another path"),
    # in the middle of a stream; the argument says after how many tokens
    "reset_mid_stream": FaultKind("the connection is reset (RST)", "after this many tokens, 0: half of them"),
    "half_close": FaultKind("the server ends its side (FIN), no last chunk", "after this many tokens, 0: half"),
    "stall_mid_stream": FaultKind("half of the tokens, then nothing for this long, then the rest", "seconds", 3600),
    "error_event": FaultKind("an error event, then [DONE], in a 200 stream", "after this many tokens, 0: half"),
    "malformed_json": FaultKind("one event whose JSON is broken", "after this many tokens, 0: half"),
    "garbage": FaultKind("binary bytes in place of the rest of the stream", "after this many tokens, 0: half"),
    "bad_chunk": FaultKind("a chunk size that is no number", "after this many tokens, 0: half"),
    "huge_event": FaultKind("one event with a very long text", "megabytes", 10),
    "endless": FaultKind("the stream never ends: the tokens go on at the same pace"),
    # at its end, and what it says of itself
    "no_usage": FaultKind("[DONE] without the usage that was asked for"),
    "wrong_usage": FaultKind("usage counts more completion tokens than there were", "how many more", 7),
    "no_done": FaultKind("the body ends as HTTP should, without [DONE]"),
    "no_finish_reason": FaultKind("the last event has finish_reason null"),
    "fewer_tokens": FaultKind("fewer tokens than asked for, finish_reason stop", "how many, 0: half"),
    "more_tokens": FaultKind("more tokens than asked for", "how many more", 5),
    "zero_tokens": FaultKind("usage and [DONE] without any event that carries a choice"),
    "empty_texts": FaultKind("every event has an empty text"),
    # how the bytes travel: the content is right and a client must not mind
    "split": FaultKind("events cut into segments anywhere, inside UTF-8 characters too", "µs between pieces", 100),
    "coalesce": FaultKind("this many events in one write (the first alone)", "events", 4, arg_first=True),
    "tokens_per_event": FaultKind("this many tokens in one event (the first alone)", "tokens", 3, arg_first=True),
    "crlf": FaultKind("lines end in CRLF"),
    "comments": FaultKind("SSE comment lines between the events"),
    "not_chunked": FaultKind("no chunked encoding: the connection's close ends the body"),
    "gzip": FaultKind("content-encoding: gzip, although nobody asked for it"),
    "model_mislabelled": FaultKind("the events name another model than the one that was asked for"),
    # the whole server
    "slow_down": FaultKind("everything takes this many times as long", "factor", 2.0, arg_first=True, server_wide=True),
    "model_swapped": FaultKind("another model is served: /v1/models lists it, the old one is 404", server_wide=True),
    "unhealthy": FaultKind("/health answers 503, all else works", server_wide=True),
    "idle_close": FaultKind("connections are closed when idle", "seconds", 0.05, arg_first=True, server_wide=True),
    "engine_dead": FaultKind(
        "the engine dies: error events to all streams, /health 503, then the process exits",
        "seconds from death to exit",
        2.0,
    ),
    "restart": FaultKind("once: process_start_time changes and all counters begin again at zero"),
}


@dataclass(frozen=True)
class Fault:
    """A fault that is switched on: for a share of the requests, from the `after`-th request of the process on."""

    name: str
    probability: float
    arg: float
    after: int = 0

    def __str__(self) -> str:
        tail = f"@{self.after}" if self.after else ""
        return f"{self.name}:{self.probability:g}:{self.arg:g}{tail}"


def parse_fault(text: str) -> Fault:
    """`NAME[:PROBABILITY[:ARG]][@N]`, for example `error_event:0.1`, `half_close:1:3`, `coalesce:4`, `engine_dead@20`.

    `@N` spares the first N generation requests. Raises UsageError with the accepted forms.
    """
    spelled, _, after = text.partition("@")
    name, *numbers = spelled.split(":")
    kind = FAULTS.get(name)
    if kind is None:
        raise UsageError(f"fault {name!r}: no such fault; there are {', '.join(FAULTS)}")
    try:
        values = [float(n) for n in numbers]
        first = int(after) if after else 0
    except ValueError:
        values, first = [-1.0], -1
    if kind.arg_first and len(values) == 1:
        values.insert(0, 1.0)
    probability = values[0] if values else 1.0
    arg = values[1] if len(values) > 1 else kind.default
    form = f"{name}{':' + kind.arg.upper().split(',')[0] if kind.arg_first else '[:PROBABILITY[:ARG]]'}[@N]"
    if len(values) > 2 or not 0 <= probability <= 1 or not 0 <= arg < 1e9 or first < 0:
        meaning = f" (ARG: {kind.arg})" if kind.arg else ""
        raise UsageError(f"fault {text!r}: expected {form} with a probability from 0 to 1{meaning}")
    if name == "html" and not 200 <= arg <= 599:
        raise UsageError(f"fault {text!r}: expected an HTTP status from 200 to 599, as in html:1:502")
    if name in ("coalesce", "tokens_per_event") and arg < 1:
        raise UsageError(f"fault {text!r}: expected {form} with at least 1 {kind.arg}")
    return Fault(name, probability, arg, first)


_HTML = (
    b"<!DOCTYPE html>\n<html><head><title>%d</title></head><body><h1>%d</h1><p>a proxy says this</p></body></html>\n"
)


def refusal(hit: dict[str, float], model: str, path: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of a fault that is an HTTP answer; status 0 when none of `hit` is one."""
    json_type = {"content-type": "application/json"}
    for name, (body, headers) in {
        "status_400": (error_body("the simulated server refuses this request", 400), {}),
        "status_401": (b'{"error":"Unauthorized"}', {}),
        "status_404": (error_body(f"The model `{model}` does not exist. Valid aliases: .", 404, "model"), {}),
        "status_429": (error_body("too many requests", 429), {"retry-after": f"{hit.get('status_429', 0):g}"}),
        "status_500": (error_body("the simulated server fails", 500), {}),
        "status_503": (error_body("the simulated server is overloaded", 503), {}),
    }.items():
        if name in hit:
            return int(name[-3:]), body, json_type | headers
    if "html" in hit:
        status = int(hit["html"])
        return status, _HTML % (status, status), {"content-type": "text/html; charset=utf-8"}
    if "redirect" in hit:
        return 307, b"", {"location": f"/elsewhere{path}"}
    return 0, b"", {}


def draw(faults: Iterable[Fault], seed: int, request: int) -> dict[str, float]:
    """The faults that hit the request of this number (from 0), as name → argument; the same for the same seed."""
    rng = random.Random(seed << 32 | request)
    hit: dict[str, float] = {}
    for fault in faults:
        if rng.random() < fault.probability and request >= fault.after:
            hit[fault.name] = fault.arg
    return hit
