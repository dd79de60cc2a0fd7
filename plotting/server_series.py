"""The server's counters over the time of a point, read as what they may be: somebody else's file."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench_tests.errors import UsageError
from bench_tests.verdict.spikes import Spike, spikes

if TYPE_CHECKING:
    from bench_tests.load.records import Records

__all__ = ["ServerSeries", "load_series", "server_series"]

_MOST_BYTES = 2**26  # a day of one reading a second
_NAMES = (
    "t_s", "running", "waiting", "kv_cache", "preemptions", "cached_tokens", "prompt_tokens", "computed_tokens",
    "generation_tokens",
)  # fmt: skip


@dataclass(frozen=True)
class ServerSeries:
    """What the server said, by the seconds of the picture; a rate belongs to the time since the reading before."""

    t: tuple[float, ...]
    running: tuple[float, ...] = ()
    waiting: tuple[float, ...] = ()
    kv_cache: tuple[float, ...] = ()  # 0 to 1
    preempted: tuple[float, ...] = ()  # requests since the reading before
    tok_per_s: tuple[float, ...] = ()
    hit_share: tuple[float, ...] = ()  # of the prompt tokens since the reading before, from a cache
    ttft_at: tuple[float, ...] = ()  # sends of the measured requests
    ttft: tuple[float, ...] = ()
    spikes: tuple[Spike, ...] = field(default=())


def load_series(path: Path) -> dict[str, NDArray[np.float64]]:
    """The columns in `path`. Raises UsageError when they are none, too large, or not of one length."""
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(member.file_size for member in packed.infolist()) > _MOST_BYTES:
                raise UsageError(f"{path}: more than {_MOST_BYTES // 2**20} MiB unpacked; no series of this point")
        with np.load(path, allow_pickle=False) as data:
            found = {name: np.asarray(data[name], float) for name in _NAMES if name in data.files}
    except UsageError:
        raise
    except Exception as why:  # a damaged zip or array header raises nearly anything
        reason = " ".join(f"{type(why).__name__} {why}".split())[:200]
        raise UsageError(f"{path}: not the series of a server's counters ({reason}); measure the point again") from why
    length = len(found["t_s"]) if "t_s" in found and found["t_s"].ndim == 1 else -1
    if any(column.shape != (length,) or not np.isfinite(column).all() for column in found.values()) or length < 0:
        raise UsageError(f"{path}: columns of unequal length, or no numbers; measure the point again")
    return found


def server_series(columns: dict[str, NDArray[np.float64]], records: Records, zero_s: float) -> ServerSeries | None:
    """The series with their zero at the picture's; None where there are not even two readings."""
    t = columns["t_s"]
    if len(t) < 2:
        return None
    gaps = np.maximum(np.diff(t, prepend=t[0] - 1.0), 1e-3)

    def since(name: str) -> NDArray[np.float64]:
        return np.diff(columns[name], prepend=columns[name][0]).clip(0)

    prompt = since("prompt_tokens") if "prompt_tokens" in columns else np.zeros(0)
    hits = since("cached_tokens") if "cached_tokens" in columns and len(prompt) else np.zeros(0)
    of = records.measured & np.isfinite(records.first_s)
    thin = slice(None, None, max(1, int(of.sum()) // 4000))
    return ServerSeries(
        tuple((t - zero_s).tolist()),
        **{name: tuple(columns[name].tolist()) for name in ("running", "waiting", "kv_cache") if name in columns},
        preempted=tuple(since("preemptions").tolist()) if "preemptions" in columns else (),
        tok_per_s=tuple((since("generation_tokens") / gaps).tolist()) if "generation_tokens" in columns else (),
        hit_share=tuple((hits / np.maximum(prompt, 1)).clip(0, 1).tolist()),
        ttft_at=tuple((records.send_s[of] - zero_s)[thin].tolist()),
        ttft=tuple((records.first_s - records.send_s)[of][thin].tolist()),
        spikes=tuple(
            replace(one, start_s=one.start_s - zero_s, end_s=one.end_s - zero_s) for one in spikes(records, columns)
        ),
    )
