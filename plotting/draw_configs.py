"""Draws and writes what decides between the configurations of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench_tests.errors import UsageError
from bench_tests.results.schema import PointResult, Results
from plotting import style
from plotting.configs import MEASURES, families, hull_data
from plotting.configs_draw import draw_decision, draw_hull, draw_slo_frontier
from plotting.decision import decide, decision_table

__all__ = ["draw_families", "of_configs"]

_MOST_ISLS = 40


def draw_families(
    points: Sequence[PointResult],
    output_dir: Path,
    tiers: Mapping[str, Sequence[float]] | None = None,
    source: str = "",
    suffix: str = ".png",
) -> list[Path]:
    """The decision as picture and as decision.md, the SLO frontier, and for several configurations a Pareto an ISL.

    A trace and a dataset have no ISL to decide by: they are left out.
    """
    files: list[Path] = []
    tables: list[str] = []
    every = [family for family in families(points) if any(family.isls)]
    for family in every:
        tail = f"-{family.slug}" if len(every) > 1 else ""
        data = decide(family, tiers)
        if not data.slos or data.unmeasured == data.points:
            continue
        files.append(style.save(draw_slo_frontier(data, source=source), output_dir / f"slo-frontier{tail}{suffix}"))
        tables.append(decision_table(data))
        shown = [files[-1]]
        if len(family.configs) > 1:
            shown.append(style.save(draw_decision(data, source=source), output_dir / f"decision{tail}{suffix}"))
            files.append(shown[-1])
        if suffix != ".pdf":  # relative, so that GitHub and the folder's next place show them as well
            tables += [f"![{path.stem}]({path.name})" for path in shown]
        if len(family.configs) < 2:
            continue
        for isl in family.isls[:_MOST_ISLS]:
            for measure in MEASURES:
                if hull := hull_data(family, isl, measure):
                    figure = draw_hull(hull, family.caption(), simulated=family.simulated, source=source)
                    files.append(style.save(figure, output_dir / f"pareto-isl{isl}{measure.slug}{tail}{suffix}"))
    if tables:
        path = output_dir / "decision.md"
        path.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
        files.append(path)
    return files


def of_configs(results: Results, names: Sequence[str]) -> list[Results]:
    """The results of each named configuration as a run of its own, in that order. Raises UsageError for an unknown name."""
    by_name: dict[str, list[PointResult]] = {}
    for family in families(results.points):
        for config in family.configs:
            by_name.setdefault(config.name, []).extend(config.group.points)
    for name in names:
        if name not in by_name:
            raise UsageError(f"--config {name}: {results.folder} has {', '.join(sorted(by_name))}; name one of these")
    return [
        replace(
            results,
            folder=results.folder / name,
            points=tuple(by_name[name]),
            left_out=(),
            files=len({p.source for p in by_name[name]}),
        )
        for name in names
    ]
