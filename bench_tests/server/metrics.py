"""What the server counts of itself: vLLM's /metrics, read before and after a run.

A server without them is no error; what it does not count is simply not checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from bench_tests.server.client import get
from bench_tests.server.served import Endpoint

__all__ = ["Metrics", "read_metrics"]

COUNTERS = {
    "prompt_tokens": "vllm:prompt_tokens_total",
    "generation_tokens": "vllm:generation_tokens_total",
    "cached_tokens": "vllm:prefix_cache_hits_total",
    "succeeded": "vllm:request_success_total",
    "preemptions": "vllm:num_preemptions_total",
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "started": "process_start_time_seconds",
}
TTFT = "vllm:time_to_first_token_seconds"


@dataclass(frozen=True)
class Metrics:
    """One reading. `ttft_buckets` maps an upper bound in seconds to the requests at or below it."""

    values: dict[str, float] = field(default_factory=dict)
    ttft_buckets: dict[float, float] = field(default_factory=dict)

    def since(self, before: Metrics) -> Metrics:
        """What has been counted since an earlier reading; gauges and start times keep their latest value.

        Nothing is known of the time between where one of the two readings did not come.
        """
        if not (self.values and before.values):
            return Metrics()
        kept = ("running", "waiting", "started")
        values = {  # a counter appears with its first event: one that was not there was 0
            name: value if name in kept else value - before.values.get(name, 0.0) for name, value in self.values.items()
        }
        buckets = {bound: count - before.ttft_buckets.get(bound, 0.0) for bound, count in self.ttft_buckets.items()}
        return Metrics(values, buckets)

    def changes(self, before: Metrics) -> list[str]:
        """What says that this is another server than before, in words; empty when nothing does."""
        said: list[str] = []
        if not self.values:  # a reading that did not come says nothing
            return said
        started, earlier = self.values.get("started"), before.values.get("started")
        if started is not None and earlier is not None and abs(started - earlier) > 1:
            said.append("it was restarted (its process start time is another)")
        backwards = [
            n for n in ("prompt_tokens", "generation_tokens") if self.values.get(n, 0) < before.values.get(n, 0)
        ]
        if backwards and not said:
            said.append(f"it was restarted (its count of {' and '.join(backwards)} went back)")
        return said


async def read_metrics(endpoint: Endpoint, model: str) -> Metrics:
    """The server's counters for `model`; empty where it has none. Never raises for what it says."""
    answer = await get(endpoint, "/metrics")
    return parse_metrics(answer.body, model) if answer is not None and answer.status == 200 else Metrics()


def parse_metrics(said: bytes, model: str) -> Metrics:
    """The counters for `model` in a text of Prometheus' format; empty where it is none. Never raises."""
    from prometheus_client.parser import text_string_to_metric_families  # only where a server has them

    try:
        return _pick(text_string_to_metric_families(said.decode("utf-8", "replace")), model)
    except (ValueError, KeyError, IndexError):
        return Metrics()


def _pick(families: Iterable[object], model: str) -> Metrics:
    wanted = {name: key for key, name in COUNTERS.items()}
    values: dict[str, float] = {}
    buckets: dict[float, float] = {}
    for family in families:
        for sample in family.samples:  # type: ignore[attr-defined]
            if sample.labels.get("model_name", model) != model:
                continue
            if sample.name in wanted:
                key = wanted[sample.name]
                values[key] = values.get(key, 0.0) + sample.value
            elif sample.name == f"{TTFT}_bucket":
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
    return Metrics(values, buckets)
