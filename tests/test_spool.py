"""What is kept of finished requests comes back whole, from memory and from disk, or the run says that it did not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.errors import NotMeasured
from bench_tests.load.spool import Spool


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
    spool.close()


def test_a_full_disk_is_said_and_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> Any:
        return Path("/dev/full").open("r+b", buffering=0)

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    spool = Spool(10)
    spool.append(b"x" * 20)
    with pytest.raises(NotMeasured, match=r"No space left.*TMPDIR"):
        spool.read()
    spool.close()
