"""Text by the model's tokenizer: prompts of an exact number of tokens, and counting them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench_tests.errors import NotMeasured, UsageError
from bench_tests.load.plan import LoadPlan

__all__ = ["WORDS", "Rendered", "count_tokens", "exact_text", "load_tokenizer"]

FILLERS = (" a", " the", "\n.", ",")
WORDS = "words"  # the name of the tokenizer that the simulated server counts by


class _Ids:
    """What a tokenizer makes of a text, or of each of several."""

    def __init__(self, ids: list[Any]) -> None:
        self.input_ids = ids


class _Words:
    """A token for each word between white space, as the simulated server counts; the same calls as transformers' have."""

    def __call__(self, text: str | list[str], add_special_tokens: bool = True) -> _Ids:
        if isinstance(text, list):
            return _Ids([list(range(len(one.split()))) for one in text])
        return _Ids(list(range(len(text.split()))))

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(f"w{i}" for i in ids)


def load_tokenizer(name: str) -> Any:
    """The tokenizer of that name or folder. Raises UsageError."""
    if name == WORDS:
        return _Words()
    try:
        from transformers import AutoTokenizer  # slow to import, and needed for text alone

        return AutoTokenizer.from_pretrained(name)
    except ImportError as why:
        raise UsageError("prompts as text need transformers; pip install -r requirements.txt") from why
    except Exception as why:  # transformers raises nearly anything for a name it cannot resolve
        reason = str(why).splitlines()[0] if str(why) else type(why).__name__
        raise UsageError(
            f"model.tokenizer {name!r}: {reason}; expected a folder or a name that transformers can load "
            "(or use prompt_format = 'ids', which needs none)"
        ) from None


def exact_text(tokenizer: Any, ids: Iterable[int], special: bool = True) -> str:
    """A text that the tokenizer turns into exactly as many tokens as `ids` has, its own special tokens included where
    `special`: a chat's template has them instead.
    """
    want = list(ids)
    own = len(tokenizer("").input_ids) if special else 0  # BOS and the like, which the server adds as well
    count = len(want) - own
    if count < 1:
        raise UsageError(
            f"prompt_format text: ISL {len(want)} leaves no tokens beside {own} special tokens; use a longer one"
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


class Rendered:
    """Counts conversations as the server does: by the tokenizer's own chat template, as far as the server's adds as much.

    `template`: tokens that the server's template adds to one message, as it was measured.
    """

    def __init__(self, tokenizer: Any, template: int, kwargs: Mapping[str, Any]) -> None:
        self.tokenizer, self.template, self.kwargs = tokenizer, template, dict(kwargs)
        self.known = bool(getattr(tokenizer, "chat_template", None))
        self.off = template - (self._whole([{"role": "user", "content": "a"}]) - self._plain("a")) if self.known else 0

    def __call__(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Prompt tokens of these messages. Raises UsageError where they cannot be foretold."""
        if self.known:
            return self._whole(messages) + self.off
        if len(messages) > 1 and not isinstance(self.tokenizer, _Words):
            raise UsageError(
                f"a conversation of {len(messages)} messages: the tokenizer has no chat template, so its prompt's tokens "
                "are unknown; give --tokenizer with one that has (the model's own folder or name)"
            )
        texts = [m["content"] if isinstance(m["content"], str) else "" for m in messages]
        return sum(self._plain(text) + self.template for text in texts)

    def _plain(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _whole(self, messages: Sequence[Mapping[str, Any]]) -> int:
        try:
            import jinja2  # noqa: F401  # slow to import; what templates are written in
        except ImportError:
            raise UsageError("the tokens of a conversation need jinja2; pip install -r requirements.txt") from None
        text = self.tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=False, **self.kwargs
        )
        return self._plain(text)


def count_tokens(plan: LoadPlan, texts: list[str]) -> list[int]:
    """Tokens of each text by the model's tokenizer, for a server that gives no usage. Raises UsageError without one."""
    if not plan.model.tokenizer:
        raise UsageError("no tokenizer")
    tokenizer = load_tokenizer(plan.model.tokenizer)
    return [len(tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
