"""What a result says of the server: which one, in which configuration, and how long it took to start."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_tests.server.attach import ServedModel
from bench_tests.server.launch import launch_digest
from bench_tests.server.served import Served
from bench_tests.server.slurm.request import CPUS_PER_GPU
from bench_tests.sweep.profile import Profile
from bench_tests.verdict.validity import Check

__all__ = ["AboutServer", "few_cpus"]


@dataclass
class AboutServer:
    """The server of a session's points, and how their results say it."""

    profile: Profile
    served: Served
    model: ServedModel
    results_dir: Path
    _: KW_ONLY
    run_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}")
    start: int = 0  # which start of a server of ours, from 0

    @property
    def engine(self) -> str:
        return "sim" if self.model.simulated else self.profile.server.engine or self.model.engine or "unknown"

    @property
    def gpus(self) -> int | None:
        """The server's GPUs; None where it was there before and nobody has named them."""
        started = self.served.kind != "attach" or bool(self.served.facts().get("job_id"))
        return self.profile.gpus if started else self.profile.named_gpus

    def server_facts(self) -> dict[str, Any]:
        server = self.profile.server
        return {
            "base_url": self.served.endpoint.base_url,
            "insecure": self.served.endpoint.insecure,
            "engine": self.engine,
            "gpus": self.gpus,
            "tensor_parallel": server.tensor_parallel,
            "data_parallel": server.data_parallel,
            "pipeline_parallel": server.pipeline_parallel,
            **({"expert_parallel": server.tensor_parallel * server.data_parallel} if server.expert_parallel else {}),
            **self.model.as_dict(),
            **self.served.facts(),
            **(
                {}
                if self.served.kind == "attach"
                else {"start": f"{self.run_id}/{self.start + 1}", "launch": launch_digest(self.profile)}
            ),
        }

    def config_facts(self) -> dict[str, Any]:
        """`config`: which of the profile's configurations of the server this is, null where it has none. `start`: how long
        the server took to start, null where it was there before.
        """
        config, took = self.profile.config, getattr(self.served, "start_s", None)
        return {
            "config": {"name": config.name, "settings": dict(config.settings)} if config else None,
            "start": {f"{name}_s": took.get(name) for name in ("load", "compile", "ready")} if took else None,
        }


def few_cpus(server: Mapping[str, Any]) -> list[Check]:
    """A note where the server's job has fewer CPUs than its engine keeps busy: its figures may be those of the CPUs."""
    cpus, gpus = server.get("job_cpus"), server.get("job_gpus")
    if not cpus or not gpus or cpus >= CPUS_PER_GPU * gpus:
        return []
    words = (
        f"the server's job has {cpus} CPUs for {gpus} GPUs: its processes may wait for each other and not for the GPUs; "
        f"expected {CPUS_PER_GPU} a GPU (slurm.cpus)"
    )
    return [Check("server_cpus", True, cpus / gpus, float(CPUS_PER_GPU), "CPUs a GPU", words)]
