"""What a load process is told: one point's load, complete, as JSON over its standard input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from bench_tests.sweep.sessions import Sessions
from bench_tests.sweep.settings import Load, Model, Timeouts
from bench_tests.sweep.workload import Workload

__all__ = ["LoadPlan"]

UNCAPPED_STREAMS = 32  # connections that an open loop without a cap begins with; it opens more as it needs them


@dataclass(frozen=True)
class LoadPlan:
    """One run of one point. Counts are of the whole run; a process takes its share by `worker` of `workers`.

    The profile's tables come along as they are: a further key of [load] is there for the worker without more ado. What
    this plan says itself (counts, seed, the served model's name as `model.id`, its rate as `load.request_rate`) is settled, and overrides the tables' own.
    """

    base_url: str
    isl: int
    osl: int
    conc: int  # requests at a time; 0: no cap
    num_prompts: int
    num_warmups: int
    seed: int
    model: Model = field(default_factory=Model)  # id: as the server serves it
    load: Load = field(default_factory=Load)
    workload: Workload = field(default_factory=Workload)
    timeouts: Timeouts = field(default_factory=Timeouts)
    sessions: Sessions = field(default_factory=Sessions)
    users: int = 0  # that have sessions; their number is the concurrency then
    token_ids: bool = False  # the server gives the token ids of its answers, when it is asked
    template_adds: int = 0  # tokens that the server's chat template adds to each prompt, as it was measured
    first_serial: int = 0  # the sweep's running number of this run's first prompt: no two prompts may start alike
    salt: int = 0  # other tokens in prompts of the same lengths
    insecure: bool = False
    report_values: bool = False  # tell each request's latencies while the run goes on, for a verdict that may end it
    worker: int = 0
    workers: int = 1
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # of each request, the key's among them
    query: str = field(default="", repr=False)  # what each URL ends with
    secrets: tuple[str, ...] = field(default=(), repr=False)  # what is taken out of all that is kept

    def to_json(self) -> str:
        """One line of JSON. It holds the key: for a pipe, never for a file or an argument."""
        data = asdict(self)
        data["load"].pop("metadata")  # a TOML file's dates are in it, and no process needs it
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> LoadPlan:
        data = json.loads(text)
        tables = {"model": Model, "load": Load, "workload": Workload, "timeouts": Timeouts, "sessions": Sessions}
        built = {name: kind(**{k: _hashable(v) for k, v in data[name].items()}) for name, kind in tables.items()}
        return cls(**data | built | {"secrets": tuple(data["secrets"])})

    @property
    def vocab_size(self) -> int:
        """Token ids are drawn below this."""
        return self.model.vocab_size or 32000

    @property
    def capped(self) -> bool:
        """Whether the concurrency limits how many requests are in flight."""
        return self.conc > 0

    @property
    def filling(self) -> int:
        """Requests of a staggered start that keep the loop full before, beside and behind the measured ones; else 0."""
        return self.load.filling(self.conc) if self.workload.closed_loop else 0

    @property
    def drawn(self) -> int:
        """All prompts of the run."""
        return self.num_warmups + self.num_prompts + self.filling

    @property
    def streams(self) -> int:
        """How many requests at a time this process carries: its share of the concurrency; a few to begin with, without a cap."""
        if not self.capped:
            return UNCAPPED_STREAMS
        return self.conc // self.workers + (self.worker < self.conc % self.workers)

    def share(self, count: int) -> Sequence[int]:
        """Which of `count` requests of the whole run are this process's: as many as it has streams, so that all
        processes end together. Formula: stream i mod conc, whose process is stream mod workers; without a cap i mod workers.
        """
        if not self.capped:
            return range(self.worker, count, self.workers)
        return [i for i in range(count) if i % self.conc % self.workers == self.worker]


def _hashable(value: object) -> object:
    """JSON has no tuples, and settings have no lists."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
