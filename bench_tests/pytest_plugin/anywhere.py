"""Wherever pytest is started and whatever else is installed: our cases are found, and run once each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from bench_tests.paths import CHECKOUT, PACKAGE, ROOT
from bench_tests.sweep.point import Point

__all__ = ["check_keyword", "find_cases", "refuse_plugins", "what_there_is"]


def find_cases(config: pytest.Config) -> None:
    """`pytest CHECKOUT`, and `pytest` in one of its folders without tests, mean what `pytest` in the checkout means."""
    if not CHECKOUT:
        return
    here = config.invocation_params.dir
    unnamed = config.args_source is pytest.Config.ArgsSource.INVOCATION_DIR

    def meant(arg: str) -> str:
        path = (here / arg).resolve()
        inside = unnamed and path.is_relative_to(ROOT) and ROOT / "tests" not in (path, *path.parents)
        return str(PACKAGE) if path == ROOT or inside else arg

    config.args[:] = list(dict.fromkeys(map(meant, config.args)))


def refuse_plugins(config: pytest.Config) -> None:
    """Raise pytest.UsageError where another plugin would run our cases beside each other, or again."""
    if getattr(config.option, "numprocesses", None):
        raise pytest.UsageError(
            "-n: points are measured one at a time, since they share a server; leave out pytest-xdist"
        )
    reruns = getattr(config.option, "reruns", None)
    if reruns is None and config.pluginmanager.hasplugin("rerunfailures"):
        reruns = config.getini("reruns")
    if reruns and int(reruns) > 0:
        raise pytest.UsageError(
            f"--reruns {reruns}: a point that failed is a result, and measured again until it passes it is none; leave it "
            "out, and measure each point several times with --repeat N"
        )
    if (
        any(map(config.pluginmanager.hasplugin, ("pytest_repeat", "repeat")))
        and int(getattr(config.option, "count", 1) or 1) > 1
    ):
        raise pytest.UsageError(
            f"--count {config.option.count}: pytest-repeat would not load the server again; use --repeat {config.option.count}"
        )


def check_keyword(config: pytest.Config) -> None:
    """Raise pytest.UsageError, in pytest's own words, for a -k that it can't read: as it was typed, and before it is ours."""
    mark: Any = config.pluginmanager.get_plugin("mark")
    if config.option.keyword and mark is not None:
        mark.pytest_collection_modifyitems(items=[], config=config)


def what_there_is(keyword: str, points: Iterable[Point]) -> str:
    """What a -k that selects nothing could have selected."""
    listed = list(points)
    axes = []
    for axis in ("isl", "osl", "conc", "rate", "users"):
        values = dict.fromkeys(value for point in listed if (value := getattr(point, axis)))
        if values:
            axes.append(f"{axis} {', '.join(f'{value:g}' if axis == 'rate' else str(value) for value in values)}")
    named = dict.fromkeys(point.workload for point in listed if point.workload and not point.users)
    known = "; ".join([*axes, *named])
    count = f"the {len(listed)} points" if len(listed) != 1 else "the one point"
    return f"-k {keyword!r} selects none of {count}; there is {known}"
