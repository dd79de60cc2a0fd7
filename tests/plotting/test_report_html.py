"""The report's text: self-contained, small enough, and closed to whatever a result file says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench_tests.results.formats import to_point
from plotting import Results, read_folder
from plotting.report import render_report, write_report
from plotting.report.advice import advice
from plotting.report.payload import as_json
from tests.support.plotting_examples import PUBLISHED, example_records, example_result, write_sweep


def data_of(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render_report([read_folder(write_sweep(tmp_path_factory.mktemp("r"), records=True))])


def test_the_policy_allows_exactly_the_pages_own_scripts(page: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none';")
    (sources,) = re.findall(r"script-src ([^;]*);", policy)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert sources.split() == [f"'sha256-{found}'" for found in hashes]
    assert len(scripts) == 2
    assert "connect-src" not in policy  # falls back to 'none'
    head = page[: page.index("<script>")]
    assert list(re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="([^"]*)"', head)) == ["data:,"]


def test_everything_of_a_point_is_in_the_report(page: str) -> None:
    data = data_of(page)
    assert len(data["points"]) == 9
    point = next(p for p in data["points"] if p["id"] == "isl256-osl24-conc8")
    assert point["metrics"]["p99_ttft"] == pytest.approx(0.3036, rel=1e-3)
    assert set(point["raw"]) >= {"server", "client", "settings", "validity"}
    assert point["raw"]["client"]["calibration"] == {"p99_ttft_error": 0.0001}
    assert [curve["metric"] for curve in point["curves"]["distribution"]] == ["TTFT", "TPOT", "ITL", "E2EL"]
    assert sum(point["curves"]["timeline"]["arrivals"]) == 80
    assert len(point["curves"]["timeline"]["inStep"]) == len(point["curves"]["timeline"]["at"])
    assert "in step (independent streams: 35 %)" in point["curves"]["timeline"]["waves"]
    error = next(p for p in data["points"] if p["verdict"] == "ERROR")
    assert error["metrics"] == {}
    assert error["advice"]
    charts = [chart["id"] for chart in data["groups"][0]["charts"]]
    assert charts == [
        "frontier",
        "throughput",
        "interactivity",
        "latency-256",
        "latency-1024",
        "latency-4096",
        "verdicts",
    ]


def test_a_click_on_a_point_leads_to_its_own_row(page: str) -> None:
    data = data_of(page)
    (lines,) = [chart for chart in data["groups"][0]["charts"] if chart["id"] == "throughput"]
    trace = next(t for t in lines["panels"][0]["traces"] if t["name"] == "conc 8")
    assert [data["points"][at]["id"] for at in trace["at"]] == [f"isl{isl}-osl24-conc8" for isl in (256, 1024, 4096)]


def test_a_data_block_cannot_be_left() -> None:
    hostile = {"</script><script>alert(1)</script>": "<!-- \u2028 & \ud800", "n": float("nan"), "i": [float("inf")]}
    text = as_json(hostile)
    assert not set("<>&\u2028\u2029") & set(text)
    text.encode()
    assert json.loads(text)["i"] == ["inf"]


def test_placeholders_in_a_result_are_not_filled_in(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(example_result(model_id="@@LIBRARY@@ @@POLICY@@")))
    page = render_report([read_folder(tmp_path)])
    assert data_of(page)["points"][0]["model"] == "@@LIBRARY@@ @@POLICY@@"


def test_what_a_comparison_says_is_in_the_report(page: str, tmp_path: Path) -> None:
    lines = ["sweep: mean TPOT: cannot tell (+1.2 %), would see from +9.0 % on", "node </script><b>x"]
    got = render_report([read_folder(write_sweep(tmp_path))], against=lines)
    assert data_of(got)["against"] == lines
    assert "</script><b>x" not in got
    assert data_of(page)["against"] == []


def test_a_hostile_folder_name_is_escaped(tmp_path: Path) -> None:
    results = replace(read_folder(write_sweep(tmp_path / "r")), folder=tmp_path / "<img src=x onerror=alert(1)>")
    page = render_report([results])
    assert "<img" not in page[: page.index('<script type="application/json"')]


@pytest.mark.slow
def test_three_runs_of_48_points_with_records_stay_below_6_mb(tmp_path: Path) -> None:
    records = tmp_path / "records.npz"
    records.write_bytes(example_records(conc=64, n=640, warm=0, osl=128).save())
    runs = []
    for name in ("a", "b", "c"):
        points = [
            replace(to_point(example_result(isl, osl=128, conc=conc), Path(f"{isl}-{conc}.json")), records=records)
            for isl in (1024, 2048, 4096, 6144, 8192, 10240, 12288, 14336)
            for conc in (4, 8, 16, 32, 48, 64)
        ]
        runs.append(Results(tmp_path / name, tuple(points)))
    write_report(runs[:1], tmp_path / "first.html")  # what is imported and cached by the first
    began = time.process_time()
    write_report(runs[:1], tmp_path / "one.html")
    one = time.process_time()
    path = write_report(runs, tmp_path / "report.html")
    assert time.process_time() - one < 3 * 3 * (one - began)  # three runs take about three times as long as one
    data = data_of(path.read_text())
    assert path.stat().st_size < 6_000_000
    assert len(data["points"]) == 144
    assert all("curves" in point and point["raw"] for point in data["points"])
    assert data["compare"]


@pytest.mark.slow
def test_too_many_results_are_cut_and_said(tmp_path: Path) -> None:
    points = tuple(
        to_point(example_result(isl, conc=conc), Path("r.json"))
        for isl in range(16, 16 * 61, 16)
        for conc in range(1, 61)
    )
    page = render_report([Results(tmp_path, points)])
    data = data_of(page)
    assert len(page.encode()) < 6_000_000
    assert 1000 < len(data["points"]) < len(points)
    assert any("not listed" in note for note in data["notes"])


def test_advice_by_kind_of_failure_and_by_check() -> None:
    def of(**changed: Any) -> list[str]:
        return advice(to_point(example_result(verdict="ERROR", **changed), Path("r.json")))

    assert "tokenizer" in of(validity={"checks": [{"name": "input_tokens", "ok": False}]})[0]
    doubted = {"valid": False, "checks": []}
    first, second = of(errors={"http": 3, "stalled": 30}, validity=doubted)
    assert "No answer in time" in first
    assert "HTTP" in second
    assert of(validity=doubted) != []
    assert "--resume" in of()[0], "each check held: open for want of requests"
    assert advice(to_point(example_result(), Path("r.json"))) == []
    assert of(errors=["x"], validity={"checks": [1, {"ok": False}]}) != []


def test_a_point_whose_verdict_is_open_has_its_figures(tmp_path: Path) -> None:
    doubted = {"valid": False, "checks": []}
    points = tuple(
        to_point(example_result(conc=conc, verdict="ERROR", **changed), tmp_path / f"{conc}.json")
        for conc, changed in ((2, {}), (4, {"validity": doubted}))
    )
    left, bad = sorted(data_of(render_report([Results(tmp_path, points)]))["points"], key=lambda p: p["conc"])
    assert (left["verdict"], bool(left["metrics"])) == ("open", True)
    assert (bad["verdict"], bool(bad["metrics"])) == ("ERROR", False)


def test_the_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "r.html"
    target.write_text("before")
    results = read_folder(PUBLISHED / "qwen3.5")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_report([results], target)
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    assert stat.S_ISREG(target.stat().st_mode)


def test_an_open_interval_is_told_as_such(tmp_path: Path) -> None:
    points = tuple(to_point(example_result(conc=c, ci95={"p99_ttft": [0.1, None]}), Path("r.json")) for c in (1, 2))
    data = data_of(render_report([Results(tmp_path / "a", points), Results(tmp_path / "b", points)]))
    assert data["points"][0]["intervals"] == {"p99_ttft": [0.1, None]}
    assert "inf" not in json.dumps(data["compare"]["panels"][0]["traces"][0]["xbars"])


def test_keys_in_a_result_are_masked(tmp_path: Path) -> None:
    point = to_point(
        example_result(server={"api_key": "sk-1234", "headers": [{"Authorization": "Bearer x"}]}), Path("r")
    )
    page = render_report([Results(tmp_path, (point,))])
    assert "sk-1234" not in page
    assert "Bearer x" not in page


def test_checks_are_told_in_words_with_their_relation() -> None:
    from bench_tests.results.formats import to_point
    from plotting.report.words import checks, not_made

    validity = {
        "checks": [
            {"name": "client_lag", "figure": 0.0002, "limit": 0.002, "unit": "s", "ok": True, "text": "late"},
            {"name": "concurrency", "figure": 0.97312, "limit": 0.9, "unit": "share", "ok": True, "text": ""},
            {"name": "failed_requests", "figure": 0.25, "limit": 0.01, "unit": "share", "ok": False, "text": "many"},
            {"name": "requests_for_p99", "figure": 80.0, "limit": 100.0, "unit": "requests", "ok": True, "text": "few"},
            {"name": "odd", "figure": "x", "limit": None, "unit": None, "ok": None},
            "no check",
        ],
        "not_made": [{"name": "server_ttft", "why": "no metrics"}],
    }
    point = to_point(example_result(validity=validity), Path("x.json"))
    assert checks(point) == [
        ["client_lag", "200 µs ≤ 2 ms", "yes", "late"],
        ["concurrency", "97.3 % ≥ 90 %", "yes", ""],
        ["failed_requests", "25 % > 1 %", "NO", "many"],
        ["requests_for_p99", "80 requests < 100 requests", "note", "few"],
        ["odd", "x", "", ""],
    ]
    assert not_made(point) == [["server_ttft", "no metrics"]]
    assert checks(to_point(example_result(validity=[1]), Path("x.json"))) == []


def test_goodput_and_the_open_loops_latencies_are_columns_where_they_are_known() -> None:
    from bench_tests.results.formats import to_point
    from plotting.report.words import columns

    plain = to_point(example_result(), Path("x.json"))
    rich = to_point(example_result(request_goodput=3.0, p99_ttft_from_schedule=0.5), Path("x.json"))
    assert {"p99_ttft_from_schedule", "request_goodput"} & {c["key"] for c in columns([plain])} == set()
    assert {"p99_ttft_from_schedule", "request_goodput"} <= {c["key"] for c in columns([plain, rich])}


def test_the_report_says_which_configuration_to_take(tmp_path: Path) -> None:
    from plotting.report.words import decisions
    from tests.support.plotting_examples import write_matrix

    (found,) = decisions([read_folder(write_matrix(tmp_path))], None)
    take = found["columns"].index("take")
    assert len({row[take] for row in found["rows"]}) > 1
    assert ["tp2", "load 22 s, compile 12 s, ready 47 s"] in found["starts"]
