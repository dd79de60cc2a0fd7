"""One real session of the experiment behind the documented table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.confident_sessions import session


@pytest.mark.sessions
@pytest.mark.parametrize(("factor", "word"), [(1.2, "PASS"), (0.8, "FAIL")])
def test_a_session_at_concurrency_64_finds_what_is_there(tmp_path: Path, factor: float, word: str) -> None:
    found = session(tmp_path / "session", 64, 0.5, factor, seed=1)
    assert found.word == word, found.out[-3000:]
    assert 64 < found.requests <= 2000
