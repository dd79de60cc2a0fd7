"""What to do about a point that could not be measured, by the kind of failure or the check that it did not pass."""

from __future__ import annotations

from bench_tests.figures import ECONOMY, FIGURES
from bench_tests.results.schema import PointResult
from bench_tests.verdict.checks.server import ttft_words
from bench_tests.verdict.speculation import speculation_words

__all__ = ["advice", "story"]

_BY_KIND = {
    "connect": "No connection: is the server up and reachable from here? Check --base-url and the firewall.",
    "http": "HTTP errors: read the server's log; 401 is a missing key ($OPENAI_API_KEY), 400 mostly a prompt too long.",
    "error_event": "The server reported an error inside a stream: read its log; out of memory is the common cause.",
    "cut_off": "Streams ended early: the server or a proxy closed them; look for a restart or a proxy timeout.",
    "stalled": "No answer in time: the server hangs or is overloaded; lower the concurrency or raise the timeout.",
    "malformed": "The answer was not the protocol: is another service behind this URL?",
    "short": "Fewer or more tokens than asked for: set ignore_eos, and check that ISL + OSL fits max_model_len.",
    "cancelled": "The run was interrupted; run it again with --resume.",
}
_BY_CHECK = (
    ("lag", "The client was too slow to time this point: give it more cores, or run it on a quieter host."),
    ("blur", "Events were read merged, so their timestamps are uncertain: give the client more cores."),
    ("cache", "Prompts were answered from the prefix cache: change --seed or restart the server, then measure again."),
    ("token", "Token counts differ from what was asked: check the tokenizer, the range ratio and max_model_len."),
    ("pause", "The client stood still: look for other load, swapping or a suspended machine; then measure again."),
    ("cpu", "The client's processor was full: give it more cores or more load processes."),
    ("core_wait", "Other processes took the client's core: run it on a quieter host or give it cores of its own."),
    ("clock", "The clock of the client jumped: check time synchronisation, then measure again."),
    ("same_server", "The server was restarted or replaced during the run: see why, then measure again."),
    ("failed_requests", "Too many requests failed: read the server's log, lower the concurrency, then measure again."),
    ("concurrency", "The run was too short at full concurrency: use more prompts (--num-prompts)."),
    ("steady", "The run never reached full concurrency for long enough: use more prompts (--num-prompts)."),
    ("requests_for", "Too few requests for this percentile: use more prompts (--num-prompts)."),
    ("sample", "Too few requests for this percentile: use more prompts (--num-prompts)."),
)
_OPEN = "Its figures are right, its verdict is open: mostly more requests decide it (more time and --resume, or more prompts)."
_OTHER = "Read the message and the server's log, fix the cause, then measure again (--resume skips the rest)."


def advice(point: PointResult) -> list[str]:
    """Sentences for a point with the verdict ERROR, the commonest failure first; empty for any other point."""
    if point.verdict != "ERROR":
        return []
    if point.open:
        return [_OPEN]
    found: list[str] = []
    errors = point.raw.get("errors")
    if isinstance(errors, dict):
        counts = {str(k): v for k, v in errors.items() if isinstance(v, int)}
        found += [_BY_KIND[kind] for kind in sorted(counts, key=lambda k: -counts[k]) if kind in _BY_KIND]
    validity = point.raw.get("validity")
    checks = validity.get("checks") if isinstance(validity, dict) else None
    for check in checks if isinstance(checks, list) else []:
        if isinstance(check, dict) and check.get("ok") is False:
            name = str(check.get("name", ""))
            found += [text for word, text in _BY_CHECK if word in name]
    return list(dict.fromkeys(found)) or [_OTHER]


def story(point: PointResult) -> list[str]:
    """What the server's own counters say of a point, and what it took of energy and money, a sentence each."""
    side, cost = point.raw.get("server_side"), point.raw.get("cost")
    found: list[str] = []
    if isinstance(side, dict):
        for words in (ttft_words, lambda told: told.get("spike_words"), speculation_words):
            try:
                found.append(words(side) or "")
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                continue  # somebody else's file may say anything there
    currency = str(cost.get("currency", ""))[:20] if isinstance(cost, dict) else ""
    for name in ECONOMY:
        if name in point.metrics:
            unit = currency if name.startswith("cost_") else FIGURES[name].unit
            found.append(f"{FIGURES[name].label}: {point.metrics[name]:.4g} {unit}".rstrip())
    return [words for words in found if isinstance(words, str) and words]
