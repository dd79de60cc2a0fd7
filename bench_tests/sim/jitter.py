"""What varies from request to request and from token to token in the engine `paced`."""

from __future__ import annotations

import math
import random

__all__ = ["draw", "draw_shared"]


def draw(jitter: tuple[str, float], rng: random.Random) -> float:
    """Milliseconds of jitter."""
    kind, ms = jitter
    if kind == "uniform":
        return rng.uniform(-ms, ms)
    if kind == "normal":
        return rng.gauss(0.0, ms)
    return rng.expovariate(1.0 / ms) if kind == "exp" and ms else 0.0


def draw_shared(jitter: tuple[str, float], rng: random.Random, wave: str, icc: float) -> float:
    """The same, of which those of a `wave` (its name seeds their part) share so much of the variance."""
    own = draw(jitter, rng)
    return math.sqrt(icc) * draw(jitter, random.Random(wave)) + math.sqrt(1 - icc) * own if icc else own
