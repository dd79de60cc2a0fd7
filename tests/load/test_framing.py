"""Where an answer ends: chunks, lengths and closed connections, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.load.worker.framing import BadFraming, Framing
from tests.support.stream_bytes import CHUNKED_HEAD, HEAD, chunked, framed, vllm

NAMES = ("usage", "no_usage", "continuous_usage", "one_token", "error_event", "unauthorized", "too_long")


def body(raw: bytearray, framing: Framing) -> bytes:
    return b"".join(bytes(raw[a:b]) for a, b in framing.edges.tolist())


@pytest.mark.parametrize("name", NAMES)
def test_vllms_bytes_end_at_their_last_byte_wherever_they_are_cut(name: str) -> None:
    raw = vllm(name)
    whole = framed(raw)
    for cut in range(1, len(raw)):
        framing = framed(raw, [cut])
        assert framing.edges.tolist() == whole.edges.tolist()
    byte_by_byte = framed(raw, range(len(raw)))
    assert byte_by_byte.edges.tolist() == whole.edges.tolist()
    assert byte_by_byte.status == whole.status


def test_a_length_ends_an_answer_and_nothing_of_the_next_is_taken() -> None:
    raw = vllm("unauthorized")
    framing = framed(raw)
    assert (framing.status, body(raw, framing), framing.keep_alive) == (401, b'{"error":"Unauthorized"}', True)
    more = raw + b"HTTP/1.1 200 OK"
    follow = Framing()
    assert follow.feed(more)
    assert follow.pos == len(raw)


@pytest.mark.parametrize("coding", [b"Chunked", b"identity, chunked", b" chunked ,"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_ways_to_say_that_a_body_comes_in_chunks(coding: bytes, end: bytes) -> None:
    head = end.join([b"HTTP/1.1 200 OK", b"content-type: text/event-stream", b"transfer-encoding:" + coding, b"", b""])
    raw = chunked(b"data: x\n\n", b"data: y\n\n", head=head)
    for cut in range(1, len(raw)):
        framing = framed(raw, [cut])
        assert (framing.status, body(raw, framing)) == (200, b"data: x\n\ndata: y\n\n")


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip", b"chunked, chunked"])
def test_a_coding_that_nobody_asked_for_is_named_at_once(coding: bytes) -> None:
    raw = chunked(b"data: x\n\n", head=HEAD + b"transfer-encoding: " + coding + b"\r\n\r\n")
    with pytest.raises(BadFraming, match=coding.decode()):
        Framing().feed(raw)


def test_without_length_or_chunks_the_close_ends_it() -> None:
    raw = bytearray(HEAD + b"connection: close\r\n\r\ndata: x\n\n")
    framing = Framing()
    assert not framing.feed(raw)
    assert not framing.keep_alive
    assert framing.closed(raw)
    assert body(raw, framing) == b"data: x\n\n"


@pytest.mark.parametrize("cut", [10, 120, -1, -4, -6, -30])
def test_a_close_within_chunks_or_head_is_no_end(cut: int) -> None:
    raw = vllm("usage")[:cut]
    framing = Framing()
    assert not framing.feed(raw)
    assert not framing.closed(raw)


def test_a_close_before_the_length_is_no_end() -> None:
    raw = vllm("too_long")[:-1]
    framing = Framing()
    assert not framing.feed(raw)
    assert not framing.closed(raw)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_ends_with_its_head(status: int) -> None:
    assert framed(bytearray(b"HTTP/1.1 %d X\r\n\r\n" % status)).status == status


def test_a_provisional_answer_is_passed_over() -> None:
    raw = bytearray(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n") + vllm("unauthorized")
    assert framed(raw).status == 401
    assert framed(raw, range(len(raw))).status == 401


@pytest.mark.parametrize(
    "head, keeps",
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n", True),
    ],
)
def test_whether_the_connection_can_carry_another_request(head: bytes, keeps: bool) -> None:
    assert framed(bytearray(head + b"Content-Length: 2\r\n\r\nok")).keep_alive is keeps


def test_chunks_may_have_extensions_trailers_and_crlf_inside() -> None:
    raw = bytearray(CHUNKED_HEAD + b"5;a=b\r\nab\r\nc\r\n3\r\n0\r\n\r\n0\r\nx-trailer: 1\r\n\r\n")
    framing = framed(raw)
    assert body(raw, framing) == b"ab\r\nc0\r\n"
    assert framed(raw, range(len(raw))).edges.tolist() == framing.edges.tolist()


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 OK 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20000,
        CHUNKED_HEAD + b"zz\r\nab\r\n",
        CHUNKED_HEAD + b"-5\r\nab\r\n",
        CHUNKED_HEAD + b"2\r\nabc\r\n",
        CHUNKED_HEAD + b"1" * 5000,
    ],
)
def test_what_is_not_http_is_said_to_be_bad(raw: bytes) -> None:
    with pytest.raises(BadFraming):
        Framing().feed(bytearray(raw))


@given(
    parts=st.lists(
        st.binary(min_size=1, max_size=40) | st.sampled_from([b"\r\n", b"0\r\n\r\n", b"a\r\n0\r\n\r\n"]), max_size=12
    ),
    cuts=st.lists(st.integers(0, 900), max_size=20),
)
@settings(max_examples=100, deadline=None)
def test_any_chunks_cut_anywhere_give_the_same_body(parts: list[bytes], cuts: list[int]) -> None:
    raw = chunked(*parts)
    assert body(raw, framed(raw, [c for c in cuts if c < len(raw)])) == b"".join(parts)
    assert body(raw, framed(raw)) == b"".join(parts)


@given(junk=st.binary(max_size=300), cuts=st.lists(st.integers(0, 400), max_size=8), headed=st.booleans())
@settings(max_examples=100, deadline=None)
def test_no_bytes_raise_anything_but_bad_framing(junk: bytes, cuts: list[int], headed: bool) -> None:
    raw = CHUNKED_HEAD + junk if headed else junk
    framing, seen, start = Framing(), bytearray(), 0
    try:
        for cut in [*sorted(cuts), len(raw)]:
            seen += raw[start:cut]
            start = max(start, cut)
            framing.feed(seen)
        framing.closed(seen)
    except BadFraming:
        pass
    assert framing.edges.shape[1] == 2
