"""Whether what a profile and the command line say together can be: what has no effect is wrong usage, not silence."""

from __future__ import annotations

import math

from bench_tests.errors import UsageError
from bench_tests.figures import LATENCIES
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import Profile

__all__ = ["all_apply"]


def all_apply(profile: Profile, points: list[Point] | None) -> None:
    """Raise UsageError for what could not have its effect on these points of --point, else on the profile's."""
    _overrides_apply(profile, points or [])
    _burstiness_applies(profile, points or profile.points)
    _prefix_applies(profile)
    _chat_applies(profile)
    _sessions_apply(profile, points or [])


def _overrides_apply(profile: Profile, points: list[Point]) -> None:
    """Raise UsageError for objectives that are meant for some points and are those of none."""
    there = [*profile.points, *points]
    for number, override in enumerate(profile.slo.overrides, 1):
        if there and not any(override.matches(point) for point in there):
            chosen = ", ".join(f"{axis} = {list(values)}" for axis, values in override.select.items())
            raise UsageError(f"{profile.source} slo.override {number}: {chosen} selects no point of the sweep; correct it or "
                             "remove the table")  # fmt: skip


def _burstiness_applies(profile: Profile, points: list[Point]) -> None:
    """Raise UsageError where the command line spreads starts that no rate schedules."""
    asked = profile.load_of_file is not None and profile.load.burstiness != profile.load_of_file.burstiness
    if asked and points and not any(point.open_loop or math.isfinite(profile.rate(point)) for point in points):
        raise UsageError(f"--burstiness {profile.load.burstiness:g}: no point has a request rate, so nothing is spread; give "
                         "--request-rate too")  # fmt: skip


def _prefix_applies(profile: Profile) -> None:
    """Raise UsageError where prompts that come from a file were to begin with a prefix, which none of them does."""
    if profile.load.prefix and (profile.workload.trace or profile.workload.dataset):
        raise UsageError(f"{profile.source} load.prefix: {profile.workload.name} has prompts of its own; remove load.prefix, or "
                         "leave out the trace or dataset")  # fmt: skip


def _chat_applies(profile: Profile) -> None:
    """Raise UsageError for what only a chat has, where none is asked, and for what a chat cannot have."""
    load, slo = profile.load, profile.slo
    if load.chat:
        if load.prefix:
            raise UsageError(f"{profile.source} load.prefix: a chat's prompts begin with its template, so prefixes of whole blocks "
                             "cannot be foretold; leave it out, or use --endpoint completions")  # fmt: skip
        return
    limits = [*slo.limits_s, *(metric for one in slo.overrides for metric in one.limits_s)]
    limits += [f"goodput {name}" for name in (profile.goodput.limits_s if profile.goodput else ())]
    for name in limits:
        latency = LATENCIES.get(name.split("_")[-1].split()[-1])  # none: a figure of the whole run
        if latency is not None and latency.chat:
            raise UsageError(f"{profile.source}: {name} is told by a chat's events alone; give --endpoint chat")
    for name, off in (("chat_template_kwargs", {}), ("template_tokens", "extra")):
        if getattr(load, name) != off:
            raise UsageError(
                f"{profile.source} load.{name}: /v1/completions has no chat template; give --endpoint chat"
            )


def _sessions_apply(profile: Profile, points: list[Point]) -> None:
    """Raise UsageError for users without sessions, and for what sessions cannot have beside them."""
    load, workload = profile.load, profile.workload
    if not workload.sessions:
        if any(point.users for point in points):
            raise UsageError("--point users...: users have sessions; give --sessions synthetic, or a file of them")
        return
    others = {"workload.trace": workload.trace, "workload.dataset": workload.dataset, "workload.ramp": workload.ramp,
              "load.prefix": load.prefix, "load.models": load.models, "load.cancel": load.cancel,
              "load.prefix_len": load.prefix_len, "load.range_ratio": load.range_ratio,
              "load.request_rate": math.isfinite(load.request_rate), "slo.max_requests": profile.slo.max_requests}  # fmt: skip
    for name, said in others.items():
        if said:
            raise UsageError(f"{profile.source} {name}: sessions have turns and times of their own; leave it out")
    if load.prompt_format == "text" and not load.chat:
        raise UsageError(f"{profile.source} load.prompt_format: the history of a session is token ids in /v1/completions; leave "
                         "'text' out, or use --endpoint chat")  # fmt: skip
