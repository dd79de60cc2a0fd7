"""Looking at a server before it is loaded: each way in which it is not the right one, and what it may not make us do."""

from __future__ import annotations

import gzip
import json
import socket
import time
from asyncio import run
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench_tests.errors import BenchError, ServerError, UsageError
from bench_tests.server.attach import context_needed, find_vocab, look_at
from bench_tests.server.client import get, why_unhealthy, why_unreachable
from bench_tests.server.info import read_server_info
from bench_tests.server.metrics import Metrics, read_metrics
from bench_tests.server.served import Endpoint
from bench_tests.server.url import clean_url
from tests.support.scripted_server import ScriptedServer, read_request

Pages = dict[str, tuple[int, bytes]]
MODELS = json.dumps({"data": [{"id": "a", "max_model_len": 4096}, {"id": "b"}]}).encode()
GOOD: Pages = {"/health": (200, b""), "/v1/models": (200, MODELS), "/version": (200, b'{"version":"0.32.0"}')}


SLOW_S = 0.4


class Site:
    """A server of a few pages."""

    def __init__(self) -> None:
        self.pages: Pages = {}
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.post: Callable[[dict[str, Any]], tuple[int, bytes]] | None = None
        self.extra = b""  # further header lines
        self.slow = ""  # the page that takes SLOW_S

    def __call__(self, conn: socket.socket) -> None:
        while (request := read_request(conn)) is not None:
            head, body = request
            self.heads.append(head)
            path = head.split()[1].decode()
            if head.startswith(b"POST") and self.post is not None:
                status, said = self.post(json.loads(body))
            else:
                status, said = self.pages.get(path, (404, b'{"detail":"Not Found"}'))
            if path == self.slow:
                time.sleep(SLOW_S)
            extra = self.extra + (b"location: /elsewhere\r\n" if status in (302, 307) else b"")
            conn.sendall(b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (status, extra, len(said), said))


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Site, Endpoint]]:
    site = Site()
    with ScriptedServer(site) as server:
        yield site, Endpoint(server.url, "sk-secret-1")


@pytest.fixture
def site(served: tuple[Site, Endpoint]) -> Site:
    served[0].pages, served[0].post, served[0].extra, served[0].slow = dict(GOOD), None, b"", ""
    served[0].heads.clear()
    return served[0]


@pytest.fixture
def endpoint(served: tuple[Site, Endpoint]) -> Endpoint:
    return served[1]


def test_what_a_server_says_of_itself(site: Site, endpoint: Endpoint) -> None:
    got = run(look_at(endpoint, "a"))
    assert (got.model, got.all_models, got.max_model_len, got.version, got.simulated) == (
        "a",
        ("a", "b"),
        4096,
        "0.32.0",
        False,
    )
    assert run(look_at(endpoint, "")).model == "a"
    assert run(look_at(endpoint, "b")).max_model_len is None
    assert all(b"Authorization: Bearer sk-secret-1" in head for head in site.heads)


@pytest.mark.parametrize(
    "change, wanted, words",
    [
        ({}, "c", "serves a, b, not c"),
        ({"/v1/models": (401, b'{"error":"Unauthorized"}')}, "a", "refuses the key (HTTP 401), saying 'Unauthorized'"),
        ({"/v1/models": (403, b"")}, "a", "--header NAME=VARIABLE"),
        ({"/v1/models": (500, b"")}, "a", "HTTP 500"),
        ({"/v1/models": (307, b"")}, "a", "redirects /v1/models to /elsewhere"),
        ({"/v1/models": (400, b"The plain HTTP request was sent to HTTPS port")}, "a", "https:// instead of http://"),
        ({"/v1/models": (200, b"<html>")}, "a", "not with a list of models"),
        ({"/v1/models": (200, b'{"data":[]}')}, "", "--model"),
        ({"/v1/models": (200, b'{"data":[{"id":7}]}')}, "", "not with a list of models"),
        ({"/v1/models": (200, b"[1]")}, "", "not with a list of models"),
        ({"/v1/models": (200, b'{"data":[]}')}, "", "with an empty list; name the model with --model"),
        ({"/v1/models": (404, b"\x1b[31mno route\x07")}, "", "HTTP 404: [31mno route; name the model with --model"),
        ({"/v1/models": (200, b'{"data":[{"id":"openai/*"}]}')}, "", "lists openai/*; name the model"),
        ({"/v1/models": (200, b'{"data":[{"id":"openai/*"}]}')}, "other/a", "serves openai/*, not other/a"),
    ],
)
def test_what_is_not_the_right_server(site: Site, endpoint: Endpoint, change: Pages, wanted: str, words: str) -> None:
    site.pages |= change
    with pytest.raises(ServerError) as told:
        run(look_at(endpoint, wanted))
    assert words in str(told.value)
    assert endpoint.base_url in str(told.value)


def test_health_and_version_may_be_missing(site: Site, endpoint: Endpoint) -> None:
    del site.pages["/health"], site.pages["/version"]
    assert run(look_at(endpoint, "a")).version == "unknown"
    assert run(why_unhealthy(endpoint)) is None


@pytest.mark.parametrize(
    "said, wanted",
    [
        ((404, b'{"detail":"Not Found"}'), "m"),
        ((200, b'{"data":[]}'), "m"),
        ((200, b"{}"), "m"),
        ((200, b"[]"), "m"),
        ((200, b'{"data":[{"id":"openai/*"}]}'), "openai/m"),
        ((200, b'{"data":[{"id":"*"}]}'), "m"),
    ],
)
def test_a_named_model_is_taken_on_trust_where_the_list_does_not_say(
    site: Site, endpoint: Endpoint, said: tuple[int, bytes], wanted: str
) -> None:
    site.pages["/v1/models"] = said
    got = run(look_at(endpoint, wanted))
    assert got.model == wanted
    assert any("on trust" in note for note in got.notes)


@pytest.mark.parametrize(
    "said",
    [b'{"data":[{"id":"m","max_model_len":%s}]}', b'[{"id":"m","max_model_len":%s}]', b'{"models":[{"name":"m","max_model_len":%s}]}'],
)  # fmt: skip
def test_a_list_of_models_comes_in_several_shapes(site: Site, endpoint: Endpoint, said: bytes) -> None:
    for number in (b"70", b"70.0", b'"70"'):
        site.pages["/v1/models"] = (200, said % number)
        assert run(look_at(endpoint, "")).max_model_len == 70
        assert run(look_at(endpoint, "m")).notes == ()


@pytest.mark.parametrize("status", [500, 501, 503, 504])
def test_models_decide_and_health_is_a_note(site: Site, endpoint: Endpoint, status: int) -> None:
    site.pages["/health"] = (status, b"")
    site.post = lambda body: (200, b'{"choices":[{"text":"x"}]}')
    assert any(f"/health says HTTP {status}" in note for note in run(look_at(endpoint, "a")).notes)
    assert run(why_unhealthy(endpoint, model="a")) is None
    site.post = lambda body: (
        500,
        b'{"error":{"message":"EngineCore\\u001b[2J died"}}',
    )  # a dead engine, a living front
    assert f"/health says HTTP {status}, and it gives no token: HTTP 500: EngineCore [2J died" == run(
        why_unhealthy(endpoint, model="a")
    )
    site.pages["/v1/models"] = (502, b"")
    assert run(why_unhealthy(endpoint)) == "/v1/models says HTTP 502"


@pytest.mark.parametrize("status", [302, 401, 403, 405])
def test_a_health_page_that_is_not_for_us_says_nothing_of_the_server(
    site: Site, endpoint: Endpoint, status: int
) -> None:
    site.pages["/health"] = (status, b"")
    site.post = lambda body: (200, b'{"choices":[{"text":"x"}]}')
    assert run(look_at(endpoint, "a")).model == "a"
    assert run(why_unhealthy(endpoint, model="a")) is None


@pytest.mark.parametrize(
    "said", [b"<html>v1</html>", b'["0.32.0"]', b'{"version":{"major":1}}', b'{"version":7}', b"", b"\xff\xfe"]
)
def test_a_version_in_another_shape_costs_nothing(site: Site, endpoint: Endpoint, said: bytes) -> None:
    site.pages["/version"] = (200, said)
    got = run(look_at(endpoint, "a"))
    assert got.model == "a"
    assert got.version.isprintable()


def test_pages_may_be_compressed(site: Site, endpoint: Endpoint) -> None:
    site.extra = b"content-encoding: gzip\r\n"
    site.pages = {path: (status, gzip.compress(said)) for path, (status, said) in GOOD.items()}
    got = run(look_at(endpoint, "a"))
    assert (got.model, got.version, got.max_model_len) == ("a", "0.32.0", 4096)


def test_a_header_may_be_as_long_as_the_timed_client_takes(site: Site, endpoint: Endpoint) -> None:
    site.extra = b"set-cookie: " + b"x" * 40_000 + b"\r\n"
    assert run(look_at(endpoint, "a")).version == "0.32.0"


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/version", "/metrics"])
def test_a_slow_page_is_waited_for(site: Site, endpoint: Endpoint, path: str) -> None:
    site.slow = path
    site.pages["/metrics"] = (200, b"<html>not metrics</html>")
    site.post = lambda body: (200, b'{"choices":[{"text":"x"}]}')
    assert run(look_at(endpoint, "a")).model == "a"
    assert run(why_unhealthy(endpoint, model="a")) is None


@pytest.mark.parametrize(
    "models, metrics, engine",
    [
        (b'{"data":[{"id":"a","owned_by":"vllm"}]}', b"", "vllm"),
        (b'{"data":[{"id":"a","owned_by":"sglang"}]}', b"", "sglang"),
        (b'{"data":[{"id":"a","owned_by":"llamacpp"}]}', b"", "llama.cpp"),
        (b'{"data":[{"id":"a","owned_by":"me"}]}', b"# HELP x\nvllm:num_requests_running 0\n", "vllm"),
        (b'{"data":[{"id":"a"}]}', b"# HELP x\nllamacpp:prompt_tokens_total 0\n", "llama.cpp"),
        (b'{"data":[{"id":"a","owned_by":"bench-tests-simulator"}]}', b"", "sim"),
        (b'{"data":[{"id":"a","owned_by":"me"}]}', b"other_total 1\n", ""),
    ],
)
def test_the_engine_is_what_the_server_says(
    site: Site, endpoint: Endpoint, models: bytes, metrics: bytes, engine: str
) -> None:
    site.pages |= {"/v1/models": (200, models), "/metrics": (200, metrics)}
    assert run(look_at(endpoint, "a")).engine == engine


@pytest.mark.parametrize(
    "owner, path, said",
    [("sglang", "/get_server_info", b'{"version":"0.5.9"}'), ("llamacpp", "/props", b'{"build_info":"0.5.9"}')],
)
def test_the_version_is_found_where_the_engine_says_it(
    site: Site, endpoint: Endpoint, owner: str, path: str, said: bytes
) -> None:
    site.pages |= {"/v1/models": (200, b'{"data":[{"id":"a","owned_by":"%s"}]}' % owner.encode()), path: (200, said)}
    del site.pages["/version"]
    assert run(look_at(endpoint, "a")).version == "0.5.9"


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(ServerError, match="refused"):
        run(look_at(Endpoint(url), ""))


def test_a_redirect_is_not_followed(site: Site, endpoint: Endpoint) -> None:
    site.pages["/x"] = (307, b"")
    reply = run(get(endpoint, "/x"))
    assert reply is not None
    assert (reply.status, reply.location) == (307, "/elsewhere")
    assert not any(b"/elsewhere" in head for head in site.heads)


def test_the_key_comes_back_from_nowhere(site: Site, endpoint: Endpoint) -> None:
    site.pages["/v1/models"] = (200, b'{"data":[{"id":"you sent sk-secret-1"}]}')
    with pytest.raises(ServerError) as told:
        run(look_at(endpoint, "a"))
    assert "secret" not in str(told.value)
    assert "secret" not in repr(endpoint)


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-secret\r\nX-Other: 1", "sk-sécret", "sk\tsecret"])
def test_a_key_that_no_header_can_carry_is_told_without_it(key: str) -> None:
    why = run(why_unreachable(Endpoint("http://127.0.0.1:9", key), "/health"))
    assert why is not None
    assert "API key" in why
    assert "cret" not in why


@given(body=st.binary(max_size=60) | st.sampled_from([b"null", b"{}", b'{"data":null}', b'{"data":{"id":"x"}}', b'{"data":[{"id":"a","max_model_len":"x"}]}', b"[" * 9000]), status=st.sampled_from([200, 200, 404, 500]))  # fmt: skip
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_answer_makes_it_raise_anything_but_a_server_error(
    site: Site, endpoint: Endpoint, body: bytes, status: int
) -> None:
    site.pages |= {"/v1/models": (status, body), "/version": (status, body), "/metrics": (status, body)}
    try:
        run(look_at(endpoint, ""))
    except ServerError:
        pass
    run(read_metrics(endpoint, "a"))


# ---- the vocabulary


@pytest.mark.parametrize("words", [b"Token id 31999 is out of vocabulary", b"Prompt contains invalid tokens"])
def test_the_vocabulary_is_found_by_asking(site: Site, endpoint: Endpoint, words: bytes) -> None:
    def small(body: dict[str, Any]) -> tuple[int, bytes]:
        if max(body["prompt"]) >= 5000:
            return 400, b'{"error":{"message":"' + words + b'"}}'
        return 200, b'{"choices":[{"text":"x"}]}'

    site.post = small
    assert run(find_vocab(endpoint, "a")) == 4000
    site.post = lambda body: (400, b'{"error":{"message":"Token id is out of vocabulary"}}')
    with pytest.raises(ServerError, match="accepts no prompt of token ids"):
        run(find_vocab(endpoint, "a"))
    site.post = lambda body: (500, b"broken")
    assert run(find_vocab(endpoint, "a")) == 32000  # not about the ids: the load will say what is wrong
    site.post = lambda body: (422, b"no prompt of this kind")
    assert run(find_vocab(endpoint, "a")) == 32000


def test_a_router_that_does_not_know_its_model_is_told_it(site: Site, endpoint: Endpoint) -> None:
    site.pages["/v1/models"] = (200, b'{"object":"list","data":[{"id":"unknown","object":"model"}]}')
    assert run(look_at(endpoint, "mine")).model == "mine"
    with pytest.raises(ServerError, match="name the model with --model"):
        run(look_at(endpoint, ""))


def test_the_context_that_a_point_needs() -> None:
    assert context_needed(1024, 128, 0.0, 0) == 1152
    assert context_needed(1000, 100, 0.2, 50) == 1370
    assert context_needed(3, 3, 0.5, 0) == 10


# ---- URLs


@pytest.mark.parametrize(
    "text, url",
    [
        ("http://h:8000", "http://h:8000"),
        ("h:8000", "http://h:8000"),
        (" https://llm.example.com/team/v1/ ", "https://llm.example.com/team"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("http://h/openai/v1/completions", "http://h/openai"),
        ("http://h/v1/chat/completions/", "http://h"),
        ("http://h/v1/models", "http://h"),
        ("http://h/x?api-version=1", "http://h/x"),
    ],
)
def test_a_url_is_cleaned(text: str, url: str) -> None:
    assert clean_url(text, "--base-url") == url


@pytest.mark.parametrize(
    "text",
    ["ftp://h", "http://", "", "http://h:99999", "http://u:secret@h", "http://u:secret@h:99999", "http://u:secret@h/?key=secret", "secret@h", "http://[::1", "[]@"],
)  # fmt: skip
def test_a_bad_url_is_told_without_what_may_be_secret(text: str) -> None:
    with pytest.raises(UsageError) as told:
        clean_url(text, "--base-url")
    assert "secret" not in str(told.value)
    assert "--base-url" in str(told.value)


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["http", "://", "h", ":", "@", "[", "]", "/", "?", "%", "80", "#"]), max_size=9).map(
        "".join
    )
)
@settings(max_examples=80, deadline=None)
def test_no_url_raises_anything_but_a_usage_error(text: str) -> None:
    try:
        assert clean_url(text, "x").startswith("http")
    except UsageError:
        pass


# ---- files that others may have written


def about(why: UsageError, name: str) -> None:
    assert name in str(why)
    assert "\n" not in str(why)


@given(st.binary(max_size=200) | st.lists(st.sampled_from(["http://h:1", "\n", "=", "port", "api_key", "x", "job_id", "\0", "\r", " ", "99999"]), max_size=14).map(lambda p: "".join(p).encode()))  # fmt: skip
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_server_info_raises_anything_but_a_usage_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "server_info.txt"
    path.write_bytes(data)
    try:
        info = read_server_info(path)
        assert info.url.startswith("http")
    except UsageError as why:
        about(why, "server_info.txt")


# ---- counters


def test_counters_since_and_what_says_that_it_is_another_server() -> None:
    before = Metrics({"prompt_tokens": 100.0, "cached_tokens": 5.0, "started": 1000.0, "running": 3.0})
    after = Metrics({"prompt_tokens": 150.0, "cached_tokens": 5.0, "started": 1000.0, "running": 0.0})
    since = after.since(before)
    assert (since.values["prompt_tokens"], since.values["cached_tokens"], since.values["running"]) == (50.0, 0.0, 0.0)
    assert after.changes(before) == []
    assert "restarted" in Metrics({"prompt_tokens": 150.0, "started": 2000.0}).changes(before)[0]
    assert "went back" in Metrics({"prompt_tokens": 20.0}).changes(before)[0]
    assert Metrics().changes(before) == []  # a reading that did not come says nothing
    assert after.since(Metrics()) == Metrics().since(before) == Metrics()


def test_errors_are_one_tree() -> None:
    assert issubclass(ServerError, BenchError)


@pytest.mark.parametrize("key", ["x", "a", "4", "token", "data", "vllm"])
def test_a_placeholder_for_a_key_takes_nothing_out_of_what_is_read(site: Site, endpoint: Endpoint, key: str) -> None:
    metrics = b'vllm:prompt_tokens_total{model_name="a"} 4\n'
    site.pages = {**GOOD, "/metrics": (200, metrics)}
    named = replace(endpoint, api_key=key)
    model = run(look_at(named, "a"))
    assert (model.model, model.max_model_len, model.version) == ("a", 4096, "0.32.0")
    assert run(read_metrics(named, "a")).values == {"prompt_tokens": 4.0}


def test_a_key_that_is_repeated_shows_nowhere(site: Site, endpoint: Endpoint) -> None:
    key = str(endpoint.api_key)
    site.pages = {**GOOD, "/version": (200, json.dumps({"version": f"1 {key}"}).encode())}
    site.pages["/v1/models"] = (200, json.dumps({"data": [{"id": f"m-{key}", "root": key}]}).encode())
    assert key not in str(run(look_at(endpoint, "")))
    reply = run(get(endpoint, "/version"))
    assert reply is not None
    assert key not in reply.words() + repr(reply)
