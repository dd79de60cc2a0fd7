"""What a streamed answer said: its events, how it ended, and what is wrong with it. Parsed after the request.

Which of its events count is the dialect's to say. Pure: bytes in, facts out; it never sees a clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from bench_tests.load.dialect.base import ANSWER, NOTHING, STRINGS, Dialect
from bench_tests.load.dialect.completions import COMPLETIONS
from bench_tests.load.records import COMPLETED, KINDS
from bench_tests.load.worker.framing import Framing
from bench_tests.load.worker.sse import split_events

__all__ = ["Answer", "parse_answer", "split_events"]

MAX_WORDS = 4096  # characters of a server's message that are read; the tally keeps less, without the key
MAX_NAME = 200  # characters of a model's name
MAX_TOKENS = 1 << 48  # a count beyond is no count
FEW = 5  # events that are left: decoding them costs less than finding out that they are alike
BOM = b"\xef\xbb\xbf"
TEMPLATES = 6  # tries to find a stretch of like events, at most: a chat has one of thinking and one of content
_EVENTS = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:"
)  # a stream of events, whatever its type is called


@dataclass
class Answer:
    """One answer, judged as far as its bytes can say. `ends` are offsets in the raw buffer, one an event that stands for
    tokens, as the dialect has it.
    """

    kind: int = COMPLETED
    error: str = ""
    http_status: int = 0
    ends: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    input_tokens: int = -1
    output_tokens: int = -1
    cached_tokens: int = -1
    reasoning_tokens: int = -1
    answer_at: int = (
        -1
    )  # which of `ends` is the first of the answer itself, behind all thinking; -1: none, or nobody says
    finish_reason: str = ""
    several: bool = False  # it holds several choices (n > 1)
    model: str = ""  # who answered, by its own words; "" where it does not say
    text: str = ""  # kept only where the server gives no usage and tokens must be counted from it

    def fail(self, kind: str, error: str) -> None:
        """The first thing found wrong is what is kept."""
        if self.kind == COMPLETED:
            self.kind = KINDS.index(kind)
            self.error = " ".join(error.split())[:MAX_WORDS]


def parse_answer(raw: bytearray, framing: Framing, dialect: Dialect = COMPLETIONS) -> Answer:
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
    reader = _Reader(answer, dialect)
    reader.read(body)
    if len(reader.ends):
        answer.ends = _to_raw(reader.ends, framing.edges)
    return answer


class _Reader:
    """Reads all events of a body into an answer.

    In an ordinary stream each event differs from the one before in its text alone. So an event is taken as a template:
    what stands between two texts is then one constant. A `split` by the few bytes in front of a text yields all of them;
    whatever does not fit the template exactly is decoded event by event, and a further stretch has a template of its own.
    """

    def __init__(self, answer: Answer, dialect: Dialect) -> None:
        self.answer = answer
        self.dialect = dialect
        self.ends: NDArray[np.int64] = np.empty(0, np.int64)
        self._reset()

    def _reset(self) -> None:
        self.texts: list[str] = []
        self.parts: list[bytes] = []  # what each event with a choice carries
        self.found: list[NDArray[np.int64]] = []  # offsets behind these events
        self.done = False
        self.usage: Any = None

    def read(self, body: bytes) -> None:
        """Events, usage and end of `body`; `ends` then holds the offsets behind each event that counts as tokens."""
        if body.startswith(BOM):
            body = b":\n\n" + body[3:]  # a comment of the same length, so that no offset moves
        if not self._in_bulk(body) or self.usage is None:  # without usage tokens are counted from the text: read it all
            self._reset()
            self._one_by_one(body, 0)
        answer, kinds = self.answer, b"".join(self.parts)
        self.ends = ends = np.concatenate(self.found)
        nothing = kinds.count(NOTHING)
        _tokens(answer, self.usage, len(kinds) - nothing, self.texts)
        if nothing:
            parts = np.frombuffer(kinds, np.uint8)
            counts = self.dialect.token_events(parts, answer.output_tokens)
            self.ends, kinds = ends[counts], parts[counts].tobytes()
        if self.dialect.tells_thinking:
            answer.answer_at = kinds.find(ANSWER)
        if not len(self.ends):
            answer.fail(
                "cut_off",
                "no event with a choice" if not len(ends) else "no event with a text, thinking or a tool call",
            )
        if not answer.finish_reason:
            answer.fail("cut_off", f"no finish_reason after {len(self.ends)} events")
        if not self.done and (self.usage is None or not answer.finish_reason):  # with both, nothing can be missing
            answer.fail("cut_off", f"no [DONE] after {len(self.ends)} events")

    def _in_bulk(self, body: bytes) -> bool:
        """Read all of it, stretches of like events by a template; False where there is none (short, CRLF, usage in each
        event, ...).
        """
        at = before = 0
        for _ in range(TEMPLATES):
            start = body.find(b"\n\n", at) + 2
            stop = body.find(b"\n\n", start)
            if start < 2 or stop < 0:
                break
            if (behind := self._by_template(body, before, start, stop)) > start:
                before = behind
            at = max(start, behind)
            if len(body) - at < FEW * (stop - start):
                break
        if not before:
            return False
        self._one_by_one(body[before:], before)
        return True

    def _by_template(self, body: bytes, before: int, start: int, stop: int) -> int:
        """Read the stretch of events like the one from `start` to `stop`, and first what nobody has read before it.

        Returns where the stretch ends; 0 where there is none.
        """
        event = body[start:stop]
        text = self.dialect.event.match(event)
        if text is None or (part := self._ordinary(event, text[1])) is None:
            return 0
        head, tail = event[: text.start(2)], event[text.end(2) :]
        if not body.startswith(head, stop + 2) or (not before and b"\r" in body):
            return 0
        glue = tail + b"\n\n" + head[: -len(text[1])]
        cut, pieces = -len(glue), []
        for piece in body[start + len(head) :].split(text[1]):
            if not piece.endswith(glue):
                break  # from here on it is something else
            pieces.append(piece[:cut])
        inside = b"\0".join(pieces)
        if len(pieces) < 2 or STRINGS.fullmatch(inside) is None or inside.count(b"\0") != len(pieces) - 1:
            return 0
        try:
            inside.decode()
        except UnicodeDecodeError:
            return 0
        self._one_by_one(body[before:start], before)
        sizes = np.fromiter(map(len, pieces), np.int64, len(pieces))
        ends = start + np.cumsum(sizes + len(head) + len(tail) + 2)  # the blank line included
        self.found.append(ends)
        kinds = bytes((part,)) * len(pieces)
        self.parts.append(bytes(part if piece else NOTHING for piece in pieces) if b"" in pieces else kinds)
        return int(ends[-1])

    def _ordinary(self, event: bytes, key: bytes) -> int | None:
        """What an event carries that may be a template; None where it may not."""
        try:
            said = orjson.loads(event[6:])
            choice = said["choices"][0]
            if (
                len(said["choices"]) == 1
                and choice["finish_reason"] is None
                and not (said.get("usage") or said.get("error"))
            ):
                return self.dialect.template(choice, key)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            pass
        return None

    def _one_by_one(self, body: bytes, offset: int) -> None:
        answer, ends, parts = self.answer, [], []
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
                    answer.model = answer.model or str(event.get("model") or "")[:MAX_NAME]
                    choice = event["choices"][0]
                    answer.several |= len(event["choices"]) > 1 or bool(choice.get("index"))
                    part, text = self.dialect.said(choice)
                    if part:
                        self.texts.append(text)
                    ends.append(end + offset)
                    parts.append(part)
                    if choice.get("finish_reason") is not None:
                        answer.finish_reason = str(choice["finish_reason"])
                if event.get("usage") is not None:
                    self.usage = event["usage"]
            except (ValueError, KeyError, TypeError, AttributeError, IndexError) as why:
                shown = data[:60].decode("utf-8", "replace")
                answer.fail("malformed", f"an event that is no completion ({type(why).__name__}): {shown!r}")
        self.found.append(np.array(ends, np.int64))
        self.parts.append(bytes(parts))


def _tokens(answer: Answer, usage: Any, with_text: int, texts: list[str]) -> None:
    if usage is None:
        answer.text = "".join(texts)
        return
    try:
        details = usage.get("prompt_tokens_details") or {}
        counts = [int(usage["prompt_tokens"]), int(usage["completion_tokens"])]
        counts.append(int(details.get("cached_tokens") or 0) if details else 0)
        thought = usage.get("completion_tokens_details") or {}
        counts.append(int(thought["reasoning_tokens"]) if thought.get("reasoning_tokens") is not None else 0)
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
    answer.reasoning_tokens = counts[3] if thought.get("reasoning_tokens") is not None else -1
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
