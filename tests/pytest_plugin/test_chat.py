"""A chat as a user sweeps it: the objectives, the words, and what is wrong usage."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench_tests.errors import UsageError
from bench_tests.sweep.profile import Profile, load_profile
from bench_tests.sweep.selected import selected_points
from tests.support.suite import QUICK, run_suite

THINKS = QUICK.replace("[sim]", "[sim]\nthink_tokens = 3").replace("[load]", '[load]\nendpoint = "chat"')
POINT = ("--point", "isl64-osl8-conc2", "--server", "sim")


def profile(folder: Path, text: str) -> Profile:
    path = folder / "mine.toml"
    path.write_text(text)
    return load_profile(str(path))


@pytest.mark.parametrize("limit, code", [("10s", 0), ("1us", 1)])
def test_ttfat_is_an_objective(limit: str, code: int, tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, *POINT, "--slo", f"p99_ttfat<={limit}", "--goodput", "ttfat:10s", profile=THINKS)
    assert outcome.code == code, outcome.out
    assert "the chat template adds 4 tokens" in outcome.out
    assert "TTFAT p99" in outcome.out
    ((name, result),) = outcome.results().items()
    assert not name.endswith("_chat")  # the profile's own endpoint
    assert result["settings"]["endpoint"] == "/v1/chat/completions"
    assert result["total_input_tokens"] == 12 * (64 + 4)
    assert result["total_reasoning_tokens"] == 12 * 3
    assert result["good_completed"] == 12
    assert result["p99_ttft"] < result["p99_ttfat"] < result["p99_e2el"]
    assert result["median_thinking"] > 0


def test_answers_that_end_in_their_thinking_have_no_ttfat_to_judge(tmp_path: Path) -> None:
    long = THINKS.replace("think_tokens = 3", "think_tokens = 8")
    outcome = run_suite(tmp_path, *POINT, "--slo", "p99_ttfat<=10s", "--goodput", "ttfat:10s", profile=long)
    assert outcome.code == 12, outcome.out
    assert "12 of 12 answers ended before the first token of the answer" in outcome.out
    (result,) = outcome.results().values()
    assert (result["p99_ttfat"], result["median_thinking"], result["good_completed"]) == (None, None, 0)


def test_the_option_names_its_results_and_leaves_completions_as_they_were(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, *POINT, "--endpoint", "chat")
    assert outcome.code == 0, outcome.out
    (name,) = outcome.results()
    assert name.endswith("_chat")
    outcome = run_suite(tmp_path, *POINT)
    plain = next(r for n, r in outcome.results().items() if not n.endswith("_chat"))
    assert "template_tokens" not in plain["settings"]
    assert plain["p99_ttfat"] is None
    assert "TTFAT" not in outcome.out


@pytest.mark.quick
@pytest.mark.parametrize(
    "said, words",
    [
        ('[slo]\np99_ttfat = "1s"', "p99_ttfat"),
        ('[[slo.override]]\nisl = 64\nmedian_thinking = "1s"', "median_thinking"),
        ("[load]\nchat_template_kwargs = {enable_thinking = false}", "chat_template_kwargs"),
        ('[load]\ntemplate_tokens = "inside"', "template_tokens"),
        ('[load]\nendpoint = "chat"\nprefix = {groups = 2, tokens = 32}', "load.prefix"),
    ],
)
def test_what_an_endpoint_cannot_have_is_wrong_usage(said: str, words: str, tmp_path: Path) -> None:
    mine = profile(tmp_path, f'base = "demo"\n[sweep]\nisl = [64]\n{said}')
    with pytest.raises(UsageError, match=words):
        selected_points(mine, None)
