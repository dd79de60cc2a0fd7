"""Plain requests to a server, outside of everything timed. Knows the endpoint."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from bench_tests.masking import masked_bytes
from bench_tests.server.served import Endpoint

__all__ = ["get", "post_json", "tls_context", "why_unhealthy", "why_unreachable"]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: following it would send the key to another host and measure another server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _open(endpoint: Endpoint, request: urllib.request.Request, timeout_s: float) -> tuple[int, bytes]:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if request.type == "https":
        handlers.append(urllib.request.HTTPSHandler(context=tls_context(endpoint)))
    if is_this_host(urlsplit(endpoint.base_url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # as the load goes: a proxy is for other hosts
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return int(answer.status), _masked(endpoint, answer.read(64 << 20))
    except urllib.error.HTTPError as said:
        with said:
            return int(said.code), _masked(endpoint, said.read(1 << 20))
    except (OSError, HTTPException, ValueError):
        raise
    except Exception as why:  # from None: a traceback through urllib shows the headers, and so the key
        raise OSError(f"{type(why).__name__}: {why}") from None


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """How the endpoint's certificate is verified: as the system does, or not at all where it is insecure."""
    context = ssl.create_default_context()  # reads all authorities: some 20 ms
    if endpoint.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _masked(endpoint: Endpoint, body: bytes) -> bytes:
    """What a server or proxy says may repeat the request's headers; the key in them is not for messages and files."""
    return masked_bytes(body, endpoint.api_key)


def _request(endpoint: Endpoint, path: str, body: bytes | None = None) -> urllib.request.Request:
    request = urllib.request.Request(endpoint.base_url + path, body)
    if body is not None:
        request.add_header("Content-Type", "application/json")
    for name, value in endpoint.headers.items():
        if not value.isascii() or not value.isprintable():
            raise ValueError("the API key holds line ends or other characters that no header can carry; set it again")
        request.add_header(name, value)
    return request


def is_this_host(host: str) -> bool:
    """Whether a URL's host is this machine, by its name alone."""
    return host in ("localhost", "::1") or host.startswith("127.")


def get(endpoint: Endpoint, path: str, timeout_s: float = 10.0) -> tuple[int, bytes] | None:
    """Status and body of a GET; None when there is no answer (`why_unreachable` says why)."""
    try:
        return _open(endpoint, _request(endpoint, path), timeout_s)
    except (OSError, HTTPException, ValueError):
        return None


def post_json(endpoint: Endpoint, path: str, body: Any, timeout_s: float = 60.0) -> tuple[int, bytes] | None:
    """Status and body of a POST of JSON; None when there is no answer."""
    try:
        return _open(endpoint, _request(endpoint, path, json.dumps(body).encode()), timeout_s)
    except (OSError, HTTPException, ValueError):
        return None


def why_unreachable(endpoint: Endpoint, path: str, timeout_s: float = 10.0) -> str | None:
    """Why a GET gets no answer at all, in words; None when it gets one."""
    try:
        _open(endpoint, _request(endpoint, path), timeout_s)
    except urllib.error.URLError as why:
        return str(why.reason)
    except (OSError, HTTPException, ValueError) as why:
        return str(why) or type(why).__name__
    return None


def why_unhealthy(endpoint: Endpoint, timeout_s: float = 10.0) -> str | None:
    """Why a server cannot be serving: no answer from /health, or one of 500 and above; None when it may be."""
    answer = get(endpoint, "/health", timeout_s)
    if answer is None:
        return why_unreachable(endpoint, "/health", timeout_s)
    # a server without /health says 404, and a dead engine behind a living front 503
    return f"/health says HTTP {answer[0]}" if answer[0] >= 500 else None
