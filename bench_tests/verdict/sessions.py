"""What a run of sessions shows: its figures turn by turn, and the hits of the server's prefix cache against theory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.records import COMPLETED, Records
from bench_tests.verdict.checks.check import Check
from bench_tests.verdict.summary import figure

__all__ = ["hits_expected", "hits_of", "of_sessions"]

NEAR = 0.02  # hits this near to theory's are not spoken of
MOST = 100  # turns that a result has rows of


def hits_expected(records: Records, block: int) -> NDArray[np.int64]:
    """Prompt tokens that a prefix cache of whole blocks, which forgets nothing, must hit; shape (n,).

    Formula: floor(common prefix / block) · block; a server computes at least the last token of a prompt itself.
    """
    common = np.minimum(records.shared_tokens, np.maximum(records.asked_input - 1, 0))
    return np.asarray(common // block * block)


def of_sessions(records: Records, block: int, counted: Mapping[str, float] | None = None) -> dict[str, Any]:
    """`by_turn`, a row a turn, and `sessions`, of the whole run; of measured requests that completed. Times in seconds.

    Formula: hit rate = cached / prompt tokens, by the answers' usage; theory = Σ floor(common prefix / block) · block / prompt
    tokens. A session's duration is from its first turn's send to its last turn's end, of those that are in the run whole;
    sessions per hour = those that ended / the time of the measured requests. `counted`: the server's own
    counters over the run, entries into a session included; beside their cached tokens stand theory's for the same requests.
    """
    done = records.completed & (records.turn > 0)
    theory = hits_expected(records, block)
    rows = [
        _turn(records, theory, done & (records.turn == turn), turn)
        for turn in np.unique(records.turn[done])[:MOST].tolist()
    ]
    whole = _turn(records, theory, done, 0)
    durations, ended = _durations_s(records)
    span_s = float(np.nanmax(records.end_s[done]) - np.nanmin(records.send_s[done])) if done.any() else 0.0
    late = (records.send_s - records.scheduled_s)[done]
    return {
        "by_turn": rows,
        "sessions": {
            "ended": ended,
            "per_hour": ended / span_s * 3600 if span_s else None,
            "whole": len(durations),
            "mean_duration": figure(durations, "mean"),
            "median_duration": figure(durations, "median"),
            "p99_duration": figure(durations, "p99"),
            **{name: whole[name] for name in ("hit_rate", "theory_hit_rate", "mean_new_tokens", "mean_cached_tokens")},
            "counted_cached_tokens": (counted or {}).get("cached_tokens"),
            "theory_cached_tokens": int(theory[~np.isnan(records.send_s)].sum()),
            "p99_lateness": figure(late, "p99"),
            "max_lateness": float(late.max()) if len(late) else None,
        },
    }


def hits_of(records: Records, block: int) -> tuple[int, list[Check]]:
    """The prompt tokens that histories let the server's cache hit, and what is to be said of hits that are fewer."""
    expected = hits_expected(records, block)
    done = records.completed & (records.turn > 0)
    theory, cached = int(expected[done].sum()), records.cached_tokens[done]
    if not theory or not len(cached) or (cached < 0).any() or cached.sum() / theory >= 1 - NEAR:
        return int(expected.sum()), []
    share = float(cached.sum() / theory)
    words = (
        f"the prefix cache hit {share:.1%} of what the sessions' histories allow: is prefix caching on, is the cache large enough "
        "for all users, is sessions.block the server's block size?"
    )
    return int(expected.sum()), [Check("session_hits", True, share, 1 - NEAR, "share", words)]


def _turn(records: Records, theory: NDArray[np.int64], of: NDArray[np.bool_], turn: int) -> dict[str, Any]:
    ttft = records.ttft_s()[of]
    prompt = np.where(records.input_tokens < 0, records.asked_input, records.input_tokens)[of]
    cached = records.cached_tokens[of]
    told = len(cached) > 0 and bool((cached >= 0).all())
    total = int(prompt.sum())
    return {
        "turn": turn,
        "n": int(of.sum()),
        **{f"{stat}_ttft": figure(ttft, stat) for stat in ("mean", "median", "p99")},
        "mean_input_tokens": figure(prompt.astype(float), "mean"),
        "mean_new_tokens": figure((records.asked_input - records.history_tokens)[of].astype(float), "mean"),
        "mean_cached_tokens": figure(cached.astype(float), "mean") if told else None,
        "hit_rate": int(cached.sum()) / total if told and total else None,
        "theory_hit_rate": int(theory[of].sum()) / total if total else None,
    }


def _durations_s(records: Records) -> tuple[NDArray[np.float64], int]:
    """How long sessions took whose every turn is in the records, and how many ended among the measured requests."""
    done = (records.kind == COMPLETED) & (records.turn > 0)
    ended = records.session[records.completed & (records.turn == records.turns)]
    found = []
    for session in ended.tolist():
        of = done & (records.session == session)
        if int(of.sum()) == int(records.turns[of].max()):
            found.append(float(records.end_s[of].max() - records.send_s[of].min()))
    return np.array(found), len(ended)
