"""Public trace formats, each with its unit of time and its block of shared content fixed by the format."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench_tests.errors import UsageError
from bench_tests.load.workload.trace import Trace

__all__ = ["FORMATS", "read_trace"]

MAX_TOKENS = 10_000_000
FAILED = "no output tokens (a failed request)"
EMPTY = "no input tokens"


@dataclass(frozen=True)
class Row:
    """One request as a format says it; time in seconds of the format's own zero."""

    at_s: float
    input_tokens: int
    output_tokens: int
    hashes: Sequence[int] = ()


@dataclass(frozen=True)
class Format:
    """How a trace format is read: its rows, and how many tokens a hash stands for (0: it has none)."""

    rows: Callable[[str, str], Iterator[tuple[int, Row]]]  # (text, source) → line number and row
    block: int
    looks_like: Callable[[str], bool]  # by the first line


def _whole(value: object, where: str) -> int:
    try:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{where}: {value!r}; expected a whole number of tokens") from None
    if not 0 <= number <= MAX_TOKENS:
        raise UsageError(f"{where}: {value!r}; expected 0 to {MAX_TOKENS:,} tokens")
    return int(number)


def _seconds(value: object, where: str, unit_s: float = 1.0) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value) * unit_s  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{where}: {value!r}; expected a time as a number")
    return number


def _objects(text: str, source: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise UsageError(f"{source} line {number}: not JSON; expected one object a line") from None
        if not isinstance(found, dict):
            raise UsageError(f"{source} line {number}: {type(found).__name__}; expected one object a line")
        yield number, found


def _jsonl(unit_s: float) -> Callable[[str, str], Iterator[tuple[int, Row]]]:
    def rows(text: str, source: str) -> Iterator[tuple[int, Row]]:
        for number, found in _objects(text, source):
            where = f"{source} line {number}"
            for name in ("timestamp", "input_length", "output_length"):
                if name not in found:
                    raise UsageError(f"{where}: no {name!r}; expected timestamp, input_length, output_length, hash_ids")
            ids = found.get("hash_ids", [])
            if not isinstance(ids, list) or not all(type(one) is int and abs(one) < 2**63 for one in ids):
                raise UsageError(f"{where} hash_ids: expected a list of whole numbers")
            yield (
                number,
                Row(
                    _seconds(found["timestamp"], f"{where} timestamp", unit_s),
                    _whole(found["input_length"], f"{where} input_length"),
                    _whole(found["output_length"], f"{where} output_length"),
                    ids,
                ),
            )

    return rows


def _table(text: str, source: str, needed: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The rows of a CSV by the names in its header: files of one format differ in their columns' order."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = [(name or "").strip() for name in reader.fieldnames or []]
        reader.fieldnames = names
        missing = [name for name in needed if name not in names]
        if missing:
            raise UsageError(f"{source}: its header has no {', '.join(missing)}; it has {', '.join(names)[:200]}")
        for row in reader:
            if any(row.get(name) is None for name in needed):
                raise UsageError(f"{source} line {reader.line_num}: too few columns")
            yield reader.line_num, row
    except csv.Error as why:
        raise UsageError(f"{source}: not CSV: {why}") from None


def _burstgpt(text: str, source: str) -> Iterator[tuple[int, Row]]:
    names = ("Timestamp", "Request tokens", "Response tokens")
    for number, row in _table(text, source, names):
        where = f"{source} line {number}"
        yield (
            number,
            Row(
                _seconds(row["Timestamp"], f"{where} Timestamp"),
                _whole(row["Request tokens"], f"{where} Request tokens"),
                _whole(row["Response tokens"], f"{where} Response tokens"),
            ),
        )


_AZURE_TIME = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?")


def _azure_s(value: str, where: str) -> float:
    """Seconds since 1970. Seven digits of a second are more than datetime takes; the fraction is read by itself."""
    found = _AZURE_TIME.fullmatch(value.strip())
    try:
        if not found:
            raise ValueError
        moment = datetime.fromisoformat(found[1])
        zone = found[3] or "Z"
        offset = datetime.fromisoformat(f"2000-01-01T00:00:00{zone}").utcoffset()
        seconds = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except ValueError:
        raise UsageError(f"{where}: {value!r}; expected a time such as 2023-11-16 18:15:46.6805900") from None
    return (
        seconds - (offset.total_seconds() if offset else 0.0) + (int(found[2]) / 10 ** len(found[2]) if found[2] else 0)
    )


def _azure(text: str, source: str) -> Iterator[tuple[int, Row]]:
    for number, row in _table(text, source, ("TIMESTAMP", "ContextTokens", "GeneratedTokens")):
        where = f"{source} line {number}"
        yield (
            number,
            Row(
                _azure_s(row["TIMESTAMP"], f"{where} TIMESTAMP"),
                _whole(row["ContextTokens"], f"{where} ContextTokens"),
                _whole(row["GeneratedTokens"], f"{where} GeneratedTokens"),
            ),
        )


FORMATS: Mapping[str, Format] = {
    "mooncake": Format(
        _jsonl(1e-3), 512, lambda line: '"hash_ids"' in line and '"timestamp"' in line and '"chat_id"' not in line
    ),
    "bailian": Format(_jsonl(1.0), 16, lambda line: '"chat_id"' in line and '"timestamp"' in line),
    "burstgpt": Format(_burstgpt, 0, lambda line: "Request tokens" in line and "Response tokens" in line),
    "azure": Format(_azure, 0, lambda line: "ContextTokens" in line and "GeneratedTokens" in line),
}


def read_trace(path: Path, format: str = "auto") -> Trace:
    """Read a trace of one of FORMATS; "auto" follows its first line. Raises UsageError that names the file and line."""
    source = f"--trace {path}"
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as why:
        raise UsageError(f"{source}: {why.strerror or why}; expected a readable trace") from None
    except UnicodeDecodeError:
        raise UsageError(f"{source}: not UTF-8 text; expected a trace ({', '.join(FORMATS)})") from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    if format == "auto":
        fitting = [name for name, known in FORMATS.items() if known.looks_like(first)]
        if len(fitting) != 1:
            raise UsageError(
                f"{source}: its format is not plain from its first line; give --trace-format {'|'.join(FORMATS)}"
            )
        format = fitting[0]
    if format not in FORMATS:
        raise UsageError(f"--trace-format {format!r}: expected one of {', '.join(FORMATS)}")
    known = FORMATS[format]
    left_out: Counter[str] = Counter()
    rows: list[Row] = []
    for number, row in known.rows(text, source):
        reason = EMPTY if row.input_tokens < 1 else FAILED if row.output_tokens < 1 else ""
        if reason:
            left_out[reason] += 1
            continue
        most = -(-row.input_tokens // known.block) if known.block else 0
        if len(row.hashes) > most:
            raise UsageError(
                f"{source} line {number}: {len(row.hashes)} hash_ids for {row.input_tokens} tokens; blocks of "
                f"{known.block} make at most {most}. Is it of another format? ({', '.join(FORMATS)})"
            )
        rows.append(row)
    if not rows:
        raise UsageError(f"{source}: no request in it that could be sent")
    order = sorted(range(len(rows)), key=lambda i: rows[i].at_s)  # stable: equal times keep the file's order
    rows = [rows[i] for i in order]
    times = np.array([row.at_s for row in rows])
    counts = np.array([len(row.hashes) for row in rows], np.int64)
    return Trace(
        format=format,
        source=str(path),
        digest=hashlib.sha256(data).hexdigest()[:16],
        arrival_s=times - times[0],
        input_tokens=np.array([row.input_tokens for row in rows], np.int64),
        output_tokens=np.array([row.output_tokens for row in rows], np.int64),
        block=known.block if counts.any() else 0,
        hashes=np.fromiter((one for row in rows for one in row.hashes), np.int64, int(counts.sum())),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64) if counts.any() else np.zeros(1, np.int64),
        left_out=dict(left_out),
    )
