"""Result files of other tools: what maps is read, what doesn't is named as what it is, and nothing is drawn twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench_tests.compare.sessions import read_latest
from bench_tests.results.schema import Results
from plotting.group import split


def put(folder: Path, name: str, *content: object) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(part) for part in content))


def vllm(**changes: Any) -> dict[str, Any]:
    """A file of `vllm bench serve`."""
    return {
        "date": "20260901-101010", "backend": "vllm", "model_id": "org/model", "num_prompts": 80, "request_rate": "inf",
        "burstiness": 1.0, "max_concurrency": 8, "duration": 20.0, "completed": 80, "total_input_tokens": 81920,
        "total_output_tokens": 10240, "output_throughput": 512.0, "total_token_throughput": 4608.0, "mean_ttft_ms": 150.0,
        "median_ttft_ms": 140.0, "p99_ttft_ms": 190.0, "median_tpot_ms": 12.0, "p99_tpot_ms": 15.0,
    } | changes  # fmt: skip


def titles(results: Results) -> list[str]:
    return [group.title for group in split(results.points)]


def test_a_folder_of_vllms_sweep_is_its_runs_once_a_configuration(tmp_path: Path) -> None:
    for tp, rate in ((1, 500.0), (4, 1700.0)):
        place = f"20260901/SERVE--tensor_parallel_size={tp}-BENCH--max_concurrency=8"
        runs = [vllm(run_number=i, tensor_parallel_size=tp, output_throughput=rate + i) for i in range(3)]
        for i, run in enumerate(runs):
            put(tmp_path, f"{place}/run={i}.json", run)
        put(tmp_path, f"{place}/summary.json", runs)
        put(tmp_path, f"{place}/warmup.json", vllm(run_number=-1, tensor_parallel_size=tp, p99_ttft_ms=2000.0))
        put(
            tmp_path, f"{place}/run=3.failure.json", {"run_number": 3, "error_type": "CalledProcessError", "error": "x"}
        )
    results = read_latest(tmp_path)
    groups = {group.gpus: group for group in split(results.points)}
    assert set(groups) == {1, 4}
    (cell,) = groups[4].cells
    assert (len(cell.runs), cell.throughput("output"), cell.metric("p99_ttft")) == (3, 1701.0 / 4, 0.19)
    assert results.count == "12 files read, 6 left out: " + ", ".join(
        ["2 × failed run of a sweep", "2 × copy of what another file holds", "2 × warm-up run"]
    ) or set(results.count.partition(": ")[2].split(", ")) == {
        "2 × failed run of a sweep",
        "2 × copy of what another file holds",
        "2 × warm-up run",
    }


def test_configurations_that_differ_in_another_flag_are_not_merged(tmp_path: Path) -> None:
    for seqs in (64, 256):
        put(tmp_path, f"SERVE--max_num_seqs={seqs}-BENCH--c=8/run=0.json", vllm(run_number=0, max_num_seqs=seqs))
    assert {group.apart for group in split(read_latest(tmp_path).points)} == {"max_num_seqs=64", "max_num_seqs=256"}


@pytest.mark.parametrize(
    ("name", "gpus", "words"),
    [
        ("m_vllm_tp8_isl1024_osl128_conc8", 8, ""),
        ("m_vllm_tp4_pp2_isl1024_osl128_conc8", 8, "tp4 pp2"),
        ("m_vllm_dp2_isl1024_osl128_conc8", 2, "dp2"),
        ("m_vllm_tp2_dp4_isl1024_osl128_conc8", 8, "tp2 dp4"),
        ("m_vllm_ep8_isl1024_osl128_conc8", 8, "ep8"),
        ("m_vllm_tp8_ep8_isl1024_osl128_conc8", 8, "tp8 ep8"),
        ("m_vllm_tep8_isl1024_osl128_conc8", 8, "tep8"),
        ("m_vllm_dep16_isl1024_osl128_conc8", 16, "dep16"),
        ("m_fp8_vllm_isl1024_osl128_conc8", None, ""),
    ],
)
def test_the_parallelism_in_a_files_name_is_the_configuration(
    tmp_path: Path, name: str, gpus: int | None, words: str
) -> None:
    put(tmp_path, f"{name}.json", vllm())
    (group,) = split(read_latest(tmp_path).points)
    assert (group.gpus, group.apart) == (gpus, words)


def test_two_parallelisms_of_as_many_gpus_are_two_pictures(tmp_path: Path) -> None:
    for sizes in ("tp8", "dep8", "tp4_pp2"):
        put(tmp_path, f"m_vllm_{sizes}_isl1024_osl128_conc8.json", vllm())
    groups = split(read_latest(tmp_path).points)
    assert {(group.gpus, group.apart) for group in groups} == {(8, "tp8"), (8, "dep8"), (8, "tp4 pp2")}
    assert len({group.slug for group in groups}) == len({group.title for group in groups}) == 3


def test_a_rate_and_a_closed_loop_of_one_cell_are_not_merged(tmp_path: Path) -> None:
    put(tmp_path, "closed.json", vllm())
    put(tmp_path, "open.json", vllm(request_rate=4.0, p99_ttft_ms=90.0))
    put(tmp_path, "faster.json", vllm(request_rate=8.0, p99_ttft_ms=120.0))
    put(tmp_path, "uncapped.json", vllm(request_rate=8.0, max_concurrency=None, p99_ttft_ms=130.0))
    results = read_latest(tmp_path)
    assert {group.apart for group in split(results.points)} == {"", "4 req/s", "8 req/s", "open loop"}
    assert all(len(cell.runs) == 1 for group in split(results.points) for cell in group.cells)
    assert {point.point_id for point in results.points} == {
        "isl1024-osl128-conc8",
        "isl1024-osl128-rate4-conc8",
        "isl1024-osl128-rate8-conc8",
        "isl1024-osl128-rate8",
    }


SGLANG = {
    "backend": "sglang", "request_rate": "inf", "max_concurrency": 8, "random_input_len": 2000, "random_output_len": 200,
    "random_range_ratio": 0.0, "duration": 30.0, "completed": 100, "total_input_tokens": 101_300, "total_output_tokens": 9_900,
    "output_throughput": 330.0, "input_throughput": 3376.0, "mean_e2e_latency_ms": 2000.0, "median_e2e_latency_ms": 1900.0,
    "p99_e2e_latency_ms": 2500.0, "median_ttft_ms": 100.0, "p99_ttft_ms": 150.0, "p99_tpot_ms": 20.0,
}  # fmt: skip


def test_sglangs_lengths_are_its_totals_and_its_end_to_end_latency_is_read(tmp_path: Path) -> None:
    put(tmp_path, "online.jsonl", SGLANG, SGLANG | {"max_concurrency": 16})
    results = read_latest(tmp_path)
    assert [point.point_id for point in results.points] == ["isl1013-osl99-conc8", "isl1013-osl99-conc16"]
    assert results.points[0].metrics["p99_e2el"] == 2.5
    put(tmp_path, "online.jsonl", SGLANG | {"total_input_tokens": 198_000})  # a ratio near 1: the stated length holds
    assert read_latest(tmp_path).points[0].isl == 2000


def times(value: float, unit: str = "ms") -> dict[str, Any]:
    return {"unit": unit, "avg": value, "p50": value, "p90": value, "p95": value, "p99": value * 1.2, "std": 1.0}


AIPERF = {
    "time_to_first_token": times(200.0), "inter_token_latency": times(20.0), "request_latency": times(2700.0),
    "output_token_throughput": {"unit": "tokens/sec", "avg": 500.0}, "request_throughput": {"avg": 4.0},
    "input_config": {"endpoint": {"model_names": ["org/model"]}, "loadgen": {"concurrency": 16}},
}  # fmt: skip


def test_aiperf_is_read_where_it_says_its_lengths(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a.json",
        AIPERF | {"input_sequence_length": {"avg": 1024.3}, "output_sequence_length": {"avg": 125.0}},
    )
    (point,) = read_latest(tmp_path).points
    assert (point.point_id, point.model) == ("isl1024-osl125-conc16", "org/model")
    assert point.metrics["p99_tpot"] == pytest.approx(0.024)  # its inter-token latency is over tokens: our TPOT
    assert "p99_itl" not in point.metrics
    assert point.metrics["input_throughput"] == pytest.approx(4096.0)


LENGTHS = {"input_sequence_length": {"avg": 1024.3}, "output_sequence_length": {"avg": 125.0}}
WARMUP = {"name": "warmup", "kind": "warmup", "type": "concurrency", "concurrency": 2}


@pytest.mark.parametrize(
    ("config", "point_id"),
    [
        ({"phases": [{"name": "profiling", "type": "concurrency", "concurrency": 16}]}, "isl1024-osl125-conc16"),
        ({"phases": [WARMUP, {"name": "main", "kind": "profiling", "concurrency": 8}]}, "isl1024-osl125-conc8"),
        ({"phases": [{"name": "profiling", "type": "poisson", "rate": 4.0}]}, "isl1024-osl125-rate4"),
        ({"perf_analyzer": {"stimulus": {"concurrency": 32}}}, "isl1024-osl125-conc32"),
        ({"perf_analyzer": {"stimulus": {"request_rate": 2.0}}}, "isl1024-osl125-rate2"),
    ],
)
def test_later_versions_say_the_load_elsewhere(tmp_path: Path, config: dict[str, Any], point_id: str) -> None:
    model = {"models": {"items": [{"name": "org/model"}]}} if "phases" in config else {"model_names": ["org/model"]}
    put(tmp_path, "a.json", AIPERF | LENGTHS | {"input_config": config | model})
    (point,) = read_latest(tmp_path).points
    assert (point.point_id, point.model) == (point_id, "org/model")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"was_cancelled": True}, "an AIPerf export (not usable): the run was cancelled"),
        ({"input_config": {"phases": [WARMUP | {"name": n, "kind": "profiling"} for n in "ab"]}}, "a concurrency"),
    ],
)
def test_a_run_that_is_no_single_measurement_is_none(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    put(tmp_path, "a.json", AIPERF | LENGTHS | changes)
    (left,) = read_latest(tmp_path).left_out
    assert words in left.reason


def test_sglangs_server_says_its_model_and_its_sizes(tmp_path: Path) -> None:
    server = {"model_path": "org/model", "served_model_name": "m", "tp_size": 4, "dp_size": 1, "version": "0.5.4"}
    put(tmp_path, "online.jsonl", SGLANG | {"backend": "sglang-oai", "server_info": server, "request_rate": "trace"})
    (point,) = read_latest(tmp_path).points
    assert (point.model, point.engine, point.engine_version, point.gpus) == ("m", "sglang", "0.5.4", 4)


def test_guidellms_benchmarks_are_points(tmp_path: Path) -> None:
    def dist(value: float) -> dict[str, Any]:
        return {"successful": {"mean": value, "median": value, "std_dev": 1.0, "percentiles": {"p99": value * 1.2}}}

    metrics = {
        "time_to_first_token_ms": dist(200.0), "inter_token_latency_ms": dist(20.0), "request_latency": dist(2.7),
        "prompt_token_count": dist(512.0), "output_token_count": dist(64.0), "output_tokens_per_second": dist(300.0),
        "requests_per_second": dist(4.0),
    }  # fmt: skip
    strategy = {"type_": "concurrent", "streams": 8}
    for place in (
        {"args": {"strategy": strategy}, "worker": {"backend_model": "m"}},  # 0.2
        {"scheduler": {"strategy": strategy}, "args": {"model": "m"}},  # 0.3
        {"config": {"strategy": strategy, "backend": {"model": "m"}}, "duration": 30.0},  # 0.4
    ):
        put(tmp_path, "g.json", {"metadata": {"version": 1}, "benchmarks": [place | {"metrics": metrics}]})
        (point,) = read_latest(tmp_path).points
        assert (point.point_id, point.model) == ("isl512-osl64-conc8", "m")
        assert point.metrics["p99_ttft"] == pytest.approx(0.24)
        assert point.metrics["p99_e2el"] == pytest.approx(3.24)
    unstreamed = metrics | {"time_to_first_token_ms": dist(0.0), "inter_token_latency_ms": dist(0.0)}
    put(tmp_path, "g.json", {"benchmarks": [{"config": {"strategy": strategy}, "metrics": unstreamed}]})
    (point,) = read_latest(tmp_path).points
    assert {"p99_ttft", "p99_tpot", "mean_ttft"}.isdisjoint(point.metrics), "a first token that did not come is none"
    assert point.metrics["p99_e2el"] == pytest.approx(3.24)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (AIPERF, "an AIPerf export (not usable): it does not say an ISL"),
        (AIPERF | {"input_config": {"concurrency": 4}}, "a GenAI-Perf export (not usable)"),
        ({"benchmarks": [{"metrics": {"time_to_first_token_ms": {}}}]}, "a GuideLLM benchmark (not usable)"),
        ({"load_summary": {}, "successes": {"count": 3}, "failures": {}}, "an inference-perf summary"),
        ({"results_ttft_s_quantiles_p99": 0.2, "model": "m"}, "an llmperf summary"),
        ({"version": "0.2", "scenario": {}, "results": {}}, "an llm-d benchmark report"),
    ],
)
def test_what_does_not_map_is_named_as_what_it_is(tmp_path: Path, content: object, words: str) -> None:
    put(tmp_path, "x.json", content)
    (left,) = read_latest(tmp_path).left_out
    assert words in left.reason


def test_figures_that_are_no_numbers_are_no_figures(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(vllm(p99_tpot_ms=float("nan"), mean_ttft_ms=float("inf"))))
    (point,) = read_latest(tmp_path).points
    assert "p99_tpot" not in point.metrics
    assert "mean_ttft" not in point.metrics
