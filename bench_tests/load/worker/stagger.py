"""A closed loop whose streams begin one by one: what is sent in which order, so that nothing begins or ends together.

`together` sends all first requests at one moment, and requests of equal length keep that step. Here the streams begin
spread over the time that a request takes, at random phases; a stream that is done early goes on with further requests.
Once all are in flight the measured requests follow, and behind them others keep the loop full until the last measured
one has ended: there is neither a start burst nor a drain among them. Of several processes, one that is done with its own
goes on until it is told that all are (`released`), or until it has no further request.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bench_tests.load.plan import LoadPlan
from bench_tests.load.requests import Request

__all__ = ["Due", "Order", "Stagger", "phases"]

_PHASES = 2**53  # the random numbers' part that is the phases'; arrivals and prompts have others

Due = deque[tuple[Request, int]]


class Order(Protocol):
    """What a phase that is no plain list is sent by: the loop tells it of ends and asks it what comes next."""

    released: bool  # whether the measured requests of all processes have ended, as far as is known

    @property
    def own_ended(self) -> bool:
        """Whether all measured requests of this process have ended."""

    @property
    def done(self) -> bool:
        """Whether all measured requests have ended, those of the other processes among them."""

    def begin(self, measured: Sequence[tuple[Request, int]], filling: Sequence[Request], now_ns: int) -> Due:
        """What is sent first, by the time at which it is due; the order may add to it later."""

    def more(self) -> Sequence[tuple[Request, int]]:
        """What is sent when all that was given has been."""

    def ended(self, request: Request, todo: Due, now_ns: int) -> None:
        """A request has ended, however."""

    def enough(self, running: int) -> None:
        """No further measured request is needed; `running` of them are finished all the same."""

    def unsent(self) -> Sequence[tuple[Request, int]]:
        """Measured requests that were never given; nothing follows."""


def phases(plan: LoadPlan) -> list[float]:
    """When each stream of this process begins, as parts of a request's duration, ascending, shape (streams,).

    Formula: (k + U) / concurrency, k of all streams of the run, U uniform in [0, 1): one in each equal part.
    """
    rng = np.random.Generator(np.random.Philox(key=np.array([plan.seed, _PHASES], np.uint64)))
    every = (np.arange(plan.conc) + rng.random(plan.conc)) / plan.conc
    return [float(x) for x in every[plan.worker :: plan.workers]]


class Stagger:
    """The order of sending of one staggered phase. `Loop` tells it of ends and asks it when nothing is left to send."""

    def __init__(self, plan: LoadPlan, durations_s: Sequence[float]) -> None:
        """`durations_s`: what requests of the warm-up took. Without one the streams begin at one moment, and the run says
        so: its requests tell what is wrong with the server better than no requests would.
        """
        self.span_s = statistics.median(durations_s) if durations_s else 0.0
        self._phases = phases(plan)
        self._spare: deque[Request] = deque()
        self._measured: Sequence[tuple[Request, int]] = ()
        self.owed = 0  # measured requests that have not ended
        self.filled = False  # whether all streams have begun
        self.released = (
            plan.workers == 1
        )  # whether the measured requests of all processes have ended, as far as is known

    def begin(self, measured: Sequence[tuple[Request, int]], filling: Sequence[Request], now_ns: int) -> Due:
        """What is sent first: the streams' beginnings."""
        self._measured, self.owed = measured, len(measured)
        count = len(self._phases)
        self._spare = deque(filling[count:])
        beginnings = zip(filling, self._phases, strict=False)
        return deque((request, now_ns + int(phase * self.span_s * 1e9)) for request, phase in beginnings)

    def more(self) -> Sequence[tuple[Request, int]]:
        """What is sent when all that was given has been: the measured requests, once; nothing after that."""
        if self.filled:
            return ()
        self.filled = True
        measured, self._measured = self._measured, ()
        return measured

    def ended(self, request: Request, todo: Due, now_ns: int) -> None:
        """A request has ended: its stream goes on at once, while others begin and while measured ones run anywhere."""
        self.owed -= request.measured
        if self._spare and (not self.filled or (not todo and not self.done)):
            todo.appendleft((self._spare.popleft(), now_ns))

    @property
    def own_ended(self) -> bool:
        """Whether all measured requests of this process have ended."""
        return self.filled and self.owed <= 0

    @property
    def done(self) -> bool:
        """Whether all measured requests have ended, those of the other processes among them."""
        return self.own_ended and self.released

    def enough(self, running: int) -> None:
        """No further measured request is needed; `running`: those that are finished all the same, in a full loop."""
        self.filled, self._measured, self.owed = True, (), running

    def unsent(self) -> Sequence[tuple[Request, int]]:
        """Measured requests that were never given."""
        measured, self._measured = self._measured, ()
        return measured
