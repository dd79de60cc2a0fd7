"""What the engines call what we read from their /metrics."""

from __future__ import annotations

__all__ = [
    "AVERAGED",
    "BY_POSITION",
    "COUNTERS",
    "GAUGES",
    "HISTOGRAMS",
    "ONWARDS",
    "STARTED",
    "engine_in",
    "wanted_of",
]

# our name → the engines' names for it, without `_total`; the first engine that has any of them is the one that is read
COUNTERS: dict[str, dict[str, tuple[str, ...]]] = {
    "vllm": {
        "prompt_tokens": ("vllm:prompt_tokens",),
        "generation_tokens": ("vllm:generation_tokens",),
        # its own cache (the second name until 0.8), and one outside of it (LMCache, Mooncake, another instance)
        "own_hits": ("vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits"),
        "external_hits": ("vllm:external_prefix_cache_hits", "vllm:cpu_prefix_cache_hits"),
        "all_hits": ("vllm:prompt_tokens_cached",),
        "succeeded": ("vllm:request_success",),
        "preemptions": ("vllm:num_preemptions",),
        "running": ("vllm:num_requests_running",),
        "waiting": ("vllm:num_requests_waiting",),
        "kv_cache": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "drafts": ("vllm:spec_decode_num_drafts",),
        "draft_tokens": ("vllm:spec_decode_num_draft_tokens",),
        "accepted_tokens": ("vllm:spec_decode_num_accepted_tokens",),
        "accepted_at": ("vllm:spec_decode_num_accepted_tokens_per_pos",),
    },
    "sglang": {
        "prompt_tokens": ("sglang:prompt_tokens",),
        "generation_tokens": ("sglang:generation_tokens",),
        "all_hits": ("sglang:cached_tokens",),
        "succeeded": ("sglang:num_requests",),
        "preemptions": ("sglang:num_retracted_requests",),
        "running": ("sglang:num_running_reqs",),
        "waiting": ("sglang:num_queue_reqs",),
        "kv_cache": ("sglang:token_usage",),
    },
    "llama.cpp": {
        "computed_tokens": ("llamacpp:prompt_tokens",),  # those from the cache are not in it
        "generation_tokens": ("llamacpp:tokens_predicted",),
        "running": ("llamacpp:requests_processing",),
        "waiting": ("llamacpp:requests_deferred",),
        "kv_cache": ("llamacpp:kv_cache_usage_ratio",),
    },
}
# likewise, without `_bucket`, `_sum`, `_count`; llama.cpp has none
HISTOGRAMS: dict[str, dict[str, str]] = {
    "vllm": {
        "ttft": "vllm:time_to_first_token_seconds",
        "queue": "vllm:request_queue_time_seconds",
        "prefill": "vllm:request_prefill_time_seconds",
        "decode": "vllm:request_decode_time_seconds",
        "itl": "vllm:inter_token_latency_seconds",
        "e2el": "vllm:e2e_request_latency_seconds",
    },
    "sglang": {
        "ttft": "sglang:time_to_first_token_seconds",
        "queue": "sglang:queue_time_seconds",
        "itl": "sglang:inter_token_latency_seconds",
        "e2el": "sglang:e2e_request_latency_seconds",
    },
}
STARTED = "process_start_time_seconds"
GAUGES = ("running", "waiting", "started", "kv_cache")
BY_POSITION = ("accepted_at",)  # one for each position in a draft: `accepted_at_0`, ...
AVERAGED = ("kv_cache",)  # a share: of several engines it is their mean, not their sum
ONWARDS = ("prompt_tokens", "generation_tokens", "computed_tokens")  # what a server that goes on never takes back


def engine_in(text: str) -> str | None:
    """The engine whose names are in a text of /metrics; None for one that is not known."""
    for engine, names in COUNTERS.items():
        prefix = next(iter(names.values()))[0].partition(":")[0]
        if f"{prefix}:" in text:
            return engine
    return None


def wanted_of(engine: str | None) -> dict[str, str]:
    """The engine's names of what is read → ours; a part of a histogram is `NAME/bucket`, `NAME/sum`, `NAME/count`."""
    wanted = {STARTED: "started"}
    for key, names in COUNTERS.get(engine or "", {}).items():
        wanted |= {name + end: key for name in names for end in ("", "_total")}
    for key, name in HISTOGRAMS.get(engine or "", {}).items():
        wanted |= {f"{name}_{part}": f"{key}/{part}" for part in ("bucket", "sum", "count")}
    return wanted
