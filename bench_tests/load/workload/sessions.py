"""Conversations of several turns: how long each turn is, what of the history it keeps, and how long its user waits before it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.sweep.sessions import SYNTHETIC, Sessions

__all__ = ["Script", "Scripts", "Turn", "load_scripts"]

LONGEST = 10**7  # tokens of a turn, at most: more is no length


@dataclass(frozen=True)
class Turn:
    """One turn: its prompt is what it keeps of the history, then `new` tokens, or the text of `messages`."""

    new: int
    osl: int
    wait_s: float  # after the answer before it, or the session before, until it is sent
    keep: int | None = None  # tokens of the history, prompt and answer; None: all
    messages: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Script:
    """A session's turns, at least one."""

    turns: tuple[Turn, ...]

    def longest(self) -> int:
        """Tokens of the longest prompt with its answer; messages of a file count nothing here."""
        context = most = 0
        for turn in self.turns:
            context = (context if turn.keep is None else min(context, turn.keep)) + turn.new + turn.osl
            most = max(most, context)
        return most


@dataclass(frozen=True)
class Scripts:
    """The sessions of a file, or the one that all synthetic ones are like."""

    format: str
    digest: str  # SHA-256 of the file, of synthetic ones that of [sessions], the first 16 hex digits
    scripts: tuple[Script, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def line(self) -> str:
        """`40 sessions (weka), 1 to 31 turns; 3 left out: subagent`."""
        turns = [len(script.turns) for script in self.scripts]
        many = f"{min(turns)} to {max(turns)} turns" if len(set(turns)) > 1 else f"{turns[0]} turns"
        if self.format == SYNTHETIC:
            return f"synthetic, of {many}"
        whole = f"{len(turns):,} session{'s' * (len(turns) != 1)} ({self.format}), {many}"
        return whole + "".join(f"; {count:,} left out: {why}" for why, count in self.left_out.items())


def load_scripts(source: str, settings: Sessions) -> Scripts:
    """`synthetic`, or a file. Raises UsageError."""
    if source == SYNTHETIC:
        turn = Turn(settings.new_tokens, settings.osl, settings.think_time)
        first = Turn(settings.system_tokens + settings.new_tokens, settings.osl, settings.think_time)
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
        return _within(Scripts(SYNTHETIC, digest, (Script((first, *[turn] * (settings.turns - 1))),)), settings, source)
    return _within(_read(Path(source).expanduser(), settings), settings, source)


def _within(found: Scripts, settings: Sessions, source: str) -> Scripts:
    """The sessions up to the turn that would need more than the longest context that is wanted."""
    if not settings.max_context:
        return found
    kept = []
    for script in found.scripts:
        turns = list(script.turns)
        while turns and Script(tuple(turns)).longest() > settings.max_context:
            turns.pop()
        if turns:
            kept.append(Script(tuple(turns)))
    if not kept:
        raise UsageError(
            f"--sessions {source}: no session has a first turn within sessions.max_context {settings.max_context}"
        )
    lost = len(found.scripts) - len(kept)
    more = {"first turn beyond sessions.max_context": lost} if lost else {}
    return Scripts(found.format, found.digest, tuple(kept), {**found.left_out, **more})


@lru_cache(maxsize=4)
def _read(path: Path, settings: Sessions) -> Scripts:
    source = f"--sessions {path}"
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as why:
        raise UsageError(f"{source}: {why.strerror or why}; expected synthetic, or a readable file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{source}: not UTF-8 text; expected JSON or JSONL") from None
    left_out: Counter[str] = Counter()
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = [_line(line, f"{source} line {n}") for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    conversations = whole.get("conversations") if isinstance(whole, dict) else None
    if isinstance(conversations, list):
        format, scripts = "sglang", list(_conversations(conversations, source, settings, left_out))
    else:
        sessions = whole if isinstance(whole, list) else [whole]
        format, scripts = "weka", list(_weka(sessions, source, settings, left_out))
    if not scripts:
        raise UsageError(f"{source}: no session in it; expected objects with 'requests', or one with 'conversations'")
    return Scripts(format, hashlib.sha256(data).hexdigest()[:16], tuple(scripts), dict(left_out))


def _line(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError(f"{where}: not JSON; expected one session a line, or a file of JSON") from None


def _conversations(found: list[Any], source: str, settings: Sessions, left_out: Counter[str]) -> Iterator[Script]:
    """SGLang's: each turn has its new messages."""
    for number, one in enumerate(found):
        turns = []
        for turn in one if isinstance(one, list) else []:
            messages: Any = turn.get("messages") if isinstance(turn, dict) else None
            good = isinstance(messages, list) and messages and all(
                isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
            )  # fmt: skip
            if not good:
                raise UsageError(f"{source} conversation {number}: expected turns with messages of role and content")
            osl = _count(
                turn.get("output_tokens", turn.get("output_len", settings.osl)), f"{source} conversation {number}"
            )
            turns.append(Turn(0, max(1, osl), settings.think_time, None, tuple(messages)))
        if turns:
            yield Script(tuple(turns))
        else:
            left_out["no turn"] += 1


def _weka(found: list[Any], source: str, settings: Sessions, left_out: Counter[str]) -> Iterator[Script]:
    """Weka's: lengths, times, and a hash a block, which says how much of the prompt before a turn keeps."""
    for number, one in enumerate(found):
        where = f"{source} session {number}"
        asked = one.get("requests") if isinstance(one, dict) else None
        if not isinstance(asked, list):
            raise UsageError(f"{where}: no list 'requests'; expected Weka's form, or SGLang's 'conversations'")
        block = _count(one.get("block_size", 64), where) or 64
        turns: list[Turn] = []
        before: tuple[int, int, list[Any]] = (0, 0, [])  # tokens of the prompt before, of its answer, its hashes
        ended_s: float | None = None
        for request in asked:
            if not isinstance(request, dict) or "in" not in request or "out" not in request:
                left_out[str(request.get("type", "no lengths"))[:40] if isinstance(request, dict) else "no object"] += 1
                continue
            tokens, osl = _count(request["in"], where), max(1, _count(request["out"], where))
            hashes = request.get("hash_ids") or []
            if not tokens or not isinstance(hashes, list):
                left_out["no prompt"] += 1
                continue
            turns.append(_turn(tokens, osl, hashes, before, block, _wait_s(request, ended_s, settings, where)))
            before = (tokens, osl, hashes)
            at: Any = request.get("t")
            took: Any = request.get("api_time", 0.0)
            ended_s = float(at) + float(took) if _time(at) and _time(took) else None
        if turns:
            yield Script(tuple(turns))
        else:
            left_out["no turn"] += 1


def _turn(
    tokens: int, osl: int, hashes: list[Any], before: tuple[int, int, list[Any]], block: int, wait_s: float
) -> Turn:
    """A prompt that has all of the one before in it goes on from its answer; another keeps what the hashes share."""
    was, said, known = before
    same = next(
        (n for n, (a, b) in enumerate(zip(hashes, known, strict=False)) if a != b), min(len(hashes), len(known))
    )
    if was and same >= was // block and tokens > was + said:
        return Turn(tokens - was - said, osl, wait_s)
    keep = min(same * block, tokens - 1)
    return Turn(tokens - keep, osl, wait_s, keep)


def _wait_s(request: Mapping[str, Any], ended_s: float | None, settings: Sessions, where: str) -> float:
    """From the answer before to this turn: as the times say, else as the file says, else as the profile does."""
    at: Any = request.get("t")
    if ended_s is not None and _time(at):
        return max(0.0, float(at) - ended_s)
    said: Any = request.get("think_time")
    return max(0.0, float(said)) if _time(said) else settings.think_time


def _time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e10


def _count(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LONGEST:
        raise UsageError(f"{where}: {value!r}; expected a whole number of tokens below {LONGEST}")
    return value
