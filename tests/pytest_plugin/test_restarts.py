"""`--restarts N`: rounds spread over starts of the server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench_tests.pytest_plugin.servers import start_of
from tests.support.suite import run_suite


def test_rounds_are_spread_evenly_and_in_order() -> None:
    assert [start_of(run, 6, 3) for run in range(1, 7)] == [0, 0, 1, 1, 2, 2]
    assert [start_of(run, 5, 2) for run in range(1, 6)] == [0, 0, 0, 1, 1]
    assert [start_of(run, 3, 1) for run in range(1, 4)] == [0, 0, 0]


def test_each_start_is_another_server_and_the_results_say_which(tmp_path: Path) -> None:
    got = run_suite(tmp_path, "--server", "sim", "--point", "isl64-osl8-conc2", "--num-prompts", "4", "--repeat", "2",
                    "--restarts", "2", "--no-plot")  # fmt: skip
    results = [json.loads(path.read_text()) for path in sorted((tmp_path / "results").glob("*conc2*.json"))]
    assert len(results) == 2, got.out
    assert len({result["server"]["start"] for result in results}) == 2
    assert len({result["server"]["counted"]["started"] for result in results}) == 2
    assert len({result["run_id"] for result in results}) == 1
    assert "start 2 of 2" in got.out


@pytest.mark.parametrize(
    "args, words",
    [
        (["--base-url", "http://127.0.0.1:1", "--restarts", "2", "--repeat", "2"], "attaches to a server"),
        (["--server", "sim", "--restarts", "3", "--repeat", "2"], "use --repeat 3"),
    ],
)
def test_what_cannot_be_restarted_is_refused(tmp_path: Path, args: list[str], words: str) -> None:
    got = run_suite(tmp_path, *args, "--profile", "demo", "--point", "isl64-osl8-conc2")
    assert got.code == 4, got.out
    assert words in got.out
