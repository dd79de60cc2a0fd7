"""A sequence is what the engine counts tokens for; a reply is the HTTP answer that one or several sequences fill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from itertools import pairwise
from typing import Any, Protocol

from bench_tests.sim.clock import now_ns
from bench_tests.sim.events import CYCLE, DONE, LAST_CHUNK, Voice, chunk
from bench_tests.sim.metrics import DECODE, E2EL, ITL, PREFILL, TPOT, TTFT, Metrics

__all__ = ["Reply", "Sequence", "Transport", "WholeSequence"]

_MASK = CYCLE - 1


class Transport(Protocol):
    """What a reply needs of a connection."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def is_closing(self) -> bool: ...
    def can_write_eof(self) -> bool: ...
    def write_eof(self) -> None: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


class Reply:
    """The answer to one request, and its truth: when its bytes came and when each event was written."""

    def __init__(self, voice: Voice, transport: Transport, done: asyncio.Future[None], metrics: Metrics) -> None:
        self.voice = voice
        self.transport = transport
        self.done = done
        self.metrics = metrics
        self.sequences: list[Sequence] = []
        self.left = 0
        self.stream = True
        self.outcome = ""
        self.finish_reason: str | None = "length"
        self.t_first_byte = 0
        self.connection_request = 0  # 1: the first on its connection; 0: not known
        self.log: Callable[[Reply], None] | None = None
        self.itl_by_step = False  # the engine counts the gaps itself, a step at a time

    def roles(self) -> bytes:
        """A chat's events of a role, where they go out with the head."""
        voice = self.voice
        return b"".join(voice.role_event(s.index) for s in self.sequences) if voice.role_sent else b""

    def ended(self) -> bytes:
        """Called by each sequence with its last token; returns what follows it on the wire."""
        self.left -= 1
        if self.left:
            return b""
        usage = b""
        if self.voice.usage:
            usage = chunk(self.voice.usage_event(self.tokens(), self.cached(), self.thought()))
        return usage + chunk(DONE) + LAST_CHUNK

    def tokens(self) -> int:
        """Completion tokens so far."""
        return sum(s.i for s in self.sequences)

    def thought(self) -> int:
        """Tokens of thinking among them."""
        return sum(min(s.i, s.think) for s in self.sequences)

    def first_answer(self) -> int:
        """When the first event of the answer itself was written, behind all thinking; 0: none was."""
        return min((s.stamps[s.answer_event] for s in self.sequences if len(s.stamps) > s.answer_event), default=0)

    def cached(self) -> int:
        """Prompt tokens that came from the prefix cache."""
        return sum(s.cached for s in self.sequences)

    def finish(self, outcome: str) -> None:
        """The answer is complete, in whatever way; logs the truth, once."""
        if self.outcome:
            return
        self.outcome = outcome
        self._count()
        if self.log is not None:
            self.log(self)
        if not self.done.done():
            self.done.set_result(None)

    def abort(self, outcome: str = "client_gone") -> None:
        """Nobody listens any more: the engine drops the sequences at its next step."""
        for sequence in self.sequences:
            sequence.gone = True
        self.finish(outcome)

    def _count(self) -> None:
        reasons = {"ok": self.finish_reason or "length", "sse_error": "error"}
        metrics = self.metrics
        for s in self.sequences:
            metrics.end(reasons.get(self.outcome, "abort"))
            if not s.stamps:
                continue
            first, last = s.stamps[0], s.stamps[-1]
            metrics.observe(TTFT, (first - self.t_first_byte) / 1e9)
            metrics.observe(PREFILL, (first - s.t_scheduled) / 1e9)
            if self.outcome != "ok":
                continue
            metrics.observe(E2EL, (last - self.t_first_byte) / 1e9)
            metrics.observe(DECODE, (last - first) / 1e9)
            if s.i > 1:
                metrics.observe(TPOT, (last - first) / 1e9 / (s.i - 1))
            if not self.itl_by_step:
                metrics.observe_all(ITL, [(b - a) / 1e9 for a, b in pairwise(s.stamps)])


class Sequence:
    """One choice of a reply. The engine calls emit() for each token; a plain stream writes a frame made ahead."""

    __slots__ = (
        "answer_event", "blocks", "cached", "computed", "cycles", "due", "edge", "frames", "gap", "gaps", "gone", "held",
        "i", "index", "last", "max_lag", "n", "prompt", "prompt_tokens", "reply", "stamps", "t_arrive", "t_scheduled",
        "think", "tool",
        "write",
    )  # fmt: skip

    def __init__(self, reply: Reply, index: int, prompt_tokens: int, blocks: list[int], n: int) -> None:
        self.reply = reply
        self.index = index
        self.prompt_tokens = prompt_tokens
        self.blocks = blocks  # a hash for each full block of the prompt
        self.n = n  # tokens to emit
        self.prompt: Tokens[int] | Tokens[str] = ()  # where a cache keeps it with the answer
        self.think = 0  # so many of them are thinking
        self.tool = n  # and those from here on a tool call
        self.answer_event = 0  # which of its events is the first of the answer itself
        self.i = 0  # tokens emitted
        self.edge = 0  # the next token whose event is not like the one before
        self.computed = 0  # prompt tokens that the engine has been through
        self.cached = 0
        self.held = 0  # tokens of the KV cache that it has
        self.gone = False
        self.t_arrive = self.t_scheduled = self.max_lag = 0
        self.stamps: list[int] = []  # of each event's write
        self.due = self.gap = 0
        self.gaps: list[int] | None = None
        self.write = reply.transport.write
        self.frames: list[bytes] = []
        self.cycles: list[
            tuple[int, list[bytes]]
        ] = []  # from which token on which frames are written, the first ones next
        self.last = b""

    def part(self, i: int) -> str:
        """What of a chat's answer token i is."""
        if i < self.think:
            return "thinking"
        return "content" if i < self.tool else "tool" if i == self.tool else "arguments"

    def prepare(self) -> None:
        """Encode all that will be written, before it is due."""
        voice, n = self.reply.voice, self.n
        self.answer_event = self.think
        starts = sorted({0, self.think, self.tool, self.tool + 1} & set(range(n)))
        self.cycles = [(start, voice.cycle(self.index, self.part(start))) for start in starts]
        self.last = chunk(
            voice.event(self.index, voice.word(n - 1), n, self.reply.finish_reason, part=self.part(n - 1))
        )

    def emit(self, due: int) -> bool:
        """Write the next token, due then; True after the last."""
        t = now_ns()
        i = self.i
        self.i = i + 1
        if t - due > self.max_lag:
            self.max_lag = t - due
        self.stamps.append(t)
        if i < self.edge:
            self.write(self.frames[i & _MASK])
            return False
        return self._edge(t)

    def _edge(self, t: int) -> bool:
        """The first token, the first of another part of the answer, or the last, or several of these."""
        reply, i = self.reply, self.i - 1
        before = b""
        if not i and reply.voice.chat and not reply.voice.role_sent:
            before = chunk(reply.voice.role_event(self.index))
        if self.cycles and self.cycles[0][0] == i:
            self.frames = self.cycles.pop(0)[1]
            self.edge = self.cycles[0][0] if self.cycles else self.n - 1
        if self.i < self.n:
            self.write(before + self.frames[i & _MASK])
            return False
        self.write(before + self.last + reply.ended())
        if not reply.left:
            reply.finish("ok")
        return True


class WholeSequence(Sequence):
    """One choice of an answer that is not streamed: nothing is written before all tokens are there."""

    __slots__ = ()

    def prepare(self) -> None:
        """Nothing is written token by token."""

    def _edge(self, t: int) -> bool:
        if self.i < self.n:
            return False
        self.reply.left -= 1
        if not self.reply.left:
            self.reply.finish("ok")
        return True

    def emit(self, due: int) -> bool:
        """Count a token; True after the last."""
        self.i += 1
        t = now_ns()
        self.max_lag = max(self.max_lag, t - due)
        self.stamps.append(t)
        return self._edge(t)
