"""Servers of a few lines as people write them, for what they take, refuse and say. Each behaviour is a switch."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.scripted_server import ScriptedServer, read_request

__all__ = ["Odd", "odd_server"]

Said = tuple[int, Any]


GAP_S = 0.005  # between events


@dataclass
class Odd:
    """An OpenAI-compatible server of one model. Answers have `max_tokens` words, an event each."""

    models: Said = (200, {"data": [{"id": "m", "max_model_len": 4096}]})
    health: Said = (200, "")
    metrics: Callable[[], Said] = lambda: (404, "none")
    refuse: Callable[[dict[str, Any]], Said | None] = lambda ask: None  # what a request is refused with
    usage: bool = True
    extra_prompt_tokens: Callable[[dict[str, Any]], int] = lambda ask: 0  # that usage counts beyond those sent
    cached: Callable[[dict[str, Any]], int | None] = lambda ask: None  # cached tokens by usage
    stream: bool = True
    token_ids: bool = False  # it gives those of its answers when asked
    paths: tuple[str, ...] = ("/v1/completions", "/v1/chat/completions")
    asks: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    def __call__(self, conn: socket.socket) -> None:
        while (request := read_request(conn)) is not None:
            head, body = request
            self.heads.append(head.decode())
            method, path = head.decode().split()[:2]
            path = path.partition("?")[0]
            if method == "GET":
                pages = {"/v1/models": lambda: self.models, "/health": lambda: self.health, "/metrics": self.metrics}
                self._whole(conn, *pages.get(path, lambda: (404, {"detail": "Not Found"}))())
            elif path in self.paths:
                self._complete(conn, json.loads(body))
            else:
                self._whole(conn, 404, {"detail": "Not Found"})

    def _complete(self, conn: socket.socket, ask: dict[str, Any]) -> None:
        self.asks.append(ask)
        refused = self.refuse(ask)
        if refused is not None:
            self._whole(conn, *refused)
            return
        count = ask.get("max_tokens") or ask["max_completion_tokens"]
        chat = "messages" in ask
        prompt = " ".join(m["content"] for m in ask["messages"]) if chat else ask["prompt"]
        sent = len(prompt) if isinstance(prompt, list) else len(prompt.split())
        usage: dict[str, Any] = {"prompt_tokens": sent + self.extra_prompt_tokens(ask), "completion_tokens": count}
        cached = self.cached(ask)
        if cached is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        if not self.stream:
            choice = {"index": 0, "text": " w" * count, "finish_reason": "length"}
            self._whole(conn, 200, {"choices": [choice], "usage": usage})
            return
        said: dict[str, Any] = {"delta": {"content": " w"}} if chat else {"text": " w"}
        if self.token_ids and ask.get("return_token_ids"):
            said["token_ids"] = [7]
        events: list[Any] = [
            {"choices": [{"index": 0, **said, "finish_reason": "length" if n == count - 1 else None}]}
            for n in range(count)
        ]
        if self.usage:
            events.append({"choices": [], "usage": usage})
        parts = [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]
        length = sum(map(len, parts))
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % length)
        for part in parts:  # answers that take no time are not in flight: a busy machine would find no concurrency
            time.sleep(GAP_S)
            conn.sendall(part)

    def _whole(self, conn: socket.socket, status: int, said: Any) -> None:
        kind = "text/plain" if isinstance(said, str) else "application/json"
        body = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        conn.sendall(head.encode() + body)


@contextmanager
def odd_server(**switches: Any) -> Iterator[tuple[Odd, str]]:
    """The server and its URL."""
    odd = Odd(**switches)
    with ScriptedServer(odd) as server:
        yield odd, server.url
