"""What a profile can say of its server: how it is started, in which container and job, and how the simulated one is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bench_tests.sweep.keys import flag, key, list_of, maybe, number, table, text, whole
from bench_tests.sweep.units import parse_duration_s

__all__ = ["Container", "Server", "Sim", "Slurm"]


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
    step_ms: float = key(number(0, above=True), 4.0, "a decode step's fixed part")
    step_per_seq_us: float = key(number(0), 20.0, "a decode step's part per running sequence")
    step_per_ktoken_us: float = key(number(0), 2.0, "a decode step's part per 1,000 tokens of context")
    faults: tuple[str, ...] = key(list_of(text), (), "fault switches of the simulated server, NAME[:PROBABILITY[:ARG]]")
