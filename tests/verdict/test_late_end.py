"""Answers that stay open behind their last token: of such a concurrency the server works on fewer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.verdict.test_validity import checks, facts, run


@pytest.mark.parametrize(("tail_s", "said"), [(0.0, False), (0.005, False), (0.5, True), (2.0, True)])
def test_answers_that_stay_open_behind_their_last_token_are_told(tail_s: float, said: bool) -> None:
    of = run()
    late = replace(of, end_s=of.last_s + tail_s)
    check = checks(late, facts())["late_end"]
    assert check.ok
    assert bool(check.text) == said, check
