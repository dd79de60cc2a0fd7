"""What a profile can say of its server: how it is started, in which container and job, and how the simulated one is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.sweep.keys import flag, key, list_of, maybe, number, table, text, whole
from bench_tests.sweep.units import parse_duration_s

__all__ = ["Container", "Role", "Server", "Sim", "Slurm"]

_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Role:
    """A part of a server that counts for itself: a replica, the prefill side, the decode side."""

    name: str
    gpus: int = 0  # 0: not said
    metrics: str = ""  # the URL of its /metrics; "": none is read


def roles(value: object, where: str) -> tuple[Role, ...]:
    """The tables [[server.role]]. Raises UsageError."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise UsageError(f"{where}: {value!r}; expected tables of the form [[server.role]] with name, gpus, metrics")
    checks = {"name": text, "gpus": whole(0), "metrics": maybe}
    found: list[Role] = []
    for number_, entry in enumerate(value, 1):
        here = f"{where} {number_}"
        for unknown in entry.keys() - checks.keys():
            raise UsageError(f"{here}: unknown key {unknown!r}; expected {', '.join(checks)}")
        role = Role(**{"name": "", **{name: checks[name](said, f"{here}.{name}") for name, said in entry.items()}})
        if not _ROLE.fullmatch(role.name):
            raise UsageError(
                f"{here}.name: {role.name!r}; expected letters, digits, '.', '_' and '-' (it names what is kept)"
            )
        if role.name in [other.name for other in found]:
            raise UsageError(f"{here}.name: {role.name!r} is there twice; give each role a name of its own")
        found.append(role)
    return tuple(found)


@dataclass(frozen=True)
class Server:
    engine: str = key(maybe, "", "the engine's name in results; empty: what the server says of itself")
    gpus_per_node: int = key(
        whole(-1), -1, "GPUs asked from Slurm on each node; -1: TP × DP × PP over the nodes; 0: none"
    )
    gpus: int = key(
        whole(0), 0, "all GPUs of the server; 0: TP × DP × PP, where the profile says them or starts the server"
    )
    nodes: int = key(whole(1), 1, "nodes of the server's job")
    tensor_parallel: int = key(whole(1), 1, "TP")
    data_parallel: int = key(whole(1), 1, "DP")
    pipeline_parallel: int = key(whole(1), 1, "PP")
    expert_parallel: bool = key(
        flag, False, "EP: the experts of a MoE lie whole on the GPUs of TP × DP; becomes --enable-expert-parallel"
    )
    serve_command: tuple[str, ...] = key(
        list_of(text, may_be_empty=False),
        ("vllm", "serve"),
        "what serves; the model ({model} puts it elsewhere), its flags, --host and --port follow; {sim} is [sim] as flags",
    )
    serve_args: tuple[str, ...] = key(list_of(text), (), "flags of the serve command")
    download_dir: str = key(maybe, "", "where weights lie; becomes --download-dir")
    node_args: tuple[str, ...] = key(
        list_of(text),
        (),
        "flags on each of several nodes, $SLURM_PROCID being the node's rank; empty: vLLM's own, by nodes, DP and PP",
    )
    worker_args: tuple[str, ...] = key(
        list_of(text), (), "further flags on all nodes but the first, which serves; empty: vLLM's own"
    )
    env: dict[str, Any] = field(default_factory=dict, metadata={"check": table, "doc": "environment of the server"})
    host: str = key(text, "127.0.0.1", "address that a local server listens on")
    port: int = key(whole(0, 65535), 8000, "port; when it is taken, a free one is used")
    startup_timeout: float = key(parse_duration_s, 3600.0, "from start to /health")
    stop_timeout: float = key(parse_duration_s, 30.0, "from TERM to KILL")
    metrics: tuple[str, ...] = key(
        list_of(text, unique=True),
        (),
        'URLs of /metrics, one a replica; empty: the server\'s own; ["none"]: none is read',
    )
    role: tuple[Role, ...] = field(
        default=(),
        metadata={"check": roles, "doc": "parts that count for themselves ([[server.role]] name, gpus, metrics)"},
    )

    @property
    def counts_apart(self) -> bool:
        """Whether each part of the server is asked for its own counters, wherever requests are sent."""
        return bool(self.metrics) or any(role.metrics for role in self.role)


@dataclass(frozen=True)
class Container:
    image: str = key(maybe, "", "pyxis image; empty: no container")
    mounts: tuple[str, ...] = key(list_of(text), (), "pyxis mounts, HOST:CONTAINER; $VARIABLES are expanded")
    env: dict[str, Any] = field(
        default_factory=dict,
        metadata={"check": table, "doc": "environment of the server where it runs in the image; [server.env] wins"},
    )
    writable: bool = key(flag, False, "the image's file system can be written (and is thrown away with the job)")
    entrypoint: bool = key(flag, False, "run the image's entrypoint before the serve command")
    extra: tuple[str, ...] = key(
        list_of(text), (), "further srun options of the container, such as --container-workdir=/tmp"
    )


@dataclass(frozen=True)
class Slurm:
    memory: str = key(text, "16G", "memory of the server's job")
    cpus: int = key(whole(0), 0, "cores on each node of the server's job; 0: the partition's default")
    gres: str = key(
        maybe, "", "GPUs by --gres, such as gpu:h100:8, where the cluster wants them so; instead of --gpus-per-node"
    )
    time: str = key(text, "04:00:00", "time limit of the server's job")
    partition: str = key(maybe, "", "partition; empty: the cluster's default")
    account: str = key(maybe, "", "account; empty: the user's default")
    extra: tuple[str, ...] = key(list_of(text), (), "further sbatch options of the server's job")
    pending_timeout: float = key(parse_duration_s, 24 * 3600.0, "how long a job may be pending")
    return_timeout: float = key(parse_duration_s, 600.0, "how long to wait for a requeued job to serve again")


@dataclass(frozen=True)
class Sim:
    max_model_len: int = key(whole(16), 131072, "context of the simulated model, tokens")
    prefill_tok_per_s: float = key(number(0, above=True), 400000.0, "prefill speed of the simulated engine")
    max_batched_tokens: int = key(whole(16), 8192, "prefill token budget of a step")
    max_num_seqs: int = key(whole(1), 256, "running sequences at most")
    kv_cache_tokens: int = key(whole(16), 2_097_152, "tokens of all contexts together; at least max_model_len")
    preempt: bool = key(
        flag, False, "the KV cache is given out as answers grow; when it is full the youngest is computed again later"
    )
    step_ms: float = key(number(0, above=True), 4.0, "a decode step's fixed part")
    step_per_seq_us: float = key(number(0), 20.0, "a decode step's part per running sequence")
    step_per_ktoken_us: float = key(number(0), 2.0, "a decode step's part per 1,000 tokens of context")
    think_tokens: int = key(whole(0), 0, "tokens of thinking that the simulated model's chat answers begin with")
    faults: tuple[str, ...] = key(list_of(text), (), "fault switches of the simulated server, NAME[:PROBABILITY[:ARG]]")
