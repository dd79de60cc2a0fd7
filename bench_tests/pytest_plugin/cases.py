"""Collection: one case a point and round, and how `-k` selects among them."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench_tests.paths import PACKAGE
from bench_tests.pytest_plugin.state import STATE
from bench_tests.sweep.point import keyword_tokens

OURS = frozenset(
    {"servers", "sweep", "measured", "comparison", "compared", "bench", "capacity", "trend"}
)  # fixtures that live on the session's loop


def our_fixtures(function: object) -> frozenset[str]:
    """The fixtures of this suite that a case uses; a project's own ones of the same names (`servers`, `sweep`) are not."""
    found = getattr(getattr(function, "_fixtureinfo", None), "name2fixturedefs", {})
    last = {name: found[name][-1].func for name in OURS & set(getattr(function, "fixturenames", ())) if found.get(name)}
    return frozenset(name for name, func in last.items() if getattr(func, "__module__", "").startswith("bench_tests."))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    state, used = metafunc.config.stash[STATE], our_fixtures(metafunc.definition)
    if "compared" in used:
        metafunc.parametrize("compared", state.points, ids=list(map(str, state.points)), indirect=True)
    if "capacity" in used:
        ids = [str(replace(point, conc=1, rate=0.0)).removesuffix("-conc1") for point in state.points]
        metafunc.parametrize("capacity", state.points, ids=ids, indirect=True)
    if "measured" not in used:
        return
    runs = state.runs
    configs = dict.fromkeys(point.config for point in state.points)  # each one's rounds together: it starts once
    cases = [(p, run) for config in configs for run in range(1, runs + 1) for p in state.points if p.config == config]
    ids = [str(point) + (f"-run{run}" if runs > 1 else "") for point, run in cases]
    metafunc.parametrize("measured", cases, ids=ids, indirect=True)


@pytest.hookimpl(wrapper=True, trylast=True)  # the innermost: pytest-asyncio looks at the marker behind us
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> Generator[None, Any, Any]:
    """An async case with one of our fixtures runs on the session's loop, whatever mode pytest-asyncio is in."""
    found: Any = yield
    for item in found if isinstance(found, list) else [found]:
        if (
            isinstance(item, pytest.Function)
            and inspect.iscoroutinefunction(item.obj)
            and our_fixtures(item)
            and item.get_closest_marker("asyncio") is None
        ):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"))
    return found


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without a baseline there is nothing to compare, and no case that says so. A search takes the place of the sweep."""
    if collection_path.parent != PACKAGE:
        return None
    option = config.stash[STATE].option
    if collection_path.name == "test_regression.py":
        return not (option("--baseline") or option("--against") or option("--history")) or None
    if collection_path.name == "test_capacity.py":
        return not option("--find") or None
    return bool(option("--find")) or None if collection_path.name == "test_slo_sweep.py" else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """A comparison needs all points first: its cases go behind the sweep's, and what is not asked is no case.

    Rounds keep their order whatever shuffles (pytest-randomly, pytest-random-order); other cases may move.
    """
    names = {item: our_fixtures(item) for item in items}
    if items:
        state = items[0].config.stash[STATE]
        asked = {"trend": state.history is not None, "comparison": state.compares}
        items[:] = [item for item in items if all(asked.get(name, True) for name in names[item])]
    items.sort(key=lambda item: 2 * ("trend" in names[item]) + ("comparison" in names[item]))
    order = {item: number for number, item in enumerate(items)}
    yield
    places = [place for place, item in enumerate(items) if names.get(item)]
    ours = sorted((items[place] for place in places), key=order.__getitem__)
    for place, item in zip(places, ours, strict=True):
        items[place] = item


def pytest_itemcollected(item: pytest.Item) -> None:
    if our_fixtures(item):
        item.extra_keyword_matches |= keyword_tokens(item.name)


def pytest_collection_finish(session: pytest.Session) -> None:
    state = session.config.stash[STATE]
    ours = [item for item in session.items if our_fixtures(item)]
    state.cases = {item.nodeid for item in ours}
    cases = (getattr(item, "callspec", None) for item in ours)
    found = (case.params["measured"] for case in cases if case is not None and "measured" in case.params)
    state.selected = list(dict.fromkeys(found))
