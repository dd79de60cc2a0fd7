"""Reading results: four formats, untrusted files, and each file left out named with its reason."""

from __future__ import annotations

import json
import os
import time
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from bench_tests.compare.sessions import read_latest as read_folder
from bench_tests.errors import UsageError
from plotting.group import cells, split
from plotting.raw_records import load_records
from tests.support.plotting_examples import PUBLISHED, example_records, example_result, write_sweep

FORMATS = Path(__file__).parents[1] / "support" / "data" / "formats"


def put(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_published_files_are_all_read() -> None:
    results = read_folder(PUBLISHED)
    assert len(results.points) == 97
    assert results.left_out == ()
    assert {point.gpus for point in results.points} == {8}
    assert sorted({p.isl for p in results.points}) == [1024, 2048, 4096, 6144, 8192, 10240, 12288, 14336, 16384]
    one = next(p for p in results.points if p.model == "zai-org/GLM-5-FP8" and p.point_id == "isl4096-osl128-conc16")
    assert one.metrics["p99_ttft"] == pytest.approx(3.661567905)
    assert one.throughput("input") == pytest.approx(6580.1532456 / 8)
    assert one.verdict is None
    assert one.n == 160


def test_vllm_bench_serve_file_is_in_milliseconds_there_and_in_seconds_here() -> None:
    (point,) = read_folder(FORMATS).points[2:]
    assert (point.model, point.isl, point.osl, point.conc) == ("tiny", 1024, 32, 4)
    assert point.metrics["p99_ttft"] == pytest.approx(0.16247896)
    assert point.metrics["median_tpot"] == pytest.approx(0.00666995)
    assert point.gpus is None
    assert point.throughput("output") == pytest.approx(397.8167)
    assert point.throughput("input") == pytest.approx(13130.437447 - 397.816700)


def test_inferencex_aggregates_give_figures_per_gpu() -> None:
    one, split_up = read_folder(FORMATS).points[:2]
    assert (one.isl, one.osl, one.conc, one.gpus, one.engine) == (1024, 1024, 64, 8, "sglang")
    assert (one.throughput("input"), one.throughput("output")) == (375.0, 1500.0)
    assert one.metrics["p99_ttft"] == 0.2503
    assert split_up.gpus == 28


def test_own_results_come_back_whole(tmp_path: Path) -> None:
    results = read_folder(write_sweep(tmp_path, records=True, simulated=True))
    assert len(results.points) == 9
    point = next(p for p in results.points if p.point_id == "isl256-osl24-conc8")
    assert point.simulated
    assert point.records == tmp_path / "records" / "demo_vllm_tp2_isl256_osl24_conc8.npz"
    assert point.intervals["p99_ttft"][0] < point.metrics["p99_ttft"] < point.intervals["p99_ttft"][1]
    assert point.limit("p99_ttft") == 1.0
    assert point.tiers == {"ttft": (0.25, 0.5, 1.0), "tpot": (0.015, 0.02)}
    dead = next(p for p in results.points if p.point_id == "isl4096-osl24-conc32")
    assert dead.verdict == "ERROR"
    assert not dead.measured


def test_a_range_ratio_keeps_the_grid_of_the_file_names(tmp_path: Path) -> None:
    old = example_result()
    del old["point"], old["server"]
    old |= {"total_input_tokens": 1017 * 80, "total_output_tokens": 127 * 80, "completed": 80}
    put(tmp_path, "m_vllm_tp4_isl1024_osl128_conc8.json", old)
    put(tmp_path, "m_vllm_tp4_isl9999_osl128_conc8.json", old)
    first, second = read_folder(tmp_path).points
    assert (first.isl, first.osl, first.gpus) == (1017, 128, 4)  # 9999 is not what was measured
    assert (second.isl, second.osl) == (1024, 128)


def test_a_run_in_which_everything_failed_has_no_figures(tmp_path: Path) -> None:
    old = {"model_id": "m", "max_concurrency": 4, "completed": 0, "num_prompts": 40, "output_throughput": 0.0,
           "total_input_tokens": 0, "p99_ttft": 0.0, "p99_tpot": 0.0}  # fmt: skip
    put(tmp_path, "m_vllm_tp8_isl1024_osl128_conc4.json", old)
    (point,) = read_folder(tmp_path).points
    assert "p99_ttft" not in point.metrics
    assert not point.measured
    (cell,) = cells([point])
    assert cell.verdict == "ERROR"
    assert cell.throughput("output") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "empty list"),
        ("17", "JSON object"),
        ({"tests": []}, "no max_concurrency"),
        ({"max_concurrency": True}, "no max_concurrency"),
        ({"max_concurrency": -4}, "no max_concurrency"),
        ({"max_concurrency": 10**400}, "no max_concurrency"),
        ({"max_concurrency": 4}, "no ISL"),
        ({"max_concurrency": 4, "point": {"isl": 8, "osl": 8}}, "no output_throughput"),
        (
            {"max_concurrency": 4, "point": {"isl": 8, "osl": 8}, "output_throughput": float("nan")},
            "no output_throughput",
        ),
    ],
)
def test_what_is_no_result_is_named_with_its_reason(tmp_path: Path, content: object, reason: str) -> None:
    bad = put(tmp_path, "bad.json", content)
    put(tmp_path, "good.json", example_result())
    results = read_folder(tmp_path)
    assert len(results.points) == 1
    (left,) = results.left_out
    assert left.path == bad
    assert reason in left.reason
    assert "\n" not in left.reason


def test_a_good_result_beside_a_bad_one_in_a_list_is_kept(tmp_path: Path) -> None:
    put(tmp_path, "list.json", [example_result(), {"x": 1}, 5])
    results = read_folder(tmp_path)
    assert len(results.points) == 1
    assert [left.reason.split(":")[0] for left in results.left_out] == ["item 1", "item 2"]


def test_the_sessions_index_is_no_result_and_nothing_to_complain_about(tmp_path: Path) -> None:
    put(tmp_path, "good.json", example_result())
    put(tmp_path, "report.json", {"created": 1.0, "exitcode": 0, "collectors": [], "tests": [], "summary": {}})
    results = read_folder(tmp_path)
    assert (len(results.points), results.left_out) == (1, ())


def test_bytes_that_are_no_text_and_pipes_do_not_stop_the_reader(tmp_path: Path) -> None:
    (tmp_path / "bytes.json").write_bytes(b'{"a": "\xc3\x28"}')
    os.mkfifo(tmp_path / "pipe.json")
    reasons = {left.path.name: left.reason for left in read_folder(tmp_path).left_out}
    assert reasons == {"bytes.json": "not UTF-8 text", "pipe.json": "not a regular file"}


@pytest.mark.parametrize("named", ["../secret.npz", "/etc/passwd", "records/none.npz", "records", "a\0.npz", 5, ""])
def test_records_outside_the_folder_are_not_followed(tmp_path: Path, named: object) -> None:
    (tmp_path / "secret.npz").write_bytes(example_records().save())
    put(tmp_path, "in/r.json", example_result(records=named))
    (point,) = read_folder(tmp_path / "in").points
    assert point.records is None


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.npz").write_bytes(example_records().save())
    put(tmp_path, "in/r.json", example_result(records="link.npz"))
    (tmp_path / "in" / "link.npz").symlink_to(tmp_path / "secret.npz")
    assert read_folder(tmp_path / "in").points[0].records is None


def change(**columns: np.ndarray) -> dict[str, np.ndarray]:
    records = example_records(n=4, warm=0)
    return {field.name: getattr(records, field.name) for field in fields(records)} | columns


@pytest.mark.parametrize(
    "columns",
    [
        {"send_s": np.array(["a", "b", "c", "d"])},
        {"send_s": np.zeros((4, 2))},
        {"send_s": np.zeros(3)},
        {"events": np.array([-1, 25, 48, 24])},
        {"kind": np.array(4)},
        {"event_s": np.array([], dtype=complex), "events": np.zeros(4, int)},
        {"events": np.array(["24"] * 4)},
    ],
)
def test_hostile_records_are_one_clear_line(tmp_path: Path, columns: dict[str, np.ndarray]) -> None:
    path = tmp_path / "r.npz"
    np.savez(path, **change(**columns))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="measure the point again"):
        load_records(path)


def test_pickles_and_bombs_in_records_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.npz"
    np.savez(path, **change(send_s=np.array([print, 1, 2, 3], dtype=object)))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="pickle"):
        load_records(path)
    monkeypatch.setattr("plotting.raw_records._MOST_BYTES", 2**19)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("kind.npy", "w") as member:
        member.write(b"\0" * 2**20)
    with pytest.raises(UsageError, match="bytes unpacked"):
        load_records(path)


def test_wrong_types_everywhere_are_read_as_absent(tmp_path: Path) -> None:
    odd = {key: ["x"] for key in example_result()} | {"max_concurrency": 2, "isl": 8, "osl": 8, "output_throughput": 5}
    put(tmp_path, "odd.json", odd | {"ci95": {"p99_ttft": [1, "a"]}, "slo": {"objectives": [3, {"metric": 1}]}})
    (point,) = read_folder(tmp_path).points
    assert (point.model, point.intervals, point.slo, point.tiers) == ("unknown model", {}, (), {})


def test_no_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        read_folder(tmp_path / "none")


def test_repeated_runs_share_a_cell_by_their_median(tmp_path: Path) -> None:
    for run, ttft in enumerate((1.0, 5.0, 2.0), 1):
        put(tmp_path, f"r{run}.json", example_result(run=run, p99_ttft=ttft, output_throughput=10.0 * run))
    (group,) = split(read_folder(tmp_path).points)
    (cell,) = group.cells
    assert cell.metric("p99_ttft") == 2.0
    assert cell.throughput("output") == 10.0
    assert cell.interval("p99_ttft") == (1.0, 5.0)
    assert "1 point in 3 runs" in group.caption


def test_different_models_gpus_and_simulations_are_different_pictures(tmp_path: Path) -> None:
    put(tmp_path, "a.json", example_result())
    put(tmp_path, "b.json", example_result(model_id="other"))
    for name, change in (("c", {"gpus": 4}), ("d", {"simulated": True})):
        result = example_result()
        result["server"] |= change
        put(tmp_path, f"{name}.json", result)
    groups = split(read_folder(tmp_path).points)
    assert len(groups) == 4
    assert len({group.slug for group in groups}) == 4
    assert sum("SIMULATED" in group.caption for group in groups) == 1


def test_reading_a_thousand_files_takes_not_much_more_than_parsing_them(tmp_path: Path) -> None:
    for i in range(1000):
        (tmp_path / f"r{i}.json").write_text(json.dumps(example_result(run=i + 1)))
    began = time.process_time()
    for path in tmp_path.iterdir():
        json.loads(path.read_text())
    parsed = time.process_time()
    assert len(read_folder(tmp_path).points) == 1000
    assert time.process_time() - parsed < 40 * (parsed - began)  # about 10 times


def test_a_folder_with_results_is_one_sweep_and_its_subfolders_are_others(tmp_path: Path) -> None:
    result = '{"completed": 4, "num_prompts": 4, "total_input_tokens": 400, "total_output_tokens": 40, "max_concurrency": 2, "duration": 1.0, "input_throughput": 400.0, "output_throughput": 40.0, "p99_ttft": 1.0, "p99_tpot": 0.1}'
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "a_vllm_tp1.json").write_text(result)
    assert len(read_folder(tmp_path).points) == 1, "a folder of folders is read with them"
    (tmp_path / "b_vllm_tp1.json").write_text(result)
    (only,) = read_folder(tmp_path).points
    assert only.source.name == "b_vllm_tp1.json"
