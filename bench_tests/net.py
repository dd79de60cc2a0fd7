"""How this host reaches another: proxies and TLS, by one rule for everybody. Standard library alone, as the job's own
side needs it; the control plane's client and the load's connections follow the same rule.
"""

from __future__ import annotations

import functools
import os
import ssl
import urllib.request
from urllib.parse import urlsplit

__all__ = ["clear_proxy", "is_this_host", "proxy_for", "tls_context"]


def is_this_host(host: str) -> bool:
    """Whether a URL's host is this machine, by its name alone."""
    return host in ("localhost", "::1") or host.startswith("127.")


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this URL, as curl takes it (never for this host); None for none."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_this_host(host) or urllib.request.proxy_bypass(host):
        return None
    named = urllib.request.getproxies().get(parts.scheme)
    return (named if "//" in named else f"http://{named}") if named else None


def clear_proxy(url: str) -> str | None:
    """Why a server in the clear is not asked through a proxy, in words; None where there is no such proxy.

    Its answers would be the proxy's, and so would be the load's figures. HTTPS goes through a tunnel and is fine.
    """
    parts = urlsplit(url)
    proxy = proxy_for(url) if parts.scheme == "http" else None
    if proxy is None:
        return None
    shown = proxy.rpartition("@")[2].removeprefix("http://")
    return (
        f"$http_proxy sends {parts.hostname} to the proxy {shown}, which would answer for it and be measured with it; "
        f"set no_proxy={parts.hostname}, or use https (which tunnels)"
    )


def tls_context(insecure: bool) -> ssl.SSLContext:
    """How a certificate is verified: as the system does ($SSL_CERT_FILE, $SSL_CERT_DIR), or not at all if insecure."""
    return _context(insecure, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.lru_cache(4)
def _context(insecure: bool, *_: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()  # reads all authorities: some 20 ms
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
