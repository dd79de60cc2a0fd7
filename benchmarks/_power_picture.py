"""Curves of power against effect size, ours beside a test that knows the noise."""

from __future__ import annotations

from pathlib import Path

__all__ = ["draw"]


def draw(path: Path, title: str, curves: dict[str, list[tuple[float, float]]]) -> None:
    """Write a PNG: one line a curve of (effect in per cent, power); an oracle's is dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, points in curves.items():
        known = "knows the noise" in name
        x, y = zip(*points, strict=True)
        axes.plot(x, [100 * v for v in y], "--" if known else "o-", color="0.35" if known else None, ms=4, label=name)
    axes.axhline(95, color="0.8", lw=0.8, zorder=0)
    axes.set(xlabel="true slowdown (%)", ylabel="found (%)", ylim=(-2, 102), title=title)
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
