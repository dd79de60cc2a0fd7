"""What a load process is told: one point's load, complete, as JSON over its standard input. Knows the errors only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["SILENT", "LoadPlan"]

SILENT = "in a row got no answer in time"  # in the words for why a run was given up: the server may be stuck


@dataclass(frozen=True)
class LoadPlan:
    """One run of one point. Counts are of the whole run; a process takes its share by `worker` of `workers`."""

    base_url: str
    model: str
    isl: int
    osl: int
    conc: int
    num_prompts: int
    num_warmups: int
    seed: int
    first_serial: int = 0  # the sweep's running number of this run's first prompt: no two prompts may start alike
    request_rate: float | None = None  # None: as the concurrency allows
    burstiness: float = 1.0
    range_ratio: float = 0.0
    prefix_len: int = 0
    prompt_format: str = "ids"
    tokenizer: str = ""
    vocab_size: int = 32000
    first_id: int = 100
    special_ids: tuple[int, ...] = ()
    ignore_eos: bool = True
    temperature: float = 0.0
    extra_body: dict[str, Any] = field(default_factory=dict)
    insecure: bool = False
    connect_timeout_s: float = 10.0
    first_token_timeout_s: float = 600.0
    between_tokens_timeout_s: float = 120.0
    request_timeout_s: float = 3600.0
    point_timeout_s: float = 6 * 3600.0
    report_values: bool = False  # tell each request's latencies while the run goes on, for a verdict that may end it
    worker: int = 0
    workers: int = 1
    api_key: str | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """One line of JSON. It holds the key: for a pipe, never for a file or an argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LoadPlan:
        data = json.loads(text)
        data["special_ids"] = tuple(data["special_ids"])
        return cls(**data)

    @property
    def streams(self) -> int:
        """How many requests at a time this process carries: its share of the concurrency."""
        return self.conc // self.workers + (self.worker < self.conc % self.workers)

    def share(self, count: int) -> range:
        """Which of `count` requests of the whole run are this process's."""
        return range(self.worker, count, self.workers)
