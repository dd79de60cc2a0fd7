"""What a search for the capacity is asked: along which axis, between which loads, how closely, by which criterion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.sweep.point import Point, number
from bench_tests.sweep.profile import Profile
from bench_tests.sweep.slo import SECOND

__all__ = ["MOST_PROBES", "Find", "between_text", "find_of", "loads_between", "searched", "share", "share_text"]

MOST_PROBES = 8  # of one search; the error of the whole is divided among them
BETWEEN = {"conc": "1:256", "rate": "0.25:64"}
ERROR = 0.05  # chance of an interval that does not hold the capacity
FEWEST_REQUESTS = 2000  # what a probe may take, at least: its p99 is then judged to about ±0.3 sd of a latency
WAVES = 16  # likewise, times the concurrency
LOOK_WAVES = 5  # of a look: the first are those of streams that find their order
LOOK_REQUESTS = 40  # at least


def share(text: str, where: str = "value") -> float:
    """`5%` or `0.05` as 0.05. Raises UsageError for anything that is not above 0 and below 1."""
    try:
        value = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise UsageError(f"{where}: {text!r}; expected a share such as 5% or 0.05, above 0 and below 100%")
    return value


def loads_between(text: str, where: str = "value") -> tuple[float, float]:
    """`1:256` as its two ends. Raises UsageError."""
    low, colon, high = text.partition(":")
    try:
        ends = (float(low), float(high)) if colon else (math.nan, math.nan)
    except ValueError:
        ends = (math.nan, math.nan)
    if not (0 < ends[0] < ends[1] <= 1e6):
        raise UsageError(f"{where}: {text!r}; expected LOW:HIGH with 0 < LOW < HIGH, such as 1:256")
    return ends


def between_text(text: str) -> str:
    """The text of `--between`, once it can be read. Raises UsageError."""
    loads_between(text)
    return text


def share_text(text: str) -> str:
    """The text of a share, once it can be read. Raises UsageError."""
    share(text)
    return text


@dataclass(frozen=True)
class Find:
    """A search: `axis` is conc or rate; `low` to `high` its loads; `within`: how wide the interval may be, as a share.

    `attain`: the share of attempted requests that must be within all their limits; None: the objectives decide.
    `least`: the capacity that is wanted; None: none.
    """

    axis: str
    low: float
    high: float
    within: float = 0.05
    attain: float | None = None
    least: float | None = None

    @property
    def whole(self) -> bool:
        """Whether loads are whole numbers."""
        return self.axis == "conc"

    def point(self, isl: int, osl: int, load: float) -> Point:
        return Point(isl, osl, int(load)) if self.whole else Point(isl, osl, 0, load)

    def say(self, load: float) -> str:
        """`conc 16`, `rate 8/s`."""
        return f"conc {number(load)}" if self.whole else f"rate {number(load)}/s"

    @property
    def looks(self) -> bool:
        """Whether a short look shows where a load lies. A rate that is too high shows itself only with time."""
        return self.whole and self.attain is None

    def profile(self, profile: Profile, point: Point, look: bool = False) -> Profile:
        """The profile of one probe: confident, ended as soon as it is clear, its streams begun one by one.

        `look`: as many requests as show on which side a load seems to lie, judged by their figures; they prove nothing.

        Each probe has an equal part of the error of the whole search: whatever the probes before it made it be, an interval
        without the truth has a chance of at most the sum. An objective can be broken by chance as well as any other.
        """
        slo = profile.slo
        wrongs = 1 if self.attain else max(1, len(slo.objectives(point)))
        budget = slo.max_requests or math.ceil(max(FEWEST_REQUESTS, WAVES * point.conc, self.steady(profile, point)))
        # a closed loop that fell into step is asked a second time
        asked = 1 + SECOND if self.whole and not self.attain else 1.0
        level = 1 - 2 * ERROR / MOST_PROBES / wrongs / asked
        first = max(1, math.ceil(self.steady(profile, point) / 2))
        validity = profile.validity
        if self.attain:  # a failed request is one that is not within its limits, and counted as that
            slo = replace(slo, limits_s={}, overrides=())
            validity = replace(validity, max_failed_share=1.0)
        slo = replace(slo, mode="confident", max_requests=budget, attain=self.attain, level=level, first=first)
        load = replace(profile.load, start="staggered") if self.whole else profile.load
        if look:
            slo = replace(profile.slo, mode="point", max_requests=0)
            load = replace(load, num_prompts=min(budget, max(LOOK_REQUESTS, LOOK_WAVES * point.conc)))
        return replace(profile, slo=slo, validity=validity, load=load)

    @staticmethod
    def steady(profile: Profile, point: Point) -> float:
        """How many requests an open loop needs before it says something of its steady state; 0 in a closed one."""
        return point.rate * profile.load.rate_seconds


def find_of(option: Callable[[str], Any]) -> Find | None:
    """The search that the command line asks for. Raises UsageError."""
    axis = option("--find")
    if not axis:
        for flag in ("--between", "--within", "--attain", "--min-capacity"):
            if option(flag) is not None:
                raise UsageError(f"{flag} {option(flag)}: it is about a search; give --find conc or --find rate too")
        return None
    for flag in ("--baseline", "--save-baseline", "--history"):
        if option(flag):
            raise UsageError(
                f"--find {axis} and {flag}: a search has no fixed points to compare; leave one of them out"
            )
    if int(option("--repeat")) > 1:
        raise UsageError(
            f"--find {axis} and --repeat {option('--repeat')}: a search repeats nothing; leave --repeat out"
        )
    low, high = loads_between(option("--between") or BETWEEN[axis], "--between")
    if axis == "conc" and not (low.is_integer() and high.is_integer()):
        raise UsageError(f"--between {option('--between')}: with --find conc both ends are whole numbers")
    attain = option("--attain")
    wanted = option("--min-capacity")
    if wanted is not None and not low <= wanted <= high:
        raise UsageError(f"--min-capacity {wanted:g}: it lies outside of --between {low:g}:{high:g}; widen that")
    return Find(
        axis,
        low,
        high,
        share(option("--within") or "5%", "--within"),
        share(attain, "--attain") if attain is not None else None,
        wanted,
    )


def searched(find: Find, profile: Profile, points: list[Point]) -> list[Point]:
    """One point for each ISL and OSL, at the lowest load. Raises UsageError where a search has no objective."""
    flag = f"--find {find.axis}"
    if profile.workload.name:
        raise UsageError(f"{flag}: {profile.workload.name} has loads of its own; search with random prompts")
    if math.isfinite(profile.load.request_rate):
        raise UsageError(
            f"{flag}: the load has a fixed request rate ({profile.load.request_rate:g}/s); leave --request-rate out"
        )
    found = list(dict.fromkeys(find.point(p.isl, p.osl, find.low) for p in points))
    for point in found:
        if find.attain:
            limits = profile.goodput.limits_s if profile.goodput else {}
            if not limits:
                raise UsageError('--attain: no request has a limit; give them with --goodput "ttft:2s tpot:50ms"')
            if profile.load.cancel:
                raise UsageError(
                    "--attain: requests that the load cancels are neither good nor bad; leave load.cancel out"
                )
            if "e2el" in limits and not (profile.load.full_length and profile.load.range_ratio == 0):
                raise UsageError("--attain: a limit for e2el needs answers of one length (ignore_eos, no range ratio); "
                                 "leave e2el out of --goodput")  # fmt: skip
        elif not profile.slo.objectives(point):
            raise UsageError(
                f'{flag}: {point} has no objective; give --slo "p99_ttft<=2s" or --attain 99% with --goodput'
            )
        find.profile(profile, point)  # an objective that cannot be judged request by request is refused here
    return found
