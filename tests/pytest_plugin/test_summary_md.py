"""The Markdown summary: its pictures are found from where it lies."""

from __future__ import annotations

from pathlib import Path

from bench_tests.pytest_plugin.ci import summary_markdown


def test_pictures_are_shown_and_pages_linked_from_the_summarys_folder(tmp_path: Path) -> None:
    drawn = [tmp_path / "my results" / "plots" / name for name in ("report.html", "frontier.png")]
    text = summary_markdown([], None, None, drawn, folder=tmp_path)
    assert "- [report.html](my%20results/plots/report.html)" in text
    assert "![frontier](my%20results/plots/frontier.png)" in text
    assert "](../my%20results/plots/frontier.png)" in summary_markdown([], None, None, drawn, folder=tmp_path / "ci")


def test_a_page_elsewhere_is_told_their_names_alone(tmp_path: Path) -> None:
    text = summary_markdown([], None, None, [tmp_path / "frontier.png"])
    assert "frontier.png" in text
    assert str(tmp_path) not in text
