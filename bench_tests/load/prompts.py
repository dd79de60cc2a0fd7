"""Random prompts of an exact length, drawn from a seed, as positions in a pool of token ids.

A prompt depends on the seed and its running number alone: not on how many processes share the load,
nor on the order in which they are made.
"""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

from bench_tests.errors import UsageError
from bench_tests.load.plan import LoadPlan
from bench_tests.sweep.prefix import Prefix

__all__ = ["IdPool", "Ids", "group_ids", "group_of", "lengths", "prompt_ids"]

GROUPS = 2**57  # a range of random streams of its own

Ids = NDArray[np.int64]


class IdPool:
    """The token ids that are drawn from: `first_id` to `vocab_size`, without the special ones. Shape (n,)."""

    def __init__(self, plan: LoadPlan) -> None:
        ids = np.setdiff1d(
            np.arange(min(plan.model.first_id, plan.vocab_size // 2), plan.vocab_size), plan.model.special_ids
        )
        if len(ids) < 2:
            raise UsageError(
                f"model: vocab_size {plan.vocab_size} without special_ids leaves {len(ids)} ids; expected at least 2"
            )
        self.ids: Ids = ids.astype(np.int64)
        # each id as JSON of one fixed width, so that a prompt's bytes are one table look-up: "   17," "31999,"
        width = len(str(int(ids[-1]))) + 1
        text = "".join(f"{i},".rjust(width) for i in ids.tolist())
        self._table = np.frombuffer(text.encode(), np.uint8).reshape(len(ids), width)

    def __len__(self) -> int:
        return len(self.ids)

    def as_json(self, positions: Ids) -> bytes:
        """The ids at these positions of the pool as the inside of a JSON list."""
        return self._table.take(positions, axis=0).tobytes()[:-1]


def _rng(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))


def lengths(plan: LoadPlan, serials: Ids, of: int, stream: int) -> Ids:
    """Lengths uniform in `of` × (1 ± range_ratio), whole tokens, at least 1; shape of `serials`."""
    if plan.load.range_ratio == 0:
        return np.full(len(serials), of, np.int64)
    low = max(1, int(np.floor(of * (1 - plan.load.range_ratio))))
    high = max(low, int(np.ceil(of * (1 + plan.load.range_ratio))))
    return np.array([_rng(plan.seed, stream + 2 * int(s)).integers(low, high + 1) for s in serials], np.int64)


def prompt_ids(plan: LoadPlan, pool_size: int, serial: int, isl: int) -> Ids:
    """Positions in the pool of prompt number `serial`: the shared prefix, then `isl` tokens; shape (prefix_len + isl,).

    The first token behind the prefix is a permutation of the serial, so that no two prompts of a sweep share more than
    the prefix, as long as it has no more prompts than the pool has ids; beyond that they share one token more.
    """
    seed = plan.seed + plan.salt
    own = _rng(seed, 2**61 + serial).integers(0, pool_size, isl)
    place, number = 0, serial
    while place < isl:
        # multiplying by a number that shares no factor with the pool's size permutes it
        factor = next(f for f in range(pool_size * 5 // 8 | 1, 2 * pool_size + 2, 2) if gcd(f, pool_size) == 1)
        own[place] = (number * factor + seed) % pool_size
        number //= pool_size
        place += 1
        if not number and place > 1:  # two tokens for every prompt: so the many share one and not by chance two
            break
    prefix = Prefix(**plan.load.prefix)
    if prefix.used:
        return np.concatenate([group_ids(plan, pool_size, group_of(plan, prefix, serial)), own])
    if not plan.load.prefix_len:
        return own
    return np.concatenate([_rng(seed, 2**62).integers(0, pool_size, plan.load.prefix_len), own])


def group_ids(plan: LoadPlan, pool_size: int, group: int) -> Ids:
    """Positions in the pool of a group's prefix; shape (tokens,). Each run of a point has its own, which no cache has yet."""
    return _rng(plan.seed + plan.salt, GROUPS + (plan.first_serial << 20) + group).integers(
        0, pool_size, Prefix(**plan.load.prefix).length(plan.isl)
    )


def group_of(plan: LoadPlan, prefix: Prefix, serial: int) -> int:
    """Which group the prompt number `serial` belongs to, 0 to groups − 1."""
    count = prefix.count
    if prefix.order == "turns" or count == 1:
        return serial % count
    weights = np.arange(1, count + 1, dtype=float) ** -prefix.zipf
    edges = np.cumsum(weights) / weights.sum()
    if prefix.order == "grouped":  # by its place among the run's measured requests, each group its share of them
        place = serial - plan.first_serial - plan.num_warmups
        share = (max(0, place) + 0.5) / plan.num_prompts
    else:
        share = float(_rng(plan.seed, 2**56 + serial).random())
    return min(count - 1, int(np.searchsorted(edges, share, "right")))
