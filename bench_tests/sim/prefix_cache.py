"""The simulated server's prefix cache: whole blocks of prompts, the least recently used given up first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Tokens

from bench_tests.sim.stream import Sequence

__all__ = ["BLOCK", "PrefixCache", "block_hashes"]

BLOCK = 16  # tokens in a block of the KV cache


def block_hashes(tokens: Tokens[int] | Tokens[str]) -> list[int]:
    """A hash for each full block of a prompt, each covering all tokens before it too; shape (len // BLOCK,)."""
    out: list[int] = []
    last = 0
    whole = tuple(tokens)
    for end in range(BLOCK, len(whole) + 1, BLOCK):
        last = hash((last, whole[end - BLOCK : end]))
        out.append(last)
    return out


class PrefixCache:
    """Which blocks are in the KV cache, least recently used first."""

    def __init__(self, blocks: int) -> None:
        self._room = blocks
        self._known: OrderedDict[int, None] = OrderedDict()

    def match(self, sequence: Sequence) -> int:
        """Tokens of the prompt that need no computing; never all, for the last one's logits are needed."""
        n = 0
        limit = (sequence.prompt_tokens - 1) // BLOCK
        for block in sequence.blocks[:limit]:
            if block not in self._known:
                break
            self._known.move_to_end(block)
            n += 1
        return n * BLOCK

    def add(self, sequence: Sequence) -> None:
        """The prompt has been computed. Its end is given up before its beginning, as vLLM frees the blocks of a request."""
        for block in reversed(sequence.blocks):
            self._known[block] = None
            self._known.move_to_end(block)
        while len(self._known) > self._room:
            self._known.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
