"""What has been said in a session, and its next prompt: token ids in completions, messages in a chat."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from bench_tests.load.dialect.base import Dialect
from bench_tests.load.requests import RequestFile
from bench_tests.load.texts import exact_text
from bench_tests.load.worker.sse import split_events
from bench_tests.load.workload.sessions import Turn

__all__ = ["Asked", "History", "new_history", "said_in"]

_CONTENT = 2**50  # a range of random streams of its own


@dataclass(frozen=True)
class Asked:
    """A turn's prompt as JSON, its tokens, and how many of them stand in the history and were computed before."""

    prompt: bytes
    tokens: int
    history: int
    shared: int


class History(ABC):
    """One session's. Its random content is its own: no other session's is in the cache by it."""

    def __init__(self, files: RequestFile, session: int) -> None:
        plan = files.plan
        key = np.array([plan.seed + plan.salt, _CONTENT + (plan.first_serial << 20) + session], np.uint64)
        self.files, self.session = files, session
        self._rng = np.random.Generator(np.random.Philox(key=key))

    def _new(self, count: int) -> list[int]:
        """Random token ids."""
        pool = self.files.pool
        drawn: list[int] = pool.ids[self._rng.integers(0, len(pool), count)].tolist()
        return drawn

    @abstractmethod
    def ask(self, turn: Turn) -> Asked:
        """The prompt of the next turn."""

    @abstractmethod
    def answered(self, ids: list[int], text: str, tokens: int) -> bool:
        """What came as its answer, of so many tokens; whether its tokens are known exactly."""

    def pretend(self, tokens: int) -> None:
        """An answer that nobody gave: of a session that is entered at a later turn."""
        ids = self._new(tokens)
        self.answered(ids, self._text(ids), tokens)
        self._forget()

    def _text(self, ids: list[int]) -> str:
        return ""

    @abstractmethod
    def _forget(self) -> None:
        """No server has computed what was said so far."""


class _Ids(History):
    """Prompts of token ids. The JSON of what stays is not made again."""

    def __init__(self, files: RequestFile, session: int) -> None:
        super().__init__(files, session)
        self._ids: list[int] = []
        self._json = bytearray()
        self._computed = 0

    def ask(self, turn: Turn) -> Asked:
        if turn.keep is not None and turn.keep < len(self._ids):
            kept, self._ids, self._json = self._ids[: turn.keep], [], bytearray()
            self._computed = min(self._computed, turn.keep)
            self._add(kept)
        history, shared = len(self._ids), self._computed
        self._add(self._own(turn))
        self._computed = len(self._ids)
        return Asked(b"[" + self._json + b"]", len(self._ids), history, shared)

    def _own(self, turn: Turn) -> list[int]:
        if not turn.messages:
            return self._new(turn.new)
        text = "\n".join(str(m["content"]) for m in turn.messages)
        salt = self._new(2) if not self._ids else []
        return [*salt, *self.files.tokenizer(text, add_special_tokens=False).input_ids]

    def _add(self, ids: list[int]) -> None:
        if ids:
            self._json += b", " * bool(self._ids) + ", ".join(map(str, ids)).encode()
            self._ids += ids

    def answered(self, ids: list[int], text: str, tokens: int) -> bool:
        exact = len(ids) == tokens
        if not exact and self.files.tokenizer is not None:
            ids = list(self.files.tokenizer(text, add_special_tokens=False).input_ids)
        self._add(ids)
        self._computed = max(0, len(self._ids) - 1)  # the last token was drawn, and never went through the model
        return exact

    def _forget(self) -> None:
        self._computed = 0


class _Messages(History):
    """Prompts of messages; an answer's thinking does not stand in the next."""

    def __init__(self, files: RequestFile, session: int) -> None:
        super().__init__(files, session)
        self._messages: list[Mapping[str, Any]] = []
        self._rendered = files.rendered()
        self._computed = 0
        self._was = 0  # tokens of the prompt before
        self._answer = 0  # and of its answer's content
        template = files.plan.template_adds
        self._inside = template if files.plan.load.template_tokens == "inside" else 0

    def ask(self, turn: Turn) -> Asked:
        if turn.keep is not None:  # tokens cannot be cut out of messages: the session goes on with what is new alone
            self._messages, self._was, self._answer, self._computed = [], 0, 0, 0
        history = self._was + self._answer
        if turn.messages:
            new = [dict(message) for message in turn.messages]
            if not self._messages:
                new[0]["content"] = f"{self._text(self._new(2))} {new[0]['content']}"
            self._messages += new
        else:
            count = max(1, turn.new - self._inside)
            self._messages.append({"role": "user", "content": self._text(self._new(count))})
        tokens = self._rendered(self._messages) if self._rendered is not None else -1
        asked = Asked(self.files.dialect.prompt_of("", self._messages), tokens, history, self._computed)
        self._was, self._answer, self._computed = tokens, 0, tokens
        return asked

    def answered(self, ids: list[int], text: str, tokens: int) -> bool:
        self._messages.append({"role": "assistant", "content": text})
        self._answer = len(self.files.tokenizer(text, add_special_tokens=False).input_ids)
        whole = self._answer == tokens  # else part of it was thinking, or it would be cut into other tokens
        self._computed = self._was + (max(0, tokens - 1) if whole else 0)
        return whole

    def _text(self, ids: list[int]) -> str:
        return exact_text(self.files.tokenizer, ids, special=False)

    def _forget(self) -> None:
        self._computed = 0


def new_history(files: RequestFile, session: int) -> History:
    """An empty one, of the endpoint's kind."""
    return (_Messages if files.plan.load.chat else _Ids)(files, session)


def said_in(body: bytes, dialect: Dialect) -> tuple[list[int], str]:
    """The token ids of a streamed answer, as far as the server gives them, and its text without thinking."""
    ids: list[int] = []
    texts: list[str] = []
    for choice in _choices(body):
        ids += choice.get("token_ids") or []
        texts.append(str((choice.get("delta") or {}).get("content") or choice.get("text") or ""))
    return ids, "".join(texts)


def _choices(body: bytes) -> Iterator[dict[str, Any]]:
    for _, data in split_events(body):
        if data.strip() in (b"[DONE]", b""):
            continue
        try:
            event = orjson.loads(data)
        except json.JSONDecodeError:
            continue  # the answer has been judged: such an event made it fail
        yield from (event.get("choices") or ())[:1]
