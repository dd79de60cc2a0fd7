"""Points that became slower scatter, and are not taken for noise because of it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.several_points import ROWS, Row, found


def test_a_row_slows_the_points_that_it_names() -> None:
    rng = np.random.default_rng(1)
    assert len(set(Row(6, 0.1).draw(rng).tolist())) == 6
    assert sorted(Row(12, 0.1, longest=True).draw(rng).tolist()) == sorted(
        Row(12, 0.1, longest=True).draw(rng).tolist()
    )


@pytest.mark.parametrize("row", [row for row in ROWS if row.slower == 0.1], ids=lambda row: row.words)
def test_a_tenth_slower_at_several_points_goes_red(row: Row) -> None:
    red, named = found(row, 12, 3)
    plain_red, plain_named = found(row, 12, 3, order=False)
    assert plain_red == 12
    assert red >= 10
    assert named >= 0.6 * plain_named
