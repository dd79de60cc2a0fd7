"""The server as a step of its job: what srun is asked for, in a pyxis image where the profile names one, on all nodes.

srun hands the environment on only as far as it is told to: `sbatch --export=...` limits the steps of its job too, and an
image's own ENV wins over what the job has. So every step gets `--export=ALL`, and what this suite sets is named to pyxis.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from bench_tests.errors import UsageError
from bench_tests.paths import ROOT
from bench_tests.server.command import NODE_VARIABLES, Command, environment, expand
from bench_tests.sweep.profile import Profile

__all__ = ["Head", "as_step", "is_step", "on_each", "over_nodes"]

_LEAKS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
_FIRST_REPLICA = re.compile(r"\$\(\(\d+ \* SLURM_PROCID\)\)")
_ON_NODE = re.compile(r"\$\{(" + "|".join(NODE_VARIABLES) + r")\}")


@dataclass(frozen=True)
class Head:
    """Where the nodes of one server meet: the first one's name and address, and a port on it."""

    host: str
    port: int
    address: str  # not the name: what listens on a name may listen on this host's loopback alone (Debian's 127.0.1.1)


def is_step(profile: Profile, contained: bool) -> bool:
    """The server needs srun: it runs in an image, or on several nodes."""
    return contained or profile.server.nodes > 1


def as_step(command: Command, profile: Profile, environ: Mapping[str, str], *, contained: bool) -> Command:
    """The command as a step on all nodes of the job. Its `env` is complete: what must not reach an image is not in it.

    `command.argv` is one program with its arguments, or a shell's line made by `over_nodes`. Raises UsageError for an unset
    $VARIABLE, and for weights that would be thrown away.
    """
    nodes = profile.server.nodes
    argv = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--unbuffered", "--export=ALL"]
    if nodes > 1:
        argv += ["--label", "--kill-on-bad-exit=1", "--wait=30"]  # a server that lost a node is none
    cpus = environ.get("SLURM_CPUS_PER_TASK") or (environ.get("SLURM_CPUS_ON_NODE", "") if nodes == 1 else "")
    # since Slurm 22.05 a step does not take it from its job, and one task may be bound to one core
    argv += [f"--cpus-per-task={cpus}", "--cpu-bind=none"] if cpus.isdigit() else ["--cpu-bind=none"]
    argv += [f"--gres={profile.slurm.gres}"] if profile.slurm.gres else []
    kept = dict(environ)
    if profile.slurm.gres:
        kept.pop("SLURM_GPUS_PER_NODE", None)  # the 0 that took the script's own request back
    env = dict(command.env)
    if not contained:
        return Command((*argv, "--", *command.argv), {**kept, **env})
    kept = {name: value for name, value in kept.items() if name not in _LEAKS}
    if profile.server.serve_command[0] == "python":
        env["PYTHONPATH"] = str(ROOT)
    return _in_image(argv, Command(command.argv, env), profile, environ, kept)


def _in_image(
    srun: list[str], command: Command, profile: Profile, environ: Mapping[str, str], kept: dict[str, str]
) -> Command:
    container, where = profile.container, profile.source
    if profile.server.download_dir and not expand(profile.server.download_dir, environ, where):
        raise UsageError(
            f"{where} server.download_dir: {profile.server.download_dir!r} is empty, and what a container downloads is "
            "thrown away with it; export a folder there (such as WEIGHTS_DIR=/shared/weights) before sbatch"
        )
    env = {**environment(container.env, environ, f"{where} container.env"), **command.env}
    mounts = [expand(mount, environ, f"{where} container.mounts") for mount in container.mounts]
    wanted = ",".join(dict.fromkeys(mount for mount in mounts if mount.strip(":")))  # an empty variable: none
    argv = [*srun, f"--container-image={expand(container.image, environ, f'{where} container.image')}"]
    argv += [f"--container-mounts={wanted}"] if wanted else []
    argv += ["--container-writable"] if container.writable else []
    argv.append("--container-entrypoint" if container.entrypoint else "--no-container-entrypoint")
    argv.append(f"--container-env={','.join(sorted({*env, 'PYTHONUNBUFFERED'}))}")  # names alone: it shows in `ps`
    return Command((*argv, *container.extra, "--", *command.argv), {**kept, **env})


def on_each(command: Command, profile: Profile, environ: Mapping[str, str], head: Head, *, contained: bool) -> Command:
    """What one task of the step runs: in an image `python` is its `python3`; over several nodes, see `over_nodes`."""
    first, *rest = command.argv
    if contained and first == "python":  # images that have the one often lack the other
        command = Command(("python3", *rest), command.env)
    return over_nodes(command, profile, environ, head)


def over_nodes(command: Command, profile: Profile, environ: Mapping[str, str], head: Head) -> Command:
    """The command as a shell's line that is right on each node of several; as it is for one node.

    The first node serves, the others work for it. Raises UsageError where it is not known how to tell this engine so.
    """
    if profile.server.nodes == 1:
        return command
    each, workers = _node_flags(profile, environ, head)
    first = _line([*command.argv, *each])
    others = _line([*command.argv, *each, *workers])
    script = first if first == others else f'if [ "$SLURM_PROCID" = 0 ]; then {first}; else {others}; fi'
    return Command(("sh", "-c", script), command.env)


def _node_flags(profile: Profile, environ: Mapping[str, str], head: Head) -> tuple[list[str], list[str]]:
    server, where = profile.server, profile.source
    values = {
        "{head}": head.host,
        "{head_address}": head.address,
        "{head_port}": str(head.port),
        "{nodes}": str(server.nodes),
    }

    def filled(texts: tuple[str, ...], key: str) -> list[str]:
        done = []
        for text in texts:
            text = expand(text, environ, f"{where} server.{key}", keep=NODE_VARIABLES)
            for name, value in values.items():
                text = text.replace(name, value)
            done.append(text)
        return done

    workers = filled(server.worker_args, "worker_args")
    if server.node_args or server.engine not in ("", "vllm"):
        if not server.node_args:
            raise UsageError(
                f"{where} server.nodes: {server.nodes}; how {server.engine} serves over several nodes is not known here: "
                'say it in server.node_args, such as ["--dist-init-addr", "{head_address}:{head_port}", "--nnodes", "{nodes}", '
                '"--node-rank", "$SLURM_PROCID"], or take nodes = 1'
            )
        return filled(server.node_args, "node_args"), workers
    if server.data_parallel == 1:
        each = ["--nnodes", "{nodes}", "--node-rank", "$SLURM_PROCID", "--master-addr", "{head}"]
        return filled((*each, "--master-port", "{head_port}"), "node_args"), workers or ["--headless"]
    here, rest = divmod(server.data_parallel, server.nodes)
    if rest:
        raise UsageError(
            f"{where} server.data_parallel: {server.data_parallel} replicas on {server.nodes} nodes; expected as many on "
            "each node, or flags of your own in server.node_args and server.worker_args"
        )
    each = ["--data-parallel-size-local", str(here), "--data-parallel-address", "{head_address}"]
    each += ["--data-parallel-rpc-port", "{head_port}"]
    rank = ["--headless", "--data-parallel-start-rank", f"$(({here} * SLURM_PROCID))"]
    return filled(tuple(each), "node_args"), workers or rank


def _line(argv: list[str]) -> str:
    return "exec " + " ".join(_word(part) for part in argv)


def _word(text: str) -> str:
    """A shell's word in which the node's own variables, and nothing else, are expanded on the node."""
    if _FIRST_REPLICA.fullmatch(text):
        return f'"{text}"'
    done, at = [], 0
    for found in _ON_NODE.finditer(text):
        done += [shlex.quote(text[at : found.start()])] if found.start() > at else []
        done.append(f'"${found[1]}"')
        at = found.end()
    return "".join(done) + (shlex.quote(text[at:]) if text[at:] or not done else "")
