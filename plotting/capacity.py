"""Capacity against ISL with its interval, and the probes of each search; from the files that searches leave."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_tests.results.schema import LeftOut
from plotting import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CapacityData", "Found", "capacity_data", "draw_capacity"]

_MOST_BYTES = 2**20
_MARKS = {"within": ("o", "full"), "beyond": ("X", "full"), "unclear": ("o", "none")}


@dataclass(frozen=True)
class Found:
    """One search: its interval, an end None where it was not found, and (load, figure / limit, word) of its probes."""

    isl: int
    osl: int
    lo: float | None
    hi: float | None
    probes: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class CapacityData:
    """The searches of one picture: of one axis, profile, server and OSL."""

    title: str
    axis: str
    simulated: bool
    found: tuple[Found, ...]


def capacity_data(folder: Path) -> tuple[list[CapacityData], list[LeftOut]]:
    """The searches of a results folder, a picture for each axis, profile, model and OSL; and files that are none."""
    groups: dict[tuple[str, ...], list[tuple[Found, bool]]] = {}
    left_out = []
    for path in sorted((folder / "capacity").glob("*.json")):
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("larger than 1 MiB")
            said = json.loads(path.read_text(encoding="utf-8"))
            key, found, simulated = _read(said)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as why:
            left_out.append(LeftOut(path, f"not a search's outcome: {why}"))
            continue
        groups.setdefault(key, []).append((found, simulated))
    return [
        CapacityData(
            f"{profile} · {model} · OSL {osl}",
            axis,
            any(simulated for _, simulated in listed),
            tuple(sorted((found for found, _ in listed), key=lambda f: f.isl)),
        )
        for (axis, profile, model, osl), listed in sorted(groups.items())
    ], left_out


def _read(said: Mapping[str, Any]) -> tuple[tuple[str, ...], Found, bool]:
    if said["axis"] not in ("conc", "rate"):
        raise ValueError(f"axis {said['axis']!r}")
    server = said["server"]
    probes = tuple((_number(p["load"]), math.exp(min(_number(p["over"]), 50)), str(p["word"])) for p in said["probes"])
    ends = [None if said[end] is None else _number(said[end]) for end in ("within", "beyond")]
    found = Found(int(said["isl"]), int(said["osl"]), ends[0], ends[1], probes)
    key = (str(said["axis"]), str(said["profile"]), str(server.get("model")), str(found.osl))
    return key, found, bool(server.get("simulated"))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def draw_capacity(data: CapacityData, *, source: str = "") -> Figure:
    """At the left the interval over the ISL, at the right how far each probe's figure was from its limit."""
    unit = "concurrency" if data.axis == "conc" else "requests/s"
    with style.house():
        figure, grid = style.figure(1, 2, width=13.5, height=5.6)
        left, right = grid[0]
        for colour, found in zip(style.ordered_colours(len(data.found)), data.found, strict=True):
            ends = [end for end in (found.lo, found.hi) if end is not None]
            if len(ends) == 2:
                left.plot([found.isl] * 2, ends, color=colour, linewidth=5, solid_capstyle="butt")
            elif ends:
                left.plot([found.isl], ends, marker="^" if found.hi is None else "v", color=colour, markersize=11)
            probes = sorted(found.probes)
            right.plot([p[0] for p in probes], [p[1] for p in probes], color=colour, label=f"{found.isl:,}")
            for load, over, word in probes:
                marker, fill = _MARKS.get(word, ("o", "none"))
                right.plot([load], [over], marker=marker, fillstyle=fill, color=colour, markersize=8)
        right.axhline(1.0, color=style.RED, linewidth=1.2)
        if any(found.lo or found.hi for found in data.found):  # a log axis needs something on it
            style.log_axis(left, "y")
        if any(found.probes for found in data.found):
            style.log_axis(right, "x")
            style.log_axis(right, "y")
        style.token_axis(left, [found.isl for found in data.found])
        left.set_ylabel(f"capacity ({unit})")
        right.set_xlabel(unit)
        right.set_ylabel("worst figure / its limit")
        style.legend(right, "ISL")
        words = (
            (
                "Left: from the largest load proven within to the smallest proven beyond; a triangle where one end was not found. "
                "Right: each probe; filled dot within, cross beyond, hollow too close to call."
            ),
            source,
        )
        style.caption(figure, f"Capacity · {data.title}", words, simulated=data.simulated)
    return figure
