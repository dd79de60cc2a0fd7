"""The routes of the simulated server, on aiohttp's low-level server; every answer is written as vLLM writes it."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from bench_tests.errors import UsageError
from bench_tests.server.sim_ask import Ask, Refused, read_ask
from bench_tests.server.sim_clock import Clock, now_ns
from bench_tests.server.sim_engine import block_hashes, make_engine
from bench_tests.server.sim_events import (
    DONE,
    LAST_CHUNK,
    SERVER,
    Voice,
    chunk,
    dump,
    error_body,
    error_event,
    head,
    stream_head,
)
from bench_tests.server.sim_faults import FAULTS, Fault, draw, parse_fault
from bench_tests.server.sim_metrics import Metrics, Shared
from bench_tests.server.sim_socket import SocketTransport
from bench_tests.server.sim_spec import SimSpec
from bench_tests.server.sim_stream import Reply, Sequence, WholeSequence
from bench_tests.server.sim_truth import TruthLog

__all__ = ["App"]

_JSON = {"content-type": "application/json", "vary": "Origin"}
_MAX_BODY = 256 * 1024 * 1024
Handler = Callable[[web.BaseRequest], Awaitable["Sent"]]


class Sent(web.StreamResponse):
    """An answer that is on the wire already: aiohttp has nothing left to write."""

    def __init__(self, keep_alive: bool = True) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing to do."""

    async def write_eof(self, data: Any = b"") -> None:
        """Nothing to do."""


class App:
    """One process of the server: its engine, its counters and its answers."""

    def __init__(self, spec: SimSpec, shared: Shared, index: int, loop: asyncio.AbstractEventLoop) -> None:
        self.spec = spec
        self.shared = shared
        self.loop = loop
        self.metrics = Metrics(spec, shared, index)
        self.clock = Clock(loop, spec.spin_us)
        self.engine = make_engine(spec, self.clock, self.metrics)
        self.truth = TruthLog(spec)
        self.started = int(shared.start_time_s)
        self.requests = 0
        self.faults: list[Fault] = []
        self._faults_version = -1
        self._routes: dict[str, dict[str, Handler]] = {
            "/health": {"GET": self._health},
            "/ping": {"GET": self._health, "POST": self._health},
            "/version": {"GET": self._version},
            "/metrics": {"GET": self._metrics},
            "/v1/models": {"GET": self._models},
            "/v1/completions": {"POST": self._completions},
            "/v1/chat/completions": {"POST": self._chat},
            "/reset_prefix_cache": {"POST": self._reset_prefix_cache},
            "/start_profile": {"POST": self._profile},
            "/stop_profile": {"POST": self._profile},
            "/truth/stats": {"GET": self._truth},
            "/sim/faults": {"GET": self._get_faults, "POST": self._set_faults},
        }
        self.tick()

    def server(self) -> web.Server:
        """aiohttp's protocol factory for connections to this app."""

        def factory(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY)

        loop = self.loop
        options: dict[str, Any] = {"access_log": None, "read_bufsize": 4 * 1024 * 1024, "tcp_keepalive": False}
        return web.Server(self.handle, request_factory=factory, handler_cancellation=True, loop=loop, **options)

    def tick(self) -> None:
        """Now and then: publish the gauges, take up faults that another process was told of."""
        self.engine.sync()
        if self.shared.faults_version != self._faults_version:
            self._faults_version = self.shared.faults_version
            self.faults = [parse_fault(text) for text in json.loads(self.shared.get_faults())]
            self.engine.slow = next((f.arg for f in self.faults if f.name == "slow_down"), 1.0)

    def on(self, name: str) -> Fault | None:
        """The fault of this name, when it is switched on and not still to come."""
        return next((f for f in self.faults if f.name == name and f.after <= self.requests), None)

    @property
    def model(self) -> str:
        """The name of what is served."""
        return f"{self.spec.model}-swapped" if self.on("model_swapped") else self.spec.model

    async def handle(self, request: web.BaseRequest) -> Sent:
        """Answer one request."""
        transport = request.transport
        arrived = now_ns()
        if isinstance(transport, SocketTransport):
            arrived, transport.t_first_byte = transport.t_first_byte or arrived, 0
        path = request.path
        key = self.spec.api_key
        if key is not None and path.startswith("/v1/") and request.headers.get("authorization") != f"Bearer {key}":
            return self._send(request, 401, b'{"error":"Unauthorized"}', {"content-type": "application/json"})
        route = self._routes.get(path)
        if route is None:
            return self._send(request, 404, b'{"detail":"Not Found"}')
        handler = route.get(request.method)
        if handler is None:
            headers = {"allow": ", ".join(route)} | _JSON
            return self._send(request, 405, b'{"detail":"Method Not Allowed"}', headers)
        request["arrived"] = arrived
        try:
            return await handler(request)
        except Refused as why:
            return self._send(request, why.status, why.body)

    def _send(self, request: web.BaseRequest, status: int, body: bytes, headers: dict[str, str] | None = None) -> Sent:
        whole = {"content-length": str(len(body))} | (_JSON if headers is None else headers)
        transport = request.transport
        if transport is not None:
            transport.write(head(status, whole) + body)
        return Sent(request.keep_alive)

    # ---- what is asked about the server

    async def _health(self, request: web.BaseRequest) -> Sent:
        status = 503 if self.shared.dead_since or self.on("unhealthy") else 200
        return self._send(request, status, b"", {"vary": "Origin"})

    async def _version(self, request: web.BaseRequest) -> Sent:
        return self._send(request, 200, dump({"version": self.spec.version, "simulated": True}))

    async def _metrics(self, request: web.BaseRequest) -> Sent:
        self.engine.sync()
        text = self.metrics.render(self.model).encode()
        return self._send(request, 200, text, {"content-type": "text/plain; version=1.0.0; charset=utf-8"})

    async def _models(self, request: web.BaseRequest) -> Sent:
        permission = {"id": "modelperm-simulated", "object": "model_permission", "created": self.started}
        permission |= {"allow_create_engine": False, "allow_sampling": True, "allow_logprobs": True}
        permission |= {"allow_search_indices": False, "allow_view": True, "allow_fine_tuning": False}
        permission |= {"organization": "*", "group": None, "is_blocking": False}
        model = {"id": self.model, "object": "model", "created": self.started, "owned_by": SERVER}
        model |= {"root": self.model, "parent": None, "max_model_len": self.spec.max_model_len}
        return self._send(request, 200, dump({"object": "list", "data": [model | {"permission": [permission]}]}))

    async def _reset_prefix_cache(self, request: web.BaseRequest) -> Sent:
        self.engine.reset_prefix_cache()
        return self._send(request, 200, b"", {"vary": "Origin"})

    async def _profile(self, request: web.BaseRequest) -> Sent:
        return self._send(request, 200, b"", {"vary": "Origin"})

    async def _truth(self, request: web.BaseRequest) -> Sent:
        return self._send(request, 200, dump(self.truth.stats() | {"running": len(self.engine.busy())}))

    async def _get_faults(self, request: web.BaseRequest) -> Sent:
        self.tick()
        known = {name: {"text": kind.text, "arg": kind.arg, "default": kind.default} for name, kind in FAULTS.items()}
        return self._send(request, 200, dump({"faults": [str(f) for f in self.faults], "known": known}))

    async def _set_faults(self, request: web.BaseRequest) -> Sent:
        try:
            texts = json.loads(await request.read())["faults"]
            faults = [str(parse_fault(str(text))) for text in texts]
            self.shared.set_faults(json.dumps(faults))
        except (ValueError, KeyError, TypeError, UsageError) as why:
            raise Refused(400, error_body(f'expected {{"faults": ["NAME:PROBABILITY:ARG"]}}: {why}', 400)) from why
        self.tick()
        return self._send(request, 200, dump({"faults": faults}))

    # ---- generation

    async def _completions(self, request: web.BaseRequest) -> Sent:
        return await self._generate(request, chat=False)

    async def _chat(self, request: web.BaseRequest) -> Sent:
        return await self._generate(request, chat=True)

    async def _generate(self, request: web.BaseRequest, chat: bool) -> Sent:
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
            model=self.model,
            created=int(time.time()),
            chat=chat,
            fingerprint=f"simulated-{self.spec.version}",
            utf8=self.spec.utf8,
            salt=number,
            usage=ask.usage,
            continuous_usage=ask.continuous_usage,
            prompt_tokens=ask.prompt_tokens,
            details=self.spec.enable_prompt_tokens_details,
        )
        reply = Reply(voice, transport, self.loop.create_future(), self.metrics)
        reply.t_first_byte = request["arrived"]
        reply.stream = ask.stream
        reply.itl_by_step = self.spec.mode == "batch"
        reply.log = self.truth.log
        if isinstance(transport, SocketTransport):
            transport.requests += 1
            reply.connection_request = transport.requests
        if ask.bad_token is not None:
            return self._bad_token(request, ask, ask.bad_token)
        self._fill(reply, ask, hit)
        if ask.stream:
            transport.write(stream_head())
        for sequence in reply.sequences:
            self.engine.submit(sequence)
        try:
            await reply.done
        except asyncio.CancelledError:
            reply.abort()
            raise
        if not ask.stream:
            texts = ["".join(voice.word(i) for i in range(s.i)) for s in reply.sequences]
            reasons = [reply.finish_reason] * len(texts)
            return self._send(request, 200, voice.whole(texts, reasons, voice.counts(reply.tokens(), reply.cached())))
        return Sent(request.keep_alive)

    def _fill(self, reply: Reply, ask: Ask, hit: dict[str, float]) -> None:
        """Make the sequences of a reply, one for each choice."""
        stop = None if ask.ignore_eos else self.spec.stop_after
        hashed = self.spec.prefix_caching
        index = 0
        for prompt in ask.prompts:
            blocks = block_hashes(prompt) if hashed else []
            for _ in range(ask.n):
                n = ask.lengths[index]
                if stop is not None and stop < n:
                    n, reply.finish_reason = stop, "stop"
                kind = Sequence if ask.stream else WholeSequence
                sequence = kind(reply, index, len(prompt), blocks, n)
                reply.sequences.append(sequence)
                sequence.prepare()
                index += 1
        reply.left = len(reply.sequences)

    def _bad_token(self, request: web.BaseRequest, ask: Ask, token: int) -> Sent:
        message = f"Token id {token} is out of vocabulary"
        if not ask.stream:
            return self._send(request, 400, error_body(message, 400))
        assert request.transport is not None
        events = chunk(error_event(message, 400)) + chunk(DONE) + LAST_CHUNK
        request.transport.write(stream_head() + events)
        return Sent(request.keep_alive)
