"""Ramps: the rate in each tenth is the one that was asked, along a line and in steps."""

from __future__ import annotations

import numpy as np
import pytest

from bench_tests.errors import UsageError
from bench_tests.sweep.ramp import Ramp, parse_ramp
from bench_tests.sweep.workload import Workload


@pytest.mark.parametrize("text", ["1:50/5m", "50:1/60s", "2:20/10s/10", "5:6/1h/2"])
def test_a_ramp_starts_as_many_requests_in_each_tenth_as_its_rate_says(text: str) -> None:
    ramp = parse_ramp(text)
    assert ramp is not None
    times = ramp.times_s(np.arange(ramp.requests, dtype=float))
    assert (np.diff(times) > 0).all()
    assert times[0] == pytest.approx(0, abs=1e-9)
    assert times[-1] <= ramp.span_s
    edges = np.linspace(0, ramp.span_s, 11)
    got = np.histogram(times, edges)[0]
    fine = np.linspace(0, ramp.span_s, 100_001)[:-1] + ramp.span_s / 200_000
    want = ramp.rate(fine).reshape(10, -1).mean(axis=1) * ramp.span_s / 10
    assert np.abs(got - want).max() <= max(1.5, 0.02 * want.max())


@pytest.mark.parametrize("text", ["", "1:50", "1:50/5m/1", "1:1/5m", "inf:2/1s", "0:2/1s", "a:b/c", "1:2/0s", 5])
def test_what_is_no_ramp_is_told(text: object) -> None:
    if text == "":
        assert parse_ramp(text) is None
        return
    with pytest.raises(UsageError, match="--ramp"):
        parse_ramp(text)


def test_a_ramp_says_itself() -> None:
    for ramp in (Ramp(1, 50, 300.0), Ramp(0.125, 50, 100.4), Ramp(1, 5, 4000.25, 3)):
        assert parse_ramp(str(ramp)) == ramp


def test_a_ramp_has_one_spelling_wherever_it_is_said() -> None:
    check = Workload.__dataclass_fields__["ramp"].metadata["check"]
    assert check("1:50/5m", "workload.ramp") == check("1.0:50/300", "workload.ramp") == "1:50/300s"
    assert check("", "workload.ramp") == ""
