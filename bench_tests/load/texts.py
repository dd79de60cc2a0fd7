"""Text by the model's tokenizer: prompts of an exact number of tokens, and counting them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench_tests.errors import NotMeasured, UsageError
from bench_tests.load.plan import LoadPlan

__all__ = ["count_tokens", "exact_text", "load_tokenizer"]

FILLERS = (" a", " the", "\n.", ",")


def load_tokenizer(plan: LoadPlan) -> Any:
    try:
        from transformers import AutoTokenizer  # slow to import, and needed for text alone

        return AutoTokenizer.from_pretrained(plan.model.tokenizer)
    except ImportError as why:
        raise UsageError("prompt_format text needs transformers; pip install -r requirements.txt") from why
    except Exception as why:  # transformers raises nearly anything for a name it cannot resolve
        reason = str(why).splitlines()[0] if str(why) else type(why).__name__
        raise UsageError(
            f"model.tokenizer {plan.model.tokenizer!r}: {reason}; expected a folder or a name that transformers can load "
            "(or use prompt_format = 'ids', which needs none)"
        ) from None


def exact_text(tokenizer: Any, ids: Iterable[int]) -> str:
    """A text that the tokenizer turns into exactly as many tokens as `ids` has, its own special tokens included."""
    want = list(ids)
    own = len(tokenizer("").input_ids)  # BOS and the like, which the server adds as well
    count = len(want) - own
    if count < 1:
        raise UsageError(
            f"prompt_format text: ISL {len(want)} leaves no room beside {own} special tokens; use a longer one"
        )

    def decoded(body: list[int]) -> str:
        return str(tokenizer.decode(body, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def encoded(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    text = decoded(want[:count])
    for spare in range(50):
        # decoding and encoding again merges and splits tokens: cut what is too long, a little more each time and never
        # inside a character, and fill what is then too short with words that are one token nearly everywhere
        back = encoded(text)
        if len(back) > count:
            text = decoded(back[: max(1, count - spare)]).rstrip("\ufffd")
            back = encoded(text)
        if len(back) < count:
            text += FILLERS[spare % len(FILLERS)] * (count - len(back))
            back = encoded(text)
        if len(back) == count:
            return text
    raise NotMeasured(f"prompt_format text: no text of exactly {len(want)} tokens was found in 50 tries; use ids")


def count_tokens(plan: LoadPlan, texts: list[str]) -> list[int]:
    """Tokens of each text by the model's tokenizer, for a server that gives no usage."""
    tokenizer = load_tokenizer(plan)
    return [len(tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
