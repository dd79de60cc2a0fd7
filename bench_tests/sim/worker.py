"""One process of the simulated server, and the supervisor that forks and ends them."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import select
import signal
import socket
import ssl
import sys
import time
from contextlib import suppress

from bench_tests.errors import UsageError
from bench_tests.sim.clock import die_with_parent
from bench_tests.sim.http import App
from bench_tests.sim.metrics import Shared
from bench_tests.sim.socket import Listener
from bench_tests.sim.spec import SimSpec

__all__ = ["bind", "supervise", "tls_context"]

_TICK_S = 0.05
_BACKLOG = 65_535
_CLOSED = 2000  # closed connections, the only garbage with cycles in it, that a server without a rest piles up


def bind(spec: SimSpec) -> list[socket.socket]:
    """A listening socket for each process, all on one port. Raises UsageError when the address is not to be had."""
    family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
    socks: list[socket.socket] = []
    port = spec.port
    for _ in range(spec.processes):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if spec.processes > 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.bind((spec.host, port))
            sock.listen(_BACKLOG)
        except OSError as why:
            raise UsageError(f"simulated server: cannot listen on {spec.host} port {port}: {why.strerror}") from why
        port = sock.getsockname()[1]
        sock.setblocking(False)
        socks.append(sock)
    return socks


def tls_context(spec: SimSpec) -> ssl.SSLContext | None:
    """From the settings' files. Raises UsageError when they cannot be read."""
    if spec.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(spec.tls_cert, spec.tls_key)
    except (OSError, ssl.SSLError) as why:
        raise UsageError(f"simulated server: certificate {spec.tls_cert} with key {spec.tls_key}: {why}") from why
    return context


def supervise(spec: SimSpec, socks: list[socket.socket], tls: ssl.SSLContext | None) -> list[int]:
    """Fork a process for each socket; returns their ids. They end with this process, however it ends."""
    shared = Shared(spec.processes)
    shared.set_faults(json.dumps(spec.faults))
    pids: list[int] = []
    for index, sock in enumerate(socks):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                die_with_parent(signal.SIGKILL)
                for other in socks:
                    if other is not sock:
                        other.close()
                status = _work(spec, sock, tls, shared, index)
            finally:
                sys.stderr.flush()
                os._exit(status)  # the parent's clean-up is not this process's
        pids.append(pid)
    for sock in socks:
        sock.close()
    return pids


def wait(pids: list[int], watch_parent: bool, watch_stdin: bool) -> int:
    """Until a signal, the parent's end or a worker's: ends all workers and returns the exit code."""
    stop = False

    def on_signal(number: int, frame: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    parent, left, code = os.getppid(), set(pids), 0
    while not stop and left == set(pids):
        stop = watch_parent and os.getppid() != parent
        if watch_stdin:
            ready, _, _ = select.select([0], [], [], 0.1)
            stop = stop or (bool(ready) and not os.read(0, 4096))
        else:
            time.sleep(0.1)
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            left.discard(pid)
            code = os.waitstatus_to_exitcode(status) or 1
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 3
    while left and time.monotonic() < end:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        left.discard(pid)
        if not pid:
            time.sleep(0.005)
    if stop and not left and not watch_stdin:
        print("the simulated server stopped in order", flush=True)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return code


def _work(spec: SimSpec, sock: socket.socket, tls: ssl.SSLContext | None, shared: Shared, index: int) -> int:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.collect()
    gc.freeze()
    gc.disable()  # no pause in the middle of a step; the worker collects when it is idle
    return asyncio.run(_serve(spec, sock, tls, shared, index))


async def _serve(spec: SimSpec, sock: socket.socket, tls: ssl.SSLContext | None, shared: Shared, index: int) -> int:
    loop = asyncio.get_running_loop()
    app = App(spec, shared, index, loop)
    server = app.server()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener: Listener | None = None
    if tls is None:
        listener = Listener(loop, sock, server)
    else:
        await loop.create_server(server, sock=sock, ssl=tls)
    ticks = requests = closed = 0
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _TICK_S)
        app.core.tick()
        if shared.dead_since and time.monotonic() > shared.dead_since + shared.exit_after_s:
            return 1
        idle = app.core.on("idle_close")
        if idle is not None and listener is not None:
            listener.close_idle(idle.arg)
        ticks += 1
        if ticks % 20 == 0:
            if listener is not None:
                listener.sync()
            if requests != app.core.requests and not app.core.engine.busy():
                requests = app.core.requests
                gc.collect()
            elif listener is not None and listener.closed - closed > _CLOSED:
                closed = listener.closed
                gc.collect(1)
    return 0
