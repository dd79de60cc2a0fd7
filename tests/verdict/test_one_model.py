"""Answers that name another model than the rest: the figures are of a mix."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.verdict.test_validity import LIMITS, QUIET, checks, facts, run, tripped


@pytest.mark.parametrize(("named", "models", "limit", "ok"), [
    ([{"m": 40}], 1, 0.0, True),
    ([{"another name": 30}, {"another name": 10}], 1, 0.0, True),
    ([{"m": 39, "fallback": 1}], 1, 0.0, False),
    ([{"m": 20}, {"fallback": 20}], 1, 0.0, False),
    ([{"m": 20, "lora": 20}], 2, 0.0, True),
    ([{"m": 39, "m-2026": 1}], 1, 0.05, True),
    ([{"": 20, "m": 20}], 1, 0.0, False),
])  # fmt: skip
def test_answers_of_another_model_are_a_mix(named: list[dict[str, int]], models: int, limit: float, ok: bool) -> None:
    about = facts(client=[QUIET | {"models": one} for one in named], models=models)
    assert ("one_model" not in tripped(run(), about, replace(LIMITS, max_other_models=limit))) == ok
    assert "one_model" not in checks(run(), facts()), "an older client does not say"
