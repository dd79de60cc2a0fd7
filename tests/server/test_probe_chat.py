"""What the probe finds out of a chat: the template's tokens, whether the tokenizer is the model's, what the server wants."""

from __future__ import annotations

from asyncio import run
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bench_tests.server.attach import look_at
from bench_tests.server.probe import Probed, probe
from bench_tests.server.served import Endpoint
from bench_tests.sweep.profile import load_profile
from tests.support.odd_servers import odd_server

DEMO = load_profile("demo")
CHAT = replace(
    DEMO,
    model=replace(DEMO.model, id="", tokenizer="words"),
    load=replace(DEMO.load, endpoint="chat", chat_template_kwargs={"enable_thinking": False}),
)


def probed(url: str, **load: Any) -> Probed:
    async def ask() -> Probed:
        endpoint = Endpoint(url)
        return await probe(endpoint, replace(CHAT, load=replace(CHAT.load, **load)), await look_at(endpoint, "m"))

    return run(ask())


def test_the_templates_tokens_are_measured_and_said() -> None:
    with odd_server(extra_prompt_tokens=lambda ask: 7) as (odd, url):
        got = probed(url)
        inside = probed(url, template_tokens="inside")
    assert (got.template_tokens, got.refused) == (7, "")
    assert "adds 7 tokens to each prompt, on top of the ISL" in got.notes[-1]
    assert "taken out of the ISL" in inside.notes[-1]
    assert odd.asks[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert odd.asks[0]["messages"][0]["role"] == "user"
    assert "prompt" not in odd.asks[0]


@pytest.mark.parametrize(
    "more", [lambda ask: len(ask["messages"][0]["content"].split()), lambda ask: -3], ids=["other_tokens", "fewer"]
)
def test_a_tokenizer_that_is_not_the_models_is_told_before_any_load(more: Callable[[dict[str, Any]], int]) -> None:
    with odd_server(extra_prompt_tokens=more) as (_, url):
        got = probed(url)
    assert "--tokenizer" in got.refused
    assert "words" in got.refused


def test_a_server_that_counts_nothing_leaves_the_template_unknown() -> None:
    with odd_server(usage=False) as (_, url):
        got, inside = probed(url), probed(url, template_tokens="inside")
    assert got.template_tokens == 0
    assert any("unknown" in note for note in got.notes)
    assert not got.refused
    assert "unknown" in inside.refused


def test_max_completion_tokens_where_the_server_wants_it() -> None:
    def refuse(ask: dict[str, Any]) -> tuple[int, Any] | None:
        words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return (400, {"error": {"message": words}}) if "max_tokens" in ask else None

    with odd_server(refuse=refuse) as (odd, url):
        got = probed(url)
    assert got.profile.load.omit == ("max_tokens",)
    assert odd.asks[-1]["max_completion_tokens"] == 1
    assert not got.refused


def test_a_server_without_the_endpoint_names_the_other_one() -> None:
    with odd_server(paths=("/v1/completions",)) as (_, url):
        assert "--endpoint completions" in probed(url).refused
    with odd_server(paths=("/v1/chat/completions",)) as (_, url):
        assert "--endpoint chat" in probed(url, endpoint="completions", chat_template_kwargs={}).refused


@pytest.mark.parametrize("gives", [True, False])
def test_whether_answers_come_with_their_token_ids_is_found_out_for_sessions(gives: bool) -> None:
    talk = replace(CHAT, workload=replace(CHAT.workload, sessions="synthetic"), load=DEMO.load)

    async def ask(url: str) -> Probed:
        return await probe(Endpoint(url), talk, await look_at(Endpoint(url), "m"))

    with odd_server(token_ids=gives) as (odd, url):
        got = run(ask(url))
    assert got.token_ids == gives
    assert any(asked.get("return_token_ids") for asked in odd.asks)
    assert any("return_token_ids" in note for note in got.notes) != gives
    assert got.profile.load.extra_body == {}
