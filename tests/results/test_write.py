"""What is written is read again, whatever it holds; what is no result is said, never raised."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.results.read import read_file, read_folder
from bench_tests.results.write import write_result

values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=5), c, max_size=3),
    max_leaves=8,
)
KEYS = [
    "completed", "schema_version", "verdict", "server", "settings", "point", "p99_ttft", "max_concurrency", "request_rate",
    "run_number", "input_config", "time_to_first_token", "metrics", "benchmarks", "resumes", "run_id", "ci95", "slo",
]  # fmt: skip


@given(
    data=st.dictionaries(st.sampled_from(KEYS), values).map(lambda v: json.dumps(v).encode())
    | st.binary(max_size=60)
    | st.sampled_from([b"[" * 100_000, b"9" * 5000, b'{"completed": 1' + b"0" * 5000 + b"}", b"{}", b"null", b"{}\n{}"])
)
@settings(max_examples=150, deadline=None)
def test_each_file_is_points_or_reasons_in_one_line(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.json"
        path.write_bytes(data)
        points, reasons = read_file(path, path.parent)
        assert points or reasons
        assert not any("\n" in reason for reason in reasons)
        assert read_folder(path.parent).files == 1


@given(values)
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read(value: object) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "y.json"
        written = {"completed": 1, "value": value, "point": {"isl": 8, "osl": 8, "conc": 2}, "output_throughput": 1.0}
        write_result(path, written)
        (point,), _ = read_file(path, path.parent)
        assert (point.isl, point.n) == (8, 1)
