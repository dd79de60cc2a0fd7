"""Random prompts of an exact length, drawn from a seed, as the bytes of ready HTTP requests.

Knows the plan. A prompt depends on the seed and its running number alone: not on how many processes share the load,
nor on the order in which they are made.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from bench_tests.errors import NotMeasured, UsageError
from bench_tests.load.plan import LoadPlan

__all__ = ["IdPool", "Request", "RequestFile", "count_tokens", "lengths", "prompt_ids"]

Ids = NDArray[np.int64]
FILLERS = (" a", " the", "\n.", ",")


@dataclass(frozen=True, slots=True)
class Request:
    """Where a ready request lies in the file, and what it asks for."""

    index: int  # its number among the run's measured requests, or among its warm-ups
    offset: int
    size: int
    isl: int
    osl: int


class IdPool:
    """The token ids that are drawn from: `first_id` to `vocab_size`, without the special ones. Shape (n,)."""

    def __init__(self, plan: LoadPlan) -> None:
        ids = np.setdiff1d(
            np.arange(min(plan.model.first_id, plan.vocab_size // 2), plan.vocab_size), plan.model.special_ids
        )
        if len(ids) < 2:
            raise UsageError(
                f"model: vocab_size {plan.vocab_size} without special_ids leaves {len(ids)} ids; expected at least 2"
            )
        self.ids: Ids = ids.astype(np.int64)
        # each id as JSON of one fixed width, so that a prompt's bytes are one table look-up: "   17," "31999,"
        width = len(str(int(ids[-1]))) + 1
        text = "".join(f"{i},".rjust(width) for i in ids.tolist())
        self._table = np.frombuffer(text.encode(), np.uint8).reshape(len(ids), width)

    def __len__(self) -> int:
        return len(self.ids)

    def as_json(self, positions: Ids) -> bytes:
        """The ids at these positions of the pool as the inside of a JSON list."""
        return self._table.take(positions, axis=0).tobytes()[:-1]


def _rng(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))


def lengths(plan: LoadPlan, serials: Ids, of: int, stream: int) -> Ids:
    """Lengths uniform in `of` × (1 ± range_ratio), whole tokens, at least 1; shape of `serials`."""
    if plan.load.range_ratio == 0:
        return np.full(len(serials), of, np.int64)
    low = max(1, int(np.floor(of * (1 - plan.load.range_ratio))))
    high = max(low, int(np.ceil(of * (1 + plan.load.range_ratio))))
    return np.array([_rng(plan.seed, stream + 2 * int(s)).integers(low, high + 1) for s in serials], np.int64)


def prompt_ids(plan: LoadPlan, pool_size: int, serial: int, isl: int) -> Ids:
    """Positions in the pool of prompt number `serial`: the shared prefix, then `isl` tokens; shape (prefix_len + isl,).

    The first token behind the prefix is a permutation of the serial, so that no two prompts of a sweep share more than
    the prefix, as long as it has no more prompts than the pool has ids; beyond that they share one token more.
    """
    own = _rng(plan.seed, 2**61 + serial).integers(0, pool_size, isl)
    place, number = 0, serial
    while place < isl:
        # multiplying by a number that shares no factor with the pool's size permutes it
        factor = next(f for f in range(pool_size * 5 // 8 | 1, 2 * pool_size + 2, 2) if gcd(f, pool_size) == 1)
        own[place] = (number * factor + plan.seed) % pool_size
        number //= pool_size
        place += 1
        if not number and place > 1:  # two tokens for every prompt: so the many share one and not by chance two
            break
    if not plan.load.prefix_len:
        return own
    return np.concatenate([_rng(plan.seed, 2**62).integers(0, pool_size, plan.load.prefix_len), own])


class RequestFile:
    """All requests of a process's share, serialised into an unnamed temporary file before the clock starts.

    In a file and not in memory because 640 prompts of 14,336 tokens are 60 MB; it is read back, from the page cache,
    just before a request is sent and outside its clock.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.pool = IdPool(plan)
        try:
            # held open for as long as requests are read from it
            self._file: IO[bytes] = tempfile.TemporaryFile(prefix="bench-requests-")  # noqa: SIM115
        except OSError as why:
            raise NotMeasured(f"temporary folder: {why.strerror}; requests are kept there (set $TMPDIR)") from why
        self._tokenizer = _load_tokenizer(plan) if plan.load.prompt_format == "text" else None
        self.warmups = self._write(plan.share(plan.num_warmups), first=0)
        self.requests = self._write(plan.share(plan.num_prompts), first=plan.num_warmups)
        self._file.flush()
        self.fileno = self._file.fileno()

    def close(self) -> None:
        self._file.close()

    def _write(self, mine: range, first: int) -> list[Request]:
        plan = self.plan
        serials = np.array([plan.first_serial + first + i for i in mine], np.int64)
        isls = lengths(plan, serials, plan.isl, 0)
        osls = lengths(plan, serials, plan.osl, 1)
        requests = []
        offset = self._file.tell()
        for i, serial, isl, osl in zip(mine, serials.tolist(), isls.tolist(), osls.tolist(), strict=True):
            positions = prompt_ids(plan, len(self.pool), serial, isl)
            if self._tokenizer is None:
                prompt = b"[" + self.pool.as_json(positions) + b"]"
            else:
                prompt = json.dumps(_exact_text(self._tokenizer, self.pool.ids[positions].tolist())).encode()
            data = self._request(prompt, osl, f"{plan.seed:x}-{serial}")
            try:
                self._file.write(data)
            except OSError as why:
                raise NotMeasured(f"temporary folder: {why.strerror}; requests are kept there (set $TMPDIR)") from why
            requests.append(Request(i, offset, len(data), len(positions), osl))
            offset += len(data)
        return requests

    def _request(self, prompt: bytes, osl: int, request_id: str) -> bytes:
        plan = self.plan
        url = urlsplit(plan.base_url)
        fields: dict[str, Any] = {
            "model": plan.model.id,
            "max_tokens": osl,
            "temperature": plan.load.temperature,
            "ignore_eos": plan.load.ignore_eos,
            "stream": True,
            "stream_options": {"include_usage": True},
            **plan.load.extra_body,
        }
        body = json.dumps(fields)[:-1].encode() + b', "prompt": ' + prompt + b"}"
        key = f"Authorization: Bearer {plan.api_key}\r\n" if plan.api_key else ""
        head = (
            f"POST {url.path.rstrip('/')}/v1/completions HTTP/1.1\r\nHost: {url.netloc.rpartition('@')[2]}\r\n{key}"
            "Content-Type: application/json\r\nAccept: text/event-stream\r\nAccept-Encoding: identity\r\n"
            f"User-Agent: bench-tests\r\nX-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def _load_tokenizer(plan: LoadPlan) -> Any:
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


def _exact_text(tokenizer: Any, ids: Iterable[int]) -> str:
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
    tokenizer = _load_tokenizer(plan)
    return [len(tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
