"""A sweep point: input length × output length × concurrency or rate, or a recorded workload; and the names that select it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench_tests.errors import UsageError

__all__ = ["AXES", "Point", "grid", "keyword_tokens", "loads", "number", "rewrite_keyword"]

AXES = ("isl", "osl", "conc", "rate", "users")
_ID = re.compile(r"isl(\d{1,9})-osl(\d{1,9})(?:-rate(\d{1,9}(?:\.\d{1,9})?))?(?:-conc(\d{1,9}))?")
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_WORDS = "isl|osl|conc|rate|users|tp|dp|pp|mbt|seqs"  # of axes, and of sizes in the names of configurations
_AXIS = re.compile(rf"(?<![A-Za-z0-9])({_WORDS})({_NUMBER})(?![A-Za-z0-9])", re.IGNORECASE)
# what pytest's own -k grammar takes as one identifier, quoted here because it is not public
_IDENT = re.compile(r"(?:\w|:|\+|-|\.|\[|\]|\\|/|=)+")
_AXES_ONLY = re.compile(rf"(?:(?:{_WORDS}){_NUMBER})(?:-(?:{_WORDS}){_NUMBER})*", re.IGNORECASE)
_USERS = re.compile(r"(?:\w+_)?users(\d{1,9})")
_OF_CONFIG = re.compile(r"([A-Za-z0-9][\w.-]*?)-((?:isl|osl|conc|rate|users)\d.*)", re.IGNORECASE)
_WORKLOAD = re.compile(r"[a-z][a-z0-9_.]{0,63}")


@dataclass(frozen=True, order=True)
class Point:
    """Prompts of `isl` tokens, answers of `osl` tokens, and how they are asked for.

    A closed loop keeps `conc` requests in flight. An open loop starts `rate` requests per second; `conc` is then a cap,
    0 for none. A `workload` says what else there is: a trace (with lengths and arrivals of its own), a dataset (with
    lengths of its own; `isl` and `osl` are 0 in both), a ramp of the rate, or how many users have sessions (`users32`).
    `config` names the configuration of the server that is asked, where there are several.
    """

    isl: int
    osl: int
    conc: int = 0
    rate: float = 0.0
    workload: str = ""
    config: str = ""

    def __post_init__(self) -> None:
        if self.workload and not _WORKLOAD.fullmatch(self.workload):
            raise UsageError(
                f"point: workload {self.workload!r}; expected a small letter, then letters, digits, _ and ."
            )
        least = {"isl": not self.workload, "osl": not self.workload, "conc": not (self.rate or self.workload)}
        for axis, needed in least.items():
            if getattr(self, axis) < needed:
                raise UsageError(
                    f"point: {axis} is {getattr(self, axis)}; expected a whole number of at least {needed:d}"
                )
        if not (math.isfinite(self.rate) and self.rate >= 0):
            raise UsageError(f"point: rate is {self.rate}; expected a finite number of requests per second above 0")

    def __str__(self) -> str:
        parts = [self.config, f"isl{self.isl}-osl{self.osl}" * bool(self.isl), self.workload]
        parts += [f"rate{number(self.rate)}" * bool(self.rate), f"conc{self.conc}" * bool(self.conc)]
        return "-".join(filter(None, parts))

    def as_dict(self) -> dict[str, Any]:
        """As results say it; what does not apply is left out."""
        said = {"isl": self.isl, "osl": self.osl, "conc": self.conc, "rate": self.rate, "workload": self.workload}
        return {name: value for name, value in said.items() if value}

    @property
    def users(self) -> int:
        """How many users at a time have sessions; 0 for other loads."""
        found = _USERS.fullmatch(self.workload)
        return int(found[1]) if found else 0

    @property
    def open_loop(self) -> bool:
        """Whether requests are started by a clock and not by the end of others."""
        return self.rate > 0 or (bool(self.workload) and not self.conc)

    @classmethod
    def parse(cls, text: str) -> Point:
        """Read `isl2048-osl128-conc16`, `isl2048-osl128-rate8` `isl2048-osl128-rate8-conc64` (a cap) or `users32`. Raises UsageError."""
        if _USERS.fullmatch(text.strip()) and int(_USERS.fullmatch(text.strip())[1]):  # type: ignore[index]
            return cls(0, 0, workload=text.strip())
        found = _ID.fullmatch(text.strip())
        if not found or not (found[3] or found[4]):
            raise UsageError(f"point {text!r}: expected the form isl2048-osl128-conc16 or isl2048-osl128-rate8")
        return cls(int(found[1]), int(found[2]), int(found[4] or 0), float(found[3] or 0))


def number(rate: float) -> str:
    """A rate as it stands in names: `8`, `0.5`, never with an exponent."""
    return f"{rate:.9f}".rstrip("0").rstrip(".")


def grid(isls: Iterable[int], osls: Iterable[int], concs: Iterable[int], rates: Iterable[float] = ()) -> list[Point]:
    """All combinations, in the order of ISL, then OSL, then concurrency and then rate as they are given."""
    osls, ways = list(osls), loads(concs, rates)
    return [Point(isl, osl, conc, rate) for isl in isls for osl in osls for conc, rate in ways]


def loads(concs: Iterable[int], rates: Iterable[float]) -> list[tuple[int, float]]:
    """(concurrency, rate) of each load: the closed loops, then the open ones."""
    return [(conc, 0.0) for conc in concs] + [(0, rate) for rate in rates]


def keyword_tokens(name: str) -> set[str]:
    """The exact keywords of a test's name: `/isl4096/` where the name says isl4096 (and not where it says isl40960)."""
    return set(_keywords(name))


def _keywords(text: str) -> list[str]:
    # not as a number: Python refuses to make one of 5,000 digits
    return [f"/{axis.lower()}{_plain(digits)}/" for axis, digits in _AXIS.findall(text)]


def _plain(digits: str) -> str:
    whole, dot, part = digits.partition(".")
    part = part.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{part}" if dot and part else "")


def rewrite_keyword(expression: str) -> str:
    """Make pytest's -k exact for points: `isl4096` becomes `/isl4096/`, which names that ISL alone.

    pytest matches -k by substring, so that isl4096 would select isl40960 and conc1 would select conc16. Only
    identifiers that consist of axes are touched (`isl4096`, `isl4096-conc16`, `test_slo[isl4096-osl128-conc16]`, `tp4`), or
    of a configuration's name and axes (`fast-isl4096`);
    everything else is pytest's business.
    """

    def exact(found: re.Match[str]) -> str:
        word = found.group()
        name, bracket, inner = word.partition("[")
        axes = inner.removesuffix("]") if bracket else word
        of_config = _OF_CONFIG.fullmatch(axes)
        if _AXES_ONLY.fullmatch(axes):
            terms = _keywords(axes)
        elif of_config and _AXES_ONLY.fullmatch(of_config[2]):
            terms = [f"[{of_config[1]}-", *_keywords(of_config[2])]
        else:
            return word
        if bracket and name:
            terms.insert(0, name)
        return terms[0] if len(terms) == 1 else f"({' and '.join(terms)})"

    return _IDENT.sub(exact, expression)
