"""The line that tells a person how far a sweep is, and the pace from which it says how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from bench_tests.load.team import Progress
from bench_tests.measure.point import Sweep
from bench_tests.sweep.point import Point
from bench_tests.sweep.units import format_s

__all__ = ["Case", "Pace", "clock_words", "live_line", "work_of"]

Case = tuple[Point, int]  # a point and its round
TOLD = 0.02  # share of the sweep's work from which the time left is told
STEP_S = 0.02  # a decode step, where open and closed loops have to be added up


class Pace:
    """How long a sweep has run, and about how long the rest of it takes, by the work of its cases and what they took."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._left: dict[Case, float] = {}
        self._done = 0.0  # work that was measured in `_took_s`
        self._took_s = 0.0
        self._began_s: float | None = None
        self._case_began_s = 0.0

    def plan(self, works: Mapping[Case, float]) -> None:
        """The cases of this session, and the work of each, in any one unit."""
        self._left = dict(works)

    def begin(self) -> None:
        """A case is loaded from now on."""
        self._case_began_s = self._now()
        if self._began_s is None:
            self._began_s = self._case_began_s

    def end(self, case: Case, loaded: bool = True) -> None:
        """The case is over; what was not loaded (a reused result) tells nothing of the pace."""
        work = self._left.pop(case, 0.0)
        if loaded and work:
            self._done += work
            self._took_s += self._now() - self._case_began_s

    @property
    def elapsed_s(self) -> float:
        """Since the first load of this session began."""
        return 0.0 if self._began_s is None else self._now() - self._began_s

    def left_s(self, case: Case, share: float) -> float | None:
        """About how long the rest takes, with `share` of this case done; None as long as nothing can be said.

        Formula: work left × time taken / work done.
        """
        here = self._left.get(case)
        if here is None:
            return None
        done = self._done + here * share
        rest = sum(self._left.values()) - here * share
        if done <= TOLD * (done + rest):
            return None
        return rest * (self._took_s + self._now() - self._case_began_s) / done


def work_of(sweep: Sweep, cases: list[Case]) -> dict[Case, float]:
    """The work of each case: by its earlier result where all have one, else requests × OSL / concurrency, in seconds of
    20 ms a step; of an open loop requests / rate.
    """
    earlier = {point: (sweep.earlier(point) or {}).get("duration") for point, _ in cases}
    if all(isinstance(took, int | float) for took in earlier.values()):
        return {case: float(earlier[case[0]] or 0.0) for case in cases}
    profile = sweep.profile
    found = {}
    for point, run in cases:
        requests = sweep.num_prompts(point) + profile.num_warmups(point) + profile.load.filling(point.conc)
        in_step = requests * max(1, point.osl) * STEP_S / max(1, point.conc or point.users)
        found[point, run] = requests / point.rate if point.rate else in_step
    return found


def clock_words(seconds: float) -> str:
    """`0:42`, `12:05`, `3:00:09`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def live_line(name: str, number: int, points: int, progress: Progress, *, width: int, elapsed_s: float = 0.0,
              left_s: float | None = None, clock: str = "") -> str:  # fmt: skip
    """What is being measured right now, in fewer than `width` columns: what matters least is left out first."""
    done = progress.done + progress.failed
    medians = progress.ttft_s is not None
    parts = [  # (importance, text), as they stand in the line
        (6, clock),
        (1, f"[{number}/{points}]"),
        (0, name),
        (2, f"{progress.phase} {done}/{progress.total}"),
        (3, f"{progress.failed} failed" if progress.failed else ""),
        (5, f"{clock_words(elapsed_s)} elapsed"),
        (4, f"about {clock_words(left_s)} left" if left_s is not None else ""),
        (7, f"p50 TTFT {format_s(progress.ttft_s)}" if medians else ""),
        (8, f"TPOT {format_s(progress.tpot_s)}" if medians else ""),
    ]
    line = ""
    for most in range(9):
        longer = "  ".join(text for importance, text in parts if text and importance <= most)
        if len(longer) >= width:
            break
        line = longer
    return line or name[: max(0, width - 1)]
