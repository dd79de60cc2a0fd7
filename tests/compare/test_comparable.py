"""One key says whether two results are comparable: for the gate, --resume, pictures and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench_tests.compare.baseline import compare, read_baseline
from bench_tests.compare.comparable import differences, group_key, load_words
from bench_tests.errors import UsageError
from bench_tests.results.formats import to_point
from bench_tests.results.schema import PointResult
from bench_tests.sweep.point import Point
from tests.support.plotting_examples import example_records, example_result

SETTINGS = {"num_prompts": 80, "num_warmups": 16, "request_rate": "inf", "ignore_eos": True}


def read(name: str = "r.json", settings: dict[str, Any] | None = SETTINGS, **changes: Any) -> PointResult:
    raw = example_result(**changes)
    raw["settings"] = settings
    if settings is None:
        del raw["settings"], raw["server"], raw["engine"]
    return to_point(raw, Path(name))


def test_a_setting_that_an_older_file_lacks_is_its_default() -> None:
    now = SETTINGS | {"range_ratio": 0.0, "prefix_len": 0, "burstiness": 1.0, "endpoint": "/v1/completions"}
    assert differences(read(settings=now), read()) == []
    assert group_key(read(settings=now)) == group_key(read())
    (only,) = differences(read(settings=now | {"prefix_len": 512}), read())
    assert "prefix_len" in only
    assert load_words(read(settings=now | {"prefix_len": 512})) == "prefix len 512"


def test_how_streams_begin_says_nothing_of_an_open_loop_nor_gaps_of_a_closed_one() -> None:
    rate = SETTINGS | {"request_rate": 4.0}
    assert differences(read(settings=rate | {"start": "staggered"}), read(settings=rate)) == []
    assert differences(read(settings=SETTINGS | {"start": "staggered"}), read()) != []
    assert differences(read(settings=SETTINGS | {"burstiness": 0.5}), read()) == []
    assert differences(read(settings=rate | {"burstiness": 0.5}), read(settings=rate)) != []


def test_a_setting_of_a_later_version_is_a_difference() -> None:
    assert "settings trace: 'day.jsonl' and None" in differences(
        read(settings=SETTINGS | {"trace": "day.jsonl"}), read()
    )


@pytest.mark.parametrize(
    "change",
    [
        {"gpus": 4},
        {"tensor_parallel": 1, "data_parallel": 2},
        {"version": "0.33.0"},
        {"model": "other"},
        {"engine": "sglang"},
    ],
    ids=str,
)
def test_another_server_is_a_difference(change: dict[str, Any]) -> None:
    other = read(server=example_result()["server"] | change)
    assert differences(read(), other)
    assert differences(other, read())


def test_gpus_that_nobody_named_differ_from_nothing() -> None:
    unknown = example_result()["server"] | {"gpus": None}
    assert differences(read(), read(server=unknown)) == []


def test_what_a_foreign_file_does_not_say_differs_from_nothing() -> None:
    flat = read("demo_vllm_tp2_isl256_osl24_conc8.json", settings=None)
    assert differences(flat, read(settings=SETTINGS | {"range_ratio": 0.2})) == []
    assert differences(flat, read(settings=SETTINGS | {"num_prompts": 800}))
    assert differences(read("demo_vllm_tp8_isl256_osl24_conc8.json", settings=None), read())


def keep(folder: Path, name: str, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(example_result(**changes)))
    return path


def test_files_of_the_older_client_with_a_range_ratio_are_a_baseline(tmp_path: Path) -> None:
    flat = example_result(1024, 128, conc=8)
    for key in ("point", "server", "settings", "run_id", "verdict", "engine", "schema_version", "slo"):
        del flat[key]
    flat |= {"total_input_tokens": 1017 * 80, "total_output_tokens": 126 * 80}
    (tmp_path / "m_vllm_tp2_isl1024_osl128_conc8.json").write_text(json.dumps(flat))
    baseline = read_baseline(tmp_path)
    assert list(baseline.results) == [Point(1024, 128, 8)]
    now = example_result(1024, 128, conc=8, settings=SETTINGS | {"range_ratio": 0.2}, run_id="now")
    found, different = compare([(tmp_path / "now.json", now)], baseline, allow_different=False)
    assert different == {}
    assert found.of(Point(1024, 128, 8))


def test_a_baseline_holds_what_was_there_when_it_was_read(tmp_path: Path) -> None:
    """A session that writes into the baseline's own folder is compared with what was there before, records included."""
    records = example_records(conc=8, n=80)
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "p.npz").write_bytes(records.save())
    path = keep(tmp_path, "p", records="records/p.npz", run_id="before")
    baseline = read_baseline(tmp_path)
    slower = example_result(records="records/p.npz", run_id="now", slow=1.5)
    (tmp_path / "records" / "p.npz").write_bytes(b"overwritten")
    path.write_text(json.dumps(slower))
    found, _ = compare([(path, slower)], baseline, allow_different=False)
    throughput = next(c for c in found.of(Point(256, 24, 8)) if c.metric == "output_throughput")
    assert throughput.current < throughput.baseline


def test_a_reused_result_is_not_compared_with_itself(tmp_path: Path) -> None:
    path = keep(tmp_path, "p", run_id="before")
    baseline = read_baseline(tmp_path)
    found, different = compare([(path, example_result(run_id="before"))], baseline, allow_different=False)
    assert not found.of(Point(256, 24, 8))
    assert Point(256, 24, 8) in different


@pytest.mark.parametrize("what", ["none", "file", "empty", "foreign"])
def test_a_baseline_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "b"
    if what == "file":
        folder.write_text("x")
    elif what != "none":
        folder.mkdir()
    if what == "foreign":
        (folder / "x.json").write_text("{}")
    with pytest.raises(UsageError, match="--baseline") as told:
        read_baseline(folder)
    assert "--save-baseline" in str(told.value)
    assert "\n" not in str(told.value)
