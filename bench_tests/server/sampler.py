"""The server's /metrics once a second while a point runs: bytes as they came, with their times; parsed when it is over.

A task of the control plane's event loop, in another process than the timed loop.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from yarl import URL

from bench_tests.errors import UsageError
from bench_tests.server.client import Unreachable, ask
from bench_tests.server.metrics import Metrics, parse_metrics
from bench_tests.server.served import Endpoint
from bench_tests.server.url import split_url
from bench_tests.sweep.serving import Server

__all__ = ["OFF", "Sample", "Sampler", "Source", "sources_of"]

EVERY_S = 1.0
TIMEOUT_S = 5.0
OFF = "the server's /metrics are not read (--server-metrics none)"


@dataclass(frozen=True)
class Source:
    """A /metrics that is read, and whose it is."""

    name: str
    endpoint: Endpoint
    path: str = "/metrics"
    gpus: int = 0


@dataclass(frozen=True)
class Sample:
    """One answer of a source, as it came. Times are Unix times, seconds; `missing` says why there is none."""

    source: str
    asked_s: float
    came_s: float
    packed: bytes = field(default=b"", repr=False)
    missing: str = ""

    @property
    def body(self) -> bytes:
        """The answer's bytes."""
        return zlib.decompress(self.packed) if self.packed else b""

    def read(self, model: str) -> Metrics:
        """What it says of `model`."""
        return Metrics(missing=self.missing) if self.missing else parse_metrics(self.body, model)


def sources_of(server: Server, endpoint: Endpoint) -> tuple[Source, ...]:
    """What is read for a server: the URLs that are named, those of its roles, else its own; none where that is off.

    The server's key and headers go to its own host alone. Raises UsageError for what is no URL.
    """
    if server.metrics == ("none",):
        return ()
    if server.metrics:
        named = [(url.rpartition("//")[2].rstrip("/") or url, url, 0) for url in server.metrics]
    else:
        named = [(role.name, role.metrics, role.gpus) for role in server.role if role.metrics]
    found: list[Source] = []
    for name, url, gpus in named:
        base, query = split_url(url, "--server-metrics" if server.metrics else f"server.role {name} metrics")
        url_of = URL(base)
        own = url_of.host == URL(endpoint.base_url).host
        there = Endpoint(
            str(url_of.origin()), endpoint.api_key if own else None, endpoint.insecure,
            endpoint.extra if own else (), query,
        )  # fmt: skip
        found.append(Source(name, there, url_of.path if url_of.path != "/" else "/metrics", gpus))
    for number, source in enumerate(found):
        if any((source.endpoint.base_url, source.path) == (o.endpoint.base_url, o.path) for o in found[:number]):
            raise UsageError(f"--server-metrics: {source.endpoint.base_url}{source.path} is named twice; keep one")
    return tuple(found) or (Source("server", endpoint),)


class Sampler:
    """Reads all sources at once, once a second, from start() to stop(). A source without metrics is asked at the ends alone."""

    def __init__(self, sources: Sequence[Source], every_s: float = EVERY_S) -> None:
        self.sources = tuple(sources)
        self.rounds: list[tuple[Sample, ...]] = []  # each with a sample of every source, in their order
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """The reading before the load, waited for; then one a second beside it."""
        await self._round()
        if self.rounds and not all(sample.missing for sample in self.rounds[0]):
            self._task = asyncio.create_task(self._go_on())

    def now(self) -> None:
        """Read at once: something begins. Waits for nothing."""
        self._wake.set()

    async def stop(self) -> None:
        """The end of the readings beside the load, and the one after it."""
        await self.cancel()
        await self._round()

    async def cancel(self) -> None:
        """The end, without a further reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _go_on(self) -> None:
        due = time.monotonic() + self._every_s
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), max(0.0, due - time.monotonic()))
            except TimeoutError:
                due += self._every_s
            self._wake.clear()
            await self._round()
            due = max(due, time.monotonic())  # one that took longer than a second is followed by the next at once

    async def _round(self) -> None:
        if self.sources:
            self.rounds.append(tuple(await asyncio.gather(*map(_sample, self.sources))))

    def pack(self) -> bytes:
        """All samples as a .zip: each answer a member SOURCE/UNIX_TIME.txt, and samples.json with a line for each."""
        out = io.BytesIO()
        lines = []
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
            for sample in (sample for samples in self.rounds for sample in samples):
                member = None
                if sample.packed:
                    member = f"{sample.source.replace('/', '_')}/{sample.came_s:.6f}.txt"
                    packed.writestr(member, sample.body)
                lines.append(
                    {
                        "source": sample.source, "asked_unix_s": sample.asked_s, "came_unix_s": sample.came_s,
                        "member": member, "missing": sample.missing,
                    }
                )  # fmt: skip
            packed.writestr("samples.json", json.dumps(lines, indent=1))
        return out.getvalue()


async def _sample(source: Source) -> Sample:
    asked_s = time.time()
    sample = Sample(source.name, asked_s, asked_s)
    whose = "the server" if source.name == "server" else f"{source.name}:"
    try:
        answer = await ask(source.endpoint, "GET", source.path, timeout_s=TIMEOUT_S)
    except Unreachable as why:
        said = "does not answer" if source.name == "server" else f"{source.endpoint.base_url} does not answer"
        return replace(sample, came_s=time.time(), missing=f"{whose} {said} {source.path}: {why}")
    if answer.status != 200:
        return replace(sample, came_s=time.time(), missing=f"{whose} has no {source.path} (HTTP {answer.status})")
    # packed at once: a server's page is 100 kB and a long point has thousands
    return replace(sample, came_s=time.time(), packed=zlib.compress(answer.body or b"\n", 1))
