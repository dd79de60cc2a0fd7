"""The server's side of one point: its own counters before, while and after it ran, held against what this client saw.

TTFT of the client = client and network + the server's front + queue + prefill, each an exact mean of the same requests.
"""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bench_tests.figures import ECONOMY
from bench_tests.load.records import COMPLETED, Records
from bench_tests.load.team import LoadRun, Progress
from bench_tests.server.metrics import Histogram, Metrics, merged
from bench_tests.server.power import PowerMeter, PowerReading
from bench_tests.server.sampler import OFF, Sampler, Source
from bench_tests.verdict.checks.check import Check
from bench_tests.verdict.speculation import speculation
from bench_tests.verdict.spikes import spike_words, spikes

__all__ = ["Reading", "ServerSide", "Story", "tell", "zero_of"]

SERIES = (
    "running", "waiting", "kv_cache", "preemptions", "cached_tokens", "prompt_tokens", "computed_tokens",
    "generation_tokens",
)  # fmt: skip
PERCENTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class Reading:
    """What the counters said between two moments (Unix times, seconds), all sources together."""

    asked_s: float
    came_s: float
    metrics: Metrics
    of: tuple[Metrics, ...] = ()  # of each source


@dataclass(frozen=True)
class Story:
    """What is kept of it: `facts` for the result, `series` for pictures, seconds since the run's zero."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)
    economy: Mapping[str, float | None] = field(default_factory=lambda: dict.fromkeys(ECONOMY))
    power: Mapping[str, Any] = field(default_factory=dict)
    checks: Sequence[Check] = ()

    @property
    def figures(self) -> dict[str, float | None]:
        """The rows of the table of figures."""
        parts = self.facts.get("ttft") or {}
        names = ("server", "client_and_network", *PARTS)
        drafts = self.facts.get("speculation") or {}
        return {
            **{f"mean_ttft_{name}": parts.get(f"{name}_s") for name in names},
            "acceptance_length": drafts.get("acceptance_length"),
            "acceptance_rate": drafts.get("acceptance_rate"),
            **self.economy,
        }

    def save_series(self) -> bytes:
        """The series as the bytes of an .npz file."""
        out = io.BytesIO()
        columns: dict[str, Any] = {name: np.asarray(values, float) for name, values in self.series.items()}
        np.savez_compressed(out, **columns)
        return out.getvalue()


PARTS = ("front", "queue", "prefill")


class ServerSide:
    """Reads a server's /metrics, and the energy of its GPUs where that is asked for, around and beside one load."""

    def __init__(self, sources: Sequence[Source], model: str, meter: PowerMeter | None = None) -> None:
        self.sampler = Sampler(sources)
        self.meter = meter
        self.energy: PowerReading | None = None
        self.model = model
        self.readings: list[Reading] = []

    async def start(self) -> Metrics:
        """The reading before the load."""
        await self.sampler.start()
        if self.meter is not None:
            await self.meter.start()
        return self._read(0)

    def watch(self, show: Callable[[Progress], None] | None) -> Callable[[Progress], None]:
        """`show`, which also has the counters read as the measured part begins."""
        phase = ""

        def see(progress: Progress) -> None:
            nonlocal phase
            if progress.phase != phase:
                phase = progress.phase
                self.sampler.now()
            if show is not None:
                show(progress)

        return see

    async def cancel(self) -> None:
        """No reading beside the load any more; what was started for the energy goes on until stop() where it can."""
        await self.sampler.cancel()

    async def close(self) -> None:
        """The end where there was no load: what was started for the energy ends too."""
        await self.cancel()
        if self.meter is not None:
            await self.meter.cancel()

    def raw(self) -> dict[str, tuple[str, bytes]]:
        """What is kept as it came."""
        found = {"raw": ("metrics.zip", self.sampler.pack())} if len(self.sampler.rounds) > 1 else {}
        if self.energy is not None:
            found["power"] = (f"power.{self.energy.ending}", self.energy.raw)
        return found

    async def stop(self, load: LoadRun) -> Metrics:
        """The reading after the load; all of them are parsed now, when nothing is timed any more."""
        await self.sampler.stop()
        if self.meter is not None:
            ends = load.records.last_s[~np.isnan(load.records.last_s)]
            self.energy = await self.meter.stop(zero_of(load) + float(ends.max()) if len(ends) else 0.0)
        self.readings = await asyncio.to_thread(self._read_all)
        return self._read(-1)

    def _read(self, place: int) -> Metrics:
        if not self.sampler.rounds:
            return Metrics(missing=OFF)
        return merged([sample.read(self.model) for sample in self.sampler.rounds[place]])

    def _read_all(self) -> list[Reading]:
        found = []
        for samples in self.sampler.rounds:
            of = tuple(sample.read(self.model) for sample in samples)
            asked, came = min(s.asked_s for s in samples), max(s.came_s for s in samples)
            found.append(Reading(asked, came, merged(of), of))
        return found


def zero_of(load: LoadRun) -> float:
    """The zero of a run's records as Unix time, seconds; NaN where no load process told it."""
    return min((float(stats["zero_unix_s"]) for stats in load.stats if "zero_unix_s" in stats), default=math.nan)


def tell(side: ServerSide, load: LoadRun, several: str = "", remote: bool = False) -> Story:
    """The story of one run. `several`: why its counters are no witness; `remote`: other hosts' clocks timed the load."""
    readings = [reading for reading in side.readings if reading.metrics.values]
    sources = [f"{source.endpoint.base_url}{source.path}" for source in side.sampler.sources]
    about: dict[str, Any] = {"sources": sources, "samples": len(readings)}
    missing = several or next((r.metrics.missing for r in side.readings if not r.metrics.values), "")
    if several or len(readings) < 2:
        return Story(about | {"missing": missing or OFF})
    zero_s = zero_of(load)
    boundary = None if remote or load.records.continuous else zero_s
    facts = about | _attribution(readings, load.records, boundary) | _tokens(readings, load.records)
    since = [r for r in readings if boundary is not None and r.came_s < boundary] or readings[:1]
    facts |= speculation(readings[-1].metrics.since(since[-1].metrics).values)
    begun = [r for r in readings if not r.asked_s < zero_s]
    facts["peaks"] = {
        name: max((r.metrics.values[name] for r in begun if name in r.metrics.values), default=None)
        for name in ("running", "waiting", "kv_cache")
    }
    names = [source.name for source in side.sampler.sources]
    if len(names) > 1:
        facts["roles"] = {name: _role(readings, place) for place, name in enumerate(names)}
    series = {"t_s": [(r.asked_s + r.came_s) / 2 - zero_s for r in readings]}
    for name in SERIES:
        if name in readings[-1].metrics.values:  # a counter appears with its first event: one that was not there was 0
            series[name] = [r.metrics.values.get(name, 0.0) for r in readings]
    found = spikes(load.records, series)
    return Story(facts | {"spikes": [asdict(one) for one in found], "spike_words": spike_words(found)}, series)


def _attribution(readings: Sequence[Reading], records: Records, zero_s: float | None) -> dict[str, Any]:
    """The parts of the mean TTFT, of the measured requests where a reading lies between them and the warm-up, else of all.

    Formula: client and network = client's mean − server's mean TTFT; front = server's mean TTFT − queue − prefill, all
    means over the same requests, the server's Δsum / Δcount. Source: the engines' histograms.
    """
    last = readings[-1].metrics
    answered = ~np.isnan(records.first_s)
    before = [r for r in readings if zero_s is not None and r.came_s < zero_s]
    choices = [("all", readings[0], answered)]
    if before and before[-1] is not readings[0]:
        choices.insert(0, ("measured", before[-1], answered & records.measured))
    if "ttft" not in last.histograms:
        return {"missing": "the server has no histogram of its TTFT"}
    deltas = [(of, last.since(since.metrics), rows) for of, since, rows in choices]
    same = (choice for choice in deltas if round(choice[1].histograms["ttft"].count) == int(choice[2].sum()))
    of, delta, rows = next(same, deltas[-1])
    counted = delta.histograms["ttft"]
    requests = {"client": int(rows.sum())} | {
        n: round(delta.histograms[n].count) for n in ("ttft", *PARTS[1:]) if n in delta.histograms
    }
    client = float((records.first_s - records.send_s)[rows].mean()) if rows.any() else None
    server = counted.mean_s
    means = {name: found.mean_s for name, found in delta.histograms.items()}
    queue, prefill = means.get("queue"), means.get("prefill")
    front = None if server is None or queue is None or prefill is None else server - queue - prefill
    return {
        "of": of,
        "requests": requests,
        "same_requests": len(set(requests.values())) == 1,
        "ttft": {
            "client_s": client,
            "server_s": server,
            "client_and_network_s": None if client is None or server is None else client - server,
            "front_s": front,
            "queue_s": queue,
            "prefill_s": prefill,
        },
        "means": {f"{name}_s": means[name] for name in ("decode", "itl", "e2el") if name in means},
        "percentiles": {name: _bounds(found) for name, found in delta.histograms.items() if found.buckets},
    }


def _bounds(found: Histogram) -> dict[str, list[float | None] | None]:
    """p50, p90 and p99 as the two bounds that each lies between; None above the last."""
    between = {f"p{q * 100:g}": found.between(q) for q in PERCENTILES}
    return {
        name: None if pair is None else [pair[0], pair[1] if math.isfinite(pair[1]) else None]
        for name, pair in between.items()
    }


def _tokens(readings: Sequence[Reading], records: Records) -> dict[str, Any]:
    """Tokens of the whole run, warm-up included, by the answers' usage and by the server's counters."""
    values = readings[-1].metrics.since(readings[0].metrics).values
    done = records.kind == COMPLETED
    ours = {"prompt": records.input_tokens[done], "generation": records.output_tokens[done]}
    return {
        "tokens": {
            name: {"client": None if (found < 0).any() else int(found.sum()), "server": values.get(f"{name}_tokens")}
            for name, found in ours.items()
        }
    }


def _role(readings: Sequence[Reading], place: int) -> dict[str, Any]:
    """What one of several sources counted."""
    delta = readings[-1].of[place].since(readings[0].of[place])
    names = ("prompt_tokens", "generation_tokens", "cached_tokens", "preemptions", "succeeded")
    found: dict[str, Any] = {name: delta.values[name] for name in names if name in delta.values}
    return found | {f"mean_{name}_s": one.mean_s for name, one in delta.histograms.items() if name in ("ttft", *PARTS)}
