"""What a streamed completion said: its events, how it ended, and what is wrong with it. Parsed after the request.

Knows the kinds of outcome and the framing. Pure: bytes in, facts out; it never sees a clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from bench_tests.load.framing import Framing
from bench_tests.load.records import COMPLETED, KINDS

__all__ = ["Answer", "parse_answer", "split_events"]

_BLANK_LINE = re.compile(rb"(?:\r\n|\r|\n)(?:\r\n|\r|\n)")
_LINE = re.compile(rb"\r\n|\r|\n")
MAX_ERROR = 300  # characters of a server's message that are kept


@dataclass
class Answer:
    """One answer, judged as far as its bytes can say. `ends` are offsets in the raw buffer, one a choice event."""

    kind: int = COMPLETED
    error: str = ""
    http_status: int = 0
    ends: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    input_tokens: int = -1
    output_tokens: int = -1
    cached_tokens: int = -1
    finish_reason: str = ""
    text: str = ""  # kept only where the server gives no usage and tokens must be counted from it

    def fail(self, kind: str, error: str) -> None:
        """The first thing found wrong is what is kept."""
        if self.kind == COMPLETED:
            self.kind = KINDS.index(kind)
            self.error = " ".join(error.split())[:MAX_ERROR]


def split_events(body: bytes) -> list[tuple[int, bytes]]:
    """The events of an SSE body: (offset behind the blank line that completes it, its data), comments left out.

    Lines end by LF, CRLF or CR, several data lines are joined by LF, as the standard has it. What follows the last
    blank line is no event.
    """
    events = []
    if b"\r" not in body:
        parts = body.split(b"\n\n")
        parts.pop()
        pos = 0
        for part in parts:
            pos += len(part) + 2
            if part[:6] == b"data: " and b"\n" not in part:
                events.append((pos, part[6:]))
            elif (data := _data(part)) is not None:
                events.append((pos, data))
        return events
    start = 0
    for blank in _BLANK_LINE.finditer(body):
        if (data := _data(body[start : blank.start()])) is not None:
            events.append((blank.end(), data))
        start = blank.end()
    return events


def _data(event: bytes) -> bytes | None:
    lines = []
    for line in _LINE.split(event):
        if line[:5] == b"data:":
            lines.append(line[6:] if line[5:6] == b" " else line[5:])
    return b"\n".join(lines) if lines else None


def parse_answer(raw: bytearray, framing: Framing) -> Answer:
    """Judge a whole answer. Shape of `ends`: (choice events,). Never raises: what is wrong becomes the kind."""
    answer = Answer(http_status=framing.status)
    spans = framing.spans
    body = bytes(raw[spans[0][0] : spans[0][1]]) if len(spans) == 1 else b"".join([raw[s:e] for s, e in spans])
    if framing.status != 200:
        answer.fail("http", f"HTTP {framing.status}{_retry_after(framing)}: {error_text(body)}")
        return answer
    encoding = framing.headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        answer.fail("malformed", f"content-encoding {encoding.decode('latin-1')} although identity was asked")
        return answer
    content_type = framing.headers.get(b"content-type", b"")
    if not content_type.startswith(b"text/event-stream"):
        kind = content_type.decode("latin-1") or "nothing"
        answer.fail("malformed", f"content-type {kind}, not text/event-stream: {error_text(body)}")
        return answer
    ends = _events(answer, body)
    if ends:
        answer.ends = _to_raw(np.array(ends, np.int64), spans)
    return answer


def _events(answer: Answer, body: bytes) -> list[int]:
    """Read all events into the answer; returns the offsets in the body behind each that carries a choice."""
    ends: list[int] = []
    texts: list[str] = []
    done = False
    usage: Any = None
    loads = orjson.loads
    for end, data in split_events(body):
        if data == b"[DONE]":
            done = True
            continue
        try:
            event = loads(data)
            if event.get("error") is not None:
                answer.fail("error_event", f"error event: {_message(event['error'])}")
                continue
            choices = event["choices"]
            if choices:
                choice = choices[0]
                text = choice["text"]
                if text:
                    texts.append(text)
                ends.append(end)
                if choice["finish_reason"] is not None:
                    answer.finish_reason = str(choice["finish_reason"])
            if event.get("usage") is not None:
                usage = event["usage"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as why:
            shown = data[:60].decode("utf-8", "replace")
            answer.fail("malformed", f"an event that is no completion ({type(why).__name__}): {shown!r}")
    _tokens(answer, usage, texts)
    if not ends:
        answer.fail("cut_off", "no event with a choice")
    if not answer.finish_reason:
        answer.fail("cut_off", f"no finish_reason after {len(ends)} events")
    if not done:
        answer.fail("cut_off", f"no [DONE] after {len(ends)} events")
    return ends


def _tokens(answer: Answer, usage: Any, texts: list[str]) -> None:
    if usage is None:
        answer.text = "".join(map(str, texts))
        return
    try:
        answer.input_tokens = int(usage["prompt_tokens"])
        answer.output_tokens = int(usage["completion_tokens"])
        details = usage.get("prompt_tokens_details") or {}
        answer.cached_tokens = int(details.get("cached_tokens") or 0) if details else -1
    except (KeyError, TypeError, ValueError, AttributeError):
        answer.fail("malformed", f"usage without token counts: {str(usage)[:80]}")
        return
    if len(texts) > answer.output_tokens:
        answer.fail(
            "malformed", f"usage says {answer.output_tokens} output tokens, but {len(texts)} events carried text"
        )


def _to_raw(ends: NDArray[np.int64], spans: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Offsets in the body, each just behind some byte, as offsets just behind the same byte in the raw buffer."""
    if len(spans) == 1:
        return ends + spans[0][0]
    edges = np.array(spans, np.int64)
    body_ends = np.cumsum(edges[:, 1] - edges[:, 0])
    chunk = np.searchsorted(body_ends, ends, side="left")
    return np.asarray(edges[chunk, 1] - (body_ends[chunk] - ends))


def error_text(body: bytes) -> str:
    """What an error body says, whatever its shape: vLLM's object, its bare string for 401, a proxy's HTML."""
    try:
        said = orjson.loads(body)
    except ValueError:
        return re.sub(r"<[^>]*>", " ", body[:2000].decode("utf-8", "replace")).strip()[:MAX_ERROR] or "(empty body)"
    return _message(said.get("error", said.get("detail", said)) if isinstance(said, dict) else said)


def _message(error: Any) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)[:MAX_ERROR]


def _retry_after(framing: Framing) -> str:
    value = framing.headers.get(b"retry-after")
    return f" (Retry-After {value.decode('latin-1')[:40]})" if value else ""
