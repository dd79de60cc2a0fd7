"""The runs of a point that a session repeats, judged together: what each gave, and how far they lie apart."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.records import Records
from bench_tests.verdict.confidence import quantile_interval
from bench_tests.verdict.noise import RunNoise, measured_noise
from bench_tests.verdict.summary import latencies_s

__all__ = ["RepeatedRuns", "Repeats", "after_the_burst", "start_burst"]

Values = Mapping[str, NDArray[np.float64]]  # latency ("ttft", ...) → seconds in the order of sending, shape (n,)


def start_burst(records: Records, block: int) -> int:
    """How many of the measured requests are the start burst of a closed loop: `block`, the concurrency; 0 without one.

    A run of no more than that is all burst, and is judged as it is; a staggered start has none.
    """
    if records.continuous:
        return 0
    return block if block > 1 and int(records.measured.sum()) > block else 0


def after_the_burst(records: Records, burst: int) -> NDArray[np.bool_]:
    """Which requests are measured and not among the first `burst` of those, shape (n,)."""
    return np.asarray(records.measured & (np.cumsum(records.measured) > burst))


@dataclass(frozen=True)
class Repeats:
    """One run of a point among its repeats, as `decide` asks for them."""

    planned: int  # runs of each point
    last: bool  # no run of this point comes after it
    earlier: Sequence[Values] = ()  # the valid runs of this point before this one
    others: Sequence[tuple[int, Sequence[Values]]] = ()  # (block, runs) of each other point of the session
    block: int = 1  # requests of this point that go through the server together

    def noise(self, latency: str, q: float, own: NDArray[np.float64]) -> RunNoise | None:
        """How far the q-quantile moves from run to run: this point's runs and those of the session's other points.

        What the finite number of requests explains is taken off: the square of the interval's half width / 1.96, or of
        its lower part / 1.645 where that is all there is.
        """
        figures, variances = [], []
        points = [(self.block, [*(run[latency] for run in self.earlier), own])]
        points += [(block, [run[latency] for run in runs]) for block, runs in self.others]
        for block, runs in points:
            if len(runs) < 2 or min(map(len, runs)) == 0:
                continue
            figures.append(np.array([np.quantile(run, q) for run in runs]))
            errors = [_error(run, value, q, block) for run, value in zip(runs, figures[-1].tolist(), strict=True)]
            variances.append(float(np.mean(np.square(errors))))
        return measured_noise(figures, variances)


def _error(values: NDArray[np.float64], figure: float, q: float, block: int) -> float:
    """Standard error of the logarithm of a quantile, from its interval."""
    ends = quantile_interval(values, q, block=block)
    if ends.two_sided:
        return math.log(ends.high / ends.low) / 3.92
    return math.log(figure / ends.low) / 1.645 if ends.low > 0 else 0.0


@dataclass
class RepeatedRuns:
    """What the runs of a session gave, kept until the last run of each point has been judged."""

    planned: dict[Hashable, list[int]] = field(default_factory=dict)  # point → its runs, as they come
    _taken: dict[Hashable, dict[int, Values]] = field(default_factory=dict)
    _blocks: dict[Hashable, int] = field(default_factory=dict)

    def take(self, point: Hashable, run: int, records: Records, block: int) -> None:
        """Keep the latencies of a valid run, without its start burst."""
        if len(self.planned.get(point, ())) < 2:
            return
        burst = start_burst(records, block)
        of = records.completed & after_the_burst(records, burst) if burst else records.completed
        self._taken.setdefault(point, {})[run] = latencies_s(records, of, from_schedule=records.open_loop)
        self._blocks[point] = block

    def of(self, point: Hashable, run: int, block: int) -> Repeats | None:
        """What a run's judge is told of the others; None for a point that is measured once."""
        runs = self.planned.get(point, ())
        if len(runs) < 2:
            return None
        earlier = [values for number, values in self._taken.get(point, {}).items() if number != run]
        others = [(self._blocks[other], list(taken.values())) for other, taken in self._taken.items() if other != point]
        return Repeats(len(runs), run == runs[-1], earlier, others, block)
