"""How results are written: whole or not at all, so that no half one is ever there."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench_tests.errors import NotMeasured

__all__ = ["write_bytes", "write_result"]


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
