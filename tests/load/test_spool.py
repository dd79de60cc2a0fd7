"""What is kept of finished requests comes back whole, from memory and from disk, whatever the disk does."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.errors import NotMeasured
from bench_tests.load.worker.spool import Spool

ROOT = Path(__file__).resolve().parents[2]


@settings(deadline=None, max_examples=50)
@given(parts=st.lists(st.binary(max_size=40)), chunk=st.integers(1, 100))
def test_all_comes_back_in_order(parts: list[bytes], chunk: int) -> None:
    spool = Spool(chunk)
    for part in parts:
        spool.append(part)
    assert spool.read() == b"".join(parts)
    spool.close()


def test_a_small_amount_touches_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: pytest.fail("a file was made"))
    spool = Spool()
    spool.append(b"x" * 100_000)
    assert len(spool.read()) == 100_000


def test_memory_holds_a_chunk_at_most() -> None:
    spool = Spool(1000)
    for _ in range(100):
        spool.append(b"x" * 999)
        assert len(spool._tail) < 1000
    assert len(spool.read()) == 99_900
    assert not spool._unwritten
    assert spool._file is not None
    assert spool._file.seek(0, 2) >= 98_000
    spool.close()


def test_a_full_disk_loses_nothing() -> None:
    """In a process of its own, that may write no file beyond 64 kB: a write that fails half way, and all behind it."""
    code = """
import resource, signal
from bench_tests.load.worker.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
spool = Spool(30_000)
parts = [bytes([n]) * 10_000 for n in range(20)]
for part in parts:
    spool.append(part)
assert spool.read() == b"".join(parts)
assert spool._unwritten
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_a_temporary_folder_memory_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: Any) -> Any:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", none)
    spool = Spool(10)
    for _ in range(5):
        spool.append(b"x" * 20)
    assert spool.read() == b"x" * 100


def test_a_file_that_cannot_be_read_back_is_said() -> None:
    spool = Spool(10)
    spool.append(b"x" * 20)
    assert spool.read() == b"x" * 20
    assert spool._file is not None
    spool._file.truncate(5)
    with pytest.raises(NotMeasured, match=r"20 bytes of records were written and 5 could be read.*TMPDIR"):
        spool.read()
    spool.close()
