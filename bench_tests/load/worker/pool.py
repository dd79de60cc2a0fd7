"""The connections of a load process: opened by threads, off the clock, and known to the loop by their descriptor."""

from __future__ import annotations

import os
import select
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bench_tests.load.plan import LoadPlan
from bench_tests.load.requests import Request
from bench_tests.load.worker.connection import Channel, Dialer
from bench_tests.load.worker.framing import Framing

__all__ = ["Pool", "Stream"]

DIALERS = 32  # threads that open connections


@dataclass(slots=True, eq=False)
class Stream:
    """One place in the concurrency: a connection and the request on it, if any."""

    channel: Channel | None = None
    recv: Callable[[int, int], tuple[bytes, list[tuple[int, int, bytes]], int, Any]] | None = None  # its recvmsg
    tls: bool = False
    fd: int = -1
    opening: bool = False
    used: bool = False  # the connection has carried a request before
    opened_ns: int = 0
    retried: bool = False
    request: Request | None = None
    due_ns: int = 0
    send_ns: int = 0
    event_ns: int = 0  # the latest event of the answer, as far as anybody has looked
    seen: int = 0  # bytes of buf when it was looked for
    connect_s: float = 0.0
    unsent: memoryview | None = None
    fast: bool = False  # the head is read and the answer is chunked: only an end needs a look
    buf: bytearray = field(default_factory=bytearray)
    framing: Framing = field(default_factory=Framing)
    ends: array[int] = field(default_factory=lambda: array("q"))
    stamps: array[int] = field(default_factory=lambda: array("q"))
    reads: array[int] = field(default_factory=lambda: array("q"))
    polls: array[int] = field(default_factory=lambda: array("q"))


class Pool:
    """One stream for each place in the concurrency, their connections, and the epoll set that watches them."""

    def __init__(self, plan: LoadPlan) -> None:
        self.streams = [Stream() for _ in range(plan.streams)]
        self.by_fd: dict[int, Stream] = {}
        self.epoll = select.epoll()
        self.opening = 0
        self.refused = 0  # connections in a row that could not be opened
        self.stamped = True  # the kernel stamps what all of them receive
        self._dialer = Dialer(plan.base_url, plan.insecure, plan.timeouts.connect)
        self._opened: deque[tuple[Stream, Future[Channel]]] = deque()
        self.wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.epoll.register(self.wake_r, select.EPOLLIN)
        self._threads = self._new_threads()

    def open(self, stream: Stream) -> None:
        """Have a thread open its connection; `take` gives it back, and `wake_r` becomes readable then."""
        self.opening += 1
        stream.opening = True
        future = self._threads.submit(self._dialer.open)
        future.add_done_callback(lambda done, stream=stream: self._wake(stream, done))  # type: ignore[misc]

    def add(self) -> Stream:
        """A further stream, for a load that no cap delays."""
        self.streams.append(Stream())
        return self.streams[-1]

    def take(self) -> Iterator[tuple[Stream, BaseException | None]]:
        """The streams whose connections are open now, or why they are not."""
        try:
            os.read(self.wake_r, 4096)
        except BlockingIOError:
            pass
        while self._opened:
            stream, done = self._opened.popleft()
            self.opening -= 1
            stream.opening = False
            failure = TimeoutError() if done.cancelled() else done.exception()
            if failure is None:
                self._connect(stream, done.result())
            else:
                self.refused += 1
            yield stream, failure

    def give_up_dialing(self) -> None:
        """What waits for its turn to be opened is not tried."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads = self._new_threads()

    def drop(self, stream: Stream) -> None:
        """Close its connection, if it has one."""
        if stream.channel is not None:
            self.by_fd.pop(stream.fd, None)
            stream.channel.sock.close()  # leaves the epoll set by itself
            stream.channel, stream.recv, stream.fd = None, None, -1

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for stream in self.streams:
            self.drop(stream)
        self.epoll.close()
        os.close(self.wake_r)
        wake_w, self._wake_w = self._wake_w, -1  # a dial that ends later must not write to whatever has its number then
        os.close(wake_w)

    def _new_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=min(DIALERS, max(1, len(self.streams))), thread_name_prefix="dial")

    def _wake(self, stream: Stream, done: Future[Channel]) -> None:
        self._opened.append((stream, done))
        try:
            os.write(self._wake_w, b"x")
        except OSError:
            pass  # full is awake enough; closed is over

    def _connect(self, stream: Stream, channel: Channel) -> None:
        stream.channel, stream.fd, stream.used = channel, channel.sock.fileno(), False
        stream.opened_ns = time.time_ns()
        stream.recv, stream.tls = channel.sock.recvmsg, channel.tls is not None
        stream.connect_s = channel.opened_s
        self.stamped &= channel.stamped
        self.by_fd[stream.fd] = stream
        self.epoll.register(stream.fd, select.EPOLLIN)
        self.refused = 0
