"""How many tokens a server's chat template adds to a message: measured by messages of known lengths, before the sweep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from bench_tests.errors import NotMeasured
from bench_tests.load.texts import exact_text, load_tokenizer

__all__ = ["measure_template"]

LENGTHS = (16, 48)  # tokens of the messages: a template adds the same to both


async def measure_template(
    tokenizer: str, first_id: int, ask: Callable[[str], Awaitable[dict[str, Any] | None]]
) -> int:
    """Tokens that the template adds to one message. `ask` sends a message and gives the answer's usage.

    Formula: usage.prompt_tokens − the message's tokens by the tokenizer. Raises NotMeasured where the server does not say,
    or what it adds depends on the message, and UsageError where there is no tokenizer.
    """
    own = load_tokenizer(tokenizer)
    added = []
    for length in LENGTHS:
        text = exact_text(own, range(first_id, first_id + length), special=False)
        usage = await ask(text)
        counted = usage.get("prompt_tokens") if usage else None
        if not isinstance(counted, int):
            raise NotMeasured("the server's usage does not count a chat's prompt: what its template adds is unknown")
        added.append(counted - length)
    if min(added) < 0 or min(added) != max(added):
        said = " and ".join(f"{length + more} for {length}" for length, more in zip(LENGTHS, added, strict=True))
        raise NotMeasured(
            f"the server counts {said} tokens of a message by the tokenizer {tokenizer}, so that is not the model's; give "
            "--tokenizer with the model's own name or folder"
        )
    return added[0]
