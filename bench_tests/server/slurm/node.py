"""What a server's job finds on its node and makes there: its folders, its GPUs and CPUs, its name. And what is missing.

The same is asked before sbatch, on the host of submission: what is missing must not be told after hours in the queue.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shlex
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench_tests.errors import ServerError, UsageError
from bench_tests.paths import workspace
from bench_tests.server.command import expand, serve_command
from bench_tests.server.slurm.request import CPUS_PER_GPU, gpus_per_node, profile_argument
from bench_tests.server.slurm.step import Head, as_step, is_step, on_each
from bench_tests.sweep.profile import Profile

__all__ = [
    "cpu_warning",
    "make_folders",
    "must_be_submittable",
    "must_have_gpus",
    "reachable_address",
    "reachable_name",
    "with_defaults",
]

_ANY_HOSTS_OWN = re.compile(r"localhost\b|ip6-|127\.|\[?::1")  # a name or an address that each host has for itself
_MADE = ("RESULTS_DIR", "LOGS_DIR", "CACHE_DIR")


def with_defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with the folders that profiles mount, and without the keys of other servers.

    The weights have no default: a terabyte must not land just anywhere.
    """
    folder = environ.get("WORKSPACE") or str(workspace())
    kept = {name: value for name, value in environ.items() if name not in ("OPENAI_API_KEY", "VLLM_API_KEY")}
    return {
        **kept,
        "WORKSPACE": folder,
        "RESULTS_DIR": environ.get("RESULTS_DIR") or f"{folder}/results",
        "LOGS_DIR": environ.get("LOGS_DIR") or f"{folder}/logs",
        "CACHE_DIR": environ.get("CACHE_DIR") or f"{folder}/cache",
    }


class _Submitting(dict[str, str]):
    """An environment in which what only the job will have, SLURM_*, counts as set."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or str(name).startswith("SLURM_")

    def __missing__(self, name: str) -> str:
        if name.startswith("SLURM_"):
            return name
        raise KeyError(name)


def must_be_submittable(profile: Profile, environ: Mapping[str, str]) -> list[str]:
    """Build what the job will run, as far as that can be done here. What looks wrong, and may be right on the node.

    Raises UsageError for an unset $VARIABLE, an empty folder of weights, or an engine that cannot span nodes.
    """
    told = _Submitting(with_defaults(environ))
    contained = bool(profile.container.image)
    command = serve_command(profile, host="0.0.0.0", port=0, api_key=None, environ=told)
    command = on_each(command, profile, told, Head("head", 0, "192.0.2.1"), contained=contained)
    if is_step(profile, contained):
        as_step(command, profile, told, contained=contained)
    return list(_doubts(profile, told, contained))


def _doubts(profile: Profile, environ: Mapping[str, str], contained: bool) -> Iterator[str]:
    if not contained:
        return
    where = profile.source
    for mount in profile.container.mounts:
        source = expand(mount, environ, f"{where} container.mounts").partition(":")[0]
        made = [environ[name] for name in _MADE]
        if source and source not in made and not os.path.exists(source):
            yield f"{source} (container.mounts) is not there on this host; a node that lacks it too does not start the container"
    caches = {*profile.server.env, *profile.container.env}
    if (
        not profile.server.download_dir
        and not caches & {"HF_HOME", "HF_HUB_CACHE"}
        and profile.model.id[:1] not in "/."
    ):
        yield (
            f"{where} has neither server.download_dir nor HF_HOME: what the container downloads goes to its own home, "
            "which is read-only by enroot's defaults, or thrown away with the job"
        )
    named = [option for option in profile.container.extra if option.startswith("--container-name")]
    if named:
        yield f"{named[0]}: where a node has a container of that name, it is used as it is, whatever container.image says"


def make_folders(profile: Profile, environ: Mapping[str, str]) -> None:
    """Make what profiles mount: a container does not start with a mount whose source is missing. Raises UsageError."""
    mounted = "".join(profile.container.mounts)
    for name in _MADE:
        if name == "CACHE_DIR" and name not in mounted:
            continue
        try:
            Path(environ[name]).mkdir(parents=True, exist_ok=True)
        except OSError as why:
            raise UsageError(
                f"${name} {environ[name]!r}: {why.strerror}; expected a folder that can be made and written; "
                f"export {name}=... another one"
            ) from why


def must_have_gpus(profile: Profile, environ: Mapping[str, str]) -> None:
    """Raises UsageError when the job has fewer GPUs on its node than the profile's server takes."""
    have, need = environ.get("SLURM_GPUS_ON_NODE", ""), gpus_per_node(profile)
    if have.isdigit() and int(have) < need:
        named = shlex.quote(profile_argument(profile))
        raise UsageError(
            f"{profile.source}: needs {need} GPUs on a node and the job has {have}; submit it with "
            f"`sbatch $(python3 -m bench_tests.server.slurm options {named}) slurm/serve.sh {named}`"
        )


def cpu_warning(profile: Profile, environ: Mapping[str, str]) -> str | None:
    """What to say where the job has fewer CPUs on its node than its server keeps busy; None where it has enough."""
    text, gpus = environ.get("SLURM_CPUS_ON_NODE", ""), gpus_per_node(profile)
    if not text.isdigit() or int(text) >= CPUS_PER_GPU * gpus:
        return None
    return (
        f"{int(text)} CPUs for {gpus} GPUs: an engine keeps a process busy for each GPU, beside its API server and its "
        f"loop; expected {CPUS_PER_GPU * gpus} (slurm.cpus, or sbatch --cpus-per-task={CPUS_PER_GPU * gpus}): what is "
        "measured may be the CPUs"
    )


def reachable_name(environ: Mapping[str, str]) -> str:
    """A name of this host that resolves, else its address towards other hosts: never one that means any host's own.

    Raises ServerError where there is neither.
    """
    names = [environ.get("SLURMD_NODENAME", ""), socket.gethostname(), socket.getfqdn()]
    names = [name for name in names if name and not _ANY_HOSTS_OWN.match(name)]
    for name in names:
        try:
            socket.getaddrinfo(name, None)
            return name
        except OSError:
            continue
    if address := _routed_address():
        return f"[{address}]" if ":" in address else address
    raise ServerError(
        f"{', '.join(dict.fromkeys(names)) or 'this host'}: the name does not resolve and there is no route to other hosts, so "
        "no session elsewhere could find the server; see /etc/hosts and `ip route`"
    )


def reachable_address(name: str) -> str:
    """The address of this host, known by `name`, where other hosts reach it; the name itself where none is known."""
    with contextlib.suppress(OSError):
        for _, _, _, _, place in socket.getaddrinfo(name.strip("[]"), None, type=socket.SOCK_STREAM):
            if not ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback:
                return str(place[0])
    return _routed_address() or name


def _routed_address() -> str:
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # addresses of examples
        with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect((elsewhere, 9))  # sends nothing: it asks the routing table which address would be used
            address = str(probe.getsockname()[0])
            if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
                return address
    return ""
