"""What a profile says of conversations of several turns: `[sessions]`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bench_tests.sweep.keys import key, whole
from bench_tests.sweep.units import parse_duration_s

__all__ = ["SYNTHETIC", "Sessions"]

SYNTHETIC = "synthetic"


def _wait(value: object, where: str) -> float:
    return 0.0 if value in (0, "0", "0s") and value is not False else parse_duration_s(value, where)


@dataclass(frozen=True)
class Sessions:
    """Synthetic conversations; of a file's only what the file does not say."""

    turns: int = key(whole(1, 10_000), 6, "turns of a synthetic session")
    new_tokens: int = key(whole(1), 256, "tokens that each turn of a synthetic session adds to the history")
    osl: int = key(
        whole(1), 128, "output tokens of each turn; of a file's those of turns without a length of their own"
    )
    think_time: float = key(
        _wait, 5.0, "how long a user waits after an answer before the next turn, where a file does not say it"
    )
    system_tokens: int = key(whole(0), 0, "tokens before the first turn's own, of each session other ones")
    max_context: int = key(
        whole(0), 0, "a session ends before the turn that would need more tokens, prompt and answer; 0: no limit"
    )
    block: int = key(whole(1), 16, "tokens of a block of the server's prefix cache, for the hits that theory expects")

    def shape(self) -> dict[str, Any]:
        """As a result's settings say it."""
        return asdict(self)

    def longest(self) -> int:
        """The context that a synthetic session needs, tokens. Formula: system + turns × (new + OSL)."""
        whole = self.system_tokens + self.turns * (self.new_tokens + self.osl)
        return min(whole, self.max_context) if self.max_context else whole
