"""A sweep's outcome as Markdown for a CI job's page, and as annotations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from bench_tests.compare.regression import SweepComparison
from bench_tests.compare.words import blind_line, change_line, comparison_lines
from bench_tests.figures import Figure
from bench_tests.measure.point import Measurement
from bench_tests.pytest_plugin.notes import verdict_lines
from bench_tests.pytest_plugin.table import gpus_words, label, table
from bench_tests.verdict.decide import ERROR, FAILED, PASSED

__all__ = ["github_annotations", "summary_markdown"]


def summary_markdown(
    measurements: Sequence[Measurement],
    comparison: SweepComparison | None,
    baseline: Path | str | None,
    pictures: Sequence[Path],
    further: Sequence[Figure] = (),
    folder: Path | None = None,
) -> str:
    """The verdicts, what changed against the baseline, and the pictures.

    `folder`: where the summary will lie, for links that hold wherever both are taken together; None: a page that can
    show no file of this machine, such as a job's on GitHub, which is told the names.
    """
    counts = {word: sum(m.verdict.word == word for m in measurements) for word in (PASSED, FAILED, ERROR)}
    lines = ["## LLM serving benchmark", "", ", ".join(f"{n} {word}" for word, n in counts.items() if n), ""]
    if measurements:
        server = measurements[0].result.get("server") or {}
        simulated = " **SIMULATED**" if server.get("simulated") else ""
        lines += [
            f"{server.get('model')} on {server.get('engine')} {server.get('version')}, {gpus_words(server.get('gpus'))}{simulated}",
            "",
        ]
        lines += [str(table(measurements, further)), ""]
    for word, name, message in verdict_lines([(label(m), m) for m in measurements]):
        lines.append(f"- **{word}** {name}: {message}")
    if comparison is not None:
        lines += ["", f"### Against {baseline}", "", *comparison_lines(comparison)]
    if pictures:
        lines += ["", "### Pictures", "", *(_picture(path, folder) for path in pictures)]
    return "\n".join(lines).rstrip() + "\n"


def _picture(path: Path, folder: Path | None) -> str:
    if folder is None:
        return f"- `{path.name}`"
    link = quote(Path(os.path.relpath(path, folder)).as_posix())
    return f"![{path.stem}]({link})" if path.suffix in (".png", ".svg") else f"- [{path.name}]({link})"


def github_annotations(measurements: Sequence[Measurement], comparison: SweepComparison | None) -> list[str]:
    """GitHub workflow commands: an error for each breach and regression, a warning for each point not measured."""
    lines = []
    for m in measurements:
        if m.verdict.word != PASSED:
            level = "error" if m.verdict.word == FAILED else "warning"
            lines.append(
                f"::{level} title={_escape(f'{m.verdict.word} {label(m)}', True)}::{_escape('; '.join(m.verdict.messages))}"
            )
    for change in comparison.regressions if comparison else ():
        title = _escape(f"regression {change.point or 'sweep'}", True)
        lines.append(f"::error title={title}::{_escape(change_line(change))}")
    if comparison is not None and comparison.blind:
        lines.append(f"::warning title=cannot tell::{_escape(blind_line(comparison.blind))}")
    return lines


def _escape(text: str, in_property: bool = False) -> str:
    """A server's words must not become workflow commands."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if in_property else text
