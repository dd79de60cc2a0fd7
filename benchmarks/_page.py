"""Puts what a benchmark printed into its place in docs/statistics.md."""

from __future__ import annotations

from pathlib import Path

__all__ = ["put"]


def put(docs: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two markers of the page. Raises ValueError where they do not stand there once."""
    page = docs / "statistics.md"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
