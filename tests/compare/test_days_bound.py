"""The bound on what can be found between days: right where the answer is known, between its neighbours, as documented."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.days_bound import BEGIN, END, SD, best, known, student, table

EFFECT = math.log(1.05)


def test_the_best_test_of_a_known_sd_is_the_z_test() -> None:
    assert best(EFFECT, 0.005, held=(SD, SD)) == pytest.approx(known(EFFECT, 0.005), abs=2e-3)


def test_to_learn_the_sd_costs_and_no_less_than_nothing() -> None:
    least, most = student(EFFECT, 0.005), known(EFFECT, 0.005)
    assert least + 0.005 < best(EFFECT, 0.005) < most - 0.02
    assert best(EFFECT, 0.005, held=(0.0025, 0.005, 0.01, 0.02)) <= best(EFFECT, 0.005) + 1e-3


def test_the_page_has_this_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert table() in page.split(BEGIN)[1].split(END)[0]
