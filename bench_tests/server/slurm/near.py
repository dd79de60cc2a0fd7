"""How the job's own side asks a server: standard library alone, for the container's or the node's Python may have no more.

The control plane has server/client.py; both follow the proxies and the TLS rules of net.py.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPException
from typing import Any

from bench_tests.net import clear_proxy, tls_context
from bench_tests.server.process import Readiness, ServerProcess
from bench_tests.server.served import Endpoint, Say

__all__ = ["answers", "wait_until_ready"]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: following it would send the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def answers(endpoint: Endpoint, path: str, timeout_s: float = 5.0) -> tuple[int, bytes] | None:
    """Status and body (64 KiB at most) of a GET with the endpoint's key; None when nobody answers."""
    if clear_proxy(endpoint.base_url):
        return None
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if endpoint.base_url.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=tls_context(endpoint.insecure)))
    else:
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(endpoint.url(path), headers=endpoint.headers)
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout_s) as answer:
            return int(answer.status), answer.read(64 * 1024)
    except urllib.error.HTTPError as said:
        with said:
            return int(said.code), said.read(64 * 1024)
    except (OSError, HTTPException, ValueError):
        return None


def wait_until_ready(
    endpoint: Endpoint,
    process: ServerProcess,
    *,
    timeout_s: float,
    say: Say,
    stopping: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait for /health, then see that our key, and nothing less, opens /v1/models.

    True when it is ready, False when `stopping` became true. Raises ServerError with the log's last lines when the
    server ends, when the time is over, when another one answers there, or when it serves everybody.
    """
    ready = Readiness(endpoint.base_url, process, timeout_s, say)
    while not stopping():
        ready.must_run()
        reply = answers(endpoint, "/health", 5.0)
        if ready.healthy(reply[0] if reply else None):
            models = answers(endpoint, "/v1/models", 30.0)
            ready.must_be_ours(models[0] if models else None)
            keyless = answers(replace(endpoint, api_key=None), "/v1/models", 30.0)
            ready.must_ask_for_its_key(keyless[0] if keyless else None)
            return True
        time.sleep(ready.pause_s)
    return False
