"""How time passes in the simulated server: a model of continuous batching, and a pacemaker.

Both only decide when each token is due; the sequence writes it. All times in ns, CLOCK_MONOTONIC.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Protocol

from bench_tests.sim.clock import Clock, now_ns
from bench_tests.sim.jitter import draw, draw_shared
from bench_tests.sim.metrics import ITL, QUEUE, Metrics
from bench_tests.sim.prefix_cache import BLOCK, PrefixCache
from bench_tests.sim.spec import SimSpec, parse_jitter
from bench_tests.sim.stream import Sequence

__all__ = ["BatchEngine", "Engine", "PacedEngine", "make_engine"]


class Engine(Protocol):
    """What the HTTP side needs of an engine."""

    slow: float  # every duration times this

    def submit(self, sequence: Sequence) -> None:
        """Take a prepared sequence; its emit() is called for each of its tokens."""

    def sync(self) -> None:
        """Write the gauges and counters."""

    def reset_prefix_cache(self) -> None:
        """Forget all prompts."""

    def busy(self) -> list[Sequence]:
        """All sequences that are not finished."""


def make_engine(spec: SimSpec, clock: Clock, metrics: Metrics) -> Engine:
    """The engine that the settings ask for."""
    return BatchEngine(spec, clock, metrics) if spec.mode == "batch" else PacedEngine(spec, clock, metrics)


class BatchEngine:
    """Continuous batching: first come, first served, chunked prefill, one token a step for all that decode."""

    def __init__(self, spec: SimSpec, clock: Clock, metrics: Metrics) -> None:
        self.slow = 1.0
        self._spec = spec
        self._clock = clock
        self._metrics = metrics
        self._cache = PrefixCache(spec.kv_cache_tokens // BLOCK)
        self._waiting: deque[Sequence] = deque()
        self._prefilling: list[Sequence] = []
        self._decoding: list[Sequence] = []
        self._first: list[Sequence] = []  # their prefill ends with this step
        self._kv = 0  # tokens of the KV cache that are spoken for
        self._context = 0  # tokens in the contexts of all that decode
        self._start = 0
        self._due = 0  # 0: idle

    def submit(self, sequence: Sequence) -> None:
        """Stand in line; an idle engine begins at once."""
        sequence.t_arrive = now_ns()
        self._waiting.append(sequence)
        if not self._due:
            self._begin(sequence.t_arrive)
            self._clock.at(self._due, self)

    def fire(self, due: int) -> int:
        """The end of a step: every running sequence gets its token, and the next step begins."""
        gap_s = (due - self._start) / 1e9
        going: list[Sequence] = []
        tokens = 0
        for s in self._decoding:
            if s.gone:
                self._drop(s)
                continue
            tokens += 1
            self._grow(s)
            if s.emit(due):
                self._drop(s)
            else:
                going.append(s)
        if tokens:
            self._metrics.observe(ITL, gap_s, tokens)
            self._context += tokens
        for s in self._first:
            if s.gone:
                self._release(s)
                continue
            tokens += 1
            if not s.i:  # else it was computed again
                self._metrics.add("vllm:prompt_tokens", s.prompt_tokens)
                self._metrics.add("vllm:prompt_tokens_cached", s.cached)
            self._grow(s)
            if s.emit(due):
                self._release(s)
            else:
                going.append(s)
                self._context += s.prompt_tokens + s.i
        self._metrics.add("vllm:generation_tokens", tokens)
        self._decoding, self._first = going, []
        if not going and not self._prefilling and not self._waiting:
            self._due = 0
            return 0
        now = now_ns()
        # what cannot keep up gets longer steps, not a backlog of them
        self._begin(due if now - due < max(self._due - self._start, 1_000_000) else now)
        return self._due

    def _drop(self, s: Sequence) -> None:
        self._context -= s.prompt_tokens + s.i
        self._release(s)

    def _release(self, s: Sequence) -> None:
        self._kv, s.held = self._kv - s.held, 0
        if s.i >= s.n:
            self._cache.ended(s)

    def _grow(self, s: Sequence) -> None:
        if self._spec.preempt:  # else all that it may need is its own from the start
            s.held += 1
            self._kv += 1

    def _take_back(self) -> None:
        """Where the cache has no space for a step's tokens: the youngest go back to the head of the line, without theirs."""
        while len(self._decoding) > 1 and self._kv + len(self._decoding) > self._spec.kv_cache_tokens:
            s = self._decoding.pop()
            self._drop(s)
            s.computed = 0
            if not s.gone:
                self._waiting.appendleft(s)
                self._metrics.add("vllm:num_preemptions", 1)

    def _begin(self, start: int) -> None:
        """Decide what the step from `start` computes, and with it how long it takes."""
        spec = self._spec
        if spec.preempt:
            self._take_back()
        budget = max(spec.max_num_batched_tokens - len(self._decoding), 1)
        asked = budget
        for s in self._prefilling:
            if s.gone:
                self._release(s)
        going = [s for s in self._prefilling if not s.gone]
        running = len(self._decoding) + len(going)
        left = budget - sum(s.prompt_tokens + s.i - s.computed for s in going)
        while self._waiting and running < spec.max_num_seqs and left > 0:
            s = self._waiting[0]
            if s.gone:
                self._waiting.popleft()
                continue
            grown = len(self._decoding) if spec.preempt else 0  # by this step
            if self._kv + grown + self._need(s) > spec.kv_cache_tokens and self._kv:
                break
            self._waiting.popleft()
            self._admit(s, start)
            going.append(s)
            running += 1
            left -= s.prompt_tokens + s.i - s.computed
        self._prefilling = []
        for s in going:
            part = min(budget, s.prompt_tokens + s.i - s.computed)
            budget -= part
            s.computed += part
            if s.computed < s.prompt_tokens + s.i:
                self._prefilling.append(s)
            else:
                self._first.append(s)
                if spec.prefix_caching:
                    self._cache.add(s)
        length_s = spec.base_ms / 1e3 + spec.per_seq_us / 1e6 * len(self._decoding)
        length_s += spec.per_ktoken_us / 1e6 * self._context / 1e3 + (asked - budget) / spec.prefill_tok_per_s
        self._start = start
        self._due = start + max(int(length_s * self.slow * 1e9), 1)

    def _need(self, s: Sequence) -> int:
        """Tokens of the cache that it must have to begin."""
        return s.prompt_tokens + (s.i if self._spec.preempt else s.n)

    def _admit(self, s: Sequence, start: int) -> None:
        s.held = self._need(s)
        self._kv += s.held
        if s.i:
            return  # once more
        s.t_scheduled = start
        self._metrics.observe(QUEUE, max(start - s.t_arrive, 0) / 1e9)
        if self._spec.prefix_caching:
            s.computed = s.cached = self._cache.match(s)
            self._metrics.add("vllm:prefix_cache_queries", s.prompt_tokens)
            self._metrics.add("vllm:prefix_cache_hits", s.cached)

    def sync(self) -> None:
        """Write the gauges."""
        running = [s for s in (*self._decoding, *self._prefilling, *self._first) if not s.gone]
        self._metrics.set("vllm:num_requests_running", float(len(running)))
        self._metrics.set("vllm:num_requests_waiting", float(sum(not s.gone for s in self._waiting)))
        self._metrics.set("vllm:kv_cache_usage_perc", self._kv / self._spec.kv_cache_tokens)

    def reset_prefix_cache(self) -> None:
        """Forget all prompts."""
        self._cache.clear()

    def busy(self) -> list[Sequence]:
        """All sequences that are not finished."""
        return [s for s in (*self._decoding, *self._first, *self._prefilling, *self._waiting) if not s.gone]


class PacedEngine:
    """Each stream has its own clock, whatever the others do: what a client is measured against."""

    def __init__(self, spec: SimSpec, clock: Clock, metrics: Metrics) -> None:
        self.slow = 1.0
        self._spec = spec
        self._clock = clock
        self._metrics = metrics
        self._ttft_jitter = parse_jitter(spec.ttft_jitter)
        self._gap_jitter = parse_jitter(spec.gap_jitter)
        self._cache = PrefixCache(spec.kv_cache_tokens // BLOCK)
        self._count = 0
        self._running: set[_Pace] = set()
        self.tokens = 0

    def submit(self, sequence: Sequence) -> None:
        """Its first token is due from the arrival of the request's first byte, however late it was read."""
        spec, jitter = self._spec, self._gap_jitter
        s = sequence
        s.t_arrive = s.t_scheduled = now_ns()
        self._metrics.observe(QUEUE, 0.0)
        self._count += 1
        rng = random.Random(spec.seed << 32 | self._count)
        if spec.prefix_caching:
            s.cached = self._cache.match(s)
            self._cache.add(s)
            self._metrics.add("vllm:prefix_cache_queries", s.prompt_tokens)
            self._metrics.add("vllm:prefix_cache_hits", s.cached)
        ms = spec.ttft_ms + spec.ttft_us_per_token * (s.prompt_tokens - s.cached) / 1e3
        wave = f"{spec.seed} {(self._count - 1) // spec.jitter_wave}"
        ms += draw_shared(self._ttft_jitter, rng, wave, spec.jitter_icc)
        due = s.reply.t_first_byte + int(max(ms, 0.0) * self.slow * 1e6)
        s.gap = int(spec.gap_ms * self.slow * 1e6)
        if spec.step and s.gap:
            due = -(-due // s.gap) * s.gap
        if jitter[1]:
            s.gaps = [int(max(spec.gap_ms + draw(jitter, rng), 0.0) * self.slow * 1e6) for _ in range(s.n)]
        pace = _Pace(s, self)
        self._running.add(pace)
        self._clock.at(due, pace)

    def ended(self, pace: _Pace) -> None:
        """A stream had its last token, or its client went away."""
        self._running.discard(pace)
        if pace.sequence.i:
            self._cache.ended(pace.sequence)
            self._metrics.add("vllm:prompt_tokens", pace.sequence.prompt_tokens)
            self._metrics.add("vllm:prompt_tokens_cached", pace.sequence.cached)

    def sync(self) -> None:
        """Write the gauges, and the tokens since the last time."""
        self._metrics.add("vllm:generation_tokens", self.tokens)
        self.tokens = 0
        self._metrics.set("vllm:num_requests_running", float(sum(not p.sequence.gone for p in self._running)))

    def reset_prefix_cache(self) -> None:
        """Forget all prompts."""
        self._cache.clear()

    def busy(self) -> list[Sequence]:
        """All sequences that are not finished."""
        return [p.sequence for p in self._running if not p.sequence.gone]


class _Pace:
    """One stream's deadlines: each from the one before, so that lateness never adds up."""

    __slots__ = ("engine", "sequence")

    def __init__(self, sequence: Sequence, engine: PacedEngine) -> None:
        self.sequence = sequence
        self.engine = engine

    def fire(self, due: int) -> int:
        s = self.sequence
        if s.gone:
            self.engine.ended(self)
            return 0
        self.engine.tokens += 1
        if s.emit(due):
            self.engine.ended(self)
            return 0
        return due + (s.gap if s.gaps is None else s.gaps[s.i % s.n])
