"""The energy of a stretch of time from samples of power and of an energy counter, or the reasons why it is not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Energy", "GpuPower", "energy_of"]

MAX_GAP_S = 3.0  # between two samples; longer ones hide what the power did
AGREE = 0.05  # counter and power over the same stretch
AHEAD_S = 1.0  # of our clock; further ahead a sample's clock is another

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GpuPower:
    """Samples of one GPU, in the order of their times: Unix seconds, joules since any zero, watts; NaN for what is not told."""

    name: str
    t_s: Floats
    energy_j: Floats
    power_w: Floats


@dataclass(frozen=True)
class Energy:
    """Joules of all GPUs over a window; the figures are None where `reasons` say why they are not known."""

    window_s: float
    gpus: tuple[str, ...] = ()
    by_counter_j: float | None = None  # the counters' rise; None where a GPU has none
    by_power_j: float | None = None  # the integral of the power
    samples: int = 0
    max_gap_s: float | None = None
    reasons: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        return not self.reasons

    @property
    def energy_j(self) -> float | None:
        """By the counters where all GPUs have one, else by power; None where it is not valid."""
        found = self.by_power_j if self.by_counter_j is None else self.by_counter_j
        return found if self.valid else None

    @property
    def avg_power_w(self) -> float | None:
        """Formula: energy / window."""
        return None if self.energy_j is None else self.energy_j / self.window_s


def energy_of(
    gpus: Sequence[GpuPower], start_s: float, end_s: float, expected: int | None = None, read_s: float | None = None
) -> Energy:
    """The energy from `start_s` to `end_s` (Unix times). `expected`: how many GPUs the server has; `read_s`: our clock as the
    samples were read.

    Formula: Σ over GPUs of counter(end) − counter(start), and of ∫ power dt by trapezoids, both linear between two samples.
    """
    reasons: list[str] = []
    if expected is not None and len(gpus) != expected:
        fix = "name the server's own with power.gpus" if len(gpus) > expected else "a GPU is missing"
        reasons.append(f"{len(gpus)} GPUs were sampled, the server has {expected}: {fix}")
    if not gpus:
        reasons.append("there is no sample")
    counters: list[float | None] = []
    powers: list[float | None] = []
    widest = 0.0
    samples = 0
    for gpu in gpus:
        one = _one(gpu, start_s, end_s, read_s)
        reasons += [f"{gpu.name}: {why}" for why in one.reasons]
        counters.append(one.by_counter_j)
        powers.append(one.by_power_j)
        widest, samples = max(widest, one.max_gap_s or 0.0), samples + one.samples
    return Energy(
        end_s - start_s,
        tuple(gpu.name for gpu in gpus),
        _sum(counters),
        _sum(powers),
        samples,
        widest or None,
        tuple(dict.fromkeys(reasons)),
    )


def _sum(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known and len(known) == len(parts) else None


def _one(gpu: GpuPower, start_s: float, end_s: float, read_s: float | None) -> Energy:
    t, window = gpu.t_s, end_s - start_s

    def not_known(*why: str, samples: int = 0, gap: float | None = None) -> Energy:
        return Energy(window, samples=samples, max_gap_s=gap, reasons=why)

    if not len(t):
        return not_known("there is no sample")
    if (np.diff(t) <= 0).any():
        return not_known("its times go back or stand still (a clock that was set?)")
    if read_s is not None and t[-1] > read_s + AHEAD_S:
        return not_known(
            f"its samples are up to {t[-1] - read_s:,.1f} s ahead of this clock: another clock or time zone"
        )
    low, high = int(np.searchsorted(t, start_s, "right")) - 1, int(np.searchsorted(t, end_s, "left"))
    if high == 0 or low == len(t) - 1:
        away = float(t[0] - end_s if high == 0 else start_s - t[-1])
        return not_known(
            f"no sample in the measured time, the nearest is {away:,.1f} s off: another clock or time zone?"
        )
    if low < 0:
        return not_known(f"its samples begin {t[0] - start_s:,.1f} s after the measured time")
    if high == len(t):
        return not_known(f"its samples end {end_s - t[-1]:,.1f} s before the measured time does")
    inside = slice(low, high + 1)
    t, energy, power = t[inside], gpu.energy_j[inside], gpu.power_w[inside]
    gaps = np.diff(t)
    gap, at = float(gaps.max()), int(gaps.argmax())
    why = []
    if gap > MAX_GAP_S:
        why.append(f"no sample for {gap:,.1f} s, from {max(0.0, float(t[at]) - start_s):,.1f} s on")
    by_counter = by_power = None
    if np.isnan(energy).all():
        pass
    elif np.isnan(energy).any():
        why.append(f"no energy in {int(np.isnan(energy).sum())} of {len(t)} samples")
    elif (np.diff(energy) < 0).any():
        back = int(np.argmax(np.diff(energy) < 0))
        why.append(
            f"its energy counter went back from {energy[back]:,.0f} to {energy[back + 1]:,.0f} J (it wrapped, or the driver "
            "was loaded again)"
        )
    else:
        by_counter = float(np.interp(end_s, t, energy) - np.interp(start_s, t, energy))
    if np.isnan(power).all():
        pass
    elif np.isnan(power).any():
        why.append(f"no power in {int(np.isnan(power).sum())} of {len(t)} samples")
    else:
        moments = np.concatenate([[start_s], t[(t > start_s) & (t < end_s)], [end_s]])
        watts = np.interp(moments, t, power)
        by_power = float(((watts[1:] + watts[:-1]) / 2 * np.diff(moments)).sum())
    if np.isnan(energy).all() and np.isnan(power).all():
        why.append("it tells neither energy nor power")
    if by_counter is not None and by_power is not None and abs(by_power - by_counter) > AGREE * max(by_counter, 1e-9):
        why.append(f"counter ({by_counter:,.0f} J) and power ({by_power:,.0f} J) differ by more than {AGREE * 100:g} %")
    return Energy(window, (gpu.name,), by_counter, by_power, len(t), gap, tuple(why))
