"""What a session and `wait` make of Slurm's answers, with stand-ins for its commands. No cluster."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench_tests.errors import ServerError, UsageError
from bench_tests.server.info import ServerInfo, read_server_info, remove_if_ours, write_server_info
from bench_tests.server.slurm.job import SlurmServer
from bench_tests.server.slurm.node import reachable_name
from bench_tests.server.slurm.obtain import obtain_job
from bench_tests.server.slurm.seen import InfoFile
from bench_tests.server.slurm.wait import wait_for_server
from bench_tests.sim.simulator import SimSpec, Simulator
from bench_tests.sweep.profile import load_profile
from tests.slurm.conftest import ROOT

SERVE = ROOT / "slurm" / "serve.sh"
Commands = Callable[..., Path]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Slurm's commands on PATH as shell scripts; each call is noted in the file that is returned."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("WEIGHTS_DIR", raising=False)

    def make(**scripts: str) -> Path:
        for name in ("sbatch", "squeue", "scontrol", "scancel", "sacct"):
            path = folder / name
            path.write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/calls\n{scripts.get(name, "exit 1")}\n')
            path.chmod(0o755)
        return tmp_path / "calls"

    return make


def wait(info: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench_tests.server.wait", f"--server-info={info}", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def record(state: str, reason: str, log: Path, exit_code: str = "13:0") -> str:
    """scontrol's answer."""
    fields = f"JobId=7 JobName=x UserId=me(1) JobState={state} Reason={reason} Restarts=0 ExitCode={exit_code}"
    return (
        f"echo '{fields} RunTime=00:00:01 TimeLimit=04:00:00 StartTime=x NodeList=gpu1 NumNodes=1 StdOut={log} Power='"
    )


@pytest.mark.parametrize("weights", [None, ""])
def test_a_session_without_a_folder_of_weights_submits_nothing(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str | None
) -> None:
    calls = commands(sbatch="echo 1")
    if weights is not None:
        monkeypatch.setenv("WEIGHTS_DIR", weights)
    command = [sys.executable, "-m", "pytest", "bench_tests", "--profile=kimi_k2", "--server=slurm", "--no-plot"]
    places = [f"--results-dir={tmp_path}/results", f"--server-info={tmp_path}/info.txt", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "WEIGHTS_DIR" in done.stdout + done.stderr
    assert not calls.exists() or "sbatch" not in calls.read_text()


def test_wait_ends_with_a_job_that_failed_before_it_began(commands: Commands, tmp_path: Path) -> None:
    log, info = tmp_path / "serve.log", tmp_path / "info.txt"
    log.write_text("pyxis: importing\npyxis: [ERROR] 404 Not Found\nserve: the server ended\n")
    queue = f'case "$*" in *all*) echo "7|FAILED|{tmp_path}|{SERVE} demo --server-info {info}" ;; esac'
    commands(squeue=queue, scontrol=record("FAILED", "NonZeroExitCode", log))
    done = wait(info, "--timeout=20")
    assert done.returncode == 13
    assert "job 7 failed with exit code 13" in done.stderr
    assert "404 Not Found" in done.stderr


def test_wait_asks_about_the_job_that_it_is_given(commands: Commands, tmp_path: Path) -> None:
    commands(squeue="", scontrol=record("CANCELLED", "None", tmp_path / "no.log", "0:15"))
    done = wait(tmp_path / "info.txt", "--job=7", "--timeout=20")
    assert done.returncode == 13
    assert "job 7 was cancelled" in done.stderr


@pytest.mark.parametrize("line", ["7|COMPLETED", "7|CANCELLED", "7|FAILED-elsewhere"])
def test_wait_goes_on_where_nothing_speaks_against_it(commands: Commands, tmp_path: Path, line: str) -> None:
    """An earlier server that was ended on purpose, another file's that failed: the one to come is waited for."""
    state, _, elsewhere = line.partition("-")
    info = tmp_path / "info.txt"
    queue = f'echo "{state}|{tmp_path}|{SERVE} demo --server-info {tmp_path / elsewhere if elsewhere else info}"'
    commands(squeue=queue, scontrol=record("COMPLETED", "None", tmp_path / "no.log", "0:0"))
    done = wait(info, "--timeout=2")
    assert done.returncode == 13
    assert f"waiting for {info}, for 2 s" in done.stderr


def test_wait_takes_a_server_whatever_slurm_knows(commands: Commands, tmp_path: Path) -> None:
    commands(squeue="exit 1", scontrol="echo 'Unable to contact slurm controller' >&2; exit 1")
    info = tmp_path / "info.txt"
    with Simulator(SimSpec()) as simulator:
        write_server_info(info, ServerInfo(simulator.url, "demo", "simulated", "7"))
        assert wait(info, "--timeout=20").returncode == 0


def test_wait_outlasts_a_file_that_is_being_written(commands: Commands, tmp_path: Path) -> None:
    commands()
    info = tmp_path / "info.txt"
    info.write_text("")
    done = wait(info, "--timeout=2")
    assert done.returncode == 13
    assert "empty" in done.stderr


@pytest.mark.parametrize("job", ["7", None])
def test_a_server_that_answers_without_its_files_key_is_not_measured(
    commands: Commands, tmp_path: Path, job: str | None
) -> None:
    commands(scontrol=record("RUNNING", "None", tmp_path / "no.log", "0:0"))
    info = tmp_path / "info.txt"
    command = [sys.executable, "-m", "pytest", "bench_tests", "--server=attach", f"--server-info={info}", "--no-plot"]
    command += [f"--results-dir={tmp_path}/results", "-p", "no:cacheprovider", "-k", "isl1024 and conc1"]
    with Simulator(SimSpec()) as everybodys:
        write_server_info(info, ServerInfo(everybodys.url, "demo", "simulated", job, "a-key"))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 13, done.stdout
    assert "answers without the key that its server_info.txt has" in done.stdout
    assert not list(tmp_path.glob("results/*_isl*.json"))


@pytest.mark.parametrize(
    ("named", "resolves", "routed", "published"),
    [
        ("node77", ["node77"], "10.1.2.3", "node77"),
        ("node77", [], "10.1.2.3", "10.1.2.3"),
        ("node77", [], "2001:db8::7", "[2001:db8::7]"),
        ("node77", ["localhost", "localhost.localdomain"], "10.1.2.3", "10.1.2.3"),  # what gethostname may say
        ("node77", ["localhost"], "", None),
        ("node77", ["localhost"], "127.0.0.1", None),
    ],
)
@pytest.mark.parametrize("host", ["localhost", "localhost.localdomain", "127.0.0.1", "::1", "node77"])
def test_a_node_is_published_by_what_others_reach_it_by_and_never_as_any_hosts_own(
    monkeypatch: pytest.MonkeyPatch, named: str, resolves: list[str], routed: str, published: str | None, host: str
) -> None:
    def look_up(name: str, *_: object) -> list[object]:
        if name in resolves or name[0] in "1:":
            return []
        raise OSError(f"{name} does not resolve")

    class Probe:
        """A datagram socket that is routed so; no route: it does not connect."""

        def __init__(self, family: int, *_: object) -> None:
            self.family = family

        def connect(self, to: object) -> None:
            if not routed or (":" in routed) != (self.family == socket.AF_INET6):
                raise OSError("Network is unreachable")

        def getsockname(self) -> tuple[str, int]:
            return routed, 9

        def __enter__(self) -> Probe:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "socket", Probe)
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(socket, "getfqdn", lambda: host)
    if published is None:
        with pytest.raises(ServerError, match="no route to other hosts"):
            reachable_name({"SLURMD_NODENAME": named})
    else:
        assert reachable_name({"SLURMD_NODENAME": named}) == published


FORGOTTEN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


@pytest.mark.parametrize("kind", ["attach", "obtain"])
def test_a_job_that_slurm_has_forgotten_is_measured_by_its_own_key_alone(
    commands: Commands, tmp_path: Path, kind: str
) -> None:
    """The key of the file is that start's alone: who opens to it, and to nothing less, is that server."""
    calls = commands(scontrol=FORGOTTEN, sbatch="echo 'not to be submitted' >&2; exit 1")
    info, said = tmp_path / "info.txt", list[str]()
    profile = load_profile("demo")

    def use(url: str, key: str | None) -> SlurmServer:
        write_server_info(info, ServerInfo(url, "demo", profile.model.id, "7", key))
        if kind == "attach":
            return asyncio.run(SlurmServer.attach(read_server_info(info), profile, info, said.append))
        return asyncio.run(obtain_job(profile, info, tmp_path, said.append))

    refusals = {
        "attach": {
            "a-key": "refuses the key of .*another server has its port",
            None: "has no key that would show.*--base-url",
        },
        "obtain": dict.fromkeys(("a-key", None), "not to be submitted"),  # it is stale, so one of ours is submitted
    }[kind]
    with Simulator(SimSpec(api_key="its-own", model=profile.model.id)) as forgotten:
        server = use(forgotten.url, "its-own")
        assert server.endpoint.base_url == forgotten.url
        assert "Slurm does not know it" in said[-1]
        assert asyncio.run(server.gone()) is None
        asyncio.run(server.stop())
        assert "sbatch --parsable" not in calls.read_text()
        for key, words in refusals.items():
            with pytest.raises(ServerError, match=words):
                use(forgotten.url, key)
    with Simulator(SimSpec(model=profile.model.id)) as everybodys:
        with pytest.raises(ServerError, match=r"answers without the key that its server_info\.txt has"):
            use(everybodys.url, "its-own")


def test_wait_says_that_a_proxy_stands_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    info = tmp_path / "server_info.txt"
    info.write_text("http://node1.cluster:8000\n")
    with pytest.raises(ServerError, match=r"no_proxy=node1\.cluster"):
        wait_for_server(info, 30.0, lambda _: None)


INTERRUPTED = """
import asyncio, atexit, pathlib, sys
from bench_tests.server.slurm.job import SlurmServer
from bench_tests.server.slurm.obtain import obtain_job
from bench_tests.sweep.profile import load_profile
server = SlurmServer(load_profile("demo"), "7", pathlib.Path(sys.argv[1]), ours=True)
atexit.register(server._stop_at_exit)
async def interrupted():
    await asyncio.wait_for(server.stop(), 1.0)
asyncio.run(interrupted())
"""


def test_a_stop_that_is_interrupted_while_slurm_hangs_is_made_at_the_end(commands: Commands, tmp_path: Path) -> None:
    """The first scancel hangs, as does a slurmctld that is away, and a second Ctrl-C comes."""
    hangs_once = f"[ -e {tmp_path}/hung ] && exit 0; touch {tmp_path}/hung; sleep 60"
    calls = commands(scancel=hangs_once, scontrol=record("CANCELLED", "None", tmp_path / "no.log", "0:15"))
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "info.txt")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "TimeoutError" in done.stderr
    assert calls.read_text().splitlines().count("scancel 7") == 2


def test_a_session_outlasts_a_file_that_is_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, now = tmp_path / "info.txt", 100.0
    monkeypatch.setattr("bench_tests.server.slurm.seen.time.monotonic", lambda: now)
    file = InfoFile(path)
    assert file.read() is None
    path.write_text("")
    assert file.read() is None
    write_server_info(path, ServerInfo("http://n:1", job_id="7"))
    assert (info := file.read()) is not None
    assert info.job_id == "7"
    path.write_text("")
    now += 60
    assert file.read() is None, "it was whole in between"
    now += 11
    with pytest.raises(UsageError, match="empty"):
        file.read()


def test_a_file_that_cannot_be_removed_does_not_keep_a_server_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "info.txt"
    write_server_info(path, ServerInfo("http://n:1", job_id="7"))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bench_tests.server.info.os.rename", refuse)
    assert not remove_if_ours(path, "7")


def test_each_task_of_an_array_takes_a_configuration_of_its_profile(tmp_path: Path) -> None:
    profile = tmp_path / "which.toml"
    profile.write_text('base = "kimi_k2"\n[matrix]\ntensor_parallel = [4, 8]\n')
    stand_in = tmp_path / "python"
    stand_in.write_text(f'#!/bin/bash\n[ "$2" = pytest ] || exec {sys.executable} "$@"\necho "$*"\n')
    stand_in.chmod(0o755)
    said = {}
    for task in ("0", "1", "2"):
        env = {**os.environ, "BENCH_ROOT": str(ROOT), "BENCH_PYTHON": str(stand_in), "SLURM_ARRAY_TASK_ID": task}
        command = ["bash", str(ROOT / "slurm" / "bench.sh"), "which.toml", "--server", "slurm"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        said[task] = (done.returncode, done.stdout + done.stderr)
    for task, config in (("0", "tp4"), ("1", "tp8")):
        assert said[task][0] == 0, said
        assert f"-m pytest --profile={profile}" in said[task][1]
        assert said[task][1].rstrip().endswith(f"--config={config} --server slurm")
    assert said["2"] == (4, "bench.sh: 2 configurations (tp4 tp8) need sbatch --array=0-1\n")
