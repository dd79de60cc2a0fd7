"""How the events of the answers arrived: one by one as the server made them, or gathered by something in between."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.records import Records
from bench_tests.sweep.settings import Validity
from bench_tests.sweep.units import format_s
from bench_tests.verdict.checks.check import Check, RunFacts
from bench_tests.verdict.summary import per_event

__all__ = ["MOVED", "gathered", "in_one_event", "tokens_per_event"]

SEVERAL = 0.75  # arrival moments an event below which a note says that events came several at a time
TOGETHER = 1 / 3  # an answer whose events came at fewer moments than this share of them was gathered
#: checks of events that did not come as the server made them, with the latencies that this moves: the end stays where it was
MOVED: Mapping[str, frozenset[str]] = {
    "gathered_stream": frozenset(("ttft", "tpot", "itl", "ttfat", "thinking")),
    "one_event_answers": frozenset(("tpot", "itl")),
}
FRONT_BEHIND = 1.2  # tokens an event from which a server without speculative decoding sends them late


def gathered(records: Records, facts: RunFacts, limits: Validity) -> Check:
    """ERROR where an objective is about what came between the server and this client; a note where none is."""
    of = _were_gathered(records)
    done = records.completed
    share = float((of & done).sum() / max(1, int(done.sum())))
    moved = [objective.metric for objective in facts.asserted if objective.latency in MOVED["gathered_stream"]]
    beyond = share > limits.max_gathered_share
    text = _several(records)
    if beyond:
        ratio = float(records.moments[of & done].sum() / records.events[of & done].sum())
        whose = ", ".join(moved) if moved else "TTFT, TPOT and ITL"
        text = (
            f"the events of {share:.0%} of the answers arrived together ({ratio:.2f} arrival moments an event, 1 when a "
            "server streams): "
        )
        text += _starved(records, of & done, whose) or (
            f"something between the server and this client gathers the stream, and {whose} would be "
            "its figures; turn that off (nginx: proxy_buffering off; HAProxy: option http-no-delay) or measure past it"
        )
    return Check("gathered_stream", not (beyond and moved), share, limits.max_gathered_share, "share", text)


def in_one_event(records: Records, facts: RunFacts, limits: Validity) -> Check:
    """ERROR where an objective is about the time between tokens, and answers of several tokens came as one event."""
    several = records.completed & (records.output_tokens > 1)
    share = float((several & (records.events == 1)).sum() / max(1, int(several.sum())))
    between = [objective.metric for objective in facts.asserted if objective.latency in MOVED["one_event_answers"]]
    beyond = share > limits.max_gathered_share
    text = (
        f"{share:.0%} of the answers came as one event of all their tokens: there is no time between tokens to measure, and "
        f"{', '.join(between) or 'TPOT'} would be 0; have the server stream each token, or assert p99_e2el"
    )
    return Check(
        "one_event_answers", not (beyond and between), share, limits.max_gathered_share, "share", text * beyond
    )


def _were_gathered(records: Records) -> NDArray[np.bool_]:
    """Which answers came at fewer than a third as many moments as they have events, or tokens where these are fewer.

    A server that makes several events of one token (or several tokens into one event) gathers nothing by it. Answers of
    two or three events have no third of a moment: where most of them came whole, they were gathered too.
    """
    steps = _steps(records)
    whole = records.completed & (records.moments == 1) & (steps > 1)
    if 2 * whole.sum() <= records.completed.sum():
        whole[:] = False
    return np.asarray((records.moments < TOGETHER * steps) | whole)


def _starved(records: Records, gathered: NDArray[np.bool_], whose: str) -> str:
    """What is said where this client itself may have merged most of the gathered answers; "" where it read in time.

    It may where what came had waited for it longer than half of the gap between the answer's events.
    Formula of that gap: (last event - first) / (events - 1); (last event - send) / events where all came at once.
    """
    steps = np.maximum(_steps(records)[gathered], 2)
    span_s = (records.last_s - records.first_s)[gathered]
    whole_s = (records.last_s - records.send_s)[gathered]
    gap_s = np.where(span_s > 0, span_s / (steps - 1), whole_s / steps)
    late = records.lag_s[gathered] >= gap_s / 2
    if 2 * late.sum() <= len(late):
        return ""
    lag_s, usual_s = float(np.median(records.lag_s[gathered][late])), float(np.median(gap_s[late]))
    return (
        f"this client was starved of CPU and read up to {format_s(lag_s)} late, events every {format_s(usual_s)}, so that "
        f"it cannot be told who gathered them, and {whose} cannot be relied on; give it a core of its own, more "
        "--load-processes, or less load"
    )


def _steps(records: Records) -> NDArray[np.int64]:
    return np.where(records.output_tokens > 0, np.minimum(records.events, records.output_tokens), records.events)


def _several(records: Records) -> str:
    """What is said of events that came several at a time, but not as many as to doubt the run; "" where they came alone."""
    done = records.completed
    steps = int(_steps(records)[done].sum())
    ratio = float(records.moments[done].sum()) / steps if steps else 1.0
    return "" if ratio >= SEVERAL else (
        f"events arrived {1 / ratio:.1f} at a time: the server sends several at once (speculative decoding), or something "
        "between it and this client gathers the stream, which makes TTFT late; ITL is between arrivals"
    )  # fmt: skip


def tokens_per_event(records: Records, speculative: bool = False) -> Check:
    """A note: from where on ITL is a gap between events of several tokens. `speculative`: the server says that it drafts."""
    ratio = per_event(records)["tokens_per_event"]
    note = ""
    if ratio is not None and ratio > FRONT_BEHIND:
        why = (
            "the server decodes speculatively"
            if speculative
            else "without speculative decoding the server's front is behind its engine: more API server processes or CPUs "
            "(--api-server-count)"
        )
        note = f"{ratio:.1f} tokens an event: {why}; ITL is between events and not between tokens"
    return Check("tokens_per_event", True, ratio, FRONT_BEHIND, "tokens", note)
