"""A recorded workload: when each request arrived, how long it was, and which content it shared with others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bench_tests.errors import UsageError
from bench_tests.sweep.units import format_s

__all__ = ["SPREADS", "Trace", "infinite_cache_hit_tokens"]

SPREADS = ("none", "uniform")
COARSE = 0.5  # fewer distinct times than this share of the requests: the trace's clock makes bursts of its own


@dataclass(frozen=True, eq=False)
class Trace:
    """n requests in the order of their arrival.

    `hashes` holds all requests' block ids one after the other, request i's from `starts[i]` to `starts[i + 1]`. Equal ids
    are equal content and stand behind equal ids only. `block` is 0 where the format says nothing of shared content.
    """

    format: str
    source: str
    digest: str  # of the file's bytes: SHA-256, the first 16 hex digits
    arrival_s: NDArray[np.float64]  # (n,), ascending, the first at 0
    input_tokens: NDArray[np.int64]  # (n,)
    output_tokens: NDArray[np.int64]  # (n,)
    block: int = 0  # tokens a hash stands for
    hashes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))  # (n + 1,)
    left_out: Mapping[str, int] = field(default_factory=dict)  # requests of the file that are not here, by reason

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def span_s(self) -> float:
        """From the first arrival to the last, seconds."""
        return float(self.arrival_s[-1] - self.arrival_s[0]) if len(self) else 0.0

    @property
    def distinct_times(self) -> int:
        """How many different arrival times there are."""
        return len(np.unique(self.arrival_s))

    def blocks(self, i: int) -> NDArray[np.int64]:
        """The block ids of request i; shape (blocks,)."""
        if not self.block:
            return np.zeros(0, np.int64)
        return self.hashes[self.starts[i] : self.starts[i + 1]]

    def window(self, low_s: float, high_s: float) -> Trace:
        """The requests that arrived from `low_s` to before `high_s`, their times from zero again. Raises UsageError."""
        chosen = np.flatnonzero((self.arrival_s >= low_s) & (self.arrival_s < high_s))
        if not len(chosen):
            raise UsageError(
                f"--window {format_s(low_s)} to {format_s(high_s)}: no request of {self.source} arrived in it; "
                f"the trace spans {format_s(self.span_s)}"
            )
        first, last = int(chosen[0]), int(chosen[-1]) + 1
        part = slice(first, last)
        starts = self.starts[first : last + 1] if self.block else self.starts
        return replace(
            self,
            arrival_s=self.arrival_s[part] - self.arrival_s[first],
            input_tokens=self.input_tokens[part],
            output_tokens=self.output_tokens[part],
            hashes=self.hashes[starts[0] : starts[-1]] if self.block else self.hashes,
            starts=starts - starts[0] if self.block else starts,
        )

    def first(self, count: int) -> Trace:
        """The first `count` requests; all where there are no more."""
        if not 0 < count < len(self):
            return self
        starts = self.starts[: count + 1] if self.block else self.starts
        return replace(
            self, arrival_s=self.arrival_s[:count], input_tokens=self.input_tokens[:count],
            output_tokens=self.output_tokens[:count],
            hashes=self.hashes[: starts[-1]] if self.block else self.hashes, starts=starts,
        )  # fmt: skip

    def faster(self, speed: float) -> Trace:
        """The same requests, `speed` times as fast."""
        return replace(self, arrival_s=self.arrival_s / speed)

    def spread(self, how: str, seed: int) -> Trace:
        """With "uniform": requests that share a time are spread at random up to the next time that the trace has.

        A trace whose clock is coarser than its gaps would otherwise be replayed as bursts that nobody sent.
        """
        if how == "none" or len(self) < 2:
            return self
        times, which, counts = np.unique(self.arrival_s, return_inverse=True, return_counts=True)
        ticks = np.diff(times)
        ticks = np.append(ticks, np.median(ticks) if len(ticks) else 0.0)
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, 2**60 + 1], np.uint64)))
        moved = self.arrival_s + np.where(counts[which] > 1, rng.random(len(self)) * ticks[which], 0.0)
        # sorted within each tick only: the requests keep the order of the file
        moved = np.sort(moved)
        return replace(self, arrival_s=moved - moved[0])

    @property
    def coarse(self) -> bool:
        """Whether the trace's clock is coarser than its gaps, so that it makes bursts of its own."""
        return len(self) > 1 and self.distinct_times < COARSE * len(self)

    def facts(self) -> dict[str, object]:
        """What a result says of the trace; equal for equal requests at equal times."""
        shape = hashlib.sha256()
        for part in (self.arrival_s, self.input_tokens, self.output_tokens, self.hashes):
            shape.update(np.ascontiguousarray(part).tobytes())
        return {
            "format": self.format,
            "digest": self.digest,
            "requests": len(self),
            "span_s": self.span_s,
            "block": self.block,
            "replayed": shape.hexdigest()[:16],
        }

    def line(self) -> str:
        """`12,031 requests in 3,537 s, 3.4/s, blocks of 512, hit rate with an infinite cache 36.6 %, 1,180 distinct times`."""
        rate = f", {len(self) / self.span_s:.2g}/s" if self.span_s else ""
        words = f"{len(self):,} request{'s' * (len(self) != 1)} in {self.span_s:,.0f} s{rate}"
        if self.block:
            total = int(self.input_tokens.sum())
            share = float(infinite_cache_hit_tokens(self).sum()) / total if total else 0.0
            words += f", blocks of {self.block}, hit rate with an infinite cache {share:.1%}".replace("%", " %")
        words += f", {self.distinct_times:,} distinct times"
        for reason, count in self.left_out.items():
            words += f"; {count:,} left out: {reason}"
        return words


def infinite_cache_hit_tokens(trace: Trace) -> NDArray[np.int64]:
    """Prompt tokens of each request that an endless cache would have had, were they served one by one; shape (n,).

    Formula: whole leading blocks whose ids came before × block.
    """
    seen: set[int] = set()
    hits = np.zeros(len(trace), np.int64)
    for i in range(len(trace)):
        ids = trace.blocks(i).tolist()
        whole = int(trace.input_tokens[i]) // trace.block if trace.block else 0
        known = 0
        for one in ids[:whole]:
            if one not in seen:
                break
            known += 1
        hits[i] = known * trace.block
        seen.update(ids[:whole])
    return hits
