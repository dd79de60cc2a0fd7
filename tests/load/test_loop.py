"""The timed client, as its processes, against a real server process: what it sends, keeps, gives up and reports."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench_tests.errors import NotMeasured, UsageError
from bench_tests.load import team
from bench_tests.load.ending import End, Ending
from bench_tests.load.plan import LoadPlan
from bench_tests.load.records import KINDS, Records
from bench_tests.load.team import LoadRun, Progress
from bench_tests.sim.simulator import SimSpec, Simulator
from tests.support.plans import make_plan
from tests.support.scripted_server import ScriptedServer, read_request
from tests.support.stream_bytes import CHUNKED_HEAD, chunked, stream

PACED = SimSpec(mode="paced", ttft_ms=40, gap_ms=4)


@pytest.fixture(scope="module")
def shared_sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    truth = tmp_path_factory.mktemp("sim") / "truth.jsonl"
    with Simulator(replace(PACED, truth_log=str(truth), processes=1)) as running:
        yield running


@pytest.fixture
def sim(shared_sim: Simulator) -> Simulator:
    shared_sim.set_faults()
    return shared_sim


def run_load(plan: LoadPlan, **options: Any) -> LoadRun:
    return asyncio.run(team.run_load(plan, **options))


def plan(url: str, **changes: Any) -> LoadPlan:
    return make_plan(url, **changes)


def kinds(records: Records) -> dict[str, int]:
    return dict(Counter(KINDS[k] for k in records.kind.tolist()))


def in_flight(records: Records) -> tuple[int, float]:
    """Most requests at a time, and their mean while the run has enough left to send."""
    starts, ends = np.sort(records.send_s), np.sort(records.last_s)
    moments = np.sort(np.concatenate([starts, ends]))
    flight = np.searchsorted(starts, moments, "right") - np.searchsorted(ends, moments, "right")
    until = starts[-1]
    busy = np.clip(np.minimum(records.last_s, until) - records.send_s, 0, None).sum() / (until - starts[0])
    return int(flight.max()), float(busy)


def test_a_closed_loop_keeps_its_concurrency_and_measures_no_warm_up(sim: Simulator) -> None:
    before = sim.stats()["requests"]
    run = run_load(plan(sim.url, conc=5, num_prompts=40, num_warmups=6))
    records = run.records
    assert kinds(records) == {"completed": 46}
    assert sim.stats()["requests"] - before == 46
    warm = ~records.measured
    assert warm.sum() == 6
    assert records.last_s[warm].max() < records.send_s[~warm].min()
    measured = Records(**{k: v[~warm] if k != "event_s" else v for k, v in vars(records).items()})
    most, mean = in_flight(measured)
    assert most == 5
    assert mean > 4.5
    assert set(records.input_tokens.tolist()) == {64}
    assert set(records.output_tokens.tolist()) == {8}
    assert set(records.events.tolist()) == {8}
    assert (run.ending, run.workers) == (Ending(), 1)
    assert run.stats[0]["stamped"] is True


def test_a_rate_starts_requests_when_they_are_due(sim: Simulator) -> None:
    run = run_load(plan(sim.url, conc=60, num_prompts=60, request_rate=60.0))
    records = run.records
    assert kinds(records) == {"completed": 60}
    late = records.send_s - records.scheduled_s
    assert late.min() >= 0
    assert np.median(late) < 0.05  # some 0.1 ms where the machine is not shared
    assert records.scheduled_s.max() == pytest.approx(1.0, abs=0.1)
    assert len(set(records.scheduled_s.tolist())) == 60


def test_a_rate_beyond_the_concurrency_queues_in_the_client_and_says_so(sim: Simulator) -> None:
    records = run_load(plan(sim.url, conc=1, num_prompts=8, request_rate=1000.0)).records
    assert records.queue_s().max() > 0.3  # eight answers of 68 ms, one after the other
    assert records.ttft_s().max() < 0.2  # and none of the waiting is in TTFT


@pytest.mark.parametrize(
    "faults", [("split:1:100",), ("coalesce:4",), ("crlf", "comments"), ("late_headers",), ("not_chunked",)]
)
def test_how_the_bytes_travel_changes_nothing(sim: Simulator, faults: tuple[str, ...]) -> None:
    sim.set_faults(*faults)
    records = run_load(plan(sim.url)).records
    assert kinds(records) == {"completed": 16}
    assert set(records.events.tolist()) == {8}
    assert records.ttft_s().min() > 0.039
    assert records.e2el_s().min() > 0.039 + 7 * 0.004 * 0.9


class Recorder:
    """Keeps the prompts that it was sent and answers them at once."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.heads: list[bytes] = []

    def __call__(self, conn: socket.socket) -> None:
        while (request := read_request(conn)) is not None:
            head, body = request
            self.heads.append(head)
            self.prompts.append(json.dumps(json.loads(body)["prompt"]))
            conn.sendall(chunked(*stream(["x"] * 8)))


def test_two_processes_send_what_one_sends_and_their_records_are_one_run() -> None:
    sent, merged = [], []
    for workers in (1, 2):
        recorder = Recorder()
        with ScriptedServer(recorder) as server:
            run = run_load(
                plan(
                    server.url,
                    conc=5,
                    num_prompts=23,
                    num_warmups=4,
                    range_ratio=0.2,
                    osl=8,
                    workers=workers,
                    ignore_eos=False,
                )
            )
        sent.append(sorted(recorder.prompts))
        merged.append(run)
        assert len(run.records) == 27
    assert sent[0] == sent[1]
    two = merged[1]
    assert (two.workers, len(two.stats), set(two.records.worker.tolist())) == (2, 2, {0, 1})
    assert (np.diff(two.records.send_s) >= 0).all()
    assert sorted(two.records.asked_input.tolist()) == sorted(merged[0].records.asked_input.tolist())


def test_two_processes_start_together(sim: Simulator) -> None:
    records = run_load(plan(sim.url, conc=4, num_prompts=4, workers=2)).records
    assert kinds(records) == {"completed": 4}
    assert records.send_s.max() - records.send_s.min() < 0.030


# ---- connections


def test_a_connection_closed_while_idle_is_reopened_and_no_failure(sim: Simulator) -> None:
    sim.set_faults("idle_close:0.05")
    run = run_load(plan(sim.url, conc=4, num_prompts=10, request_rate=10.0))
    assert kinds(run.records) == {"completed": 10}
    assert run.stats[0]["reopened"] > 0


def test_a_connection_that_dies_as_it_is_used_again_is_no_failure_and_not_in_ttft() -> None:
    def one_answer(conn: socket.socket) -> None:
        """Answers once, keeps the connection open, and drops it when the next request comes."""
        if read_request(conn) is not None:
            conn.sendall(chunked(*stream(["x"] * 8)))
            read_request(conn)

    with ScriptedServer(one_answer) as server:
        run = run_load(plan(server.url, conc=2, num_prompts=8))
        assert kinds(run.records) == {"completed": 8}
        assert server.connections == 8
        assert run.stats[0]["reopened"] == 6


@pytest.mark.slow
def test_a_request_that_is_lost_after_a_while_is_not_sent_again() -> None:
    def lose_the_second(conn: socket.socket) -> None:
        if read_request(conn) is not None:
            conn.sendall(chunked(*stream(["x"] * 8)))
            read_request(conn)
            time.sleep(2)

    with ScriptedServer(lose_the_second) as server:
        run = run_load(plan(server.url, conc=1, num_prompts=4))
    assert kinds(run.records) == {"completed": 2, "cut_off": 2}
    assert run.stats[0]["resent"] == 0


def test_requests_that_are_lost_at_once_are_counted(sim: Simulator) -> None:
    sim.set_faults("reset_before_headers:0.3")
    run = run_load(plan(sim.url, conc=4, num_prompts=60, num_warmups=8))
    assert run.stats[0]["resent"] > 5


def test_a_fresh_connection_that_dies_is_a_failure() -> None:
    def drop(conn: socket.socket) -> None:
        read_request(conn)

    with ScriptedServer(drop) as server:
        run = run_load(plan(server.url, conc=2, num_prompts=6))
        assert kinds(run.records) == {"cut_off": 6}
        assert "before any answer" in run.records.error[0]


def test_nobody_there_ends_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    run = run_load(plan(f"http://127.0.0.1:{port}", num_prompts=500))
    assert kinds(run.records) == {"connect": 500}
    assert "refused" in run.records.error[0]
    assert run.ending.kind is End.REFUSED
    assert "connections in a row failed" in run.ending.words
    assert np.isnan(run.records.ttft_s()).all()


def test_ipv6() -> None:
    with Simulator(replace(PACED, host="::1")) as six:
        assert kinds(run_load(plan(six.url)).records) == {"completed": 16}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 signed by itself, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")


def make_certificate(folder: Path, name: str) -> tuple[str, str]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test -keyout {key} -out {cert}"
    subprocess.run(["openssl", *words.split(), "-addext", f"subjectAltName={name}"], check=True, capture_output=True)
    return str(cert), str(key)


@pytest.fixture(scope="module")
def tls_sim(certificate: tuple[str, str]) -> Iterator[Simulator]:
    cert, key = certificate
    with Simulator(replace(PACED, tls_cert=cert, tls_key=key)) as running:
        yield running


def test_tls_by_a_proper_authority(
    tls_sim: Simulator, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    run = run_load(plan(tls_sim.url))
    assert kinds(run.records) == {"completed": 16}
    assert run.stats[0]["stamped"] is True
    assert run.records.ttft_s().min() > 0.039


def test_tls_by_nobody_is_refused_unless_insecure_is_said(tls_sim: Simulator) -> None:
    run = run_load(plan(tls_sim.url))
    assert set(kinds(run.records)) == {"connect"}
    assert "certificate verify failed" in run.records.error[0]
    assert kinds(run_load(plan(tls_sim.url, insecure=True)).records) == {"completed": 16}


def test_tls_of_another_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = make_certificate(tmp_path, "DNS:elsewhere.example")
    monkeypatch.setenv("SSL_CERT_FILE", cert)
    with Simulator(replace(PACED, tls_cert=cert, tls_key=key)) as other:
        run = run_load(plan(other.url, num_prompts=4))
    assert "IP address mismatch" in run.records.error[0]


# ---- ends before the end


@pytest.mark.parametrize(
    "faults, limits, kind, words",
    [
        (("stall_first_token",), {"first_token": 0.5}, "stalled", "no first token within 0.5 s (timeouts.first_token)"),
        (("slow_headers:1:30",), {"first_token": 0.5}, "stalled", "no first token within 0.5 s (timeouts.first_token)"),
        (("stall_mid_stream",), {"between_tokens": 0.5}, "stalled", "silent for 0.5 s in the stream (timeouts.between_tokens)"),
        (("stall_mid_stream", "not_chunked"), {"between_tokens": 0.5}, "stalled", "(timeouts.between_tokens)"),
        (("endless",), {"request": 0.6}, "stalled", "longer than 0.6 s (timeouts.request)"),
    ],
)  # fmt: skip
def test_each_timeout_is_named(
    sim: Simulator, faults: tuple[str, ...], limits: dict[str, float], kind: str, words: str
) -> None:
    sim.set_faults(*faults)
    records = run_load(plan(sim.url, num_prompts=4, **limits)).records
    assert kinds(records) == {kind: 4}
    assert words in records.error[0]


class Pinging:
    """Sends so many tokens, and then comments without end: a proxy before an engine that is stuck."""

    def __init__(self, tokens: int, ping: bytes = b": ping\n\n") -> None:
        self.tokens, self.ping = tokens, ping

    def __call__(self, conn: socket.socket) -> None:
        def send(part: bytes) -> None:
            conn.sendall(b"%x\r\n%b\r\n" % (len(part), part))

        while read_request(conn) is not None:
            conn.sendall(CHUNKED_HEAD)
            for part in stream(["x"] * 8)[: self.tokens]:
                send(part)
                time.sleep(0.2)
            while self.tokens < 10:
                send(self.ping)
                time.sleep(0.05)
            conn.sendall(b"0\r\n\r\n")


@pytest.mark.parametrize(
    "ping", [b": ping\n\n", b'event: ping\ndata: {"type":"ping"}\n\n', b'data: {"choices":[]}\n\n']
)
@pytest.mark.parametrize("tokens, words", [(0, "no first token within 0.9 s"), (2, "silent for 0.6 s in the stream")])
def test_comments_keep_no_request_alive(tokens: int, words: str, ping: bytes) -> None:
    with ScriptedServer(Pinging(tokens, ping)) as server:
        run = run_load(plan(server.url, conc=2, num_prompts=2, first_token=0.9, between_tokens=0.6, request=20.0))
    assert kinds(run.records) == {"stalled": 2}
    assert all(words in error for error in run.records.error.tolist())


def test_a_stream_whose_events_come_in_time_outlives_both_limits() -> None:
    with ScriptedServer(Pinging(10)) as server:  # 1.6 s of tokens
        run = run_load(plan(server.url, conc=2, num_prompts=2, first_token=1.0, between_tokens=1.0))
    assert kinds(run.records) == {"completed": 2}


def test_a_server_that_is_silent_on_all_streams_is_not_waited_for_again(sim: Simulator) -> None:
    """Otherwise each further request would wait as long: ten minutes, four at a time, for a stuck engine."""
    sim.set_faults("stall_first_token")
    run = run_load(plan(sim.url, conc=4, num_prompts=40, first_token=0.5))
    assert run.ending.kind is End.SILENT
    assert run.ending.words.startswith("4 requests in a row got no answer in time")
    assert kinds(run.records) == {"stalled": 4, "cancelled": 36}
    with pytest.raises(NotMeasured, match="warm-up: 4 requests in a row"):
        run_load(plan(sim.url, conc=4, num_prompts=40, num_warmups=8, first_token=0.5))


def test_some_that_stall_among_others_that_do_not_stop_nothing(sim: Simulator) -> None:
    sim.set_faults("stall_first_token:0.1")
    run = run_load(plan(sim.url, conc=16, num_prompts=80, first_token=0.5))
    assert run.ending == Ending()
    got = kinds(run.records)
    assert got["stalled"] >= 1
    assert got["stalled"] + got["completed"] == 80


@pytest.mark.slow
def test_timeouts_of_some_while_others_are_answered_stop_nothing() -> None:
    """Two slots for four streams, and long answers: those that wait time out again and again."""
    slow = SimSpec(max_num_seqs=2, base_ms=20.0, per_seq_us=0, per_ktoken_us=0, prefill_tok_per_s=1e6)
    with Simulator(slow) as server:
        run = run_load(plan(server.url, conc=4, num_prompts=12, osl=150, first_token=0.4))
    assert run.ending == Ending()
    assert kinds(run.records)["stalled"] >= 4
    assert kinds(run.records)["completed"] >= 2


def test_the_points_timeout_stops_it_all(sim: Simulator) -> None:
    sim.set_faults("stall_mid_stream")
    run = run_load(plan(sim.url, num_prompts=9, point=0.5))
    assert run.ending == Ending(End.TIME_UP, "the point took longer than 0.5 s")
    assert kinds(run.records) == {"cancelled": 9}
    assert np.isnan(run.records.send_s).sum() == 5


@pytest.mark.slow
def test_a_connection_that_is_never_accepted_times_out() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listener.getsockname()[1]
    fillers = []
    try:
        for _ in range(4):  # the queue of a listener that accepts nothing: then SYNs are dropped
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        run = run_load(plan(f"http://127.0.0.1:{port}", conc=2, num_prompts=4, connect=0.4))
        assert kinds(run.records) == {"stalled": 4}
        assert "connect: no connection within 0.4 s" in run.records.error[0]
    finally:
        listener.close()
        for filler in fillers:
            filler.close()


def test_a_server_that_is_gone_stops_a_run_and_what_was_measured_is_kept(sim: Simulator) -> None:
    before = sim.stats()["requests"]

    async def gone() -> str | None:
        return "the job has ended" if sim.stats()["requests"] - before > 8 else None

    run = run_load(plan(sim.url, conc=2, num_prompts=5000), gone=gone)
    assert run.ending == Ending(End.SERVER_GONE, "the job has ended")
    got = kinds(run.records)
    assert got["completed"] > 4
    assert got["completed"] + got["cancelled"] == 5000
    time.sleep(0.3)
    assert sim.stats().get("running", 0) == 0


async def cancelled_when(load: LoadPlan, when: Callable[[], bool]) -> tuple[LoadRun, int]:
    """A run whose task is cancelled when that is so, as a Ctrl-C does it; how often the task has been cancelled."""
    task = asyncio.create_task(team.run_load(load))
    while not when():
        await asyncio.sleep(0.05)
    task.cancel()
    return await task, task.cancelling()


def test_an_interrupt_ends_it_in_order_and_keeps_what_was_measured(sim: Simulator) -> None:
    before = sim.stats()["requests"]
    load = plan(sim.url, conc=2, num_prompts=5000)
    run, cancelling = asyncio.run(cancelled_when(load, lambda: sim.stats()["requests"] - before > 8))
    assert run.ending.kind is End.INTERRUPTED
    assert cancelling == 1, "the cancellation must stay known to the task"
    assert kinds(run.records)["completed"] > 4
    assert len(run.records) == 5000


def test_an_interrupt_before_the_start_leaves_no_process(sim: Simulator) -> None:
    load = plan(sim.url, isl=20_000, num_prompts=400)
    run, _ = asyncio.run(cancelled_when(load, lambda: bool(load_processes())))
    assert run.ending.kind is End.INTERRUPTED
    assert not kinds(run.records).get("completed")
    assert not load_processes()


def load_processes() -> list[str]:
    """Ids of the load processes that this one has started."""
    command = ["pgrep", "-P", str(os.getpid()), "-f", "load[.]worker"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


# what runs beside the load cannot hold it up


@pytest.mark.slow
@pytest.mark.parametrize("values", [False, True])
def test_what_hangs_beside_a_load_does_not_hold_up_the_timed_loop(values: bool) -> None:
    """The asker of the server's state waits, and the suite's own loop stands still: neither reaches the load."""

    async def gone() -> None:
        await asyncio.sleep(30)

    slept = []

    def show(progress: Progress) -> None:
        if progress.phase == "measure" and progress.done and not slept:
            slept.append(time.sleep(3.0))  # nothing reads the pipe meanwhile: the values of 3 s are more than it holds

    with Simulator(replace(PACED, ttft_ms=2, gap_ms=1, prefix_caching=False)) as quick:
        run = run_load(
            plan(quick.url, isl=16, osl=2, conc=64, num_prompts=10_000, report_values=values), gone=gone, show=show
        )
    assert kinds(run.records) == {"completed": 10_000}
    assert slept
    assert run.stats[0]["worst_pause_s"] < 2.5, "it stood as long as nobody read"  # 3 s; a busy machine alone: 1.6


def test_a_load_process_that_is_killed_is_told(sim: Simulator) -> None:
    sim.set_faults("stall_mid_stream")
    assert not load_processes()

    def kill() -> None:
        for _ in range(100):
            time.sleep(0.1)
            if found := load_processes():
                subprocess.run(["kill", "-9", found[0]], check=False)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(NotMeasured, match="ended with signal 9"):
        run_load(plan(sim.url))
    killer.join()


def test_what_the_others_have_measured_outlives_a_load_process(sim: Simulator) -> None:
    killed: list[str] = []

    def kill(progress: Progress) -> None:
        if progress.phase == "measure" and progress.done > 8 and not killed:
            killed.append(load_processes()[0])
            subprocess.run(["kill", "-9", killed[0]], check=False)

    run = run_load(plan(sim.url, conc=4, num_prompts=4000, workers=2), show=kill)
    assert killed
    assert run.ending.kind is End.LOST
    assert "ended with signal 9" in run.ending.words
    assert int(run.records.completed.sum()) > 0
    assert len(set(run.records.worker.tolist())) == 1


def test_what_the_plan_gets_wrong_comes_back_as_one_line(sim: Simulator) -> None:
    with pytest.raises(UsageError, match="vocab_size"):
        run_load(plan(sim.url, vocab_size=2, special_ids=(0, 1)))
    with pytest.raises(NotMeasured, match="could not be started"):
        run_load(plan(sim.url), launcher=[["/nowhere/srun"]])


# ---- truth


def test_what_is_reported_is_what_the_server_knows_to_be_true(tmp_path: Path) -> None:
    """p99 TTFT, TPOT and E2EL against the simulator's own log; a wide bound, for the machine is shared."""
    truth = tmp_path / "truth.jsonl"
    with Simulator(
        SimSpec(mode="paced", ttft_ms=150, gap_ms=10, ttft_jitter="uniform:50", truth_log=str(truth))
    ) as paced:
        records = run_load(plan(paced.url, conc=16, num_prompts=160, osl=16)).records
        paced.stats()
    rows = [json.loads(line) for line in truth.read_text().splitlines()]
    assert len(rows) == 160
    first = np.array([r["t_first_token"] - r["t_first_byte"] for r in rows]) / 1e9
    last = np.array([r["t_last_token"] - r["t_first_byte"] for r in rows]) / 1e9
    for reported, true in (
        (records.ttft_s(), first),
        (records.e2el_s(), last),
        (records.tpot_s(), (last - first) / 15),
    ):
        for q in (50, 99):
            assert np.percentile(reported, q) == pytest.approx(np.percentile(true, q), rel=0.02)
