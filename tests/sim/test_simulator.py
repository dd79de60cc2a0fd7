"""The simulated server as its clients see it: a real process, over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bench_tests.errors import ServerError, UsageError
from bench_tests.sim.simulator import SimSpec, Simulator
from tests.support.raw_client import FAST, ask, metric

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def truth_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sim") / "truth.jsonl"


@pytest.fixture(scope="module")
def shared_sim(truth_path: Path) -> Iterator[Simulator]:
    with Simulator(replace(FAST, truth_log=str(truth_path), log_tokens=True)) as running:
        yield running


@pytest.fixture
def sim(shared_sim: Simulator) -> Simulator:
    shared_sim.set_faults()
    return shared_sim


# ---- the protocol


def test_everything_says_that_it_is_simulated(sim: Simulator) -> None:
    assert json.loads(sim.request("/version")) == {"version": "sim-1", "simulated": True}
    model = json.loads(sim.request("/v1/models"))["data"][0]
    assert (model["id"], model["owned_by"], model["max_model_len"]) == ("simulated", "bench-tests-simulator", 2000)
    assert metric(sim, "bench_tests_simulated") == 1
    assert sim.request("/health") == b""
    assert ask(sim).headers["server"] == "bench-tests-simulator"


def test_completions_stream_has_vllms_shape(sim: Simulator) -> None:
    got = ask(sim, x_request_id="mine")
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert got.headers["transfer-encoding"] == "chunked"
    assert got.data[-1] == "[DONE]"
    assert len(got.choices) == 8
    assert list(got.choices[0]) == ["id", "object", "created", "model", "choices"]
    keys = ["index", "text", "logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids"]
    assert list(got.choices[0]["choices"][0]) == keys
    assert got.choices[0]["id"] == "cmpl-mine"
    assert [c["choices"][0]["finish_reason"] for c in got.choices] == [None] * 7 + ["length"]
    assert json.loads(got.data[-2])["choices"] == []
    assert got.usage == {"prompt_tokens": 20, "total_tokens": 28, "completion_tokens": 8}


def test_continuous_usage_counts_up(sim: Simulator) -> None:
    body = {"prompt": [1, 2], "max_tokens": 3, "stream": True, "stream_options": {"continuous_usage_stats": True}}
    assert [c["usage"]["completion_tokens"] for c in ask(sim, body).choices] == [1, 2, 3]


def test_chat_stream_begins_with_a_role(sim: Simulator) -> None:
    body = {"messages": [{"role": "user", "content": "hello you"}], "max_tokens": 3, "stream": True}
    got = ask(sim, body, "/v1/chat/completions")
    deltas = [c["choices"][0]["delta"] for c in got.choices]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert all(list(d) == ["content"] for d in deltas[1:])
    assert len(deltas) == 4
    assert got.choices[-1]["choices"][0]["finish_reason"] == "length"
    assert "system_fingerprint" in got.choices[-1]  # without usage the last choice has it


@pytest.mark.parametrize(
    ("prompt", "tokens"), [("three little words", 3), ([5, 6, 7, 8], 4), (["a b", "c"], 3), ([[1, 2], [3]], 3)]
)
def test_prompts_are_counted_and_not_streamed_answers_are_whole(sim: Simulator, prompt: Any, tokens: int) -> None:
    got = ask(sim, {"prompt": prompt, "max_tokens": 5})
    answer = json.loads(got.body)
    n = len(answer["choices"])
    assert answer["usage"]["prompt_tokens"] == tokens
    assert answer["usage"]["completion_tokens"] == 5 * n
    assert answer["choices"][0]["finish_reason"] == "length"
    assert int(got.headers["content-length"]) == len(got.body)


def test_beyond_the_context_is_cut_short_in_silence_and_a_prompt_beyond_it_is_400(sim: Simulator) -> None:
    body = {"prompt": [1] * 1990, "max_tokens": 100, "stream": True, "ignore_eos": True}
    got = ask(sim, body)
    assert len(got.choices) == 10
    assert got.choices[-1]["choices"][0]["finish_reason"] == "length"
    got = ask(sim, body | {"prompt": [1] * 2001})
    assert got.status == 400
    error = json.loads(got.body)["error"]
    assert error["message"] == (
        "This model's maximum context length is 2000 tokens. However, your prompt contains 2001 input tokens, which "
        "exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
        "(parameter=input_tokens, value=2001)"
    )
    assert (error["type"], error["param"], error["code"]) == ("BadRequestError", "input_tokens", 400)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (
            {"model": "nope", "prompt": "x"},
            404,
            {"message": "The model `nope` does not exist. Valid aliases: simulated.", "type": "NotFoundError",
             "param": "model", "code": 404},
        ),
        (
            {"prompt": "x", "max_tokens": -1},
            400,
            {"message": "max_tokens must be at least 1, got -1. (parameter=max_tokens, value=-1)",
             "type": "BadRequestError", "param": "max_tokens", "code": 400},
        ),
        (
            {"prompt": "x", "max_tokens": "abc"},
            400,
            {"message": "1 validation error:\n  {'type': 'int_parsing', 'loc': 'body.max_tokens', 'msg': 'Input should "
             "be a valid integer, unable to parse string as an integer', 'input': 'abc'}", "type": "Bad Request",
             "param": "body.max_tokens", "code": 400},
        ),
        (
            b'{"model":"tiny","prompt":',
            400,
            {"message": "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.25', 'msg': 'JSON decode error', "
             "'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting value'}}", "type": "Bad Request",
             "param": "body.25", "code": 400},
        ),
        (
            {"prompt": []},
            400,
            {"message": "You must pass at least one prompt", "type": "BadRequestError", "param": None, "code": 400},
        ),
        (
            {"max_tokens": 4},
            400,
            {"message": "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)",
             "type": "BadRequestError", "param": "prompt", "code": 400},
        ),
        (
            {"prompt": "x", "stream_options": {"include_usage": True}},
            400,
            {"message": "Stream options can only be defined when `stream=True`. (parameter=stream_options)",
             "type": "BadRequestError", "param": "stream_options", "code": 400},
        ),
    ],
)  # fmt: skip
def test_errors_have_vllms_bodies(sim: Simulator, body: Any, status: int, error: dict[str, Any]) -> None:
    got = ask(sim, body)
    assert got.status == status
    assert json.loads(got.body) == {"error": error}


def test_other_paths_methods_and_token_ids(sim: Simulator) -> None:
    got = ask(sim, {}, "/v1/nope")
    assert (got.status, got.body) == (404, b'{"detail":"Not Found"}')
    got = ask(sim, {}, "/v1/models")
    assert (got.status, got.body, got.headers["allow"]) == (405, b'{"detail":"Method Not Allowed"}', "GET")
    got = ask(sim, {"prompt": [1_000_000], "stream": True})
    assert got.status == 200  # it is told inside the stream
    assert json.loads(got.data[0])["error"]["message"] == "Token id 1000000 is out of vocabulary"
    assert got.data[1] == "[DONE]"


def test_key_is_asked_for_where_vllm_asks() -> None:
    with Simulator(replace(FAST, api_key="sekret")) as sim:
        assert "sekret" not in Path(f"/proc/{sim.pids[0]}/cmdline").read_text()
        assert "sekret" not in repr(sim.spec)
        got = ask(sim)
        assert (got.status, got.body) == (401, b'{"error":"Unauthorized"}')
        assert ask(sim, Authorization="Bearer wrong").status == 401
        assert ask(sim, Authorization="Bearer sekret").status == 200
        for path in ("/health", "/metrics", "/version"):
            with socket.create_connection(("127.0.0.1", urlsplit(sim.url).port or 0)) as sock:
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert sock.recv(12) == b"HTTP/1.1 200"


# ---- the engine


def test_counters_agree_with_what_was_served(sim: Simulator) -> None:
    names = ["vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:time_to_first_token_seconds_count"]
    names += ["vllm:e2e_request_latency_seconds_count", "vllm:inter_token_latency_seconds_count"]
    before = [metric(sim, n) for n in names]
    ended = metric(sim, "vllm:request_success_total", finished_reason="length")
    ask(sim)
    ask(sim)
    assert [metric(sim, n) - b for n, b in zip(names, before, strict=True)] == [40, 16, 2, 2, 14]
    assert metric(sim, "vllm:request_success_total", finished_reason="length") == ended + 2
    assert metric(sim, "vllm:num_requests_running") == 0
    assert metric(sim, "vllm:time_to_first_token_seconds_bucket", le="+Inf") == metric(sim, names[2])
    assert abs(metric(sim, "process_start_time_seconds") - time.time()) < 60


def test_truth_log_has_the_request_and_its_gaps(sim: Simulator, truth_path: Path) -> None:
    got = ask(sim, x_request_id="logged")
    sim.stats()  # answered after the line was written
    row = next(r for r in map(json.loads, truth_path.read_text().splitlines()) if r["id"] == "cmpl-logged")
    assert (row["outcome"], row["conn_req"], row["prompt_tokens"]) == ("ok", 1, 20)
    assert (row["n_tokens"], row["n_events"], len(row["itl_ns"])) == (8, 8, 7)
    assert sum(row["itl_ns"]) == row["t_last_token"] - row["t_first_token"]
    ttft = (row["t_first_token"] - row["t_first_byte"]) / 1e9
    assert 0.001 <= ttft <= got.arrivals[0] + 0.001


def test_client_that_goes_away_is_an_abort(sim: Simulator) -> None:
    aborted = metric(sim, "vllm:request_success_total", finished_reason="abort")
    url = urlsplit(sim.url)
    body = json.dumps({"prompt": [1], "max_tokens": 1900, "stream": True, "ignore_eos": True}).encode()
    with socket.create_connection((url.hostname, url.port)) as sock:
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        sock.recv(1000)
        time.sleep(0.02)
        assert metric(sim, "vllm:num_requests_running") == 1
    end = time.monotonic() + 60
    while metric(sim, "vllm:num_requests_running") and time.monotonic() < end:
        time.sleep(0.01)
    assert metric(sim, "vllm:num_requests_running") == 0
    assert metric(sim, "vllm:request_success_total", finished_reason="abort") == aborted + 1


def together(sim: Simulator, n: int, isl: int, osl: int) -> None:
    """n requests sent at once and read to their ends; no two prompts of a test begin alike."""
    url = urlsplit(sim.url)
    socks = [socket.create_connection((url.hostname, url.port), timeout=20) for _ in range(n)]
    for sock in socks:
        prompt = [time.monotonic_ns() % 1_000_000, *range(isl - 1)]
        body = json.dumps({"prompt": prompt, "max_tokens": osl, "stream": True, "ignore_eos": True}).encode()
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    for sock in socks:
        seen = b""
        while not seen.endswith(b"0\r\n\r\n"):
            seen += sock.recv(65536)
        sock.close()


def test_ttft_rises_with_concurrency_and_running_sequences_are_limited(tmp_path: Path) -> None:
    log = tmp_path / "truth.jsonl"
    spec = SimSpec(base_ms=2, prefill_tok_per_s=20_000, max_num_batched_tokens=408, max_num_seqs=8, truth_log=str(log))
    with Simulator(spec) as sim:
        for _ in range(3):
            together(sim, 1, 400, 2)
        together(sim, 12, 400, 40)
        sim.stats()
        assert metric(sim, "vllm:request_queue_time_seconds_count") == 15
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    ttft_s = [(row["t_first_token"] - row["t_first_byte"]) / 1e9 for row in rows]
    assert min(ttft_s[:3]) > 0.022  # 2 ms and 400 tokens at 20,000 tok/s
    assert max(ttft_s[3:]) > 3 * min(ttft_s[:3])
    firsts = sorted(row["t_first_token"] for row in rows[3:])
    # a step's budget has room for one prompt and a little, so that three prompts take at least two steps
    late = max(row["max_lag_us"] for row in rows) * 1000  # of the earlier write, where the machine was busy
    assert all(c - a > 0.040e9 - late for a, c in zip(firsts, firsts[2:], strict=False))
    # the ninth begins only when one of the first eight has ended: 39 steps after its first token
    assert firsts[8] - firsts[0] > 39 * 0.002e9 - late


def test_all_running_sequences_get_their_token_in_one_burst(tmp_path: Path) -> None:
    log = tmp_path / "truth.jsonl"
    spec = SimSpec(base_ms=10, per_seq_us=1000, prefill_tok_per_s=1e7, truth_log=str(log), log_tokens=True)
    with Simulator(spec) as sim:
        together(sim, 1, 10, 10)
        together(sim, 10, 10, 10)
        sim.stats()
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    alone = statistics.median(rows[0]["itl_ns"])
    # ten decode together for most of the time: 10 ms + 10 · 1 ms
    crowd = [statistics.median(row["itl_ns"]) for row in rows[1:]]
    assert statistics.median(crowd) > alone + 6e6


def test_prefix_cache_counts_hits_and_saves_time() -> None:
    with Simulator(replace(FAST, prefill_tok_per_s=10_000, enable_prompt_tokens_details=True)) as sim:
        body = {"prompt": list(range(1000)), "max_tokens": 2, "stream": True, "ignore_eos": True}
        body["stream_options"] = {"include_usage": True}
        first, *again = [ask(sim, body) for _ in range(4)]
        assert (first.usage or {})["prompt_tokens_details"] == {"cached_tokens": 0}
        assert (again[0].usage or {})["prompt_tokens_details"] == {"cached_tokens": 992}  # 62 blocks of 16
        assert first.arrivals[0] > 0.100
        assert min(got.arrivals[0] for got in again) < 0.080
        assert metric(sim, "vllm:prefix_cache_queries_total") == 4000
        assert metric(sim, "vllm:prefix_cache_hits_total") == 3 * 992


def test_paced_streams_keep_their_times(tmp_path: Path) -> None:
    log = tmp_path / "truth.jsonl"
    spec = SimSpec(mode="paced", ttft_ms=50, gap_ms=5, processes=2, truth_log=str(log), log_tokens=True)
    with Simulator(spec) as sim:
        together(sim, 8, 10, 20)
        # both processes count into the same metrics
        end = time.monotonic() + 5
        while metric(sim, "vllm:generation_tokens_total") < 160 and time.monotonic() < end:
            time.sleep(0.02)
        assert metric(sim, "vllm:generation_tokens_total") == 160
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(rows) == 8
    for row in rows:
        assert row["t_first_token"] - row["t_first_byte"] >= 50_000_000
        due = row["t_first_byte"] + 50_000_000 + 19 * 5_000_000
        # deadlines are absolute: the last token is no later than the latest was, lateness does not add up
        assert 0 <= row["t_last_token"] - due <= row["max_lag_us"] * 1000 + 1


def test_requests_of_a_wave_share_their_jitter(tmp_path: Path) -> None:
    spread = {}
    for icc in (0.0, 1.0):
        log = tmp_path / f"truth{icc}.jsonl"
        spec = SimSpec(mode="paced", ttft_ms=80, gap_ms=1, ttft_jitter="normal:20", jitter_wave=4, jitter_icc=icc)
        with Simulator(replace(spec, truth_log=str(log))) as sim:
            for _ in range(12):
                ask(sim)
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        ms = [(row["t_first_token"] - row["t_first_byte"]) / 1e6 for row in rows]
        spread[icc] = statistics.median(max(ms[i : i + 4]) - min(ms[i : i + 4]) for i in range(0, 12, 4))
    assert spread[0.0] > 10
    assert spread[1.0] < 5
    with pytest.raises(UsageError, match="jitter_icc"):
        SimSpec(jitter_icc=1.5)


# ---- the process


def test_what_cannot_start_says_so(sim: Simulator) -> None:
    port = urlsplit(sim.url).port or 0
    late = Simulator(replace(FAST, port=port))
    with pytest.raises(ServerError, match=f"port {port}"):
        late.start()
    assert not late.alive
    with pytest.raises(UsageError, match="max_num_seqs"):
        SimSpec(max_num_seqs=0)


def test_it_ends_with_the_process_that_started_it() -> None:
    code = "from bench_tests.sim.simulator import *; s = Simulator(); s.start(); print(s.pids[0], flush=True)"
    code += "; import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


def test_command_line_listens_on_ipv6_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "bench_tests.server.simulator", "--host", "::1", "--base-ms", "1"]
    with subprocess.Popen([*command, "--fault", "no_done"], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            assert ready["url"].startswith("http://[::1]:")
            assert ready["pid"] == process.pid
            os.kill(ready["pids"][0], 0)
            with socket.create_connection(("::1", urlsplit(ready["url"]).port or 0)) as sock:
                sock.sendall(b"GET /sim/faults HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b'"faults":["no_done:1:0"]' in sock.recv(65536)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_tls(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        capture_output=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl makes no certificate here")
    with Simulator(replace(FAST, tls_cert=str(cert), tls_key=str(key))) as sim:
        assert sim.url.startswith("https://")
        body = {"prompt": "x", "max_tokens": 3, "stream": True}
        assert sim.request("/v1/completions", body).count(b'"text"') == 3
