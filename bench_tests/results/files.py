"""Result files: their names, how they are written so that no half one is ever there, and how they are read.

Knows points and the errors.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench_tests.errors import NotMeasured, UsageError
from bench_tests.sweep.point import Point

__all__ = [
    "SCHEMA_VERSION",
    "read_result",
    "read_results",
    "result_name",
    "same_measurement",
    "write_bytes",
    "write_result",
]

SCHEMA_VERSION = 1
MAX_BYTES = 64 << 20  # a result has some 10 kB
# what makes two results comparable point by point: the same question to the same server
SERVER_KEYS = (
    "model",
    "engine",
    "version",
    "gpus",
    "tensor_parallel",
    "data_parallel",
    "pipeline_parallel",
    "simulated",
)


def result_name(profile: str, engine: str, tp: int, point: Point, run: int = 1) -> str:
    """`kimi_k2_vllm_tp8_isl4096_osl128_conc16`, with `_run2` for a repetition; without the ending."""
    again = f"_run{run}" if run > 1 else ""
    return f"{profile}_{engine}_tp{tp}_isl{point.isl}_osl{point.osl}_conc{point.conc}{again}"


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result whole or not at all. Numbers that JSON has no word for become null. Raises NotMeasured."""
    write_bytes(path, (json.dumps(_plain(result), indent=1, ensure_ascii=False) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: beside its place, flushed to the disk, then renamed. Raises NotMeasured."""
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as out:
            beside = out.name
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(beside, 0o644 & ~_umask())
        os.replace(beside, path)
    except OSError as why:
        if beside is not None:
            Path(beside).unlink(missing_ok=True)
        raise NotMeasured(f"results cannot be written to {path}: {why.strerror}; choose another --results-dir") from why


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _plain(value: Any) -> Any:
    """The value in JSON's own types: numpy scalars and the like would end a report, NaN would end its readers."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | str):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def read_result(path: Path) -> dict[str, Any]:
    """Read one result. Raises UsageError that names the file when it is none; lacking keys are its reader's business."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: larger than any result ({path.stat().st_size} bytes)")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as why:
        raise UsageError(f"{path}: {why.strerror}; expected a readable result file") from why
    except (ValueError, RecursionError) as why:
        raise UsageError(f"{path}: not a result: {why}") from why
    if not isinstance(data, dict) or "completed" not in data:
        raise UsageError(f"{path}: not a result: it says nothing of completed requests")
    version = data.get("schema_version", 0)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise UsageError(f"{path}: schema_version {version!r} is newer than this suite's {SCHEMA_VERSION}; update it")
    return data


def read_results(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | UsageError]]:
    """Every .json file of a folder with its result, or with why it is none. Raises UsageError without a folder."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected one with result files")
    for path in sorted(folder.glob("*.json")):
        if path.name.startswith(".") or path.name == "report.json":
            continue
        try:
            yield path, read_result(path)
        except UsageError as why:
            yield path, why


def same_measurement(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """In what two results differ that makes them answers to other questions, in words; empty when they compare."""
    differences = []
    for part, keys in (("server", SERVER_KEYS), ("settings", None)):
        a, b = one.get(part), other.get(part)
        if not isinstance(a, Mapping) or not isinstance(b, Mapping):
            continue
        for key in keys or sorted({*a, *b}):
            if a.get(key) != b.get(key):
                differences.append(f"{part} {key}: {a.get(key)!r} and {b.get(key)!r}")
    return differences
