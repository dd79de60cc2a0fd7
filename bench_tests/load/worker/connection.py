"""One connection to the server: opened off the clock, with kernel receive stamps, in the clear or by TLS.

The loop reads and writes the socket itself; what is here happens before, between and after.
"""

from __future__ import annotations

import base64
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from bench_tests.errors import UsageError
from bench_tests.net import proxy_for

__all__ = ["ANCILLARY", "Channel", "Dialer"]

SO_TIMESTAMPNS = 35  # Linux; the same number comes back as the control message's type
ANCILLARY = socket.CMSG_SPACE(16)
_STAMP = struct.Struct("qq")


@dataclass
class Channel:
    """An open connection: a non-blocking socket, and for HTTPS the TLS state on top of it."""

    sock: socket.socket
    opened_s: float  # how long connecting took, TLS included
    stamped: bool  # the kernel stamps what arrives
    tls: ssl.SSLObject | None = None
    tls_in: ssl.MemoryBIO | None = None
    tls_out: ssl.MemoryBIO | None = None

    def encrypt(self, data: bytes) -> bytes:
        """What has to be written to the socket for `data`."""
        if self.tls is None or self.tls_out is None:
            return data
        self.tls.write(data)
        return self.tls_out.read()

    def decrypt(self, data: bytes) -> bytes:
        """What came, in the clear; empty while a record is incomplete. Raises ssl.SSLError for a broken stream."""
        if self.tls is None or self.tls_in is None:
            return data
        self.tls_in.write(data)
        plain = []
        while True:
            try:
                part = self.tls.read(1 << 16)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                break
            if not part:
                break
            plain.append(part)
        return b"".join(plain)


class Dialer:
    """Opens connections to one server; thread-safe, so that some can be opened at the same time."""

    def __init__(self, base_url: str, insecure: bool, timeout_s: float) -> None:
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise UsageError(f"base URL {base_url!r}: expected http://HOST[:PORT] or https://HOST[:PORT]")
        self.host = url.hostname
        self.port = url.port or (443 if url.scheme == "https" else 80)
        self.timeout_s = timeout_s
        self.proxy = _proxy(url)
        self.context: ssl.SSLContext | None = None
        if url.scheme == "https":
            self.context = ssl.create_default_context()
            self.context.set_alpn_protocols(["http/1.1"])
            if insecure:
                self.context.check_hostname = False
                self.context.verify_mode = ssl.CERT_NONE
        elif self.proxy is not None:
            raise UsageError(
                f"http_proxy is set for {self.host}: a proxy in the clear would be measured with the server; "
                f"set no_proxy={self.host}, or use https (which tunnels)"
            )

    def open(self) -> Channel:
        """A new connection. Raises OSError (ssl.SSLError among them) when there is none within the timeout."""
        start = time.monotonic()
        sock = self._connect()
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stamped = True
            try:
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            except OSError:
                stamped = False
            channel = Channel(sock, 0.0, stamped)
            if self.context is not None:
                self._handshake(channel, self.context)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        channel.opened_s = time.monotonic() - start
        return channel

    def _connect(self) -> socket.socket:
        if self.proxy is None:
            return socket.create_connection((self.host, self.port), self.timeout_s)
        sock = socket.create_connection((self.proxy.hostname, self.proxy.port or 80), self.timeout_s)
        try:
            _tunnel(sock, self.host, self.port, self.proxy)
        except BaseException:
            sock.close()
            raise
        return sock

    def _handshake(self, channel: Channel, context: ssl.SSLContext) -> None:
        channel.tls_in, channel.tls_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        channel.tls = context.wrap_bio(channel.tls_in, channel.tls_out, server_hostname=self.host)
        while True:
            try:
                channel.tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            if out := channel.tls_out.read():
                channel.sock.sendall(out)
            if done:
                return
            data = channel.sock.recv(1 << 16)
            if not data:
                raise ConnectionResetError("closed during the TLS handshake")
            channel.tls_in.write(data)


def stamp_ns(control: bytes) -> int:
    """Nanoseconds of CLOCK_REALTIME from an SCM_TIMESTAMPNS control message."""
    seconds, nanos = _STAMP.unpack(control)
    return int(seconds) * 1_000_000_000 + int(nanos)


def _proxy(url: SplitResult) -> SplitResult | None:
    named = proxy_for(url.geturl())
    return urlsplit(named) if named else None


def _tunnel(sock: socket.socket, host: str, port: int, proxy: SplitResult) -> None:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    login = ""
    if proxy.username:
        pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        login = f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    sock.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{login}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = sock.recv(4096)
        if not data or len(answer) > 65536:
            raise ConnectionResetError(f"proxy {proxy.hostname}: closed without an answer to CONNECT")
        answer += data
    status = answer.split(b" ", 2)[1:2]
    if status != [b"200"]:
        line = answer.split(b"\r\n", 1)[0].decode("latin-1")
        raise ConnectionRefusedError(f"proxy {proxy.hostname}: {line!r} to CONNECT {where}")
