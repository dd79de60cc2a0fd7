"""How a profile's server is started: its arguments, its environment, its port and its key.

The key travels in the environment alone: arguments are there for all to see in `ps`.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench_tests.errors import ServerError, UsageError
from bench_tests.paths import ROOT
from bench_tests.server.sim_settings import sim_flags
from bench_tests.sweep.profile import Profile

__all__ = [
    "NODE_VARIABLES",
    "Command",
    "PortLease",
    "environment",
    "expand",
    "lease_port",
    "new_api_key",
    "reachable_host",
    "resolved",
    "serve_command",
]

NODE_VARIABLES = ("SLURM_PROCID", "SLURM_NODEID")  # of several nodes each has its own
_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


@dataclass(frozen=True)
class Command:
    """What to run, and what to add to the environment. The environment holds the key, so it never shows."""

    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict, repr=False)


def expand(text: str, environ: Mapping[str, str], where: str, *, keep: Collection[str] = ()) -> str:
    """$NAME and ${NAME} by the environment, $$ as a dollar; names in `keep` stay. Raises UsageError for an unset one."""

    def value(found: re.Match[str]) -> str:
        name = found[2] or found[3]
        if found[1]:
            return "$"
        if name in keep:
            return f"${{{name}}}"
        if name not in environ:
            raise UsageError(f"{where}: {text!r} needs ${name}, which is not set; export {name}=... first")
        return environ[name]

    return _VARIABLE.sub(value, text)


def serve_command(
    profile: Profile, *, host: str, port: int, api_key: str | None, environ: Mapping[str, str] | None = None
) -> Command:
    """The profile's serve command with the model, its flags, the parallel sizes, --host and --port.

    The model follows the command, as `vllm serve` has it, unless {model} says where it belongs; {sim} is the profile's
    [sim] table as the simulated server's flags. The program `python` is
    the one that runs this suite, and finds its modules.
    Raises UsageError for a profile without a model, an unset $VARIABLE, or an `env` that is no text.
    """
    environ = os.environ if environ is None else environ
    server, where = profile.server, profile.source
    if not profile.model.id:
        raise UsageError(f"{where} model.id: empty; expected the model to serve")
    keep = NODE_VARIABLES if server.nodes > 1 else ()
    argv = [expand(part, environ, f"{where} server.serve_command", keep=keep) for part in server.serve_command]
    if not any("{model}" in part for part in argv):
        argv.append("{model}")
    argv = [part.replace("{model}", profile.model.id) for part in argv]
    argv = [word for part in argv for word in (sim_flags(profile) if part == "{sim}" else [part])]
    argv += [expand(part, environ, f"{where} server.serve_args", keep=keep) for part in server.serve_args]
    for flag, size in (
        ("--tensor-parallel-size", server.tensor_parallel),
        ("--data-parallel-size", server.data_parallel),
        ("--pipeline-parallel-size", server.pipeline_parallel),
    ):
        if size > 1 and not _has_flag(argv, flag):
            argv += [flag, str(size)]
    if server.expert_parallel and not _has_flag(argv, "--enable-expert-parallel"):
        argv.append("--enable-expert-parallel")
    folder = expand(server.download_dir, environ, f"{where} server.download_dir")
    if folder:  # `WEIGHTS_DIR=` in the environment: the engine's own cache
        argv += ["--download-dir", folder]
    argv += ["--host", host, "--port", str(port)]
    env: dict[str, str] = {}
    if server.serve_command[0] == "python":
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environ.get("PYTHONPATH", "")]))
    env |= environment(server.env, environ, f"{where} server.env")
    if api_key:
        env["VLLM_API_KEY"] = api_key
    return Command(tuple(argv), env)


def environment(table: Mapping[str, object], environ: Mapping[str, str], where: str) -> dict[str, str]:
    """A profile's table of variables with their values expanded. Raises UsageError for a value that is no text."""
    env: dict[str, str] = {}
    for name, value in table.items():
        if not isinstance(value, str | int | float):
            raise UsageError(f"{where}.{name}: {value!r}; expected a text or a number")
        text = str(int(value)) if isinstance(value, bool) else str(value)
        env[name] = expand(text, environ, f"{where}.{name}")
    return env


def resolved(argv: tuple[str, ...], environ: Mapping[str, str], where: str) -> tuple[str, ...]:
    """The program's full path: on PATH, else beside this Python (a virtual environment that is not activated)."""
    program = argv[0]
    if program == "python":
        return (sys.executable, *argv[1:])
    beside = str(Path(sys.executable).parent)
    found = shutil.which(program, path=environ.get("PATH", os.defpath)) or shutil.which(program, path=beside)
    if not found:
        raise UsageError(
            f"{where} server.serve_command: {program!r} is neither on PATH nor in {beside}; install it or name its path"
        )
    return (found, *argv[1:])


def new_api_key() -> str:
    """A fresh random key, 256 bits."""
    return "bench-" + secrets.token_urlsafe(32)


def reachable_host(host: str) -> str:
    """Where a server that listens on `host` is reached from this host, as a URL needs it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


class PortLease:
    """A TCP port that was free when asked, and that no other starter of this suite takes meanwhile on this host."""

    def __init__(self, port: int, lock: socket.socket | None) -> None:
        self.port = port
        self._lock = lock

    def release(self) -> None:
        """Let others have it; call it when the server has ended."""
        if self._lock is not None:
            self._lock.close()


def lease_port(wanted: int, host: str) -> PortLease:
    """The wanted port if it is free on this address, else any free one. Raises ServerError when there is none."""
    for port in [wanted, *([0] * 50)]:
        free = _free(port, host)
        if free is None:
            continue
        taken, lock = _locked(free)
        if not taken:
            return PortLease(free, lock)
    raise ServerError(f"no free port on {host}; expected at least one, see `ss -ltn`")


def _free(port: int, host: str) -> int | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed server's TIME_WAIT is no obstacle
        try:
            probe.bind((host, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def _locked(port: int) -> tuple[bool, socket.socket | None]:
    # vLLM binds with SO_REUSEPORT: two that start at once would both get the port and share its connections.
    # An abstract socket is a lock for the whole host that ends with its process and leaves no file.
    if not sys.platform.startswith("linux"):
        return False, None
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(f"\0bench_tests-port-{port}")
    except OSError:
        lock.close()
        return True, None
    return False, lock


def _has_flag(argv: list[str], flag: str) -> bool:
    return any(part == flag or part.startswith(flag + "=") for part in argv)
