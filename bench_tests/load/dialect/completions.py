"""/v1/completions: a prompt as token ids or text; an event's token is its choice's `text`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.dialect.base import ANSWER, NOTHING, Dialect, Parts, by_text
from bench_tests.load.dialect.chat import CHAT

__all__ = ["COMPLETIONS"]


class _Completions(Dialect):
    name = "completions"
    path = "/v1/completions"
    prompt_key = "prompt"
    event = by_text(b"text")
    text_alone = False
    tells_thinking = False

    def prompt_of(self, text: str, messages: Sequence[Mapping[str, Any]] = ()) -> bytes:
        return json.dumps(text).encode()

    def said(self, choice: dict[str, Any]) -> tuple[int, str]:
        if "text" not in choice and "delta" in choice:  # a gateway that answers with a chat's events
            part, text = CHAT.said(choice)
            return ANSWER if part else NOTHING, text
        text = str(choice.get("text") or "")
        return ANSWER if text else NOTHING, text

    def template(self, choice: dict[str, Any], key: bytes) -> int | None:
        return ANSWER if isinstance(choice["text"], str) else None

    def token_events(self, parts: Parts, tokens: int) -> NDArray[np.bool_]:
        """One without text may be a token that is no whole character yet, or none at all: a late finish_reason.

        Where there are more events than tokens, those without text in front of the first with text (signs of life while a
        request waits) and at the last place are none; if there are too many still, or nobody says how many tokens, only
        those with text count. Where there are fewer, the server groups tokens, and the same are none, unless most events
        behind the first text have none either.
        """
        seen = len(parts)
        counts = np.ones(seen, np.bool_)
        empty = np.flatnonzero(parts == NOTHING)
        if not len(empty) or len(empty) == seen or tokens == seen:
            return counts
        first, last = np.flatnonzero(parts != NOTHING)[[0, -1]]
        edges = empty[(empty < first) | (empty == seen - 1)]
        if seen < tokens:
            between = int(((empty > first) & (empty < last)).sum())
            empty = edges[:0] if 2 * between >= last - first + 1 else edges
        elif seen - len(edges) <= tokens:
            empty = edges
        counts[empty] = False
        return counts


COMPLETIONS = _Completions()
