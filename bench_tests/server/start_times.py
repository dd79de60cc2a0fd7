"""How long a server took to start, seconds: until it served, and of it loading and compiling as the engine's log says them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["start_times", "start_words"]

_MOST_BYTES = 8 * 2**20
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
# vLLM's words, then SGLang's; each of several workers says its own: the slowest counts
_LOAD = (
    rf"Model loading took .{{1,60}}? and {_NUMBER} s",
    rf"Loading weights took {_NUMBER} s",
    rf"Load weight end\. elapsed={_NUMBER} s",
)
_COMPILE = (rf"torch\.compile (?:took|takes) {_NUMBER} s in total",)
_CAPTURE = (
    rf"Graph capturing finished in {_NUMBER} s",
    rf"Capture cuda graph end\. Time elapsed: {_NUMBER} s",
)


def start_times(ready_s: float | None, log: Path | None, since: int = 0) -> dict[str, float]:
    """`ready`, `load` and `compile` (torch.compile and the capture of graphs), as far as they are known.

    `log`: the engine's, read from the byte `since`.
    """
    found = {} if ready_s is None else {"ready": round(ready_s, 3)}
    text = _head(log, since) if log is not None else ""
    load = _slowest(text, _LOAD)
    parts = [part for part in (_slowest(text, _COMPILE), _slowest(text, _CAPTURE)) if part is not None]
    if load is not None:
        found["load"] = load
    if parts:
        found["compile"] = round(sum(parts), 3)
    return found


def start_words(took: Mapping[str, float]) -> str:
    """`ready in 95.5 s (load 40.0 s, compile 21.0 s)`; empty where nothing was measured."""
    if "ready" not in took:
        return ""
    of = ", ".join(f"{name} {took[name]:.1f} s" for name in ("load", "compile") if name in took)
    return f"ready in {took['ready']:.1f} s" + (f" ({of})" if of else "")


def _slowest(text: str, patterns: tuple[str, ...]) -> float | None:
    return max((float(number) for pattern in patterns for number in re.findall(pattern, text)), default=None)


def _head(log: Path, since: int) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(min(since, file.seek(0, os.SEEK_END)))
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
