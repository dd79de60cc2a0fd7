"""The capacity of a server: the search for it, load by load, and the interval that it ends with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bench_tests.sweep.find import MOST_PROBES, Find

__all__ = ["Capacity", "Probe", "Search", "Word", "narrow"]

Word = Literal["within", "beyond", "unclear", "looked"]


@dataclass(frozen=True)
class Probe:
    """One load that was tried: `word` says on which side of the limit it was found; `n` requests, `took_s` seconds.

    "unclear": too close to call; "looked": too few requests to prove anything, and none were meant to.
    `over`: how far its figure lies beyond the limit, on a scale that is about straight over the log of the load (below 0:
    within); an estimate that proves nothing, and says where to look next.
    """

    load: float
    word: Word
    n: int = 0
    took_s: float = 0.0
    over: float = 0.0
    words: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    result: str = ""  # its result's file

    @property
    def leans_beyond(self) -> bool:
        """On which side it is, or seems to be."""
        return self.word == "beyond" or (self.word != "within" and self.over > 0)

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


class Search:
    """Which load is tried next. Geometric growth from the low end until one is beyond; then both ends of the interval.

    Tell it what each load was found to be. While loads grow, a look is enough (`look`): one that seems to be within need not be
    proven, one that seems to be beyond is tried again. Where the limit lies is estimated from the two loads around it (a
    straight line of `over`), and the end that is further from there is tried next, half of `within` beside the estimate;
    twice as far each time that is too close to call. Once an estimate was wrong, it is bisection on a log scale until the
    two are close. It never takes more than `most` probes, looks apart.
    """

    def __init__(self, find: Find, most: int = MOST_PROBES) -> None:
        self.find, self.most = find, most
        self.probes: list[Probe] = []
        self.growth = _growth(find.high / find.low, find.within, most)
        self.aimed: Word | None = None  # what the last load was expected to be
        self.missed = False  # once it was not
        self.look = False  # whether a look at the last load is enough

    def tell(self, probe: Probe) -> None:
        self.probes.append(probe)

    def _of(self, word: Word) -> list[float]:
        return [probe.load for probe in self.probes if probe.word == word]

    @property
    def lo(self) -> float | None:
        """The largest load proven within the limits; None without one."""
        return max(self._of("within"), default=None)

    @property
    def hi(self) -> float | None:
        """The smallest load proven beyond them; None without one."""
        return min(self._of("beyond"), default=None)

    @property
    def narrow(self) -> bool:
        """Whether the interval is as narrow as was asked, or neighbouring whole numbers."""
        return self.lo is not None and self.hi is not None and narrow(self.find, self.lo, self.hi)

    @property
    def contradiction(self) -> tuple[float, float] | None:
        """(beyond, within): a load that was beyond although a larger one was within; None where there is none."""
        lo, hi = self.lo, self.hi
        return (hi, lo) if lo is not None and hi is not None and hi <= lo else None

    def next(self) -> float | None:
        """The next load; None when the search is over."""
        if sum(probe.word != "looked" for probe in self.probes) >= self.most or self.narrow or self.contradiction:
            return None
        self.look = False
        load = self._next()
        return None if load is None else float(load)

    def _next(self) -> float | None:
        if self.probes and self.probes[-1].word == "looked" and self.probes[-1].leans_beyond:
            return self.probes[-1].load
        below = [probe for probe in self.probes if not probe.leans_beyond]
        above = [probe for probe in self.probes if probe.leans_beyond]
        if not above and max((probe.load for probe in below), default=0.0) < self.find.high:
            self.aimed = None
            steps = len(below) + 1
            load = min(self._round(self.find.low * self.growth**steps), self.find.high)
            self.look = self.find.looks and load < self.find.high
            return load
        if not below:
            middle = self._round(math.sqrt(self.find.low * min(probe.load for probe in above)))
            if self._new(middle) and not narrow(self.find, self.find.low, min(probe.load for probe in above)):
                return middle
            return self.find.low if self._new(self.find.low) else self._beside(self.find.low)
        if not above:
            return self._beside(self.find.high)
        under, over = max(below, key=lambda p: p.load), min(above, key=lambda p: p.load)
        self.missed |= self.aimed is not None and self.probes[-1].word not in (self.aimed, "unclear")
        middle = self._round(math.sqrt(under.load * over.load))
        if self.missed and self._new(middle) and not narrow(self.find, under.load, over.load):
            self.aimed = None
            return middle
        beside = self._beside(_root(under, over))
        inside = (self.lo or 0.0) < middle < (self.hi or math.inf)
        return middle if beside is None and inside and self._new(middle) else beside

    def _beside(self, at: float) -> float | None:
        """A load at that side of `at` where the proven end is further away; the other where there is none."""
        low, high = self.lo or self.find.low / self.growth, self.hi or self.find.high * self.growth
        ways: list[tuple[float, Word]] = [(math.log(at / low), "within"), (math.log(high / at), "beyond")]
        for _, word in sorted(ways, reverse=True):
            down = word == "within"
            unclear = sum(load <= at if down else load >= at for load in self._of("unclear"))
            load = at * (1 + self.find.within) ** (0.5 * 2**unclear * (-1 if down else 1))
            end = self.lo if down else self.hi
            if end is not None:  # no further than half of the way
                load = max(load, math.sqrt(at * end)) if down else min(load, math.sqrt(at * end))
            load = self._round(load, down)
            while not self._new(load) and self.find.low <= load <= self.find.high:
                load = load + (-1 if down else 1) if self.find.whole else self._round(load * (1 + self.find.within) ** (-0.5 if down else 0.5))  # fmt: skip
            load = min(max(load, self.find.low), self.find.high)
            if self._new(load) and (self.lo or 0.0) < load < (self.hi or math.inf):
                self.aimed = word
                return load
        return None

    def _new(self, load: float) -> bool:
        return load not in [probe.load for probe in self.probes if probe.word != "looked"]

    def _round(self, load: float, down: bool | None = None) -> float:
        """A load as it can be asked for: a whole number, down or up where that is said; or four significant digits."""
        if not self.find.whole:
            return float(f"{load:.4g}")
        return float(round(load) if down is None else math.floor(load + 1e-9) if down else math.ceil(load - 1e-9))


def narrow(find: Find, low: float, high: float) -> bool:
    """Whether two loads lie as close together as was asked, or are neighbouring whole numbers."""
    return high <= low * (1 + find.within) * (1 + 1e-9) or (find.whole and high - low <= 1)


def _root(under: Probe, over: Probe) -> float:
    """Where a straight line through two loads' `over` meets 0, on a log scale; the middle where there is no such line."""
    a, b = math.log(under.load), math.log(over.load)
    if a >= b or not under.over <= 0 < over.over:
        return math.exp((a + b) / 2)
    return math.exp(a + (b - a) * -under.over / (over.over - under.over))


def _growth(ratio: float, within: float, most: int) -> float:
    """The factor from one load of the growth to the next: the smallest with which every search ends in `most` probes.

    Formula: with k steps of growth, ⌈log₂(ln g / ln(1 + within))⌉ of bisection follow, in the last step those of its own
    factor. Where no factor does it, the one with the fewest probes.
    """
    choices = []
    for growth in [2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0, ratio]:
        growth = min(growth, ratio)
        at, worst, steps = 1.0, 0, 0
        while at < ratio * (1 - 1e-9):
            factor = min(growth, ratio / at)
            at, steps = at * factor, steps + 1
            halvings = math.ceil(math.log2(max(math.log(factor) / math.log1p(within), 1)) - 1e-9)
            worst = max(worst, steps + halvings + (steps == 1))  # the low end itself, where all were beyond
        choices.append((max(worst, most), growth))
    return min(choices)[1]


@dataclass(frozen=True)
class Capacity:
    """What a search found: the capacity is at least `lo` and below `hi`. None: that end was not found between the loads.

    `why_not`: why nothing can be said, in words; "" where something can.
    """

    isl: int
    osl: int
    find: Find
    lo: float | None
    hi: float | None
    probes: Sequence[Probe] = ()
    why_not: str = ""
    config: str = ""  # of the server, where there are several

    @classmethod
    def of(cls, isl: int, osl: int, search: Search, broken: str = "", config: str = "") -> Capacity:
        """The interval of a search that is over. `broken`: why a load could not be measured."""
        why = broken
        if search.contradiction and not broken:
            beyond, within = map(search.find.say, search.contradiction)
            why = f"not monotone: {beyond} was beyond the limits and {within} within; is the server's load ours alone?"
        elif search.lo is None and search.hi is None and not broken:
            tried = ", ".join(search.find.say(p.load) for p in search.probes if p.word != "looked")
            why = f"nothing decided: {tried} too close to call; raise slo.max_requests"
        return cls(isl, osl, search.find, search.lo, search.hi, tuple(search.probes), why, config)

    @property
    def name(self) -> str:
        return f"{self.config}-" * bool(self.config) + f"isl{self.isl}-osl{self.osl}"

    @property
    def interval(self) -> str:
        """`conc 41 to 43`: within at 41, beyond at 43; `at least conc 256`; `below conc 1`."""
        say = self.find.say
        if self.lo is None:
            return f"below {say(self.hi)}" if self.hi is not None else "unknown"
        if self.hi is None:
            return f"at least {say(self.lo)}"
        return f"{say(self.lo)} is within, {say(self.hi)} beyond"

    @property
    def too_low(self) -> bool:
        """Proven: less than wanted; without a wish, that not even the lowest load is within."""
        if self.why_not or self.hi is None:
            return False
        return self.hi <= (self.find.least if self.find.least is not None else self.find.low)

    @property
    def unclear(self) -> str:
        """Why this says nothing of what was asked: the search's own reason, or an interval that straddles; else ""."""
        if self.why_not:
            return f"{self.name}: {self.why_not}"
        least = self.find.least
        if least is not None and not self.too_low and (self.lo is None or self.lo < least):
            return (
                f"{self.name}: the wanted capacity, {self.find.say(least)}, lies within the interval: {self.interval}"
            )
        if self.lo is None and not self.too_low:
            return f"{self.name}: {self.interval}, and nothing below it was proven within; lower the end of --between"
        return ""

    @property
    def words(self) -> str:
        """The outcome in one line."""
        n, took = sum(p.n for p in self.probes), sum(p.took_s for p in self.probes)
        tried = sum(p.word != "looked" for p in self.probes)
        looks = f" and {len(self.probes) - tried} looks" if tried < len(self.probes) else ""
        wide = ""
        if self.lo is not None and self.hi is not None and not self.narrow:
            unclear = [self.find.say(p.load) for p in self.probes if p.word == "unclear"]
            why = f"too close to call: {', '.join(unclear)}" if unclear else f"after {tried} probes"
            wide = f"; wider than the {self.find.within:.3g} asked ({why})"
        least = f"; {self.find.say(self.find.least)} wanted" if self.find.least is not None else ""
        return f"{self.name}: {self.interval} (95 % sure, {tried} probes{looks}, n={n}, {took:.0f} s{wide}){least}"

    @property
    def narrow(self) -> bool:
        """Whether the interval is as narrow as was asked."""
        return self.lo is not None and self.hi is not None and narrow(self.find, self.lo, self.hi)

    def as_dict(self) -> dict[str, Any]:
        """As its file says it."""
        return {
            "kind": "capacity",
            "isl": self.isl,
            "osl": self.osl,
            "axis": self.find.axis,
            "between": [self.find.low, self.find.high],
            "asked_within": self.find.within,
            "attain": self.find.attain,
            "min_capacity": self.find.least,
            "within": self.lo,
            "beyond": self.hi,
            "why_not": self.why_not,
            "words": self.words,
            "probes": [probe.as_dict() for probe in self.probes],
        }
