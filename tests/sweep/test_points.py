"""Points: their names, the grid, and -k that selects a length exactly."""

from __future__ import annotations

import re
import string

import pytest
from _pytest.mark import expression as grammar
from _pytest.mark.expression import Expression
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.errors import UsageError
from bench_tests.sweep.point import Point, grid, keyword_tokens, rewrite_keyword

POINT = re.compile(r"isl\d+-osl\d+-conc\d+")
REFUSED = (SyntaxError, getattr(grammar, "ParseError", SyntaxError))  # pytest 9; pytest 8


def selects(expression: str, name: str) -> bool:
    """What pytest's -k does with an item of this name: identifiers match by substring, in names and extra keywords."""
    names = {name.lower(), "bench_tests", *keyword_tokens(name)}
    compiled = Expression.compile(rewrite_keyword(expression))

    def matches(word: str, /, **_: str | int | bool | None) -> bool:
        return any(word.lower() in name for name in names)

    return compiled.evaluate(matches)


def case(isl: int, osl: int, conc: int) -> str:
    return f"test_slo[{Point(isl, osl, conc)}]"


@pytest.mark.parametrize(
    "expression, yes, no",
    [
        ("isl4096", case(4096, 128, 16), case(40960, 128, 16)),
        ("conc1", case(1, 1, 1), case(1, 1, 16)),
        ("conc16", case(1, 1, 16), case(1, 1, 1)),
        ("isl1024 and conc16", case(1024, 128, 16), case(1024, 128, 64)),
        ("isl1024 and not conc16", case(1024, 128, 64), case(1024, 128, 16)),
        ("isl1024 or isl2048", case(2048, 128, 64), case(10240, 128, 64)),
        ("isl1024-osl128-conc16", case(1024, 128, 16), case(1024, 128, 1)),
        ("isl1024-conc16", case(1024, 64, 16), case(1024, 64, 161)),
        ("test_slo[isl1024-osl128-conc16]", case(1024, 128, 16), case(1024, 128, 160)),
        ("(ISL1024)", case(1024, 128, 16), case(10240, 128, 16)),
        ("slo", case(1024, 128, 16), "test_other[x]"),
        ("isl01024", case(1024, 1, 1), case(11024, 1, 1)),
    ],
)
def test_a_keyword_selects_exactly(expression: str, yes: str, no: str) -> None:
    assert selects(expression, yes)
    assert not selects(expression, no)


def test_a_grid_of_48_points_selects_as_the_documentation_says() -> None:
    isls = (1024, 2048, 4096, 6144, 8192, 10240, 12288, 14336)
    names = [f"test_slo[{p}]" for p in grid(isls, (128,), (4, 8, 16, 32, 48, 64))]
    counts = {
        "isl4096": 6,
        "ISL4096": 6,
        "isl1024 and conc16": 1,
        "conc4": 8,
        "isl1024 or isl2048": 12,
        "not isl1024": 42,
        "test_slo[isl4096-osl128-conc16]": 1,
        "isl4096-conc16": 1,
    }
    assert {keyword: sum(selects(keyword, n) for n in names) for keyword in counts} == counts


def test_repetitions_keep_their_points_keywords() -> None:
    assert selects("conc16", "test_slo[isl1024-osl128-conc16-run2]")
    assert not selects("conc1", "test_slo[isl1024-osl128-conc16-run2]")


@given(
    st.text(string.ascii_letters + string.digits + " ()[]-_.:/=+\\", max_size=40)
    | st.lists(st.sampled_from(["isl1", "conc16", "osl8", "and", "or", "not", "(", ")", "test_slo", "[", "]", "-"]), max_size=9).map(" ".join)
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_what_pytest_understands_it_understands_rewritten_and_the_reverse(expression: str) -> None:
    def understood(text: str) -> bool:
        try:
            Expression.compile(text)
        except REFUSED:
            return False
        return True

    assert understood(rewrite_keyword(expression)) == understood(expression)


@given(isl=st.integers(1, 10**8), osl=st.integers(1, 10**8), conc=st.integers(1, 10**8), other=st.integers(1, 10**8))
@settings(max_examples=100, deadline=None)
def test_any_length_is_selected_by_itself_alone(isl: int, osl: int, conc: int, other: int) -> None:
    name = case(isl, osl, conc)
    assert selects(f"isl{isl} and osl{osl} and conc{conc}", name)
    assert selects(f"isl{other}", name) is (other == isl)
    assert Point.parse(str(Point(isl, osl, conc))) == Point(isl, osl, conc)


@given(st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_no_text_makes_parse_raise_anything_but_a_usage_error(text: str) -> None:
    try:
        said = str(Point.parse(text))
    except UsageError as why:
        said = str(why)
    assert POINT.fullmatch(said) or "isl2048-osl128-conc16" in said or "at least 1" in said


@pytest.mark.parametrize(
    "text", ["isl0-osl1-conc1", "isl1-osl1-conc0", "isl-1-osl1-conc1", "", "isl1-conc1", "isl1-osl1-conc1-x"]
)
def test_what_is_no_point(text: str) -> None:
    with pytest.raises(UsageError):
        Point.parse(text)


@pytest.mark.parametrize(
    ("point", "name"),
    [
        (Point(4096, 128, 0, 8), "isl4096-osl128-rate8"),
        (Point(4096, 128, 64, 0.5), "isl4096-osl128-rate0.5-conc64"),
        (Point(0, 0, 16, 0, "sharegpt"), "sharegpt-conc16"),
        (Point(0, 0, 0, 2.5, "sharegpt"), "sharegpt-rate2.5"),
        (Point(0, 0, 0, 0, "conversation_trace"), "conversation_trace"),
    ],
)
def test_a_rate_and_a_workload_have_names(point: Point, name: str) -> None:
    assert str(point) == name
    assert point.open_loop is (point.conc == 0 or point.rate > 0)
    if not point.workload:
        assert Point.parse(name) == point


def test_a_rate_is_selected_exactly() -> None:
    names = [f"test_slo[{p}]" for p in grid((1024,), (128,), (8,), (8, 80, 0.5, 8.5))]
    assert len(names) == 5
    for word, count in {
        "rate8": 1,
        "rate0.5": 1,
        "rate00.50": 1,
        "rate8.5": 1,
        "conc8": 1,
        "rate5": 0,
        "isl1024": 5,
    }.items():
        assert sum(selects(word, name) for name in names) == count, word


@pytest.mark.parametrize("rate", [-1.0, float("inf"), float("nan")])
def test_what_is_no_rate(rate: float) -> None:
    with pytest.raises(UsageError):
        Point(1, 1, 1, rate)
    for text in ("isl1-osl1-rate0", "isl1-osl1-rate", "isl1-osl1-rate1e3", "isl1-osl1", "isl1-osl1-conc4-rate8"):
        with pytest.raises(UsageError):
            Point.parse(text)
