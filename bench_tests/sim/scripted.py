"""Streams with faults in them: what each token writes is scripted beforehand, and what must wait waits in a queue."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import deque
from itertools import pairwise

from bench_tests.sim.clock import Clock, now_ns
from bench_tests.sim.events import DONE, LAST_CHUNK, Voice, chunk, error_event, stream_head, token_id
from bench_tests.sim.metrics import Metrics
from bench_tests.sim.stream import Reply, Sequence, Transport

__all__ = ["CRASH", "ScriptedReply", "ScriptedSequence", "changed_length"]

CRASH = "EngineCore encountered an issue. See stack trace (above) for the root cause."
_ACTS = ("reset_mid_stream", "half_close", "error_event", "garbage", "bad_chunk", "stall_mid_stream")
_PIECES = 3  # that an event is cut into, beyond the cuts inside its UTF-8 characters
_BEHIND = 16 * 1024 * 1024  # bytes that nobody reads, after which an endless stream pauses


def changed_length(n: int, hit: dict[str, float]) -> int:
    """How many tokens are sent when n were asked for."""
    if "fewer_tokens" in hit:
        return max(n - (int(hit["fewer_tokens"]) or n // 2), 1)
    if "more_tokens" in hit:
        return n + int(hit["more_tokens"])
    return 1 if "zero_tokens" in hit else n


class ScriptedReply(Reply):
    """A streamed answer with faults. Bytes that are delayed, or cut in pieces, go through its queue."""

    def __init__(
        self,
        voice: Voice,
        transport: Transport,
        done: asyncio.Future[None],
        metrics: Metrics,
        clock: Clock,
        hit: dict[str, float],
        seed: int,
    ) -> None:
        super().__init__(voice, transport, done, metrics)
        self.hit = hit
        self.rng = random.Random(seed)
        self.keep_alive = "not_chunked" not in hit
        self.linger = False  # leave the connection half open until the client closes it
        self._clock = clock
        self._chunked = "not_chunked" not in hit
        self._gzip = zlib.compressobj(wbits=31) if "gzip" in hit else None
        self._split_ns = int(max(hit.get("split", 0.0), 1.0) * 1e3) if "split" in hit else 0
        self._head = b""
        self._hold_until = 0
        self._queue: deque[tuple[bytes, Sequence | None, int]] = deque()
        self._pumping = False
        self._ending = ""

    def begin(self) -> None:
        """Send the head, or keep it back."""
        first = stream_head(self._chunked, self._gzip is not None) + self._frame(self.roles())
        if "late_headers" in self.hit:
            self._head = first
            return
        if "slow_headers" in self.hit:
            self.hold(self.hit["slow_headers"])
        self._put(first, None, 0)
        if "stall_first_token" in self.hit:
            self.hold(self.hit["stall_first_token"])

    def hold(self, seconds: float) -> None:
        """Nothing goes out for so long; what is written meanwhile goes out then."""
        self._hold_until = now_ns() + int(seconds * 1e9)
        self._pump(self._hold_until)

    def send(self, content: bytes, sequence: Sequence | None, events: int) -> None:
        """Write content of the stream: whole events, of which so many carry a choice."""
        if "crlf" in self.hit:
            content = content.replace(b"\n", b"\r\n")
        self._put(self._head + self._frame(content), sequence, events)
        self._head = b""

    def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._put(self._head + data, None, 0)
        self._head = b""

    def end(self, outcome: str = "ok", tail: bool = True) -> None:
        """The stream is at its end; it is finished when all that was kept back is written."""
        rest = b""
        if self._gzip is not None:
            rest = self._wrap(self._gzip.flush())
        if tail:
            self.raw(rest + (LAST_CHUNK if self._chunked else b""))
        self._ending = outcome
        if not self._queue:
            self.finish(outcome)

    def abort(self, outcome: str = "client_gone") -> None:
        """The connection is gone, perhaps because we ended it ourselves."""
        super().abort(self._ending or outcome)

    def sequence_ended(self) -> None:
        """A sequence had its last token: after the last of them come usage, [DONE] and the body's end."""
        self.left -= 1
        if self.left:
            return
        total = 0 if "zero_tokens" in self.hit else self.tokens()
        total += int(self.hit.get("wrong_usage", 0))
        if self.voice.usage and "no_usage" not in self.hit:
            self.send(self.voice.usage_event(total, self.cached(), self.thought()), None, 0)
        if "no_done" not in self.hit:
            self.send(DONE, None, 0)
        self.end()

    def fire(self, due: int) -> int:
        """The clock calls: write what has waited, or the next piece of it."""
        now = now_ns()
        if self.transport.is_closing() or self.outcome:
            self._queue.clear()
        if now < self._hold_until and self._queue:
            return self._hold_until
        while self._queue:
            self._write(*self._queue.popleft())
            if self._split_ns and self._queue:
                return now_ns() + self._split_ns
        self._pumping = False
        if self._ending:
            self.finish(self._ending)
        return 0

    def _put(self, data: bytes, sequence: Sequence | None, events: int) -> None:
        if self._split_ns:
            pieces = _cut(data, self.rng)
            self._queue.extend((piece, None, 0) for piece in pieces[:-1])
            self._queue.append((pieces[-1], sequence, events))
            self._pump(now_ns())
        elif self._queue or now_ns() < self._hold_until:
            self._queue.append((data, sequence, events))
            self._pump(self._hold_until)
        else:
            self._write(data, sequence, events)

    def _pump(self, due: int) -> None:
        if not self._pumping:
            self._pumping = True
            self._clock.at(due, self)

    def _write(self, data: bytes, sequence: Sequence | None, events: int) -> None:
        if sequence is not None and events:
            sequence.stamps += [now_ns()] * events
        self.transport.write(data)

    def _frame(self, content: bytes) -> bytes:
        if self._gzip is not None:
            content = self._gzip.compress(content) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        return self._wrap(content)

    def _wrap(self, content: bytes) -> bytes:
        return chunk(content) if self._chunked and content else content


class ScriptedSequence(Sequence):
    """A choice whose every token has its own bytes: no bytes, an event, or several."""

    __slots__ = ("act", "act_at", "endless", "script", "scripted", "token_ids")

    def __init__(
        self, reply: ScriptedReply, index: int, prompt_tokens: int, blocks: list[int], n: int, token_ids: bool = False
    ) -> None:
        super().__init__(reply, index, prompt_tokens, blocks, n)
        self.scripted = reply
        self.script: list[tuple[bytes, int]] = []  # of each token: bytes, and how many events with a choice they hold
        self.act = next((name for name in _ACTS if name in reply.hit), "")
        self.act_at = self._place(self.act if self.act != "stall_mid_stream" else "")
        self.endless = "endless" in reply.hit
        self.token_ids = token_ids

    def _place(self, name: str) -> int:
        """At which token the fault of this name strikes."""
        return min(int(self.scripted.hit.get(name, 0)) or self.n // 2, self.n - 1)

    def prepare(self) -> None:
        """Write the script."""
        hit = self.scripted.hit
        if "zero_tokens" in hit:
            self.script = [(b"", 0)]
            return
        per_event, per_write = int(hit.get("tokens_per_event", 1)), int(hit.get("coalesce", 1))
        script = [(b"", 0)] * self.n
        waiting, count, start, written = b"", 0, 0, 0
        starts = {0, 1, self.think, self.tool, self.tool + 1}
        for i in range(self.n):
            last = i == self.n - 1
            if not (last or i + 1 in starts or i - start + 1 == per_event):
                continue
            waiting += self._event(start, i, last)
            count += 1
            self.answer_event += i < self.think
            start = i + 1
            if last or i == 0 or (written + 1) % per_write == 0:
                script[i] = (waiting, count)
                waiting, count = b"", 0
            written += i > 0
        for name in ("malformed_json", "huge_event"):
            if name in hit:
                at = self.n // 2 if name == "huge_event" else self._place(name)
                script[at] = self._odd(name, at)
        self.script = script

    def _event(self, start: int, end: int, last: bool) -> bytes:
        """The event that holds the tokens from start to end, both included."""
        voice, hit = self.reply.voice, self.scripted.hit
        text = "" if "empty_texts" in hit else "".join(voice.word(i) for i in range(start, end + 1))
        reason = self.reply.finish_reason if last and not ("no_finish_reason" in hit or self.endless) else None
        ids = [token_id(i) for i in range(start, end + 1)] if self.token_ids else None
        out = voice.event(self.index, text, end + 1, reason, token_ids=ids, part=self.part(start))
        if start == 0 and voice.chat and not voice.role_sent:
            out = voice.role_event(self.index) + out
        return (b": a comment, as SSE allows\n\n" + out) if "comments" in hit and end % 2 == 0 else out

    def _odd(self, name: str, at: int) -> tuple[bytes, int]:
        voice = self.reply.voice
        if name == "malformed_json":
            return b'data: {"id":"' + voice.id.encode() + b'","choices":[{"index":0,"text":" the"\n\n', 0
        size = int(self.scripted.hit[name] * 1_000_000)
        reason = self.reply.finish_reason if at == self.n - 1 else None
        return voice.event(self.index, "x" * size, at + 1, reason), 1

    def emit(self, due: int) -> bool:
        """Do what the script says of the next token; True when the engine is done with it."""
        reply = self.scripted
        if reply.outcome:
            return True
        i = self.i
        self.max_lag = max(self.max_lag, now_ns() - due)
        if self.act and i == self.act_at and self._strike():
            return True
        if self.endless and reply.transport.get_extra_info("unsent", 0) > _BEHIND:
            return False
        self.i = i + 1
        data, events = self.script[i % self.n]
        if data:
            reply.send(data, self, events)
        if self.endless or self.i < self.n:
            return False
        reply.sequence_ended()
        return True

    def _strike(self) -> bool:
        """The fault in the middle of the stream; True when nothing follows it."""
        reply, transport = self.scripted, self.reply.transport
        if self.act == "stall_mid_stream":
            reply.hold(reply.hit[self.act])
            return False
        reply.keep_alive = False
        if self.act == "error_event":
            reply.keep_alive = True
            reply.send(error_event(CRASH, 500) + DONE, None, 0)
            reply.end("sse_error")
        elif self.act == "garbage":
            reply.send(reply.rng.randbytes(512), None, 0)
            reply.end("garbage")
        elif self.act == "bad_chunk":
            reply.raw(b"zz\r\n" + b"data: {}\n\n" + b"\r\n")
            reply.end("bad_chunk", tail=False)
        elif self.act == "half_close" and transport.can_write_eof():
            transport.write_eof()
            reply.linger = True
            reply.end("half_closed", tail=False)
        else:
            transport.abort()
            reply.end("reset", tail=False)
        return True


def _cut(data: bytes, rng: random.Random) -> list[bytes]:
    """Cut in pieces at random places, and after the first byte of each character that has several."""
    cuts = {rng.randrange(1, len(data)) for _ in range(_PIECES - 1)} if len(data) > 1 else set()
    if len(data) < 4096:
        cuts |= {i + 1 for i, byte in enumerate(data) if byte >= 0xC0 and i + 1 < len(data)}
    edges = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]
