"""The bytes that vLLM's OpenAI server writes: heads, stream events, whole answers and error bodies."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

__all__ = [
    "DONE",
    "LAST_CHUNK",
    "SERVER",
    "Voice",
    "chunk",
    "error_body",
    "error_event",
    "head",
    "stream_head",
    "token_id",
]

SERVER = "bench-tests-simulator"
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"
_ASCII: tuple[str, ...] = (
    " the",
    " model",
    " answers",
    " a",
    " long",
    " question",
    " with",
    " words",
    " that",
    " mean",
    " little",
)
_ASCII += (" and", " cost", " time", " each", " token", " is", " measured", " by", " clock", " when", " it", " leaves")
_UTF8 = (" café", " the", " 漢字", " model", " 🙂", " naïve", " мир", " €", " न", " 🚀", " says")
CYCLE = 8  # distinct texts in a stream: its events are encoded once, before they are due
_TYPES = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 429: "RateLimitError"}
_TYPES |= {500: "InternalServerError", 503: "ServiceUnavailableError"}
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_date: tuple[int, str] = (0, "")


def token_id(i: int) -> int:
    """The id of an answer's token i."""
    return i % 1000 + 100


def chunk(data: bytes) -> bytes:
    """One HTTP/1.1 chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def head(status: int, headers: dict[str, str]) -> bytes:
    """The status line and the headers, as uvicorn orders them, with our own server name."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"date: {_date[1]}", f"server: {SERVER}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def stream_head(chunked: bool = True, gzip: bool = False) -> bytes:
    """The head of a stream; without chunks the connection's end is the body's."""
    headers = {"content-type": "text/event-stream; charset=utf-8", "vary": "Origin"}
    if gzip:
        headers["content-encoding"] = "gzip"
    headers |= {"transfer-encoding": "chunked"} if chunked else {"connection": "close"}
    return head(200, headers)


def error_body(message: str, status: int, param: str | None = None, kind: str | None = None) -> bytes:
    """The JSON body of an HTTP error of vLLM's own handlers."""
    error = {"message": message, "type": kind or _TYPES.get(status, "BadRequestError"), "param": param, "code": status}
    return dump({"error": error})


def error_event(message: str, status: int) -> bytes:
    """An error inside a stream that began with 200 (spaced as vLLM spaces it)."""
    error = {"message": message, "type": _TYPES.get(status, "BadRequestError"), "param": None, "code": status}
    return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"


def dump(value: Any) -> bytes:
    """Compact JSON, not escaped to ASCII."""
    return _ENCODE(value).encode()


@dataclass(frozen=True)
class Voice:
    """How one request is answered: ids, names and which parts are spelled out."""

    id: str
    model: str
    created: int
    chat: bool
    fingerprint: str
    utf8: bool
    salt: int  # where in the list of words it begins
    usage: bool = False
    continuous_usage: bool = False
    prompt_tokens: int = 0
    details: bool = False  # usage has prompt_tokens_details
    role_sent: bool = False  # a chat's first event went out with the head
    thinking_key: str = ""  # of the events that are thinking; "" where there are none

    def word(self, i: int) -> str:
        """The text of token i."""
        words = _UTF8 if self.utf8 else _ASCII
        return words[(i % CYCLE + self.salt) % len(words)]

    def counts(self, completion_tokens: int, cached_tokens: int = 0, reasoning_tokens: int = 0) -> dict[str, Any]:
        """The `usage` object."""
        total = self.prompt_tokens + completion_tokens
        usage: dict[str, Any] = {"prompt_tokens": self.prompt_tokens, "total_tokens": total}
        usage["completion_tokens"] = completion_tokens
        if self.details:
            usage["prompt_tokens_details"] = {"cached_tokens": cached_tokens}
        if self.thinking_key:
            usage["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
        return usage

    def _open(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    @property
    def _stream_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def event(
        self,
        index: int,
        text: str,
        done: int,
        finish_reason: str | None = None,
        prompt_ids: list[int] | None = None,
        token_ids: list[int] | None = None,
        part: str = "content",
    ) -> bytes:
        """An event that carries a choice; `done`: completion tokens so far, for continuous usage. `part`: what of a chat's
        answer it is: content, thinking, tool (the name of a call), or arguments.
        """
        choice: dict[str, Any]
        if self.chat:
            choice = {
                "index": index,
                "delta": self._delta(text, part),
                "logprobs": None,
                "finish_reason": finish_reason,
            }
            if finish_reason:
                choice["stop_reason"] = None
            choice["token_ids"] = token_ids
        else:
            choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}
            choice |= {"stop_reason": None, "prompt_token_ids": prompt_ids, "token_ids": token_ids}
        whole = self._open(self._stream_kind) | {"choices": [choice]}
        if self.continuous_usage:
            whole["usage"] = self.counts(done)
        if finish_reason and not self.usage:
            whole["system_fingerprint"] = self.fingerprint
        return b"data: " + dump(whole) + b"\n\n"

    def _delta(self, text: str, part: str) -> dict[str, Any]:
        if part == "content":
            return {"content": text}
        if part == "thinking":
            return {self.thinking_key: text}
        call: dict[str, Any] = {"index": 0, "function": {"arguments": text}}
        if part == "tool":
            call |= {"id": f"call-{self.id}", "type": "function", "function": {"name": text.strip(), "arguments": ""}}
        return {"tool_calls": [call]}

    def cycle(self, index: int, part: str = "content") -> list[bytes]:
        """The events of all texts of the cycle, in chunks: what most tokens of a plain stream look like."""
        before, after = self.event(index, "\x00", 0, part=part).split(b"\\u0000")
        return [chunk(before + self.word(i).encode() + after) for i in range(CYCLE)]

    def role_event(self, index: int) -> bytes:
        """The first event of a chat stream: a role and no text."""
        choice = {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None}
        choice["finish_reason"] = None
        whole = self._open(self._stream_kind) | {"choices": [choice]}
        if self.continuous_usage:
            whole["usage"] = self.counts(0)
        return b"data: " + dump(whole | {"prompt_token_ids": None, "prompt_text": None}) + b"\n\n"

    def usage_event(self, completion_tokens: int, cached_tokens: int, reasoning_tokens: int = 0) -> bytes:
        """The event before [DONE] when usage was asked for."""
        usage = self.counts(completion_tokens, cached_tokens, reasoning_tokens)
        whole = self._open(self._stream_kind) | {"choices": [], "usage": usage}
        return b"data: " + dump(whole | {"system_fingerprint": self.fingerprint}) + b"\n\n"

    def whole(
        self,
        texts: list[str],
        finish_reasons: list[str | None],
        usage: dict[str, Any] | None,
        thoughts: list[str] | None = None,
    ) -> bytes:
        """The answer to a request that is not streamed."""
        choices: list[dict[str, Any]] = []
        for index, (text, reason) in enumerate(zip(texts, finish_reasons, strict=True)):
            choice: dict[str, Any] = {"index": index}
            if self.chat:
                message: dict[str, Any] = {"role": "assistant", "content": text}
                message |= dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
                if thoughts and thoughts[index]:
                    message["reasoning"] = thoughts[index]
                choice |= {"message": message, "logprobs": None, "finish_reason": reason, "stop_reason": None}
                choice |= {"token_ids": None, "routed_experts": None}
            else:
                choice |= {"text": text, "logprobs": None, "finish_reason": reason, "stop_reason": None}
                choice |= dict.fromkeys(("token_ids", "prompt_logprobs", "prompt_token_ids", "routed_experts"))
            choices.append(choice)
        whole = self._open("chat.completion" if self.chat else "text_completion") | {"choices": choices}
        whole |= {"service_tier": None, "system_fingerprint": self.fingerprint}
        if usage is not None:
            details = {
                "prompt_tokens_details": usage.get("prompt_tokens_details"),
                "completion_tokens_details": usage.get("completion_tokens_details"),
            }
            whole["usage"] = usage | details
        if self.chat:
            whole |= dict.fromkeys(("prompt_logprobs", "prompt_token_ids", "prompt_text"))
        return dump(whole | dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "metrics")))
