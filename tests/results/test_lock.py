"""Two sweeps into one folder: the second is told, and whatever ends the first frees the folder."""

from __future__ import annotations

from pathlib import Path

from bench_tests.results.lock import FolderLock


def test_a_second_sweep_is_told_who_has_the_folder(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "r"), FolderLock(tmp_path / "r")
    assert first.take() == ""
    assert "process" in second.take()
    first.release()
    assert second.take() == ""
    second.release()
    assert list((tmp_path / "r").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_no_matter_of_the_lock(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert FolderLock(tmp_path / "file" / "r").take() == ""
