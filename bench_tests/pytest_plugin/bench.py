"""The fixture `bench`: users' own cases measure with it."""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from bench_tests.errors import NotMeasured, UsageError
from bench_tests.measure.point import Measurement, Sweep, bring_back
from bench_tests.measure.run import Run
from bench_tests.sweep.keys import checked
from bench_tests.sweep.point import Point
from bench_tests.sweep.settings import Load
from bench_tests.sweep.slo import parse_objectives
from bench_tests.verdict.decide import ERROR

__all__ = ["Bench"]

Measure = Callable[[Sweep, Point, int], Awaitable[Measurement]]


class Bench:
    """Loads the session's server as a case asks for it, with the profile's settings where it says nothing."""

    def __init__(self, sweep: Sweep, measure: Measure, taken: Callable[[Point, int], bool]) -> None:
        self.sweep = sweep
        self._measure = measure
        self._taken = taken

    async def load(self, *, isl: int, osl: int, conc: int, slo: str = "none", **load: Any) -> Run:
        """Measure one point: `isl` and `osl` tokens, `conc` requests at a time, and any key of the profile's [load].

        The result is kept, drawn and reported as that of a point of the sweep. `slo` gives it objectives, as `--slo`
        does; without them the case asserts what it wants of the figures. Raises NotMeasured, pytest's ERROR, when it
        could not be measured, and UsageError for a value that the profile would not take.
        """
        point = Point.parse(f"isl{isl}-osl{osl}-conc{conc}")
        profile = self.sweep.profile
        objectives = replace(profile.slo, limits_s=parse_objectives(slo), overrides=())
        mine = copy.copy(self.sweep)  # the same server, seed and running number of prompts
        mine.profile = replace(profile, load=replace(profile.load, **_checked(load)), slo=objectives)
        run = 1
        while self._taken(point, run):  # the same point again, maybe with other settings: a result of its own
            run += 1
        try:
            found = await self._measure(mine, point, run)
        finally:
            bring_back(self.sweep, mine)
        if found.verdict.word == ERROR:
            raise NotMeasured("; ".join(found.verdict.messages))
        return Run(found)


def _checked(said: dict[str, Any]) -> dict[str, Any]:
    specs = {spec.name: spec for spec in dataclasses.fields(Load)}
    for name in said.keys() - specs.keys():
        near = difflib.get_close_matches(name, list(specs), 1)
        hint = f"did you mean {near[0]}?" if near else f"expected isl, osl, conc, slo or one of {', '.join(specs)}"
        raise UsageError(f"bench.load: unknown {name!r}; {hint}")
    return {name: checked(specs[name], value, f"bench.load {name}") for name, value in said.items()}
