"""Records keep what they were given: through a file, through a merge; and nothing else is taken for them."""

from __future__ import annotations

import io
import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.errors import UsageError
from bench_tests.load.records import KINDS, Records
from tests.support.make_records import records


def same(a: Records, b: Records) -> None:
    for spec in fields(Records):
        np.testing.assert_array_equal(getattr(a, spec.name), getattr(b, spec.name), err_msg=spec.name)


SOME = records(
    send=[0.0, 0.1, 0.2, np.nan],
    events=[[0.5, 0.6, 0.8], [0.7], [], []],
    kind=["completed", "completed", "stalled", "cancelled"],
)


def test_a_file_gives_back_what_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    path.write_bytes(SOME.save())
    same(Records.load(path), SOME)
    same(Records.load(SOME.save()), SOME)
    same(Records.load(Records.empty().save()), Records.empty())


def test_a_merge_sorts_by_sending_and_moves_the_events_along() -> None:
    early, late = (
        records([0.0, 2.0], [[0.5], [2.5, 2.6]]),
        records([1.0, 3.0], [[1.5, 1.6, 1.7], []], ["completed", "stalled"]),
    )
    merged = Records.merge([late, early])
    assert merged.send_s.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert merged.events.tolist() == [1, 3, 2, 0]
    assert merged.event_s.tolist() == [0.5, 1.5, 1.6, 1.7, 2.5, 2.6]
    assert Records.merge([SOME]).error.tolist() == ["", "was cancelled", "", "was stalled"]  # unsent: by its schedule
    same(Records.merge([]), Records.empty())


def test_gaps_do_not_cross_requests_and_leave_out_the_masked() -> None:
    np.testing.assert_allclose(SOME.itl_s(np.array([True, True, True, True])), [0.1, 0.2])
    assert not len(SOME.itl_s(np.array([False, True, True, True])))


def test_latencies_by_hand() -> None:
    assert SOME.ttft_s()[0] == pytest.approx(0.5)
    assert SOME.e2el_s()[0] == pytest.approx(0.8)
    assert SOME.tpot_s()[0] == pytest.approx(0.15)
    assert np.isnan(SOME.tpot_s()[1])  # one token has none
    assert np.isnan(SOME.ttft_s()[2:]).all()


@pytest.mark.parametrize(("kind", "continuous"), [("http", False), ("cut_off", False), ("cancelled", True)])
def test_a_warm_up_that_failed_makes_no_staggered_start(kind: str, continuous: bool) -> None:
    some = records(
        [-2.0, -1.0, 0.0], [[-1.5, -1.0], [], [0.5, 1.0]], ["completed", kind, "completed"], [False, False, True]
    )
    assert some.continuous is continuous


def test_the_kinds_order_is_part_of_the_format() -> None:
    assert KINDS == (
        "completed", "connect", "http", "error_event", "cut_off", "stalled", "malformed", "short", "cancelled",
        "withdrawn",
    )  # fmt: skip


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -30])
def test_half_a_file_is_told_in_one_line(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "r.npz"
    path.write_bytes(SOME.save()[:cut])
    with pytest.raises(UsageError, match=r"r\.npz"):
        Records.load(path)


def test_columns_must_fit_each_other() -> None:
    with pytest.raises(UsageError, match="unequal"):
        Records.load(replace(SOME, send_s=SOME.send_s[:2]).save())
    with pytest.raises(UsageError, match="asked_input"):
        Records.load(replace(SOME, asked_input=SOME.error).save())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="event_s"):
        Records.load(replace(SOME, event_s=SOME.event_s[:2]).save())


def test_a_file_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return open, (str(tmp_path / "was-run"), "w")

    columns = {spec.name: getattr(SOME, spec.name) for spec in fields(Records)}
    out = io.BytesIO()
    np.savez(out, **columns | {"error": np.array([Evil()] * 4, object)})
    for data in (out.getvalue(), pickle.dumps(Evil())):
        with pytest.raises(UsageError):
            Records.load(data)
    assert not (tmp_path / "was-run").exists()


@given(st.binary(max_size=200) | st.integers(0, 3000).map(lambda at: SOME.save()[:at] + b"\0" + SOME.save()[at + 1 :]))
@settings(max_examples=100, deadline=None)
def test_no_bytes_raise_anything_but_a_usage_error(data: bytes) -> None:
    try:
        Records.load(data)
    except UsageError:
        pass
