"""What the probe measures of tokens: how many a chat template adds to a message, and whether answers come with their ids."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Protocol

from bench_tests.errors import NotMeasured
from bench_tests.load.texts import exact_text, load_tokenizer
from bench_tests.sweep.profile import Profile

__all__ = ["has_token_ids", "measure_template"]

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


class _Told(Protocol):
    @property
    def token(self) -> bool: ...
    @property
    def ids(self) -> bool: ...


class _Ask(Protocol):
    """Asks for one token as the profile has it; None where nothing came."""

    async def __call__(self, *, profile: Profile) -> _Told | None: ...


async def has_token_ids(profile: Profile, model: str, ask: _Ask) -> tuple[bool, list[str]]:
    """Whether answers come with their token ids when that is asked, for a session's history; where the server gives none, the
    tokenizer makes them of the text, and a note says so. Raises UsageError where there is no tokenizer.
    """
    asking = replace(profile.load, extra_body={**profile.load.extra_body, "return_token_ids": True})
    answer = await ask(profile=replace(profile, load=asking))
    if answer is not None and answer.token and answer.ids:
        return True, []
    tokenizer = profile.model.tokenizer or model
    load_tokenizer(tokenizer)
    note = (
        "the server gives no token ids of its answers (return_token_ids): a session's history is made of their text by the "
        f"tokenizer {tokenizer} (--tokenizer NAME), which may cut it into other tokens than were generated"
    )
    return False, [note]
