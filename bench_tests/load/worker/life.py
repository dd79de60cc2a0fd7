"""Whether an answer that still runs is alive: when its latest event that carries a choice was read.

Comments and pings keep a connection open and say nothing of the engine behind it. Called when a limit seems to have
passed, never while all is well: nothing in here is part of the timed reads.
"""

from __future__ import annotations

import re
from bisect import bisect_right

import numpy as np

from bench_tests.load.worker.framing import BadFraming, Framing
from bench_tests.load.worker.pool import Stream
from bench_tests.load.worker.stream import parse_answer

__all__ = ["see_life"]

_CHOICES = b'"choices"'
_ONE = re.compile(rb'"choices"\s*:\s*\[\s*\{')


def see_life(stream: Stream) -> int:
    """When the latest event with a choice was read, ns of CLOCK_REALTIME; 0 while there is none. Kept in the stream."""
    if len(stream.buf) != stream.seen:
        stream.event_ns = _latest(stream)
        stream.seen = len(stream.buf)
    return stream.event_ns


def _latest(stream: Stream) -> int:
    at = stream.buf.rfind(_CHOICES, max(0, stream.seen - len(_CHOICES)))
    if at >= 0 and _ONE.match(stream.buf, at):
        return stream.reads[bisect_right(stream.ends, at)]
    # none since the last look, or in pieces, or written in another way: read all there is
    framing = Framing()
    try:
        framing.feed(stream.buf)
    except BadFraming:
        return stream.event_ns  # its end, not its silence, is what is wrong with it
    if framing.status != 200 or not framing.has_body:
        return 0
    ends = parse_answer(stream.buf, framing).ends
    if not len(ends):
        return 0
    return stream.reads[int(np.searchsorted(np.frombuffer(stream.ends, np.int64), ends[-1]))]
