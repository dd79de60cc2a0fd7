"""What the server counts of itself: its /metrics, read before and after a run.

A server without them is no error; what it does not count is not checked, and the result says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bench_tests.server.client import get
from bench_tests.server.served import Endpoint

__all__ = ["Metrics", "parse_metrics", "read_metrics", "several_servers"]

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
    },
    "sglang": {
        "prompt_tokens": ("sglang:prompt_tokens",),
        "generation_tokens": ("sglang:generation_tokens",),
        "all_hits": ("sglang:cached_tokens",),
        "succeeded": ("sglang:num_requests",),
        "preemptions": ("sglang:num_retracted_requests",),
        "running": ("sglang:num_running_reqs",),
        "waiting": ("sglang:num_queue_reqs",),
    },
    "llama.cpp": {
        "computed_tokens": ("llamacpp:prompt_tokens",),  # those from the cache are not in it
        "generation_tokens": ("llamacpp:tokens_predicted",),
        "running": ("llamacpp:requests_processing",),
        "waiting": ("llamacpp:requests_deferred",),
    },
}
STARTED = "process_start_time_seconds"
TTFT_BUCKET = "vllm:time_to_first_token_seconds_bucket"
GAUGES = ("running", "waiting", "started")
ONWARDS = ("prompt_tokens", "generation_tokens", "computed_tokens")  # what a server that goes on never takes back
SAME_START_S = 0.02  # replicas that were started together still differ by more; one process says the same each time
READINGS = 6  # of a server that may be several: two behind a fair coin are missed once in 32


@dataclass(frozen=True)
class Metrics:
    """One reading. `ttft_buckets` maps an upper bound in seconds to the requests at or below it; `missing` says in words
    why there is nothing in it, or what in it could not be read.
    """

    values: dict[str, float] = field(default_factory=dict)
    ttft_buckets: dict[float, float] = field(default_factory=dict)
    missing: str = ""

    def since(self, before: Metrics) -> Metrics:
        """What has been counted since an earlier reading; gauges and start times keep their latest value.

        Nothing is known of the time between where one of the two readings did not come.
        """
        if not (self.values and before.values):
            return Metrics(missing=before.missing or self.missing)
        values = {  # a counter appears with its first event: one that was not there was 0
            name: value if name in GAUGES else value - before.values.get(name, 0.0)
            for name, value in self.values.items()
        }
        buckets = {bound: count - before.ttft_buckets.get(bound, 0.0) for bound, count in self.ttft_buckets.items()}
        return Metrics(values, buckets, self.missing)

    def changes(self, before: Metrics, apart_s: float = 1.0) -> list[str]:
        """What says that this is another server than before, in words; empty when nothing does.

        Start times that are less than `apart_s` apart are one: some servers say theirs rounded, or from several processes.
        """
        said: list[str] = []
        if not self.values:  # a reading that did not come says nothing
            return said
        started, earlier = self.values.get("started"), before.values.get("started")
        if started is not None and earlier is not None and abs(started - earlier) > apart_s:
            said.append("it was restarted (its process start time is another)")
        backwards = [name for name in ONWARDS if self.values.get(name, 0) < before.values.get(name, 0)]
        if backwards and not said:
            said.append(f"it was restarted (its count of {' and '.join(backwards)} went back)")
        return said


async def read_metrics(endpoint: Endpoint, model: str) -> Metrics:
    """The server's counters for `model`; empty, and why, where it has none. Never raises for what it says."""
    answer = await get(endpoint, "/metrics", 5.0)
    if answer is None:
        return Metrics(missing="the server does not answer /metrics")
    if answer.status != 200:
        return Metrics(missing=f"the server has no /metrics (HTTP {answer.status})")
    return parse_metrics(answer.body, model)


async def several_servers(endpoint: Endpoint, model: str, seen: Metrics | None = None) -> str:
    """Whether several servers answer at this URL by turns, in words; "" where nothing says so.

    Readings in a row come from connections of their own: of one server the start time stays and the counters grow. After
    a run, `seen` is its last reading: a server that was restarted in the middle does not become the old one again.
    """
    readings = [] if seen is None else [seen]
    for _ in range(READINGS):
        readings.append(await read_metrics(endpoint, model))
        if not readings[-1].values:
            break
        if len(readings) > 1 and readings[-1].changes(readings[-2], SAME_START_S):
            return "several servers answer here by turns: their counters are not used"
    return ""


def parse_metrics(said: bytes, model: str) -> Metrics:
    """The counters for `model` in a text of Prometheus' format; empty, and why, where there are none. Never raises.

    A server that serves the model by several names, or with adapters, labels its counters with the first: where all
    of them carry one name, that is the one.
    """
    text = said.decode("utf-8", "replace")
    engine = next((name for name in COUNTERS if f"{_prefix(name)}:" in text), None)
    wanted = {STARTED: "started", TTFT_BUCKET: "bucket"}
    for key, names in COUNTERS.get(engine or "", {}).items():
        wanted |= {name + end: key for name in names for end in ("", "_total")}
    found: list[tuple[str, dict[str, str], float]] = []
    odd: list[str] = []
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name not in wanted:
            continue
        sample = _sample(line)
        if sample is None:
            odd.append(name)
        else:
            found.append((wanted[name], *sample))
    labels = {said["model_name"] for _, said, _ in found if "model_name" in said}
    label = model if model in labels else next(iter(labels)) if len(labels) == 1 else None
    values: dict[str, float] = {}
    buckets: dict[float, float] = {}
    for key, of, value in found:
        if of.get("model_name", label) != label:
            continue
        if key == "bucket":
            bound = _number(of.get("le", ""))
            buckets[bound] = buckets.get(bound, 0.0) + value
        else:
            values[key] = values.get(key, 0.0) + value if key != "started" else value
    for name in odd:  # half a sum would be a wrong figure
        values.pop(wanted[name], None)
    _add_cached(values, odd_hits=any("hits" in wanted[name] for name in odd))
    return Metrics(values, buckets, _missing(engine, labels, label, odd, model))


def _prefix(engine: str) -> str:
    return next(iter(COUNTERS[engine].values()))[0].partition(":")[0]


def _sample(line: str) -> tuple[dict[str, str], float] | None:
    """The labels and the value of a line; None for one that is not in the format, or no finite number."""
    from prometheus_client.parser import text_string_to_metric_families  # only where a server has them

    line = line.partition(" # {")[0]  # an exemplar, which the older format does not have
    try:
        samples = [s for family in text_string_to_metric_families(line + "\n") for s in family.samples]
        value = float(samples[0].value)
        return (dict(samples[0].labels), value) if abs(value) < float("inf") else None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _add_cached(values: dict[str, float], odd_hits: bool) -> None:
    """`cached_tokens`: all prompt tokens from any cache. Formula: max(all hits, own hits + external hits)."""
    parts = [values.pop(name, None) for name in ("all_hits", "own_hits", "external_hits")]
    if odd_hits or all(part is None for part in parts):
        return
    every, own, external = (part or 0.0 for part in parts)
    values["cached_tokens"] = max(every, own + external)


def _missing(engine: str | None, labels: set[str], label: str | None, odd: list[str], model: str) -> str:
    if engine is None:
        return "the server's /metrics has no counters of an engine that is known"
    if labels and label is None:
        return f"the server's counters are of {len(labels)} models, none of them named {model}"
    return f"lines of /metrics cannot be read: {', '.join(dict.fromkeys(odd))}" if odd else ""
