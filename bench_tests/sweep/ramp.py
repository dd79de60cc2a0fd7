"""Rates that change while a run lasts: `1:50/5m` climbs from 1 to 50 requests a second within five minutes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench_tests.errors import UsageError
from bench_tests.sweep.units import parse_duration_s, parse_rate

if TYPE_CHECKING:  # a profile is read on a server's node too, where there may be no numpy
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Ramp", "parse_ramp"]

_FORM = re.compile(r"([^:/]+):([^:/]+)/([^:/]+)(?:/(\d{1,4}))?")


@dataclass(frozen=True)
class Ramp:
    """From `low` to `high` requests per second in `span_s`: along a line, or in `steps` equal parts."""

    low: float
    high: float
    span_s: float
    steps: int = 0  # 0: linear

    def __str__(self) -> str:
        """What `parse_ramp` reads: one spelling for each ramp."""
        return f"{self.low:.9g}:{self.high:.9g}/{self.span_s:.9g}s" + f"/{self.steps}" * bool(self.steps)

    @property
    def requests(self) -> int:
        """How many requests it starts. Formula: mean rate × span."""
        return max(1, round((self.low + self.high) / 2 * self.span_s))

    def rate(self, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Requests per second at these times from its start; same shape."""
        import numpy as np

        share = np.clip(at_s / self.span_s, 0, 1)
        if self.steps:
            level = np.minimum((share * self.steps).astype(np.int64), self.steps - 1)
            share = level / max(1, self.steps - 1)
        return np.asarray(self.low + (self.high - self.low) * share)

    def times_s(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """When so many requests have been started; same shape, ascending with `counts`, at most `span_s` at `requests`.

        Formula: the inverse of the integral of the rate, which maps arrivals at a rate of one to arrivals at this rate.
        """
        import numpy as np

        if self.steps:
            edges = np.linspace(0, self.span_s, self.steps + 1)
            rates = self.rate((edges[:-1] + edges[1:]) / 2)
            sums = np.concatenate([[0.0], np.cumsum(rates * np.diff(edges))])
            return np.asarray(np.interp(counts * (sums[-1] / self.requests), sums, edges))
        slope = (self.high - self.low) / self.span_s
        if abs(slope) < 1e-12:
            return np.asarray(counts / self.low)
        root = np.sqrt(np.maximum(0.0, self.low**2 + 2 * slope * counts))
        return np.asarray((root - self.low) / slope)


def parse_ramp(text: object, where: str = "--ramp") -> Ramp | None:
    """Read `LOW:HIGH/DURATION` or `LOW:HIGH/DURATION/STEPS`; None for an empty text. Raises UsageError."""
    if text == "":
        return None
    found = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if not found:
        raise UsageError(f"{where}: {text!r}; expected LOW:HIGH/DURATION such as 1:50/5m, or with steps 1:50/5m/10")
    low, high = (parse_rate(part, where) for part in found.groups()[:2])
    span_s = parse_duration_s(found[3], where)
    steps = int(found[4] or 0)
    if not (math.isfinite(low) and math.isfinite(high)) or low == high or steps == 1:
        raise UsageError(
            f"{where}: {text!r}; expected two different finite rates, and at least 2 steps where any are given"
        )
    return Ramp(low, high, span_s, steps)
