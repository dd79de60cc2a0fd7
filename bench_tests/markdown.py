"""Tables as Markdown that can be read in a terminal as well."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["markdown"]


def markdown(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
    """A Markdown table whose columns line up in plain text as well."""
    widths = [max(3, *(len(line[i]) for line in (columns, *rows))) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            c.ljust(w) if i in (0, len(columns) - 1) else c.rjust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[i] if i in (0, len(columns) - 1) else "-" * (widths[i] - 1) + ":" for i in range(len(columns))]
    return "\n".join([line(columns), f"| {' | '.join(rule)} |", *map(line, rows)])
