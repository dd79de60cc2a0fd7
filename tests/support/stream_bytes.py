"""Bytes as servers write them, for tests of the parser: chunked, split anywhere, and streams made of given texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from bench_tests.load.worker.framing import Framing

FOLDER = Path(__file__).parent / "data" / "vllm_bytes"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
CHUNKED_HEAD = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def vllm(name: str) -> bytearray:
    """The bytes of one of vLLM's answers."""
    return bytearray((FOLDER / f"{name}.http").read_bytes())


def chunked(*parts: bytes, head: bytes = CHUNKED_HEAD) -> bytearray:
    """An answer whose body travels as these chunks."""
    return bytearray(head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts if p) + b"0\r\n\r\n")


def framed(raw: bytearray, cuts: Iterable[int] = ()) -> Framing:
    """The framing of an answer that was fed in pieces, cut at these offsets; it must be whole at its end alone."""
    framing, seen = Framing(), bytearray()
    whole = False
    edges = sorted({0, *cuts, len(raw)})
    for start, end in pairwise(edges):
        assert not whole, "whole before its last byte"
        seen += raw[start:end]
        whole = framing.feed(seen)
    assert whole
    return framing


def event(text: str, reason: str | None = None, usage: str = "", ascii_only: bool = False) -> bytes:
    """One completion event in vLLM's form."""
    said = json.dumps(text, ensure_ascii=ascii_only)
    why = "null" if reason is None else json.dumps(reason)
    return (
        b'data: {"id":"cmpl-1","object":"text_completion","created":1795289176,"model":"tiny","choices":[{"index":0,'
        b'"text":%b,"logprobs":null,"finish_reason":%b,"stop_reason":null}]%b}\n\n'
        % (said.encode("utf-8", "surrogatepass"), why.encode(), usage.encode())
    )


def usage_event(prompt: int, completion: int, extra: str = "") -> bytes:
    """The event that carries the usage alone."""
    return (
        b'data: {"id":"cmpl-1","choices":[],"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d%b}}\n\n'
        % (prompt, prompt + completion, completion, extra.encode())
    )


DONE = b"data: [DONE]\n\n"


def stream(texts: Sequence[str], *, ascii_only: bool = False, tokens: int | None = None) -> list[bytes]:
    """The events of an ordinary answer: texts, the last with its finish_reason, usage, [DONE]."""
    events = [event(t, None, ascii_only=ascii_only) for t in texts[:-1]]
    events.append(event(texts[-1], "length", ascii_only=ascii_only))
    return [*events, usage_event(8, len(texts) if tokens is None else tokens), DONE]
