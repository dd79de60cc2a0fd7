"""The key is found in what is written, also as JSON writers escape it, and nothing else is."""

from __future__ import annotations

import itertools
import json

import pytest

from bench_tests.load.worker.framing import Framing
from bench_tests.masking import masked
from tests.load.test_tally import kinds, raw_of, rows
from tests.support.stream_bytes import vllm

KEY = "s3cret+key/ab.c=="


@pytest.mark.parametrize(
    "said",
    [KEY, KEY.replace("/", "\\/"), KEY.replace("+", "\\u002b").replace("=", "\\u003D"), "".join(f"\\u{ord(c):04x}" for c in KEY)],
)  # fmt: skip
def test_escaped_or_not(said: str) -> None:
    assert masked(f"key: {said}!", KEY) == "key: ***!"


def test_nothing_else() -> None:
    assert masked("s3cret+key/abxc==", KEY) == "s3cret+key/abxc=="
    assert masked("anything", None) == masked("anything", "") == "anything"


def answer(body: bytes, *, cuts: tuple[int, ...] = ()) -> bytearray:
    """HTTP 401 with that body, in chunks that end at `cuts`."""
    edges = [0, *cuts, len(body)]
    chunks = [body[a:b] for a, b in itertools.pairwise(edges)]
    head = b"HTTP/1.1 401 X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    return bytearray(head + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n")


def test_no_way_of_saying_it_leaves_it_in_the_records() -> None:
    plain = json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()
    within = plain.index(b"key/")
    told = [
        answer(plain),
        answer(plain, cuts=(within,)),
        answer(plain.replace(b"+", b"\\u002b")),
        answer(f"not JSON: {KEY}".encode(), cuts=(15,)),
        answer(json.dumps({"error": "x" * 285 + KEY}).encode()),  # where an error's words are cut
    ]
    assert Framing().feed(told[0])
    got = rows(*[raw_of(raw) for raw in told], secret=KEY)
    for words in got.error:
        assert "HTTP 401" in words
        assert "s3cret" not in words
        assert len(words) <= 300


@pytest.mark.parametrize("placeholder", ["x", "token", "1", "data"])
def test_a_placeholder_costs_no_answer(placeholder: str) -> None:
    got = rows(raw_of(vllm("usage")), secret=placeholder)
    assert (kinds(got), got.output_tokens[0]) == (["completed"], 8)
