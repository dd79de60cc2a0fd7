"""Loads that are mixed: requests for several models, and requests that are cancelled on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.sweep.keys import number
from bench_tests.sweep.units import parse_duration_s

__all__ = ["cancel_table", "models_table"]


def models_table(value: object, where: str) -> dict[str, float]:
    """Weights by model, each above 0. Raises UsageError."""
    if not isinstance(value, Mapping) or any(not name.strip() for name in value):
        raise UsageError(f"{where}: {value!r}; expected weights by model such as {{base = 0.7, adapter = 0.3}}")
    return {str(name): number(0, above=True)(weight, f"{where}.{name}") for name, weight in value.items()}


def cancel_table(value: object, where: str) -> dict[str, float]:
    """`share` of the requests and `after` how long, seconds. Raises UsageError."""
    if not isinstance(value, Mapping) or (value and set(value) != {"share", "after"}):
        raise UsageError(f'{where}: {value!r}; expected a table such as {{share = 0.1, after = "2s"}}')
    if not value:
        return {}
    share: Any = number(0, 1, above=True)(value["share"], f"{where}.share")
    return {"share": share, "after": parse_duration_s(value["after"], f"{where}.after")}
