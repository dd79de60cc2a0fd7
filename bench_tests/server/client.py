"""Requests to a server outside of everything timed: the control plane's one HTTP client, on aiohttp.

One connection a request: no connection outlives the event loop that made it, and a balancer shows all its servers.
"""

from __future__ import annotations

import errno
import json
import os
import ssl
from dataclasses import dataclass, field, replace
from typing import Any

from bench_tests.errors import ServerError
from bench_tests.masking import masked
from bench_tests.net import clear_proxy, proxy_for, tls_context
from bench_tests.server.served import Endpoint
from bench_tests.text import MAX_QUOTE, harmless, quoted

__all__ = [
    "Reply",
    "Unreachable",
    "ask",
    "get",
    "must_ask_for_its_key",
    "post_json",
    "why_unhealthy",
    "why_unreachable",
]

MAX_BODY = 64 << 20
_HEAD_BYTES = 1 << 16  # as much as the timed client takes: gateways set long cookies
CONNECT_S = 10.0  # for a connection, TLS included


class Unreachable(OSError):
    """There was no answer; the message says why in words, and holds no key."""


@dataclass(frozen=True)
class Reply:
    """What a server answered. It is read as it came, and told without the key, should the server repeat it."""

    status: int
    body: bytes = field(repr=False)
    location: str = ""  # where a redirect leads to
    server: str = ""  # its `server` header
    kind: str = ""  # its content type
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def words(self) -> str:
        """`HTTP 404: its own words`, short, with control characters made harmless."""
        said = self.quoted()
        return f"HTTP {self.status}" + (f": {said}" if said else "")

    def quoted(self, limit: int = MAX_QUOTE) -> str:
        """Its own words alone, at most so many characters."""
        return quoted(self.masked(self.body.decode("utf-8", "replace")), limit)

    def masked(self, text: str) -> str:
        """A text of the server's without the keys that it was asked with."""
        for secret in self.secrets:
            text = masked(text, secret)
        return text


async def ask(endpoint: Endpoint, method: str, path: str, body: Any = None, timeout_s: float = 10.0) -> Reply:
    """Send one request and read the whole answer. A redirect is an answer: following it would send the key elsewhere.

    Raises Unreachable when there is no answer within `timeout_s`.
    """
    import aiohttp  # slow to import, and not needed to collect
    from yarl import URL

    headers = {"Content-Type": "application/json"} if body is not None else {}
    for name, value in endpoint.headers.items():
        if not value.isascii() or not value.isprintable():
            what = "the API key" if name == "Authorization" else f"the header {name}"
            raise Unreachable(f"{what} holds line ends or other characters that no header can carry; set it again")
        headers[name] = value
    if refused := clear_proxy(endpoint.base_url):
        raise Unreachable(refused)
    secure = endpoint.base_url.startswith("https:")
    connector = aiohttp.TCPConnector(force_close=True, ssl=tls_context(endpoint.insecure) if secure else True)
    data = json.dumps(body).encode() if body is not None else None
    proxy = proxy_for(endpoint.base_url)
    connect_s = min(CONNECT_S, 0.8 * timeout_s)
    timeout = aiohttp.ClientTimeout(timeout_s, sock_connect=connect_s)
    try:
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, max_line_size=_HEAD_BYTES, max_field_size=_HEAD_BYTES
        ) as http:
            url = URL(endpoint.url(path), encoded=True)
            async with http.request(
                method, url, data=data, headers=headers, proxy=proxy, allow_redirects=False
            ) as answer:
                said = await _read(answer.content)
                place, server, kind = (
                    harmless(answer.headers.get(name, "")) for name in ("location", "server", "content-type")
                )
                return Reply(answer.status, said, place, server, kind, endpoint.secrets)
    except aiohttp.ConnectionTimeoutError:
        plain = " (TLS handshake included); does it serve http:// instead of https://?" if secure else ""
        raise Unreachable(f"timed out: no connection within {connect_s:g} s{plain}") from None
    except TimeoutError:
        raise Unreachable(f"timed out: no answer within {timeout_s:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as why:
        # from None: a traceback through the client shows the headers, and so the key
        raise Unreachable(_words(why, endpoint, proxy)) from None


async def _read(content: Any) -> bytes:
    parts, size = [], 0
    async for part in content.iter_chunked(1 << 20):
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            break
    return b"".join(parts)


def _words(why: Exception, endpoint: Endpoint, proxy: str | None) -> str:
    """Why there was no answer, and what to do about it."""
    import aiohttp

    shown = (proxy or "").rpartition("@")[2].rpartition("/")[2]
    if isinstance(why, aiohttp.ClientHttpProxyError):
        return f"the proxy {shown} of $https_proxy refuses the tunnel (HTTP {why.status}); set no_proxy for this host"
    if isinstance(why, aiohttp.ClientProxyConnectionError):
        return (
            f"the proxy {shown} of $https_proxy does not answer ({_os_words(why.os_error)}); set no_proxy for this host"
        )
    inner = why.os_error if isinstance(why, aiohttp.ClientConnectorError) else why
    inner = getattr(why, "certificate_error", inner)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted (certificate verify failed: {inner.verify_message.rstrip('.')}); name the file of its authority in "
            "$SSL_CERT_FILE, or give --insecure"
        )
    if isinstance(inner, ssl.SSLError | ssl.CertificateError):
        reason = str(getattr(inner, "reason", "") or inner).replace("_", " ").lower()
        return f"no TLS there ({harmless(reason)}); does it serve http:// instead of https://?"
    if isinstance(why, aiohttp.ClientConnectorError):
        return _os_words(why.os_error)
    plain = "" if endpoint.base_url.startswith("https:") else "; does it serve https:// instead of http://?"
    if isinstance(why, aiohttp.ServerDisconnectedError):
        return f"it closed the connection without an answer{plain}"
    if isinstance(why, aiohttp.ClientPayloadError):
        return "its answer was cut off"
    if isinstance(why, aiohttp.ClientResponseError):
        return f"what answers there does not speak HTTP ({quoted(why.message, 80)}){plain}"
    if isinstance(why, OSError):
        return _os_words(why) + (plain if why.errno == errno.ECONNRESET else "")
    return harmless(str(why)) or type(why).__name__


def _os_words(why: OSError) -> str:
    if why.errno is not None and why.errno > 0:
        return os.strerror(why.errno)
    return harmless(why.strerror or str(why)) or type(why).__name__


async def get(endpoint: Endpoint, path: str, timeout_s: float = 10.0) -> Reply | None:
    """The answer to a GET; None when there is none (`why_unreachable` says why)."""
    try:
        return await ask(endpoint, "GET", path, timeout_s=timeout_s)
    except Unreachable:
        return None


async def post_json(endpoint: Endpoint, path: str, body: Any, timeout_s: float = 60.0) -> Reply | None:
    """The answer to a POST of JSON; None when there is none."""
    try:
        return await ask(endpoint, "POST", path, body, timeout_s)
    except Unreachable:
        return None


async def why_unreachable(endpoint: Endpoint, path: str = "/v1/models", timeout_s: float = 10.0) -> str | None:
    """Why a GET gets no answer at all, in words; None when it gets one."""
    try:
        await ask(endpoint, "GET", path, timeout_s=timeout_s)
    except Unreachable as why:
        return str(why)
    return None


async def why_unhealthy(endpoint: Endpoint, timeout_s: float = 10.0, model: str = "") -> str | None:
    """Why a server cannot be serving, in words; None when it may be.

    /v1/models decides. /health alone condemns nobody: gateways have it slow, missing or broken. Where it complains of
    500 and above, one token for `model` settles it: a dead engine behind a living front gives none.
    """
    try:
        models = await ask(endpoint, "GET", "/v1/models", timeout_s=timeout_s)
    except Unreachable as why:
        return str(why)
    if models.status >= 500:
        return f"/v1/models says {models.words()}"
    health = await get(endpoint, "/health", timeout_s)
    if health is None or health.status < 500 or not model:
        return None
    body = {"model": model, "prompt": [100], "max_tokens": 1}
    try:
        token = await ask(endpoint, "POST", "/v1/completions", body, max(timeout_s, 5.0))
    except Unreachable as why:
        return f"/health says HTTP {health.status}, and it gives no token: {why}"
    return f"/health says HTTP {health.status}, and it gives no token: {token.words()}" if token.status >= 500 else None


async def must_ask_for_its_key(endpoint: Endpoint, published: str | None) -> None:
    """Raises ServerError when a server whose server_info.txt has a key answers without one: others may load it too."""
    if not published:
        return
    reply = await get(replace(endpoint, api_key=None, extra=()), "/v1/models", 30.0)
    if reply is not None and reply.status == 200:
        raise ServerError(
            f"the server at {endpoint.base_url} answers without the key that its server_info.txt has: anybody may be "
            "loading it, so nothing is measured; end it (scancel) and see in its job's log why $VLLM_API_KEY did not reach it"
        )
