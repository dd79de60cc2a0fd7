"""What the server's own counters say against or beside the client's TTFT, and in which words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench_tests.load.records import Records
from bench_tests.sweep.units import format_s
from bench_tests.verdict.checks.arrivals import FRONT_BEHIND
from bench_tests.verdict.checks.check import Check, RunFacts
from bench_tests.verdict.summary import per_event

__all__ = ["server_ttft", "ttft_words"]

SAME_S = 0.001  # two clocks of means, each exact: by more than this the client's cannot lie below the server's
APART_S = 0.010  # a difference from which a note says where it may lie, ...
APART = 0.10  # ... where it is also this share of the client's TTFT


def server_ttft(records: Records, facts: RunFacts) -> Check:
    """The client's mean TTFT contains the server's: an ERROR where it does not and TTFT is asserted."""
    side = facts.server_side
    parts = side.get("ttft") or {}
    client, server, apart = (parts.get(name) for name in ("client_s", "server_s", "client_and_network_s"))
    if client is None or server is None or apart is None:
        return Check.not_made("server_ttft", side.get("missing") or "the server counted no first token")
    if side["requests"]["ttft"] != side["requests"]["client"]:
        counts = ", ".join(f"{name} {count:,d}" for name, count in side["requests"].items())
        return Check.not_made("server_ttft", f"the server's histograms hold other requests than this run ({counts})")
    below = apart < -SAME_S
    asserted = any(objective.latency == "ttft" for objective in facts.asserted)
    text = ""
    if below:
        text = (
            f"the client's mean TTFT {format_s(client)} lies below the server's own {format_s(server)} over the same "
            f"{side['requests']['client']:,d} requests: something before the server answers for it (a first event "
            "without a token of the engine's?); measure past it"
        )
    elif apart > max(APART_S, APART * client):
        text = f"{format_s(apart)} of the mean TTFT {format_s(client)} lie outside of the server's own: {_which_side(records, facts, apart)}"
    return Check("server_ttft", not (below and asserted), apart, -SAME_S, "s", text)


def _which_side(records: Records, facts: RunFacts, apart_s: float) -> str:
    """Where the time between the server's stamps and the client's went, as far as this client can tell."""
    done = records.completed
    lag_s = float(np.median(records.lag_s[done])) if done.any() else 0.0
    ratio = per_event(records)["tokens_per_event"] or 0.0
    if lag_s > apart_s / 2:
        return f"this client read its sockets late (by {format_s(lag_s)} in the median); give it more cores"
    if ratio > FRONT_BEHIND and not facts.speculative:
        return (
            f"the server's front is behind its engine ({ratio:.1f} tokens an event): more API server processes or CPUs "
            "(--api-server-count)"
        )
    return (
        f"this client read late by {format_s(lag_s)} at most in the median request, so it is the network, a gateway, or the "
        "server's HTTP front"
    )


def ttft_words(side: Mapping[str, Any]) -> str:
    """`mean TTFT 210.3 ms = 9.1 ms client and network + 2.2 ms front + ...`; "" where there is nothing to tell."""
    parts = side.get("ttft") or {}
    client, server = parts.get("client_s"), parts.get("server_s")
    if client is None or server is None:
        return ""
    known = [("client and network", parts["client_and_network_s"])]
    if parts.get("front_s") is not None:
        known += [(name, parts[f"{name}_s"]) for name in ("front", "queue", "prefill")]
    elif parts.get("queue_s") is not None:
        known += [("queue", parts["queue_s"]), ("front and prefill", server - parts["queue_s"])]
    else:
        known.append(("server", server))
    named = " + ".join(f"{_signed(value)} {name}" for name, value in known)
    of = "measured requests" if side.get("of") == "measured" else "requests, warm-up included"
    exact = "" if side.get("same_requests") else "; the server counted other requests too"
    return f"mean TTFT {format_s(client)} = {named} ({side['requests']['client']:,d} {of}{exact})"


def _signed(seconds: float) -> str:
    return format_s(seconds) if seconds >= 0 else f"−{format_s(-seconds)}"
