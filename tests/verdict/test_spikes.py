"""Stretches of high TTFT, and the words for what the server's counters say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from bench_tests.verdict.spikes import spike_words, spikes
from tests.support.make_records import records

# ten requests of 100 ms, a second apart; the two that are sent at 5 s and 5.5 s wait for 3 s
SENT = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.5, 9.0, 10.0, 11.0]
WAITS = [3.0 if 5.0 <= s < 6.0 else 0.1 for s in SENT]
RUN = records(SENT, [[s + w, s + w + 0.1] for s, w in zip(SENT, WAITS, strict=True)])
T = [float(t) for t in range(13)]


def series(**at_six: float) -> Mapping[str, Sequence[float]]:
    """Readings once a second; a gauge has the value from 6 s to 7 s, a counter from 6 s on."""
    gauges = ("running", "waiting", "kv_cache")
    return {"t_s": T} | {
        name: [value if t >= 6 and (name not in gauges or t <= 7) else 0.0 for t in T]
        for name, value in at_six.items()
    }  # fmt: skip


@pytest.mark.parametrize(
    "said, cause",
    [
        ({"preemptions": 3.0, "kv_cache": 0.98, "waiting": 2.0}, "3 preempted, KV cache 98% full, up to 2 waiting"),
        ({"preemptions": 0.0, "kv_cache": 0.98, "waiting": 2.0}, "KV cache 98% full, up to 2 waiting"),
        ({"kv_cache": 0.3, "waiting": 2.0, "running": 8.0}, "up to 2 waiting while 8 ran"),
        ({"waiting": 0.0, "prompt_tokens": 5000.0}, "prefill of others: 4,990 prompt tokens meanwhile"),
        ({"waiting": 0.0, "prompt_tokens": 15.0}, ""),
        ({}, ""),
    ],
)
def test_a_spike_has_the_cause_that_the_counters_tell(said: Mapping[str, float], cause: str) -> None:
    (spike,) = spikes(RUN, series(**said))
    assert (spike.requests, spike.start_s, spike.end_s) == (2, 5.0, 8.5)
    assert spike.worst_ttft_s == pytest.approx(3.0)
    assert spike.cause == cause


def test_what_happened_at_another_time_is_no_cause() -> None:
    later = {"t_s": T, "preemptions": [3.0 if t >= 10 else 0.0 for t in T], "waiting": [float(t >= 10) for t in T]}
    (spike,) = spikes(RUN, later)
    assert spike.cause == ""
    assert "no counter of the server tells why" in spike_words([spike])


def test_a_run_without_spikes_has_none() -> None:
    calm = records(SENT, [[s + 0.1 + s / 1000, s + 0.3] for s in SENT])
    assert spikes(calm, series(preemptions=3.0)) == []
    assert spikes(records([0.0], [[]], ["stalled"]), series()) == []
    assert spike_words([]) == ""


def test_the_worst_comes_first() -> None:
    waits = [0.1, 0.1, 0.1, 1.0, 0.1, 2.0, 0.1, 0.1, 0.1, 0.1]
    run = records(T[:10], [[s + w, s + w + 0.1] for s, w in zip(T[:10], waits, strict=True)])
    assert [spike.worst_ttft_s for spike in spikes(run, {})] == pytest.approx([2.0, 1.0])
    assert spike_words(spikes(run, {})).startswith("TTFT spikes: 2, the worst 2.000 s (1 request, from 5.0 s on)")
