"""The per-request records beside a result, read as what they may be: somebody else's file."""

from __future__ import annotations

import zipfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench_tests.errors import UsageError

if TYPE_CHECKING:
    from bench_tests.load.records import Records

__all__ = ["load_records"]

_MOST_BYTES = 2**30  # unpacked; a million requests of 128 events are about as much


def load_records(path: Path) -> Records:
    """The records in `path`. Raises UsageError when they are none, too large, or not columns of numbers."""
    from bench_tests.load.records import Records

    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(member.file_size for member in packed.infolist())
        if size > _MOST_BYTES:
            raise UsageError(f"{path}: {size} bytes unpacked, at most {_MOST_BYTES} are read; no picture of this point")
        records = Records.load(path)
        for field in fields(Records):
            column = getattr(records, field.name)
            numbers = column.dtype.kind in "fiub"
            if column.ndim != 1 or not (numbers or field.name == "error"):
                raise UsageError(f"{path}: {field.name} is no column of numbers; measure the point again")
        if np.any(records.events < 0):
            raise UsageError(f"{path}: events below zero; measure the point again")
    except (OSError, zipfile.BadZipFile, MemoryError, TypeError, AttributeError, NotImplementedError) as why:
        raise UsageError(f"{path}: not a records file of this suite ({why}); measure the point again") from why
    return records
