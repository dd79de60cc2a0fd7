"""What the server counts of itself: its /metrics, read before and after a run.

A server without them is no error; what it does not count is not checked, and the result says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from bench_tests.server.client import get
from bench_tests.server.metric_names import AVERAGED, BY_POSITION, GAUGES, ONWARDS, engine_in, wanted_of
from bench_tests.server.served import Endpoint

__all__ = ["Histogram", "Metrics", "merged", "parse_metrics", "read_metrics", "several_servers"]

SAME_START_S = 0.02  # replicas that were started together still differ by more; one process says the same each time
READINGS = 6  # of a server that may be several: two behind a fair coin are missed once in 32


@dataclass(frozen=True)
class Histogram:
    """What a server has put into one of its histograms: how many, their sum in seconds, how many up to each bound."""

    count: float = 0.0
    sum_s: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)

    def since(self, before: Histogram) -> Histogram:
        """What has come since an earlier reading."""
        buckets = {bound: count - before.buckets.get(bound, 0.0) for bound, count in self.buckets.items()}
        return Histogram(self.count - before.count, self.sum_s - before.sum_s, buckets)

    @property
    def mean_s(self) -> float | None:
        """The exact mean, seconds; None of nothing. Formula: sum / count."""
        return self.sum_s / self.count if self.count > 0 else None

    def between(self, quantile: float) -> tuple[float, float] | None:
        """The two bounds between which a quantile (0 to 1, numpy's linear one) lies, seconds; no more is known of it.

        The upper one may be infinite. None of nothing.
        """
        bounds = sorted(self.buckets)
        if self.count < 1 or not bounds:
            return None
        place = (self.count - 1) * quantile  # between the values of these ranks, from 0
        low = next((i for i, bound in enumerate(bounds) if self.buckets[bound] > int(place)), len(bounds) - 1)
        above = int(place) + (place > int(place))
        high = next((i for i, bound in enumerate(bounds) if self.buckets[bound] > above), len(bounds) - 1)
        return (bounds[low - 1] if low else 0.0, bounds[high])


@dataclass(frozen=True)
class Metrics:
    """One reading. `missing` says in words why there is nothing in it, or what in it could not be read."""

    values: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    missing: str = ""

    @property
    def ttft_buckets(self) -> dict[float, float]:
        """An upper bound in seconds → the requests whose TTFT was at or below it."""
        return self.histograms.get("ttft", Histogram()).buckets

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
        histograms = {
            name: found.since(before.histograms.get(name, Histogram())) for name, found in self.histograms.items()
        }
        return Metrics(values, histograms, self.missing)

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


def merged(readings: Sequence[Metrics]) -> Metrics:
    """The readings of several servers as one: counters and requests added up, shares averaged, the latest start.

    Where one of them did not come nothing is known of the whole.
    """
    if len(readings) == 1:
        return readings[0]
    lacking = next((reading for reading in readings if not reading.values), None)
    if lacking is not None or not readings:
        return Metrics(missing=lacking.missing if lacking else "no server's /metrics is read")
    values: dict[str, float] = {}
    for name in dict.fromkeys(name for reading in readings for name in reading.values):
        found = [reading.values[name] for reading in readings if name in reading.values]
        values[name] = max(found) if name == "started" else sum(found) / (len(found) if name in AVERAGED else 1)
    histograms: dict[str, Histogram] = {}
    for name in dict.fromkeys(name for reading in readings for name in reading.histograms):
        parts = [reading.histograms[name] for reading in readings if name in reading.histograms]
        bounds = sorted({bound for part in parts for bound in part.buckets})
        same = all(set(part.buckets) == set(bounds) for part in parts)
        buckets = {bound: sum(part.buckets[bound] for part in parts) for bound in bounds} if same else {}
        histograms[name] = Histogram(sum(part.count for part in parts), sum(part.sum_s for part in parts), buckets)
    return Metrics(values, histograms, "; ".join(dict.fromkeys(r.missing for r in readings if r.missing)))


def parse_metrics(said: bytes, model: str) -> Metrics:
    """The counters for `model` in a text of Prometheus' format; empty, and why, where there are none. Never raises.

    A server that serves the model by several names, or with adapters, labels its counters with the first: where all
    of them carry one name, that is the one.
    """
    text = said.decode("utf-8", "replace")
    engine = engine_in(text)
    wanted = wanted_of(engine)
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
    values: dict[str, list[float]] = {}
    parts: dict[str, dict[float, float]] = {}
    for key, of, value in found:
        if of.get("model_name", label) != label:
            continue
        if key.endswith("/bucket"):
            bound, bounds = _number(of.get("le", "")), parts.setdefault(key, {})
            bounds[bound] = bounds.get(bound, 0.0) + value
        else:
            place = f"_{of.get('position', '')[:4]}" if key in BY_POSITION else ""
            values.setdefault(key + place, []).append(value)
    for name in odd:  # half a sum would be a wrong figure
        values.pop(wanted[name], None)
        parts.pop(wanted[name], None)
    counted = {key: _of_all(key, several) for key, several in values.items()}
    histograms = {
        key: Histogram(counted[f"{key}/count"], counted[f"{key}/sum"], parts.get(f"{key}/bucket", {}))
        for key in (name.removesuffix("/count") for name in counted if name.endswith("/count"))
        if f"{key}/sum" in counted
    }
    counted = {key: value for key, value in counted.items() if "/" not in key}
    _add_cached(counted, odd_hits=any("hits" in wanted[name] for name in odd))
    return Metrics(counted, histograms, _missing(engine, labels, label, odd, model))


def _of_all(key: str, values: Sequence[float]) -> float:
    """The figure of a server with several engines: each has a line of its own."""
    if key == "started":
        return values[-1]
    return sum(values) / len(values) if key in AVERAGED else sum(values)


def _sample(line: str) -> tuple[dict[str, str], float] | None:
    """The labels and the value of a line; None for one that is not in the format, or no finite number."""
    line = line.partition(" # {")[0]  # an exemplar, which the older format does not have
    end = line.rfind("}") + 1 if "{" in line else line.find(" ")
    labels, words = _labels(line[:end]), line[end:].split()
    value = _number(words[0]) if 0 < len(words) < 3 else float("nan")
    return None if labels is None or not abs(value) < float("inf") else (labels, value)


@lru_cache(maxsize=8192)  # a server's lines begin alike each second
def _labels(head: str) -> dict[str, str] | None:
    """The labels in a line's part before its value; None for what is not in the format. Not to be changed."""
    from prometheus_client.parser import text_string_to_metric_families  # only where a server has them

    try:
        samples = [s for family in text_string_to_metric_families(f"{head} 0\n") for s in family.samples]
        return dict(samples[0].labels)
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
