"""Prefixes that prompts share on purpose: `[load.prefix]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.sweep.keys import key, number, one_of, whole

__all__ = ["CACHE_BLOCK", "Prefix", "prefix_table"]

CACHE_BLOCK = 16  # tokens of a block of vLLM's prefix cache (--block-size), which caches whole blocks


@dataclass(frozen=True)
class Prefix:
    """Each prompt begins with the prefix of its group; groups are drawn by Zipf's law."""

    groups: int = key(whole(0, 100_000), 0, "different prefixes; 0: none, or one where tokens or hit is said")
    tokens: int = key(whole(0), 0, "tokens of each prefix, before the ISL")
    hit: float = key(
        number(0, 0.99), 0.0, "instead of tokens: the share of the ISL that is the prefix, in whole blocks of the cache"
    )
    zipf: float = key(number(0, 10), 0.0, "group k is drawn with a weight of 1 / k to this power; 0: all alike")
    order: str = key(
        one_of("shuffled", "grouped", "turns"), "shuffled", "at random, one group after the other, or in turns"
    )
    block: int = key(whole(1), CACHE_BLOCK, "tokens of a block of the server's prefix cache")

    @property
    def used(self) -> bool:
        """Whether prompts share anything."""
        return bool(self.tokens or self.hit)

    @property
    def count(self) -> int:
        """How many groups there are."""
        return max(1, self.groups) if self.used else 0

    def length(self, isl: int) -> int:
        """Tokens of a prefix at this ISL. Formula: tokens, or ⌊hit × ISL / block⌋ × block."""
        return self.tokens or int(self.hit * isl / self.block + 1e-9) * self.block

    def own(self, isl: int) -> int:
        """Tokens behind the prefix: with `hit` the prefix is a part of the ISL, with `tokens` it comes before it."""
        return isl if self.tokens else max(1, isl - self.length(isl))

    def hit_tokens(self, isl: int) -> int:
        """Cached tokens of each request once its prefix is in the cache. Formula: ⌊length / block⌋ × block."""
        return self.length(isl) // self.block * self.block


def prefix_table(value: object, where: str) -> dict[str, Any]:
    """The keys that are said, each checked. Raises UsageError."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: {value!r}; expected a table such as {{groups = 8, tokens = 4096}}")
    known = {spec.name: spec for spec in fields(Prefix)}
    for name in value:
        if name not in known:
            raise UsageError(f"{where}: unknown key {name!r}; expected {', '.join(known)}")
    said = {name: known[name].metadata["check"](one, f"{where}.{name}") for name, one in value.items()}
    prefix = Prefix(**said)
    if prefix.tokens and prefix.hit:
        raise UsageError(
            f"{where}: tokens {prefix.tokens} and hit {prefix.hit:g} both say how long a prefix is; keep one"
        )
    if said and not prefix.used:
        raise UsageError(f"{where}: neither tokens nor hit is said; expected how long a prefix is")
    return said
