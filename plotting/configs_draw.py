"""The pictures that decide: throughput against interactivity, the SLO frontier, and who is best within which limits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from plotting import style
from plotting.configs import Hull
from plotting.decision import Decision, share
from plotting.group import isl_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_decision", "draw_hull", "draw_slo_frontier"]

_MOST_ISLS = 16  # rows of a decision
_KINDS = (style.BLUE, style.ORANGE, style.GREEN, style.RED, "#cc79a7", "#56b4e9", "#7a5c00", "#444444")


def _look(at: int) -> tuple[str, str]:
    return _KINDS[at % len(_KINDS)], style.MARKERS[at % len(style.MARKERS)]


def draw_hull(data: Hull, caption: str, *, simulated: bool, source: str = "") -> Figure:
    """One line a configuration; the frontier is ringed and joined, its points named with configuration and load."""
    with style.house():
        figure, grid = style.figure(1, 1, width=9.5, height=6.6)
        axes = grid[0, 0]
        for i, (name, line) in enumerate(zip(data.names, data.lines, strict=True)):
            colour, marker = _look(i)
            if line:
                x, y = [p[0] for p in line], [p[1] for p in line]
                axes.plot(x, y, color=colour, marker=marker, label=style.plain(name, 32), zorder=3)
        best = sorted((data.lines[i][j], i, j) for i, j in data.best)
        # down and across: between two points of the frontier nothing better was measured
        x, y = [p[0] for p, *_ in best], [p[1] for p, *_ in best]
        axes.step(x, y, where="pre", color=style.INK, linewidth=6, alpha=0.16, zorder=2, label="frontier")
        axes.scatter(x, y, s=170, facecolor="none", edgecolor=style.INK, linewidth=1.4, zorder=4)
        every = [p for line in data.lines for p in line]
        axes.set_xlim(0, 1.3 * max(p[0] for p in every))
        axes.set_ylim(0, 1.14 * max(p[1] for p in every))
        axes.set_xlabel("interactivity = 1 / median TPOT (tok/s/user)")
        whole = data.measure.label.replace(" per GPU (tok/s/GPU)", ", whole server (tok/s)")
        axes.set_ylabel(data.measure.label if data.per_gpu else whole)
        style.legend(
            axes, "", columns=min(3, len(data.names) + 1), loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2
        )  # fmt: skip
        note = (
            f"{len(every)} points of {sum(map(bool, data.lines))} configurations, {len(best)} of them on the frontier (ringed): no other is "
            f"better in both. Axes from 0; better is up and to the right."
        )
        style.caption(
            figure, f"Which configuration · {isl_words(data.isl)} · {data.title}".strip(" ·"), (caption, note, source),
            simulated=simulated,
        )  # fmt: skip
        hidden = _name_points(figure, axes, data)
        if hidden:
            assert figure._supxlabel is not None  # type: ignore[attr-defined]
            more = f" {hidden} loads have no room for their label."
            figure._supxlabel.set_text(figure._supxlabel.get_text() + more)  # type: ignore[attr-defined]
    return figure


def _name_points(figure: Figure, axes: Axes, data: Hull) -> int:
    """Each point's label where it covers no point and no other label, and no line if it can; returns how many found no room."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    scale = figure.dpi / 72
    places = [(i, j) for i, line in enumerate(data.lines) for j in range(len(line))]
    places.sort(key=lambda place: place not in data.best)  # the frontier's first
    at = {(i, j): axes.transData.transform(data.lines[i][j][:2]) for i, j in places}
    taken = [(x - 7 * scale, y - 7 * scale, x + 7 * scale, y + 7 * scale) for x, y in at.values()]
    on_lines = [
        (a + (c - a) * k / 40, b + (d - b) * k / 40)
        for i, line in enumerate(data.lines)
        for j in range(len(line) - 1)
        for (a, b), (c, d) in [(at[i, j], at[i, j + 1])]
        for k in range(41)
    ]
    frame = axes.get_window_extent(renderer).extents
    hidden = 0
    for i, j in places:
        on = (i, j) in data.best
        load = data.lines[i][j][2]
        label = axes.annotate(
            f"{style.plain(data.names[i], 22)} · {load}" if on and len(data.names) > 1 else load,
            data.lines[i][j][:2], xytext=(0, 0), textcoords="offset points", fontsize=11 if on else 9.5, zorder=6,
            fontweight="bold" if on else "normal", color=style.INK if on else _look(i)[0],
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
        label.set_in_layout(False)
        size = label.get_window_extent(renderer)
        free: list[tuple[int, float, float, tuple[float, float, float, float]]] = []
        for dx, dy in _spots(size.width / scale, size.height / scale):
            x, y = at[i, j][0] + dx * scale, at[i, j][1] + dy * scale
            box = (x - 1, y - 1, x + size.width + 1, y + size.height + 1)
            inside = frame[0] <= box[0] and box[2] <= frame[2] and frame[1] <= box[1] and box[3] <= frame[3]
            if inside and not any(_meet(box, other) for other in taken):
                crossed = sum(box[0] < a < box[2] and box[1] < b < box[3] for a, b in on_lines)
                free.append((crossed, dx, dy, box))
        if free:
            _, dx, dy, box = min(free, key=lambda spot: spot[0])  # of equals the nearest, which comes first
            label.set_position((dx, dy))
            taken.append(box)
        else:
            label.remove()
            hidden += 1
    return hidden


def _spots(wide: float, high: float) -> list[tuple[float, float]]:
    """Where a label's lower left corner may lie from its point, in points of type; near before far."""
    found = []
    for far in (9.0, 15.0, 24.0, 36.0):
        for side, up in ((1, 0.7), (1, -0.7), (1, 0), (-1, -0.7), (-1, 0.7), (-1, 0), (0, 1.1), (0, -1.1)):
            dx = far if side > 0 else -far - wide if side < 0 else -wide / 2
            dy = up * far - (high if up < 0 else high / 2 if up == 0 else 0)
            found.append((dx, dy))
    return found


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def draw_slo_frontier(data: Decision, *, source: str = "") -> Figure:
    """One panel for each pair of limits, the same for all: the best throughput within both by ISL, a line a configuration."""
    family, slos = data.family, data.slos[:6]
    with style.house():
        figure, grid = style.figure(len(slos), 1, width=9.5, height=1.9 + 2.6 * len(slos), sharex=True)
        top = max((choice.value for row in data.rows for choice in row.choices), default=1.0)
        for axes, slo in zip(grid[:, 0], slos, strict=True):
            rows = [data.row(isl, slo) for isl in family.isls]
            for i, config in enumerate(family.configs):
                colour, marker = _look(i)
                y = [next((c.value for c in row.choices if c.config == config.name), math.nan) for row in rows]
                axes.plot(family.isls, y, color=colour, marker=marker, zorder=3)
                axes.lines[-1].set_label(
                    style.plain(config.name, 32) if any(c.measured for c in config.group.cells) else ""
                )
                if len(family.configs) == 1:
                    axes.fill_between(family.isls, 0, y, color=colour, alpha=0.18, linewidth=0)
            style.token_axis(axes, family.isls)
            axes.set_ylim(0, 1.1 * top)
            axes.set_title(slo.words or "no limits", loc="left", fontsize=12)
            if not any(row.choices for row in rows):
                axes.text(0.5, 0.5, "no point keeps both", transform=axes.transAxes, ha="center", va="center")
            if axes is not grid[-1, 0]:
                axes.set_xlabel("")
        unit = "tok/s/GPU" if family.per_gpu else "tok/s, whole server"
        figure.supylabel(f"best output throughput ({unit})", fontsize=12)
        if len(family.configs) > 1:
            style.legend(
                grid[0, 0], "", columns=min(3, len(family.configs)), loc="lower left", bbox_to_anchor=(0.0, 1.13)
            )  # fmt: skip
        style.caption(
            figure, f"SLO frontier: both limits kept · {family.title}", (family.caption(), _said(data), source),
            simulated=family.simulated,
        )  # fmt: skip
    return figure


def _said(data: Decision) -> str:
    unmeasured = f", {data.unmeasured} of them not measured" if data.unmeasured else ""
    more = f" The first 6 of {len(data.slos)} pairs of limits." if len(data.slos) > 6 else ""
    return f"{data.points} points{unmeasured}. A gap: no point keeps both limits. Limits: {data.limits_from}. y from 0. {data.family.silent}{more}"


def draw_decision(data: Decision, *, source: str = "") -> Figure:
    """A row an ISL, a column a pair of limits: the configuration to take, at which load, and what it gives."""
    family, slos = data.family, data.slos[:4]
    isls = family.isls[:_MOST_ISLS]
    with style.house():
        figure, grid = style.figure(1, 1, width=9.5, height=2.3 + 0.62 * len(isls))
        axes = grid[0, 0]
        axes.grid(False)
        axes.set_xlim(0, len(slos))
        axes.set_ylim(len(isls), 0)
        names = [config.name for config in family.configs]
        wide = 9.5 / max(1, len(slos))
        for row in range(len(isls)):
            for column in range(len(slos)):
                _draw_cell(axes, data, row, column, names, wide)
        axes.set_xticks(
            [i + 0.5 for i in range(len(slos))], [slo.words.replace(", ", "\n") for slo in slos], fontsize=11
        )
        axes.xaxis.tick_top()
        axes.set_yticks([i + 0.5 for i in range(len(isls))], [isl_words(isl) for isl in isls], fontsize=11)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        left = [
            f"{len(family.isls) - len(isls)} more ISLs" if len(family.isls) > len(isls) else "",
            f"{len(data.slos) - len(slos)} more pairs of limits" if len(data.slos) > len(slos) else "",
        ]
        unit = "tok/s/GPU" if family.per_gpu else "tok/s of the whole server"
        more = ", ".join(filter(None, left))
        note = (
            f"Each cell: the configuration with the highest output throughput within both limits, its load, its {unit}, and its lead "
            f"over the next one. From {data.points} points. {family.silent} {'In the table alone: ' + more + '.' if more else ''}"
        )
        starts = "; ".join(f"{config.name}: {config.start}" for config in family.configs if config.start)
        style.caption(
            figure, f"For this SLO take that configuration · {family.title}",
            (family.caption(), note, f"Start of the server: {starts}." if starts else "", f"Limits: {data.limits_from}.", source),
            simulated=family.simulated,
        )  # fmt: skip
    return figure


def _draw_cell(axes: Axes, data: Decision, row: int, column: int, names: list[str], wide: float) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    found = data.row(data.family.isls[row], data.slos[column])
    best = found.best
    red, green, blue = to_rgb(_look(names.index(best.config))[0] if best else "#bbbbbb")
    tint = (1 - 0.32 * (1 - red), 1 - 0.32 * (1 - green), 1 - 0.32 * (1 - blue))
    axes.add_patch(Rectangle((column + 0.02, row + 0.05), 0.96, 0.9, facecolor=tint, edgecolor="none"))
    if best is None:
        axes.text(column + 0.5, row + 0.5, "none keeps both", ha="center", va="center", fontsize=10.5, color="#555555")
        return
    lead = f" · {share(found.lead)}" if found.lead is not None else ""
    name = style.plain(best.config, int(wide * 8.2))
    axes.text(column + 0.5, row + 0.33, name, ha="center", va="center", fontsize=11, fontweight="bold")
    words = f"{best.cell.load} · {style.amount(best.value)}{lead}"
    axes.text(column + 0.5, row + 0.7, words, ha="center", va="center", fontsize=10)
