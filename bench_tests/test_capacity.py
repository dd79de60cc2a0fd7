"""How much this server carries (`--find conc`, `--find rate`): the highest load within the objectives, as an interval.

PASSED: an interval was found, or at least the capacity that was wanted. FAILED: it is proven to be less than wanted, or
not even the lowest load is within. ERROR: nothing could be said.
"""

from bench_tests.compare.capacity import Capacity


async def test_capacity(capacity: Capacity) -> None:
    """The largest load proven within the limits and the smallest proven beyond; `--min-capacity` lies below both."""
    assert not capacity.too_low, capacity.words
