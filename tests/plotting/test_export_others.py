"""Results as others' formats: InferenceX's rows come back through our own reader; llm-d's report has its parts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench_tests.results.read import read_file, read_folder
from plotting.cli import main
from plotting.cost import cost_data, draw_cost
from plotting.group import split
from plotting.report import render_report
from plotting.report.advice import story
from tests.plotting.test_draw import check_layout
from tests.support.plotting_examples import example_result

ECONOMY = {
    "energy_j": 4000.0,
    "avg_power_w": 400.0,
    "j_per_output_token": 0.8,
    "j_per_input_token": 0.1,
    "j_per_total_token": 0.09,
    "cost_per_million_output": 1.5,
    "power": {"source": "nvml", "power_valid": True, "power_invalid_reasons": []},
    "cost": {"gpu_hour": 2.1, "currency": "EUR"},
    "metadata": {"hw": "h100", "precision": "fp8"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three points of a sweep, with energy and cost."""
    results = tmp_path / "results"
    results.mkdir()
    for conc in (4, 16, 64):
        result = example_result(1024, 128, conc) | ECONOMY | {"cost_per_million_output": 6.0 / conc**0.5}
        (results / f"a_vllm_tp2_isl1024_osl128_conc{conc}.json").write_text(json.dumps(result))
    return results


def run(folder: Path, form: str) -> Path:
    out = folder.parent / form
    assert main(["export", "--format", form, "--results-dir", str(folder), "--output-dir", str(out)]) == 0
    return out


def test_inferencex_rows_come_back_with_the_same_figures(folder: Path) -> None:
    out = run(folder, "inferencex")
    rows = json.loads((out / "inferencex.json").read_text())
    assert [row["conc"] for row in rows] == [4, 16, 64]
    assert {row["hw"] for row in rows} == {"h100"}
    assert rows[0]["joules_per_output_token"] == 0.8
    assert rows[0]["power_valid"] is True
    for ours, theirs in zip(read_folder(folder).points, read_folder(out).points, strict=True):
        assert theirs.point == ours.point
        assert theirs.metrics["p99_ttft"] == pytest.approx(ours.metrics["p99_ttft"])
        assert theirs.throughput("output") == pytest.approx(ours.throughput("output"))
        assert theirs.raw["median_intvty"] == pytest.approx(1 / ours.metrics["median_tpot"])


def test_llm_ds_report_has_its_parts(folder: Path) -> None:
    paths = sorted(run(folder, "llm-d").glob("*.report.json"))
    assert len(paths) == 3
    points = {str(point.source.stem): point for point in read_folder(folder).points}
    for path in paths:
        report, point = json.loads(path.read_text()), points[path.name.removesuffix(".report.json")]
        assert report["version"] == "0.2"
        assert report["run"]["time"]["duration"] == f"PT{point.raw['duration']:g}S"
        (engine,) = report["scenario"]["stack"]
        assert engine["standardized"]["model"]["name"] == point.model
        assert engine["standardized"]["accelerator"] == {
            "model": "h100",
            "count": point.gpus,
            "parallelism": {"tp": point.parallel.get("tp", 1), "dp": 1, "pp": 1, "ep": 1},
        }
        load = report["scenario"]["load"]["standardized"]
        assert (load["concurrency"], load["input_seq_len"]["value"]) == (point.conc, point.isl)
        done = report["results"]["request_performance"]["aggregate"]
        assert done["requests"]["total"] == point.n
        assert done["latency"]["time_to_first_token"]["p99"] == pytest.approx(point.metrics["p99_ttft"])
        assert done["throughput"]["output_token_rate"]["mean"] == pytest.approx(point.metrics["output_throughput"])


def test_vllms_format_is_the_same_as_by_the_option(folder: Path) -> None:
    assert len(list(run(folder, "vllm").rglob("summary.json"))) == 3


def test_per_gpu_figures_need_the_gpus(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in folder.glob("*.json"):
        result = json.loads(path.read_text())
        del result["server"]
        path.write_text(json.dumps(result | {"model_id": "m"}))
        path.rename(path.with_name(path.name.replace("_tp2", "")))
    command = ["export", "--format", "inferencex", "--results-dir", str(folder), "--output-dir", str(folder / "x")]
    assert main(command) == 4
    assert "give --gpus N" in capsys.readouterr().err
    assert main([*command, "--gpus", "2"]) == 0


def test_the_cost_is_drawn_where_there_is_one_in_one_currency(folder: Path) -> None:
    (group,) = split(read_folder(folder).points)
    data = cost_data(group)
    assert data is not None
    assert (data.currency, data.series[0].y) == ("EUR", (3.0, 1.5, 0.75))
    words = " ".join(check_layout(draw_cost(data)))
    assert "cost of a million output tokens (EUR)" in words
    for path in list(folder.glob("*.json"))[:1]:
        path.write_text(path.read_text().replace('"EUR"', '"USD"'))
    (group,) = split(read_folder(folder).points)
    assert cost_data(group) is None


def test_the_report_tells_where_the_time_went_and_what_it_took(folder: Path) -> None:
    parts = {
        "client_s": 0.1,
        "server_s": 0.09,
        "client_and_network_s": 0.01,
        "front_s": 0.01,
        "queue_s": 0.05,
        "prefill_s": 0.03,
    }
    side = {
        "ttft": parts,
        "of": "measured",
        "same_requests": True,
        "requests": {"client": 40},
        "spike_words": "TTFT spikes: 1",
    }
    path = next(iter(folder.glob("*.json")))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"server_side": side}))
    (point,) = read_file(path, folder)[0]
    told = story(point)
    assert told[0].startswith("mean TTFT 100.0 ms = 10.0 ms client and network + 10.0 ms front + 50.0 ms queue")
    assert told[1] == "TTFT spikes: 1"
    assert "energy an output token: 0.8 J" in told
    assert any(words.endswith(" EUR") for words in told)
    assert told[0] in render_report([read_folder(folder)])
    for odd in (
        {"ttft": 5},
        {"ttft": parts},
        {"ttft": {"client_s": "x", "server_s": []}},
        {"spike_words": 7},
        {"speculation": "x"},
    ):
        assert isinstance(story(replace(point, raw={"server_side": odd})), list)
