"""Each fault of the simulated server, as a client sees it."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from bench_tests.errors import UsageError
from bench_tests.sim.faults import FAULTS, draw, parse_fault
from bench_tests.sim.simulator import Simulator
from tests.support.raw_client import FAST, Got, ask, metric


@pytest.fixture(scope="module")
def shared_sim() -> Iterator[Simulator]:
    with Simulator(FAST) as running:
        yield running


@pytest.fixture
def sim(shared_sim: Simulator) -> Simulator:
    shared_sim.set_faults()
    return shared_sim


def test_fault_texts_are_parsed_and_refused_with_the_mend() -> None:
    assert parse_fault("coalesce:4").arg == 4
    assert parse_fault("error_event:0.5:3").probability == 0.5
    assert parse_fault("status_500@20").after == 20
    for bad in ("nope", "no_usage:2", "split:x", "coalesce:0", "html:1:7", "reset_mid_stream:1:2:3"):
        with pytest.raises(UsageError, match=r"expected|there are"):
            parse_fault(bad)


def test_the_draw_is_seeded_and_has_its_probability() -> None:
    fault = parse_fault("no_usage:0.25")
    hits = ["no_usage" in draw([fault], 1, i) for i in range(2000)]
    assert 400 < sum(hits) < 600
    assert hits == ["no_usage" in draw([fault], 1, i) for i in range(2000)]
    assert hits != ["no_usage" in draw([fault], 2, i) for i in range(2000)]


@pytest.mark.parametrize("fault", ["split", "coalesce:3", "crlf", "comments", "late_headers", "not_chunked"])
def test_what_a_client_must_not_mind(sim: Simulator, fault: str) -> None:
    sim.set_faults(fault)
    got = ask(sim)
    assert got.whole
    assert len(got.choices) == 8
    assert got.usage == {"prompt_tokens": 20, "total_tokens": 28, "completion_tokens": 8}
    assert got.data[-1] == "[DONE]"


def test_split_cuts_inside_events(sim: Simulator) -> None:
    sim.set_faults("split:1:2000")
    got = ask(sim)
    assert len(got.arrivals) > 10
    assert any(len(choice["choices"][0]["text"].encode()) > len(choice["choices"][0]["text"]) for choice in got.choices)


def test_tokens_per_event_and_gzip(sim: Simulator) -> None:
    sim.set_faults("tokens_per_event:3")
    got = ask(sim)
    assert [len(c["choices"][0]["text"].split()) for c in got.choices] == [1, 3, 3, 1]
    sim.set_faults("gzip")
    got = ask(sim)
    assert got.headers["content-encoding"] == "gzip"
    assert zlib.decompress(got.body, wbits=31) == gzip.decompress(got.body)
    assert replace(got, body=gzip.decompress(got.body)).data[-1] == "[DONE]"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_status_faults(sim: Simulator, status: int) -> None:
    sim.set_faults(f"status_{status}")
    got = ask(sim)
    assert got.status == status
    assert json.loads(got.body)["error"]
    assert ("retry-after" in got.headers) == (status == 429)


def test_faults_instead_of_an_answer(sim: Simulator) -> None:
    for status in (200, 502):
        sim.set_faults(f"html:1:{status}")
        got = ask(sim)
        assert (got.status, got.headers["content-type"]) == (status, "text/html; charset=utf-8")
    sim.set_faults("redirect")
    assert (ask(sim).status, ask(sim).headers["location"]) == (307, "/elsewhere/v1/completions")
    sim.set_faults("reset_before_headers")
    with pytest.raises(ConnectionResetError):
        ask(sim)


def test_faults_in_the_middle(sim: Simulator) -> None:
    for name, outcome in (("reset_mid_stream:1:3", 3), ("bad_chunk:1:3", 3)):
        sim.set_faults(name)
        got = ask(sim)
        assert not got.whole
        assert len(got.choices) == outcome if name.startswith("reset") else got.body.count(b'"text"') == outcome
    sim.set_faults("half_close")
    got = ask(sim)
    assert "[DONE]" not in got.data
    assert len(got.choices) == 4
    sim.set_faults("error_event:1:2")
    got = ask(sim)
    assert json.loads(got.data[2])["error"]["type"] == "InternalServerError"
    assert got.data[3:] == ["[DONE]"]
    sim.set_faults("malformed_json")
    got = ask(sim)
    with pytest.raises(json.JSONDecodeError):
        json.loads(got.data[4])
    assert got.data[-1] == "[DONE]"
    sim.set_faults("garbage")
    assert ask(sim).body.count(b'"text"') == 4


def test_stalls_and_late_heads(sim: Simulator) -> None:
    for name in ("stall_first_token:1:0.15", "slow_headers:1:0.15", "stall_mid_stream:1:0.15"):
        sim.set_faults(name)
        got = ask(sim)
        assert len(got.choices) == 8
        assert got.arrivals[-1] > 0.15
        assert got.arrivals[0] > 0.15 or name.startswith("stall_mid")
    sim.set_faults("slow_down:20")
    assert ask(sim).arrivals[-1] > 0.15


def test_what_the_end_of_a_stream_may_lack(sim: Simulator) -> None:
    sim.set_faults("no_usage")
    assert ask(sim).usage is None
    sim.set_faults("wrong_usage")
    assert (ask(sim).usage or {})["completion_tokens"] == 15
    sim.set_faults("no_done")
    assert "[DONE]" not in ask(sim).data
    sim.set_faults("no_finish_reason")
    assert {c["choices"][0]["finish_reason"] for c in ask(sim).choices} == {None}
    sim.set_faults("fewer_tokens")
    got = ask(sim)
    assert (len(got.choices), got.choices[-1]["choices"][0]["finish_reason"]) == (4, "stop")
    sim.set_faults("more_tokens:1:2")
    assert len(ask(sim).choices) == 10
    sim.set_faults("zero_tokens")
    got = ask(sim)
    assert (got.choices, (got.usage or {})["completion_tokens"]) == ([], 0)
    sim.set_faults("empty_texts")
    assert [c["choices"][0]["text"] for c in ask(sim).choices] == [""] * 8
    sim.set_faults("model_mislabelled")
    assert {c["model"] for c in ask(sim).choices} == {"simulated-other"}


def test_huge_and_endless(sim: Simulator) -> None:
    sim.set_faults("huge_event:1:3")
    got = ask(sim)
    assert len(got.body) > 3_000_000
    assert len(got.choices) == 8
    sim.set_faults("endless")
    url = urlsplit(sim.url)
    body = json.dumps({"prompt": [1], "max_tokens": 2, "stream": True}).encode()
    with socket.create_connection((url.hostname, url.port), timeout=5) as sock:
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        seen = b""
        while seen.count(b'"text"') < 30:
            seen += sock.recv(65536)
    assert b"[DONE]" not in seen


def test_faults_of_the_whole_server(sim: Simulator) -> None:
    sim.set_faults("model_swapped")
    assert json.loads(sim.request("/v1/models"))["data"][0]["id"] == "simulated-swapped"
    assert ask(sim).status == 404
    sim.set_faults("idle_close")
    url = urlsplit(sim.url)
    with socket.create_connection((url.hostname, url.port), timeout=2) as sock:
        assert sock.recv(1) == b""
    before = metric(sim, "process_start_time_seconds")
    sim.set_faults("restart")
    ask(sim)
    assert metric(sim, "process_start_time_seconds") > before
    assert metric(sim, "vllm:request_success_total") == 1
    assert set(json.loads(sim.request("/sim/faults"))["known"]) == set(FAULTS)


def test_engine_that_dies_takes_its_streams_along_and_then_the_process() -> None:
    with Simulator(FAST) as sim:
        victims: list[Got] = []
        body = {"prompt": [1], "max_tokens": 1900, "stream": True, "ignore_eos": True}
        victim = threading.Thread(target=lambda: victims.append(ask(sim, body)))
        victim.start()
        while not metric(sim, "vllm:num_requests_running"):
            time.sleep(0.01)
        sim.set_faults("engine_dead:1:0.6")
        assert "EngineCore" in json.loads(ask(sim).data[0])["error"]["message"]
        with pytest.raises(OSError, match="503"):
            sim.request("/health")
        victim.join()
        assert "EngineCore" in json.loads(victims[0].data[-2])["error"]["message"]
        assert victims[0].data[-1] == "[DONE]"
        end = time.monotonic() + 10
        while sim.alive and time.monotonic() < end:
            time.sleep(0.02)
        with pytest.raises(ConnectionRefusedError):
            ask(sim)
