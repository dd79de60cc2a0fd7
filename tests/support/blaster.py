"""`python -m tests.support.blaster`: streams to all connections at once, as fast as one core can send, whoever keeps up.

Prints its URL. Not paced, without a truth log: for showing what a client does that cannot keep up.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from typing import Any

__all__ = ["main"]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def ask(conn: socket.socket) -> dict[str, Any] | None:
    """The body of the next request on this connection; None where it is none of a load, or the connection has ended."""
    data = conn.recv(1 << 16)
    if data[:4] != b"POST":
        if data:
            conn.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return None
    while b"\r\n\r\n" not in data:
        data += conn.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += conn.recv(1 << 16)
    asked: dict[str, Any] = json.loads(body)
    return asked


def requests(
    listener: socket.socket, conns: list[socket.socket], count: int
) -> list[tuple[socket.socket, dict[str, Any]]]:
    """The next `count` requests of a load, with their connections; new connections are taken meanwhile."""
    asked: list[tuple[socket.socket, dict[str, Any]]] = []
    while len(asked) < count:
        for sock in select.select([listener, *conns], [], [])[0]:
            if sock is listener:
                conns.append(listener.accept()[0])
            elif (body := ask(sock)) is not None:
                asked.append((sock, body))
            else:
                sock.close()
                conns.remove(sock)
    return asked


def main() -> None:
    """Wait for as many requests as the first argument says, stream to all in turn, again and again."""
    streams = int(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0), backlog=streams)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    conns: list[socket.socket] = []
    token = chunk(event(choices=[{"index": 0, "text": "word", "finish_reason": None}]))
    while True:
        asked = requests(listener, conns, streams)
        tokens = asked[0][1]["max_tokens"]
        usage = {"prompt_tokens": len(asked[0][1]["prompt"]), "completion_tokens": tokens}
        last = chunk(event(choices=[{"index": 0, "text": "", "finish_reason": "length"}]))
        tail = last + chunk(event(choices=[], usage=usage)) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        for conn, _ in asked:
            conn.sendall(HEAD)
        for _ in range(tokens):
            for conn, _ in asked:
                conn.sendall(token)
        for conn, _ in asked:
            conn.sendall(tail)


if __name__ == "__main__":
    main()
