"""What is said when a server cannot be reached: the cause in words, what to do, and no control character of a server's."""

from __future__ import annotations

import socket
import ssl
import threading
from asyncio import run
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_tests.errors import ServerError
from bench_tests.server.attach import look_at
from bench_tests.server.client import why_unreachable
from bench_tests.server.served import Endpoint
from bench_tests.server.slurm.near import answers
from bench_tests.text import harmless, quoted
from tests.support.odd_servers import odd_server
from tests.support.scripted_server import ScriptedServer, read_request


@contextmanager
def talking(reply: bytes, read: bool = True) -> Iterator[int]:
    """A socket that answers whatever comes with these bytes and closes; its port."""

    def serve(conn: socket.socket) -> None:
        if read:
            conn.recv(65536)
        conn.sendall(reply)

    with ScriptedServer(serve) as server:
        yield int(server.url.rpartition(":")[2])


@pytest.mark.parametrize(
    "scheme, reply, words",
    [
        ("http", b"", "closed the connection without an answer; does it serve https://"),
        ("http", b"\x15\x03\x03\x00\x02\x02\x46", "does not speak HTTP"),
        ("http", b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "does it serve http:// instead"),
        ("http", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", "cut off"),
    ],
)
def test_the_wrong_protocol_is_named(scheme: str, reply: bytes, words: str) -> None:
    with talking(reply) as port:
        assert words in (run(why_unreachable(Endpoint(f"{scheme}://127.0.0.1:{port}"))) or "")


def test_names_ports_and_silence_are_told_apart() -> None:
    assert "refused" in (run(why_unreachable(Endpoint("http://127.0.0.1:1"))) or "")
    said = run(why_unreachable(Endpoint("http://no-such-host.invalid:8000"))) or ""
    assert "name" in said.lower()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "timed out: no answer within 0.3 s" in (run(why_unreachable(Endpoint(url), timeout_s=0.3)) or "")
        said = run(why_unreachable(Endpoint(url.replace("http", "https")), timeout_s=0.5)) or ""
        assert "does it serve http:// instead of https://?" in said


def test_a_proxy_in_the_clear_is_refused_by_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster's http_proxy does not answer for its own nodes, and would be measured with them."""
    asked: list[bytes] = []

    def squid(conn: socket.socket) -> None:
        while request := read_request(conn):
            asked.append(request[0])
            conn.sendall(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")

    with ScriptedServer(squid) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:s3cret@"))
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        endpoint = Endpoint("http://node1.cluster:8000", "key")
        with pytest.raises(
            ServerError, match=r"\$http_proxy sends node1\.cluster .*set no_proxy=node1\.cluster"
        ) as told:
            run(look_at(endpoint, ""))
        assert "s3cret" not in str(told.value)
        assert answers(endpoint, "/health") is None  # the job's own side, and with it `wait`
    assert asked == []


def test_the_host_itself_and_no_proxy_go_past_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with odd_server() as (_, url):
        assert run(look_at(Endpoint(url), "")).model == "m"
        assert answers(Endpoint(url), "/health") == (200, b"")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    said = run(why_unreachable(Endpoint("https://node1.cluster"))) or ""
    assert "proxy 127.0.0.1:1 of $https_proxy does not answer" in said


def test_a_redirect_says_where_it_leads() -> None:
    with talking(b"HTTP/1.1 308 X\r\nlocation: https://real.example/v1/models\r\ncontent-length: 0\r\n\r\n") as port:
        with pytest.raises(ServerError, match=r"redirects /v1/models to https://real\.example/v1/models"):
            run(look_at(Endpoint(f"http://127.0.0.1:{port}"), ""))


def test_a_plain_server_asked_by_tls_does_not_hang() -> None:
    done = threading.Event()

    def serve(conn: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(conn, server_side=True)
        done.set()

    with ScriptedServer(serve) as server:
        assert run(why_unreachable(Endpoint(server.url), timeout_s=5.0))


# ---- another program's words


@given(st.text(max_size=400) | st.binary(max_size=400))
def test_no_control_character_gets_through(said: str | bytes) -> None:
    shown = quoted(said)
    assert shown.isprintable()
    assert len(shown) <= 200
    assert harmless(shown) == shown


@pytest.mark.parametrize(
    "body, words",
    [
        (b'{"error": {"message": "no such model", "code": 404}}', "no such model"),
        (b'{"error": "Unauthorized"}', "Unauthorized"),
        (b'{"detail": [{"loc": ["body", "prompt"], "msg": "must be a string"}]}', "body.prompt: must be a string"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"<html>\r\n  gone </html>", "<html> gone </html>"),
        (b'{"error": {"message": "\\u001b[2J\\u001b]0;title\\u0007boom"}}', "[2J ]0;title boom"),
        (b"", ""),
    ],
)
def test_a_servers_words_are_found_in_its_json(body: bytes, words: str) -> None:
    assert quoted(body) == words
