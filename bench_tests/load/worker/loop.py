"""The timed loop: sockets on epoll, bytes and kernel stamps kept, nothing decoded before a request has ended.

Nothing in here may wait, allocate much, or call anything slow:
what it delays is what it measures. See docs/methods.md for why it is written this way.
"""

from __future__ import annotations

import os
import resource
import select
import ssl
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bench_tests.load.ending import End, Ending
from bench_tests.load.plan import LoadPlan
from bench_tests.load.requests import Request, RequestFile
from bench_tests.load.worker.clock import ClockWatch, run_delay_s
from bench_tests.load.worker.connection import ANCILLARY
from bench_tests.load.worker.framing import CHUNKED, BadFraming, Framing
from bench_tests.load.worker.life import see_life
from bench_tests.load.worker.pool import DIALERS, Pool, Stream
from bench_tests.load.worker.stagger import Order
from bench_tests.load.worker.tally import Raw, Tally

__all__ = ["Loop", "PhaseStats"]

NS = 1_000_000_000
TICK_S = 0.001  # the loop polls at least this often: so long, at most, can a read be late while it keeps up
TICK_NS = int(TICK_S * NS)
READ = 1 << 16
MAX_PENDING_BYTES = 8 << 20  # unparsed answers beyond this are parsed even when the loop is busy
MAX_ANSWER_BYTES = 64 << 20  # an endless stream ends here
CHORES_NS = NS // 10
IDLE_NS = NS // 50  # a connection that waited this long for its first request may have been given up by the server
RESEND_S = 0.5  # a server that had given a connection up says so this soon after a request on it, or in 4 round trips
LAST_CHUNK = b"\r\n0\r\n\r\n"
NAP_S = 0.00025  # between polls at a high rate: waking up costs as much CPU as two reads, so let some gather
NAP_FROM = 20_000  # reads a second from which it is worth it
NAP_GAPS = 32  # and never longer than this part of the mean gap between a stream's events: a read's lateness at most
FEW_READY = 64  # sockets found ready at a look: so few mean that the loop keeps up and has time to parse an answer
SENDS_A_ROUND = 8  # requests started between two polls of the sockets: a storm of starts must not hold up the reads
SPARE = 8  # idle connections that a load without a cap keeps open beyond those it uses
GIVE_UP_AFTER = 50  # refused connections in a row, per stream's worth, before the rest is not tried


@dataclass
class PhaseStats:
    """What a phase says of the client itself."""

    duration_s: float = 0.0
    cpu_s: float = 0.0
    core_wait_s: float = 0.0  # ready to run, but without a core
    looks: int = 0  # at the sockets
    worst_pause_s: float = 0.0  # longest time between two polls of the sockets
    clock_step_s: float = 0.0
    reads: int = 0
    reopened: int = 0
    resent: int = 0  # of these with a request on them, which was sent again
    stamped: bool = True
    end: End = End.DONE
    stopped: str = ""  # why the phase ended before all was sent

    def as_dict(self) -> dict[str, object]:
        return dict(self.__dict__)


class Loop:
    """Carries `plan.streams` requests at a time through one or more phases (warm-up, measured)."""

    def __init__(self, plan: LoadPlan, files: RequestFile, tally: Tally) -> None:
        self.plan = plan
        self.files = files
        self.tally = tally
        self.pool = Pool(plan)
        self.streams = self.pool.streams
        self.epoll = self.pool.epoll
        self.idle: deque[Stream] = deque()
        self.todo: deque[tuple[Request, int]] = deque()
        self.pending: deque[Raw] = deque()
        self.pending_bytes = 0
        self.active = 0
        self.silent = 0  # requests in a row that timed out waiting for a byte
        self.grows = False  # no cap: a request that finds no idle stream gets a new one
        self.stagger: Order | None = None
        self.stats = PhaseStats()
        self.ending: Ending | None = None  # why the phase ends before all is sent

    # ------------------------------------------------------------------ connections, off the clock

    def open_all(self) -> None:
        """Open every stream's connection before any clock starts. A refused one is tried again for its request."""
        pool = self.pool
        for stream in self.streams:
            if stream.channel is None and not stream.opening:
                pool.open(stream)
        opened = pool.opening
        while pool.opening:
            self.epoll.poll(0.1)
            self._take_opened()
            if pool.refused >= min(opened, DIALERS):  # a whole round in vain: do not wait for the rest's timeouts too
                pool.give_up_dialing()

    def close(self) -> None:
        self.pool.close()

    def _take_opened(self) -> None:
        for stream, failure in self.pool.take():
            if failure is None and stream.request is not None:
                self._send(stream, stream.request, stream.due_ns)
            elif failure is None or (stream.request is None and (self.grows or not self.todo)):
                if stream not in self.idle:
                    self.idle.append(stream)
            else:
                if stream.request is None:
                    stream.request, stream.due_ns = self.todo.popleft()
                    self.active += 1
                late = isinstance(failure, TimeoutError)
                words = f"no connection within {self.plan.timeouts.connect:g} s" if late else str(failure)
                self._finish(stream, ("stalled" if late else "connect", f"connect: {words}"))

    # ------------------------------------------------------------------ a request's life

    def _send(self, stream: Stream, request: Request, due_ns: int) -> None:
        channel = stream.channel
        if channel is None:  # pragma: no cover  # callers hold an open stream
            raise AssertionError("send on a closed stream")
        data = request.data or os.pread(self.files.fileno, request.size, request.offset)
        stream.request = request
        stream.due_ns = due_ns
        stream.fast = False
        stream.buf, stream.framing = bytearray(), Framing()
        stream.ends, stream.stamps, stream.reads, stream.polls = array("q"), array("q"), array("q"), array("q")
        try:
            if channel.tls is not None:
                data = channel.encrypt(data)
            stream.event_ns = stream.seen = 0
            stream.send_ns = time.time_ns()
            sent = channel.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as why:
            self._lost(stream, why)
            return
        if sent < len(data):
            stream.unsent = memoryview(data)[sent:]
            self.epoll.modify(stream.fd, select.EPOLLIN | select.EPOLLOUT)

    def _send_more(self, stream: Stream) -> None:
        if stream.unsent is None or stream.channel is None:
            return
        try:
            sent = stream.channel.sock.send(stream.unsent)
        except BlockingIOError:
            return
        except OSError:
            return  # the answer may be there all the same: reading tells
        stream.unsent = stream.unsent[sent:] if sent < len(stream.unsent) else None
        if stream.unsent is None:
            self.epoll.modify(stream.fd, select.EPOLLIN)

    def _lost(self, stream: Stream, why: OSError | None) -> None:
        """The connection ended or broke, with or without a request on it."""
        request, was_used = stream.request, stream.used
        patience_s = max(RESEND_S, 4 * stream.channel.opened_s) if stream.channel is not None else RESEND_S
        self.pool.drop(stream)
        if request is None:
            if stream in self.idle:  # closed while idle: reopened off the clock
                self.idle.remove(stream)
            self.stats.reopened += 1
            self.pool.open(stream)
            return
        was_idle = was_used or stream.send_ns - stream.opened_ns > IDLE_NS
        soon = (time.time_ns() - stream.send_ns) / NS < patience_s  # later, it is the request that was lost
        if not stream.buf and was_idle and soon and not stream.retried:
            # a kept-alive connection that the server had already given up: not its failure, and not our clock
            stream.retried = True
            stream.unsent = None
            self.stats.reopened += 1
            self.stats.resent += 1
            self.pool.open(stream)
            return
        if why is None and stream.framing.closed(stream.buf):
            self._finish(stream, None)
            return
        got = f"after {len(stream.buf)} bytes" if stream.buf else "before any answer"
        self._finish(stream, ("cut_off", f"connection {'closed' if why is None else f'lost ({why.strerror})'} {got}"))

    def _finish(self, stream: Stream, failure: tuple[str, str] | None) -> None:
        """The request has ended: keep what there is of it; the stream is free for the next."""
        request = stream.request
        if request is None:
            return
        raw = Raw(request, stream.due_ns, stream.send_ns, stream.connect_s, stream.buf, stream.framing,
                  stream.ends, stream.stamps, stream.reads, stream.polls, failure)  # fmt: skip
        if failure is not None and failure[0] == "withdrawn":
            raw.withdrawn_ns = time.time_ns()
        self.pending.append(raw)
        self.pending_bytes += len(stream.buf)
        self.active -= 1
        if self.stagger is not None:
            self.stagger.ended(request, self.todo, time.time_ns())
        stream.request, stream.unsent, stream.retried, stream.used = None, None, False, True
        stream.buf, stream.connect_s, stream.send_ns = bytearray(), 0.0, 0
        if failure is None or failure[0] not in ("stalled", "connect", "withdrawn"):
            self.silent = 0
        if failure is not None or not raw.framing.keep_alive:
            self.pool.drop(stream)
        if stream.channel is None:
            if self.pool.refused > GIVE_UP_AFTER + 3 * len(self.streams):
                self._end(End.REFUSED, f"{self.pool.refused} connections in a row failed")
            if self.todo and self.ending is None:
                self.pool.open(stream)
            else:
                self.idle.append(stream)
            return
        self.idle.append(stream)

    def _check_end(self, stream: Stream) -> None:
        framing = stream.framing
        if stream.fast and stream.buf[-7:] == LAST_CHUNK:
            # walking the chunks takes longer than a read: the tally does it, when the loop is idle
            self._finish(stream, None)
            return
        try:
            whole = framing.feed(stream.buf)
        except BadFraming as why:
            self._finish(stream, ("malformed", str(why)))
            return
        if whole:
            framing.keep_alive = framing.keep_alive and framing.pos == len(stream.buf)
            self._finish(stream, None)
        elif len(stream.buf) > MAX_ANSWER_BYTES:
            self._finish(stream, ("malformed", f"an answer without an end: {len(stream.buf)} bytes so far"))
        else:
            stream.fast = framing.mode == CHUNKED

    # ------------------------------------------------------------------ a phase

    def run(
        self, requests: list[Request], due_ns: list[int], chores: Callable[[], Ending | None], stagger: Order | None
    ) -> PhaseStats:
        """Send all requests, none before its due time, and wait for their ends; with `stagger` in its order.

        `chores` is called ten times a second; an ending that it returns stops the phase for that reason: what runs is
        cancelled, what was not sent is counted as cancelled too.
        """
        self.grows = bool(requests and requests[0].measured) and not self.plan.capped
        self.stagger, self.ending, self.silent = stagger, None, 0
        self.stats = PhaseStats()
        self.todo = deque(zip(requests, due_ns, strict=True))
        if stagger is not None:
            self.todo = stagger.begin(list(self.todo), self.files.filling, time.time_ns())
        clock, usage, waited = ClockWatch(), resource.getrusage(resource.RUSAGE_SELF), run_delay_s()
        start = time.monotonic()
        self._spin(clock, chores)
        self.stats.duration_s = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        self.stats.cpu_s = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
        self.stats.core_wait_s = run_delay_s() - waited
        clock.look()
        self.stats.clock_step_s = clock.worst_step_ns / NS
        self.stats.stamped = self.pool.stamped
        if self.ending is not None:
            self.stats.end, self.stats.stopped = self.ending.kind, self.ending.words
        self._cancel_rest()
        while self.pending:
            self._parse_one()
        return self.stats

    def _spin(self, clock: ClockWatch, chores: Callable[[], Ending | None]) -> None:
        poll, by_fd, time_ns, sleep, order = self.epoll.poll, self.pool.by_fd, time.time_ns, time.sleep, self.stagger
        size, wake_r = max(len(self.streams) + 2, 4096 * self.grows), self.pool.wake_r
        self._start_due()
        before = time_ns()
        next_chores = before + CHORES_NS
        worst = reads = looks = reads_before = 0
        nap_s = 0.0
        ready: list[tuple[int, int]] = []
        deadline = before + int(self.plan.timeouts.point * NS)
        while (self.active or self.todo or (order and self.pending)) and not (self.ending or (order and order.done)):
            busy = self.pending or self._due_soon(before)
            if nap_s and not busy and len(ready) <= FEW_READY:
                sleep(nap_s)
            ready = poll(0 if busy else TICK_S, size)
            now = time_ns()
            looks += 1
            if now - before > worst:
                worst = now - before
            for fd, event in ready:
                stream = by_fd.get(fd)
                if stream is None:
                    if fd == wake_r:
                        self._take_opened()
                    continue
                if event & 4:  # EPOLLOUT
                    self._send_more(stream)
                    if not event & ~4:
                        continue
                try:
                    data, control, _, _ = stream.recv(READ, ANCILLARY)  # type: ignore[misc]  # by_fd holds open ones
                except BlockingIOError:
                    continue
                except OSError as why:
                    self._lost(stream, why)
                    continue
                if not data:
                    self._lost(stream, None)
                    continue
                read_ns = time_ns()
                if stream.tls:
                    try:
                        data = stream.channel.decrypt(data)  # type: ignore[union-attr]
                    except ssl.SSLError as broken:
                        if stream.request is None:
                            self._lost(stream, broken)
                        else:
                            self._finish(stream, ("malformed", f"TLS: {broken.reason}"))
                        continue
                    if not data:
                        continue
                if stream.request is None:
                    self._lost(stream, None)  # bytes that nobody asked for: such a connection is not used again
                    continue
                reads += 1
                buf = stream.buf
                buf += data
                stream.ends.append(len(buf))
                if control:
                    stream.stamps.frombytes(control[0][2])
                stream.reads.append(read_ns)
                stream.polls.append(before)
                if not stream.fast or data[-4:] == b"\r\n\r\n" or len(data) < 4:
                    self._check_end(stream)
            before = now
            if self.todo or self.stagger is not None:
                self._start_due()
            if self.pending and (len(ready) <= FEW_READY or self.pending_bytes > MAX_PENDING_BYTES):
                self._parse_one()
            if now >= next_chores:
                nap_s = self._nap_s(reads - reads_before, now - next_chores + CHORES_NS)
                next_chores, reads_before = now + CHORES_NS, reads
                clock.look()
                self._time_out(now)
                said = chores()
                if said is not None:
                    self.ending = said
                elif now > deadline:
                    self._end(End.TIME_UP, f"the point took longer than {self.plan.timeouts.point:g} s")
        self.stats.worst_pause_s = worst / NS
        self.stats.reads, self.stats.looks = reads, looks

    def _nap_s(self, reads: int, span_ns: int) -> float:
        """How long to let reads gather, after so many in that time. Only where the kernel's stamps keep the truth."""
        rate = reads / span_ns * NS
        if rate < NAP_FROM or not self.pool.stamped:
            return 0.0
        return min(NAP_S, self.active / rate / NAP_GAPS)

    def _due_soon(self, now: int) -> bool:
        return bool(self.todo and (self.idle or self.grows) and self.todo[0][1] - now < 2 * TICK_NS)

    def _start_due(self) -> None:
        now = time.time_ns()
        if self.stagger is not None and not self.todo:
            self.todo.extend(self.stagger.more())
        for _ in range(SENDS_A_ROUND):
            if not (self.todo and (self.idle or self.grows) and self.todo[0][1] <= now):
                break
            stream = self.idle.popleft() if self.idle else self.pool.add()
            request, due_ns = self.todo.popleft()
            self.active += 1
            if stream.channel is None:
                stream.request, stream.due_ns = request, due_ns
                self.pool.open(stream)
            else:
                self._send(stream, request, due_ns)
                now = time.time_ns()
        if self.grows and self.todo and len(self.idle) + self.pool.opening < SPARE:
            self.pool.open(self.pool.add())  # ahead of its request: connecting must not make one late

    def enough(self) -> None:
        """Send nothing more; what runs is finished."""
        self.todo.clear()
        if self.stagger is not None:
            self.stagger.enough(sum(s.request is not None and s.request.measured for s in self.streams))

    def _parse_one(self) -> None:
        raw = self.pending.popleft()
        self.pending_bytes -= len(raw.buf)
        self.tally.add(raw)

    def _time_out(self, now: int) -> None:
        plan = self.plan
        for stream in self.streams:
            if stream.request is None or stream.channel is None:
                continue
            if stream.request.cancel_ns and now - stream.send_ns >= stream.request.cancel_ns:
                self._finish(stream, ("withdrawn", ""))
                continue
            words = self._silence(stream, now)
            if words:
                self._count_silent(now, words)
            elif (now - stream.send_ns) / NS > plan.timeouts.request:
                words = f"longer than {plan.timeouts.request:g} s (timeouts.request)"
            if words:
                self._finish(stream, ("stalled", words))

    def _silence(self, stream: Stream, now: int) -> str:
        """How long no event of the answer has come, in words, where that is too long; "" where it is not."""
        first, between = self.plan.timeouts.first_token, self.plan.timeouts.between_tokens
        if now - (stream.event_ns or stream.send_ns) <= (between if stream.event_ns else min(first, between)) * NS:
            return ""
        event_ns = see_life(stream)
        if not event_ns and now - stream.send_ns > first * NS:
            return f"no first token within {first:g} s (timeouts.first_token)"
        if event_ns and now - event_ns > between * NS:
            return f"silent for {between:g} s in the stream (timeouts.between_tokens)"
        return ""

    def _count_silent(self, now: int, words: str) -> None:
        """As many as there are streams, and nobody is answered: the rest would wait as long, each in its turn."""
        self.silent += 1
        if self.silent < max(2, len(self.streams)) or self.ending is not None:
            return
        patience = int(self.plan.timeouts.between_tokens * NS)
        if not any(s.request and s.channel and now - see_life(s) < patience for s in self.streams):
            self._end(End.SILENT, f"{self.silent} requests in a row got no answer in time, the last: {words}")

    def _end(self, kind: End, words: str) -> None:
        """End the phase for this reason, unless there is one already."""
        self.ending = self.ending or Ending(kind, words)

    def _cancel_rest(self) -> None:
        """Cancel what runs (closing its connection aborts it on the server) and count what was never sent."""
        ending = self.ending or Ending(End.INTERRUPTED, "stopped" if self.stagger is None else "kept the loop full")
        stagger, self.stagger = self.stagger, None
        if stagger is not None:
            self.todo = deque(entry for entry in (*self.todo, *stagger.unsent()) if entry[0].measured)
        why, kind = ending.words or ending.kind, "connect" if ending.kind is End.REFUSED else "cancelled"
        for stream in self.streams:
            if stream.request is not None:
                self._finish(stream, (kind, why))
        while self.todo:
            request, due_ns = self.todo.popleft()
            nothing = (array("q"), array("q"), array("q"), array("q"))
            self.pending.append(
                Raw(request, due_ns, 0, 0.0, bytearray(), Framing(), *nothing, (kind, f"not sent: {why}"))
            )
