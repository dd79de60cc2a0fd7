"""The comparison of clients: this suite's line of the table, from a real run against the simulated server's log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.client_truth import main

ARGS = ["--streams=8", "--rounds=1", "--requests-per-stream=2", "--isl=32", "--osl=16", "--ttft-ms=50", "--gap-ms=5"]


def test_a_line_for_this_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGS, "--clients=this suite", f"--out={tmp_path / 'runs.json'}"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "this suite |" in line)
    assert line.count("%") >= 4
    (run,) = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert run["reported"]["completed"] == 16
    assert abs(run["errors"]["p50_ttft"]) < 0.2  # a busy machine; how true it is, is shown elsewhere


def test_a_client_that_is_not_there_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert main([*ARGS, "--clients=vllm"]) == 2
    assert "vllm: not installed, not run" in capsys.readouterr().out
