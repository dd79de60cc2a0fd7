"""Configurations against each other: who is best within which limits, what stands on the frontier, tables to paste."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from plotting import Results, read_folder
from plotting.cli import main
from plotting.configs import MEASURES, Family, families, frontier_of, hull_data
from plotting.configs_draw import draw_decision, draw_hull, draw_slo_frontier
from plotting.decision import Slo, decide, decision_table, share
from plotting.frontier import draw_frontier, frontier_data
from plotting.group import split
from tests.plotting.test_draw import check_layout, overlap
from tests.support.plotting_examples import PUBLISHED, write_matrix


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_folder(write_matrix(tmp_path_factory.mktemp("matrix")))


@pytest.fixture(scope="module")
def family(matrix: Results) -> Family:
    (found,) = families(matrix.points)
    return found


def test_a_configuration_is_called_by_its_own_name(family: Family) -> None:
    assert [config.name for config in family.configs] == ["tp1", "tp2", "tp4", "tp8", "tp8-mbt32768"]
    assert family.configs[1].start == "load 22 s, compile 12 s, ready 47 s"
    assert family.configs[0].start == ""


def test_files_without_a_name_for_it_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    for kind in ("tp8", "tep8", "dep8"):
        for file in (PUBLISHED / "glm-5").glob("*isl4096*.json"):
            shutil.copy(file, tmp_path / file.name.replace("tp8", kind))
    (found,) = families(read_folder(tmp_path).points)
    assert [config.name for config in found.configs] == ["dep8", "tep8", "tp8"]
    assert all(
        any(name in group.title.split(" · ") for group in split(read_folder(tmp_path).points))
        for name in ("tp8", "tep8")
    )
    (both,) = families(read_folder(PUBLISHED).points)
    assert [config.name for config in both.configs] == ["GLM-5-FP8", "Qwen3.5-397B-A17B"]


def test_the_best_keeps_both_limits(family: Family) -> None:
    data = decide(family)
    assert data.slos[0].words == "p99 TTFT ≤ 500 ms, p99 TPOT ≤ 8 ms"
    assert (data.points, data.unmeasured) == (33, 1)
    for row in data.rows:
        within = {
            config.name: max(
                (
                    cell.throughput("output") or 0.0
                    for cell in config.group.cells
                    if cell.isl == row.isl
                    and (cell.metric("p99_ttft") or 9e9) <= (row.slo.ttft_s or 0)
                    and (cell.metric("p99_tpot") or 9e9) <= (row.slo.tpot_s or 0)
                ),
                default=0.0,
            )
            for config in family.configs
        }
        best = max(within, key=lambda name: within[name])
        assert row.best is None or (row.best.config, row.best.value) == (best, within[best])
        assert row.best is not None or not any(within.values())


def test_a_limit_within_the_interval_is_not_settled(family: Family) -> None:
    cell = family.configs[1].group.cells[0]
    low, high = cell.interval("p99_ttft") or (0, 0)
    assert Slo(high * 1.01, 1.0).settled(cell) is True
    assert Slo((cell.metric("p99_ttft") or 0) * 1.001, 1.0).settled(cell) is False
    assert Slo(None, 1.0).settled(cell) is None
    assert low


def test_the_frontier_is_what_nothing_beats_in_both() -> None:
    points = [(1.0, 9.0), (2.0, 8.0), (2.0, 7.0), (1.5, 8.5), (1.4, 8.5), (3.0, 1.0), (0.5, 9.0)]
    assert [points[at] for at in frontier_of(points)] == [(1.0, 9.0), (1.5, 8.5), (2.0, 8.0), (3.0, 1.0)]


def test_the_cost_is_a_measure_of_its_own(family: Family) -> None:
    output, _, power, cost = (hull_data(family, 1024, measure) for measure in MEASURES)
    assert power is None
    assert output is not None
    assert cost is not None
    assert cost.best == output.best  # one price a GPU-hour for all
    assert len(cost.lines) == 5
    assert not cost.lines[0]


@pytest.mark.parametrize("isl", [1024, 4096])
def test_no_label_of_the_pareto_covers_another(family: Family, isl: int) -> None:
    data = hull_data(family, isl)
    assert data is not None
    figure = draw_hull(data, family.caption(), simulated=True)
    words = check_layout(figure)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text() != "SIMULATED"]
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    for i, j in data.best:
        assert f"{data.names[i]} · {data.lines[i][j][2]}" in words


def test_decision_and_frontier_say_whom_to_take(family: Family) -> None:
    data = decide(family)
    words = check_layout(draw_decision(data))
    named = {row.best.config for row in data.rows if row.best}
    assert named <= set(words)
    assert len(named) > 1
    assert "tp2: load 22 s, compile 12 s" in " ".join(words).replace("\n", " ")
    check_layout(draw_slo_frontier(data))


def test_the_table_can_be_pasted(family: Family) -> None:
    said = decision_table(decide(family))
    assert said.startswith("SIMULATED. ")
    assert "33 points of 5 configurations, 1 not measured" in said
    lines = [line for line in said.splitlines() if line.startswith("|")]
    assert "cost per M output tokens" in lines[0]
    assert " USD |" in lines[2]
    assert "load 22 s" in said
    assert [share(value) for value in (0.47, -0.03, 0.004)] == ["+47 %", "−3 %", "< 1 %"]


def test_all_writes_them_and_table_prints_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_matrix(tmp_path / "r")
    (folder / "junk.json").write_text("{")
    assert main(["--results-dir", str(folder), "--table", "csv"]) == 0
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 33
    assert "34 files read, 1 left out: 1 × not JSON" in err
    one = json.loads((folder / "demo_tp4_vllm_tp4_isl1024_osl128_conc16.json").read_text())
    (row,) = (r for r in rows if (r["configuration"], r["isl"], r["load"]) == ("tp4", "1024", "conc 16"))
    assert float(row["p99_ttft_s"]) == pytest.approx(one["p99_ttft"], rel=1e-5)
    assert float(row["output_tok_s_gpu"]) == pytest.approx(one["output_throughput"] / 4, rel=1e-5)
    assert main(["--results-dir", str(folder), "--table", "md"]) == 0
    out, _ = capsys.readouterr()
    assert "| take" in out or " take |" in out


def test_compare_takes_configurations_of_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_matrix(tmp_path / "r")
    picture = str(tmp_path / "c.png")
    arguments = ["compare", str(folder), "--output", picture]
    assert main([*arguments, "--config", "tp2", "--config", "tp4", "--config", "tp8", "--table", "md"]) == 0
    out, err = capsys.readouterr()
    assert "8 points, 48 figures" in out
    assert picture in err
    assert main([*arguments, "--config", "tp2", "--config", "tp3"]) == 4
    assert "--config tp3" in capsys.readouterr().err
    assert main([*arguments, "--config", "tp2"]) == 4


def test_lengths_that_lie_close_keep_apart_and_one_length_is_bars(tmp_path: Path) -> None:
    for isl in (1024, 2048, 10240, 16384):
        for file in (PUBLISHED / "glm-5").glob(f"*isl{isl}_*.json"):
            shutil.copy(file, tmp_path / file.name)
    groups = split(read_folder(tmp_path).points)
    check_layout(draw_frontier(frontier_data(groups)))
    for file in tmp_path.glob("*.json"):
        if "isl2048_" not in file.name:
            file.unlink()
    groups = split(read_folder(tmp_path).points)
    words = check_layout(draw_frontier(frontier_data(groups)))
    assert "every point" in words


def test_rows_of_one_frontier_have_the_same_tiers() -> None:
    data = frontier_data(split(read_folder(PUBLISHED).points))
    limits = [[[band.limit_s for band in panel.bands] for panel in panels] for _, *panels in data.rows]
    assert len(limits) == 2
    assert limits[0] == limits[1]
