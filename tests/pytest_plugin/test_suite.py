"""The suite as a user drives it: cases, verdicts, words, exit codes, results."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench_tests.server.lock import ServerLock
from bench_tests.sim.simulator import SimSpec, Simulator
from tests.support.suite import QUICK, ROOT, run_suite

FAST = {"base_ms": 1.0, "per_seq_us": 1.0, "per_ktoken_us": 0.0, "prefill_tok_per_s": 1e6, "prefix_caching": False}


@pytest.fixture(scope="module")
def live() -> Iterator[Simulator]:
    with Simulator(SimSpec(**FAST)) as simulator:
        yield simulator


def collected(*args: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--co", "-q", "-p", "no:cacheprovider", *args],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return re.findall(r"test_slo\[(.+)\]", done.stdout)


# ------------------------------------------------------------------------------------------------ selection


@pytest.mark.quick
def test_k_selects_exactly_and_not_by_prefix() -> None:
    """That pytest's -k is the one that tests/sweep/test_points.py tries."""
    points = ["--point", "isl4096-osl128-conc1", "--point", "isl40960-osl128-conc16"]
    assert collected(*points, "-k", "isl4096 or test_slo[isl4096-conc1]") == ["isl4096-osl128-conc1"]


def test_rounds_are_interleaved() -> None:
    ids = collected("--point", "isl8-osl2-conc1", "--point", "isl9-osl2-conc1", "--repeat", "2")
    assert ids == ["isl8-osl2-conc1-run1", "isl9-osl2-conc1-run1", "isl8-osl2-conc1-run2", "isl9-osl2-conc1-run2"]


# ------------------------------------------------------------------------------------------------ verdicts and results


@pytest.mark.quick
def test_a_sweep_passes_and_keeps_its_results(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, "--server", "sim", f"--junitxml={tmp_path}/junit.xml")
    assert outcome.code == 0, outcome.out
    results = outcome.results()
    assert sorted(results) == sorted(f"quick_sim_tp1_isl{i}_osl8_conc{c}" for i in (64, 128) for c in (1, 4))
    for result in results.values():
        point = result["point"]
        assert result["verdict"] == "PASSED"
        assert result["completed"] == result["num_prompts"] == 12
        assert result["failed"] == 0
        assert result["total_input"] == result["total_input_tokens"] == 12 * point["isl"]
        assert result["total_output_tokens"] == 12 * 8
        assert result["server"]["simulated"] is True
        assert 0 < result["median_ttft"] <= result["p99_ttft"]
        assert (outcome.results_dir / result["records"]).exists()
    assert "SIMULATED" in outcome.out
    assert "| point" in outcome.out

    report = json.loads((outcome.results_dir / "report.json").read_text())
    assert len(report["tests"]) == 4
    assert all(test["metadata"]["bench"]["p99_ttft"] > 0 for test in report["tests"])
    cases = ET.parse(tmp_path / "junit.xml").getroot().iter("testcase")
    for case in cases:
        figures = {p.get("name"): p.get("value") for p in case.iter("property")}
        assert float(figures["p99_tpot"]) > 0
        assert figures["verdict"] == "PASSED"


@pytest.mark.quick
def test_a_missed_objective_fails_with_its_figures(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, "--server", "sim", "--slo", "p99_ttft<=1us", "-k", "isl64 and conc4")
    assert outcome.code == 1
    assert re.search(r"p99 TTFT [\d.]+ ms > 1 µs \(\+[\d]+ %, n=12, 95 % CI ", outcome.out)
    assert "Traceback" not in outcome.out
    (result,) = outcome.results().values()
    assert result["verdict"] == "FAILED"
    assert result["slo"]["objectives"] == [{"metric": "p99_ttft", "limit": 1e-6}]


def test_a_point_without_an_objective_passes_when_measured(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, "--server", "sim", "--slo", "none", "-k", "isl64 and conc1")
    assert outcome.code == 0
    (result,) = outcome.results().values()
    assert result["slo"]["objectives"] == []


def test_a_warm_up_that_fails_does_not_spoil_what_is_only_measured(tmp_path: Path, live: Simulator) -> None:
    args = ["--base-url", live.url, "--slo", "none", "-k", "isl64 and conc4", "--num-warmups", "200"]
    live.set_faults("error_event:0.02")
    try:
        outcome = run_suite(tmp_path, *args, profile=QUICK + "max_failed_share = 0.99\n")
    finally:
        live.set_faults()
    assert outcome.code == 0, outcome.out


def test_pictures_that_cannot_be_written_are_no_breach(tmp_path: Path, live: Simulator) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "plots").write_text("a file is in the way")
    outcome = run_suite(tmp_path, "--base-url", live.url, "-k", "isl64 and conc1", env={"PLOTS": "1"})
    assert outcome.code == 0, outcome.out
    assert "no pictures: " in outcome.out
    assert "Traceback" not in outcome.out


@pytest.mark.quick
def test_http_500_to_everything_is_not_measured(tmp_path: Path, live: Simulator) -> None:
    live.set_faults("status_500")
    try:
        outcome = run_suite(tmp_path, "--base-url", live.url, "-k", "isl64 and conc4")
    finally:
        live.set_faults()
    assert outcome.code == 12, outcome.out
    assert "12 of 12 requests failed (12 http)" in outcome.out
    (result,) = outcome.results().values()
    assert result["verdict"] == "ERROR"
    assert result["completed"] == 0
    assert result["p99_ttft"] is None, "a run in which every request failed has no p99, least of all zero"
    assert result["duration"] is None


def test_a_breach_counts_more_than_what_was_not_measured(tmp_path: Path, live: Simulator) -> None:
    outcome = run_suite(
        tmp_path, "--base-url", live.url, "--point", "isl64-osl8-conc2", "--point", "isl200000-osl8-conc1",
        "--slo", "p99_ttft<=1us",
    )  # fmt: skip
    assert outcome.code == 1, outcome.out
    assert "needs a context of 200008 tokens" in outcome.out


@pytest.mark.quick
def test_no_server_is_13_and_one_line(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, "--base-url", "http://127.0.0.1:9")
    assert outcome.code == 13
    assert "no server at http://127.0.0.1:9" in outcome.out
    assert "Traceback" not in outcome.out


@pytest.mark.parametrize(
    ("args", "words", "code"),
    [
        (["--profile", "kimi_k3"], "did you mean kimi_k2", 4),
        (["--point", "isl64-conc4"], "expected the form isl2048-osl128-conc16", 4),
        (["--point", "isl0-osl1-conc1"], "isl is 0", 4),
        (["--point", "isl64-osl8-conc0"], "conc is 0", 4),
        (["--point", "isl64-osl8-conc1", "--point", "isl64-osl8-conc1"], "given twice", 4),
        (["--slo", "p99_ttft<2s"], "expected METRIC<=LIMIT", 4),
        (["--goodput", "ttft=2s"], "expected LATENCY:LIMIT", 4),
        (["--request-rate", "-1"], "not a request rate", 4),
        (["--num-prompts", "0"], "at least 1", 4),
        (["--server", "sim", "--base-url", "http://x"], "drop the other", 4),
        (["--base-url", "http://user:secret@127.0.0.1:9"], "does not belong in a URL", 4),
        (["--server", "attach"], "no such file", 13),
    ],
)
def test_bad_usage_gets_a_line(tmp_path: Path, args: list[str], words: str, code: int) -> None:
    outcome = run_suite(tmp_path, *args, profile=None)
    assert outcome.code == code, outcome.out
    assert words in outcome.out
    assert "Traceback" not in outcome.out
    assert "secret" not in outcome.out


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("[lod]\nseed = 1\n", "did you mean load?"),
        ("[load]\nnum_promts = 1\n", "did you mean num_prompts?"),
        ("[sweep]\nisl = [-5]\nconcurrency = [1]\n", "sweep.isl[0]: -5"),
        ("[sweep]\nisl = [5]\nconcurrency = [0]\n", "sweep.concurrency[0]: 0"),
        ("[sweep]\nisl = [5]\nconcurrency = [1]\npoints = ['isl5-osl128-conc1']\n", "is there twice"),
        ("[slo]\np99_tft = '1s'\n", "unknown key 'p99_tft'"),
        ("not toml", "not TOML"),
        ("[sweep]\nisl = []\n", "it has no points"),
    ],
)
def test_a_bad_profile_gets_a_line(tmp_path: Path, profile: str, words: str) -> None:
    outcome = run_suite(tmp_path, profile=profile)
    assert outcome.code == 4, outcome.out
    assert words in outcome.out
    assert "quick.toml" in outcome.out
    assert "Traceback" not in outcome.out


def test_a_missing_tokenizer_gets_a_line(tmp_path: Path, live: Simulator) -> None:
    text = QUICK.replace("num_warmups = 2", "num_warmups = 2\nprompt_format = 'text'")
    text = text.replace('id = "simulated"', f'id = "simulated"\ntokenizer = "{tmp_path}/nowhere"')
    outcome = run_suite(
        tmp_path, "--base-url", live.url, "-k", "isl64 and conc1", profile=text, env={"HF_HUB_OFFLINE": "1"}
    )
    assert outcome.code == 12, outcome.out
    assert "model.tokenizer" in outcome.out
    assert "nowhere" in outcome.out
    assert "Traceback" not in outcome.out


def test_the_wrong_model_is_named(tmp_path: Path, live: Simulator) -> None:
    outcome = run_suite(tmp_path, "--base-url", live.url, "--model", "another")
    assert outcome.code == 13
    assert "serves simulated, not another" in outcome.out


# ------------------------------------------------------------------------------------------------ settings


def test_options_override_the_profile(tmp_path: Path, live: Simulator) -> None:
    outcome = run_suite(
        tmp_path, "--base-url", live.url, "--point", "isl100-osl10-conc12", "--num-prompts", "20", "--num-warmups", "1",
        "--random-range-ratio", "0.5", "--random-prefix-len", "7", "--request-rate", "50", "--burstiness", "0.5",
        "--seed", "5", "--goodput", "ttft:10s", "--no-ignore-eos", "--metadata", "who", "me",
    )  # fmt: skip
    assert outcome.code == 0, outcome.out
    (result,) = outcome.results().values()
    assert result["num_prompts"] == result["completed"] == result["good_completed"] == 20
    assert 20 * (7 + 50) <= result["total_input_tokens"] <= 20 * (7 + 150)
    assert result["total_input_tokens"] != 20 * 107, "lengths were not drawn"
    assert (result["request_rate"], result["burstiness"], result["seed"]) == (50.0, 0.5, 5)
    assert result["settings"]["ignore_eos"] is False
    assert result["metadata"]["who"] == "me"
    assert result["request_goodput"] > 0


def test_a_seed_seen_before_is_told_by_the_prefix_cache(tmp_path: Path) -> None:
    with Simulator(SimSpec(**FAST | {"prefix_caching": True})) as caching:
        args = ["--base-url", caching.url, "-k", "isl128 and conc4", "--seed", "3"]
        assert run_suite(tmp_path, *args).code == 0
        again = run_suite(tmp_path, *args)
        fresh = run_suite(tmp_path, *args[:-2])
    assert again.code == 12, again.out
    assert "came from the server's prefix cache" in again.out
    assert fresh.code == 0, fresh.out


# ------------------------------------------------------------------------------------------------ going on, comparing


def test_resume_keeps_what_is_valid(tmp_path: Path, live: Simulator) -> None:
    args = ["--base-url", live.url, "--resume"]
    first = run_suite(tmp_path, *args, "-k", "isl64")
    before = {p: p.stat().st_mtime_ns for p in first.results_dir.glob("quick*.json")}
    assert len(before) == 2
    second = run_suite(tmp_path, *args)
    assert second.code == 0, second.out
    assert second.out.count("PASSED (reused)") >= 2
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(second.results()) == 4
    other = run_suite(tmp_path, *args, "--num-prompts", "13", "-k", "isl64 and conc1")
    assert "(reused)" not in other.out, "another question was answered with an old result"


def test_resume_says_a_kept_failure_again(tmp_path: Path, live: Simulator) -> None:
    args = ["--base-url", live.url, "--slo", "p99_ttft<=1us", "-k", "isl64 and conc1"]
    assert run_suite(tmp_path, *args).code == 1
    again = run_suite(tmp_path, *args, "--resume")
    assert again.code == 1
    assert "FAILED (reused)" in again.out


def test_baseline_finds_a_slower_server_and_no_false_alarm(tmp_path: Path, live: Simulator) -> None:
    keep = tmp_path / "main"
    args = ["--base-url", live.url, "--repeat", "3", "-k", "isl64 or whole"]
    assert run_suite(tmp_path, *args, f"--save-baseline={keep}").code == 0
    assert len(list(keep.glob("*.json"))) == 6
    for _ in range(3):  # a busy machine may really have made one slower; what alarms without a cause does so again
        same = run_suite(tmp_path, *args, f"--baseline={keep}")
        if "regression: " not in same.out:
            break
    assert "regression: " not in same.out
    assert same.code == (12 if "a slowdown would be seen in" in same.out else 0), same.out  # 12: too noisy to tell
    assert "would see from" in same.out or "not slower by more than" in same.out
    assert "now: 3 rounds of 1 session, 1 start of the server" in same.out
    live.set_faults("slow_down:30")
    try:
        slower = run_suite(tmp_path, *args, f"--baseline={keep}", f"--summary-md={tmp_path}/summary.md")
    finally:
        live.set_faults()
    assert slower.code == 1, slower.out
    assert "regression: isl64-osl8-conc4: mean TPOT" in slower.out
    assert "regression: sweep: mean TPOT over the whole sweep" in slower.out
    assert "regression" in (tmp_path / "summary.md").read_text()
    different = run_suite(tmp_path, *args, f"--baseline={keep}", "--num-prompts", "13")
    assert different.code == 12, different.out
    assert "settings num_prompts: 12 and 13" in different.out
    # after an upgrade the old runs may stay beside the new ones
    both, page = tmp_path / "both", tmp_path / "both.md"
    shutil.copytree(keep, both / "old")
    args += ["--num-prompts", "13"]
    assert run_suite(tmp_path, *args, f"--save-baseline={both}/new").code == 0
    upgraded = run_suite(tmp_path, *args, f"--baseline={both}", f"--summary-md={page}")
    assert "not comparable with" not in upgraded.out
    assert "settings num_prompts: 12 and 13 were passed over" in page.read_text()


def test_github_gets_annotations_and_a_summary(tmp_path: Path, live: Simulator) -> None:
    page = tmp_path / "page.md"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    outcome = run_suite(tmp_path, "--base-url", live.url, "--slo", "p99_ttft<=1us", "-k", "isl64 and conc1", env=env)
    assert outcome.code == 1
    assert "::error title=FAILED isl64-osl8-conc1::p99 TTFT" in outcome.out
    assert "| isl64-osl8-conc1 |" in page.read_text()


# ------------------------------------------------------------------------------------------------ pictures, interruption


def test_plot_needs_no_server_and_ends_without_a_load(tmp_path: Path) -> None:
    first = run_suite(tmp_path, "--server", "sim", "-k", "isl64", env={"PLOTS": "1"})
    assert first.code == 0
    plots = first.results_dir / "plots"
    assert (plots / "frontier.png").read_bytes()[:4] == b"\x89PNG"
    assert (plots / "report.html").exists()
    again = run_suite(tmp_path, "--plot", profile=None)
    assert again.code == 0, again.out
    assert "drawn: " in again.out
    assert "test session starts" not in again.out
    (tmp_path / "nothing").mkdir()
    empty = run_suite(tmp_path / "nothing", "--plot", profile=None)
    assert empty.code == 4
    assert "no pictures" in empty.out


@contextlib.contextmanager
def long_session(folder: Path, *, ignoring: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A session whose second point is being measured; with `ignoring` as a shell starts it behind `&`."""
    profile, results = folder / "quick.toml", folder / "results"
    profile.write_text(QUICK.replace("num_prompts = 12", "num_prompts = 60").replace("step_ms = 1.0", "step_ms = 20.0"))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--server", "sim", "--no-plot",
               f"--profile={profile}", f"--results-dir={results}"]  # fmt: skip
    if ignoring:
        command = ["bash", "-c", 'trap "" INT; exec "$@"', "bash", *command]
    env = os.environ | {"SERVER_INFO": str(folder / "none")}
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not list(results.glob("quick*.json")) and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(1.0)  # into the second point
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("how", "ignoring"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)])
def test_interruption_keeps_what_is_finished(tmp_path: Path, how: signal.Signals, ignoring: bool) -> None:
    results = tmp_path / "results"
    with long_session(tmp_path, ignoring=ignoring) as process:
        process.send_signal(how)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 2, out
    kept = [json.loads(p.read_text()) for p in sorted(results.glob("quick*.json"))]
    assert kept
    assert kept[0]["verdict"] in ("PASSED", "ERROR")
    assert "Traceback" not in out
    assert (results / "report.json").exists()
    cut = [r for r in kept if "interrupted" in " ".join(r["messages"])]
    assert all(r["verdict"] == "ERROR" and r["completed"] < r["num_prompts"] for r in cut)


def test_a_second_interruption_ends_it_at_once_and_leaves_no_process(tmp_path: Path) -> None:
    with long_session(tmp_path) as process:
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 2, out
    assert "Traceback" not in out
    assert children
    deadline = time.monotonic() + 10
    while (left := [pid for pid in children if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def test_an_interruption_where_it_is_ignored_is_none(tmp_path: Path) -> None:
    with long_session(tmp_path, ignoring=True) as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 2, out


# ------------------------------------------------------------------------------------------------ sequential runs


@pytest.mark.parametrize(("limit", "code"), [("1s", 0), ("100us", 1)])
def test_a_sequential_run_ends_when_its_verdict_is_clear(
    tmp_path: Path, live: Simulator, limit: str, code: int
) -> None:
    profile = QUICK + f'[slo]\nmode = "confident"\nmax_requests = 40000\np99_ttft = "{limit}"\n'
    outcome = run_suite(tmp_path, "--base-url", live.url, "-k", "isl64 and conc4", profile=profile)
    assert outcome.code == code, outcome.out
    (result,) = outcome.results().values()
    assert 4 < result["completed"] < 40000, "it did not end early"
    assert result["completed"] == result["num_prompts"]
    assert result["failed"] == 0


def test_a_sequential_run_without_a_clear_verdict_says_so(tmp_path: Path, live: Simulator) -> None:
    profile = QUICK + '[slo]\nmode = "confident"\nmax_requests = 60\np99_ttft = "1s"\n'
    outcome = run_suite(tmp_path, "--base-url", live.url, "-k", "isl64 and conc4", profile=profile)
    assert outcome.code == 12, outcome.out
    assert "request budget exhausted (max_requests)" in outcome.out
    assert "more would decide" in outcome.out


def test_repeats_have_one_confident_verdict_over_all_their_requests(tmp_path: Path, live: Simulator) -> None:
    profile = QUICK.replace("num_prompts = 12", "num_prompts = 104") + '[slo]\nmode = "confident"\np99_ttft = "5s"\n'
    outcome = run_suite(tmp_path, "--base-url", live.url, "-k", "isl64 and conc4", "--repeat", "2", profile=profile)
    first, last = (result for _, result in sorted(outcome.results().items(), key=lambda item: item[1]["run"]))
    assert first["verdict"] == "PASSED", "nothing is said yet: the last run judges"
    assert "by the last" in first["messages"][0]
    assert "2 runs together" in last["messages"][0]
    assert "n=200" in last["messages"][0], "all requests of both but their start bursts"
    assert last["verdict"] == "ERROR", "200 requests are too few for a p99, whatever they are"
    assert "more would decide" in last["messages"][0]
    assert outcome.code == 12, outcome.out


def test_two_sweeps_against_one_server_are_told(tmp_path: Path, live: Simulator) -> None:
    other = ServerLock(live.url)
    assert other.take()
    try:
        outcome = run_suite(tmp_path, "--base-url", live.url, "--slo", "none", "-k", "isl64 and conc1")
    finally:
        other.release()
    assert f"warning: another sweep of this host loads {live.url}" in outcome.out
    assert outcome.code == 0
