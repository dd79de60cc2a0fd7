"""/v1/chat/completions: messages; an event's token is its delta's content, thinking or tool call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.dialect.base import ANSWER, NOTHING, THINKING, Dialect, Parts, by_text

__all__ = ["CHAT"]

_THINKING = ("reasoning", "reasoning_content")


def _tells(said: Any) -> bool:
    """Whether a tool call says anything: an id, a name or a part of its arguments, of whatever kind."""
    if isinstance(said, dict):
        return any(_tells(value) for name, value in said.items() if name not in ("index", "type"))
    return bool(said)


class _Chat(Dialect):
    name = "chat"
    path = "/v1/chat/completions"
    prompt_key = "messages"
    event = by_text(b"content", b"reasoning", b"reasoning_content")
    text_alone = True
    tells_thinking = True

    def prompt_of(self, text: str, messages: Sequence[Mapping[str, Any]] = ()) -> bytes:
        return json.dumps(list(messages) or [{"role": "user", "content": text}]).encode()

    def said(self, choice: dict[str, Any]) -> tuple[int, str]:
        """Content and tool calls are the answer, also where the same event ends the thinking; a role alone is nothing, and
        so is a call without a name and arguments.
        """
        delta = choice.get("delta") or {}
        content, calls = delta.get("content"), delta.get("tool_calls")
        if isinstance(calls, list) and not any(_tells(call) for call in calls):
            calls = None
        thought = next((delta[key] for key in _THINKING if delta.get(key)), "")
        part = ANSWER if content or calls else THINKING if thought else NOTHING
        return part, f"{thought}{content or ''}{calls or ''}"

    def template(self, choice: dict[str, Any], key: bytes) -> int | None:
        delta, name = choice["delta"], key[1:-3].decode()
        others = any(delta.get(other) for other in ("content", "tool_calls", *_THINKING) if other != name)
        if others or not isinstance(delta[name], str):
            return None
        return ANSWER if name == "content" else THINKING

    def token_events(self, parts: Parts, tokens: int) -> NDArray[np.bool_]:
        """Those that carry something: a role, or a finish_reason alone, is no token."""
        return np.asarray(parts != NOTHING)


CHAT = _Chat()
