"""What another program says, made fit for a terminal, a Markdown file and a report: short, and without its controls."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["MAX_QUOTE", "harmless", "quoted"]

MAX_QUOTE = 200  # characters of another program's words in a message of ours


def harmless(text: str) -> str:
    """The text with each control character (and what else no terminal should obey) as a space, runs of them as one."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def quoted(said: bytes | str, limit: int = MAX_QUOTE) -> str:
    """A server's own words, short: the message of a JSON error, else the beginning of the text; "" for nothing.

    Errors come as {"error": {"message": ...}}, {"error": ...}, {"message": ...} and {"detail": [{"loc": ..., "msg": ...}]}.
    """
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    try:
        text = _message(json.loads(text)) or text
    except (ValueError, RecursionError):
        pass
    text = harmless(text[: 20 * limit])
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _message(said: Any) -> str:
    for name in ("error", "message", "detail", "msg"):
        if isinstance(said, dict) and said.get(name):
            inner = said[name]
            if isinstance(inner, str):
                return inner
            if isinstance(inner, list):
                return "; ".join(filter(None, (_detail(part) for part in inner[:8])))
            return _message(inner)
    return ""


def _detail(part: Any) -> str:
    if isinstance(part, dict) and isinstance(part.get("loc"), list):
        return f"{'.'.join(str(place) for place in part['loc'])}: {part.get('msg', '')}"
    return part if isinstance(part, str) else _message(part)
