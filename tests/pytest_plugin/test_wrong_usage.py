"""What a careless user types: one good line each, before any load."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench_tests.errors import UsageError
from bench_tests.pytest_plugin.options import WRITTEN
from bench_tests.sweep.options import hints
from bench_tests.sweep.typed import columns
from tests.support.suite import run_suite

KEPT = ("--server", "sim", "-q")


@pytest.mark.quick
def test_a_flag_that_nobody_has_gets_the_one_that_was_meant() -> None:
    assert hints(["--num-prompt", "5", "--results-dir=x", "-q"]) == {"--num-prompt": "did you mean --num-prompts?"}
    for flag in ("--concurrency", "--max-concurrency=5", "--isl", "--random-input-len"):
        assert "--point isl2048-osl128-conc16" in next(iter(hints([flag]).values()))
    assert hints(["--cov", "--maxfail=1", "--junitxml=x"]) == {}


@pytest.mark.quick
def test_a_column_may_be_a_latency_and_a_typo_is_told() -> None:
    assert [figure.name for figure in columns("ttft")] == ["median_ttft", "p99_ttft"]
    with pytest.raises(UsageError, match="goodput"):
        columns("goodputs")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--num-prompt", "5"), "did you mean --num-prompts?"),
        (("--concurrency", "5"), "--point isl2048-osl128-conc16"),
        (("--request-rate", "0"), "argument --request-rate: '0'"),
        (("--plot", "--calibrate"), "give one of them"),
        (("--slo", "p99_ttft<2"), "argument --slo: 'p99_ttft<2'"),
    ],
)
def test_wrong_usage_is_told_in_one_line(args: tuple[str, ...], words: str, tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, *KEPT, *args)
    assert outcome.code == 4, outcome.out
    assert outcome.out.count(words) == 1, outcome.out
    assert "Traceback" not in outcome.out


@pytest.mark.parametrize("flag", [*WRITTEN, "--history"])
def test_a_place_that_cannot_be_written_is_told_with_its_option_before_the_load(flag: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.touch() if flag in ("--save-baseline", "--history") else place.mkdir()
    outcome = run_suite(tmp_path, *KEPT, f"{flag}={place}")
    assert outcome.code == 4, outcome.out
    assert f"{flag} {place}: " in outcome.out
    assert not outcome.results()


def test_results_are_no_baseline_of_themselves(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, *KEPT, f"--save-baseline={tmp_path / 'results'}")
    assert outcome.code == 4, outcome.out
    assert "--results-dir" in outcome.out


def test_a_second_server_that_is_not_there_is_called_by_its_option(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, "--server", "sim", "--against", "http://127.0.0.1:9")
    assert outcome.code == 13, outcome.out
    assert "--against: no server at http://127.0.0.1:9" in outcome.out
