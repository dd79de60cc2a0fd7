"""The search for a capacity: its probes, its interval, and when nothing can be said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.compare.capacity import Capacity, Probe, Search
from bench_tests.sweep.find import Find
from bench_tests.sweep.profile import load_profile
from bench_tests.sweep.slo import Slo

CONC = Find("conc", 1, 256)


def probe(load: float, truth: float, band: float = 0.0) -> Probe:
    """What a judge says who cannot tell loads within `band` (of the log) around the truth; at the truth it is within."""
    over = math.log(load / truth)
    word = "unclear" if abs(over) < band else "within" if load <= truth else "beyond"
    return Probe(load, word, over=over)


def run(find: Find, truth: float, band: float = 0.0) -> Search:
    search = Search(find)
    while (load := search.next()) is not None:
        assert find.low <= load <= find.high
        assert not find.whole or load.is_integer()
        assert load not in [p.load for p in search.probes if p.word != "looked"], "a load is tried once"
        found = probe(load, truth, band)
        search.tell(Probe(load, "looked", over=found.over) if search.look else found)
    return search


def proofs(search: Search) -> int:
    return sum(p.word != "looked" for p in search.probes)


@settings(max_examples=300, deadline=None)
@given(
    st.floats(0.5, 400), st.sampled_from([CONC, Find("rate", 0.25, 64), Find("conc", 16, 512, 0.02)]), st.floats(0, 0.5)
)
def test_the_interval_holds_the_truth_and_ends_within_its_probes(truth: float, find: Find, band: float) -> None:
    search = run(find, truth, band)
    assert proofs(search) <= search.most
    assert search.lo is None or search.lo <= truth
    assert search.hi is None or search.hi > truth


@settings(max_examples=300, deadline=None)
@given(st.floats(1, 255.9))
def test_a_sharp_judge_leads_to_an_interval_as_narrow_as_asked(truth: float) -> None:
    assert run(CONC, truth).narrow


@settings(max_examples=200, deadline=None)
@given(st.floats(1, 255.9), st.floats(0.01, 4))
def test_a_limit_that_is_met_like_a_wall_is_found_by_bisection(truth: float, wall: float) -> None:
    """The estimate of a straight line is wrong here: figures are flat below the truth and far beyond above it.

    One probe is spent before that is seen, so that the last halving may be missing.
    """
    search = Search(CONC)
    while (load := search.next()) is not None:
        search.tell(Probe(load, "within" if load <= truth else "beyond", over=-0.01 if load <= truth else wall))
    assert search.lo is not None
    assert search.hi is not None
    assert search.narrow or search.hi <= search.lo * 1.12


def test_growth_is_slow_enough_not_to_overload_and_fast_enough_for_eight_probes() -> None:
    loads = []
    search = Search(CONC)
    while (load := search.next()) is not None:
        loads.append(load)
        search.tell(Probe(load, "within", over=-1.0))
    assert loads == sorted(loads)
    assert loads[-1] == 256
    assert search.growth == 8


def test_while_loads_grow_a_look_is_enough_and_what_seems_beyond_is_tried_again() -> None:
    search = Search(CONC)
    asked = []
    while (load := search.next()) is not None and len(asked) < 4:
        asked.append((load, search.look))
        search.tell(
            Probe(load, "looked" if search.look else "beyond" if load > 40 else "within", over=math.log(load / 40))
        )
    assert asked[:3] == [(8, True), (64, True), (64, False)]
    assert asked[3][1] is False
    assert search.hi == 64
    assert "2 looks" in Capacity.of(1024, 128, search).words


def test_a_look_proves_nothing_and_the_highest_load_and_rates_get_none() -> None:
    search = Search(CONC)
    search.tell(Probe(8, "looked", over=-1.0))
    assert (search.lo, search.hi) == (None, None)
    search.tell(Probe(64, "looked", over=-1.0))
    assert (search.next(), search.look) == (256, False)
    for find in (Find("rate", 0.25, 64), Find("conc", 1, 256, attain=0.9)):
        other = Search(find)
        assert other.next() is not None
        assert not other.look


def test_the_profile_of_a_look_has_few_requests_and_is_judged_by_its_figures() -> None:
    profile = replace(load_profile("demo"), slo=Slo({"p99_tpot": 0.05}))
    for conc, requests in ((8, 40), (64, 320)):
        point = CONC.point(1024, 128, conc)
        look, proof = CONC.profile(profile, point, look=True), CONC.profile(profile, point)
        assert (look.slo.mode, look.slo.max_requests, look.num_prompts(point)) == ("point", 0, requests)
        assert (proof.slo.mode, proof.slo.max_requests) == ("confident", 2000)
        assert look.load.start == "staggered"


def test_too_close_to_call_is_stepped_around() -> None:
    search = run(CONC, 40.0, band=0.06)
    assert search.lo is not None
    assert search.hi is not None
    assert search.lo < 40 < search.hi
    assert search.hi / search.lo < 1.3
    assert "too close to call" in Capacity.of(1024, 128, search).words


def test_a_load_that_only_seems_to_be_within_does_not_end_the_growth() -> None:
    """A probe may decide nothing far below the limit, where its requests are worth too few."""
    search = Search(CONC)
    assert search.next() == 8
    search.tell(Probe(8, "unclear", over=-0.5))
    assert search.next() == 64


@pytest.mark.parametrize(
    ("lo", "hi", "least", "low", "unclear"),
    [
        (41, 43, None, False, ""),
        (41, 43, 41, False, ""),
        (41, 43, 43, True, ""),
        (41, 43, 50, True, ""),
        (41, 43, 42, False, "lies within the interval"),
        (256, None, 256, False, ""),
        (256, None, None, False, ""),
        (None, 1, None, True, ""),
        (None, 16, 32, True, ""),
        (None, 16, 8, False, "lies within the interval"),
        (None, 16, None, False, "nothing below it was proven"),
    ],
)
def test_what_an_interval_means_for_the_capacity_that_is_wanted(
    lo: float | None, hi: float | None, least: float | None, low: bool, unclear: str
) -> None:
    found = Capacity(1024, 128, Find("conc", 1, 256, least=least), lo, hi)
    assert found.too_low == low
    assert bool(found.unclear) == bool(unclear)
    assert unclear in found.unclear


def test_not_monotone_is_said_and_is_no_interval() -> None:
    search = Search(CONC)
    for load, word in ((8.0, "beyond"), (64.0, "within")):
        search.tell(Probe(load, word))  # type: ignore[arg-type]
    found = Capacity.of(1024, 128, search)
    assert search.next() is None
    assert not found.too_low
    assert "not monotone: conc 8 was beyond the limits and conc 64 within" in found.unclear


def test_nothing_decided_is_said() -> None:
    search = Search(CONC)
    rng = np.random.default_rng(3)
    while (load := search.next()) is not None:
        search.tell(Probe(load, "unclear", over=float(rng.normal())))
    found = Capacity.of(1024, 128, search)
    assert "nothing decided" in found.unclear
    assert proofs(search) <= search.most
