"""What a prefix cache must hit when prompts come one after the other: the theory that a server's count is held against."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["block_hashes", "hit_tokens"]


def block_hashes(prompt: NDArray[np.int64], block: int) -> list[int]:
    """A hash for each whole block of a prompt and all that stands before it; length floor(tokens / block)."""
    found, before = [], 0
    whole = len(prompt) // block
    for part in np.ascontiguousarray(prompt[: whole * block], np.int64).reshape(whole, block):
        before = hash((before, part.tobytes()))
        found.append(before)
    return found


def hit_tokens(
    prompts: Iterable[Sequence[int]], lengths: Sequence[int], block: int, capacity_blocks: int | None = None
) -> NDArray[np.int64]:
    """Cached prompt tokens of each request, served one by one; shape (n,).

    `prompts` are the block hashes of each (`block_hashes`), `lengths` the prompts' tokens. A server computes at least
    the last token of a prompt itself, so a prompt of whole blocks hits one block less. With `capacity_blocks` the
    blocks that were used the longest ago are given up first, and of one prompt the last ones.

    Formula: min(leading blocks in the cache, floor((tokens − 1) / block)) × block.
    """
    cache: OrderedDict[int, None] = OrderedDict()
    hits = np.zeros(len(lengths), np.int64)
    for i, hashes in enumerate(prompts):
        known = 0
        for one in hashes:
            if one not in cache:
                break
            known += 1
        hits[i] = min(known, (int(lengths[i]) - 1) // block) * block
        for one in reversed(hashes):  # the start of a prompt is the most recently used of it
            cache.pop(one, None)
            cache[one] = None
        while capacity_blocks is not None and len(cache) > capacity_blocks:
            cache.popitem(last=False)
    return hits
