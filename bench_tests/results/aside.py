"""The files of one result, taken aside while its point is measured again, and put back where that came to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench_tests.results.write import write_bytes

__all__ = ["put_back", "taken_aside"]


def taken_aside(path: Path) -> dict[Path, bytes]:
    """The content of a result's file and of what stands under its name in the folder of records."""
    files = [path, *(path.parent / "records").glob(f"{path.stem}.*")]
    return {file: file.read_bytes() for file in files if file.is_file()}


def put_back(kept: Mapping[Path, bytes]) -> None:
    """As it was; the result last, since it names the others. Raises NotMeasured where that cannot be written."""
    for file, data in reversed(list(kept.items())):
        write_bytes(file, data)
