"""What the answers themselves say against a run: failed, sent twice, wrong lengths, cached, too few."""

from __future__ import annotations

import numpy as np

from bench_tests.load.records import KINDS, Records
from bench_tests.sweep.settings import Validity
from bench_tests.verdict.checks.check import Check, RunFacts

__all__ = ["cached", "counted", "failed", "few", "resent", "tokens"]

MAX_RESENT = 0.01  # requests that meet a connection which the server is just closing: rarer than that


def failed(records: Records, limits: Validity) -> Check:
    measured = int(records.measured.sum())
    bad = records.measured & ~records.completed
    failed = int(bad.sum())
    share = failed / measured if measured else 1.0
    ok = measured > 0 and share <= limits.max_failed_share and failed < measured
    if not failed:
        none = "" if measured else "no request was measured"
        return Check("failed_requests", ok, share, limits.max_failed_share, "share", none)
    kinds = records.kind[bad]
    counts = ", ".join(f"{int((kinds == k).sum())} {KINDS[k]}" for k in sorted(set(kinds.tolist())))
    # a cancelled one says why the rest was given up, not what went wrong first
    first = np.argsort(kinds == KINDS.index("cancelled"), kind="stable")
    example = next((e for e in records.error[bad][first].tolist() if e), "no words")
    return Check(
        "failed_requests",
        ok,
        share,
        limits.max_failed_share,
        "share",
        f"{failed} of {measured} requests failed ({counts}); the first says: {example}",
    )


def resent(records: Records, facts: RunFacts) -> Check | None:
    """Requests whose connection ended as they were sent. A server that closes idle connections does so now and then,
    one that never keeps a connection does so each time; in between it is requests that are lost.
    """
    resent = sum(int(stats.get("resent", 0)) for stats in facts.client)
    measured = int(records.measured.sum())
    share = resent / max(1, measured)
    ok = resent <= max(1, MAX_RESENT * measured) or resent >= 0.9 * (measured - facts.point.conc) > 0
    if not resent:
        return None
    return Check("resent", ok, share, MAX_RESENT, "share", "" if ok else (
        f"{resent} of {measured} requests were sent twice: their connections ended before any answer; something before "
        "or in the server drops requests"
    ))  # fmt: skip


def tokens(records: Records) -> Check:
    done = records.completed
    uncounted = int((records.output_tokens[done] < 0).sum())
    if uncounted:
        return Check(
            "tokens",
            False,
            float(uncounted),
            0.0,
            "requests",
            f"{uncounted} answers came without usage and no tokenizer could count them; "
            "set model.tokenizer in the profile",
        )
    got, asked = records.input_tokens[done], records.asked_input[done]
    other = int(((got != asked) & (got >= 0)).sum())
    text = ""
    if other:
        first = int(np.flatnonzero((got != asked) & (got >= 0))[0])
        text = (
            f"the server counts other prompt lengths than were sent in {other} of {len(got)} requests, e.g. "
            f"{got[first]} instead of {asked[first]}; check model.tokenizer or use prompt_format = 'ids'"
        )
    return Check("tokens", not other, float(other), 0.0, "requests", text)


def cached(records: Records, facts: RunFacts, limits: Validity) -> Check | None:
    of = records.completed
    said = records.cached_tokens[of]
    if facts.cached_tokens is not None:
        of, cached = ~np.isnan(records.send_s), facts.cached_tokens  # the server counts warm-ups and what failed too
    elif (said >= 0).any():
        cached = float(said.clip(0).sum())
    else:
        return None
    shared = facts.prefix_len * int(of.sum())
    total = max(1, int(records.asked_input[of].sum()))
    share = max(0.0, cached - shared) / total
    ok = share <= limits.max_cache_share
    return Check(
        "prefix_cache",
        ok,
        share,
        limits.max_cache_share,
        "share",
        ""
        if ok
        else f"{share:.1%} of the prompt tokens came from the server's prefix cache: prompts that it had "
        "seen before (the same --seed twice?); draw new ones or restart the server",
    )


def counted(facts: RunFacts) -> Check | None:
    """A note: whose count the tokens are, where it is not the server's."""
    answers = sum(int(stats.get("uncounted", 0)) for stats in facts.client)
    if not answers:
        return None
    words = f"{answers} answers came without usage: their tokens were counted by the tokenizer, input tokens as sent"
    return Check("counted_by_tokenizer", True, float(answers), 0.0, "answers", words)


def few(records: Records, limits: Validity) -> Check:
    n = int(records.completed.sum())
    note = "" if n >= limits.min_p99_requests else f"n={n}: a p99 of so few requests is little more than their maximum"
    return Check("requests_for_p99", True, float(n), float(limits.min_p99_requests), "requests", note)
