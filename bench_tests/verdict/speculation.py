"""What a server's counters say of its speculative decoding over a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench_tests.verdict.checks.check import Check

__all__ = ["speculation", "speculation_note", "speculation_words"]


def speculation(counted: Mapping[str, float]) -> dict[str, Any]:
    """The `speculation` of `server_side`, of counters over a window; nothing where the server drafted nothing.

    Formula: acceptance length = 1 + accepted / drafts; rate = accepted / drafted tokens; at a position, accepted there / drafts.
    """
    drafts, tokens, accepted = (counted.get(name, 0.0) for name in ("drafts", "draft_tokens", "accepted_tokens"))
    if drafts <= 0:
        return {}
    places = sorted(int(name[12:]) for name in counted if name.startswith("accepted_at_") and name[12:].isdigit())
    return {
        "speculation": {
            "drafts": drafts,
            "draft_tokens": tokens,
            "accepted_tokens": accepted,
            "acceptance_length": 1 + accepted / drafts,
            "acceptance_rate": accepted / tokens if tokens > 0 else None,
            "accepted_by_position": [counted[f"accepted_at_{place}"] / drafts for place in places],
        }
    }


def speculation_words(side: Mapping[str, Any]) -> str:
    """`speculation: 2.31 tokens a step, accepted by position 72 %, 41 %, 18 %`; "" where the server drafts nothing."""
    found = side.get("speculation")
    if not found:
        return ""
    by_place: Sequence[float] = found["accepted_by_position"]
    shares = ", ".join(f"{share:.0%}".replace("%", " %") for share in by_place)
    return f"speculation: {found['acceptance_length']:.2f} tokens a step" + (
        f", accepted by position {shares}" if shares else ""
    )


def speculation_note(side: Mapping[str, Any], random_prompts: bool) -> list[Check]:
    """A note where a server that drafts was loaded with prompts that mean nothing."""
    found = side.get("speculation")
    if not found or not random_prompts:
        return []
    words = (
        f"the server decodes speculatively (acceptance length {found['acceptance_length']:.2f}): how many drafted tokens are accepted "
        "depends on the text, so with random prompts its TPOT and throughput are not those of real ones; use --dataset"
    )
    return [Check("speculation", True, found["acceptance_length"], None, "tokens", words)]
