"""From the body of a request to what is asked for, or to the error body that vLLM answers with.

Tokens: a list of ids counts its length. A text counts one token for each word between white space (at least one), a
chat message four more, so that a client can foretell `usage.prompt_tokens` without a tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as Tokens
from dataclasses import dataclass
from typing import Any, NoReturn

from bench_tests.sim.events import error_body
from bench_tests.sim.spec import SimSpec

__all__ = ["MESSAGE_TOKENS", "Ask", "Refused", "read_ask"]

MESSAGE_TOKENS = 4  # the chat template's share of each message
_MAX_TEXT = 200


class Refused(Exception):
    """The request is answered with this status and body."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


@dataclass
class Ask:
    """A valid request."""

    chat: bool
    prompts: list[Tokens[int] | Tokens[str]]
    max_tokens: int  # as cut short by the context of the longest prompt's sequence, see lengths
    lengths: list[int]  # tokens to generate, one for each choice
    stream: bool
    usage: bool
    continuous_usage: bool
    token_ids: bool
    ignore_eos: bool
    n: int
    thinks: bool  # the template was not told to leave thinking out
    bad_token: int | None  # an id beyond the vocabulary: told in the stream, after 200

    @property
    def prompt_tokens(self) -> int:
        """All prompts together."""
        return sum(len(p) for p in self.prompts)


def read_ask(body: bytes, chat: bool, spec: SimSpec, model: str) -> Ask:
    """Raises Refused."""
    try:
        data = json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError) as why:
        at, what = (why.pos, why.msg) if isinstance(why, json.JSONDecodeError) else (0, "invalid UTF-8")
        detail = {"type": "json_invalid", "loc": f"body.{at}", "msg": "JSON decode error"}
        _refuse(detail | {"input": "<dict of 0 items>", "ctx": {"error": what}}, f"body.{at}")
    if not isinstance(data, dict):
        detail = {"type": "model_attributes_type", "loc": "body", "msg": "Input should be a valid dictionary"}
        _refuse(detail | {"input": _short(data)}, "body")
    max_tokens = _integer(data, "max_tokens")
    if chat and data.get("max_completion_tokens") is not None:
        max_tokens = _integer(data, "max_completion_tokens")
    n = _integer(data, "n") or 1
    stream = bool(data.get("stream"))
    options = data.get("stream_options") or {}
    if options and not stream:
        _bad("Stream options can only be defined when `stream=True`. (parameter=stream_options)", "stream_options")
    asked = data.get("messages") if chat else data.get("prompt")
    if asked is None:
        if chat:
            detail = {"type": "missing", "loc": "body.messages", "msg": "Field required", "input": _short(data)}
            _refuse(detail, "body.messages")
        _bad("Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)", "prompt")
    name = data.get("model")
    if name is not None and name != model:
        message = f"The model `{name}` does not exist. Valid aliases: {model}."
        raise Refused(404, error_body(message, 404, "model"))
    if max_tokens is not None and max_tokens < 1:
        message = f"max_tokens must be at least 1, got {max_tokens}. (parameter=max_tokens, value={max_tokens})"
        _bad(message, "max_tokens")
    prompts: list[Tokens[int] | Tokens[str]] = [_messages(asked)] if chat else _prompts(asked)
    return Ask(
        chat=chat,
        prompts=prompts,
        max_tokens=max_tokens or 0,
        lengths=[_length(p, max_tokens, chat, spec) for p in prompts for _ in range(n)],
        stream=stream,
        usage=bool(options.get("include_usage")),
        continuous_usage=bool(options.get("continuous_usage_stats")),
        token_ids=bool(data.get("return_token_ids")),
        ignore_eos=bool(data.get("ignore_eos")),
        n=n,
        thinks=_thinks(data.get("chat_template_kwargs")),
        bad_token=_bad_token(prompts, spec),
    )


def _refuse(detail: dict[str, Any], param: str) -> NoReturn:
    """As vLLM words what its data model refuses."""
    raise Refused(400, error_body(f"1 validation error:\n  {detail}", 400, param, "Bad Request"))


def _bad(message: str, param: str | None) -> NoReturn:
    raise Refused(400, error_body(message, 400, param))


def _short(value: Any) -> str:
    text = f"<dict of {len(value)} items>" if isinstance(value, dict) else str(value)
    return text[:_MAX_TEXT]


def _integer(data: dict[str, Any], key: str) -> int | None:
    value = data.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    try:
        return int(value)
    except (TypeError, ValueError):
        text = "Input should be a valid integer, unable to parse string as an integer"
        detail = {"type": "int_parsing", "loc": f"body.{key}", "msg": text, "input": _short(value)}
        _refuse(detail, f"body.{key}")


def _prompts(asked: Any) -> list[Tokens[int] | Tokens[str]]:
    if isinstance(asked, str):
        if asked:
            return [asked.split() or [""]]
        asked = []
    if not isinstance(asked, list):
        detail = {"type": "list_type", "loc": "body.prompt", "msg": "Input should be a valid list"}
        _refuse(detail | {"input": _short(asked)}, "body.prompt")
    if not asked:
        _bad("You must pass at least one prompt", None)
    if all(type(t) is int for t in asked):
        return [asked]
    if all(isinstance(p, str | list) for p in asked):
        return [prompt for part in asked for prompt in _prompts(part)]
    detail = {"type": "int_type", "loc": "body.prompt", "msg": "Input should be a valid integer"}
    _refuse(detail | {"input": _short(asked)}, "body.prompt")


def _messages(asked: Any) -> list[str]:
    """The words of all messages, and what the template adds to each."""
    words: list[str] = []
    for message in asked if isinstance(asked, list) else []:
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else [{"text": content or ""}]
        for part in parts:
            words += str(part.get("text", "") if isinstance(part, dict) else part).split()
        words += ["<|message|>"] * MESSAGE_TOKENS
    if not words:
        _bad("You must pass at least one message", "messages")
    return words


def _length(prompt: Tokens[Any], max_tokens: int | None, chat: bool, spec: SimSpec) -> int:
    """How many tokens follow this prompt: what was asked, cut short by the context as vLLM does, in silence."""
    room = spec.max_model_len - len(prompt)
    if room < 1:
        message = (
            f"This model's maximum context length is {spec.max_model_len} tokens. However, your prompt contains "
            f"{len(prompt)} input tokens, which exceeds this limit even without any output tokens. Please reduce the "
            f"length of the input prompt. (parameter=input_tokens, value={len(prompt)})"
        )
        _bad(message, "input_tokens")
    return min(max_tokens or (room if chat else 16), room)


def _thinks(kwargs: Any) -> bool:
    return not isinstance(kwargs, dict) or kwargs.get("enable_thinking", kwargs.get("thinking", True)) is not False


def _bad_token(prompts: list[Tokens[int] | Tokens[str]], spec: SimSpec) -> int | None:
    for prompt in prompts:
        if isinstance(prompt[0], int):
            low, high = min(prompt), max(prompt)
            if int(low) < 0 or int(high) >= spec.vocab_size:
                return int(low) if int(low) < 0 else int(high)
    return None
