"""`python -m plotting`: what it writes, and one clear line with exit code 4 for what it cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plotting.cli import compare_parser, draw_parser, main, parse_slo, parse_tiers
from tests.support.plotting_examples import PUBLISHED, write_sweep


def test_output_is_the_frontier_with_the_lines_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "picture.svg"
    assert (
        main(["--results-dir", str(PUBLISHED), "--output", str(output), "--tiers-ttft", "1,2", "--tiers-tpot", "35"])
        == 0
    )
    assert capsys.readouterr().out.split() == [str(output), str(tmp_path / "new" / "picture-lines.svg")]
    assert "≤ 35 ms  (≥ 28.6 tok/s/user)" in output.read_text()
    assert "conc 16" in (tmp_path / "new" / "picture-lines.svg").read_text()


def test_all_and_point_and_format(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "r", records=True)
    out = tmp_path / "out"
    assert (
        main(
            [
                "--results-dir",
                str(folder),
                "--all",
                "--output-dir",
                str(out),
                "--format",
                "svg",
                "--point",
                "isl1-osl1-conc1",
            ]
        )
        == 0
    )
    names = {path.name for path in out.iterdir()}
    assert {"frontier.svg", "throughput.svg", "heatmap.svg", "interactivity.svg", "latency-isl256.svg"} <= names
    assert not any(name.startswith(("distribution", "timeline")) for name in names)


def test_slo_judges_results_without_a_verdict(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "r").mkdir()
    for conc in (4, 32):
        name = f"glm5_fp8_vllm_tp8_isl4096_osl128_conc{conc}.json"
        (tmp_path / "r" / name).write_bytes((PUBLISHED / "glm-5" / name).read_bytes())
    arguments = ["--results-dir", str(tmp_path / "r"), "--all", "--output-dir", str(out), "--format", "svg"]
    assert main([*arguments, "--slo", "p99_ttft<=5s, p99_tpot<=100ms"]) == 0
    assert "✓ passed" in (out / "heatmap.svg").read_text()
    assert "✗ failed" in (out / "heatmap.svg").read_text()


def test_compare_counts_what_got_worse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write_sweep(tmp_path / "a"), write_sweep(tmp_path / "b", slow=1.5)
    assert (
        main(["compare", str(a), str(b), "--output", str(tmp_path / "c.png"), "--report", str(tmp_path / "c.html")])
        == 0
    )
    captured = capsys.readouterr()
    assert captured.out.split() == [str(tmp_path / "c.png"), str(tmp_path / "c.html")]
    assert "8 points compared, 1 in one run alone; 16 figures worse, 8 worse without an interval" in captured.err


def test_export_writes_what_vllm_reads(tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = write_sweep(tmp_path / "r", runs=2)
    assert main(["--results-dir", str(folder), "--export", "vllm", "--output-dir", str(out)]) == 0
    summaries = sorted(out.rglob("**/summary.json"))
    assert len(summaries) == 8  # the ERROR has no figures
    runs = json.loads(next(p for p in summaries if "isl256-osl24-conc8" in str(p)).read_text())
    assert [run["run_number"] for run in runs] == [0, 1]
    # plot_pareto: output_throughput / max_concurrency, and over tensor_parallel_size; plot: any key
    assert (runs[0]["max_concurrency"], runs[0]["tensor_parallel_size"], runs[0]["random_input_len"]) == (8, 2, 256)
    source = json.loads((folder / "demo_vllm_tp2_isl256_osl24_conc8.json").read_text())
    assert runs[0]["output_throughput"] == source["output_throughput"]
    assert runs[0]["p99_ttft_ms"] == pytest.approx(source["p99_ttft"] * 1000)
    assert runs[0]["p50_tpot_ms"] == pytest.approx(source["median_tpot"] * 1000)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to do"),
        (["--output", "x.png", "--results-dir", "EMPTY"], "nothing to draw: no JSON file"),
        (["--output", "x.png", "--results-dir", "FOREIGN"], "1 JSON files, none of them a result (report.json"),
        (["--output", "x.png", "--results-dir", "EMPTY/none"], "no such folder"),
        (["--output", "x.gif", "--results-dir", "GOOD"], ".png or .svg"),
        (["--report", "x.txt", "--results-dir", "GOOD"], ".html"),
        (["--all", "--results-dir", "GOOD"], "--output-dir is missing"),
        (["--bogus"], "--bogus"),
        (["--output", "x.png", "--tiers-ttft", "1,zwei", "--results-dir", "GOOD"], "--tiers-ttft 1,zwei"),
        (["--output", "x.png", "--tiers-tpot", "-5", "--results-dir", "GOOD"], "--tiers-tpot"),
        (["--output", "x.png", "--gpus", "0", "--results-dir", "GOOD"], "--gpus 0"),
        (["--output", "x.png", "--slo", "p99<2", "--results-dir", "GOOD"], "METRIC<=LIMIT"),
        (["--output", "FOREIGN/report.json/x.png", "--results-dir", "GOOD"], "can be written"),
        (["compare", "GOOD"], "two folders"),
        (["compare", "GOOD", "EMPTY"], "nothing to draw"),
        (["compare", "GOOD", "GOOD", "--threshold", "-1"], "--threshold"),
        (["compare", "GOOD", "OTHER"], "no point"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FOREIGN").mkdir()
    (tmp_path / "FOREIGN" / "report.json").write_text('{"tests": []}')
    write_sweep(tmp_path / "GOOD")
    write_sweep(tmp_path / "OTHER")
    for path in (tmp_path / "OTHER").glob("*.json"):
        path.write_text(path.read_text().replace('"osl": 24', '"osl": 25'))
    placed = [
        str(tmp_path / a) if a.split("/")[0] in ("EMPTY", "FOREIGN", "GOOD", "OTHER") or a.startswith("x.") else a
        for a in arguments
    ]
    assert main(placed) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err


def test_files_left_out_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep(tmp_path / "r")
    for i in range(25):
        (folder / f"bad{i:02}.json").write_text("{")
    assert main(["--results-dir", str(folder), "--output", str(tmp_path / "x.png")]) == 0
    said = capsys.readouterr().err
    assert "bad00.json: not JSON" in said
    assert "5 files more" in said


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "plotting", "--results-dir", str(tmp_path / "none"), "--output", "x.png"],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1


def test_parsers() -> None:
    assert parse_tiers("20,35", "--tiers-tpot", 0.001) == (0.02, 0.035)
    assert parse_tiers(None, "--tiers-tpot", 0.001) == ()
    assert [(o.metric, o.limit_s) for o in parse_slo("p99_ttft<=2s,p50_tpot<=50ms")] == [
        ("p99_ttft", 2.0),
        ("median_tpot", 0.05),
    ]


def test_every_option_is_in_the_documentation() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "pictures.md").read_text()
    options = {o for parser in (draw_parser(), compare_parser()) for a in parser._actions for o in a.option_strings}
    assert len(options) > 12
    assert [o for o in options - {"-h", "--help"} if f"`{o}" not in documented] == []


def test_importing_it_does_not_import_matplotlib() -> None:
    code = "import sys, plotting, plotting.cli; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
