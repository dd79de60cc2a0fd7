"""`--budget`: the sweep fits into a time. Its points are measured in an order of their own before the first case is judged."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable

from bench_tests.errors import NotMeasured, UsageError
from bench_tests.measure.budget import BudgetedSweep
from bench_tests.measure.point import Measurement, Sweep
from bench_tests.pytest_plugin.state import Session
from bench_tests.sweep.point import Point
from bench_tests.sweep.units import parse_duration_s

__all__ = ["budget_s", "check", "measured"]

Measure = Callable[[Session, Sweep, Point, int], Awaitable[Measurement]]
CLOSING_S = 2.0  # kept for what comes after the last load: the server's end, the table
CLOSING_SHARE = 0.01
DRAWING_S = 0.1  # a point, for the pictures


def budget_s(text: str) -> float:
    """`2h` in seconds; `job`: what is left of the Slurm job that this runs in. Raises UsageError."""
    if text != "job":
        return parse_duration_s(text, "--budget")
    ends = os.environ.get("SLURM_JOB_END_TIME", "")
    if not ends.isdigit():
        raise UsageError("--budget job: this is no Slurm job, or it does not say when it ends ($SLURM_JOB_END_TIME); give a "
                         "time such as 2h")  # fmt: skip
    left_s = int(ends) - time.time()
    if left_s <= 0:
        raise UsageError("--budget job: the job's time is over; submit it with a longer --time")
    return left_s


def check(state: Session) -> None:
    """Read the option. Raises UsageError for what a budget cannot be shared with."""
    text = state.option("--budget")
    if not text:
        return
    for flag in ("--find", "--against"):
        if state.option(flag):
            raise UsageError(
                f"--budget and {flag}: a search and a comparison in turn have an end of their own; drop one"
            )
    if int(state.option("--restarts")) > 1:
        raise UsageError("--budget and --restarts: the order of a budget's rounds is its own; drop one")
    configs = sorted({point.config for point in state.points})
    if len(configs) > 1:
        raise UsageError(
            f"--budget and {len(configs)} configurations: a budget is of one server; name one: --config {configs[0]}"
        )
    state.budget_s = budget_s(text)


async def measured(state: Session, sweep: Sweep, point: Point, run: int, measure: Measure) -> Measurement:
    """What this case came to; the first one that asks has all of them measured. Raises NotMeasured for one left out."""
    if state.budgeted is None:
        state.budgeted = _sweep_of(state, sweep, measure)
        await state.budgeted.run()
        state.measurements |= state.budgeted.rewritten
        with state.terminal.uncaptured() as say:
            for line in state.budgeted.words():
                say(line)
    found = state.measurements.get((point, run))
    if (point, run) in state.budgeted.left_out:
        raise NotMeasured(state.budgeted.left_out[point, run])
    if found is None:
        raise NotMeasured("not measured: the sweep ended before this point's turn")
    return found


def _sweep_of(state: Session, sweep: Sweep, measure: Measure) -> BudgetedSweep:
    seconds = float(state.budget_s or 0.0)
    closing_s = CLOSING_S + CLOSING_SHARE * seconds
    closing_s += 0.0 if state.option("--no-plot") else DRAWING_S * len(state.selected)

    async def one(mine: Sweep, point: Point, run: int) -> Measurement:
        found = state.measurements[point, run] = await measure(state, mine, point, run)
        with state.terminal.uncaptured():
            state.terminal.point(found)
        return found

    deadline_s = state.started_s + max(seconds - closing_s, seconds / 2)
    return BudgetedSweep(sweep, state.selected, seconds, deadline_s, one)
