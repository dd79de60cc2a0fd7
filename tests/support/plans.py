"""Load plans for tests: the keys of the profile's tables by their plain names."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from bench_tests.load.plan import LoadPlan
from bench_tests.sweep.settings import Load, Model, Timeouts

_OWN = {f.name for f in fields(LoadPlan)} - {"model", "load", "timeouts"}


def make_plan(base_url: str, model: str = "simulated", **said: Any) -> LoadPlan:
    """A plan of 16 requests, 4 at a time, ISL 64 and OSL 8, changed by what is said: `range_ratio=0.2`, `first_token=0.5`."""
    base = LoadPlan(base_url, 64, 8, 4, 16, 0, seed=5, model=Model(id=model))
    return change_plan(base, **said)


def change_plan(plan: LoadPlan, **said: Any) -> LoadPlan:
    """The plan with other values of its own or of its tables' keys."""
    own = {name: said.pop(name) for name in list(said) if name in _OWN}
    for table, kind in (("model", Model), ("load", Load), ("timeouts", Timeouts)):
        mine = {f.name: said.pop(f.name) for f in fields(kind) if f.name in said}
        own[table] = replace(getattr(plan, table), **mine)
    if said:
        raise TypeError(f"no such key of a plan: {', '.join(said)}")
    return replace(plan, **own)
