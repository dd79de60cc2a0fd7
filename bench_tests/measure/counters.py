"""What the server's counters say of one run, as far as they are about this run and this server alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench_tests.load.records import Records
from bench_tests.server.metrics import Metrics
from bench_tests.verdict.checks.check import Check

__all__ = ["Counted", "count"]

OTHERS = 1.01  # prompt tokens that the server took over those that we sent: above it others load it too
SEEN = 0.9  # likewise: below it the counters are not of all that we sent


@dataclass(frozen=True)
class Counted:
    """Facts for the checks of a run. `not_used` says why the counters are no witness, "" where they are."""

    cached_tokens: float | None = None
    preemptions: float = 0.0
    changes: Sequence[str] = ()
    extra: Sequence[Check] = field(default_factory=tuple)
    not_used: str = ""


def count(before: Metrics, after: Metrics, records: Records, several: str) -> Counted:
    """Judge two readings of the counters around a run; `several`: that several servers answer by turns, in words."""
    missing = several or before.missing or after.missing
    if several or not (before.values and after.values):
        why = missing or "the server's counters could not be read"
        checks = [Check.not_made(name, why) for name in ("other_load", "same_server")]
        return Counted(extra=checks, not_used=why)
    changes = after.changes(before)
    if changes:
        return Counted(changes=changes, not_used="the server was restarted")
    values = after.since(before).values
    sent = int(records.asked_input[~np.isnan(records.send_s)].sum())
    cached, seen = values.get("cached_tokens"), values.get("prompt_tokens")
    computed = values.get("computed_tokens")
    if computed is not None and cached is None:  # llama.cpp counts what its cache did not have
        cached, seen = max(0.0, sent - computed), max(computed, float(sent))
    extra = []
    not_used = "" if cached is not None else missing
    if seen is None:
        extra.append(Check.not_made("other_load", missing or "the server counts no prompt tokens"))
    elif seen > OTHERS * sent:
        # others use this server too: its counters are not about us alone, and our figures include their load
        words = f"the server also took {seen - sent:,.0f} prompt tokens of others: the figures include that load"
        extra.append(Check("other_load", True, seen / max(sent, 1), OTHERS, "share", words))
        cached, not_used = None, "the server's counters include the load of others"
    elif seen < SEEN * int(records.asked_input[records.completed].sum()):
        not_used = f"the server's counters saw {seen:,.0f} of {sent:,d} prompt tokens (are there several servers?)"
        extra.append(Check.not_made("other_load", not_used))
        cached = None
    if "started" not in values and seen is None:
        extra.append(Check.not_made("same_server", missing or "the server says no start time and counts no tokens"))
    return Counted(cached, values.get("preemptions", 0.0), (), extra, not_used)
