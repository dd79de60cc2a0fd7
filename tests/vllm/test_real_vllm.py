"""A real vLLM (its CPU build, a tiny model): what the suite says of it agrees with what it counts of itself.

Nothing here is about speed: on a machine this small the engine holds up everything else. Set $BENCH_VLLM to a `vllm`
command (tests/vllm/install.sh makes one); without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from asyncio import run
from pathlib import Path

import numpy as np
import pytest

from bench_tests.load.records import Records
from bench_tests.load.workload.cache_theory import block_hashes, hit_tokens
from bench_tests.load.workload.content import trace_positions
from bench_tests.load.workload.trace_formats import read_trace
from bench_tests.server.client import get
from bench_tests.server.metrics import read_metrics
from bench_tests.server.served import Endpoint
from tests.proxies.conftest import _running, free_port
from tests.proxies.test_two_backends import NGINX as BALANCED
from tests.support.processes import wait_for
from tests.vllm.conftest import LENIENT, busy, needs_vllm, serving, sweep

pytestmark = needs_vllm


@pytest.fixture(autouse=True)
def _nothing_runs(server: Endpoint) -> None:
    """What a test left running there would be taken for the next one's requests."""
    assert wait_for(lambda: busy(server) == 0, 120)


@pytest.fixture(scope="module")
def engine(started: tuple[Endpoint, int]) -> int:
    """The process of its engine; vLLM names it so."""
    found = subprocess.run(["pgrep", "-g", str(started[1]), "-f", "VLLM::EngineCore"], capture_output=True, text=True)
    return int(found.stdout)


def test_a_live_server_is_swept_and_agrees_with_itself(tmp_path: Path, server: Endpoint) -> None:
    """No profile is named: the demo's settings, whatever is served, and a vocabulary that is found by asking."""
    points = ["--point", "isl1024-osl32-conc4", "--point", "isl1024-osl32-conc16"]
    for attempt in range(3):  # two cores for engine and client: one that was starved of CPU says so, rightly
        folder = tmp_path / str(attempt)
        folder.mkdir()
        before = run(read_metrics(server, "tiny"))
        outcome = sweep(folder, server, "--start=together", *points)
        counted = run(read_metrics(server, "tiny")).since(before)
        if outcome.code != 12:
            break
    assert outcome.code == 0 or outcome.only_starved(), outcome.out  # tokens are counted right on a busy machine too
    assert "sk-real" not in outcome.out
    results = outcome.results()
    assert sorted(r["completed"] for r in results.values()) == [40, 160]
    asked = warm = 0
    ttft = []
    for result in results.values():
        conc = result["max_concurrency"]
        assert result["completed"] == result["num_prompts"] == 10 * conc
        assert result["total_input_tokens"] == 1024 * 10 * conc
        assert result["total_output_tokens"] == 32 * 10 * conc
        assert result["engine"] == "vllm"
        assert result["engine_version"].startswith("0.")
        assert result["server"]["counted"]["prompt_tokens"] == 1024 * 11 * conc, "the server counts other tokens"
        assert result["server"]["counted"]["generation_tokens"] == 32 * 11 * conc
        assert result["server"]["counted"]["cached_tokens"] == 0
        asked += 10 * conc
        warm += conc
        ttft.append(Records.load(outcome.results_dir / result["records"]).ttft_s())
    # finding the vocabulary's size costs a few prompts of four tokens
    extra = counted.values["prompt_tokens"] - 1024 * (asked + warm)
    assert 0 <= extra <= 7 * 4
    assert counted.values["cached_tokens"] == 0
    if outcome.code == 0:
        _histogram_contains(np.sort(np.concatenate(ttft)), counted.ttft_buckets, asked + warm)


def _histogram_contains(ours: np.ndarray, buckets: dict[float, float], requests: int) -> None:
    """vLLM's own TTFT lies before ours (it does not see the way to us), by less than 50 ms or half: so for each of its
    bounds at most as many of ours lie below it as of its, and below a bound somewhat further up at least as many.
    """
    assert len(ours) == requests
    for bound, below in sorted(buckets.items()):
        if not np.isfinite(bound):
            assert below >= requests
            continue
        # it counts the few vocabulary probes as well
        assert (ours <= bound).sum() <= below, f"more of ours than of the server's are within {bound} s"
        further = bound * 1.5 + 0.05
        assert (ours <= further).sum() >= min(below, requests) - 7, (
            f"fewer of ours within {further} s than of its in {bound} s"
        )


def test_text_prompts_have_exactly_the_tokens_asked(
    tmp_path: Path, server: Endpoint, model: Path, profile: str
) -> None:
    text = profile.replace("vocab_size = 4096", f'vocab_size = 4096\ntokenizer = "{model}"')
    text += (
        '\n[load]\nstart = "together"\nprompt_format = "text"\nnum_prompts = 12\nnum_warmups = 0\nrange_ratio = 0.2\n'
    )
    outcome = sweep(tmp_path, server, "--point", "isl300-osl8-conc4", profile=text)
    assert outcome.code == 0, outcome.out
    (result,) = outcome.results().values()
    records = Records.load(outcome.results_dir / result["records"])
    assert (records.input_tokens == records.asked_input).all()
    assert len(set(records.input_tokens.tolist())) > 1


def test_a_point_beyond_the_context_is_said_before_the_load(tmp_path: Path, server: Endpoint, profile: str) -> None:
    outcome = sweep(tmp_path, server, "--point", "isl16380-osl8-conc1", profile=profile)
    assert outcome.code == 12
    assert "needs a context of 16388 tokens, the server has 16384" in outcome.out


def test_ids_out_of_the_vocabulary_are_no_success(tmp_path: Path, server: Endpoint, profile: str) -> None:
    """vLLM answers them with HTTP 200 and an error event."""
    text = profile.replace("vocab_size = 4096", "vocab_size = 300000\nfirst_id = 200000")
    outcome = sweep(tmp_path, server, "--point", "isl64-osl8-conc2", "--num-prompts", "8", profile=text)
    assert outcome.code == 12, outcome.out
    assert "error_event" in outcome.out
    assert "out of vocabulary" in outcome.out


def test_a_wrong_key_is_said(tmp_path: Path, server: Endpoint) -> None:
    outcome = sweep(tmp_path, Endpoint(server.base_url, "wrong"), "--point", "isl64-osl8-conc1")
    assert outcome.code == 13
    assert "refuses the key" in outcome.out


def test_aa_repetitions_raise_no_alarm_and_a_throttled_server_is_caught(
    tmp_path: Path, server: Endpoint, engine: int, profile: str
) -> None:
    """The same server against itself; then with its engine stopped again and again, which makes every token slower.

    The engine shares two cores with everything else here, so that something else may really have made it slower: what
    alarms without a cause does so again.
    """
    points = ["--point", "isl256-osl32-conc2", "--point", "isl256-osl32-conc4", "--num-prompts", "24", "--repeat", "3"]
    points += ["--start", "together"]
    for attempt in range(3):
        keep = tmp_path / f"baseline{attempt}"
        first = sweep(tmp_path, server, *points, f"--save-baseline={keep}", profile=profile)
        if first.code == 12 and attempt < 2:  # a client that was starved of CPU says so, rightly
            continue
        assert first.code == 0, first.out
        again = sweep(tmp_path, server, *points, f"--baseline={keep}", profile=profile)
        if "regression: " not in again.out:
            break
    assert "regression: " not in again.out, again.out
    assert again.code in (0, 12), again.out  # 12: too noisy a machine to tell
    for stopped_s in (0.04, 0.12):  # the noisier the machine, the slower a server must be to be told from it
        throttle = subprocess.Popen([sys.executable, "-c", _THROTTLE, str(engine), str(stopped_s)])
        try:
            slower = sweep(tmp_path, server, *points, f"--baseline={keep}", profile=profile)
        finally:
            throttle.kill()
            throttle.wait()
            os.kill(engine, signal.SIGCONT)
        if "regression: " in slower.out:
            break
    assert slower.code == 1, slower.out
    assert "regression: " in slower.out


# stops the engine again and again: slower, and without taking the cores that the client needs
_THROTTLE = """
import os, signal, sys, time
while True:
    os.kill(int(sys.argv[1]), signal.SIGSTOP)
    time.sleep(float(sys.argv[2]))
    os.kill(int(sys.argv[1]), signal.SIGCONT)
    time.sleep(0.02)
"""


def test_ctrl_c_aborts_what_runs_on_the_server(tmp_path: Path, server: Endpoint, profile: str) -> None:
    after: list[bool] = []

    def interrupt(process: subprocess.Popen[str]) -> None:
        assert wait_for(lambda: busy(server) >= 4, 120)
        process.send_signal(signal.SIGINT)
        after.append(wait_for(lambda: busy(server) == 0, 30))

    outcome = sweep(
        tmp_path, server, "--point", "isl64-osl8000-conc4", "--num-warmups", "0", profile=profile, during=interrupt
    )
    assert after == [True], "vLLM still works on requests that nobody waits for"
    assert outcome.code == 2
    (result,) = outcome.results().values()
    assert result["verdict"] == "ERROR"
    assert any("interrupted" in message for message in result["messages"])


def test_an_engine_that_stalls_is_no_result(tmp_path: Path, server: Endpoint, engine: int, profile: str) -> None:
    def stall(process: subprocess.Popen[str]) -> None:
        assert wait_for(lambda: busy(server) >= 4, 120)
        os.kill(engine, signal.SIGSTOP)
        process.wait(120)

    try:
        outcome = sweep(
            tmp_path, server, "--point", "isl64-osl2000-conc4", "--num-warmups", "0", during=stall,
            profile=profile + '[timeouts]\nbetween_tokens = "4s"\nfirst_token = "10s"\n',
        )  # fmt: skip
    finally:
        os.kill(engine, signal.SIGCONT)
    assert outcome.code == 13, outcome.out
    (result,) = outcome.results().values()
    assert result["verdict"] == "ERROR"
    assert "is stuck: 4 requests in a row got no answer in time" in outcome.out  # though its /health says 200
    # which limit, depends on where the engine was stopped: it hands out its tokens by the hundred
    assert "silent for 4 s in the stream" in outcome.out or "no first token within 10 s" in outcome.out, outcome.out
    assert wait_for(lambda: busy(server) == 0, 60)


def test_a_trace_hits_the_prefix_cache_as_theory_says(tmp_path: Path, server: Endpoint) -> None:
    """Two conversations that grow, one request after the other: hits to within a block a request."""
    rows = []
    for i in range(12):
        chat, turn = i % 2, i // 2
        n = 200 + 260 * turn
        rows.append({"timestamp": 1500 * i, "input_length": n, "output_length": 4,
                     "hash_ids": [100 * chat + k for k in range(-(-n // 512))]})  # fmt: skip
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    profile = (
        'base = "demo"\nname = "traced"\n[model]\nid = "tiny"\nvocab_size = 4096\n[slo]\np99_ttft = "60s"\np99_tpot = "10s"\n'
        + LENIENT
    )
    outcome = sweep(tmp_path, server, f"--trace-file={path}", profile=profile)
    assert outcome.code == 0, outcome.out
    [result] = outcome.results().values()
    trace = read_trace(path)
    prompts = [trace_positions(trace, i, 1, 4000) for i in range(len(trace))]
    reply = run(get(server, "/metrics"))
    said = re.search(rb'cache_config_info.*?block_size="(\d+)"', reply.body if reply else b"")
    assert said, "vLLM does not say its block size"
    block = int(said[1])  # 128 on a CPU
    theory = int(hit_tokens([block_hashes(p, block) for p in prompts], [len(p) for p in prompts], block).sum())
    assert result["completed"] == 12
    assert result["total_input_tokens"] == int(trace.input_tokens.sum())
    assert abs(result["server"]["counted"]["cached_tokens"] - theory) <= block * len(trace)
    assert theory > 3000


def test_the_servers_own_counters_explain_the_ttft_and_agree_in_tokens(tmp_path: Path, server: Endpoint) -> None:
    """Queue, prefill and the rest are by clocks of the engine, its front and this client, over the same requests."""
    points = ["--point", "isl256-osl16-conc1", "--point", "isl256-osl16-conc8", "--num-prompts", "24"]
    outcome = sweep(tmp_path, server, *points, "-v", profile=LENIENT)
    results = outcome.results()
    assert len(results) == 2, outcome.out
    for result in results.values():
        side, parts = result["server_side"], result["server_side"]["ttft"]
        assert (side["of"], side["same_requests"], side["requests"]["client"]) == ("measured", True, 24), side
        for name in ("client_and_network_s", "front_s", "queue_s", "prefill_s"):
            assert parts[name] > -1e-3, f"{name}: no part of a time lasts less than nothing: {parts}"
        whole = sum(parts[f"{name}_s"] for name in ("client_and_network", "front", "queue", "prefill"))
        assert whole == pytest.approx(result["mean_ttft"], abs=1e-3)
        low, _ = side["percentiles"]["ttft"]["p50"]
        assert low <= result["median_ttft"], "the client's median contains the server's"
        for tokens in side["tokens"].values():
            assert tokens["client"] == tokens["server"], side["tokens"]
    assert "client and network + " in outcome.out


def test_two_replicas_behind_nginx_add_up(tmp_path: Path, server: Endpoint, model: Path) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed (apt-get install nginx)")
    with serving(model, tmp_path / "log") as (second, _):
        port, config = free_port(), tmp_path / "nginx.conf"
        one, two = (endpoint.base_url.rpartition(":")[2] for endpoint in (server, second))
        config.write_text(BALANCED.format(port=port, folder=tmp_path, one=one, two=two))
        with _running(["nginx", "-c", str(config), "-p", str(tmp_path)], port, tmp_path):
            outcome = sweep(
                tmp_path, Endpoint(f"http://127.0.0.1:{port}", server.api_key), "--point", "isl128-osl8-conc4",
                "--num-prompts=24", f"--server-metrics={server.base_url},{second.base_url}", profile=LENIENT,
            )  # fmt: skip
    (result,) = outcome.results().values()
    side = result["server_side"]
    assert side["same_requests"], (side, outcome.out)
    assert all(role["prompt_tokens"] > 0 for role in side["roles"].values()), side["roles"]
    for name, tokens in side["tokens"].items():
        assert tokens["client"] == tokens["server"], side["tokens"]
        assert tokens["server"] == sum(role[f"{name}_tokens"] for role in side["roles"].values())
    assert side["ttft"]["client_and_network_s"] > -1e-3
