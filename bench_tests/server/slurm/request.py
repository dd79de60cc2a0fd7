"""What is asked from Slurm for a profile's server: sbatch's options, the script and its arguments."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from bench_tests.errors import UsageError
from bench_tests.paths import CHECKOUT, PACKAGE, ROOT
from bench_tests.sweep.profile import Profile

__all__ = [
    "CPUS_PER_GPU",
    "SERVE_SCRIPT",
    "gpus_per_node",
    "job_environment",
    "profile_argument",
    "profile_arguments",
    "sbatch_options",
]

SERVE_SCRIPT = ROOT / "slurm" / "serve.sh" if CHECKOUT else PACKAGE / "server" / "slurm" / "serve.sh"
CPUS_PER_GPU = 4  # below it an engine's own processes wait for each other
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # the rest of SLURM_* belongs to the job that we run in, if any


def gpus_per_node(profile: Profile) -> int:
    """GPUs on each node. Formula: server.gpus_per_node, or ceil(TP × DP × PP / nodes) where it is -1."""
    asked = profile.server.gpus_per_node
    return asked if asked >= 0 else -(-profile.gpus // profile.server.nodes)


def sbatch_options(profile: Profile) -> list[str]:
    """sbatch's options for the profile's server job. Raises UsageError for one that a shell would take apart."""
    server, slurm, gpus = profile.server, profile.slurm, gpus_per_node(profile)
    options = [f"--job-name=serve-{profile.label}", f"--nodes={server.nodes}"]
    # 0 must be said too: the script's own header asks for GPUs
    options += ["--gpus-per-node=0", f"--gres={slurm.gres}"] if slurm.gres else [f"--gpus-per-node={gpus}"]
    options += [f"--mem={slurm.memory}", f"--time={slurm.time}"]
    options += [f"--cpus-per-task={slurm.cpus}"] if slurm.cpus else []
    options += [f"--partition={slurm.partition}"] if slurm.partition else []
    options += [f"--account={slurm.account}"] if slurm.account else []
    options += slurm.extra
    for option in options:
        if any(c.isspace() or c in "*?[\"'\\$`;&|<>" for c in option):
            raise UsageError(
                f"{profile.source} slurm: {option!r} holds blanks or a shell's signs; write it without them"
            )
    return options


def profile_argument(profile: Profile) -> str:
    """How a job names the profile: its name, or its file's full path."""
    name = profile.source.removeprefix("profile ")
    # not resolved: the name of a profile, and of its results, is that of the link
    return name if name != profile.source else str(Path(profile.source).absolute())


def profile_arguments(profile: Profile) -> list[str]:
    """The same, with the configuration where the profile is of one."""
    return [profile_argument(profile), *(["--config", profile.config.name] if profile.config else [])]


def job_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a submitted job gets of our environment: no key, and nothing of the job that we may run in ourselves."""
    dropped = ("OPENAI_API_KEY", "VLLM_API_KEY", "PYTEST_CURRENT_TEST")
    return {
        name: value
        for name, value in environ.items()
        if name not in dropped and (not name.startswith("SLURM_") or name in _KEPT)
    } | {"BENCH_ROOT": str(ROOT), "BENCH_PYTHON": sys.executable}
