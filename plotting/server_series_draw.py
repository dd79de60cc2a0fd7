"""The rows below a timeline that the server's counters fill: TTFT with its spikes explained, the queue, the KV cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plotting import style
from plotting.server_series import ServerSeries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

__all__ = ["ROWS", "draw_server"]

ROWS = 3
_TOLD = 6  # spikes that have words in the picture


def draw_server(data: ServerSeries, rows: Sequence[Axes], tokens: Axes) -> None:
    """Fill the rows, and add the server's own rate of tokens to the row of the client's."""
    latency, queue, cache = rows
    if data.tok_per_s:
        tokens.patches[-1].set_label("by this client")
        tokens.step(data.t, data.tok_per_s, where="pre", color=style.INK, linewidth=1.0, label="by the server")
        style.legend(tokens, "output tokens/s")
    _latency(data, latency)
    for values, name, colour in ((data.running, "running", style.BLUE), (data.waiting, "waiting", style.RED)):
        if values:
            queue.step(data.t, values, where="post", color=colour, linewidth=1.5, label=name)
    queue.set_ylabel("requests,\nby the server")
    style.legend(queue, "the server says")
    _cache(data, cache)


def _latency(data: ServerSeries, axes: Axes) -> None:
    axes.plot(data.ttft_at, data.ttft, ".", color=style.GREY, markersize=4, label="a request, at its send")
    axes.set_ylabel("TTFT (s)")
    top = max(data.ttft, default=1.0)
    told = sorted(data.spikes[:_TOLD], key=lambda spike: spike.start_s)
    lines = []
    for number, spike in enumerate(told, 1):
        low, high = spike.start_s, spike.end_s
        axes.axvspan(low, high, ymax=0.8, facecolor=style.RED, alpha=0.13, linewidth=0, zorder=1)
        axes.text((low + high) / 2, top * 1.24, str(number), ha="center", va="center", fontsize=10.5, fontweight="bold",
                  color=style.RED)  # fmt: skip
        words = spike.cause or "no counter tells why"
        lines.append(f"{number}  {style.seconds(spike.worst_ttft_s)} at {low:.0f} s:\n    {_wrapped(words)}")
    axes.set_ylim(0, top * 1.4)
    handles: Any = axes.get_lines()[:1]
    made = axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.02), borderaxespad=0.3,
        title="\n".join(["Why TTFT rose", *lines]) if lines else "no spike of TTFT", alignment="left", handlelength=1.0,
    )  # fmt: skip
    made.get_title().set_fontsize(9)


def _wrapped(words: str, width: int = 34) -> str:
    import textwrap

    return "\n    ".join(textwrap.wrap(style.plain(words), width))


def _cache(data: ServerSeries, axes: Axes) -> None:
    if data.kv_cache:
        axes.step(data.t, [100 * v for v in data.kv_cache], where="post", color=style.ORANGE, label="KV cache in use")
    if any(data.hit_share):
        shares = [100 * v for v in data.hit_share]
        axes.step(data.t, shares, where="pre", color=style.GREEN, linestyle=(0, (4, 2)), label="prompt tokens cached")
    axes.set_ylabel("KV cache (%)")
    axes.set_ylim(0, 105)
    if any(data.preempted):
        many: Any = axes.twinx()
        many.bar(data.t, data.preempted, width=-0.8, align="edge", color=style.RED, alpha=0.55, label="preempted")
        many.set_ylabel("preempted", color=style.RED)
        many.yaxis.get_major_locator().set_params(integer=True)
        many.grid(visible=False)
        many.set_ylim(0, 3 * max(data.preempted))
        axes.plot(
            [], [], color=style.RED, linewidth=6, alpha=0.55, label="requests preempted\nsince the reading before"
        )
    # beside the numbers of the second axis, where there is one
    style.legend(axes, "the server says", bbox_to_anchor=(1.08 if any(data.preempted) else 1.0, 1.02))
