"""Where the energy of a server's GPUs is read while a point runs: its job's sampler, one of ours, DCGM, nvidia-smi's file."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench_tests.errors import UsageError
from bench_tests.server import power_sampler
from bench_tests.server.power_files import Samples, read_csv, read_dcgm, read_sampler
from bench_tests.server.sampler import Sampler, Source
from bench_tests.server.served import Endpoint, Served
from bench_tests.server.url import split_url
from bench_tests.sweep.cost import Power

__all__ = ["PowerMeter", "PowerReading", "check_power"]

READY_S = 15.0  # for the driver's library to be loaded
LATE_S = 6.0  # that a file on a shared disk may come late
BEFORE = 4096  # bytes of a file before the point that are read too: the samples just before it


def check_power(power: Power) -> None:
    """Raises UsageError for a source that lacks what it needs."""
    if power.source == "dcgm" and not power.urls:
        raise UsageError('power.source = "dcgm" needs power.urls: the exporters, such as ["http://gpu1:9400"]')
    if power.source == "csv" and not power.file:
        raise UsageError(
            'power.source = "csv" needs power.file: what `nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv -l 1` '
            "writes"
        )
    for url in power.urls:
        split_url(url, "power.urls")


@dataclass(frozen=True)
class PowerReading:
    """What a source gave. `read_s`: our clock then; `raw` and its ending: what is kept as it came."""

    samples: Samples
    read_s: float
    raw: bytes = b""
    ending: str = ""


class PowerMeter:
    """Reads one source around one load: start() before it, stop() after it. Never raises for what a source says."""

    def __init__(self, power: Power, served: Served) -> None:
        self.power = power
        self._pattern = ""  # files that others write
        self._sizes: dict[str, int] = {}
        self._own: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._dcgm: Sampler | None = None
        self._missing = ""
        if power.source == "dcgm":
            self._dcgm = Sampler([_exporter(url) for url in power.urls])
        elif power.source == "csv":
            self._pattern = glob.escape(str(Path(power.file).expanduser()))
        elif power.source == "nvml":
            self._find_nvml(served)

    def _find_nvml(self, served: Served) -> None:
        job = served.facts().get("power_file")
        if job:
            self._pattern = glob.escape(str(job)).replace("{host}", "*")
        elif served.facts().get("job_id") or not _here(served):
            self._missing = (
                "the server is on another host, and nothing samples its GPUs there; start it with slurm/serve.sh and "
                'this profile, or use power.source = "dcgm" or "csv"'
            )
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="bench-power-")
            self._pattern = glob.escape(str(Path(self._folder.name, "power.jsonl")))

    async def start(self) -> None:
        """Begin, and wait for the first sample of a sampler of ours."""
        if self._dcgm is not None:
            await self._dcgm.start()
        if self._folder is not None:
            self._own = subprocess.Popen(
                [sys.executable, "-I", power_sampler.__file__, str(Path(self._folder.name, "power.jsonl"))],
                stdin=subprocess.DEVNULL,
            )
            end = time.monotonic() + READY_S
            while self._text().count("\n") < 2 and self._own.poll() is None and time.monotonic() < end:
                await asyncio.sleep(0.05)
        self._sizes = {name: Path(name).stat().st_size for name in glob.glob(self._pattern)} if self._pattern else {}

    async def stop(self, until_s: float) -> PowerReading:
        """The end: samples up to the Unix time `until_s` at least, as far as they come."""
        if self._dcgm is not None:
            await self._dcgm.stop()
            rounds = [sample for samples in self._dcgm.rounds for sample in samples]
            by_source = {sample.source: [(s.came_s, s.body.decode("utf-8", "replace")) for s in rounds
                                         if s.source == sample.source and not s.missing] for sample in rounds}  # fmt: skip
            found = Samples()
            for pages in by_source.values():
                found.take(read_dcgm(pages, self.power.gpus))
            found.problems += list(dict.fromkeys(sample.missing for sample in rounds if sample.missing))
            return PowerReading(found, time.time(), self._dcgm.pack(), "zip")
        end = time.monotonic() + LATE_S
        while True:
            reading = self._read()
            newest = [rows[-1][0] for rows in reading.samples.gpus.values()]
            dead = self._own is not None and self._own.poll() is not None
            dead = dead or bool(reading.samples.problems and not newest)  # it says itself why nothing comes
            if self._missing or dead or (newest and min(newest) >= until_s) or time.monotonic() > end:
                break
            await asyncio.sleep(0.25)
        await self.cancel()
        return reading

    async def cancel(self) -> None:
        """The end of what was started. May be called twice."""
        if self._dcgm is not None:
            await self._dcgm.cancel()
        if self._own is not None:
            self._own.terminate()
            await asyncio.to_thread(self._own.wait)
            self._own = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _read(self) -> PowerReading:
        read_s, found, raw = time.time(), Samples(), b""
        names = sorted(glob.glob(self._pattern)) if self._pattern else []
        for name in names:
            data = _tail(Path(name), self._sizes.get(name, 0))
            raw += data
            text = data.decode("utf-8", "replace")
            found.take((read_csv if self.power.source == "csv" else read_sampler)(text, self.power.gpus))
        if not names:
            found.problems.append(self._missing or f"there is no file {self._pattern}")
        return PowerReading(found, read_s, raw, "csv" if self.power.source == "csv" else "jsonl")

    def _text(self) -> str:
        return "".join(_tail(Path(name), 0).decode("utf-8", "replace") for name in glob.glob(self._pattern))


def _exporter(url: str) -> Source:
    base, query = split_url(url, "power.urls")
    parts = urlsplit(base)
    return Source(url, Endpoint(f"{parts.scheme}://{parts.netloc}", query=query), parts.path or "/metrics")


def _here(served: Served) -> bool:
    """Whether a server is on this host, so that its GPUs are."""
    host = (urlsplit(served.endpoint.base_url).hostname or "").lower()
    return host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname().lower(), socket.getfqdn().lower())


def _tail(path: Path, size: int) -> bytes:
    """A file's first line, and its lines from shortly before byte `size` on; nothing where it cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        begin = max(0, size - BEFORE)
        head = file.readline()
        if begin <= len(head):
            return head + file.read()
        file.seek(begin)
        file.readline()  # a part of one
        return head + file.read()
    return b""
