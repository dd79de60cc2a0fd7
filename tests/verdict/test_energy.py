"""Energy from samples: right where they are whole, and not known, with the reason, where they are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bench_tests.verdict.energy import GpuPower, energy_of

ZERO = 1_790_000_000.0
T = ZERO + np.arange(-20.0, 121.0)  # once a second from 20 s before to 60 s after a minute


def gpu(name: str = "GPU 0", watts: Callable[[np.ndarray], np.ndarray] = lambda t: 400 + 0 * t) -> GpuPower:
    """A GPU whose counter is the exact integral of its power, in steps of a millisecond."""
    fine = np.arange(T[0], T[-1] + 0.0005, 0.001)
    joules = np.concatenate([[0.0], np.cumsum(watts(fine[:-1] + 0.0005 - ZERO) * 0.001)])
    return GpuPower(name, T, np.interp(T, fine, joules) + 5e6, watts(T - ZERO))


def wave(t: np.ndarray) -> np.ndarray:
    """Between 100 and 700 W, as phases of prefill and decode are."""
    return 400 + 300 * np.sin(2 * np.pi * t / 17)


def exact_j(watts: Callable[[np.ndarray], np.ndarray], start_s: float, end_s: float) -> float:
    fine = np.linspace(start_s, end_s, 1_000_001)
    return float(np.mean(watts(fine)) * (end_s - start_s))


@pytest.mark.parametrize("start, end", [(0.0, 60.0), (0.37, 59.81)])
@pytest.mark.parametrize("watts", [lambda t: 400 + 0 * t, lambda t: 300 + 2 * t])
def test_good_samples_give_the_joules(watts: Callable[[np.ndarray], np.ndarray], start: float, end: float) -> None:
    found = energy_of([gpu("a", watts), gpu("b", watts)], ZERO + start, ZERO + end, expected=2)
    assert found.reasons == ()
    truth = 2 * exact_j(watts, start, end)
    assert found.energy_j == pytest.approx(truth, rel=1e-3)
    assert found.by_power_j == pytest.approx(truth, rel=1e-3)
    assert found.avg_power_w == pytest.approx(truth / (end - start), rel=1e-3)


def test_the_counter_is_right_where_power_jumps_between_samples() -> None:
    found = energy_of([gpu(watts=wave)], ZERO, ZERO + 60.0)
    assert found.energy_j == pytest.approx(exact_j(wave, 0, 60), rel=1e-3)
    assert found.by_power_j == pytest.approx(found.by_counter_j, rel=0.05)


def test_power_alone_does_where_there_is_no_counter() -> None:
    bare = replace(gpu(), energy_j=np.full(len(T), np.nan))
    found = energy_of([bare], ZERO, ZERO + 60)
    assert found.by_counter_j is None
    assert found.energy_j == pytest.approx(24_000, rel=1e-3)


def without(one: GpuPower, low: float, high: float) -> GpuPower:
    keep = (one.t_s < ZERO + low) | (one.t_s > ZERO + high)
    return GpuPower(one.name, one.t_s[keep], one.energy_j[keep], one.power_w[keep])


def wrapped(one: GpuPower) -> GpuPower:
    """A counter of 32 bits in mJ that begins again in the middle."""
    mj = (one.energy_j - one.energy_j[0]) * 1000 + 2**32 - 20_000_000
    return replace(one, energy_j=(mj % 2**32) / 1000)


@pytest.mark.parametrize(
    "samples, expected, why",
    [
        ([without(gpu(), 20, 27)], 1, "no sample for 9.0 s, from 19.0 s on"),
        ([gpu()], 2, "1 GPUs were sampled, the server has 2: a GPU is missing"),
        ([gpu("a"), gpu("b")], 1, "name the server's own with power.gpus"),
        ([], None, "there is no sample"),
        ([without(gpu("b"), 30, 999)], 1, "its samples end 31.0 s before the measured time does"),
        ([without(gpu("b"), -999, 5)], 1, "its samples begin 6.0 s after the measured time"),
        ([replace(gpu(), t_s=T - 3600)], 1, "no sample in the measured time, the nearest is 3,480.0 s off"),
        ([replace(gpu(), t_s=T + 3600)], 1, "ahead of this clock"),
        ([replace(gpu(), t_s=T[::-1])], 1, "its times go back"),
        ([wrapped(gpu())], 1, "its energy counter went back from"),
        ([replace(gpu(), power_w=gpu().power_w * 1.08)], 1, "and power (25,920 J) differ by more than 5 %"),
        ([replace(gpu(), power_w=np.where(T == ZERO + 30, np.nan, 400.0))], 1, "no power in 1 of 61 samples"),
        ([replace(gpu(), energy_j=np.where(T == ZERO + 30, np.nan, 0.0))], 1, "no energy in 1 of 61 samples"),
        ([replace(gpu(), energy_j=np.full(141, np.nan), power_w=np.full(141, np.nan))], 1, "neither energy nor power"),
    ],
)  # fmt: skip
def test_bad_samples_give_no_joules_and_the_reason(samples: list[GpuPower], expected: int | None, why: str) -> None:
    found = energy_of(samples, ZERO, ZERO + 60, expected, read_s=ZERO + 121)
    assert not found.valid
    assert (found.energy_j, found.avg_power_w) == (None, None)
    assert why in "; ".join(found.reasons)


def test_one_bad_gpu_of_two_spoils_the_sum() -> None:
    found = energy_of([gpu("a"), without(gpu("b"), 20, 27)], ZERO, ZERO + 60, 2)
    assert found.energy_j is None
    assert all(reason.startswith("b: ") for reason in found.reasons)
