"""A sweep that has to fit into a time: coarse points first, each by a short look, and more requests where that is too close."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from bench_tests.errors import UsageError
from bench_tests.load.records import Records
from bench_tests.measure.expected import Expected
from bench_tests.measure.point import Measurement, Sweep, bring_back
from bench_tests.results.aside import put_back, taken_aside
from bench_tests.results.write import write_result
from bench_tests.sweep.coarse import coarse_first
from bench_tests.sweep.point import Point
from bench_tests.sweep.units import format_s
from bench_tests.verdict.decide import ERROR, FAILED, PASSED, Verdict
from bench_tests.verdict.foreseen import foreseen
from bench_tests.verdict.repeats import start_burst
from bench_tests.verdict.summary import latencies_s

__all__ = ["BudgetedSweep", "look_requests"]

Case = tuple[Point, int]
Measure = Callable[[Sweep, Point, int], Awaitable[Measurement]]
LOOK_WAVES = 3  # of a first look: the start burst, and two waves behind it
FEWEST = 24  # requests of a first look: of fewer there is no tail
LITTLE = 0.75  # a look at more of a point's requests saves too little
SHARE = 3  # of an open loop's requests, a first look has one in so many


def look_requests(sweep: Sweep, point: Point) -> int:
    """How many requests a first look at a point has; all of them where it can't be shortened (a trace, a sequential run)."""
    total = sweep.num_prompts(point)
    if point.workload or sweep.profile.slo.mode == "confident":
        return total
    return min(total, max(FEWEST, LOOK_WAVES * point.conc if not point.rate else math.ceil(total / SHARE)))


@dataclass
class BudgetedSweep:
    """The cases of a session in the order that its time allows. `measure` runs, keeps and tells one.

    `deadline_s`: of `clock`, when the last load has to have ended.
    """

    sweep: Sweep
    cases: Sequence[Case]
    budget_s: float
    deadline_s: float
    measure: Measure
    clock: Callable[[], float] = time.monotonic
    left_out: dict[Case, str] = field(default_factory=dict)
    unclear: dict[Case, Measurement] = field(default_factory=dict)
    rewritten: dict[Case, Measurement] = field(default_factory=dict)  # what `measure` gave, with what is known by now
    _times: Expected = field(default_factory=Expected)
    _spent_s: float = 0.0
    _done: list[Case] = field(default_factory=list)
    _settled: dict[Case, str] = field(default_factory=dict)  # PASSED or FAILED

    async def run(self) -> None:
        """Measure what fits. What a case came to is in what `measure` kept, `rewritten` and `left_out`."""
        for point in {point for point, _ in self.cases}:
            if earlier := self.sweep.earlier(point):
                self._times.learn_earlier(point, earlier)
        order = {point: place for place, point in enumerate(coarse_first({point for point, _ in self.cases}))}
        for case in sorted(self.cases, key=lambda case: (case[1], order[case[0]])):
            await self._look(case)
        for case in list(self.left_out):  # by now more is known of how long they take
            del self.left_out[case]
            await self._look(case)
        for longer in (self._longer, self._total):  # twice the requests settle most of what is open
            for case in list(self.unclear):
                self._by_a_neighbour(case)
            for case in sorted(self.unclear, key=lambda case: self._whole_s(case[0])):
                await self._more(case, longer(case[0]))
        for case in list(self.unclear):
            self._say_open(case)

    def words(self) -> list[str]:
        """What became of the budget, for a person: a line, and one for each kind of case that was not settled."""
        fixed_s = sum(self._whole_s(point) for point, _ in self._done)
        saved = f", {1 - self._spent_s / fixed_s:.0%} less" if 0 < self._spent_s < fixed_s else ""
        settled_words = f"budget {format_s(self.budget_s)}: {len(self._settled)} of {len(self.cases)} points settled"
        if self._spent_s > 0 and fixed_s > 0:  # nothing is known of points that were left out or reused
            settled_words += f" in {format_s(self._spent_s)}; all requests of these points would have taken about {format_s(fixed_s)}{saved}"
        found = [settled_words]
        for what, cases in (("too close to call or not measured", self.unclear), ("left out", self.left_out)):
            if cases:
                found.append(
                    f"{what}: {', '.join(self._name(case) for case in cases)}; more time and --resume measure them"
                )
        return found

    # ------------------------------------------------------------------ one case

    async def _look(self, case: Case) -> None:
        point, total = case[0], self._total(case[0])
        requests = look_requests(self.sweep, point)
        if not self._fits(case, requests):
            return
        found = await self._measured(case, requests)
        if found.verdict.word == ERROR and self.clock() >= self.deadline_s:
            self.left_out[case] = (
                f"left out: --budget {format_s(self.budget_s)} ended while it ran; give more time and --resume"
            )
            self._done.remove(case)
            return
        if requests == total or self._is_settled(found, total):
            self._note(case, found)
        else:
            self.unclear[case] = found

    async def _more(self, case: Case, requests: int) -> None:
        if not self._fits(case, requests):
            del self.left_out[case]  # it was measured, by its first look
            return
        looked = self.unclear[case]
        kept = taken_aside(looked.path) if looked.verdict.word != ERROR else {}
        found = await self._measured(case, requests)
        if kept and found.verdict.word == ERROR and self.clock() >= self.deadline_s:
            put_back(kept)  # the budget ended while it ran: what its first look has shown stands
            return
        if requests == self._total(case[0]) or self._is_settled(found, self._total(case[0])):
            del self.unclear[case]
            self._note(case, found)
        else:
            self.unclear[case] = found

    def _say_open(self, case: Case) -> None:
        found = self.unclear[case]
        if found.verdict.word != ERROR:
            words = (
                f"too close to call by {found.result['num_prompts']} requests, and the budget had no time for all "
                f"{self._total(case[0])}"
            )
            self.unclear[case] = self.rewritten[case] = self._rewrite(found, ERROR, words)

    def _by_a_neighbour(self, case: Case) -> None:
        """An open PASSED is settled where a heavier load of the same kind has passed, an open FAILED where a lighter failed."""
        looked, (point, _) = self.unclear[case], case
        word = looked.verdict.word
        for other, settled in self._settled.items():
            heavy, light = (other[0], point) if word == PASSED else (point, other[0])
            if word == settled and _at_least(heavy, light):
                words = f"settled by {other[0]} too, which is {'heavier' if word == PASSED else 'lighter'} and {word}"
                del self.unclear[case]
                self._settled[case] = word
                self.rewritten[case] = self._rewrite(looked, word, words)
                return

    def _note(self, case: Case, found: Measurement) -> None:
        """Count a measurement as settled, and say in it by how many of its requests."""
        requests, total = int(found.result["num_prompts"]), self._total(case[0])
        if found.verdict.word != ERROR:
            self._settled[case] = found.verdict.word
        if requests < total:
            words = f"settled by the first {requests} of {total} requests, if the others are like them"
            self.rewritten[case] = self._rewrite(found, found.verdict.word, words)

    def _fits(self, case: Case, requests: int) -> bool:
        """Whether that many requests of the point end in time, as far as is known; told in `left_out` where they don't."""
        left_s = self.deadline_s - self.clock()
        expected_s = self._times.seconds(case[0], self._sent(case[0], requests))
        if left_s > 0 and (expected_s is None or expected_s <= left_s):
            return True
        needs = f"it needs about {format_s(expected_s)}" if expected_s else "nothing tells how long it takes"
        self.left_out[case] = (
            f"left out: {needs}, and {format_s(left_s) if left_s > 0 else 'none'} of --budget {format_s(self.budget_s)} was left; "
            "give more time and --resume"
        )
        return False

    async def _measured(self, case: Case, requests: int) -> Measurement:
        point, run = case
        began = self.clock()
        mine = copy.copy(self.sweep)  # the same server, seed and running number of prompts
        profile = self.sweep.profile
        limit_s = min(profile.timeouts.point, max(1.0, self.deadline_s - began))
        load = profile.load
        if requests != self._total(point):
            load = replace(load, num_prompts=requests, num_warmups=self._warmups(point))
        mine.profile = replace(profile, load=load, timeouts=replace(profile.timeouts, point=limit_s))
        try:
            found = await self.measure(mine, point, run)
        finally:
            bring_back(self.sweep, mine)
        took_s = self.clock() - began
        if not found.kept:
            self._spent_s += took_s
            self._times.learn(point, self._sent(point, requests), took_s)
        if case not in self._done:
            self._done.append(case)
        return found

    def _is_settled(self, found: Measurement, total: int) -> bool:
        """Whether the verdict of all requests is clear by those of a first look."""
        if found.verdict.word == ERROR:
            return False
        if found.kept:
            return True
        objectives = self.sweep.profile.slo.objectives(found.point)
        if not objectives:
            return True
        try:
            records = Records.load(found.path.parent / str(found.result["records"]))
        except (UsageError, KeyError):
            return False
        values = latencies_s(records, records.completed, from_schedule=records.open_loop)
        looked = max(1, int(records.completed.sum()))
        said = set()
        for objective in objectives:
            if objective.quantile is None:
                return False
            of = values[objective.latency]
            each = len(of) / looked  # one of a request, gaps of ITL many
            burst = round(each * start_burst(records, self.sweep.block(found.point)))
            said.add(foreseen(of, objective.quantile, objective.limit_s, round(each * total), burst))
        return ("FAIL" in said) if found.verdict.word == FAILED else said == {"PASS"} and found.verdict.word == PASSED

    def _rewrite(self, found: Measurement, word: str, message: str) -> Measurement:
        """The same result with another verdict or a further message, in its file too."""
        if found.kept:
            return found
        verdict = Verdict(
            word, (*found.verdict.messages, message) if word != ERROR else (message, *found.verdict.messages)
        )
        result = {**found.result, "verdict": word, "messages": list(verdict.messages)}
        write_result(found.path, result)
        return replace(found, verdict=verdict, result=result)

    def _longer(self, point: Point) -> int:
        """How many requests a second look has: twice the first one's, or all where that saves little."""
        twice, total = 2 * look_requests(self.sweep, point), self._total(point)
        return twice if twice <= total * LITTLE else total

    def _whole_s(self, point: Point) -> float:
        """What all requests of a point take, as far as is known."""
        return self._times.seconds(point, self._sent(point, self._total(point))) or 0.0

    def _total(self, point: Point) -> int:
        return self.sweep.num_prompts(point)

    def _warmups(self, point: Point) -> int:
        """Of a first look: half a wave at most, since the points before it have warmed the server."""
        return min(self.sweep.profile.num_warmups(point), max(1, point.conc // 2))

    def _sent(self, point: Point, requests: int) -> int:
        profile = self.sweep.profile
        warmups = profile.num_warmups(point) if requests == self._total(point) else self._warmups(point)
        return requests + warmups + profile.load.filling(point.conc)

    def _name(self, case: Case) -> str:
        return str(case[0]) + (f"-run{case[1]}" if max(run for _, run in self.cases) > 1 else "")


def _at_least(heavy: Point, light: Point) -> bool:
    """Whether no axis of the one is below the other's, of loads of the same kind."""
    if heavy.workload or light.workload or bool(heavy.rate) != bool(light.rate) or heavy.config != light.config:
        return False
    return all(getattr(heavy, axis) >= getattr(light, axis) for axis in ("isl", "osl", "conc", "rate"))
