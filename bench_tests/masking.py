"""How a key is kept out of what is written and printed. Imports nothing of this package."""

from __future__ import annotations

import functools
import re

__all__ = ["masked", "masked_bytes"]


@functools.lru_cache(8)
def _pattern(secret: str) -> str:
    """The secret as it is, or with any of its characters escaped as JSON writers do: \\u002b, \\/ or \\"."""
    return "".join(rf"(?:\\u(?i:{ord(c):04x})|\\?{re.escape(c)})" for c in secret)


def masked(text: str, secret: str | None) -> str:
    """The text with the secret taken out, escaped or not."""
    return re.sub(_pattern(secret), "***", text) if secret else text


def masked_bytes(data: bytes, secret: str | None) -> bytes:
    """The same of bytes."""
    return re.sub(_pattern(secret).encode(), b"***", data) if secret else data
