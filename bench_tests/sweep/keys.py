"""How a profile's key is checked: what it may be, in words for whoever wrote another thing there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import Field, field
from typing import Any

from bench_tests.errors import UsageError

__all__ = ["Check", "checked", "flag", "json_table", "key", "list_of", "maybe", "number", "one_of", "seed", "table",
           "table_of", "text", "whole"]  # fmt: skip

Check = Callable[[object, str], Any]


def whole(low: int, high: int = 10**9) -> Check:
    def check(value: object, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            most = f" and at most {high}" if high < 10**9 else ""
            raise UsageError(f"{where}: {value!r}; expected a whole number of at least {low}{most}")
        return value

    return check


def number(low: float, high: float = math.inf, *, above: bool = False) -> Check:
    def check(value: object, where: str) -> float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not fits or not low <= float(value) <= high or (above and float(value) == low):  # type: ignore[arg-type]
            bound = f"{'above' if above else 'of at least'} {low:g}" + (
                f" and at most {high:g}" if high < math.inf else ""
            )
            raise UsageError(f"{where}: {value!r}; expected a number {bound}")
        return float(value)  # type: ignore[arg-type]

    return check


def text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or any(ord(c) < 32 for c in value):
        raise UsageError(f"{where}: {value!r}; expected a text in quotes, not empty, without control characters")
    return value


def maybe(value: object, where: str) -> str:
    """A text that may be empty: how a derived profile takes back what its base says."""
    return "" if value == "" else text(value, where)


def flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{where}: {value!r}; expected true or false")
    return value


def one_of(*names: str) -> Check:
    def check(value: object, where: str) -> str:
        if value not in names:
            raise UsageError(f"{where}: {value!r}; expected one of {', '.join(names)}")
        return str(value)

    return check


def list_of(item: Check, *, unique: bool = False, may_be_empty: bool = True) -> Check:
    def check(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise UsageError(f"{where}: {value!r}; expected a list in [ ]")
        items = tuple(item(entry, f"{where}[{place}]") for place, entry in enumerate(value))
        if not items and not may_be_empty:
            raise UsageError(f"{where}: the list is empty; expected at least one value")
        if unique and len(set(items)) != len(items):
            raise UsageError(f"{where}: {value!r} holds a value twice; keep one of each")
        return items

    return check


def table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {value!r}; expected a table")
    return value


def json_table(value: object, where: str) -> dict[str, Any]:
    """A table that becomes JSON: TOML's dates and times, nan and inf have no place there."""
    found = table(value, where)
    for name, entry in found.items():
        _as_json(entry, f"{where}.{name}")
    return found


def _as_json(value: object, where: str) -> None:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in inside:
        _as_json(entry, f"{where}.{name}")
    if isinstance(value, dict | list | str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return
    raise UsageError(
        f"{where}: {value}; expected what JSON has: a text, a finite number, true or false, a list or a table"
    )


def table_of(names: Iterable[str], item: Check) -> Check:
    """A table with some of these names as keys, each value checked by `item`."""
    known = tuple(names)

    def check(value: object, where: str) -> dict[str, Any]:
        found = {}
        for name, entry in table(value, where).items():
            if name not in known:
                raise UsageError(f"{where}: {name!r} is none of {', '.join(known)}")
            found[name] = item(entry, f"{where}.{name}")
        return found

    return check


def seed(value: object, where: str) -> int | None:
    return None if value == "fresh" else whole(0, 2**63 - 1)(value, where)


def key(check: Check, default: Any, doc: str, *, shapes: bool = True) -> Any:
    """A profile key: how it is checked, what it is when nothing is said, and what it means.

    A key of [load] that `shapes` the load is in every result's settings, and results that differ in it are not
    comparable; the others only say how many requests there are, or how they are carried.
    """
    return field(default=default, metadata={"check": check, "doc": doc, "shapes": shapes})


def checked(spec: Field[Any], value: object, where: str) -> Any:
    """The value of a key after its check."""
    return spec.metadata["check"](value, where)
