"""A client that shows a server's bytes as they came, for the tests of the simulated server."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bench_tests.sim.simulator import SimSpec, Simulator

__all__ = ["FAST", "Got", "ask", "metric"]

FAST = SimSpec(base_ms=1.0, per_seq_us=0, per_ktoken_us=0, prefill_tok_per_s=1e6, max_model_len=2000)


@dataclass
class Got:
    """One answer, as bytes and as what they mean."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool  # the body ended as HTTP says it should
    arrivals: list[float]  # seconds from the request to each read

    @property
    def data(self) -> list[str]:
        """The payloads of the stream's events."""
        text = self.body.replace(b"\r\n", b"\n").decode()
        events = [part for part in text.split("\n\n") if part and not part.startswith(":")]
        return [event.split("data: ", 1)[1] for event in events]

    @property
    def choices(self) -> list[dict[str, Any]]:
        """The events that carry a choice."""
        return [e for e in (json.loads(d) for d in self.data if d != "[DONE]") if e.get("choices")]

    @property
    def usage(self) -> dict[str, Any] | None:
        """Of the last event that says it."""
        said = [e["usage"] for e in (json.loads(d) for d in self.data if d != "[DONE]") if e.get("usage")]
        return said[-1] if said else None


def ask(sim: Simulator, body: Any = None, path: str = "/v1/completions", **headers: str) -> Got:
    """One request on a connection of its own; raises ConnectionResetError when it is reset before an answer."""
    url = urlsplit(sim.url)
    if body is None:
        body = {"model": "simulated", "prompt": list(range(20)), "max_tokens": 8, "stream": True, "ignore_eos": True}
        body["stream_options"] = {"include_usage": True}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    head += "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
    with socket.create_connection((url.hostname, url.port), timeout=5) as sock:
        sock.sendall(head.encode() + b"\r\n" + data)
        sent = time.monotonic()
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        parts: list[bytes] = []
        arrivals: list[float] = []
        whole = True
        try:
            while part := answer.read1(1 << 20):
                parts.append(part)
                arrivals.append(time.monotonic() - sent)
        except (OSError, http.client.HTTPException, ValueError):
            whole = False
        if answer.chunked and answer.chunk_left is not None and not answer.isclosed():
            whole = False
    return Got(answer.status, {k.lower(): v for k, v in answer.getheaders()}, b"".join(parts), whole, arrivals)


def metric(sim: Simulator, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    total = 0.0
    for line in sim.request("/metrics").decode().splitlines():
        match = re.fullmatch(rf"{re.escape(name)}(?:\{{(.*)\}})? (\S+)", line)
        if match and all(f'{k}="{v}"' in (match[1] or "") for k, v in labels.items()):
            total += float(match[2])
    return total
