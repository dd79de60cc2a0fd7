"""The routes of the simulated server, on aiohttp's low-level server; every answer is written as vLLM writes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from bench_tests.errors import UsageError
from bench_tests.sim.ask import Refused
from bench_tests.sim.clock import now_ns
from bench_tests.sim.events import SERVER, dump, error_body
from bench_tests.sim.faults import FAULTS, parse_fault
from bench_tests.sim.generate import JSON, Core, Sent, send
from bench_tests.sim.metrics import Shared
from bench_tests.sim.socket import SocketTransport
from bench_tests.sim.spec import SimSpec

__all__ = ["App"]

_MAX_BODY = 256 * 1024 * 1024
Handler = Callable[[web.BaseRequest], Awaitable["Sent"]]


class App:
    """One process of the server: its engine, its counters and its answers."""

    def __init__(self, spec: SimSpec, shared: Shared, index: int, loop: asyncio.AbstractEventLoop) -> None:
        self.core = Core(spec, shared, index, loop)
        self.spec = spec
        self.started = int(shared.start_time_s)
        self._routes: dict[str, dict[str, Handler]] = {
            "/health": {"GET": self._health},
            "/ping": {"GET": self._health, "POST": self._health},
            "/version": {"GET": self._version},
            "/metrics": {"GET": self._metrics},
            "/v1/models": {"GET": self._models},
            "/v1/completions": {"POST": partial(self.core.generate, chat=False)},
            "/v1/chat/completions": {"POST": partial(self.core.generate, chat=True)},
            "/reset_prefix_cache": {"POST": self._reset_prefix_cache},
            "/start_profile": {"POST": self._profile},
            "/stop_profile": {"POST": self._profile},
            "/truth/stats": {"GET": self._truth},
            "/sim/faults": {"GET": self._get_faults, "POST": self._set_faults},
        }

    def server(self) -> web.Server:
        """aiohttp's protocol factory for connections to this app."""

        def factory(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY)

        loop = self.core.loop
        options: dict[str, Any] = {"access_log": None, "read_bufsize": 4 * 1024 * 1024, "tcp_keepalive": False}
        return web.Server(self.handle, request_factory=factory, handler_cancellation=True, loop=loop, **options)

    async def handle(self, request: web.BaseRequest) -> Sent:
        """Answer one request."""
        try:
            return await self._answer(request)
        finally:
            transport = request.transport
            if isinstance(transport, SocketTransport):
                # the rest of a long body has set the stamp again; the next request's first byte is still to come
                transport.busy, transport.t_idle, transport.t_first_byte = False, now_ns(), 0

    async def _answer(self, request: web.BaseRequest) -> Sent:
        transport = request.transport
        arrived = now_ns()
        if isinstance(transport, SocketTransport):
            arrived, transport.t_first_byte = transport.t_first_byte or arrived, 0
        path = request.path
        if transport is not None and request.headers.get("expect", "").lower() == "100-continue":
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        key = self.spec.api_key
        if key is not None and path.startswith("/v1/") and request.headers.get("authorization") != f"Bearer {key}":
            return send(request, 401, b'{"error":"Unauthorized"}', {"content-type": "application/json"})
        route = self._routes.get(path)
        if route is None:
            return send(request, 404, b'{"detail":"Not Found"}')
        handler = route.get(request.method)
        if handler is None:
            headers = {"allow": ", ".join(route)} | JSON
            return send(request, 405, b'{"detail":"Method Not Allowed"}', headers)
        request["arrived"] = arrived
        try:
            return await handler(request)
        except Refused as why:
            return send(request, why.status, why.body)

    # ---- what is asked about the server

    async def _health(self, request: web.BaseRequest) -> Sent:
        status = 503 if self.core.shared.dead_since or self.core.on("unhealthy") else 200
        return send(request, status, b"", {"vary": "Origin"})

    async def _version(self, request: web.BaseRequest) -> Sent:
        return send(request, 200, dump({"version": self.spec.version, "simulated": True}))

    async def _metrics(self, request: web.BaseRequest) -> Sent:
        self.core.engine.sync()
        text = self.core.metrics.render(self.core.model).encode()
        return send(request, 200, text, {"content-type": "text/plain; version=1.0.0; charset=utf-8"})

    async def _models(self, request: web.BaseRequest) -> Sent:
        permission = {"id": "modelperm-simulated", "object": "model_permission", "created": self.started}
        permission |= {"allow_create_engine": False, "allow_sampling": True, "allow_logprobs": True}
        permission |= {"allow_search_indices": False, "allow_view": True, "allow_fine_tuning": False}
        permission |= {"organization": "*", "group": None, "is_blocking": False}
        model = {"id": self.core.model, "object": "model", "created": self.started, "owned_by": SERVER}
        model |= {"root": self.core.model, "parent": None, "max_model_len": self.spec.max_model_len}
        return send(request, 200, dump({"object": "list", "data": [model | {"permission": [permission]}]}))

    async def _reset_prefix_cache(self, request: web.BaseRequest) -> Sent:
        self.core.engine.reset_prefix_cache()
        return send(request, 200, b"", {"vary": "Origin"})

    async def _profile(self, request: web.BaseRequest) -> Sent:
        return send(request, 200, b"", {"vary": "Origin"})

    async def _truth(self, request: web.BaseRequest) -> Sent:
        self.core.tick()
        return send(request, 200, dump(self.core.truth.stats()))

    async def _get_faults(self, request: web.BaseRequest) -> Sent:
        self.core.tick()
        known = {name: {"text": kind.text, "arg": kind.arg, "default": kind.default} for name, kind in FAULTS.items()}
        return send(request, 200, dump({"faults": [str(f) for f in self.core.faults], "known": known}))

    async def _set_faults(self, request: web.BaseRequest) -> Sent:
        try:
            texts = json.loads(await request.read())["faults"]
            faults = [str(parse_fault(str(text))) for text in texts]
            self.core.shared.set_faults(json.dumps(faults))
        except (ValueError, KeyError, TypeError, UsageError) as why:
            raise Refused(400, error_body(f'expected {{"faults": ["NAME:PROBABILITY:ARG"]}}: {why}', 400)) from why
        self.core.tick()
        return send(request, 200, dump({"faults": faults}))
