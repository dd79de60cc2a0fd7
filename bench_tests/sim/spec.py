"""All settings of the simulated server, as one frozen value that can be sent to its process as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields

from bench_tests.errors import UsageError
from bench_tests.sim.faults import parse_fault

__all__ = ["JITTERS", "MODES", "SimSpec", "parse_jitter"]

MODES = ("batch", "paced")
JITTERS = ("none", "uniform", "normal", "exp")
THINKING_KEYS = ("reasoning", "reasoning_content")


def parse_jitter(text: str) -> tuple[str, float]:
    """`none`, `uniform:MS` (± MS), `normal:MS` (standard deviation) or `exp:MS` (mean, one-sided) → (kind, ms)."""
    kind, _, size = text.partition(":")
    try:
        ms = float(size) if size else 0.0
    except ValueError:
        ms = -1.0
    if kind not in JITTERS or not 0 <= ms < math.inf or (kind == "none") == bool(size):
        raise UsageError(f"jitter {text!r}: expected none, uniform:MS, normal:MS or exp:MS, for example exp:50")
    return kind, ms


@dataclass(frozen=True)
class SimSpec:
    """What to simulate. Times in the unit of their name; every setting is also an option of the command line.

    Engine `batch` models continuous batching. All running sequences get their token at the end of a step that takes
    Formula: base_ms + per_seq_us · decoding + per_ktoken_us · context/1000 + prefilled tokens / prefill_tok_per_s.
    Engine `paced` gives each stream its own clock: TTFT, then a fixed gap, with jitter.
    Formula: t[0] = arrival + ttft_ms + ttft_us_per_token · ISL + jitter; t[i] = t[i-1] + gap_ms + jitter. Of the TTFT's
    jitter, requests that arrive `jitter_wave` after one another share a part: √icc · shared + √(1 − icc) · own.

    A chat's answer begins with `think_tokens` of thinking (none where the request's template is told
    `enable_thinking = false`), in events with the key `thinking_key`, and ends with `tool_tokens` of a tool call. Its first
    event, with a role and nothing else, is written with the first token, or with the head where `role_at_once`.
    """

    # what it says it is
    model: str = "simulated"
    version: str = "sim-1"
    max_model_len: int = 131_072
    vocab_size: int = 1_000_000
    api_key: str | None = None
    # where it listens
    host: str = "127.0.0.1"
    port: int = 0
    processes: int = 1
    tls_cert: str | None = None
    tls_key: str | None = None
    # how fast it is: the engine `batch`
    mode: str = "batch"
    base_ms: float = 8.0
    per_seq_us: float = 30.0
    per_ktoken_us: float = 20.0
    prefill_tok_per_s: float = 40_000.0
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256
    kv_cache_tokens: int = 2_097_152
    preempt: bool = False
    prefix_caching: bool = True
    enable_prompt_tokens_details: bool = False
    # how fast it is: the engine `paced`
    ttft_ms: float = 200.0
    ttft_us_per_token: float = 0.0
    gap_ms: float = 20.0
    ttft_jitter: str = "none"
    gap_jitter: str = "none"
    jitter_wave: int = 1
    jitter_icc: float = 0.0
    step: bool = False
    # what it says and writes
    stop_after: int | None = None
    utf8: bool = False
    think_tokens: int = 0
    thinking_key: str = "reasoning"
    tool_tokens: int = 0
    role_at_once: bool = False
    truth_log: str | None = None
    log_tokens: bool = False
    seed: int = 1
    spin_us: float = 60.0
    faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises UsageError that names the setting."""
        object.__setattr__(self, "faults", tuple(self.faults))
        if self.mode not in MODES:
            raise UsageError(f"simulated server: mode {self.mode!r}: expected one of {', '.join(MODES)}")
        for name in ("max_model_len", "vocab_size", "processes", "max_num_batched_tokens", "max_num_seqs"):
            self._need(name, getattr(self, name) >= 1, "at least 1")
        self._need("kv_cache_tokens", self.kv_cache_tokens >= self.max_model_len, "at least max_model_len")
        self._need("prefill_tok_per_s", 0 < self.prefill_tok_per_s < math.inf, "above 0")
        self._need("jitter_wave", self.jitter_wave >= 1, "at least 1")
        self._need("jitter_icc", 0 <= self.jitter_icc <= 1, "0 to 1")
        times = ("base_ms", "per_seq_us", "per_ktoken_us", "ttft_ms", "ttft_us_per_token", "gap_ms", "spin_us")
        for name in times:
            self._need(name, 0 <= getattr(self, name) < math.inf, "0 or more")
        self._need("port", 0 <= self.port <= 65535, "0 (any free port) to 65535")
        self._need("stop_after", self.stop_after is None or self.stop_after >= 1, "at least 1")
        self._need("tls_key", (self.tls_cert is None) == (self.tls_key is None), "tls_cert and tls_key together")
        self._need("think_tokens", self.think_tokens >= 0, "0 or more")
        self._need("tool_tokens", self.tool_tokens >= 0, "0 or more")
        self._need("thinking_key", self.thinking_key in THINKING_KEYS, f"one of {', '.join(THINKING_KEYS)}")
        parse_jitter(self.ttft_jitter)
        parse_jitter(self.gap_jitter)
        for fault in self.faults:
            parse_fault(fault)

    def _need(self, name: str, good: bool, what: str) -> None:
        if not good:
            raise UsageError(f"simulated server: {name} = {getattr(self, name)!r}: expected {what}")

    def to_json(self) -> str:
        """One line, the key included: for the pipe to the child process, not for a log."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> SimSpec:
        """The inverse of to_json. Raises UsageError for a key that is no setting."""
        data = json.loads(line)
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown:
            raise UsageError(f"simulated server: no such setting: {', '.join(sorted(unknown))}")
        return cls(**data)

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        if self.api_key is not None:
            shown["api_key"] = "***"
        return f"SimSpec({', '.join(f'{k}={v!r}' for k, v in shown.items())})"
