"""From a request for tokens to the sequences that the engine runs, and the faults that come between."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any

from aiohttp import web

from bench_tests.sim.ask import Ask, read_ask
from bench_tests.sim.clock import Clock
from bench_tests.sim.engine import make_engine
from bench_tests.sim.events import DONE, LAST_CHUNK, Voice, chunk, error_body, error_event, head, stream_head
from bench_tests.sim.faults import Fault, draw, parse_fault, refusal
from bench_tests.sim.metrics import Metrics, Shared
from bench_tests.sim.prefix_cache import block_hashes
from bench_tests.sim.scripted import CRASH, ScriptedReply, ScriptedSequence, changed_length
from bench_tests.sim.socket import SocketTransport
from bench_tests.sim.spec import SimSpec
from bench_tests.sim.stream import Reply, Sequence, WholeSequence
from bench_tests.sim.truth import TruthLog

__all__ = ["JSON", "Core", "Sent", "send"]

JSON = {"content-type": "application/json", "vary": "Origin"}
_LINGER_S = 3600.0


class Sent(web.StreamResponse):
    """An answer that is on the wire already: aiohttp has nothing left to write."""

    def __init__(self, keep_alive: bool = True) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing to do."""

    async def write_eof(self, data: Any = b"") -> None:
        """Nothing to do."""


def send(request: web.BaseRequest, status: int, body: bytes, headers: dict[str, str] | None = None) -> Sent:
    """Write a whole answer."""
    transport = request.transport
    if transport is not None:
        transport.write(
            head(status, {"content-length": str(len(body))} | (JSON if headers is None else headers)) + body
        )
    return Sent(request.keep_alive)


class Core:
    """One process's engine, counters, truth and faults."""

    def __init__(self, spec: SimSpec, shared: Shared, index: int, loop: asyncio.AbstractEventLoop) -> None:
        self.spec = spec
        self.shared = shared
        self.loop = loop
        self.metrics = Metrics(spec, shared, index)
        self.clock = Clock(loop, spec.spin_us)
        self.engine = make_engine(spec, self.clock, self.metrics)
        self.truth = TruthLog(spec, self.metrics)
        self.requests = 0
        self.faults: list[Fault] = []
        self._faults_version = -1
        self._dead = False
        self.tick()

    def tick(self) -> None:
        """Now and then: publish the gauges, take up faults that another process was told of."""
        self.engine.sync()
        self.truth.sync(len(self.engine.busy()))
        if self.shared.faults_version != self._faults_version:
            self._faults_version = self.shared.faults_version
            self.faults = [parse_fault(text) for text in json.loads(self.shared.get_faults())]
        slow = self.on("slow_down")
        self.engine.slow = slow.arg if slow is not None else 1.0
        if self.shared.dead_since and not self._dead:
            self._die()

    def on(self, name: str) -> Fault | None:
        """The fault of this name, when it is switched on and not still to come."""
        return next((f for f in self.faults if f.name == name and f.after <= self.requests), None)

    @property
    def model(self) -> str:
        """The name of what is served."""
        return f"{self.spec.model}-swapped" if self.on("model_swapped") else self.spec.model

    async def generate(self, request: web.BaseRequest, chat: bool) -> Sent:
        """Answer a request for tokens. Raises Refused."""
        body = await request.read()
        ask = read_ask(body, chat, self.spec, self.model)
        number = self.requests
        self.requests += 1
        if self.shared.faults_version != self._faults_version:
            self.tick()
        hit = draw(self.faults, self.spec.seed, number) if self.faults else {}
        transport = request.transport
        if transport is None or transport.is_closing():
            return Sent(False)
        rid = request.headers.get("x-request-id") or secrets.token_hex(8)
        voice = Voice(
            id=f"{'chatcmpl' if chat else 'cmpl'}-{rid}",
            model=f"{self.model}-other" if "model_mislabelled" in hit else self.model,
            created=int(time.time()),
            chat=chat,
            fingerprint=f"simulated-{self.spec.version}",
            utf8=self.spec.utf8 or "split" in hit,
            salt=number,
            usage=ask.usage,
            continuous_usage=ask.continuous_usage,
            prompt_tokens=ask.prompt_tokens,
            details=self.spec.enable_prompt_tokens_details,
            role_sent=chat and self.spec.role_at_once,
            thinking_key=self.spec.thinking_key if chat and self.spec.think_tokens and ask.thinks else "",
        )
        if ask.bad_token is not None:
            return self._bad_token(request, ask, ask.bad_token)
        done: asyncio.Future[None] = self.loop.create_future()
        scripted = ask.stream and bool(hit or ask.continuous_usage or ask.token_ids)
        reply = Reply(voice, transport, done, self.metrics)
        if scripted:
            reply = ScriptedReply(voice, transport, done, self.metrics, self.clock, hit, number)
        reply.t_first_byte = request["arrived"]
        reply.stream = ask.stream
        reply.itl_by_step = self.spec.mode == "batch"
        reply.log = self.truth.log
        if isinstance(transport, SocketTransport):
            transport.requests += 1
            reply.connection_request = transport.requests
        refused = self._refused(request, reply, hit) if hit or self._dead else None
        if refused is not None:
            return refused
        self._fill(reply, ask, hit)
        try:
            if isinstance(reply, ScriptedReply):
                reply.begin()
            elif ask.stream:
                roles = reply.roles()
                transport.write(stream_head() + chunk(roles) if roles else stream_head())
            else:
                await asyncio.sleep(max(hit.get("slow_headers", 0.0), hit.get("stall_first_token", 0.0)))
            for sequence in reply.sequences:
                self.engine.submit(sequence)
            await done
            if not isinstance(reply, ScriptedReply):
                return Sent(request.keep_alive) if ask.stream else self._whole(request, reply, hit)
            if reply.linger:
                await asyncio.sleep(_LINGER_S)
            return Sent(request.keep_alive and reply.keep_alive)
        except asyncio.CancelledError:
            reply.abort()
            raise
        finally:
            reply.sequences.clear()  # no cycle: the collector is off

    def _fill(self, reply: Reply, ask: Ask, hit: dict[str, float]) -> None:
        """Make the sequences of a reply, one for each choice."""
        stop = None if ask.ignore_eos else self.spec.stop_after
        index = 0
        for prompt in ask.prompts:
            blocks = block_hashes(prompt) if self.spec.prefix_caching else []
            for _ in range(ask.n):
                n = changed_length(ask.lengths[index], hit)
                if stop is not None and stop < n:
                    n, reply.finish_reason = stop, "tool_calls" if ask.chat and self.spec.tool_tokens else "stop"
                if "fewer_tokens" in hit:
                    reply.finish_reason = "stop"
                sequence: Sequence
                if isinstance(reply, ScriptedReply):
                    sequence = ScriptedSequence(reply, index, len(prompt), blocks, n, ask.token_ids)
                else:
                    sequence = (Sequence if ask.stream else WholeSequence)(reply, index, len(prompt), blocks, n)
                if ask.chat:
                    sequence.think = min(self.spec.think_tokens, n) if ask.thinks else 0
                    sequence.tool = max(sequence.think, n - self.spec.tool_tokens)
                if self.spec.prefix_caching:
                    sequence.prompt = prompt
                reply.sequences.append(sequence)
                sequence.prepare()
                index += 1
        reply.left = len(reply.sequences)

    def _whole(self, request: web.BaseRequest, reply: Reply, hit: dict[str, float]) -> Sent:
        """The answer that is not streamed, with those faults that make sense there."""
        voice = reply.voice
        texts, thoughts = [], []
        for s in reply.sequences:
            thoughts.append("".join(map(voice.word, range(s.think))))
            texts.append("" if "empty_texts" in hit else "".join(map(voice.word, range(s.think, s.i))))
        reasons = [None if "no_finish_reason" in hit else reply.finish_reason] * len(texts)
        counts = voice.counts(reply.tokens() + int(hit.get("wrong_usage", 0)), reply.cached(), reply.thought())
        body = voice.whole(texts, reasons, None if "no_usage" in hit else counts, thoughts)
        if "malformed_json" in hit:
            body = body[: len(body) // 2]
        if "reset_mid_stream" in hit and request.transport is not None:
            request.transport.abort()
        return send(request, 200, body)

    # ---- faults

    def _refused(self, request: web.BaseRequest, reply: Reply, hit: dict[str, float]) -> Sent | None:
        """The answer of a fault that lets nothing be generated; None when there is no such fault."""
        for name in ("engine_dead", "restart"):
            if name in hit:
                self._strike(name, hit[name])
        if self.shared.dead_since:
            reply.finish("engine_dead")
            if not reply.stream:
                return send(request, 500, error_body(CRASH, 500))
            reply.transport.write(stream_head() + chunk(error_event(CRASH, 500)) + chunk(DONE) + LAST_CHUNK)
            return Sent(request.keep_alive)
        if "reset_before_headers" in hit:
            reply.finish("reset")
            reply.transport.abort()
            return Sent(False)
        status, body, headers = refusal(hit, self.model, request.path)
        if not status:
            return None
        reply.finish(f"http_{status}")
        return send(request, status, body, headers)

    def _strike(self, name: str, arg: float) -> None:
        """A fault of the whole server that a request set off; once."""
        if name == "restart" and not self.shared.restarted:
            self.shared.restarted = True
            self.shared.clear_metrics()
            self.shared.start_time_s = time.time()
        if name == "engine_dead" and not self.shared.dead_since:
            self.shared.dead_since = time.monotonic()
            self.shared.exit_after_s = arg
            self.tick()

    def _die(self) -> None:
        """Every stream gets the error that vLLM sends when its engine is gone."""
        self._dead = True
        for reply in {id(s.reply): s.reply for s in self.engine.busy()}.values():
            if reply.outcome:
                continue
            if reply.stream and not isinstance(reply, ScriptedReply):
                reply.transport.write(chunk(error_event(CRASH, 500)) + chunk(DONE) + LAST_CHUNK)
            else:
                reply.transport.abort()
            reply.abort("engine_dead")

    def _bad_token(self, request: web.BaseRequest, ask: Ask, token: int) -> Sent:
        message = f"Token id {token} is out of vocabulary"
        if not ask.stream:
            return send(request, 400, error_body(message, 400))
        assert request.transport is not None
        events = chunk(error_event(message, 400)) + chunk(DONE) + LAST_CHUNK
        request.transport.write(stream_head() + events)
        return Sent(request.keep_alive)
