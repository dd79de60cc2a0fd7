"""What each endpoint is sent, and which of its events count: roles, thinking, content, tool calls."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.load.dialect.base import ANSWER, NOTHING, THINKING
from bench_tests.load.dialect.chat import CHAT
from bench_tests.load.dialect.completions import COMPLETIONS
from bench_tests.load.records import KINDS
from bench_tests.load.worker import stream as stream_module
from bench_tests.load.worker.stream import Answer, _Reader, parse_answer
from tests.support.stream_bytes import DONE, chunked, framed, usage_event

ROLE = {"role": "assistant", "content": ""}
CALL = {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]}
MORE = {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}


def chat_event(delta: dict[str, Any] | None, reason: str | None = None) -> bytes:
    """In vLLM's form."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, "token_ids": None}
    said = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}
    return b"data: " + orjson.dumps(said) + b"\n\n"


def parsed(*deltas: dict[str, Any], tokens: int, details: str = "") -> tuple[Answer, list[int]]:
    """The answer of these deltas, the last with its finish_reason, and which of its events count."""
    events = [chat_event(delta) for delta in deltas[:-1]] + [chat_event(deltas[-1], "length")]
    raw = chunked(*events, usage_event(8, tokens, details), DONE)
    answer = parse_answer(raw, framed(raw), CHAT)
    ends = np.cumsum([len(event) for event in events]).tolist()
    body_ends = [_in_body(raw, end) for end in answer.ends.tolist()]
    return answer, [ends.index(end) for end in body_ends]


def _in_body(raw: bytearray, end: int) -> int:
    framing = framed(raw)
    edges = framing.edges
    before = edges[edges[:, 1] <= end]
    inside = edges[(edges[:, 0] < end) & (edges[:, 1] > end)]
    return int((before[:, 1] - before[:, 0]).sum() + sum(end - start for start, _ in inside.tolist()))


def test_a_completions_body_is_what_it_was() -> None:
    body = json.loads(COMPLETIONS.body({"model": "m", "max_tokens": 3}, b"[ 17,  18]"))
    assert body == {"model": "m", "max_tokens": 3, "prompt": [17, 18]}
    assert json.loads(COMPLETIONS.prompt_of('a "text"')) == 'a "text"'


def test_a_chats_body_is_messages() -> None:
    body = json.loads(CHAT.body({"model": "m"}, CHAT.prompt_of('a "text"')))
    assert body == {"model": "m", "messages": [{"role": "user", "content": 'a "text"'}]}
    system = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert json.loads(CHAT.prompt_of("u", system)) == system


@pytest.mark.parametrize(
    "delta, part",
    [
        (ROLE, NOTHING),
        ({}, NOTHING),
        ({"content": None, "reasoning": ""}, NOTHING),
        ({"tool_calls": []}, NOTHING),
        ({"reasoning": "a"}, THINKING),
        ({"reasoning_content": "a", "content": None}, THINKING),
        ({"reasoning": "a", "reasoning_content": "a"}, THINKING),
        ({"content": "a"}, ANSWER),
        ({"role": "assistant", "content": "a"}, ANSWER),
        (CALL, ANSWER),
        ({"reasoning": "the end of it", "content": "a"}, ANSWER),
    ],
)
def test_what_an_event_carries(delta: dict[str, Any], part: int) -> None:
    assert CHAT.said({"index": 0, "delta": delta})[0] == part


@pytest.mark.parametrize("long", [1, 30])
@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_the_answer_begins_behind_the_thinking(key: str, long: int) -> None:
    thinking = [{key: f"t{i}"} for i in range(long)]
    content = [{"content": f"c{i}"} for i in range(long)]
    answer, counted = parsed(ROLE, *thinking, *content, tokens=2 * long)
    assert KINDS[answer.kind] == "completed"
    assert counted == list(range(1, 1 + 2 * long))
    assert answer.answer_at == long


@pytest.mark.parametrize("long", [1, 30])
def test_a_tool_call_is_the_answer(long: int) -> None:
    answer, counted = parsed(ROLE, *[{"reasoning": "t"}] * long, CALL, MORE, {}, tokens=long + 2)
    assert counted == list(range(1, long + 3))  # neither the role nor the finish_reason alone
    assert answer.answer_at == long


def test_an_answer_that_never_comes_to_its_content_has_no_beginning() -> None:
    answer, counted = parsed(ROLE, *[{"reasoning": "t"}] * 9, tokens=9)
    assert (KINDS[answer.kind], len(counted), answer.answer_at) == ("completed", 9, -1)


def test_an_answer_of_a_role_alone_has_no_token() -> None:
    answer, _ = parsed(ROLE, {}, tokens=4)
    assert KINDS[answer.kind] == "cut_off"
    assert "no event with a text" in answer.error


def test_reasoning_tokens_are_the_servers() -> None:
    said = ',"completion_tokens_details":{"reasoning_tokens":3}'
    assert parsed(ROLE, {"content": "a"}, tokens=4, details=said)[0].reasoning_tokens == 3
    assert parsed(ROLE, {"content": "a"}, tokens=4)[0].reasoning_tokens == -1


def test_completions_say_nothing_of_thinking() -> None:
    raw = chunked(*[chat_event({"content": "a"})] * 3, chat_event({}, "stop"), usage_event(8, 3), DONE)
    answer = parse_answer(raw, framed(raw), COMPLETIONS)  # a gateway that answers with a chat's events
    assert (KINDS[answer.kind], len(answer.ends), answer.answer_at) == ("completed", 3, -1)


def test_both_stretches_of_a_chat_are_read_by_a_template() -> None:
    """Decoding each event costs several times as much, in the process of the timed loop."""
    events = [chat_event(ROLE)]
    events += [chat_event({"reasoning": f"t{i}"}) for i in range(200)]
    events += [chat_event({"content": f"c{i}"}) for i in range(200)]
    events += [chat_event({"content": "end"}, "length"), usage_event(8, 401), DONE]
    raw = chunked(*events)
    with patch.object(stream_module.orjson, "loads", wraps=orjson.loads) as loads:
        answer = parse_answer(raw, framed(raw), CHAT)
    assert (len(answer.ends), answer.answer_at) == (401, 200)
    assert loads.call_count < 20


texts = st.text(max_size=6)
deltas = st.one_of(
    st.builds(lambda key, text: {key: text}, st.sampled_from(["content", "reasoning", "reasoning_content"]), texts),
    st.builds(lambda a, b: {"reasoning": a, "content": b}, texts, texts),
    st.sampled_from([ROLE, CALL, MORE, {}, {"content": None}]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(deltas, st.integers(1, 4)), min_size=1, max_size=12), st.integers(0, 40))
def test_the_template_reads_what_decoding_each_event_reads(runs: list[tuple[dict[str, Any], int]], tokens: int) -> None:
    events = [chat_event(delta) for delta, times in runs for _ in range(times)]
    raw = chunked(*events, chat_event({}, "stop"), usage_event(8, tokens), DONE)
    fast = parse_answer(raw, framed(raw), CHAT)
    with patch.object(_Reader, "_in_bulk", lambda self, body: False):
        slow = parse_answer(raw, framed(raw), CHAT)
    assert fast.ends.tolist() == slow.ends.tolist()
    assert (fast.kind, fast.error, fast.answer_at) == (slow.kind, slow.error, slow.answer_at)


@pytest.mark.parametrize(("events", "tokens", "counted"), [
    ("tttt", 4, "1111"),
    (".t.t", 4, "1111"),  # a token may be no whole character yet
    (".tttt", 4, "01111"),  # one more than tokens: the first is a sign of life
    ("tttt.", 4, "11110"),  # or a late finish_reason
    ("...tttt", 4, "0001111"),
    ("..ttt", 4, "00111"),  # two signs of life, the last text is two tokens
    ("..t.t.t", 6, "0011111"),
    ("......t", 16, "0000001"),  # it streams nothing: all its text is in one event
    (".t", 16, "01"),
    ("..tttt", 16, "001111"),  # groups of four tokens behind signs of life
    ("tttt.", 16, "11110"),
    ("t.t.", 16, "1110"),
    (".t...t..t.", 16, "1111111111"),  # most events have no text: it is this answer's way
    ("....", 16, "1111"),
    ("..tt", -1, "0011"),
])  # fmt: skip
def test_which_events_without_a_text_count(events: str, tokens: int, counted: str) -> None:
    parts = np.array([ANSWER if one == "t" else NOTHING for one in events], np.uint8)
    assert "".join(str(int(one)) for one in COMPLETIONS.token_events(parts, tokens)) == counted


@pytest.mark.parametrize(("call", "says"), [
    ({"index": 0}, False),
    ({"index": 0, "type": "function", "function": {"arguments": ""}}, False),
    ({"index": 0, "function": {"name": "f"}}, True),
    ({"index": 0, "id": "c"}, True),
    ({"index": 1, "type": "custom", "custom": {"input": "x"}}, True),
    ({"index": 0, "function": None}, False),
])  # fmt: skip
def test_what_a_tool_call_has_to_say(call: dict[str, Any], says: bool) -> None:
    assert (CHAT.said({"delta": {"tool_calls": [call]}})[0] != NOTHING) == says


def test_a_tool_call_that_says_nothing_is_no_token() -> None:
    answer, counted = parsed(ROLE, {"tool_calls": [{"index": 0}]}, CALL, MORE, {"tool_calls": []}, tokens=4)
    assert counted == [2, 3]
    assert answer.answer_at == 0


def test_an_answer_says_who_gave_it() -> None:
    assert parsed(ROLE, {"content": "a"}, {"content": "b"}, tokens=2)[0].model == "tiny"
