"""How a key is kept out of what is written and printed. Imports nothing of this package."""

from __future__ import annotations

import functools
import re

__all__ = ["is_telling", "masked"]

_TELLING = 8  # characters


def is_telling(secret: str) -> bool:
    """Whether a secret is taken out of what is read as data too, and not of messages alone.

    A placeholder, such as the key `x` or `token` or a header's `1`, is no secret, and without it an answer is no JSON.
    """
    return len(secret) >= _TELLING


@functools.lru_cache(8)
def _pattern(secret: str) -> str:
    """The secret as it is, or with any of its characters escaped as JSON writers do: \\u002b, \\/ or \\"."""
    return "".join(rf"(?:\\u(?i:{ord(c):04x})|\\?{re.escape(c)})" for c in secret)


def masked(text: str, secret: str | None) -> str:
    """The text with the secret taken out, escaped or not."""
    return re.sub(_pattern(secret), "***", text) if secret else text
