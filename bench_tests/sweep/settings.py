"""What a profile can say: one dataclass a TOML table, each field with its check and its one-line meaning.

The documentation test, the reader and `--help` texts all follow this list.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from bench_tests.sweep.keys import (
    flag,
    json_table,
    key,
    list_of,
    maybe,
    number,
    one_of,
    seed,
    table_of,
    text,
    whole,
)
from bench_tests.sweep.mix import cancel_table, models_table
from bench_tests.sweep.prefix import prefix_table
from bench_tests.sweep.units import parse_duration_s, parse_rate

__all__ = [
    "COMPARED", "FILLING", "Load", "Model", "Regression", "Sweep", "Tiers", "Timeouts", "Validity",
]  # fmt: skip

# Figures that can be compared with a baseline, and by how much one must be worse to count.
COMPARED: dict[str, float] = {
    "p99_ttft": 0.10,
    "p90_ttft": 0.10,
    "median_ttft": 0.10,
    "mean_ttft": 0.10,
    "p99_tpot": 0.10,
    "median_tpot": 0.05,
    "mean_tpot": 0.05,
    "p99_e2el": 0.10,
    "mean_e2el": 0.05,
    "output_throughput": 0.05,
}
FILLING = 3  # requests of a staggered start that keep the loop full, times the concurrency


@dataclass(frozen=True)
class Model:
    id: str = key(maybe, "", "the model as the server serves it; empty: whatever the server serves")
    tokenizer: str = key(maybe, "", "name or folder for transformers' AutoTokenizer; empty: the model's id")
    vocab_size: int = key(whole(0), 0, "token ids are drawn below this; 0: as many of 32000 as the server accepts")
    special_ids: tuple[int, ...] = key(list_of(whole(0)), (), "token ids that are never drawn")
    first_id: int = key(whole(0), 100, "the lowest id drawn: ids below it are often special")


@dataclass(frozen=True)
class Sweep:
    isl: tuple[int, ...] = key(list_of(whole(1), unique=True), (), "input lengths in tokens")
    osl: tuple[int, ...] = key(list_of(whole(1), unique=True), (128,), "output lengths in tokens")
    concurrency: tuple[int, ...] = key(list_of(whole(1), unique=True), (), "requests at a time (closed loop)")
    rate: tuple[float, ...] = key(
        list_of(number(0, above=True), unique=True), (), "requests started per second (open loop, no cap)"
    )
    users: tuple[int, ...] = key(list_of(whole(1), unique=True), (), "users at a time, of sessions (workload.sessions)")
    points: tuple[str, ...] = key(list_of(text, unique=True), (), "further points, such as isl2048-osl128-conc16")


@dataclass(frozen=True)
class Load:
    endpoint: str = key(
        one_of("completions", "chat"),
        "completions",
        "which endpoint is loaded, streamed: /v1/completions or /v1/chat/completions",
    )
    template_tokens: str = key(
        one_of("extra", "inside"),
        "extra",
        "the chat template's own tokens: on top of the ISL, or taken out of it (a prompt is then ISL tokens in all)",
    )
    chat_template_kwargs: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "check": json_table,
            "doc": "what a chat's template is given, such as {enable_thinking = false}",
            "shapes": True,
        },
    )
    prompts_per_concurrency: int = key(
        whole(1), 10, "measured requests a point: this times its concurrency", shapes=False
    )
    num_prompts: int = key(
        whole(0), 0, "measured requests a point, whatever its concurrency; 0: by concurrency", shapes=False
    )
    warmups_per_concurrency: int = key(
        whole(0), 2, "requests before the measured ones: this times the concurrency", shapes=False
    )
    num_warmups: int = key(
        whole(-1), -1, "warm-ups a point, whatever its concurrency; -1: by concurrency", shapes=False
    )
    request_rate: float = key(parse_rate, math.inf, "requests started per second; inf: as the concurrency allows")
    rate_seconds: float = key(
        parse_duration_s, 60.0, "how long a point of a rate is loaded where num_prompts is not said", shapes=False
    )
    start: str = key(
        one_of("together", "staggered"),
        "together",
        "how a closed loop's streams begin: all at one moment, or spread over a request's duration at random phases",
    )
    burstiness: float = key(number(0, above=True), 1.0, "shape of the gamma gaps at a rate: 1 Poisson, less burstier")
    range_ratio: float = key(number(0, 0.999), 0.0, "lengths are uniform in ISL × (1 ± this), likewise OSL")
    prefix_len: int = key(whole(0), 0, "tokens before the ISL that all prompts share at their start")
    ignore_eos: bool = key(flag, True, "generate exactly OSL tokens; sent only when true")
    temperature: float = key(number(0), 0.0, "sampling temperature")
    prompt_format: str = key(one_of("ids", "text"), "ids", "prompts as token ids, or as text made with the tokenizer")
    seed: int | None = key(
        seed, None, 'a number draws the same prompts each time; "fresh" draws new ones each session', shapes=False
    )
    prefix: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "check": prefix_table,
            "doc": "prefixes that prompts share on purpose ([load.prefix])",
            "shapes": True,
        },
    )
    models: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "check": models_table,
            "doc": "models (LoRA adapters) that requests are spread over, by weight",
            "shapes": True,
        },
    )
    cancel: dict[str, float] = field(
        default_factory=dict,
        metadata={"check": cancel_table, "doc": "cancel this share of the requests after so long", "shapes": True},
    )
    extra_body: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "check": json_table,
            "doc": "further fields of each request's JSON: no dates, nan or inf",
            "shapes": True,
        },
    )
    omit: tuple[str, ...] = key(
        list_of(one_of("ignore_eos", "stream_options", "temperature", "max_tokens"), unique=True),
        (),
        "fields of a request's JSON that are left out, for servers that refuse them: ignore_eos, stream_options, temperature, "
        "max_tokens (the length is then asked for as max_completion_tokens)",
    )
    processes: int = key(
        whole(0, 256),
        1,
        "load processes that share a point; 0: as many as the concurrency needs and spare cores allow",
        shapes=False,
    )
    server_profile: bool = key(
        flag, False, "bracket each point with the server's /start_profile and /stop_profile", shapes=False
    )
    metadata: dict[str, Any] = field(
        default_factory=dict,
        metadata={"check": json_table, "doc": "what else a result shall carry, as it is", "shapes": False},
    )

    @property
    def chat(self) -> bool:
        """Whether messages are sent, and not a prompt."""
        return self.endpoint == "chat"

    @property
    def text_prompts(self) -> bool:
        """Whether prompts are sent as text: a chat's always are."""
        return self.chat or self.prompt_format == "text"

    @property
    def full_length(self) -> bool:
        """Whether each answer is asked to be exactly as long as it may be."""
        return self.ignore_eos and "ignore_eos" not in self.omit

    def filling(self, conc: int) -> int:
        """Requests of a staggered start beside the warm-ups and the measured ones, for that concurrency."""
        return FILLING * conc if self.start == "staggered" and conc > 1 and math.isinf(self.request_rate) else 0

    def fields(self, model: str, max_tokens: int) -> dict[str, Any]:
        """A request's JSON without its prompt."""
        known: dict[str, Any] = {
            "model": model,
            "max_completion_tokens" if "max_tokens" in self.omit else "max_tokens": max_tokens,
            "temperature": self.temperature,
            **({"ignore_eos": True} if self.ignore_eos else {}),
            **({"chat_template_kwargs": self.chat_template_kwargs} if self.chat_template_kwargs else {}),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return {name: value for name, value in known.items() if name not in self.omit} | self.extra_body

    def shape(self) -> dict[str, Any]:
        """What shapes the load, by key, as a result's settings say it (JSON has no infinite rate)."""
        shaping = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["shapes"]}
        for name in ("prefix", "models", "cancel", "chat_template_kwargs"):  # results without them stay as they were
            if not shaping[name]:
                del shaping[name]
        if not self.chat:
            del shaping["template_tokens"]
        return shaping | {
            "endpoint": "/v1/chat/completions" if self.chat else "/v1/completions",
            "prompt_format": "text" if self.text_prompts else "ids",
            "omit": list(self.omit),
            "request_rate": "inf" if math.isinf(self.request_rate) else self.request_rate,
        }


@dataclass(frozen=True)
class Timeouts:
    connect: float = key(parse_duration_s, 10.0, "to open a connection")
    first_token: float = key(parse_duration_s, 600.0, "from send to the first token; queueing in the server included")
    between_tokens: float = key(parse_duration_s, 120.0, "from one read of a stream to the next")
    request: float = key(parse_duration_s, 3600.0, "a whole request")
    point: float = key(parse_duration_s, 6 * 3600.0, "a whole point")


@dataclass(frozen=True)
class Tiers:
    ttft: tuple[float, ...] = key(list_of(parse_duration_s, unique=True), (), "p99 TTFT tiers of the SLA frontier")
    tpot: tuple[float, ...] = key(list_of(parse_duration_s, unique=True), (), "p99 TPOT tiers of the SLA frontier")


@dataclass(frozen=True)
class Validity:
    max_failed_share: float = key(number(0, 1), 0.0, "failed requests over all measured ones")
    max_blur_share: float = key(
        number(0, 1),
        0.01,
        "how far merged reads may move an asserted figure (p99 TTFT and TPOT without any), as a share of it",
    )
    max_gathered_share: float = key(
        number(0, 1),
        0.01,
        "answers whose events something in between delivered together, where an objective depends on their times",
    )
    max_other_models: float = key(
        number(0, 1), 0.0, "answers that name another model than the rest do (a gateway that falls back to one)"
    )
    max_pause: float = key(parse_duration_s, 0.25, "longest time in which a load process did not look at its sockets")
    max_client_cpu: float = key(number(0, 1), 0.9, "CPU share of a load process; above it the loop is near its limit")
    max_core_wait: float = key(
        parse_duration_s, 0.001, "mean time for which a load process stood ready without a core before each look"
    )
    min_concurrency_share: float = key(
        number(0, 1), 0.95, "mean requests in flight in the steady state over those asked"
    )
    min_rate_share: float = key(number(0, 1), 0.9, "achieved request rate over the one asked")
    max_held_share: float = key(
        number(0, 1), 0.05, "requests that a concurrency delayed beyond their scheduled start, with a request rate"
    )
    max_lateness: float = key(
        parse_duration_s, 0.05, "p99 of send − scheduled in an open loop without a cap: later, the client fell behind"
    )
    max_cache_share: float = key(number(0, 1), 0.01, "prompt tokens from the prefix cache beyond the shared prefix")
    max_clock_step: float = key(parse_duration_s, 0.001, "how far CLOCK_REALTIME may step against CLOCK_MONOTONIC")
    min_p99_requests: int = key(whole(1), 100, "requests below which a p99 is little more than the maximum: it is said")


@dataclass(frozen=True)
class Regression:
    figures: tuple[str, ...] = key(
        list_of(one_of(*COMPARED), unique=True, may_be_empty=False),
        ("p99_ttft", "mean_tpot", "output_throughput"),
        "figures that are compared with a baseline",
    )
    thresholds: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "check": table_of(COMPARED, number(0.001, 10)),
            "doc": "by how much a figure of a point must be worse to count, by its name; a fifth of it over the whole sweep",
        },
    )
    alpha: float = key(number(1e-6, 0.2), 0.01, "chance of any false regression in a comparison")
    blind: float = key(
        number(1, 100), 3.0, "a comparison that would not see a change of this many thresholds is an ERROR and no pass"
    )

    def counts(self) -> dict[str, float]:
        """By figure, the factor beyond which a change counts."""
        return {name: self.thresholds.get(name, COMPARED[name]) for name in self.figures}
