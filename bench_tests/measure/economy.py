"""What a point took of energy and money: joules and prices by token, as far as they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench_tests.figures import ECONOMY
from bench_tests.load.records import Records
from bench_tests.load.team import LoadRun
from bench_tests.measure.server_side import Story, zero_of
from bench_tests.server.power import PowerMeter, PowerReading
from bench_tests.server.served import Served
from bench_tests.sweep.cost import Cost, Power
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import Profile
from bench_tests.sweep.slo import Objective
from bench_tests.verdict.checks.check import Check
from bench_tests.verdict.energy import AGREE, Energy, GpuPower, energy_of
from bench_tests.verdict.speculation import speculation_note
from bench_tests.verdict.summary import steady_window, summarize

__all__ = ["Economy", "economy", "measured_window", "meter_of", "with_economy"]

SIDES = (("output", "output_throughput"), ("input", "input_throughput"), ("total", "total_token_throughput"))


@dataclass(frozen=True)
class Economy:
    """The rows of the table of figures; the result's `power`; what is checked."""

    figures: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(ECONOMY))
    power: dict[str, Any] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()


def meter_of(power: Power, served: Served) -> PowerMeter | None:
    """What reads the energy of the server's GPUs; None where nothing is to."""
    return PowerMeter(power, served) if power.source != "none" else None


def with_economy(
    story: Story, reading: PowerReading | None, load: LoadRun, point: Point, profile: Profile, gpus: int | None
) -> Story:
    """The story with what the point took of energy and money."""
    found = economy(
        load.records,
        point.conc,
        zero_of(load),
        profile.power,
        reading,
        profile.cost,
        gpus,
        profile.slo.objectives(point),
    )
    checks = (*found.checks, *speculation_note(story.facts, not profile.workload.dataset))
    return replace(story, economy=found.figures, power=found.power, checks=checks)


def measured_window(records: Records, conc: int) -> tuple[float, float] | None:
    """The seconds over which a run's throughputs are: first send to last arrival, or the steady state of a staggered start."""
    if records.continuous:
        window = steady_window(records, conc)
        return None if window is None else (window.start_s, window.end_s)
    sent = records.measured & ~np.isnan(records.send_s) & ~np.isnan(records.last_s)
    if not sent.any():
        return None
    return float(records.send_s[sent].min()), float(records.last_s[sent].max())


def economy(
    records: Records, conc: int, zero_unix_s: float, power: Power, reading: PowerReading | None, cost: Cost,
    gpus: int | None, asserted: Sequence[Objective] = (),
) -> Economy:  # fmt: skip
    """Energy and cost of a run.

    Formula: joules a token = average power / throughput, over the same seconds; cost of a million tokens = GPUs × price of an
    hour / (tok/s × 3600) × 10^6. `total` counts input and output tokens, the two others the whole price or energy by one side.
    """
    found = Economy()
    if reading is None and not cost.gpu_hour:
        return found
    figures = found.figures
    rates = summarize(records, conc)
    if cost.gpu_hour and gpus:
        for side, name in SIDES:
            if rates[name]:
                figures[f"cost_per_million_{side}"] = gpus * cost.gpu_hour / (rates[name] * 3600) * 1e6
    window = measured_window(records, conc)
    if reading is None or window is None:
        return found
    energy = _energy(
        reading, zero_unix_s + window[0], zero_unix_s + window[1], len(power.gpus) or None if gpus is None else gpus
    )
    figures["energy_j"], figures["avg_power_w"] = energy.energy_j, energy.avg_power_w
    for side, name in SIDES:
        if energy.avg_power_w is not None and rates[name]:
            figures[f"j_per_{side}_token"] = energy.avg_power_w / rates[name]
    facts = {
        "source": power.source,
        "start_s": window[0],
        "end_s": window[1],
        "gpus": list(energy.gpus),
        "samples": energy.samples,
        "max_gap_s": energy.max_gap_s,
        "by_counter_j": energy.by_counter_j,
        "by_power_j": energy.by_power_j,
        "power_valid": energy.valid,
        "power_invalid_reasons": list(energy.reasons),
    }
    return Economy(figures, facts, (_check(energy, asserted),))


def _energy(reading: PowerReading, start_s: float, end_s: float, gpus: int | None) -> Energy:
    columns = [GpuPower(name, *np.array(rows, float).T) for name, rows in sorted(reading.samples.gpus.items())]
    energy = energy_of(columns, start_s, end_s, gpus, reading.read_s)
    problems = tuple(reading.samples.problems)
    return Energy(**{**energy.__dict__, "reasons": (*problems, *energy.reasons)})


def _check(energy: Energy, asserted: Sequence[Objective]) -> Check:
    """An ERROR where an objective is about energy that is not known."""
    why = "; ".join(energy.reasons)
    about = [objective for objective in asserted if objective.metric in ECONOMY and "cost" not in objective.metric]
    if why and not about:
        return Check.not_made("energy", why)
    both = energy.by_counter_j is not None and energy.by_power_j is not None
    apart = abs((energy.by_power_j or 0) / energy.by_counter_j - 1) if both and energy.by_counter_j else None
    return Check("energy", not why, apart, AGREE, "share", f"the energy is not known: {why}" if why else "")
