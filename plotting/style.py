"""The house style, in one place: colours, sizes, captions, units, and how a figure is saved.

Colours: Okabe and Ito's palette for kinds, cividis for orders; both keep apart for colour-blind readers and in grey
print. Sizes are chosen so that the smallest letters (9 pt on an 11 inch figure) still read at 50 %.
"""

from __future__ import annotations

import contextlib
import itertools
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "MARKERS",
    "ORANGE",
    "RED",
    "amount",
    "caption",
    "figure",
    "house",
    "legend",
    "ordered_colours",
    "plain",
    "save",
    "seconds",
    "throughput_label",
    "token_axis",
]  # fmt: skip

INK, GREY, BLUE, ORANGE, GREEN, RED = "#222222", "#8a8a8a", "#0072b2", "#e69f00", "#009e73", "#d55e00"
MARKERS = ("o", "s", "D", "^", "v", "P", "X")

_RC: dict[str, Any] = {
    "font.size": 12, "axes.titlesize": 13, "axes.labelsize": 12, "legend.fontsize": 10.5, "xtick.labelsize": 11,
    "ytick.labelsize": 11, "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.7, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#666666", "axes.labelcolor": INK,
    "lines.linewidth": 2.0, "lines.markersize": 6.5, "legend.frameon": False, "figure.facecolor": "white",
    "svg.fonttype": "none", "svg.hashsalt": "bench", "font.family": ["DejaVu Sans"],
}  # fmt: skip
# of the machine, not of a picture's look; reading `backend` would choose one
_NOT_LOOKS = (
    "backend",
    "interactive",
    "toolbar",
    "timezone",
    "webagg",
    "tk.",
    "figure.raise",
    "date.epoch",
    "docstring",
)
_LONGEST = 140


@contextlib.contextmanager
def house() -> Iterator[None]:
    """Draw inside this: the house's matplotlib settings, and those alone."""
    import matplotlib

    with matplotlib.rc_context():
        # only what differs: rcdefaults() checks 300 values again for each figure
        for key, value in matplotlib.rcParamsDefault.items():
            wanted = _RC.get(key, value)
            if not key.startswith(_NOT_LOOKS) and matplotlib.rcParams[key] != wanted:
                matplotlib.rcParams[key] = wanted
        yield


def plain(text: str, width: int = _LONGEST) -> str:
    """`text` from a result file, safe to draw: no control characters, no formula, not endless."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return (shown if len(shown) <= width else shown[: width - 1] + "…").replace("$", r"\$")


def figure(rows: int, columns: int, *, width: float = 11.0, height: float = 5.2, **shared: Any) -> tuple[Figure, Any]:
    """A figure of `width` × `height` inches with `rows` × `columns` axes (always a two-dimensional array)."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    made.get_layout_engine().set(w_pad=0.1, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return made, made.subplots(rows, columns, squeeze=False, **shared)


def caption(figure: Figure, title: str, lines: Sequence[str], *, simulated: bool) -> None:
    """The title above, the caption below; a simulated server is said in both and cannot be cropped away."""
    per_line = int(figure.get_figwidth() * 13.6)
    wrapped = [part for line in lines if line for part in textwrap.wrap(plain(line, 600), per_line)]
    mark = "SIMULATED · " if simulated else ""
    heading = "\n".join(textwrap.wrap(mark + plain(title), int(figure.get_figwidth() * 8)))
    figure.suptitle(heading, fontsize=14, fontweight="bold", color=RED if simulated else INK)
    figure.supxlabel("\n".join(wrapped), fontsize=9.5, color="#444444", x=0.01, ha="left")
    if simulated:
        for axes in figure.axes:
            if axes.get_label() != "<colorbar>":
                axes.text(0.5, 0.5, "SIMULATED", transform=axes.transAxes, ha="center", va="center", rotation=20,
                          fontsize=30, color="#000000", alpha=0.09, fontweight="bold", zorder=9)  # fmt: skip


def ordered_colours(count: int) -> list[str]:
    """`count` colours for an order (concurrency, ISL, tier), dark to light, none too pale for white paper."""
    import matplotlib
    from matplotlib.colors import to_hex

    scale = matplotlib.colormaps["viridis"]
    return [to_hex(scale(0.02 + 0.86 * i / max(1, count - 1))) for i in range(count)]


def legend(axes: Axes, title: str, *, columns: int = 1, **where: Any) -> Legend | None:
    """A legend beside the axes, never on the data; None when nothing has a label."""
    handles, _ = axes.get_legend_handles_labels()
    if not handles:
        return None
    # beside the plot: any place inside it hides a point of somebody's sweep
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.02), "borderaxespad": 0.3} | where
    made: Legend = axes.legend(title=title, ncols=columns, alignment="left", handlelength=1.8, **place)
    made.get_title().set_fontweight("bold")
    return made


def log_axis(axes: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis that is marked with numbers as people write them (40, not 4 × 10¹), a few in each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def token_axis(axes: Axes, isls: Sequence[int]) -> None:
    """x as token positions, with a tick at each ISL as long as they stand apart."""
    if not any(isls):  # a trace or a dataset has lengths of its own
        axes.set_xticks([0], ["recorded lengths"])
        axes.set_xlim(-1, 1)
        return
    span = (max(isls) - min(isls)) or max(isls)
    shown: list[int] = []
    for isl in isls:
        if not shown or (isl - shown[-1]) / span > 0.055:
            shown.append(isl)
    nearest = min((b - a for a, b in itertools.pairwise(shown)), default=span)
    crowded = len(shown) > 6 or max(isls) > 99_999 or nearest / span < 0.17
    axes.set_xticks(shown, [f"{isl:,}" for isl in shown], rotation=60 if crowded else 0,
                    ha="right" if crowded else "center", rotation_mode="anchor" if crowded else "default",
                    fontsize=10.5 if crowded else 11)  # fmt: skip
    axes.set_xlim(min(isls) - 0.06 * span, max(isls) + 0.06 * span)
    axes.set_xlabel("token position = ISL (tokens)")


def seconds(value: float) -> str:
    """A time with a unit that keeps the number readable: `20 ms`, `1.5 s`."""
    if value < 0.9995e-3:
        return f"{value * 1e6:.3g} µs"
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s" if value < 999.5 else f"{value:,.0f} s"


def amount(value: float) -> str:
    """A throughput or the like with three digits, whole from 1,000 on: `7.84`, `648`, `12,345`."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def throughput_label(side: str, *, per_gpu: bool) -> str:
    """The y axis of a throughput, with its unit."""
    return f"{side} throughput per GPU (tok/s/GPU)" if per_gpu else f"{side} throughput, whole server (tok/s)"


def save(figure: Figure, path: Path) -> Path:
    """Write `figure` as the suffix says (.png at 160 dpi, .svg, .pdf); the same data gives the same file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lower().lstrip(".") or "png"
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}.get(kind)
    FigureCanvasAgg(figure)
    with warnings.catch_warnings(), house():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a model's name may use any script
        # a third of a picture's time went into squeezing its file by a tenth
        fast: dict[str, Any] = {"pil_kwargs": {"compress_level": 2}} if kind == "png" else {}
        figure.savefig(path, format=kind, dpi=160, metadata=metadata, **fast)
    return path
