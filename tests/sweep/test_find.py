"""What a search is asked on the command line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_tests.errors import UsageError
from bench_tests.sweep.find import Find, find_of, loads_between, searched, share
from bench_tests.sweep.profile import load_profile


def options(**given: Any) -> Any:
    said = {"--repeat": 1, **{f"--{name.replace('_', '-')}": value for name, value in given.items()}}
    return lambda flag: said.get(flag)


def test_what_is_not_said_has_a_default() -> None:
    assert find_of(options(find="conc")) == Find("conc", 1, 256, 0.05, None, None)
    assert find_of(options(find="rate", attain="99%", within="0.1")) == Find("rate", 0.25, 64, 0.1, 0.99, None)
    assert find_of(options()) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"between": "1:2"}, "give --find"),
        ({"find": "conc", "between": "1.5:8"}, "whole numbers"),
        ({"find": "conc", "between": "8:1"}, "LOW < HIGH"),
        ({"find": "conc", "min_capacity": 300.0}, "outside of --between"),
        ({"find": "conc", "baseline": "x"}, "no fixed points"),
        ({"find": "conc", "repeat": 2}, "leave --repeat out"),
    ],
)
def test_wrong_usage_is_told(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_of(options(**given))


@given(st.text(max_size=12))
def test_any_text_is_a_share_or_refused(text: str) -> None:
    try:
        assert 0 < share(text) < 1
    except UsageError:
        pass
    try:
        low, high = loads_between(text)
        assert 0 < low < high
    except UsageError:
        pass


def test_one_point_for_each_isl_and_osl() -> None:
    profile = load_profile("demo")
    found = searched(Find("conc", 2, 64), profile, profile.points)
    assert [str(point) for point in found] == ["isl1024-osl32-conc2", "isl4096-osl32-conc2", "isl8192-osl32-conc2"]
    with pytest.raises(UsageError, match="no request has a limit"):
        searched(Find("conc", 2, 64, attain=0.99), profile, profile.points)


def test_the_error_of_a_search_is_shared_by_its_probes_and_objectives() -> None:
    profile, find = load_profile("demo"), Find("conc", 1, 256)
    slo = find.profile(profile, find.point(1024, 32, 64)).slo
    assert slo.level == pytest.approx(1 - 2 * 0.05 / 8 / 2 / 1.4), "and by the question that streams in step are asked"
    of_goodput = Find("conc", 1, 256, attain=0.9).profile(profile, find.point(1024, 32, 64)).slo
    assert of_goodput.level == pytest.approx(1 - 2 * 0.05 / 8)
    assert slo.max_requests == 2000
    assert find.profile(profile, find.point(1024, 32, 256)).slo.max_requests == 16 * 256
