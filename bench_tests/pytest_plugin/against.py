"""`--against URL`: a second live server, measured in turn with the session's own, each round A B B A or B A A B."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from bench_tests.compare.paired import ORDERS
from bench_tests.errors import ServerError, UsageError
from bench_tests.measure.point import Measurement, Sweep
from bench_tests.pytest_plugin.state import Session
from bench_tests.server.attach import look_at
from bench_tests.server.choose import obtain, second
from bench_tests.server.probe import probe
from bench_tests.sweep.point import Point
from bench_tests.verdict.decide import ERROR, FAILED, Verdict

__all__ = ["begin", "check", "measure_round"]

SALT = 1 << 40  # of B's prompts: the same lengths and moments, other tokens, should the two share a cache

Measure = Callable[[Session, Sweep, Point, int], Awaitable[Measurement]]


def check(state: Session) -> None:
    """Raise UsageError for what cannot be asked together with a second server."""
    url = state.option("--against")
    if not url:
        return
    for flag in ("--baseline", "--find", "--history"):
        if state.option(flag):
            raise UsageError(f"--against and {flag}: one question at a time; leave one of them out")
    if int(state.option("--restarts")) > 1:
        raise UsageError("--against and --restarts: both servers run all the time; leave --restarts out")
    if state.choice is not None:
        second(state.choice, state.option)


async def begin(state: Session, sweep: Sweep) -> None:
    """Before the first load: look at the other server, and plan the rounds of both. Raises ServerError, UsageError."""
    state.other = await other_server(state, sweep)
    if state.other is None or sweep.profile.slo.mode != "confident":
        return
    for point, run in state.selected:
        for side in (sweep, state.other):
            side.repeated.planned.setdefault(point, []).extend((2 * run - 1, 2 * run))  # two runs a round


async def other_server(state: Session, sweep: Sweep) -> Sweep | None:
    """The server of --against, looked at and probed as the session's own; None without one. Raises ServerError, UsageError."""
    if not state.option("--against") or state.choice is None:
        return None
    choice = second(state.choice, state.option)
    with state.terminal.uncaptured() as say:
        try:
            served = await obtain(choice, state.results_dir / "logs", False, say)
            model = await look_at(served.endpoint, choice.profile.model.id)
        except ServerError as why:
            raise ServerError(f"--against: {why}") from why
        probed = await probe(served.endpoint, choice.profile, model)
        say(f"against: {served.endpoint.base_url}, {model.model}, {model.engine} {model.version}")
        for note in (*model.notes, *probed.notes):
            say(f"note: against: {note}")
    found = Sweep(
        probed.profile,
        served,
        model,
        state.results_dir / "against",
        sweep.metadata,
        sweep.calibrations,
        hosts=sweep.hosts,
    )
    found.several = "" if probed.profile.server.counts_apart else probed.several
    found.refused, found.template_tokens = probed.refused, probed.template_tokens
    found.token_ids = probed.token_ids
    found.run_id, found.seed, found.salt = sweep.run_id, sweep.seed, SALT
    found.serial = sweep.serial
    return found


async def measure_round(state: Session, a: Sweep, b: Sweep, point: Point, number: int, measure: Measure) -> Measurement:
    """Four runs of a point, in the order of this round. Of them the one whose verdict counts: an ERROR first, then a FAILED.

    The first runs of A and B are of the same prompts, and so are their second ones.
    """
    done: dict[str, list[Measurement]] = {"A": [], "B": []}
    serials: dict[int, int] = {}
    for side in ORDERS[(number - 1) % 2]:
        sweep, kept = (a, state.measurements) if side == "A" else (b, state.others)
        nth = len(done[side])
        sweep.serial = serials.setdefault(nth, max(a.serial, b.serial))
        run = 2 * (number - 1) + nth + 1
        found = kept[point, run] = await measure(state, sweep, point, run)
        done[side].append(found)
    listed = [(side, found) for side in "AB" for found in done[side]]
    for word in (ERROR, FAILED):
        bad = [(side, found) for side, found in listed if found.verdict.word == word]
        if bad:
            words = tuple(f"{side}: {message}" for side, found in bad for message in found.verdict.messages)
            return replace(bad[0][1], verdict=Verdict(word, words))
    return listed[0][1]
