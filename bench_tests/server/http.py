"""Plain requests to a server, outside of everything timed. Knows the endpoint."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from bench_tests.server.endpoint import Endpoint

__all__ = ["get", "post_json", "why_unreachable"]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: following it would send the key to another host and measure another server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _open(endpoint: Endpoint, request: urllib.request.Request, timeout_s: float) -> tuple[int, bytes]:
    context = ssl.create_default_context()
    if endpoint.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect())
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return int(answer.status), answer.read(64 << 20)
    except urllib.error.HTTPError as said:
        with said:
            return int(said.code), said.read(1 << 20)


def get(endpoint: Endpoint, path: str, timeout_s: float = 10.0) -> tuple[int, bytes] | None:
    """Status and body of a GET; None when there is no answer (`why_unreachable` says why)."""
    try:
        return _open(endpoint, urllib.request.Request(endpoint.base_url + path, headers=endpoint.headers), timeout_s)
    except (OSError, HTTPException, ValueError):
        return None


def post_json(endpoint: Endpoint, path: str, body: Any, timeout_s: float = 60.0) -> tuple[int, bytes] | None:
    """Status and body of a POST of JSON; None when there is no answer."""
    headers = {"Content-Type": "application/json", **endpoint.headers}
    request = urllib.request.Request(endpoint.base_url + path, json.dumps(body).encode(), headers)
    try:
        return _open(endpoint, request, timeout_s)
    except (OSError, HTTPException, ValueError):
        return None


def why_unreachable(endpoint: Endpoint, path: str, timeout_s: float = 10.0) -> str | None:
    """Why a GET gets no answer at all, in words; None when it gets one."""
    try:
        _open(endpoint, urllib.request.Request(endpoint.base_url + path, headers=endpoint.headers), timeout_s)
    except urllib.error.URLError as why:
        return str(why.reason)
    except (OSError, HTTPException, ValueError) as why:
        return str(why) or type(why).__name__
    return None
