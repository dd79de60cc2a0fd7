"""From a plan to its requests: which trace or dataset it names, and the prompt and output length of each request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench_tests.errors import UsageError
from bench_tests.load.plan import LoadPlan
from bench_tests.load.workload.content import trace_positions
from bench_tests.load.workload.dataset import Dataset, draw, read_dataset
from bench_tests.load.workload.sessions import load_scripts
from bench_tests.load.workload.trace import Trace
from bench_tests.load.workload.trace_formats import read_trace
from bench_tests.sweep.ramp import parse_ramp
from bench_tests.sweep.sessions import Sessions
from bench_tests.sweep.workload import Workload, window_s

__all__ = [
    "DatasetDraw", "draw_dataset", "facts_of", "lines_of", "load_dataset", "load_trace", "longest_tokens", "mean_rate",
    "request_count", "shareable_tokens", "trace_of", "trace_prompt",
]  # fmt: skip

DEFAULT_OSL = 128  # of a dataset's entry that says no length and has no answer


def load_trace(workload: Workload, seed: int = 0) -> Trace | None:
    """The trace that a workload names, as it is replayed: its window, sped up, its ticks spread. Raises UsageError."""
    if not workload.trace:
        return None
    trace = _read(_path(workload.trace, "--trace"), workload.trace_format)
    if workload.window:
        trace = trace.window(*window_s(workload.window))
    # spread in the trace's own time: the same requests at the same places whatever the speed
    return trace.spread(workload.tick_spread, seed).faster(workload.speed)


def trace_of(plan: LoadPlan) -> Trace | None:
    """The trace of a plan; None where it has none."""
    return load_trace(plan.workload, plan.seed)


def trace_prompt(trace: Trace, plan: LoadPlan, i: int, pool_size: int) -> NDArray[np.int64]:
    """Positions in the pool of request i's prompt; shape (input_tokens,). Each run has its own content: what one run sent
    is still in the cache when the trace is replayed again.
    """
    return trace_positions(trace, i, plan.seed + plan.first_serial, pool_size)


def request_count(workload: Workload) -> int | None:
    """How many requests a workload consists of; None where it has as many as are asked for. Raises UsageError."""
    trace, ramp = load_trace(workload), parse_ramp(workload.ramp)
    return len(trace) if trace is not None else ramp.requests if ramp is not None else None


def mean_rate(workload: Workload, count: int = 0) -> float | None:
    """Requests per second over the first `count` requests of a trace or ramp, 0 for all; None for workloads without
    arrivals of their own. Raises UsageError.

    Of a trace before its ticks are spread, like its other facts: it stands in the settings that two sessions share.
    """
    trace, ramp = load_trace(replace(workload, tick_spread="none")), parse_ramp(workload.ramp)
    if trace is not None:
        part = trace.first(count)
        return len(part) / max(part.span_s, 1e-3)
    if ramp is None:
        return None
    if 0 < count < ramp.requests:
        return count / float(ramp.times_s(np.array([float(count)]))[0])
    return ramp.requests / ramp.span_s


def shareable_tokens(workload: Workload, count: int = 0) -> int:
    """Prompt tokens that the first `count` requests of a trace (0: all) have in common with earlier ones, at most; 0 for
    other workloads.
    """
    trace = load_trace(workload)
    if trace is None or not trace.block:
        return 0
    trace = trace.first(count)
    seen: set[int] = set()
    shared = 0
    for i in range(len(trace)):
        ids = trace.blocks(i).tolist()
        known = next((k for k, one in enumerate(ids) if one not in seen), len(ids))
        shared += min(known * trace.block, int(trace.input_tokens[i]))
        seen.update(ids)
    return shared


def longest_tokens(workload: Workload, sessions: Sessions) -> int | None:
    """The context that the longest request of a trace or of sessions needs; None for other workloads. Raises UsageError."""
    if workload.sessions:
        return max(script.longest() for script in load_scripts(workload.sessions, sessions).scripts)
    trace = load_trace(workload)
    return None if trace is None else int((trace.input_tokens + trace.output_tokens).max())


def facts_of(workload: Workload, sessions: Sessions) -> dict[str, Any]:
    """What a result's settings say of a trace or a dataset: its digest, its shape, never its path. Raises UsageError.

    Of a trace before its ticks are spread: that is drawn from the seed, which differs from session to session.
    """
    if workload.sessions:
        found = load_scripts(workload.sessions, sessions)
        return {"sessions": {"format": found.format, "digest": found.digest, **sessions.shape()}}
    if (trace := load_trace(replace(workload, tick_spread="none"))) is not None:
        return {"trace": trace.facts()}
    if (dataset := load_dataset(workload)) is not None:
        return {"dataset": {"format": dataset.format, "digest": dataset.digest, "entries": len(dataset.entries)}}
    return {}


def lines_of(workload: Workload, sessions: Sessions) -> list[str]:
    """What a person is told of a trace, a dataset or sessions before anything is sent. Raises UsageError."""
    if workload.sessions:
        return [f"sessions: {load_scripts(workload.sessions, sessions).line()}"]
    if (trace := load_trace(workload)) is not None:
        coarse = "; its clock is coarser than its gaps: --tick-spread uniform sends no bursts that nobody sent"
        return [f"trace: {trace.format}, {trace.line()}{coarse * (trace.coarse and workload.tick_spread == 'none')}"]
    dataset = load_dataset(workload)
    return [f"dataset: {dataset.line()}"] if dataset is not None else []


def load_dataset(workload: Workload) -> Dataset | None:
    """The dataset that a workload names. Raises UsageError."""
    return _dataset(_path(workload.dataset, "--dataset")) if workload.dataset else None


@dataclass(frozen=True)
class DatasetDraw:
    """The requests that are drawn from a dataset: texts and messages, their tokens, and the tokens of their answers."""

    texts: Sequence[str]
    messages: Sequence[Sequence[Mapping[str, Any]]]
    isl: Sequence[int]
    osl: Sequence[int]
    entries: Sequence[int]  # which of the file
    fitting: int  # entries within the lengths

    def facts(self, dataset: Dataset) -> dict[str, Any]:
        """What a result says of them."""
        isl, osl = np.array(self.isl), np.array(self.osl)
        return {
            "format": dataset.format,
            "digest": dataset.digest,
            "entries": len(dataset.entries),
            "within_lengths": self.fitting,
            "drawn": len(self.texts),
            "distinct": len(set(self.entries)),
            "mean_isl": float(isl.mean()),
            "mean_osl": float(osl.mean()),
        }


def draw_dataset(
    plan: LoadPlan,
    dataset: Dataset,
    tokens_of: Callable[[list[str]], list[int]],
    rendered: Callable[[Sequence[Mapping[str, Any]]], int] | None = None,
) -> DatasetDraw:
    """The warm-ups and requests of the whole run, in their order; `tokens_of` counts tokens as the server does, `rendered`
    those of messages, where messages are sent.
    """
    workload, count = plan.workload, plan.drawn
    if rendered is None:
        tokens = tokens_of([entry.prompt for entry in dataset.entries])
    else:
        tokens = [rendered(entry.messages) for entry in dataset.entries]
    order, low, high = workload.dataset_order, workload.min_isl, workload.max_isl
    chosen, fitting = draw(dataset, count, plan.seed, order, tokens, low, high, plan.first_serial)
    entries = [dataset.entries[i] for i in chosen]
    if workload.dataset_osl:
        osl = [workload.dataset_osl] * count
    else:
        said = sorted({e.answer for e in entries})
        answers = dict(zip(said, tokens_of(said), strict=True))
        osl = [max(1, e.output_tokens or answers[e.answer] or DEFAULT_OSL) for e in entries]
    texts, messages = [e.prompt for e in entries], [e.messages for e in entries]
    return DatasetDraw(texts, messages, [tokens[i] for i in chosen], osl, chosen, fitting)


def _path(name: str, where: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"{where} {name}: no such file on this host")
    return path


@lru_cache(maxsize=4)
def _read(path: Path, format: str) -> Trace:
    return read_trace(path, format)


@lru_cache(maxsize=4)
def _dataset(path: Path) -> Dataset:
    return read_dataset(path)
