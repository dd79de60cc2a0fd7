"""The picture of searches: its data from their files, whatever else lies there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.compare.capacity import Capacity, Probe
from bench_tests.sweep.find import Find
from plotting.capacity import capacity_data, draw_capacity
from plotting.style import save


def kept(isl: int, lo: float | None, hi: float | None) -> dict[str, Any]:
    probes = (Probe(8, "within", 1000, over=-0.4), Probe(64, "beyond", 400, over=0.9), Probe(20, "unclear", over=0.0))
    about = {"profile": "demo", "server": {"model": "m", "simulated": True}}
    return about | Capacity(isl, 128, Find("conc", 1, 256), lo, hi, probes).as_dict()


def test_a_picture_for_each_osl_with_one_interval_for_each_isl(tmp_path: Path) -> None:
    folder = tmp_path / "capacity"
    folder.mkdir()
    for isl, lo, hi in ((4096, 18, 20), (1024, 40, 42), (8192, None, 1), (512, 256, None)):
        (folder / f"{isl}.json").write_text(json.dumps(kept(isl, lo, hi)))
    (folder / "broken.json").write_text('{"axis": "conc"')
    (data,), left_out = capacity_data(tmp_path)
    assert [(f.isl, f.lo, f.hi) for f in data.found] == [
        (512, 256, None),
        (1024, 40, 42),
        (4096, 18, 20),
        (8192, None, 1),
    ]
    assert [left.path.name for left in left_out] == ["broken.json"]
    assert data.simulated
    assert save(draw_capacity(data), tmp_path / "c.png").stat().st_size > 10_000


def test_searches_that_found_nothing_are_drawn_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "capacity"
    folder.mkdir()
    (folder / "none.json").write_text(json.dumps(kept(512, None, None) | {"probes": []}))
    (data,), _ = capacity_data(tmp_path)
    assert save(draw_capacity(data), tmp_path / "c.png").stat().st_size > 5_000


_JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(list(kept(1, 1, 2))), c, max_size=8), max_leaves=12)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(_JSON)
def test_any_json_is_read_or_left_out(tmp_path_factory: Any, value: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "capacity").mkdir()
    (folder / "capacity" / "a.json").write_text(json.dumps(value))
    found, left_out = capacity_data(folder)
    assert len(found) + len(left_out) == 1
