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

from bench_tests.load.records import COMPLETED, KINDS
from bench_tests.load.worker.framing import Framing
from bench_tests.load.worker.sse import split_events

__all__ = ["Answer", "parse_answer", "split_events"]

MAX_WORDS = 4096  # characters of a server's message that are read; the tally keeps less, without the key
MAX_TOKENS = 1 << 48  # a count beyond is no count
BOM = b"\xef\xbb\xbf"
_EVENTS = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:"
)  # a stream of events, whatever its type is called


@dataclass
class Answer:
    """One answer, judged as far as its bytes can say. `ends` are offsets in the raw buffer, one a token event (see
    _token_events).
    """

    kind: int = COMPLETED
    error: str = ""
    http_status: int = 0
    ends: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    input_tokens: int = -1
    output_tokens: int = -1
    cached_tokens: int = -1
    finish_reason: str = ""
    several: bool = False  # it holds several choices (n > 1)
    text: str = ""  # kept only where the server gives no usage and tokens must be counted from it

    def fail(self, kind: str, error: str) -> None:
        """The first thing found wrong is what is kept."""
        if self.kind == COMPLETED:
            self.kind = KINDS.index(kind)
            self.error = " ".join(error.split())[:MAX_WORDS]


def parse_answer(raw: bytearray, framing: Framing) -> Answer:
    """Judge a whole answer. Shape of `ends`: (token events,). Never raises: what is wrong becomes the kind."""
    answer = Answer(http_status=framing.status)
    body = framing.body(raw)
    if framing.status != 200:
        answer.fail("http", f"HTTP {framing.status}{_retry_after(framing)}: {error_text(body)}")
        return answer
    encoding = framing.headers.get(b"content-encoding", b"identity")
    if encoding.lower() not in (b"identity", b""):
        answer.fail("malformed", f"content-encoding {encoding.decode('latin-1')} although identity was asked")
        return answer
    content_type = framing.headers.get(b"content-type", b"")
    if not content_type.lower().startswith(b"text/event-stream") and _EVENTS.match(body) is None:
        kind = content_type.decode("latin-1") or "nothing"
        answer.fail("malformed", f"content-type {kind}, not text/event-stream: {error_text(body)}")
        return answer
    reader = _Reader(answer)
    reader.read(body)
    if len(reader.ends):
        answer.ends = _to_raw(reader.ends, framing.edges)
    return answer


# the inside of a JSON string, lone surrogates left out as the decoder does; NUL stands between strings checked together
_ESCAPE = (
    rb'\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})'
)
# possessive (++, *+): with a way back kept for each character, a text of 10 MB takes seconds and a gigabyte
_STRINGS = re.compile(rb'(?:[^"\\\x01-\x1f]++|' + _ESCAPE + rb")*+")
_KEY = b'"text":"'
_TEXT = re.compile(rb'^data: \{[^\n]*?"text":"((?:[^"\\\x00-\x1f]++|' + _ESCAPE + rb')*+)"')


class _Reader:
    """Reads all events of a body into an answer.

    In an ordinary stream each event differs from the one before in its text alone. So the second event is taken as a
    template: what stands between two texts is then one constant. A `split` by the few bytes in front of a text yields all
    of them; whatever does not fit the template exactly is decoded event by event.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.ends: NDArray[np.int64] = np.empty(0, np.int64)
        self._reset()

    def _reset(self) -> None:
        self.texts: list[str] = []
        self.empty: list[int] = []  # which of the events carry a choice without text
        self.seen = 0  # events with a choice so far
        self.done = False
        self.usage: Any = None

    def read(self, body: bytes) -> None:
        """Events, usage and end of `body`; `ends` then holds the offsets behind each event that counts as tokens."""
        if body.startswith(BOM):
            body = b":\n\n" + body[3:]  # a comment of the same length, so that no offset moves
        found = self._by_template(body)
        if found is None or self.usage is None:  # without usage the tokens are counted from the text: read it all
            self._reset()
            found = [self._one_by_one(body, 0)]
        self.ends = np.concatenate(found)
        answer = self.answer
        _tokens(answer, self.usage, self.seen - len(self.empty), self.texts)
        self.ends = self._token_events()
        if not len(self.ends):
            answer.fail("cut_off", "no event with a choice")
        if not answer.finish_reason:
            answer.fail("cut_off", f"no finish_reason after {len(self.ends)} events")
        if not self.done and (self.usage is None or not answer.finish_reason):  # with both, nothing can be missing
            answer.fail("cut_off", f"no [DONE] after {len(self.ends)} events")

    def _token_events(self) -> NDArray[np.int64]:
        """The offsets of the events that stand for tokens, of those that carry a choice.

        One without text may be a token that is no whole character yet, or none at all: a role, a late finish_reason.
        Where there are more events than tokens, those without text at an answer's first and last place are none; if there
        are too many still, or nobody says how many tokens, only those with text count. Where there are fewer, the server
        groups tokens, and a group without any text at an answer's first or last place is none.
        """
        tokens, empty = self.answer.output_tokens, self.empty
        if not empty or len(empty) == self.seen or tokens == self.seen:
            return self.ends
        edges = [place for place in empty if place in (0, self.seen - 1)]
        if self.seen < tokens:
            empty = edges if 2 * len(empty) < self.seen else []
        elif self.seen - len(edges) <= tokens:
            empty = edges
        return np.delete(self.ends, empty)

    def _by_template(self, body: bytes) -> list[NDArray[np.int64]] | None:
        """The offsets, in parts; None where the stream has no template (short, CRLF, usage in each event, ...)."""
        start = body.find(b"\n\n") + 2
        stop = body.find(b"\n\n", start)
        if start < 2 or stop < 0 or b"\r" in body:
            return None
        event = body[start:stop]
        text = _TEXT.match(event)
        if text is None or self._ordinary(event) is False:
            return None
        before, behind = event[: text.start(1)], event[text.end(1) :]
        glue = behind + b"\n\n" + before[: -len(_KEY)]
        pieces = []
        for piece in body[start + len(before) :].split(_KEY):
            if not piece.endswith(glue):
                break  # from here on event by event
            pieces.append(piece[: -len(glue)])
        inside = b"\0".join(pieces)
        if len(pieces) < 2 or _STRINGS.fullmatch(inside) is None or inside.count(b"\0") != len(pieces) - 1:
            return None
        try:
            inside.decode()
        except UnicodeDecodeError:
            return None
        head = self._one_by_one(body[:start], 0)
        sizes = np.fromiter(map(len, pieces), np.int64, len(pieces))
        ends = start + np.cumsum(sizes + len(before) + len(behind) + 2)  # the blank line included
        if b"" in pieces:
            self.empty += [self.seen + place for place, piece in enumerate(pieces) if not piece]
        self.seen += len(pieces)
        tail_at = int(ends[-1])
        return [head, ends, self._one_by_one(body[tail_at:], tail_at)]

    def _ordinary(self, event: bytes) -> bool:
        try:
            said = orjson.loads(event[6:])
            choice = said["choices"][0]
            return (
                len(said["choices"]) == 1
                and choice["finish_reason"] is None
                and not (said.get("usage") or said.get("error"))
                and isinstance(choice["text"], str)
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return False

    def _one_by_one(self, body: bytes, offset: int) -> NDArray[np.int64]:
        answer, ends = self.answer, []
        for end, data in split_events(body):
            if data.strip() in (b"[DONE]", b""):  # the standard passes over an event of no data
                self.done = self.done or bool(data.strip())
                continue
            try:
                event = orjson.loads(data)
                if event.get("error"):
                    answer.fail("error_event", f"error event: {_message(event['error'])}")
                    continue
                if "error" in (event.get("object"), event.get("type")):
                    answer.fail("error_event", f"error event: {_message(event)}")
                    continue
                if event.get("choices"):
                    choice = event["choices"][0]
                    answer.several |= len(event["choices"]) > 1 or bool(choice.get("index"))
                    if said := _said(choice):
                        self.texts.append(said)
                    else:
                        self.empty.append(self.seen)
                    self.seen += 1
                    ends.append(end + offset)
                    if choice.get("finish_reason") is not None:
                        answer.finish_reason = str(choice["finish_reason"])
                if event.get("usage") is not None:
                    self.usage = event["usage"]
            except (ValueError, KeyError, TypeError, AttributeError, IndexError) as why:
                shown = data[:60].decode("utf-8", "replace")
                answer.fail("malformed", f"an event that is no completion ({type(why).__name__}): {shown!r}")
        return np.array(ends, np.int64)


def _said(choice: dict[str, Any]) -> str:
    """What a choice adds to the answer, as text: in a completion, a chat's content, thinking or tool call."""
    if "text" in choice or "delta" not in choice:
        return str(choice.get("text") or "")
    delta = choice["delta"] or {}
    parts = [delta.get(key) for key in ("reasoning", "reasoning_content", "content")]
    calls = delta.get("tool_calls")
    return "".join(str(part) for part in parts if part) + (str(calls) if calls else "")


def _tokens(answer: Answer, usage: Any, with_text: int, texts: list[str]) -> None:
    if usage is None:
        answer.text = "".join(texts)
        return
    try:
        details = usage.get("prompt_tokens_details") or {}
        counts = [int(usage["prompt_tokens"]), int(usage["completion_tokens"])]
        counts.append(int(details.get("cached_tokens") or 0) if details else 0)
        if not all(0 <= count < MAX_TOKENS for count in counts):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        answer.fail("malformed", f"usage without token counts: {str(usage)[:80]}")
        return
    answer.input_tokens, answer.output_tokens = (
        counts[0] or -1,
        counts[1],
    )  # no prompt is of 0 tokens: none were counted
    answer.cached_tokens = counts[2] if details else -1
    if with_text > answer.output_tokens:
        answer.fail(
            "malformed", f"usage says {answer.output_tokens} output tokens, but {with_text} events carried text"
        )


def _to_raw(ends: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Offsets in the body, each just behind some byte, as offsets just behind the same byte in the raw buffer."""
    body_ends = np.cumsum(edges[:, 1] - edges[:, 0])
    chunk = np.searchsorted(body_ends, ends, side="left")
    return np.asarray(edges[chunk, 1] - (body_ends[chunk] - ends))


def error_text(body: bytes) -> str:
    """What an error body says, whatever its shape: vLLM's object, its bare string for 401, a proxy's HTML."""
    try:
        said = orjson.loads(body)
    except ValueError:
        return re.sub(r"<[^>]*>", " ", body[:MAX_WORDS].decode("utf-8", "replace")).strip() or "(empty body)"
    return _message(said.get("error", said.get("detail", said)) if isinstance(said, dict) else said)


def _message(error: Any) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)[:MAX_WORDS]


def _retry_after(framing: Framing) -> str:
    value = framing.headers.get(b"retry-after")
    return f" (Retry-After {value.decode('latin-1')[:40]})" if value else ""
