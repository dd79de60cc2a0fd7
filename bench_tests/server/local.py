"""A server on this host, as a child of ours: `vllm serve` or whatever the profile's serve_command says."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_tests.server.client import get
from bench_tests.server.command import PortLease, lease_port, new_api_key, reachable_host, resolved, serve_command
from bench_tests.server.process import Readiness, ServerProcess
from bench_tests.server.served import Endpoint, Say
from bench_tests.server.start_times import start_times
from bench_tests.sweep.profile import Profile

__all__ = ["LocalServer"]


class LocalServer:
    """A `Served` that was started here. It listens where the profile says, with a key of its own for each start."""

    kind = "local"

    def __init__(self, endpoint: Endpoint, process: ServerProcess, lease: PortLease, what: str) -> None:
        self.endpoint = endpoint
        self._process, self._lease, self._what = process, lease, what
        self._stopped = False
        self.start_s: dict[str, float] = {}

    @classmethod
    async def start(cls, profile: Profile, log_dir: Path, say: Say) -> LocalServer:
        """Start it and wait until it is ready.

        Raises ServerError with the log's last lines when it ends, does not get ready within
        server.startup_timeout, or serves without its key; UsageError when the profile's command cannot be built. Nothing is left then.
        """
        server, key = profile.server, new_api_key()
        lease = lease_port(server.port, server.host)
        try:
            command = serve_command(profile, host=server.host, port=lease.port, api_key=key)
            env = {**os.environ, "PYTHONUNBUFFERED": "1", **command.env}
            env.pop("OPENAI_API_KEY", None)  # another server's key is none of its business
            argv = resolved(command.argv, env, profile.source)
            log = log_dir / f"{profile.label}-local-{lease.port}.log"
            process = ServerProcess(argv, env, log, stop_timeout_s=server.stop_timeout, secret=key)
        except BaseException:
            lease.release()
            raise
        local = cls(
            Endpoint(f"http://{reachable_host(server.host)}:{lease.port}", key),
            process,
            lease,
            shlex.join(command.argv),
        )
        moved = f" (port {server.port} is taken)" if server.port not in (0, lease.port) else ""
        say(f"starting {profile.model.id} at {local.endpoint.base_url}{moved}, log {log}")
        began = time.monotonic()
        try:
            await _wait_until_ready(
                local.endpoint, Readiness(local.endpoint.base_url, process, server.startup_timeout, say)
            )
        except BaseException:
            await local.stop()
            raise
        local.start_s = start_times(time.monotonic() - began, log, process.log_start)
        return local

    async def gone(self) -> str | None:
        """How it ended, with its last line; None while it runs."""
        how = self._process.ended()
        if how is None:
            return None
        if self._stopped:
            return "the local server was stopped"
        return f"the local server {how}; its log {self._process.log} ends with: {self._process.tail(1) or '(nothing)'}"

    async def wait_for_return(self, say: Say) -> bool:
        """False: nobody starts it again."""
        return False

    def facts(self) -> dict[str, Any]:
        """Its command (which holds no key), its keeper's process id and its log."""
        return {"kind": self.kind, "command": self._what, "pid": self._process.pid, "log": str(self._process.log)}

    async def stop(self) -> None:
        """Stop it and its children, and wait until they are gone. May be called twice."""
        self._stopped = True
        await asyncio.to_thread(self._process.stop)
        self._lease.release()


async def _wait_until_ready(endpoint: Endpoint, ready: Readiness) -> None:
    while True:
        ready.must_run()
        health = await get(endpoint, "/health", 5.0)
        if ready.healthy(health.status if health else None):
            models = await get(endpoint, "/v1/models", 30.0)
            ready.must_be_ours(models.status if models else None)
            keyless = await get(replace(endpoint, api_key=None), "/v1/models", 30.0)
            ready.must_ask_for_its_key(keyless.status if keyless else None)
            return
        await asyncio.sleep(ready.pause_s)
