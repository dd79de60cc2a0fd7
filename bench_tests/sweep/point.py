"""A sweep point: input length × output length × concurrency, and the names that select it.

Knows nothing but the errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bench_tests.errors import UsageError

__all__ = ["AXES", "Point", "grid", "keyword_tokens", "rewrite_keyword"]

AXES = ("isl", "osl", "conc")
_ID = re.compile(r"isl(\d{1,9})-osl(\d{1,9})-conc(\d{1,9})")
_AXIS = re.compile(r"(?<![A-Za-z0-9])(isl|osl|conc)([0-9]+)(?![A-Za-z0-9])", re.IGNORECASE)
# what pytest's own -k grammar takes as one identifier, quoted here because it is not public
_IDENT = re.compile(r"(?:\w|:|\+|-|\.|\[|\]|\\|/|=)+")
_AXES_ONLY = re.compile(r"(?:(?:isl|osl|conc)[0-9]+)(?:-(?:isl|osl|conc)[0-9]+)*", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Point:
    """Prompts of `isl` tokens, answers of `osl` tokens, `conc` requests at a time."""

    isl: int
    osl: int
    conc: int

    def __post_init__(self) -> None:
        for axis in AXES:
            if getattr(self, axis) < 1:
                raise UsageError(f"point: {axis} is {getattr(self, axis)}; expected a whole number of at least 1")

    def __str__(self) -> str:
        return f"isl{self.isl}-osl{self.osl}-conc{self.conc}"

    @classmethod
    def parse(cls, text: str) -> Point:
        """Read `isl2048-osl128-conc16`. Raises UsageError for anything else."""
        found = _ID.fullmatch(text.strip())
        if not found:
            raise UsageError(f"point {text!r}: expected the form isl2048-osl128-conc16")
        return cls(*map(int, found.groups()))


def grid(isls: Iterable[int], osls: Iterable[int], concs: Iterable[int]) -> list[Point]:
    """All combinations, in the order of ISL, then OSL, then concurrency as they are given."""
    concs, osls = list(concs), list(osls)
    return [Point(isl, osl, conc) for isl in isls for osl in osls for conc in concs]


def keyword_tokens(name: str) -> set[str]:
    """The exact keywords of a test's name: `/isl4096/` where the name says isl4096 (and not where it says isl40960)."""
    return set(_keywords(name))


def _keywords(text: str) -> list[str]:
    # not as a number: Python refuses to make one of 5,000 digits
    return [f"/{axis.lower()}{number.lstrip('0') or '0'}/" for axis, number in _AXIS.findall(text)]


def rewrite_keyword(expression: str) -> str:
    """Make pytest's -k exact for points: `isl4096` becomes `/isl4096/`, which names that ISL alone.

    pytest matches -k by substring, so that isl4096 would select isl40960 and conc1 would select conc16. Only
    identifiers that consist of axes are touched (`isl4096`, `isl4096-conc16`, `test_slo[isl4096-osl128-conc16]`);
    everything else is pytest's business.
    """

    def exact(found: re.Match[str]) -> str:
        word = found.group()
        name, bracket, inner = word.partition("[")
        axes = inner.removesuffix("]") if bracket else word
        if not _AXES_ONLY.fullmatch(axes):
            return word
        terms = _keywords(axes)
        if bracket and name:
            terms.insert(0, name)
        return terms[0] if len(terms) == 1 else f"({' and '.join(terms)})"

    return _IDENT.sub(exact, expression)
