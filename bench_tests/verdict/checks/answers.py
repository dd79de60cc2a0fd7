"""What the answers themselves say against a run: failed, sent twice, wrong lengths, cached, too few."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.records import KINDS, WITHDRAWN, Records
from bench_tests.sweep.settings import Validity
from bench_tests.verdict.checks.check import Check, RunFacts
from bench_tests.verdict.confidence import fewest_requests
from bench_tests.verdict.summary import uncounted

__all__ = [
    "cached",
    "counted",
    "failed",
    "few",
    "one_model",
    "preempted",
    "prefix_hits",
    "resent",
    "tokens",
    "unanswered",
]

MAX_HITS_OFF = 0.02  # hits of shared prefixes against theory
MAX_RESENT = 0.01  # requests that meet a connection which the server is just closing: rarer than that


def failed(records: Records, limits: Validity) -> Check:
    measured = int((records.measured & (records.kind != WITHDRAWN)).sum())
    bad = records.measured & ~records.completed & (records.kind != WITHDRAWN)
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
    if uncounted(records):
        unknown = int((records.output_tokens[done] < 0).sum())
        return Check(
            "tokens",
            False,
            float(unknown),
            0.0,
            "requests",
            f"{unknown} answers came without usage and no tokenizer could count them; give --tokenizer NAME (a folder, "
            "or a name that transformers can load), or set model.tokenizer in the profile",
        )
    got, asked = records.input_tokens[done], records.asked_input[done]
    known = got >= 0
    other = int(((got != asked) & known).sum())
    text = ""
    if other:
        first = int(np.flatnonzero((got != asked) & known)[0])
        more = np.unique((got - asked)[known])
        fix = "check model.tokenizer, or send token ids (--prompt-format ids)"
        if more.max() <= 0:
            fix = "the server cuts prompts (a limit of its own?), or, where they were sent as text, model.tokenizer is not its"
        if len(more) == 1 and 0 < more[0] <= 2:
            fix = (
                f"it adds {more[0]} to each (a beginning-of-text token?): [load] extra_body = {{add_special_tokens = "
                "false}, where it knows the field"
            )
        text = (
            f"the server counts other prompt lengths than were sent in {other} of {len(got)} requests, e.g. "
            f"{got[first]} instead of {asked[first]}; {fix}"
        )
    return Check("tokens", not other, float(other), 0.0, "requests", text)


def one_model(facts: RunFacts, limits: Validity) -> Check | None:
    """Whose answers these are, by the name in them: any, but of all answers the same, or as many as were asked for."""
    named: Counter[str] = Counter()
    for stats in facts.client:
        named.update(stats.get("models", {}))
    if not named:
        return None
    usual, other = named.most_common(facts.models), named.most_common()[facts.models :]
    share = sum(count for _, count in other) / named.total()
    ok = share <= limits.max_other_models
    text = "" if ok else (
        f"{share:.0%} of the answers name another model ({', '.join(name or 'none' for name, _ in other[:3])}) than the rest "
        f"({', '.join(name or 'none' for name, _ in usual)}): the figures are of a mix; turn off the gateway's fallback, or "
        "measure past it (or raise validity.max_other_models, where its names differ for one model)"
    )  # fmt: skip
    return Check("one_model", ok, share, limits.max_other_models, "share", text)


def cached(records: Records, facts: RunFacts, limits: Validity) -> Check:
    """Prompts that the server had seen before, by its counters and by the answers' usage: the larger share counts."""
    done, sent = records.completed, ~np.isnan(records.send_s)
    shares = []
    if facts.cached_tokens is not None:
        # the server counts warm-ups and what failed too. What it preempted finds its own prompt and answer in the cache
        again = facts.preemptions * float((records.asked_input + records.asked_output).max())
        shares.append(_new_share(records, sent, facts.cached_tokens - again, facts))
    if (records.cached_tokens[done] >= 0).any():
        shares.append(_new_share(records, done, float(records.cached_tokens[done].clip(0).sum()), facts))
    if not shares:
        why = facts.not_counted or "the server counts no hits of a prefix cache"
        return Check.not_made("prefix_cache", f"{why}, and the answers' usage says nothing of cached tokens")
    share = max(shares)
    ok = share <= limits.max_cache_share
    text = ""
    if not ok:
        text = (
            f"{share:.1%} of the prompt tokens came from the server's prefix cache: prompts that it had seen before (the "
            "same --seed twice?); draw new ones or restart the server"
        )
    return Check("prefix_cache", ok, share, limits.max_cache_share, "share", text)


def _new_share(records: Records, of: NDArray[np.bool_], cached: float, facts: RunFacts) -> float:
    """Formula: (cached − what prompts share on purpose) / asked prompt tokens, of the requests `of`; at least 0."""
    asked = int(records.asked_input[of].sum())
    return max(0.0, cached - facts.prefix_len * int(of.sum()) - facts.shareable) / max(1, asked)


def prefix_hits(records: Records, facts: RunFacts) -> Check | None:
    """Where prefixes are shared on purpose: whether the server's cache has hit what it must."""
    if not facts.prefix_hit:
        return None
    done = records.completed
    if facts.cached_tokens is not None:
        cached, requests = facts.cached_tokens, int((~np.isnan(records.send_s)).sum()) - facts.primes
    elif (records.cached_tokens[done] >= 0).any():
        cached, requests = float(records.cached_tokens[done].clip(0).sum()), int(done.sum())
    else:
        return Check.not_made(
            "prefix_hits", facts.not_counted or "neither the server's counters nor usage tell its hits"
        )
    share = cached / max(1, facts.prefix_hit * requests)
    ok = abs(share - 1) <= MAX_HITS_OFF
    text = "" if ok else (
        f"the prefix cache hit {share:.1%} of what the shared prefixes must hit ({facts.prefix_hit} tokens a request): is "
        "prefix caching on, is its cache large enough, is load.prefix.block the server's block size?"
    )  # fmt: skip
    return Check("prefix_hits", ok, share, 1 + MAX_HITS_OFF, "share", text)


def preempted(facts: RunFacts) -> Check | None:
    if not facts.preemptions:
        return None
    return Check("preemptions", True, facts.preemptions, None, "requests", (
        f"the server preempted {facts.preemptions:,.0f} requests and computed them again (their cached tokens are no "
        "repeated prompts): its KV cache is too small for this load"
    ))  # fmt: skip


def counted(records: Records, facts: RunFacts) -> Check | None:
    """A note: whose count the tokens are, where it is not the server's."""
    done = records.completed
    if uncounted(records):
        return None  # nobody's: an error of its own
    answers = sum(int(stats.get("uncounted", 0)) for stats in facts.client)
    words = f"{answers} answers came without usage: their tokens were counted by the tokenizer, input tokens as sent"
    if not answers:
        answers = int((records.input_tokens[done] < 0).sum())
        words = f"usage does not count the prompts of {answers} answers: input tokens are counted as sent"
    if not answers:
        return None
    return Check("counted_by_tokenizer", True, float(answers), 0.0, "answers", words)


def unanswered(records: Records, facts: RunFacts) -> Check | None:
    """Answers of a chat that ended in their thinking: they have no TTFAT, and that of the others is not all requests'."""
    done = records.completed
    n, of = int(np.isnan(records.answer_s[done]).sum()), int(done.sum())
    if not facts.chat or not n:
        return None
    ok = not any(objective.latency in ("ttfat", "thinking") for objective in facts.asserted)
    words = (
        f"{n} of {of} answers ended before the first token of the answer itself: TTFAT and thinking time are those of the "
        "others; give a larger OSL"
    )
    return Check("unanswered", ok, n / of, 0.0, "share", words)


def few(records: Records, limits: Validity) -> Check:
    n = int(records.completed.sum())
    note = "" if n >= limits.min_p99_requests else (
        f"n={n} is too small for an upper bound of a p99 (that takes {fewest_requests(0.99)} requests): it is little more than "
        "the largest"
    )  # fmt: skip
    return Check("requests_for_p99", True, float(n), float(limits.min_p99_requests), "requests", note)
