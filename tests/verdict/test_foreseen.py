"""A verdict that the first requests of a run settle is the one that all of them have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench_tests.verdict.foreseen import foreseen

Floats = NDArray[np.float64]
Q = 0.99


@given(
    st.lists(st.floats(1e-4, 10.0), min_size=1, max_size=80),
    st.lists(st.floats(1e-4, 10.0), max_size=200),
    st.floats(1e-3, 12.0),
    st.sampled_from([0.5, 0.9, 0.99]),
)
def test_a_fail_holds_whatever_comes_after_it(first: list[float], others: list[float], limit: float, q: float) -> None:
    if foreseen(first, q, limit, len(first) + len(others)) == "FAIL":
        assert np.quantile([*first, *others], q) > limit


def test_two_of_forty_beyond_settle_a_p99() -> None:
    assert foreseen([1.0] * 10 + [3.0] * 2, Q, 2.0, 40) == "FAIL"
    assert foreseen([1.0] * 11 + [3.0], Q, 2.0, 40) == ""


def test_a_start_burst_is_over_and_says_nothing_of_what_comes() -> None:
    burst, steady = list(np.linspace(0.2, 1.6, 16)), list(np.linspace(0.20, 0.22, 32))
    assert foreseen([*burst, *steady], Q, 2.0, 160) == ""
    assert foreseen([*burst, *steady], Q, 2.0, 160, burst=16) == "PASS"


KINDS = {
    "normal, 2 %": lambda rng, n: 1 + 0.02 * rng.standard_normal(n),
    "lognormal, 10 %": lambda rng, n: np.exp(0.1 * rng.standard_normal(n)),
    "lognormal, 40 %": lambda rng, n: np.exp(0.4 * rng.standard_normal(n)),
    "t(3) tails": lambda rng, n: np.exp(0.08 * rng.standard_t(3, n)),
    "gamma": lambda rng, n: rng.gamma(4, 0.25, n) + 0.2,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conc", [4, 16, 64])
def test_a_pass_is_seldom_turned_by_the_others(kind: str, conc: int) -> None:
    """Requests that do not depend on each other; the bound is that of heavy tails and 12 values, with its own chance."""
    rng, total, looked = np.random.default_rng(conc), 10 * conc, max(12, 3 * conc)
    claims = wrong = 0
    for _ in range(600):
        values = KINDS[kind](rng, total)
        limit = float(np.quantile(values, Q)) * np.exp(rng.uniform(-0.2, 1.2))
        if foreseen(values[:looked], Q, limit, total) == "PASS":
            claims += 1
            wrong += np.quantile(values, Q) > limit
    assert wrong <= max(2, 0.05 * claims)


def test_close_to_the_limit_nothing_is_settled() -> None:
    values = np.exp(0.05 * np.random.default_rng(1).standard_normal(48))
    assert foreseen(values, Q, float(values.max()) * 1.01, 160) == ""
