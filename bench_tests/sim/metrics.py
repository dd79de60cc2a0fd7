"""The counters of the simulated server under vLLM's names, in memory that its processes share.

Each process writes its own row and nobody else's, so nothing is locked; a scrape adds the rows up.
"""

from __future__ import annotations

import mmap
import os
import resource
import struct
import time
from bisect import bisect_left, bisect_right

from bench_tests.sim.buckets import FIRST, LATENCY, TOKEN
from bench_tests.sim.spec import SimSpec

__all__ = ["DECODE", "E2EL", "ITL", "PREFILL", "QUEUE", "TPOT", "TRUTH", "TTFT", "Metrics", "Shared"]

_GAUGES = {
    "vllm:num_requests_running": "Number of requests in model execution batches.",
    "vllm:num_requests_waiting": "Number of requests waiting to be processed.",
    "vllm:kv_cache_usage_perc": "KV-cache usage. 1 means 100 percent usage.",
}
_COUNTERS = {
    "vllm:prefix_cache_queries": "Prefix cache queries, in terms of number of queried tokens.",
    "vllm:prefix_cache_hits": "Prefix cache hits, in terms of number of cached tokens.",
    "vllm:num_preemptions": "Cumulative number of preemption from the engine.",
    "vllm:prompt_tokens": "Number of prefill tokens processed.",
    "vllm:prompt_tokens_cached": "Number of cached prompt tokens (local + external).",
    "vllm:generation_tokens": "Number of generation tokens processed.",
}
_SUCCESS = ("stop", "length", "abort", "error", "repetition")
_HISTOGRAMS = (
    ("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", FIRST),
    ("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", TOKEN),
    ("vllm:request_time_per_output_token_seconds", "Histogram of time_per_output_token_seconds per request.", TOKEN),
    ("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", LATENCY),
    ("vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", LATENCY),
    ("vllm:request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", LATENCY),
    ("vllm:request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", LATENCY),
)
TTFT, ITL, TPOT, E2EL, QUEUE, PREFILL, DECODE = range(len(_HISTOGRAMS))

TRUTH = ("requests", "ok", "failed", "events", "tokens", "running", "cpu_s", "max_lag_us")
_NAMES = [*_GAUGES, *_COUNTERS, *(f"success:{reason}" for reason in _SUCCESS), *(f"truth:{name}" for name in TRUTH)]
_AT = {name: i for i, name in enumerate(_NAMES)}
_HISTOGRAM_AT: list[int] = []
_WIDTH = len(_NAMES)
for _, _, _buckets in _HISTOGRAMS:
    _HISTOGRAM_AT.append(_WIDTH)
    _WIDTH += len(_buckets) + 2  # +Inf, sum
_HEADER = 8  # doubles: start time, dead since, faults' version, exit after, restarted, and room
_FAULT_BYTES = 16384


class Shared:
    """Memory that all processes of one simulated server see: the metric rows, the faults, whether it is dead."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.map = mmap.mmap(-1, (_HEADER + processes * _WIDTH) * 8 + _FAULT_BYTES)
        self.cells = memoryview(self.map)[: (_HEADER + processes * _WIDTH) * 8].cast("d")
        self._faults_at = (_HEADER + processes * _WIDTH) * 8
        self.start_time_s = time.time()

    @property
    def start_time_s(self) -> float:
        """process_start_time_seconds (Unix time)."""
        return self.cells[0]

    @start_time_s.setter
    def start_time_s(self, value: float) -> None:
        self.cells[0] = value

    @property
    def dead_since(self) -> float:
        """time.monotonic() of the engine's death, 0 while it lives."""
        return self.cells[1]

    @dead_since.setter
    def dead_since(self, value: float) -> None:
        self.cells[1] = value

    @property
    def faults_version(self) -> int:
        """Changes whenever the faults were set."""
        return int(self.cells[2])

    def set_faults(self, text: str) -> None:
        """Store the faults (JSON) for all processes. Raises ValueError when there are too many."""
        data = text.encode()
        if len(data) > _FAULT_BYTES - 4:
            raise ValueError(f"faults: {len(data)} bytes, at most {_FAULT_BYTES - 4}")
        struct.pack_into("I", self.map, self._faults_at, len(data))
        self.map[self._faults_at + 4 : self._faults_at + 4 + len(data)] = data
        self.cells[2] += 1

    def get_faults(self) -> str:
        """What set_faults stored."""
        (size,) = struct.unpack_from("I", self.map, self._faults_at)
        return bytes(self.map[self._faults_at + 4 : self._faults_at + 4 + size]).decode() or "[]"

    @property
    def exit_after_s(self) -> float:
        """Seconds from the engine's death to the processes' exit."""
        return self.cells[3]

    @exit_after_s.setter
    def exit_after_s(self, value: float) -> None:
        self.cells[3] = value

    @property
    def restarted(self) -> bool:
        """Whether the fault `restart` has struck."""
        return bool(self.cells[4])

    @restarted.setter
    def restarted(self, value: bool) -> None:
        self.cells[4] = float(value)

    def clear_metrics(self) -> None:
        """All counters to zero, as in a server that was started again."""
        for i in range(_HEADER, _HEADER + self.processes * _WIDTH):
            self.cells[i] = 0.0


class Metrics:
    """One process's row, and the sum of all rows as Prometheus text."""

    def __init__(self, spec: SimSpec, shared: Shared, index: int) -> None:
        self._spec = spec
        self._shared = shared
        begin = _HEADER + index * _WIDTH
        self._row = shared.cells[begin : begin + _WIDTH]

    def add(self, name: str, value: float) -> None:
        """Count, for example add("vllm:prompt_tokens", 1024)."""
        self._row[_AT[name]] += value

    def set(self, name: str, value: float) -> None:
        """Set a gauge of this process."""
        self._row[_AT[name]] = value

    def peak(self, name: str, value: float) -> None:
        """Keep the largest value of this process."""
        at = _AT[name]
        if value > self._row[at]:
            self._row[at] = value

    def truth(self) -> dict[str, float]:
        """The sums of all processes, the largest lag of all; forgets the lag."""
        cells = self._shared.cells
        out: dict[str, float] = {}
        for name in TRUTH:
            at = [_HEADER + r * _WIDTH + _AT[f"truth:{name}"] for r in range(self._shared.processes)]
            total = sum(cells[i] for i in at)
            out[name] = total if name == "cpu_s" else int(total)
            if name == "max_lag_us":
                out[name] = max(cells[i] for i in at)
                for i in at:
                    cells[i] = 0.0
        return out

    def end(self, reason: str) -> None:
        """Count a finished request: stop, length, abort or error."""
        self._row[_AT[f"success:{reason}"]] += 1

    def observe(self, which: int, seconds: float, times: int = 1) -> None:
        """Put a value into the histogram TTFT, ITL, TPOT, E2EL, QUEUE, PREFILL or DECODE."""
        at, buckets = _HISTOGRAM_AT[which], _HISTOGRAMS[which][2]
        self._row[at + bisect_left(buckets, seconds)] += times
        self._row[at + len(buckets) + 1] += seconds * times

    def observe_all(self, which: int, seconds: list[float]) -> None:
        """Put many values into a histogram, cheaper than one by one."""
        at, buckets = _HISTOGRAM_AT[which], _HISTOGRAMS[which][2]
        seconds.sort()
        below = 0
        for i, edge in enumerate(buckets):
            upto = bisect_right(seconds, edge)
            if upto > below:
                self._row[at + i] += upto - below
                below = upto
            if below == len(seconds):
                break
        self._row[at + len(buckets)] += len(seconds) - below
        self._row[at + len(buckets) + 1] += sum(seconds)

    def render(self, model: str) -> str:
        """All of them in vLLM's words and order; `model` labels them."""
        cells, rows = self._shared.cells, self._shared.processes
        total = [sum(cells[_HEADER + r * _WIDTH + i] for r in range(rows)) for i in range(_WIDTH)]
        total[_AT["vllm:kv_cache_usage_perc"]] /= rows
        label = f'engine="0",model_name="{model}"'
        out: list[str] = []

        def family(name: str, kind: str, text: str) -> None:
            out.append(f"# HELP {name} {text}\n# TYPE {name} {kind}\n")

        start = self._shared.start_time_s
        usage = resource.getrusage(resource.RUSAGE_SELF)
        for name, kind, text, value in (
            ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", usage.ru_maxrss * 1024.0),
            ("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", start),
            ("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
             usage.ru_utime + usage.ru_stime),
            ("process_open_fds", "gauge", "Number of open file descriptors.", float(len(os.listdir("/proc/self/fd")))),
        ):  # fmt: skip
            family(name, kind, text)
            out.append(f"{name} {value!r}\n")
        family("bench_tests_simulated", "gauge", "1: this is a simulated server, no model runs here.")
        out.append(f'bench_tests_simulated{{version="{self._spec.version}"}} 1.0\n')
        for name, text in _GAUGES.items():
            family(name, "gauge", text)
            out.append(f"{name}{{{label}}} {total[_AT[name]]!r}\n")
        for name, text in _COUNTERS.items():
            family(f"{name}_total", "counter", text)
            out.append(f"{name}_total{{{label}}} {total[_AT[name]]!r}\n")
            family(f"{name}_created", "gauge", text)
            out.append(f"{name}_created{{{label}}} {start!r}\n")
        text = "Count of successfully processed requests."
        family("vllm:request_success_total", "counter", text)
        for reason in _SUCCESS:
            value = total[_AT[f"success:{reason}"]]
            out.append(
                f'vllm:request_success_total{{engine="0",finished_reason="{reason}",model_name="{model}"}} {value!r}\n'
            )
        for at, (name, text, buckets) in zip(_HISTOGRAM_AT, _HISTOGRAMS, strict=True):
            family(name, "histogram", text)
            running = 0.0
            for i, edge in enumerate([*map(str, buckets), "+Inf"]):
                running += total[at + i]
                out.append(f'{name}_bucket{{engine="0",le="{edge}",model_name="{model}"}} {running!r}\n')
            out.append(f"{name}_count{{{label}}} {running!r}\n{name}_sum{{{label}}} {total[at + len(buckets) + 1]!r}\n")
            family(f"{name}_created", "gauge", text)
            out.append(f"{name}_created{{{label}}} {start!r}\n")
        spec = self._spec
        family("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig")
        out.append(
            f'vllm:cache_config_info{{block_size="16",cache_dtype="auto",enable_prefix_caching="{spec.prefix_caching}",'
            f'engine="0",kv_cache_size_tokens="{spec.kv_cache_tokens}",'
            f'num_gpu_blocks="{spec.kv_cache_tokens // 16}"}} 1.0\n'
        )
        return "".join(out)
