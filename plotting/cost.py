"""What a million output tokens cost against interactivity, one line per ISL; where a price of the GPUs was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plotting import style
from plotting.group import Group, isl_words
from plotting.lines import Series, draw_series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CostData", "cost_data", "draw_cost"]


@dataclass(frozen=True)
class CostData:
    """One line per ISL through its loads: x interactivity (tok/s/user), y the cost of a million output tokens."""

    title: str
    caption: str
    simulated: bool
    currency: str
    series: tuple[Series, ...]
    axis: str


def cost_data(group: Group) -> CostData | None:
    """None where no result has a cost, or several currencies do. Formula: interactivity = 1 / median TPOT."""
    series = []
    for isl in sorted({cell.isl for cell in group.cells}):
        at = [
            (1 / tpot, cost)
            for cell in group.cells
            if cell.isl == isl
            and (tpot := cell.metric("median_tpot"))
            and (cost := cell.metric("cost_per_million_output")) is not None
        ]
        if at:
            series.append(Series(isl_words(isl), isl, tuple(x for x, _ in at), tuple(y for _, y in at)))
    said = {
        str(cost.get("currency"))
        for point in group.points
        if "cost_per_million_output" in point.metrics and isinstance(cost := point.raw.get("cost"), dict)
    }
    if not series or len(said) != 1:
        return None
    return CostData(
        group.title, group.caption, group.simulated, said.pop(), tuple(series), group.axis.partition(" ")[0]
    )


def draw_cost(data: CostData, *, source: str = "") -> Figure:
    """Down is cheaper, right is faster for each user."""
    with style.house():
        figure, grid = style.figure(1, 1, width=11, height=6.4)
        axes = grid[0, 0]
        draw_series(figure, axes, data.series, "ISL (tokens)")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("interactivity = 1 / median TPOT (tok/s/user)")
        axes.set_ylabel(f"cost of a million output tokens ({style.plain(data.currency, 20)})")
        style.caption(
            figure,
            f"Cost against interactivity · {data.title}",
            (data.caption, f"Along each line the {data.axis} changes; better is down and to the right.", source),
            simulated=data.simulated,
        )
    return figure
