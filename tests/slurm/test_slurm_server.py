"""A server in a job of a real Slurm: started, waited for, attached to, lost in every way, and taken down."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench_tests.errors import ServerError
from bench_tests.server.info import ServerInfo, read_server_info, write_server_info
from bench_tests.server.served import Endpoint, Served
from bench_tests.server.slurm.job import SlurmServer
from bench_tests.server.slurm.near import answers
from bench_tests.server.slurm.obtain import obtain_job
from bench_tests.server.slurm.request import SERVE_SCRIPT, sbatch_options
from bench_tests.sweep.profile import Profile, load_profile
from tests.slurm.conftest import ROOT, Cluster, MakeProfile, run
from tests.support.processes import alive, wait_for


class Submitted:
    """One submit with what it needs and what it said."""

    def __init__(self, folder: Path) -> None:
        self.info, self.logs = folder / "server_info.txt", folder / "logs"
        self.said: list[str] = []
        self.servers: list[SlurmServer] = []

    def __call__(self, profile: Profile, keep: bool = False) -> SlurmServer:
        self.servers.append(asyncio.run(SlurmServer.submit(profile, self.info, self.logs, self.said.append, keep)))
        return self.servers[-1]


@pytest.fixture
def submit(tmp_path: Path) -> Iterator[Submitted]:
    """Submits into the test's own folder; what a failing test leaves is stopped."""
    submitted = Submitted(tmp_path)
    yield submitted
    for server in submitted.servers:
        asyncio.run(server.stop())


def status(endpoint: Endpoint, path: str = "/v1/models") -> int | None:
    reply = answers(endpoint, path)
    return reply[0] if reply else None


def test_submit_attach_stop_leaves_nothing(
    slurm: Cluster, make_profile: MakeProfile, submit: Submitted, tmp_path: Path
) -> None:
    server = submit(make_profile(server="gpus_per_node = 4"))
    try:
        assert isinstance(server, Served)
        assert asyncio.run(server.gone()) is None
        info = read_server_info(submit.info)
        assert (info.job_id, info.model, info.profile) == (server.job_id, "org/stub", f"{tmp_path}/stub.toml")
        assert info.hostname in ("gpu1", "gpu2", "gpu3")
        assert stat.S_IMODE(submit.info.stat().st_mode) == 0o600
        assert server.endpoint == Endpoint(info.url, info.api_key)
        facts = server.facts()
        assert (facts["job_id"], facts["job_gpus"], facts["partition"]) == (server.job_id, 4, "main")
        assert facts["nodes"] == info.hostname
        assert facts["slurm_version"]

        assert status(server.endpoint) == 200
        assert [status(Endpoint(info.url, key)) for key in (None, "bench-wrong")] == [401, 401]

        again: list[str] = []
        second = asyncio.run(
            obtain_job(make_profile(server="gpus_per_node = 4"), submit.info, submit.logs, again.append)
        )
        assert second.job_id == server.job_id
        asyncio.run(second.stop())
        assert slurm.jobs() == {server.job_id}
        assert status(server.endpoint) == 200

        key = info.api_key
        assert key
        shown = {
            "ps": run("ps", "-eo", "args"),
            "scontrol": run("scontrol", "-d", "show", "job", server.job_id),
            "script": run("scontrol", "write", "batch_script", server.job_id, "-"),
            "log": server_log(submit, server),
            "said": repr(submit.said + again) + repr(server.facts()) + repr(server.info) + repr(server.endpoint),
        }
        assert [place for place, text in shown.items() if key in text] == []
        assert "serving org/stub (profile stub) at http://gpu" in shown["log"]
    finally:
        asyncio.run(server.stop())
    asyncio.run(server.stop())
    assert slurm.jobs() == set()
    assert not submit.info.exists()
    assert alive(f"--marker={tmp_path}") == []
    assert "stopped" in (asyncio.run(server.gone()) or "")
    assert any(line.startswith(f"submitted job {server.job_id}") for line in submit.said)


def server_log(submit: Submitted, server: SlurmServer) -> str:
    return (submit.logs / f"serve-stub-{server.job_id}.log").read_text()


def test_kept_ones_stay_and_two_of_a_node_have_two_ports(
    slurm: Cluster, make_profile: MakeProfile, submit: Submitted, tmp_path: Path
) -> None:
    pinned = 'extra = ["--nodelist=gpu2"]'
    kept = submit(make_profile(server="gpus_per_node = 0", slurm=pinned), keep=True)
    other = Submitted(tmp_path / "other")
    try:
        beside = other(make_profile(server="gpus_per_node = 0", slurm=pinned))
        assert kept.endpoint.base_url != beside.endpoint.base_url
        assert kept.endpoint.api_key != beside.endpoint.api_key
        assert beside.facts()["job_gpus"] == 0
        asyncio.run(beside.stop())
        asyncio.run(kept.stop())
        assert slurm.jobs() == {kept.job_id}
        assert status(kept.endpoint) == 200
    finally:
        run("scancel", *slurm.jobs())
    assert wait_for(lambda: not slurm.jobs() and not submit.info.exists())


def test_the_simulated_server_through_the_same_script(slurm: Cluster, submit: Submitted) -> None:
    profile = load_profile("demo")
    server = submit(profile)
    try:
        assert status(server.endpoint) == 200
        assert status(Endpoint(server.endpoint.base_url)) == 401
        assert server.facts()["job_gpus"] == 0
    finally:
        asyncio.run(server.stop())


@pytest.mark.parametrize(
    "lines, words",
    [
        ({"server": "nodes = 7"}, "(more .*nodes|partition does not allow)"),  # Slurm gives one reason or the other
        ({"slurm": 'partition = "short"\ntime = "10"'}, "more time than its partition"),
    ],
)
def test_pending_for_ever_is_told_at_once_and_cancelled(
    slurm: Cluster, make_profile: MakeProfile, submit: Submitted, lines: dict[str, str], words: str
) -> None:
    with pytest.raises(ServerError, match=rf"is pending: .*{words}.*will not help"):
        submit(make_profile(**lines))


def test_a_dependency_that_never_comes_true_is_told_at_once(
    slurm: Cluster, make_profile: MakeProfile, submit: Submitted
) -> None:
    failing = slurm.sbatch(script="exit 1")
    with pytest.raises(ServerError, match=r"DependencyNeverSatisfied.*will not help"):
        submit(make_profile(slurm=f'extra = ["--dependency=afterok:{failing}"]'))


@pytest.mark.parametrize(
    "lines, words",
    [
        ({"slurm": 'partition = "nope"'}, "invalid partition"),
        ({"slurm": 'extra = ["--gpus-per-node=9"]'}, "not available"),
        ({"slurm": 'extra = ["--mem=9T"]'}, "[Mm]emory"),
    ],
)
def test_what_slurm_refuses_is_told_in_its_words(
    slurm: Cluster, make_profile: MakeProfile, submit: Submitted, lines: dict[str, str], words: str
) -> None:
    with pytest.raises(ServerError, match=f"Slurm refuses the job: .*{words}"):
        submit(make_profile(**lines))


def test_pending_then_running_says_why_it_waits(slurm: Cluster, make_profile: MakeProfile, submit: Submitted) -> None:
    blocking = slurm.sbatch("--nodelist=gpu1", "--gpus-per-node=8")
    assert wait_for(lambda: "RUNNING" in run("squeue", "-h", "-o", "%T", "-j", blocking))

    def say(text: str) -> None:
        submit.said.append(text)
        if "(Resources)" in text:
            run("scancel", blocking)

    profile = make_profile(slurm='extra = ["--nodelist=gpu1"]')
    server = asyncio.run(SlurmServer.submit(profile, submit.info, submit.logs, say))
    asyncio.run(server.stop())
    assert any("is pending: waits for free nodes" in line for line in submit.said)
    assert "serves on gpu1" in submit.said[-1]


def test_a_held_job_is_waited_for(slurm: Cluster, make_profile: MakeProfile, submit: Submitted) -> None:
    def say(text: str) -> None:
        submit.said.append(text)
        if "is held by the user" in text:
            run("scontrol", "release", text.split()[1])

    server = asyncio.run(SlurmServer.submit(make_profile(slurm='extra = ["--hold"]'), submit.info, submit.logs, say))
    asyncio.run(server.stop())
    assert any("is held by the user" in line for line in submit.said)


def test_pending_has_an_end(slurm: Cluster, make_profile: MakeProfile, submit: Submitted) -> None:
    with pytest.raises(ServerError, match=r"held.*slurm\.pending_timeout"):
        submit(make_profile(slurm='extra = ["--hold"]\npending_timeout = "1s"'))


def test_one_that_fails_at_once_is_told_with_its_logs_last_lines(
    slurm: Cluster, make_profile: MakeProfile, submit: Submitted
) -> None:
    with pytest.raises(ServerError) as told:
        submit(make_profile("--die-before"))
    message = str(told.value)
    assert "failed with exit code 13 before it served" in message
    assert "CUDA out of memory" in message
    assert "exit code 3 before /health" in message


def test_one_that_never_gets_ready_is_cancelled(slurm: Cluster, make_profile: MakeProfile, submit: Submitted) -> None:
    with pytest.raises(ServerError, match=r"startup_timeout"):
        submit(make_profile("--slow", "60", startup="2s"))
    assert not submit.info.exists()


def test_scancel_in_the_middle(slurm: Cluster, make_profile: MakeProfile, submit: Submitted) -> None:
    server = submit(make_profile())
    run("scancel", server.job_id)
    assert wait_for(lambda: asyncio.run(server.gone()), 8)
    assert asyncio.run(server.gone()) == f"job {server.job_id} was cancelled"
    assert not asyncio.run(server.wait_for_return(submit.said.append))
    assert wait_for(lambda: not submit.info.exists(), 5)
    assert server.info is not None
    with pytest.raises(ServerError, match=r"which was cancelled; the file is stale"):
        asyncio.run(SlurmServer.attach(server.info, make_profile(), submit.info, submit.said.append))
    asyncio.run(server.stop())


def test_a_file_without_a_key_takes_the_users(slurm: Cluster, make_profile: MakeProfile, submit: Submitted) -> None:
    server = submit(make_profile())
    assert server.info is not None
    without = replace(server.info, api_key=None)
    mine = asyncio.run(
        SlurmServer.attach(
            without, make_profile(), submit.info, submit.said.append, like=Endpoint("", server.info.api_key)
        )
    )
    assert mine.endpoint.api_key == server.info.api_key
    with pytest.raises(ServerError, match=r"refuses \$OPENAI_API_KEY"):
        asyncio.run(
            SlurmServer.attach(without, make_profile(), submit.info, submit.said.append, like=Endpoint("", "another"))
        )
    asyncio.run(server.stop())


def test_a_server_that_dies_in_the_middle(slurm: Cluster, make_profile: MakeProfile, submit: Submitted) -> None:
    server = submit(make_profile("--die-after", "2"))
    assert wait_for(lambda: asyncio.run(server.gone()), 15)
    assert wait_for(lambda: "failed with exit code 13" in (asyncio.run(server.gone()) or ""), 5)
    assert "serve: the server ended with exit code 4" in server_log(submit, server)
    assert not submit.info.exists()
    asyncio.run(server.stop())


def test_node_down_without_requeue(slurm: Cluster, make_profile: MakeProfile, submit: Submitted) -> None:
    server = submit(make_profile(slurm='extra = ["--nodelist=gpu1", "--no-requeue"]'))
    run("scontrol", "update", "nodename=gpu1", "state=down", "reason=test")
    assert wait_for(lambda: asyncio.run(server.gone()), 8)
    assert wait_for(lambda: "lost its node gpu1" in (asyncio.run(server.gone()) or ""), 8)
    assert not asyncio.run(server.wait_for_return(submit.said.append))
    asyncio.run(server.stop())
    node_up("gpu1")


def node_up(node: str) -> None:
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True)
    assert wait_for(lambda: run("sinfo", "-h", "-n", node, "-p", "main", "-o", "%T").strip() in ("idle", "mixed"))


def test_node_down_with_requeue_comes_back_elsewhere(
    slurm: Cluster, make_profile: MakeProfile, submit: Submitted
) -> None:
    server = submit(make_profile(slurm='extra = ["--exclude=gpu3"]'))
    old, node = server.endpoint, server.facts()["nodes"]
    run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    assert wait_for(lambda: asyncio.run(server.gone()), 8)
    assert wait_for(lambda: "requeued" in (asyncio.run(server.gone()) or ""), 8)
    assert f"lost its node {node} and requeued: it now is pending" in (asyncio.run(server.gone()) or "")

    def say(text: str) -> None:
        submit.said.append(text)
        if "BeginTime" in text:  # Slurm lets a requeued job wait for two minutes
            run("scontrol", "update", f"jobid={server.job_id}", "starttime=now")

    assert asyncio.run(server.wait_for_return(say))
    assert asyncio.run(server.gone()) is None
    assert server.endpoint.api_key != old.api_key
    assert status(server.endpoint) == 200
    assert server.facts()["restarts"] == 1
    asyncio.run(server.stop())
    assert not submit.info.exists()
    node_up(node)


def test_slurmctld_away_is_no_reason(slurm: Cluster, make_profile: MakeProfile, submit: Submitted) -> None:
    server = submit(make_profile())
    pid = int((slurm.folder / "run" / "slurmctld.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    end, longest_s = time.monotonic() + 7, 0.0
    while time.monotonic() < end:
        began = time.monotonic()
        assert asyncio.run(server.gone()) is None
        assert status(server.endpoint) == 200
        longest_s = max(longest_s, time.monotonic() - began)
        time.sleep(0.2)
    assert longest_s < 30
    assert not Path(f"/proc/{pid}").exists()
    run("slurmctld")
    assert wait_for(lambda: subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0)
    time.sleep(1.1)
    assert asyncio.run(server.gone()) is None
    asyncio.run(server.stop())


def test_account_partition_and_qos_come_from_the_environment(
    slurm: Cluster, make_profile: MakeProfile, submit: Submitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By --server slurm and by hand, for a profile that names none; and a profile's own go before them."""
    for name, value in {"ACCOUNT": "the-account", "PARTITION": "short", "QOS": "the-qos"}.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    server = submit(make_profile(slurm='time = "1"'))
    shown = run("scontrol", "show", "job", server.job_id)
    assert "Partition=short" in shown
    assert "Account=the-account" in shown
    asyncio.run(server.stop())
    by_hand = ["sbatch", "-v", "--test-only", "--time=1", *sbatch_options(load_profile("demo"))[1:4]]
    told = run(*by_hand, str(SERVE_SCRIPT), "demo")  # -v: what sbatch has made of its options and environment
    for name, value in {"account": "the-account", "partition": "short", "qos": "the-qos"}.items():
        assert re.search(rf"^sbatch: {name} +: {value}$", told, re.MULTILINE), told
    profile = make_profile(slurm='time = "1"\npartition = "main"\naccount = "own"')
    server = submit(profile)
    shown = run("scontrol", "show", "job", server.job_id)
    assert "Partition=main" in shown
    assert "Account=own" in shown
    asyncio.run(server.stop())


def test_an_installed_package_has_the_servers_script_in_itself(
    slurm: Cluster, make_profile: MakeProfile, tmp_path: Path
) -> None:
    """pip install, no checkout: --server slurm, and the script by hand; all that is written lies where it was started."""
    site, folder = tmp_path / "site", tmp_path / "work"
    install(site)
    folder.mkdir()
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "BENCH_ROOT", "BENCH_PYTHON", "SERVER_INFO")}
    env |= {"PYTHONPATH": str(site)}
    python = [sys.executable, "-P"]
    script = Path(
        subprocess.check_output(
            [*python, "-m", "bench_tests.server.slurm", "script"], cwd=folder, env=env, text=True
        ).strip()
    )
    assert script == site / "bench_tests" / "server" / "slurm" / "serve.sh"
    profile = make_profile().source
    command = [*python, "-c", INSTALLED, profile, str(folder / "logs")]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "server_info.txt").as_posix() in done.stdout
    assert wait_for(lambda: not slurm.jobs())
    env["BENCH_PYTHON"] = sys.executable
    small = ["--gpus-per-node=1", "--mem=1G", "--time=10", "--cpus-per-task=1"]
    job = subprocess.check_output(
        ["sbatch", "--parsable", *small, str(script), profile], cwd=folder, env=env, text=True
    ).strip()
    try:
        assert wait_for((folder / "server_info.txt").exists, 40), (folder / f"slurm-serve-{job}.log").read_text()
        assert read_server_info(folder / "server_info.txt").job_id == job
        assert {path.name for path in site.iterdir()} & {"results", "logs", "server_info.txt"} == set()
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs())


INSTALLED = """
import asyncio, pathlib, sys
import bench_tests
from bench_tests.server.info import default_server_info, read_server_info
from bench_tests.server.slurm.job import SlurmServer
from bench_tests.server.slurm.obtain import obtain_job
from bench_tests.sweep.profile import load_profile
async def main():
    info = default_server_info()
    server = await SlurmServer.submit(load_profile(sys.argv[1]), info, pathlib.Path(sys.argv[2]), print)
    print(info, read_server_info(info).job_id == server.job_id)
    await server.stop()
asyncio.run(main())
"""


def install(site: Path) -> None:
    """`pip install .` of a copy, which its build may write into."""
    copy = site.parent / "copy"
    shutil.copytree(
        ROOT,
        copy,
        symlinks=True,
        ignore=shutil.ignore_patterns(".*", "__pycache__", "results", "logs", "tests", "*.egg-info"),
    )
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", f"--target={site}", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def test_a_stale_file_is_told_and_replaced(slurm: Cluster, make_profile: MakeProfile, submit: Submitted) -> None:
    ended = slurm.sbatch(script="exit 0")
    assert wait_for(lambda: not slurm.jobs())
    stale = ServerInfo("http://gpu1:9", "stub", "org/stub", ended, "old-key")
    write_server_info(submit.info, stale)
    with pytest.raises(ServerError, match=rf"names job {ended}, which ended by itself.*stale"):
        asyncio.run(SlurmServer.attach(stale, make_profile(), submit.info, submit.said.append))
    server = asyncio.run(obtain_job(make_profile(), submit.info, submit.logs, submit.said.append))
    assert any("is stale" in line and ended in line for line in submit.said)
    assert read_server_info(submit.info).job_id == server.job_id
    asyncio.run(server.stop())


def test_another_ones_file_is_not_written_over(slurm: Cluster, make_profile: MakeProfile, submit: Submitted) -> None:
    other = submit(make_profile(model="other/model", name="other"))
    try:
        with pytest.raises(ServerError, match=rf"job {other.job_id}.*serves other/model, not org/stub"):
            asyncio.run(obtain_job(make_profile(), submit.info, submit.logs, submit.said.append))
        submit.info.write_text(f"{other.endpoint.base_url}\n")
        with pytest.raises(ServerError, match="no job of Slurm"):
            asyncio.run(obtain_job(make_profile(), submit.info, submit.logs, submit.said.append))
        assert submit.info.read_text() == f"{other.endpoint.base_url}\n"
        assert slurm.jobs() == {other.job_id}
    finally:
        asyncio.run(other.stop())
    assert submit.info.exists(), "a file that does not name our job is not ours to remove"


def test_ctrl_c_while_it_waits_leaves_no_job(slurm: Cluster, make_profile: MakeProfile, tmp_path: Path) -> None:
    profile = make_profile("--slow", "60")
    ours = subprocess.Popen(
        [sys.executable, "-c", SUBMITTING.format(source=profile.source, folder=tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert ours.stdout is not None
    try:
        for line in ours.stdout:
            if "not ready yet" in line:
                break
        assert len(slurm.jobs()) == 1
        ours.send_signal(signal.SIGINT)
        assert ours.wait(20) != 0
        assert slurm.jobs() == set()
    finally:
        ours.kill()
        ours.wait()
        ours.stdout.close()


SUBMITTING = """
import asyncio
from pathlib import Path
from bench_tests.server.slurm.job import SlurmServer
from bench_tests.server.slurm.obtain import obtain_job
from bench_tests.sweep.profile import Profile, load_profile
folder = Path("{folder}")
asyncio.run(SlurmServer.submit(load_profile("{source}"), folder / "info", folder / "logs", lambda text: print(text, flush=True)))
"""
