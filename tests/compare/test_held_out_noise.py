"""The rows of held-out noise are drawn as they say, and a pair of them is judged."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.held_out_noise import NOISE, SD, alarms


def _drawn(like: str) -> list[np.ndarray]:
    draw = next(draw for name, draw in NOISE.items() if like in name)
    rng = np.random.default_rng(1)
    both = [draw(rng) for _ in range(400)]
    return [np.concatenate([pair[side] for pair in both]) for side in (0, 1)]


def test_the_noise_is_what_its_row_says() -> None:
    for like, near, far in (("(AR(1), 0.3)", 0.3, 0.09), ("(AR(1), 0.5)", 0.5, 0.25), ("(AR(1), 0.8)", 0.8, 0.64),
                            ("MA(1)", 0.5, 0.0), ("two levels", 0.48, 0.288)):  # fmt: skip
        follow = np.corrcoef(_drawn(like)[0].T)
        assert [follow[0, 1], follow[1, 2], follow[0, 2]] == pytest.approx([near, near, far], abs=0.03)
    lines = _drawn("line of its own")[0]
    assert (lines[:, 2] - lines[:, 0]).std() == pytest.approx(SD * np.sqrt(4 + 2), rel=0.05)
    for like in ("AR(1)", "MA(1)", "two levels", "gamma", "Pareto"):
        assert _drawn(like)[0].std() == pytest.approx(SD, rel=0.15)
        assert abs(_drawn(like)[0].mean()) < 0.001
    now, then = _drawn("now twice")
    assert now.std() / then.std() == pytest.approx(2, rel=0.05)
    now, then = _drawn("one point 30 %")
    assert (now > 0.15).sum() + (then > 0.15).sum() == 400  # once a pair, on either side


@pytest.mark.parametrize("name", NOISE)
def test_a_pair_of_each_row_is_judged(name: str) -> None:
    got = alarms(name, 1, 3)
    assert got["pairs"] == 1
    assert got["any"] <= got["points"] + got["sweep"]
