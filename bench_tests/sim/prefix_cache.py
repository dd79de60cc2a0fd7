"""The simulated server's prefix cache: whole blocks of prompts, the least recently used given up first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Tokens
from typing import Any

from bench_tests.sim.events import token_id
from bench_tests.sim.stream import Sequence

__all__ = ["BLOCK", "PrefixCache", "block_hashes"]

BLOCK = 16  # tokens in a block of the KV cache


def block_hashes(tokens: Tokens[int] | Tokens[str], last: int = 0) -> list[int]:
    """A hash for each full block of a prompt, each covering all tokens before it too; shape (len // BLOCK,).

    `last`: the hash of the block before these tokens.
    """
    out: list[int] = []
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

    def ended(self, sequence: Sequence) -> None:
        """All its tokens are there: those that went through the model, so all but the last, are in the cache as well.

        A chat that has thought does not repeat its thoughts: its answer is in no later prompt.
        """
        if sequence.prompt and not sequence.think:
            tail = [*sequence.prompt[len(sequence.blocks) * BLOCK :], *_answer(sequence)]
            sequence.blocks = sequence.blocks + block_hashes(tail, sequence.blocks[-1] if sequence.blocks else 0)
            self.add(sequence)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()


def _answer(sequence: Sequence) -> list[Any]:
    """Its tokens but for the last, as a prompt has them: ids or words."""
    said = range(sequence.i - 1)
    if isinstance(sequence.prompt[0], int):
        return [token_id(i) for i in said]
    return [sequence.reply.voice.word(i).strip() for i in said]
