"""From bytes and stamps to a row: whose arrival an event has, what is uncertain of it, and what counts as completed."""

from __future__ import annotations

from array import array
from dataclasses import fields

import numpy as np
import pytest

from bench_tests.load.records import KINDS, Records
from bench_tests.load.requests import Request
from bench_tests.load.worker.framing import BadFraming, Framing
from bench_tests.load.worker.spool import Spool
from bench_tests.load.worker.tally import Raw, Tally
from tests.support.stream_bytes import DONE, chunked, event, stream, usage_event, vllm

ZERO = 1_795_289_176_000_000_000  # a date: a float would hold it to 200 ns only
MS = 1_000_000


def raw_of(
    data: bytearray,
    cuts: list[int] | None = None,
    at_ms: list[float] | None = None,
    *,
    osl: int = 8,
    failure: tuple[str, str] | None = None,
    stamped: bool = True,
    measured: bool = True,
    polls_ms: list[float] | None = None,
) -> Raw:
    """One request, sent at ZERO, whose bytes came in reads that end at `cuts`, at these milliseconds."""
    ends = array("q", [*(cuts or []), len(data)])
    times = [ZERO + int(t * MS) for t in (at_ms or [10.0 * (i + 1) for i in range(len(ends))])]
    stamps = array("q", [part for t in times for part in divmod(t, 1_000_000_000)] if stamped else [])
    polls = array("q", [ZERO + int(t * MS) for t in polls_ms] if polls_ms else [t - MS for t in times])
    framing, seen, start = Framing(), bytearray(), 0
    for end in ends:
        seen += data[start:end]
        start = end
        try:
            framing.feed(seen)
        except BadFraming as why:
            failure = failure or ("malformed", str(why))
    reads = array("q", [t + MS // 2 for t in times])
    return Raw(Request(0, 0, 0, 8, osl, measured), ZERO, ZERO, 0.0, data, framing, ends, stamps, reads, polls, failure)


def rows(*raws: Raw, ignore_eos: bool = True, secret: str | None = None) -> Records:
    tally = Tally(ignore_eos, 3, (secret,) if secret else ())
    for raw in raws:
        tally.add(raw)
    return tally.records(ZERO)


def kinds(records: Records) -> list[str]:
    return [KINDS[k] for k in records.kind.tolist()]


def event_offsets(data: bytearray) -> list[int]:
    """Behind the chunk of each event."""
    found, at = [], data.find(b"\r\n\r\n") + 4
    while (at := data.find(b"\n\n\r\n", at)) >= 0:
        at += 4
        found.append(at)
    return found


def test_each_event_has_the_stamp_of_the_read_that_completes_it() -> None:
    data = vllm("usage")
    cuts = event_offsets(data)[:8]
    got = rows(raw_of(data, cuts, [200, 220, 240, 260, 280, 300, 320, 340, 341]))
    assert kinds(got) == ["completed"]
    assert got.ttft_s()[0] == pytest.approx(0.200, abs=1e-9)
    assert got.e2el_s()[0] == pytest.approx(0.340, abs=1e-9)
    assert got.tpot_s()[0] == pytest.approx(0.140 / 7, abs=1e-9)
    np.testing.assert_allclose(got.itl_s(got.completed), [0.02] * 7, atol=1e-9)
    assert (got.input_tokens[0], got.output_tokens[0], got.events[0]) == (8, 8, 8)
    assert got.lag_s[0] == pytest.approx(0.0005)
    assert got.first_blur_s[0] == got.last_blur_s[0] == 0


def test_an_event_that_is_split_arrives_with_its_last_byte() -> None:
    data = vllm("usage")
    first = event_offsets(data)[0]
    got = rows(raw_of(data, [first - 60, first - 3, first + 10], [100, 150, 175, 300]))
    # its blank line is whole only in the third read: the second ends between the two LFs
    assert got.ttft_s()[0] == pytest.approx(0.175)


def test_merged_reads_leave_the_first_event_uncertain_back_to_the_last_look() -> None:
    data = vllm("usage")
    second = event_offsets(data)[1]
    got = rows(raw_of(data, [second], [230, 400], polls_ms=[205, 399]))
    assert got.ttft_s()[0] == pytest.approx(0.230)
    assert got.first_blur_s[0] == pytest.approx(0.025)


def test_events_of_one_read_may_have_waited_since_the_loop_last_found_nothing() -> None:
    data = vllm("usage")
    cuts = [event_offsets(data)[0], event_offsets(data)[3]]
    assert rows(raw_of(data, cuts, [200, 260, 340], polls_ms=[199, 230, 339])).lag_s[0] == pytest.approx(0.0305)
    # the read before shows that nothing was there until then
    assert rows(raw_of(data, cuts, [200, 260, 340], polls_ms=[199, 150, 339])).lag_s[0] == pytest.approx(0.0605)


def test_without_kernel_stamps_the_reads_time_counts_and_is_uncertain() -> None:
    data = vllm("usage")
    first = event_offsets(data)[0]
    got = rows(raw_of(data, [first], [200, 400], stamped=False, polls_ms=[199, 399]))
    assert got.ttft_s()[0] == pytest.approx(0.2005)
    assert got.first_blur_s[0] == pytest.approx(0.0015)


@pytest.mark.parametrize(
    "tokens, ignore_eos, reason, expected",
    [
        (5, True, "length", "completed"),
        (4, True, "length", "short"),
        (4, True, "stop", "short"),
        (4, False, "stop", "completed"),
        (4, False, "eos_token", "completed"),  # the same in TGI's words
        (4, False, "abort", "short"),
        (4, False, "content_filter", "short"),
        (4, False, "length", "short"),  # cut short by the context
        (6, True, "length", "short"),
        (6, False, "stop", "short"),
    ],
)
def test_a_request_completes_with_the_tokens_that_were_asked_for(
    tokens: int, ignore_eos: bool, reason: str, expected: str
) -> None:
    events = [event(t) for t in "ab"] + [event("c", reason), usage_event(8, tokens), DONE]
    got = rows(raw_of(chunked(*events), osl=5), ignore_eos=ignore_eos)
    assert kinds(got) == [expected]
    assert (f"{tokens} output tokens of 5" in got.error[0]) is (expected == "short")


def test_a_cut_stream_keeps_what_it_had_said_and_an_error_event_outranks_the_cut() -> None:
    cut = vllm("usage")[: event_offsets(vllm("usage"))[4]]
    broken = vllm("error_event")[: event_offsets(vllm("error_event"))[3]]
    lost = ("cut_off", "connection lost after 99 bytes")
    raws = [raw_of(cut, [400], failure=lost), raw_of(broken, [400], failure=lost)]
    for raw in raws:  # as the loop leaves them: it has walked the first read alone
        raw.framing = Framing()
        raw.framing.feed(raw.buf[:400])
    got = rows(*raws)
    assert kinds(got) == ["cut_off", "error_event"]
    assert got.events.tolist() == [4, 3]  # without usage, those with text
    assert "EngineCore" in got.error[1]
    assert not got.completed.any()


def test_several_choices_are_named_as_what_makes_an_answer_too_long() -> None:
    second = event("b", "length").replace(b'"index":0', b'"index":1')
    got = rows(raw_of(chunked(event("a", "length"), second, usage_event(8, 2), DONE), osl=1))
    assert kinds(got) == ["short"]
    assert "several choices" in got.error[0]


def test_bytes_behind_the_end_are_malformed() -> None:
    data = vllm("usage")
    raw = raw_of(data)
    raw.framing = Framing()
    raw.framing.feed(data[:300])
    data += b"HTTP/1.1 200 OK\r\n\r\n\r\n0\r\n\r\n"
    assert kinds(rows(raw)) == ["malformed"]


def test_warm_ups_are_marked_and_not_counted() -> None:
    tally = Tally(True, 0)
    tally.add(raw_of(vllm("usage"), measured=False))
    tally.add(raw_of(vllm("usage")))
    assert (tally.completed, tally.failed, tally.records(ZERO).measured.tolist()) == (1, 0, [False, True])


def test_answers_without_usage_are_left_to_the_tokenizer() -> None:
    tally = Tally(True, 0)
    tally.add(raw_of(vllm("no_usage")))
    tally.add(raw_of(vllm("no_usage")))
    assert [row for row, *_ in tally.uncounted] == [0, 1]
    tally.recount(1, 8)
    assert tally.records(ZERO).output_tokens.tolist() == [-1, 8]


def test_records_that_no_longer_fit_in_memory_are_the_same() -> None:
    raws = [raw_of(vllm("usage"), at_ms=[200.0 + i]) for i in range(20)]
    raws.append(raw_of(bytearray(), failure=("cut_off", "gone")))
    spilled = Tally(True, 3)
    spilled.kept, spilled.events = Spool(300), Spool(100)
    for raw in raws:
        spilled.add(raw)
    got, usual = spilled.records(ZERO), rows(*raws)
    for column in fields(Records):
        np.testing.assert_array_equal(getattr(got, column.name), getattr(usual, column.name))


def test_never_sent_has_no_times() -> None:
    raw = raw_of(bytearray(), failure=("cancelled", "not sent: stopped"))
    raw.send_ns, raw.ends, raw.stamps, raw.reads, raw.polls = 0, array("q"), array("q"), array("q"), array("q")
    got = rows(raw)
    assert np.isnan([got.send_s[0], got.first_s[0], got.last_s[0], got.ttft_s()[0]]).all()
    assert got.scheduled_s[0] == 0
    assert got.error[0] == "not sent: stopped"


def test_what_a_sequential_judge_is_told() -> None:
    """No TPOT where there is none, or none yet: an answer without usage is counted when the run is over."""
    tally = Tally(True, 0)
    for raw in (
        raw_of(vllm("usage")),
        raw_of(vllm("no_usage")),
        raw_of(chunked(*stream(["a"])), osl=1),
        raw_of(bytearray(), failure=("stalled", "silent")),
    ):
        tally.add(raw)
    ttft, tpot = zip(*[told[1:] for told in tally.outcomes], strict=True)
    assert [t is None for t in ttft] == [False, False, False, True]
    assert [t is None for t in tpot] == [False, True, True, True]


def test_a_key_that_the_server_repeats_is_not_kept() -> None:
    words = "invalid key sk-secret-123, headers: Bearer sk-secret-123"
    said = b'{"error":"%b"}' % words.encode()
    raw = bytearray(b"HTTP/1.1 401 X\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))
    got = rows(raw_of(raw), secret="sk-secret-123")
    assert "invalid key" in got.error[0]
    assert "secret" not in got.error[0]
    streamed = chunked(*stream(["a", "b"])[:1], b'data: {"error":"no sk-secret-123"}\n\n', DONE)
    assert "secret" not in rows(raw_of(streamed), secret="sk-secret-123").error[0]


def test_no_request_gives_empty_records() -> None:
    assert len(rows()) == 0


# ---- how the events arrived


def eight(at_ms: list[float], reads: list[int], polls_ms: list[float] | None = None) -> Records:
    """An answer of eight events whose reads hold so many of them, at these milliseconds; the rest with the last."""
    data = chunked(*stream([f"t{i}" for i in range(8)]))
    behind = event_offsets(data)
    cuts, seen = [], 0
    for count in reads[:-1]:
        seen += count
        cuts.append(behind[seen - 1])
    return rows(raw_of(data, cuts, at_ms, polls_ms=polls_ms))


def test_events_that_came_one_by_one_have_a_moment_each() -> None:
    got = eight([100 + 20 * i for i in range(8)], [1] * 8)
    assert (got.events[0], got.moments[0]) == (8, 8)


def test_events_that_came_together_have_one_moment() -> None:
    assert eight([240], [8]).moments[0] == 1  # the loop had looked a millisecond before: they can't have waited here
    assert eight([100, 180], [4, 4]).moments[0] == 2
    assert eight([100, 240], [1, 7]).moments[0] == 2


def test_what_the_client_may_have_merged_is_not_called_gathered() -> None:
    """The loop had not looked for so long that these events may have come one by one, 20 ms apart."""
    assert eight([160, 240], [4, 4], [95, 165]).moments[0] == 8
    assert eight([160, 240], [4, 4], [95, 239]).moments[0] == 5  # the first four only
    assert eight([240], [8], [20]).moments[0] == 8


def test_an_answer_is_in_flight_until_its_last_byte() -> None:
    data = chunked(*stream([f"t{i}" for i in range(8)]))
    last_event = event_offsets(data)[7]
    got = rows(raw_of(data, [last_event], [200, 240]))
    assert got.last_s[0] == pytest.approx(0.2)
    assert got.end_s[0] == pytest.approx(0.24)
    assert np.isnan(rows(raw_of(bytearray(), failure=("cut_off", "gone"))).end_s[0])


@pytest.mark.parametrize(
    "reason, counted, expected",
    [
        ("stop", 4, "short"),
        ("stop", 8, "completed"),
        ("length", 4, "short"),
        ("length", 7, "completed"),
        ("length", 12, "short"),
    ],
)
def test_counted_answers_are_held_to_the_asked_length(reason: str, counted: int, expected: str) -> None:
    """A text may be cut into other tokens than it was made of: where the server says that it was cut off, one more or less."""
    tally = Tally(True, 0)
    tally.add(raw_of(chunked(*[event(f"t{i}", None) for i in range(7)], event("t7", reason), DONE)))
    tally.recount(0, counted)
    got = tally.records(ZERO)
    assert (kinds(got), got.output_tokens.tolist()) == ([expected], [counted])
    assert ("counted by the tokenizer" in str(got.error[0])) == (expected == "short")


def test_an_open_loops_latency_is_told_from_the_scheduled_time() -> None:
    raw = raw_of(vllm("usage"), at_ms=[200.0])
    raw.due_ns -= 50 * MS
    for from_due, ttft in ((False, 0.2), (True, 0.25)):
        tally = Tally(True, 0, from_due=from_due)
        tally.add(raw)
        assert tally.outcomes[0][1] == pytest.approx(ttft)
