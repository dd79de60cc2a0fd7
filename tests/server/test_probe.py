"""One token before the sweep: what a server refuses is left out and said, and what cannot be settled is an ERROR at no cost."""

from __future__ import annotations

import json
from asyncio import run
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench_tests.errors import ServerError
from bench_tests.server.attach import look_at
from bench_tests.server.probe import Probed, _events, probe
from bench_tests.server.served import Endpoint
from bench_tests.sweep.profile import Profile, load_profile
from tests.support.odd_servers import odd_server
from tests.support.suite import run_suite

DEMO = load_profile("demo")
PROFILE = replace(DEMO, model=replace(DEMO.model, id=""))


def probed(url: str, profile: Profile = PROFILE) -> Probed:
    async def ask() -> Probed:
        endpoint = Endpoint(url)
        return await probe(endpoint, profile, await look_at(endpoint, "m"))

    return run(ask())


def refusing(*names: str, status: int = 422) -> Callable[[dict[str, Any]], tuple[int, Any] | None]:
    """Refuses these fields by name, as FastAPI's strict models do."""

    def refuse(ask: dict[str, Any]) -> tuple[int, Any] | None:
        found = [name for name in names if name in ask]
        detail = [{"loc": ["body", name], "msg": "Extra inputs are not permitted"} for name in found]
        return (status, {"detail": detail}) if found else None

    return refuse


def strings_only(ask: dict[str, Any]) -> tuple[int, Any] | None:
    return (
        None if isinstance(ask["prompt"], str) else (422, {"detail": [{"loc": ["body", "prompt"], "msg": "a string"}]})
    )


@pytest.mark.parametrize(
    "names",
    [("ignore_eos",), ("stream_options",), ("temperature",), ("ignore_eos", "stream_options"), ("ignore_eos", "stream_options", "temperature")],
)  # fmt: skip
@pytest.mark.parametrize("says_which", [True, False])
def test_what_is_refused_is_left_out_and_said_with_its_option(names: tuple[str, ...], says_which: bool) -> None:
    named = refusing(*names)
    with odd_server(refuse=lambda ask: named(ask) and (named(ask) if says_which else (400, "bad request"))) as (_, url):
        got = probed(url)
    assert set(names) <= set(got.profile.load.omit)
    assert not got.refused
    for name in names:
        assert any(f"refuses {name}" in note and "omit" in note for note in got.notes)


def test_a_server_that_takes_all_has_nothing_said_of_it() -> None:
    with odd_server() as (odd, url):
        got = probed(url)
    assert (got.notes, got.refused, got.several, got.profile.load.omit) == ((), "", "", ())
    assert odd.asks[0]["max_tokens"] == 1
    assert odd.asks[0]["stream"] is True


def test_ignore_eos_is_sent_only_when_true() -> None:
    with odd_server() as (odd, url):
        probed(url, replace(PROFILE, load=replace(PROFILE.load, ignore_eos=False)))
    assert all("ignore_eos" not in ask for ask in odd.asks)


def test_text_alone_needs_a_tokenizer_and_then_is_sent() -> None:
    with odd_server(refuse=strings_only) as (_, url):
        got = probed(url)
        assert "--prompt-format text" in got.refused
        assert "--tokenizer" in got.refused
        named = replace(PROFILE, model=replace(PROFILE.model, tokenizer="some/where"))
        got = probed(url, named)
    assert got.profile.load.prompt_format == "text"
    assert not got.refused


@pytest.mark.parametrize(
    "switches, words",
    [
        ({"refuse": lambda ask: (400, {"error": "missing api-key header"})}, "missing api-key header"),
        ({"refuse": lambda ask: (401, {"error": "who are you"})}, "--header NAME=VARIABLE"),
        ({"refuse": lambda ask: (404, {"detail": "Not Found"})}, "no /v1/completions"),
        ({"stream": False}, "does not stream"),
        ({"refuse": lambda ask: (400, "\x1b[2J\x07no")}, "HTTP 400: [2J no"),
    ],
)
def test_what_cannot_be_settled_is_told_with_the_servers_words(switches: dict[str, Any], words: str) -> None:
    with odd_server(**switches) as (_, url):
        assert words in probed(url).refused


def test_a_gateways_500_about_the_prompt_is_a_refusal() -> None:
    def refuse(ask: dict[str, Any]) -> tuple[int, Any] | None:
        return None if isinstance(ask["prompt"], str) else (500, {"error": {"message": "Unmapped prompt format"}})

    with odd_server(refuse=refuse) as (_, url):
        assert "--prompt-format text" in probed(url).refused


def test_a_refused_sweep_is_an_error_at_each_point_and_loads_nothing(tmp_path: Path) -> None:
    with odd_server(refuse=lambda ask: (400, {"error": {"message": "no such thing"}})) as (odd, url):
        outcome = run_suite(tmp_path, "--base-url", url, "--model", "m", "--point", "isl64-osl8-conc2")
    assert outcome.code == 12, outcome.out
    assert "no such thing" in outcome.out
    assert len(odd.asks) < 20
    (result,) = outcome.results().values()
    assert result["verdict"] == "ERROR"
    assert "no such thing" in result["messages"][0]


def test_a_server_that_fails_is_measured_all_the_same_unless_it_says_that_it_is_not_well() -> None:
    with odd_server(refuse=lambda ask: (500, {"error": "boom"})) as (_, url):
        assert any("HTTP 500: boom" in note for note in probed(url).notes)
    with odd_server(refuse=lambda ask: (500, {"error": "boom"}), health=(503, "")) as (_, url):
        with pytest.raises(ServerError, match="/health says HTTP 503, and it gives no token"):
            probed(url)


def test_a_beginning_of_text_token_is_switched_off_where_that_is_known() -> None:
    def added(ask: dict[str, Any]) -> int:
        return int(ask.get("add_special_tokens", True))

    with odd_server(extra_prompt_tokens=added) as (_, url):
        got = probed(url)
    assert got.profile.load.extra_body == {"add_special_tokens": False}
    with odd_server(extra_prompt_tokens=lambda ask: 1) as (_, url):
        got = probed(url)
    assert got.profile.load.extra_body == {}
    assert any("adds 1 token" in note for note in got.notes)


@pytest.mark.parametrize(
    "of_profile, says, named",
    [("", "sglang", "sglang"), ("vllm", "sglang", "sglang"), ("vllm", "", "vllm"), ("my-fork", "vllm", "my-fork"), ("", "", "unknown")],
)  # fmt: skip
def test_the_engine_is_the_servers_word_unless_it_has_a_name_of_its_own(of_profile: str, says: str, named: str) -> None:
    profile = replace(PROFILE, server=replace(PROFILE.server, engine=of_profile))
    with odd_server(models=(200, {"data": [{"id": "m", "owned_by": says}]})) as (_, url):
        got = probed(url, profile)
    assert got.profile.server.engine == named
    assert len(got.notes) == (of_profile != named and of_profile != "")


@pytest.mark.parametrize("others", [(), ("stream_options",), ("ignore_eos", "stream_options", "temperature")])
def test_the_length_is_asked_for_as_the_server_wants_it(others: tuple[str, ...]) -> None:
    def refuse(ask: dict[str, Any]) -> tuple[int, Any] | None:
        if "max_completion_tokens" not in ask:
            return 400, {"error": {"message": "max_tokens is not supported, use max_completion_tokens"}}
        ask["max_tokens"] = ask["max_completion_tokens"]
        return refusing(*others)(ask)

    with odd_server(refuse=refuse) as (_, url):
        got = probed(url)
    assert not got.refused
    assert set(got.profile.load.omit) == {"max_tokens", *others}
    assert any("max_completion_tokens" in note for note in got.notes)
    fields = got.profile.load.fields("m", 16)
    assert fields["max_completion_tokens"] == 16
    assert "max_tokens" not in fields


def test_a_server_that_breaks_at_another_request_is_quoted_with_its_first_words() -> None:
    def refuse(ask: dict[str, Any]) -> tuple[int, Any] | None:
        if "max_completion_tokens" not in ask:
            return 400, {"error": {"message": "use max_completion_tokens"}}
        return 500, "Server got itself in trouble"

    with odd_server(refuse=refuse) as (_, url):
        refused = probed(url).refused
    assert "use max_completion_tokens" in refused
    assert "trouble" not in refused


def test_no_usage_is_said_with_who_counts() -> None:
    with odd_server(usage=False) as (_, url):
        assert any("no usage" in note and "--tokenizer" in note for note in probed(url).notes)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("indent", [None, 1])
def test_the_data_of_an_event_may_stand_in_several_lines(indent: int | None, end: str) -> None:
    said = [{"choices": [{"text": "a\u2028b"}]}, {"usage": {"prompt_tokens": 4}}]
    lines = [
        "".join(f"data: {line}{end}" for line in json.dumps(each, indent=indent, ensure_ascii=False).split("\n")) + end
        for each in said
    ]
    body = f"\ufeff: ping{end}{end}" + "".join(lines) + f"data: [DONE]{end}{end}"
    assert _events(body.encode()) == said
    assert _events(b"data: {\n\n" + body.encode()[3:]) == said, "one that is broken breaks no other"


def test_the_vocabulary_is_settled_once() -> None:
    def small(ask: dict[str, Any]) -> tuple[int, Any] | None:
        return (400, {"error": {"message": "Token id is out of vocabulary"}}) if max(ask["prompt"]) >= 900 else None

    with odd_server(refuse=small) as (_, url):
        assert probed(url).profile.model.vocab_size == 500
    with odd_server(refuse=lambda ask: (400, {"error": {"message": "Token id is out of vocabulary"}})) as (_, url):
        assert "--vocab-size" in probed(url).refused


def test_headers_and_query_go_with_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "s3cret-header-value")
    with odd_server(refuse=lambda ask: None) as (odd, url):
        outcome = run_suite(
            tmp_path, "--base-url", f"{url}/v1/completions?api-version=7", "--header", "api-key=GATEWAY_KEY",
            "--model", "m", "--point", "isl64-osl8-conc2", "--no-ignore-eos",
        )  # fmt: skip
    assert outcome.code == 0, outcome.out
    assert len(odd.heads) > 10
    assert all("api-key: s3cret-header-value\r\n" in head for head in odd.heads)
    assert all(head.split()[1].endswith("?api-version=7") for head in odd.heads)
    assert all("ignore_eos" not in ask for ask in odd.asks)
    kept = "".join(path.read_text() for path in outcome.results_dir.glob("*.json"))
    assert "s3cret" not in outcome.out + kept


@pytest.mark.parametrize(
    "flag", ["--base-url", "--profile", "--baseline", "--results-dir", "--server-info", "--report"]
)
def test_an_empty_value_is_wrong_usage(tmp_path: Path, flag: str) -> None:
    outcome = run_suite(tmp_path, "--co", f"{flag}=")
    assert outcome.code == 4, outcome.out
    assert "empty" in outcome.out


def test_a_header_is_not_shown_when_it_is_given_with_its_value(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, "--co", "--header", "Authorization: Bearer s3cret")
    assert outcome.code == 4, outcome.out
    assert "NAME=VARIABLE" in outcome.out
    outcome = run_suite(tmp_path, "--co", "--base-url=http://127.0.0.1:9", "--header", "api-key=NOT_THERE_AT_ALL")
    assert "NOT_THERE_AT_ALL is not set" in outcome.out
