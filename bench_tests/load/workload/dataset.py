"""Prompts that people wrote: ShareGPT's JSON, and JSONL of prompts or messages, with the output lengths where they say them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench_tests.errors import UsageError

__all__ = ["ORDERS", "Dataset", "Entry", "draw", "read_dataset"]

ORDERS = ("shuffled", "file", "longest")
OUTPUT_KEYS = ("output_len", "output_tokens", "max_tokens")


@dataclass(frozen=True)
class Entry:
    """One prompt. `messages` are set where the file has a conversation; `answer` is what was answered, for its length."""

    prompt: str
    messages: tuple[Mapping[str, Any], ...] = ()
    output_tokens: int = 0  # 0: the file does not say
    answer: str = ""


@dataclass(frozen=True)
class Dataset:
    """The prompts of a file in its order, and what of it could not be used."""

    source: str
    format: str
    digest: str  # SHA-256 of the file, the first 16 hex digits
    entries: tuple[Entry, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def line(self) -> str:
        """`94,145 prompts (sharegpt); 12 left out: no human turn with an answer`."""
        words = f"{len(self.entries):,} prompt{'s' * (len(self.entries) != 1)} ({self.format})"
        return words + "".join(f"; {count:,} left out: {reason}" for reason, count in self.left_out.items())


def read_dataset(path: Path) -> Dataset:
    """Read a dataset. Raises UsageError that names the file, the entry and what was expected."""
    source = f"--dataset {path}"
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as why:
        raise UsageError(f"{source}: {why.strerror or why}; expected a readable file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{source}: not UTF-8 text; expected JSON or JSONL") from None
    left_out: Counter[str] = Counter()
    found = _whole_json(text)
    if isinstance(found, list):
        format, entries = "sharegpt", list(_sharegpt(found, source, left_out))
    else:
        format, entries = "jsonl", list(_jsonl(text, source, left_out))
    if not entries:
        raise UsageError(
            f"{source}: no prompt in it; expected ShareGPT's JSON list, or one object a line with prompt or messages"
        )
    return Dataset(str(path), format, hashlib.sha256(data).hexdigest()[:16], tuple(entries), dict(left_out))


def _whole_json(text: str) -> Any:
    if not text.lstrip().startswith("["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _sharegpt(found: list[Any], source: str, left_out: Counter[str]) -> Iterator[Entry]:
    for number, one in enumerate(found):
        turns = one.get("conversations", one.get("conversation")) if isinstance(one, dict) else None
        if not isinstance(turns, list):
            raise UsageError(f"{source} entry {number}: no list 'conversations'; expected ShareGPT's form")
        said = [turn for turn in turns if isinstance(turn, dict) and isinstance(turn.get("value"), str)]
        people = ("human", "user")
        pair = next(
            ((a, b) for a, b in pairwise(said) if a.get("from") in people and b.get("from") not in people),
            None,
        )
        if pair is None or not pair[0]["value"].strip():
            left_out["no human turn with an answer"] += 1
            continue
        prompt = pair[0]["value"]
        yield Entry(prompt, ({"role": "user", "content": prompt},), 0, pair[1]["value"])


def _jsonl(text: str, source: str, left_out: Counter[str]) -> Iterator[Entry]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{source} line {number}"
        try:
            one = json.loads(line)
        except (ValueError, RecursionError):
            raise UsageError(f"{where}: not JSON; expected one object a line") from None
        if not isinstance(one, dict):
            raise UsageError(f"{where}: {type(one).__name__}; expected an object with prompt or messages")
        length = next((one[key] for key in OUTPUT_KEYS if one.get(key) is not None), 0)
        if type(length) is not int or not 0 <= length < 10**7:
            raise UsageError(f"{where}: output length {length!r}; expected a whole number of tokens")
        messages = one.get("messages")
        if isinstance(messages, list) and messages:
            if not all(isinstance(m, dict) and isinstance(m.get("role"), str) and "content" in m for m in messages):
                raise UsageError(f"{where} messages: expected objects with role and content")
            asked = messages[:-1] if messages[-1]["role"] == "assistant" else messages
            answer = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
            if not asked:
                left_out["no message before the answer"] += 1
                continue
            prompt = "\n".join(m["content"] for m in asked if isinstance(m["content"], str))
            yield Entry(prompt, tuple(asked), length, answer if isinstance(answer, str) else "")
        elif isinstance(one.get("prompt"), str) and one["prompt"].strip():
            prompt = one["prompt"]
            yield Entry(prompt, ({"role": "user", "content": prompt},), length)
        else:
            left_out["neither a prompt nor messages"] += 1


def draw(
    dataset: Dataset, count: int, seed: int, order: str, lengths: Iterable[int], low: int, high: int, skip: int = 0
) -> tuple[list[int], int]:
    """Which entries are sent, in which order: `count` indices, and how many entries are within the lengths.

    `lengths` are the entries' prompt tokens. `skip`: how many earlier runs of the seed have had: their prompts may be in
    the server's cache, and come again only when all others have been sent. Where there are fewer entries than are wanted,
    they are gone through again in a new order each time. Raises UsageError when none is within `low` to `high`.
    """
    tokens = np.fromiter(lengths, np.int64, len(dataset.entries))
    fitting = np.flatnonzero((tokens >= low) & (tokens <= high))
    if not len(fitting):
        raise UsageError(
            f"{dataset.source}: none of {len(tokens)} prompts has {low} to {high} tokens; they have {tokens.min()} to "
            f"{tokens.max()}"
        )
    turn, place = divmod(skip, len(fitting))
    chosen: list[int] = []
    while len(chosen) < place + count:
        if order == "file":
            chosen += fitting.tolist()
        else:
            key, counter = np.array([seed, 2**60 + 2], np.uint64), np.array([0, 0, 0, turn], np.uint64)
            chosen += np.random.Generator(np.random.Philox(key=key, counter=counter)).permutation(fitting).tolist()
        turn += 1
    chosen = chosen[place : place + count]
    if order == "longest":
        chosen.sort(key=lambda i: -tokens[i])
    return chosen, len(fitting)
