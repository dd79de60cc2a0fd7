"""What an option's text may be: each check gives its value, or says what was expected."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
from collections.abc import Callable
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.figures import FIGURES, LATENCIES, Figure, key_of
from bench_tests.sweep.units import parse_rate
from bench_tests.sweep.workload import window_s

__all__ = [
    "columns",
    "engine",
    "fraction",
    "given",
    "header",
    "path",
    "positive",
    "processes",
    "seed",
    "typed",
    "urls",
    "whole",
    "window",
]

#: what --columns calls the figures that a table is most often asked for
COLUMNS = {
    "goodput": ("request_goodput",),
    "requests": ("request_throughput",),
    **{name: (f"median_{name}", f"p99_{name}") for name in LATENCIES},
}
_WHERE = re.compile(r"^(?:value|SLO|--[a-z-]+): ")


def typed(check: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return check(text)
        except UsageError as why:
            raise argparse.ArgumentTypeError(_WHERE.sub("", str(why), count=1)) from why  # argparse names the option

    return parse


def whole(low: int) -> Callable[[str], Any]:
    def check(text: str) -> int:
        if not text.strip().lstrip("-").isdigit() or int(text) < low:
            raise UsageError(f"{text!r}: expected a whole number of at least {low}")
        return int(text)

    return typed(check)


def fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise UsageError(f"{text!r}: expected a number from 0 to below 1")
    return value


def positive(text: str) -> float:
    return finite(parse_rate(text, "value"), text)


def finite(value: float, text: str) -> float:
    if not math.isfinite(value):
        raise UsageError(f"{text!r}: expected a finite number above 0")
    return value


def seed(text: str) -> int | None:
    if text == "fresh":
        return None
    if not text.isdigit() or int(text) >= 2**62:
        raise UsageError(f"{text!r}: expected a whole number from 0 to 2^62, or fresh")
    return int(text)


def window(text: str) -> str:
    window_s(text, "value")
    return text


def processes(text: str) -> int:
    if text == "auto":
        return 0
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise UsageError(f"{text!r}: expected a whole number from 1 to 256, or auto")
    return int(text)


def given(text: str) -> str:
    """A text that is not empty: an empty one is a variable that is missing, and no wish for the default."""
    if not text.strip():
        raise UsageError("it is empty (a variable that is not set?); give a value, or leave the option out")
    return text


def path(text: str) -> str:
    """A file or folder, `~` as the home folder: a shell leaves that alone behind an equals sign."""
    return os.path.expanduser(given(text))


def columns(text: str) -> tuple[Figure, ...]:
    """`goodput,e2el,p99_itl` as figures."""
    found: list[Figure] = []
    for name in (part.strip() for part in given(text).replace(",", " ").split()):
        keys = COLUMNS.get(name, (key_of(name),))
        if keys[0] not in FIGURES:
            near = difflib.get_close_matches(name, [*COLUMNS, *FIGURES], 1)
            hint = (
                f"did you mean {near[0]}?" if near else f"expected {', '.join(COLUMNS)}, or a figure such as p95_ttft"
            )
            raise UsageError(f"{name!r}: {hint}")
        found += [FIGURES[key] for key in keys]
    return tuple(dict.fromkeys(found))


def urls(text: str) -> tuple[str, ...]:
    """`URL[,URL]`, or `none`; what a URL is, the server's side says."""
    urls = tuple(part.strip() for part in given(text).split(","))
    if not all(urls) or len(set(urls)) < len(urls) or ("none" in urls and len(urls) > 1):
        raise UsageError(f"{text!r}: expected different URLs with commas between them, or none")
    return urls


def engine(text: str) -> str:
    if not _ENGINE.fullmatch(text):
        raise UsageError(f"{text!r}: expected letters, digits, '.' and '-' (it names result files)")
    return text


def header(text: str) -> tuple[str, str]:
    name, equals, variable = text.partition("=")
    if not equals or not _HEADER.fullmatch(name) or not _VARIABLE.fullmatch(variable):
        # the text is not shown: it may be the value itself, and so a key
        raise UsageError("expected NAME=VARIABLE: a header's name, and the environment variable that holds its value")
    return name, variable


_ENGINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,31}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
