"""What a streamed answer said: vLLM's own bytes, everything that differs from them, and the fast path against the slow."""

from __future__ import annotations

import json
import time
import tracemalloc
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.load.dialect.completions import COMPLETIONS
from bench_tests.load.records import KINDS
from bench_tests.load.worker.framing import BadFraming, Framing
from bench_tests.load.worker.sse import split_events
from bench_tests.load.worker.stream import Answer, _Reader, parse_answer
from tests.support.stream_bytes import CHUNKED_HEAD, DONE, HEAD, chunked, event, framed, stream, usage_event, vllm


def parse(raw: bytearray, cuts: tuple[int, ...] = ()) -> Answer:
    return parse_answer(raw, framed(raw, cuts))


def kind(answer: Answer) -> str:
    return KINDS[answer.kind]


def slowly(raw: bytearray) -> Answer:
    """The same, every event decoded by itself."""
    with patch.object(_Reader, "_in_bulk", lambda self, body: False):
        return parse(raw)


def facts(answer: Answer) -> tuple[object, ...]:
    return (
        kind(answer), answer.error, answer.ends.tolist(), answer.input_tokens, answer.output_tokens,
        answer.cached_tokens, answer.finish_reason, answer.text,
    )  # fmt: skip


# ---- vLLM's own bytes


def test_an_ordinary_stream() -> None:
    raw = vllm("usage")
    answer = parse(raw)
    assert (kind(answer), answer.error) == ("completed", "")
    assert (answer.input_tokens, answer.output_tokens, answer.finish_reason) == (8, 8, "length")
    assert len(answer.ends) == 8  # events with an empty text carry a choice too; usage and [DONE] do not
    for end in answer.ends.tolist():  # each offset is just behind the event's blank line, inside its chunk
        assert raw[end - 2 : end] == b"\n\n"
        assert raw[end : end + 2] == b"\r\n"


def test_usage_in_each_event_takes_the_last() -> None:
    answer = parse(vllm("continuous_usage"))
    assert (kind(answer), answer.input_tokens, answer.output_tokens, len(answer.ends)) == ("completed", 8, 4, 4)


def test_one_token() -> None:
    answer = parse(vllm("one_token"))
    assert (kind(answer), answer.output_tokens, len(answer.ends)) == ("completed", 1, 1)


def test_without_usage_the_text_is_kept_to_be_counted() -> None:
    answer = parse(vllm("no_usage"))
    assert (kind(answer), answer.output_tokens) == ("completed", -1)
    assert answer.text == 'mult constructor\n\t"quoted\\" 漢字🙂x end'


def test_an_error_event_in_a_stream_of_200_is_an_error() -> None:
    answer = parse(vllm("error_event"))
    assert kind(answer) == "error_event"
    assert "EngineCore encountered an issue" in answer.error


@pytest.mark.parametrize(
    "name, status, words", [("unauthorized", 401, "Unauthorized"), ("too_long", 400, "16384 tokens")]
)
def test_an_http_error_says_what_the_server_said(name: str, status: int, words: str) -> None:
    answer = parse(vllm(name))
    assert (kind(answer), answer.http_status) == ("http", status)
    assert words in answer.error


# ---- what is different from them


def changed(*events: bytes, head: bytes = CHUNKED_HEAD) -> Answer:
    return parse(chunked(*events, head=head))


TEXTS = ["a", "b", "", "c", "d"]


@pytest.mark.parametrize(
    "events, expected, words",
    [
        (stream(TEXTS)[:-2], "cut_off", "no [DONE]"),
        ([*stream(TEXTS)[:4], event("d"), *stream(TEXTS)[5:]], "cut_off", "no finish_reason"),
        ([usage_event(8, 0), DONE], "cut_off", "no event with a choice"),
        ([], "cut_off", "no event with a choice"),
        ([*stream(TEXTS)[:2], b"data: {broken\n\n", *stream(TEXTS)[2:]], "malformed", "{broken"),
        ([*stream(TEXTS)[:2], b'data: "text"\n\n', *stream(TEXTS)[2:]], "malformed", "no completion"),
        ([*stream(TEXTS)[:2], b'data: {"object":"error","message":"gone"}\n\n', *stream(TEXTS)[2:]], "error_event", "gone"),
        ([*stream(TEXTS)[:2], b'event: error\ndata: {"type":"error"}\n\n', *stream(TEXTS)[2:]], "error_event", ""),
        ([*stream(TEXTS)[:2], b"\xff\xfe\x00\x80garbage\n\n", *stream(TEXTS)[2:]], "completed", ""),  # no data: line
        ([*stream(TEXTS)[:2], b'data: {"error": "gone"}\n\n', *stream(TEXTS)[2:]], "error_event", "gone"),
        ([*stream(TEXTS)[:-2], usage_event(8, 2), DONE], "malformed", "4 events carried text"),
        ([*stream(TEXTS)[:-2], b'data: {"choices":[],"usage":{"completion_tokens":3}}\n\n', DONE], "malformed", "token counts"),
        ([*stream(TEXTS)[:-2], b'data: {"choices":[],"usage":[]}\n\n', DONE], "malformed", "token counts"),
        ([*stream(TEXTS)[:-2], usage_event(8, -1), DONE], "malformed", "token counts"),
        ([*stream(TEXTS)[:-2], usage_event(8, 10**30), DONE], "malformed", "token counts"),
    ],
)  # fmt: skip
def test_streams_that_are_not_right_say_why(events: list[bytes], expected: str, words: str) -> None:
    answer = changed(*events)
    assert kind(answer) == expected
    assert words in answer.error


def test_an_answer_of_more_tokens_than_events_is_well() -> None:
    answer = changed(*stream(TEXTS, tokens=17))
    assert (kind(answer), answer.output_tokens, len(answer.ends)) == ("completed", 17, 5)


def test_cached_tokens_are_read_where_they_are_told() -> None:
    details = ',"prompt_tokens_details":{"cached_tokens":16}'
    assert changed(*stream(TEXTS)[:-2], usage_event(32, 5, details), DONE).cached_tokens == 16
    assert changed(*stream(TEXTS)).cached_tokens == -1
    assert changed(*stream(TEXTS)[:-2], usage_event(32, 5, ',"prompt_tokens_details":null'), DONE).cached_tokens == -1


def test_crlf_comments_and_blanks_mean_nothing() -> None:
    plain = stream(TEXTS)
    noisy = [b": ping\n\n" + e.replace(b"data: ", b"event: x\nid: 1\ndata:") + b"\n" for e in plain]
    for events in (noisy, [e.replace(b"\n", b"\r\n") for e in plain], [e.replace(b"\n", b"\r") for e in plain]):
        answer = changed(*events)
        assert (kind(answer), answer.output_tokens, len(answer.ends)) == ("completed", 5, 5)
        raw = chunked(*events)
        for end in parse(raw).ends.tolist():
            assert bytes(raw[end - 1 : end]) in (b"\n", b"\r")


def test_an_event_may_have_several_data_lines() -> None:
    lines = b'data: {"choices":[{"text":"a",\ndata: "finish_reason":"stop"}],\ndata: "usage":null}\n\n'
    assert kind(changed(lines, usage_event(1, 1), DONE)) == "completed"


def test_without_chunks_the_close_ends_the_stream() -> None:
    raw = bytearray(HEAD + b"connection: close\r\n\r\n" + b"".join(stream(TEXTS)))
    framing = Framing()
    assert not framing.feed(raw)
    assert framing.closed(raw)
    answer = parse_answer(raw, framing)
    assert (kind(answer), len(answer.ends)) == ("completed", 5)


@pytest.mark.parametrize(
    "line, words",
    [(b"content-encoding: gzip\r\n", "gzip although identity"), (b"content-encoding: br\r\n", "br although")],
)
def test_a_compressed_stream_is_refused(line: bytes, words: str) -> None:
    answer = changed(*stream(TEXTS), head=HEAD + line + b"transfer-encoding: chunked\r\n\r\n")
    assert kind(answer) == "malformed"
    assert words in answer.error


@pytest.mark.parametrize(
    "line", [b"", b"content-type: text/plain; charset=utf-8\r\n", b"content-type: application/json\r\n"]
)
@pytest.mark.parametrize("before", [b"", b": ping\n\n", b"\xef\xbb\xbf", b"\n\n", b"event: message\n"])
def test_a_stream_of_events_is_one_whatever_its_type_is_called(line: bytes, before: bytes) -> None:
    parts = [before + event(" a"), event(" b", "length"), usage_event(4, 2), DONE]
    head = b"HTTP/1.1 200 OK\r\n" + line + b"transfer-encoding: chunked\r\n\r\n"
    answer = parse(chunked(*parts, head=head))
    assert (kind(answer), answer.error) == ("completed", "")
    assert (answer.output_tokens, len(answer.ends)) == (2, 2)


@pytest.mark.parametrize("coding", [b"identity", b"", b"Identity"])
def test_no_coding_is_none(coding: bytes) -> None:
    answer = changed(
        *stream(TEXTS), head=HEAD + b"content-encoding: " + coding + b"\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    assert kind(answer) == "completed"


@pytest.mark.parametrize("role", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_half_characters_count_beside_a_role_and_a_late_end(role: bool, late: bool) -> None:
    """Five tokens, two of them without text (characters that are not whole yet), and events that are no tokens around them."""
    if not (role or late):
        return
    texts = ["a", "", "b", "", "c"]
    parts = [event("")] * role + [event(t) for t in texts[:-1]] + [event("c", None if late else "length")]
    parts += [event("", "length")] * late
    raw = chunked(*parts, usage_event(8, 5), DONE)
    answer, slow = parse(raw), slowly(raw)
    assert facts(answer) == facts(slow)
    assert len(answer.ends) == 5
    behind = [raw.find(part, 200) for part in (b'"text":"a"', b'"text":"c"')]
    assert answer.ends[0] > behind[0] > 0, "the clock starts with the first token"
    assert behind[1] < answer.ends[-1] <= raw.find(b"\n\n", behind[1]) + 2, "and ends with the last"


@pytest.mark.parametrize(
    "data, words",
    [
        (b'{"message":"engine died"}', "engine died"),
        (b'{"error":{"message":"engine died"}}', "engine died"),
        (b"engine died", "engine died"),
        (b'{"detail":"gone"}', "gone"),
        (b"", "no words"),
    ],
)
def test_an_event_that_is_named_error_is_one(data: bytes, words: str) -> None:
    answer = parse(chunked(event(" a"), b"event: error\ndata: " + data + b"\n\n", DONE))
    assert kind(answer) == "error_event"
    assert words in answer.error


@pytest.mark.parametrize("none", [b"null", b"{}", b'""'])
def test_an_error_that_is_empty_is_none(none: bytes) -> None:
    parts = [
        event(t, reason).replace(b'"choices"', b'"error":' + none + b',"choices"')
        for t, reason in ((" a", None), (" b", "length"))
    ]
    answer = parse(chunked(*parts, usage_event(4, 2), DONE))
    assert (kind(answer), answer.error) == ("completed", "")


def test_lines_of_json_are_no_events() -> None:
    line = event(" a", "length")[6:-1]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = parse(chunked(line, line, head=head))
    assert kind(answer) == "malformed"
    assert "application/x-ndjson" in answer.error


def test_no_prompt_is_of_0_tokens() -> None:
    answer = parse(chunked(event(" a"), event(" b", "length"), usage_event(0, 2), DONE))
    assert (kind(answer), answer.input_tokens, answer.output_tokens) == ("completed", -1, 2)


def test_a_page_of_200_is_no_stream() -> None:
    page = b"<html><h1>Please log in</h1></html>"
    answer = parse(
        bytearray(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n%b" % (len(page), page))
    )
    assert kind(answer) == "malformed"
    assert "text/html" in answer.error
    assert "Please log in" in answer.error
    assert "<" not in answer.error


def test_retry_after_is_told() -> None:
    raw = bytearray(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n")
    assert "Retry-After 7" in parse(raw).error


def test_an_errors_words_are_few_and_on_one_line() -> None:
    said = json.dumps({"error": {"message": "x\ny" * 9000}}).encode()
    answer = parse(bytearray(b"HTTP/1.1 500 X\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said)))
    assert len(answer.error) <= 4096
    assert "\n" not in answer.error


# ---- which events carry a token


def ended(answer: Answer, events: list[bytes]) -> list[int]:
    """Which of the events (each in a chunk of its own) the answer counts as tokens."""
    raw, behind = chunked(*events), []
    at = raw.index(b"\r\n\r\n") + 4
    for e in events:
        at += len(b"%x" % len(e)) + 2 + len(e)
        behind.append(at)
        at += 2
    return [behind.index(end) for end in answer.ends.tolist()]


@pytest.mark.parametrize(
    "texts, tokens, counted",
    [
        (["", "a", "b", "c"], 3, [1, 2, 3]),  # a role, or an event that only opens the stream
        (["", "ab", "cd", "ef"], 6, [1, 2, 3]),  # the same where the server groups tokens
        (["ab", "cd", "ef", ""], 6, [0, 1, 2]),
        (["ab", "", "cd", "ef"], 7, [0, 1, 2, 3]),  # in between it can be a group without a whole character
        (["a", "b", "c", ""], 3, [0, 1, 2]),  # a finish_reason that comes later
        (["", "a", "b", "c", ""], 3, [1, 2, 3]),
        (["a", "", "b", "c"], 4, [0, 1, 2, 3]),  # a token that is no whole character yet
        (["", "a", "b", "c"], 4, [0, 1, 2, 3]),
        (["", "", ""], 3, [0, 1, 2]),
        (["", "", ""], 1, [0, 1, 2]),  # nothing tells which of them it is
        (["", "a", "b", "c", ""], None, [1, 2, 3]),  # nobody says how many
    ],
)
@pytest.mark.parametrize("repeated", [1, 20])
def test_an_event_that_is_no_token_starts_and_ends_no_latency(
    texts: list[str], tokens: int | None, counted: list[int], repeated: int
) -> None:
    """Repeated in the middle, so that the template reads the stream too."""
    middle = [f"x{i}" for i in range(repeated - 1)]
    whole = [*texts[:2], *middle, *texts[2:]]
    events = stream(whole, tokens=None if tokens is None else tokens + len(middle))
    if tokens is None:
        del events[-2]
    want = (
        [c for c in counted if c < 2] + list(range(2, 2 + len(middle))) + [c + len(middle) for c in counted if c >= 2]
    )
    if not any(texts) and tokens == 1 and middle:
        return  # then some have a text
    answer = changed(*events)
    assert kind(answer) == "completed"
    assert ended(answer, events) == want


@pytest.mark.parametrize("key", ["content", "reasoning", "reasoning_content"])
def test_a_chats_first_token_is_its_first_content_or_thinking(key: str) -> None:
    def chat(delta: dict[str, object], reason: str | None = None) -> bytes:
        return (
            b"data: "
            + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}).encode()
            + b"\n\n"
        )

    call = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}
    events = [chat({"role": "assistant", "content": ""}), chat({key: "a"}), chat(call), chat({}, "stop")]
    answer = changed(*events, usage_event(8, 2), DONE)
    assert kind(answer) == "completed"
    assert ended(answer, events) == [1, 2]


# ---- as tolerant as nothing is lost by it


def without(*keys: str) -> list[bytes]:
    """A stream whose choices lack these keys wherever they say nothing."""
    events = []
    for e in stream(TEXTS)[:-2]:
        said = json.loads(e[6:])
        choice = said["choices"][0]
        for key in keys:
            if not choice.get(key):
                choice.pop(key, None)
        events.append(b"data: " + json.dumps(said).encode() + b"\n\n")
    return [*events, *stream(TEXTS)[-2:]]


def pretty(events: list[bytes], line_end: bytes) -> list[bytes]:
    """Each event's JSON over several data lines."""
    out = []
    for e in events:
        text = e[6:-2] if e == DONE else json.dumps(json.loads(e[6:]), indent=1).encode()
        out.append(b"".join(b"data: " + line + line_end for line in text.split(b"\n")) + line_end)
    return out


@pytest.mark.parametrize(
    "events",
    [
        without("finish_reason"),
        without("text"),
        without("finish_reason", "text", "index"),
        pretty(stream(TEXTS), b"\n"),
        pretty(stream(TEXTS), b"\r\n"),
        pretty(stream(TEXTS), b"\r"),
        [b"\xef\xbb\xbf", *stream(TEXTS)],
        [*stream(TEXTS)[:-1], b"data: [DONE] \n\n"],
        [*stream(TEXTS)[:-1], b"data:\t[DONE]\n\n"],
        [*stream(TEXTS)[:-1], b"data: [DONE]\n"],
        [*stream(TEXTS)[:-1], b"data: [DONE]"],
        stream(TEXTS)[:-1],  # finish_reason and usage were there: nothing can be missing
        [*stream(TEXTS)[:-2], b'data: {"usage":{"prompt_tokens":8,"completion_tokens":5}}\n\n', DONE],
        [
            *stream(TEXTS)[:-2],
            b'data: {"choices":null,"usage":{"prompt_tokens":8.0,"completion_tokens":5.0}}\n\n',
            DONE,
        ],
        [b'event: ping\ndata: {"type":"ping"}\n\n', *stream(TEXTS)],
        [b"data:\n\n", *stream(TEXTS)],  # no data, no event
        [b'data: {"choices":[],"prompt_filter_results":[{}],"usage":null}\n\n', *stream(TEXTS)],
    ],
)
def test_what_loses_nothing_is_no_failure(events: list[bytes]) -> None:
    answer = changed(*events)
    assert (kind(answer), answer.error) == ("completed", "")
    assert (answer.input_tokens, answer.output_tokens, len(answer.ends)) == (8, 5, 5)


@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=9), bom=st.booleans(), line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]), over_lines=st.booleans(), comments=st.booleans(), cuts=st.lists(st.integers(1, 900), max_size=9))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_how_a_stream_is_written_changes_nothing_of_what_it_says(
    texts: list[str], bom: bool, line_end: bytes, over_lines: bool, comments: bool, cuts: list[int]
) -> None:
    plain = stream(texts, ascii_only=True)
    written = pretty(plain, line_end) if over_lines else [e.replace(b"\n", line_end) for e in plain]
    if comments:
        written = [part for e in written for part in (b": ping" + line_end * 2, e)]
    body = b"\xef\xbb\xbf" * bom + b"".join(written)
    usual, odd = parse(chunked(*plain)), parse(chunked(*_cut(body, cuts)))
    assert facts(odd)[:2] == facts(usual)[:2]
    assert facts(odd)[3:] == facts(usual)[3:]
    assert len(odd.ends) == len(usual.ends)


# ---- the fast path says what the slow one says

text = st.text(
    st.characters(codec="utf-8") | st.sampled_from(list('"\\\n\r\t\0{}[],:🙂漢\x7f\u2028')), max_size=8
) | st.sampled_from(["", "data: ", "\n\n", '"}', '","finish_reason":"stop"', "[DONE]", "\\u0041", "\\"])
odd = st.sampled_from(
    [
        b": comment\n\n", b"\n", b"data: {broken\n\n", b"data: [DONE]\n\n", b'data: {"error":"e"}\n\n', b"\xff\xfe\n\n",
        b"data: 1\n\n", usage_event(3, 3), event("z", "stop"), event("two\ufffdfold", None, ',"usage":null'),
        event("\ud800", ascii_only=True), event("\ud83d\ude42", ascii_only=True), event("x").replace(b'"x"', b"7"),
        event("x").replace(b'"x"', b"null"), event("raw").replace(b"raw", b"r\xffw"), event("raw").replace(b"raw", b"r\x01w"),
        event("a").replace(b"cmpl-1", b"cmpl-2"), event("u", None, ',"usage":{"prompt_tokens":8,"completion_tokens":1}'),
        event("crlf").replace(b"\n", b"\r\n"), b'data: {"choices":[{"text":"x"}]}\n\n', b"data:" + event("tight")[6:],
    ]
)  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    texts = draw(st.lists(text, min_size=1, max_size=12))
    events = stream(texts, ascii_only=draw(st.booleans()), tokens=draw(st.none() | st.integers(0, 40)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        events.insert(draw(st.integers(0, len(events))), draw(odd))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1]))):
        del events[draw(st.integers(0, len(events) - 1))]
    return events


@given(events=streams(), cuts=st.lists(st.integers(0, 4000), max_size=10), joined=st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_template_says_what_each_event_says(events: list[bytes], cuts: list[int], joined: bool) -> None:
    raw = chunked(b"".join(events)) if joined else chunked(*events)
    fast = parse(raw, tuple(c for c in cuts if c < len(raw)))
    assert facts(fast) == facts(slowly(raw))


def test_the_template_is_what_reads_an_ordinary_stream() -> None:
    """Otherwise the test above compares the slow path with itself."""
    body = b"".join(stream([f"t{i}" for i in range(50)]))
    assert _Reader(Answer(), COMPLETIONS)._in_bulk(body)


@given(body=st.binary(max_size=400) | st.lists(odd, max_size=6).map(b"".join), status=st.sampled_from([200, 200, 404]))
@settings(max_examples=100, deadline=None)
def test_no_body_makes_the_parser_raise(body: bytes, status: int) -> None:
    raw = chunked(body, head=CHUNKED_HEAD.replace(b"200", b"%d" % status))
    answer = parse(raw)
    assert answer.error or kind(answer) == "completed"


@given(value=st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", "choices", "text", "error", "usage", "finish_reason"]), c, max_size=5), max_leaves=12))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_no_json_makes_the_parser_raise(value: object) -> None:
    said = json.dumps(value).encode()
    answer = changed(
        *stream(TEXTS)[:-2], b'data: {"choices":[],"usage":' + said + b"}\n\n", b"data: " + said + b"\n\n", DONE
    )
    assert -1 <= answer.output_tokens < 2**62
    assert isinstance(answer.error, str)


@given(cuts=st.lists(st.integers(1, 900), max_size=30))
@settings(max_examples=100, deadline=None)
def test_events_are_found_however_the_segments_fall(cuts: list[int]) -> None:
    raw = chunked(*stream(["a", "é漢🙂", "", "\n", "e"]))
    pieces = chunked(*[bytes(p) for p in _cut(b"".join(stream(["a", "é漢🙂", "", "\n", "e"])), cuts)])
    a, b = parse(raw), parse(pieces)
    assert facts(a)[3:] == facts(b)[3:]
    assert len(a.ends) == len(b.ends) == 5
    assert np.all(np.diff(b.ends) > 0)


def _cut(body: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, *[c for c in cuts if c < len(body)], len(body)})
    return [body[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_huge_text_is_read_in_little_time_and_memory(place: int) -> None:
    texts = ["a", "b", "c", "d"]
    texts[place] = "x" * 10_000_000
    raw = chunked(*stream(texts))
    framing = framed(raw)
    tracemalloc.start()
    started = time.process_time()
    answer = parse_answer(raw, framing)
    assert (kind(answer), len(answer.ends)) == ("completed", 4)
    assert time.process_time() - started < 2
    assert tracemalloc.get_traced_memory()[1] < 400e6
    tracemalloc.stop()


def test_split_events_gives_the_offset_behind_each_blank_line() -> None:
    body = b"data: a\n\n: c\n\ndata: b\ndata: c\n\ndata: not ended"
    assert split_events(body) == [(9, b"a"), (31, b"b\nc")]
    with pytest.raises(BadFraming):
        Framing().feed(bytearray(b"nonsense"))
