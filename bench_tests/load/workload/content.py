"""Prompts whose shared content is known to the token: equal block ids give equal tokens, everything else is new."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.workload.trace import Trace

__all__ = ["block_positions", "trace_positions"]

Positions = NDArray[np.int64]
BLOCKS = 2**59  # a range of random streams of its own: random prompts and lengths draw from others
TAILS = 2**58


def _draw(seed: int, stream: int, pool_size: int, count: int) -> Positions:
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))
    return rng.integers(0, pool_size, count)


def block_positions(seed: int, pool_size: int, block_id: int, block: int) -> Positions:
    """The tokens that a block id stands for, as positions in the pool of token ids; shape (block,).

    They depend on the seed too: another session's prompts are not in the cache by this one's.
    """
    return _draw(seed, BLOCKS + block_id % 2**57, pool_size, block)


def trace_positions(trace: Trace, i: int, seed: int, pool_size: int) -> Positions:
    """Request i's prompt, exactly `input_tokens[i]` long; shape (input_tokens,).

    Its blocks' tokens in their order, the last block cut at the prompt's end; what the ids do not cover is this
    request's alone.
    """
    wanted = int(trace.input_tokens[i])
    parts = [block_positions(seed, pool_size, one, trace.block) for one in trace.blocks(i).tolist()]
    covered = min(wanted, len(parts) * trace.block)
    if covered < wanted:
        parts.append(_draw(seed, TAILS + i, pool_size, wanted - covered))
    return np.concatenate(parts)[:wanted]
