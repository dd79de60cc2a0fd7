"""Numbers with units, as people write them: `2s`, `50ms`, `inf`."""

from __future__ import annotations

import math
import re

from bench_tests.errors import UsageError

__all__ = ["format_apart", "format_range", "format_s", "parse_duration_s", "parse_rate", "rate_word"]

_SCALE = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0}
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?\d+)?)\s*(us|µs|ms|s|min|m|h|)\s*")


def parse_duration_s(value: object, where: str) -> float:
    """Seconds from `2s`, `50ms`, `1.5` (seconds), `10min`. Raises UsageError that names `where`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if not found:
            raise UsageError(f"{where}: {value!r} is not a duration; expected a form such as 2s, 50ms or 1.5")
        seconds = float(found.group(1)) * _SCALE[found.group(2)]
    if not math.isfinite(seconds) or seconds <= 0:
        raise UsageError(f"{where}: {value!r} must be more than zero and finite")
    return seconds


def parse_rate(value: object, where: str) -> float:
    """Requests per second: a positive number, or `inf` for as fast as the concurrency allows."""
    try:
        rate = float(value)  # type: ignore[arg-type]  # what float() refuses is answered below
    except (TypeError, ValueError):
        rate = math.nan
    if isinstance(value, bool) or math.isnan(rate) or rate <= 0:
        raise UsageError(f"{where}: {value!r} is not a request rate; expected a number above 0 (per second) or inf")
    return rate


def rate_word(rate: float) -> float | str:
    """A rate as results say it: JSON has no infinite number."""
    return "inf" if math.isinf(rate) else rate


def format_s(seconds: float | None) -> str:
    """A duration with three or four significant digits and a fitting unit: `1.600 s`, `45.2 ms`, `–` for none."""
    if seconds is None or math.isnan(seconds):
        return "–"
    if seconds >= 1:
        return f"{seconds:.3f} s" if seconds < 100 else f"{seconds:.0f} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e6:.0f} µs"


def _unit(seconds: float) -> tuple[float, str]:
    return (1.0, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "µs")


def format_range(low: float | None, high: float | None) -> str:
    """`9.98 to 10.1 ms`, `1.41 to 1.83 s`, `9.98 ms to –`: both ends in one unit, that of the larger; None is open."""
    known = [end for end in (low, high) if end is not None]
    scale, unit = _unit(max(known, default=0.0))
    ends = ["–" if end is None else f"{end * scale:.3g}" for end in (low, high)]
    return f"{ends[0]} to {ends[1]} {unit}" if high is not None or low is None else f"{ends[0]} {unit} to –"


def format_apart(value: float, limit: float) -> tuple[str, str]:
    """Two durations as format_s has them, with as many digits more as it takes to see which is larger."""
    shown = format_s(value), format_s(limit)
    scale, unit = _unit(limit)
    digits = 4
    while shown[0] == shown[1] and value != limit and digits < 17:
        digits += 1
        shown = f"{value * scale:.{digits}g} {unit}", f"{limit * scale:.{digits}g} {unit}"
    return shown
