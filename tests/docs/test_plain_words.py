"""Messages, docstrings and pages use the field's words; CONTRIBUTING.md has the list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# what is not written, and what is written instead
INSTEAD = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bKnows\b": "Depends on …, or nothing",
    r"\b(go|goes|gone) by\b": "follow; unreliable",
    r"\bblur(s|red|ring)?\b(?!$)": "timestamp uncertainty",
    r"\bheld back\b|\bholds? (it )?back\b": "starved of CPU (a process), delayed (a request)",
    r"\bsame question\b": "comparable",
    r"\b(budget|requests) (is|are) spent\b": "exhausted",
    r"\(kept\)": "reused",
    r"\btwo looks\b|\beach look at\b": "polls",
}
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])


def texts() -> Iterator[tuple[str, str]]:
    """Where and what: each string of the packages (docstrings and messages) and each line of the pages, code left out."""
    for path in sorted([*ROOT.glob("bench_tests/**/*.py"), *ROOT.glob("plotting/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value
    for path in PAGES:
        fenced = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            fenced ^= line.startswith("```")
            if not fenced:
                yield f"{path.relative_to(ROOT)}:{number}", re.sub(r"`[^`]*`", "", line)


@pytest.mark.parametrize("word", INSTEAD)
def test_a_private_word_is_not_written(word: str) -> None:
    found = [f"{where}: {re.search(word, text).group(0)}" for where, text in texts() if re.search(word, text)]  # type: ignore[union-attr]
    assert found == [], f"write {INSTEAD[word]!r}"


def test_the_list_stands_in_contributing() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    for instead in INSTEAD.values():
        assert instead in page, f"CONTRIBUTING.md says nothing of {instead!r}"


def test_the_search_finds_what_stands_there() -> None:
    assert sum("bench_tests/" in where for where, _ in texts()) > 1000
    assert re.search(r"\bmend(s|ed|ing)?\b", "look, and mend it")
