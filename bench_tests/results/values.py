"""Values of untrusted files in plain types: what is none of the kind that is asked for is nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["count_of", "first_of", "list_of", "map_of", "number_of", "text_of"]

_NAME_CHARS = 200


def number_of(value: object) -> float | None:
    """A finite number, or None: bools, strings, NaN and infinities are no figures."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def count_of(value: object) -> int | None:
    number = number_of(value)
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        number = float(value)
    return int(number) if number is not None and 0 <= number < 1e12 and number == int(number) else None


def text_of(value: object) -> str:
    return value[:_NAME_CHARS] if isinstance(value, str) else ""


def map_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def list_of(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def first_of(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
