"""What runs inside a server's job: `python -m bench_tests.server.serve --profile NAME --server-info PATH`.

Starts the profile's serve command (in its container, where it has one), publishes server_info.txt when /health answers,
waits, passes TERM on, and takes the file away if it is still its own. Knows profiles, commands, processes and the file.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from bench_tests.errors import BenchError, ServerError, UsageError
from bench_tests.paths import ROOT
from bench_tests.server.command import in_container, lease_port, new_api_key, reachable_host, resolved, serve_command
from bench_tests.server.info import ServerInfo, default_server_info, remove_if_ours, write_server_info
from bench_tests.server.process import ServerProcess
from bench_tests.server.served import Endpoint
from bench_tests.server.slurm.near import answers, wait_until_ready
from bench_tests.server.slurm.request import gpus_per_node, profile_argument
from bench_tests.sweep.profile import Profile, load_profile

__all__ = ["main"]

_TERMINATED = 128 + signal.SIGTERM


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Exit status: the server's own; 143 after TERM; 4 wrong usage; 13 no server."""
    parser = argparse.ArgumentParser(prog="python -m bench_tests.server.serve", description=__doc__)
    parser.add_argument("--profile", default="kimi_k2", help="a profile's name or TOML file (default: kimi_k2)")
    parser.add_argument("--server-info", type=Path, default=default_server_info(), metavar="PATH")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all; a key guards it)")
    parser.add_argument("--no-container", action="store_true", help="even where the profile names an image")
    options = parser.parse_args(argv)
    # one log for the job: ours and the server's, both appending, so that neither writes over the other
    log = _job_log()
    try:
        profile = load_profile(options.profile)
        return _serve(profile, options.server_info.absolute(), options.host, options.no_container, log)
    except BenchError as why:
        text = str(why).partition("; last lines of ")[0] if log else str(why)  # they are right above, in this log
        print(f"serve: {text}", file=sys.stderr, flush=True)
        return 13 if isinstance(why, ServerError) else 4


def _serve(profile: Profile, path: Path, host: str, no_container: bool, log: Path | None) -> int:
    environ = _with_defaults(os.environ)
    _must_have_gpus(profile, environ)
    _make_folders(environ)
    name = _reachable_name(environ)
    job_id = environ.get("SLURM_JOB_ID") or f"{name}-{os.getpid()}"
    log = log or Path(environ["LOGS_DIR"]) / f"{profile.name}-{job_id}.log"
    key = new_api_key()
    lease = lease_port(profile.server.port, host)
    try:
        command = serve_command(profile, host=host, port=lease.port, api_key=key, environ=environ)
        contained = in_container(command, profile, environ) if not no_container else command
        env = {**environ, "PYTHONUNBUFFERED": "1", **command.env}
        argv = resolved(contained.argv, env, profile.source)
        # a TERM that comes while it starts must find the handler, and the handler the process
        stop = _Stop()
        process = ServerProcess(argv, env, log, stop_timeout_s=profile.server.stop_timeout, secret=key)
        stop.process = process
        if stop.asked:
            process.terminate()
        try:
            return _publish_and_wait(profile, path, Endpoint(_at(host, lease.port), key), process, stop, name, job_id)
        finally:
            process.stop()
    finally:
        lease.release()


def _publish_and_wait(
    profile: Profile, path: Path, near: Endpoint, process: ServerProcess, stop: _Stop, name: str, job_id: str
) -> int:
    port = int(near.base_url.rpartition(":")[2])
    url, started = f"http://{name}:{port}", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    _say(f"starting {profile.model.id} ({profile.source}), to be at {url}, job {job_id}, log {process.log}")
    try:
        ready = wait_until_ready(
            near, process, timeout_s=profile.server.startup_timeout, say=_say, stopping=lambda: stop.asked
        )
    except ServerError:
        if stop.asked:
            return _TERMINATED
        raise
    if not ready:
        return _TERMINATED
    if answers(Endpoint(url), "/health") is None:
        _say(f"warning: {url} does not answer from this host itself; does its name resolve, and is the port open?")
    named = profile_argument(profile)  # the name of a file's profile would say nothing to a session elsewhere
    write_server_info(path, ServerInfo(url, named, profile.model.id, job_id, near.api_key, started, name, port))
    try:
        _say(f"serving {profile.model.id} (profile {profile.name}) at {url}, job {job_id}, see {path}")
        code = process.wait()
    finally:
        remove_if_ours(path, job_id, started)
    if stop.asked:
        _say("stopped after TERM")
        return _TERMINATED
    raise ServerError(f"the server {process.ended()}") if code else ServerError("the server ended by itself")


class _Stop:
    """TERM and INT, passed on to the server."""

    def __init__(self) -> None:
        self.asked = False
        self.process: ServerProcess | None = None
        self.first: Callable[[], object] = lambda: None  # unpublish: nobody is to find a server that is going down
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.first()
        if self.process is not None:
            self.process.terminate()


def _with_defaults(environ: Mapping[str, str]) -> dict[str, str]:
    # the folders that profiles mount; the weights have no default: a terabyte must not land just anywhere
    workspace = environ.get("WORKSPACE") or str(ROOT)
    kept = {name: value for name, value in environ.items() if name not in ("OPENAI_API_KEY", "VLLM_API_KEY")}
    return {
        **kept,
        "WORKSPACE": workspace,
        "RESULTS_DIR": environ.get("RESULTS_DIR") or f"{workspace}/results",
        "LOGS_DIR": environ.get("LOGS_DIR") or f"{workspace}/logs",
    }


def _must_have_gpus(profile: Profile, environ: Mapping[str, str]) -> None:
    have, need = environ.get("SLURM_GPUS_ON_NODE", ""), gpus_per_node(profile)
    if have.isdigit() and int(have) < need:
        named = shlex.quote(profile_argument(profile))
        raise UsageError(
            f"{profile.source}: needs {need} GPUs on a node and the job has {have}; submit it with "
            f"`sbatch $(python3 -m bench_tests.server.slurm options {named}) slurm/serve.sh {named}`"
        )


def _make_folders(environ: Mapping[str, str]) -> None:
    # profiles mount them, and a container does not start with a mount whose source is missing
    for name in ("RESULTS_DIR", "LOGS_DIR"):
        try:
            Path(environ[name]).mkdir(parents=True, exist_ok=True)
        except OSError as why:
            raise UsageError(
                f"${name} {environ[name]!r}: {why.strerror}; expected a folder that can be made and written; "
                f"export {name}=... another one"
            ) from why


def _reachable_name(environ: Mapping[str, str]) -> str:
    names = [environ.get("SLURMD_NODENAME", ""), socket.gethostname(), socket.getfqdn()]
    for name in filter(None, names):
        try:
            socket.getaddrinfo(name, None)
            return name
        except OSError:
            continue
    return "127.0.0.1"


def _at(host: str, port: int) -> str:
    return f"http://{reachable_host(host)}:{port}"


def _job_log() -> Path | None:
    try:
        if not stat.S_ISREG(os.fstat(1).st_mode) or "SLURM_JOB_ID" not in os.environ:
            return None
        path = Path(os.readlink("/proc/self/fd/1"))
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    except OSError:
        return None
    same = os.path.samestat(os.fstat(1), os.fstat(2))
    os.dup2(handle, 1)
    if same:
        os.dup2(handle, 2)
    os.close(handle)
    return path


def _say(text: str) -> None:
    print(f"serve: {text}", flush=True)
