"""A connection that aiohttp's protocol reads through and that streams are written to, without a layer in between.

Reads take the kernel's receive stamp along (SO_TIMESTAMPNS); writes go straight to the socket and are kept only when
it takes no more. TLS connections go through asyncio's own transport instead and have no kernel stamp.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bench_tests.sim.clock import now_ns, real_minus_mono_ns

__all__ = ["Listener", "SocketTransport"]

_SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
_STAMP = struct.Struct("ll")
_READ = 262_144


class Listener:
    """Accepts connections and gives each a transport."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, factory: Callable[[], asyncio.Protocol]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._factory = factory
        self.closed = 0
        self.open: set[SocketTransport] = set()
        self.offset_ns = real_minus_mono_ns()
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)  # accepted sockets inherit it
        loop.add_reader(sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(64):
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # out of descriptors: try again, those who wait stay in the queue
                self._loop.remove_reader(self._sock.fileno())
                self._loop.call_later(0.1, self._again)
                return
            sock.setblocking(False)
            self.open.add(SocketTransport(self._loop, sock, self._factory(), self))

    def _again(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def sync(self) -> None:
        """Follow CLOCK_REALTIME, which the kernel stamps with."""
        self.offset_ns = real_minus_mono_ns()

    def close_idle(self, seconds: float) -> None:
        """Close the connections on which nothing has happened for so long, as a server with a short keep-alive does."""
        before = now_ns() - int(seconds * 1e9)
        for transport in [t for t in self.open if not t.busy and t.t_idle < before]:
            transport.close()

    def close(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()


class SocketTransport(asyncio.Transport):
    """One accepted connection."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.Protocol, home: Listener
    ) -> None:
        super().__init__({"socket": sock, "peername": sock.getpeername() if _connected(sock) else None})
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._home = home
        self._kept = bytearray()
        self._closing = False
        self._paused = False
        self.t_first_byte = 0  # of the request that is being read, CLOCK_MONOTONIC; whoever takes it sets it to zero
        self.busy = False  # a request is being read or answered
        self.t_idle = now_ns()  # since when it is not
        self.requests = 0
        self.blocked = 0  # writes that the kernel did not take at once
        protocol.connection_made(self)
        loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data, extra, _flags, _address = self._sock.recvmsg(_READ, 64)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as why:
            self._lost(why)
            return
        if not data:
            self._protocol.eof_received()
            self._lost(None)
            return
        if not self.t_first_byte:
            self.busy = True
            self.t_first_byte = now_ns()
            if extra:
                seconds, nanos = _STAMP.unpack(extra[0][2][:16])
                stamp = seconds * 1_000_000_000 + nanos - self._home.offset_ns
                self.t_first_byte = min(stamp, self.t_first_byte)
        self._protocol.data_received(data)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Hand bytes to the kernel now; keep what it does not take."""
        if self._closing:
            return
        if self._kept:
            self._kept += data
            return
        try:
            sent = os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as why:
            self._lost(why)
            return
        if sent < len(data):
            self.blocked += 1
            self._kept += memoryview(data)[sent:]
            self._loop.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        try:
            sent = os.write(self._fd, self._kept)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as why:
            self._lost(why)
            return
        del self._kept[:sent]
        if not self._kept:
            self._loop.remove_writer(self._fd)
            if self._closing:
                self._lost(None)

    def _lost(self, why: Exception | None) -> None:
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._fd = -1
        self._closing = True
        self._home.open.discard(self)
        self._home.closed += 1
        self._loop.call_soon(self._gone, why)

    def _gone(self, why: Exception | None) -> None:
        self._protocol.connection_lost(why)
        self._sock.close()

    def close(self) -> None:
        """Close when everything is written."""
        if not self._closing:
            self._closing = True
            if not self._kept:
                self._lost(None)

    def abort(self) -> None:
        """Reset: the peer gets an RST and loses what it has not read."""
        if self._fd >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._lost(None)

    def write_eof(self) -> None:
        """End our side of the connection, keep reading the other."""
        if self._fd >= 0:
            with suppress(OSError):  # the peer may be gone already
                self._sock.shutdown(socket.SHUT_WR)

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused

    def pause_reading(self) -> None:
        if self._fd >= 0 and not self._paused:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        if self._fd >= 0 and self._paused:
            self._paused = False
            self._loop.add_reader(self._fd, self._readable)

    def get_write_buffer_size(self) -> int:
        return len(self._kept)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`unsent`: bytes that the kernel has not taken; else as asyncio's."""
        return len(self._kept) if name == "unsent" else super().get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol


def _connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
