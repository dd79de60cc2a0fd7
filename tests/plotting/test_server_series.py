"""The server's counters below a timeline: their rates, their file as anybody's, and the picture."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.errors import UsageError
from plotting.server_series import load_series, server_series
from plotting.timeline import draw_timeline, timeline_data
from tests.plotting.test_data import point
from tests.plotting.test_draw import check_layout
from tests.support.make_records import records

SENT = [10.0, 11.0, 12.0, 13.0, 14.0]
RUN = records(SENT, [[s + (2.0 if s == 12 else 0.1), s + 2.5] for s in SENT])
COLUMNS = {
    "t_s": [9.0, 10.0, 11.0, 13.0, 15.0],
    "running": [0.0, 1.0, 2.0, 2.0, 0.0],
    "waiting": [0.0, 0.0, 0.0, 1.0, 0.0],
    "kv_cache": [0.0, 0.5, 0.9, 1.0, 0.0],
    "preemptions": [4.0, 4.0, 4.0, 6.0, 6.0],
    "prompt_tokens": [0.0, 10.0, 20.0, 40.0, 50.0],
    "cached_tokens": [0.0, 0.0, 5.0, 5.0, 5.0],
    "generation_tokens": [100.0, 102.0, 104.0, 108.0, 110.0],
}
ARRAYS = {name: np.array(column) for name, column in COLUMNS.items()}


def test_rates_are_of_the_time_between_two_readings() -> None:
    found = server_series(ARRAYS, RUN, 10.0)
    assert found is not None
    assert found.t == (-1.0, 0.0, 1.0, 3.0, 5.0)
    assert found.tok_per_s == (0.0, 2.0, 2.0, 2.0, 1.0)
    assert found.preempted == (0.0, 0.0, 0.0, 2.0, 0.0)
    assert found.hit_share == (0.0, 0.0, 0.5, 0.0, 0.0)
    (spike,) = found.spikes
    assert (spike.start_s, spike.end_s) == (2.0, 4.0)
    assert "2 preempted" in spike.cause


def test_the_picture_has_the_servers_rows_and_the_words() -> None:
    data = timeline_data(point(10, 2), RUN, "title", "caption", ARRAYS)
    assert data is not None
    figure = draw_timeline(data)
    check_layout(figure)
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert {"TTFT (s)", "KV cache (%)", "preempted"} <= set(labels)
    words = "".join(axes.get_legend().get_title().get_text() for axes in figure.axes if axes.get_legend())
    assert "2 preempted" in words
    without = timeline_data(point(10, 2), RUN, "title", "caption")
    assert without is not None
    assert len(draw_timeline(without).axes) == 3


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **ARRAYS)
    assert {name: column.tolist() for name, column in load_series(path).items()} == COLUMNS


@pytest.mark.parametrize(
    "columns",
    [
        {"running": np.zeros(3)},
        {"t_s": np.zeros(3), "running": np.zeros(4)},
        {"t_s": np.zeros((3, 3))},
        {"t_s": np.array([0.0, np.nan])},
        {"t_s": np.array(["a", "b"])},
        {"t_s": np.array([{}, {}], dtype=object)},
    ],
)
def test_what_are_no_series_is_refused_in_one_line(tmp_path: Path, columns: dict[str, np.ndarray]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **columns)
    with pytest.raises(UsageError) as why:
        load_series(path)
    assert "\n" not in str(why.value)


@given(st.binary(max_size=200), st.integers(0, 400))
@settings(max_examples=60)
def test_no_bytes_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int) -> None:
    whole = io.BytesIO()
    np.savez(whole, **ARRAYS)
    path = tmp_path_factory.mktemp("series") / "a.npz"
    path.write_bytes(whole.getvalue()[:at] + data + whole.getvalue()[at + len(data) :])
    with contextlib.suppress(UsageError):
        load_series(path)
