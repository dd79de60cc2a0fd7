"""The base URL of a server as a person writes it: cleaned, split, and fit for messages."""

from __future__ import annotations

from typing import NamedTuple

from bench_tests.errors import UsageError
from bench_tests.text import harmless

__all__ = ["BaseURL", "clean_url", "mask_url", "split_url"]

# what belongs to the API and not to the server's address
_API_PATHS = ("/chat/completions", "/completions", "/models")


class BaseURL(NamedTuple):
    """A base URL in its two parts; the query may hold a key."""

    base: str
    query: str


def clean_url(text: str, where: str) -> str:
    """The base URL without its query; see split_url. Raises UsageError."""
    return split_url(text, where).base


def split_url(text: str, where: str) -> BaseURL:
    """The base URL as everything uses it: http(s)://HOST[:PORT][/PATH], no /v1, no login; and its query.

    An API path at its end (/v1, /v1/completions, ...) is taken off. Raises UsageError, without what may be a key.
    """
    from yarl import URL

    text = text.strip()
    shown = repr(mask_url(text))
    if not text:
        raise UsageError(f"{where}: it is empty (a variable that is not set?); expected http://HOST[:PORT]")
    if any(ord(c) <= 32 or ord(c) == 127 for c in text):
        raise UsageError(f"{where} {shown}: it holds blanks or control characters; expected http://HOST[:PORT]")
    try:
        url = URL(text if "//" in text else f"http://{text}", encoded=True)
        host, port = url.host, url.explicit_port
    except (ValueError, IndexError) as why:  # yarl lets an IndexError out of "[]@"
        said = harmless(str(why)) if "@" not in text else "not a URL"
        raise UsageError(f"{where} {shown}: {said}; expected http://HOST[:PORT]") from None
    if url.scheme not in ("http", "https") or not host:
        raise UsageError(f"{where} {shown}: expected http://HOST[:PORT] or https://HOST[:PORT]")
    if port is not None and not 0 < port < 65536:
        raise UsageError(f"{where} {shown}: port {port} is out of range; expected http://HOST[:PORT]")
    if url.user or url.password:
        raise UsageError(f"{where} {shown}: a key does not belong in a URL; set $OPENAI_API_KEY instead")
    path = url.raw_path.rstrip("/")
    for end in _API_PATHS:
        if path.endswith(f"/v1{end}"):
            path = path.removesuffix(end)
    path = path.removesuffix("/v1").rstrip("/")
    authority = f"[{host}]" if ":" in host else host
    return BaseURL(f"{url.scheme}://{authority}{f':{port}' if port else ''}{path}", url.raw_query_string)


def mask_url(text: str) -> str:
    """A URL fit for messages: login and query, which can hold keys, masked."""
    head, at, host = text.rpartition("@")
    if at:
        scheme = head.partition("//")[0] + "//" if "//" in head else ""
        text = f"{scheme}***@{host}"
    base, question, _ = text.partition("?")  # what follows may hold a key too
    return f"{base}?***" if question else base
