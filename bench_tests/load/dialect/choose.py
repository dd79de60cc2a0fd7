"""The dialect of an endpoint by its name in `[load] endpoint`."""

from __future__ import annotations

from bench_tests.load.dialect.base import Dialect
from bench_tests.load.dialect.chat import CHAT
from bench_tests.load.dialect.completions import COMPLETIONS

__all__ = ["dialect_of"]

_ALL: dict[str, Dialect] = {dialect.name: dialect for dialect in (COMPLETIONS, CHAT)}


def dialect_of(endpoint: str) -> Dialect:
    """The dialect that `completions` or `chat` names."""
    return _ALL[endpoint]
