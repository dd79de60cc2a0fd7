"""slurm/serve.sh and slurm/bench.sh as people use them, on a real Slurm."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench_tests.server.info import read_server_info
from bench_tests.server.slurm.request import sbatch_options
from bench_tests.sweep.profile import BUILTIN, load_profile
from tests.slurm.conftest import ROOT, Cluster, MakeProfile, run
from tests.support.processes import wait_for

SERVE, BENCH = ROOT / "slurm" / "serve.sh", ROOT / "slurm" / "bench.sh"
SMALL = ("--gpus-per-node=1", "--mem=1G", "--time=10", "--open-mode=append")


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user's shell in another folder, with this Python."""
    monkeypatch.setenv("BENCH_PYTHON", sys.executable)
    monkeypatch.delenv("BENCH_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state(job: str) -> str:
    return run("squeue", "-h", "-t", "all", "-o", "%T", "-j", job).strip()


def begun_anew(job: str, called: Path) -> bool:
    """Whether a requeued job called pytest a second time. Slurm lets it wait two minutes; it is told again not to."""
    if state(job) == "PENDING":
        for order in (["update", f"jobid={job}", "starttime=now"], ["release", job]):  # both fail once it runs
            subprocess.run(["scontrol", *order], capture_output=True, timeout=60)
        time.sleep(3)
    return called.read_text().count("-m pytest") == 2


def test_every_script_is_shellcheck_clean() -> None:
    if not shutil.which("shellcheck"):
        if os.environ.get("BENCH_REQUIRE_ALL") == "1":
            pytest.fail("shellcheck is not installed")
        pytest.skip("shellcheck is not installed")
    scripts = [*ROOT.glob("slurm/*.sh"), *Path(__file__).parent.glob("*.sh"), *Path(__file__).parent.glob("pyxis/*")]
    assert len(scripts) >= 4
    run("shellcheck", *map(str, scripts))


def test_the_scripts_own_request_is_kimi_k2s() -> None:
    asked = set(re.findall(r"^#SBATCH (--\S+)$", SERVE.read_text(), re.MULTILINE))
    assert set(sbatch_options(load_profile("kimi_k2"))) <= asked
    assert {"--signal=B:TERM@60", "--requeue"} <= asked
    client = set(re.findall(r"^#SBATCH (--\S+)$", BENCH.read_text(), re.MULTILINE))
    assert "--mem=16G" in client
    assert not any("gpu" in option for option in client)


@pytest.mark.parametrize("profile", BUILTIN)
def test_the_cluster_accepts_each_profiles_request(slurm: Cluster, profile: str) -> None:
    told = run("sbatch", "--test-only", *sbatch_options(load_profile(profile)), str(SERVE), profile)
    assert "to start at" in told


BY_HAND = (
    # arguments after the profile, restarts of the job; what pytest gets before and after its profile and server_info.txt
    ((), 0, ("--server=attach",), None),
    ((), 2, ("--server=attach", "--resume"), "4711"),
    (("--resume",), 2, ("--server=attach", "--resume"), None),
    (("--resume", "-k", "isl16 and conc1"), 0, ("--server=attach", "--resume", "-k", "isl16 and conc1"), None),
    (("-x", "--server-info", "{info}", "--server", "sim"), 0, ("-x", "--server", "sim"), None),
    (("--server-info={info}", "--server=sim", "-k", "*", "--server-info", "{info}"), 1, ("--resume", "--server=sim", "-k", "*"), "4711"),
)  # fmt: skip


@pytest.mark.parametrize(("given", "restarts", "passed", "resumed"), BY_HAND)
def test_what_the_client_is_called_with(
    tmp_path: Path, given: tuple[str, ...], restarts: int, passed: tuple[str, ...], resumed: str | None
) -> None:
    info, profile = tmp_path / "other" / "info.txt", tmp_path / "mine.toml"
    info.parent.mkdir()
    info.write_text("http://127.0.0.1:9\n")
    profile.write_text('base = "demo"\n')
    stand_in = tmp_path / "python"
    stand_in.write_text(
        f'#!/bin/bash\n[ "$2" = pytest ] || exit 0\nprintf "%s\\0" "$@" >{tmp_path}/called\n'
        f'echo -n "${{BENCH_RESUME_JOB-}}" >{tmp_path}/resumed\n'
    )
    stand_in.chmod(0o755)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SERVER_INFO"))}
    env |= {"BENCH_PYTHON": str(stand_in), "BENCH_ROOT": str(ROOT), "SLURM_JOB_ID": "4711"}
    env |= {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
    env |= {"SERVER_INFO": str(info)} if "--server-info" not in given else {}
    command = ["bash", str(BENCH), str(profile), *(word.format(info=info) for word in given)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    called = (tmp_path / "called").read_text().split("\0")[:-1]
    assert called == ["-m", "pytest", f"--profile={profile}", f"--server-info={info}", *passed]
    assert (tmp_path / "resumed").read_text() == (resumed or "")
    if "-k" not in passed:
        points_of(called)


def points_of(called: list[str]) -> str:
    """What the real pytest says to these arguments; it must understand them."""
    command = [sys.executable, *called, "--co", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_cluster_accepts_the_default_and_the_client(slurm: Cluster) -> None:
    assert "to start at" in run("sbatch", "--test-only", str(SERVE))
    assert "to start at" in run("sbatch", "--test-only", "--array=0-1", str(BENCH), "kimi_k2,minimax_m2.1")


def test_a_chain_of_server_and_client_from_any_folder(slurm: Cluster, make_profile: MakeProfile, at_home: Path) -> None:
    """The client's pytest is a stand-in here: it notes how it is called, and that TERM reaches it."""
    make_profile("--slow", "2")
    profile = f"{at_home}/stub.toml"
    stand_in = at_home / "python"
    stand_in.write_text(
        f'#!/bin/bash\n[ "$2" = pytest ] || exec {sys.executable} "$@"\n'
        f"trap 'echo told to stop >>{at_home}/called; sleep 0.5; echo ended in order >>{at_home}/called; exit 2' TERM\n"
        f'printf "%s\\0" "$@" >{at_home}/arguments\n'
        f'echo "$PWD: $*, resuming ${{BENCH_RESUME_JOB-}}" >>{at_home}/called\nfor ((i = 0; i < 300; i++)); do sleep 0.1; done\n'
    )
    stand_in.chmod(0o755)
    info = at_home / "info.txt"
    os.environ["SERVER_INFO"] = str(info)
    server = run("sbatch", "--parsable", *SMALL, "--output=serve.log", str(SERVE), "stub.toml").strip()
    os.environ["BENCH_PYTHON"] = str(stand_in)
    client = run(
        "sbatch", "--parsable", f"--dependency=after:{server}", "--mem=100M", "--output=bench.log", str(BENCH), "stub.toml",
        "-k", "isl16 and conc1",
    ).strip()  # fmt: skip
    called = at_home / "called"
    try:
        assert wait_for(called.exists, 100)
        assert called.read_text() == (
            f"{ROOT}: -m pytest --profile={profile} --server-info={info} --server=attach -k isl16 and conc1, resuming \n"
        )
        points = points_of((at_home / "arguments").read_text().split("\0")[:-1])
        assert "isl16-osl4-conc1]" in points
        assert "conc2" not in points
        assert read_server_info(info).profile == profile
        assert "org/stub answers at http://gpu" in (at_home / "bench.log").read_text()

        run("scontrol", "requeue", client)
        assert wait_for(lambda: state(client) == "PENDING", 60)
        assert wait_for(lambda: begun_anew(client, called), 300), slurm.account_of(client)
        assert called.read_text().count("ended in order") == 1
        assert f"--server=attach --resume -k isl16 and conc1, resuming {client}\n" in called.read_text()

        run("scancel", "--batch", "--signal=TERM", client)  # as --signal=B:TERM@120 does before the time limit
        assert wait_for(lambda: state(client) == "FAILED", 60)
        assert called.read_text().count("ended in order") == 2
        assert "ExitCode=2:0" in run("scontrol", "show", "job", client)
    finally:
        run("scancel", server, client)
        del os.environ["SERVER_INFO"]
    assert wait_for(lambda: not slurm.jobs())
    assert not info.exists()


def test_a_list_of_profiles_wants_an_array(slurm: Cluster, at_home: Path) -> None:
    job = run("sbatch", "--parsable", "--mem=100M", "--output=bench.log", str(BENCH), "kimi_k2,demo").strip()
    assert wait_for(lambda: state(job) == "FAILED")
    assert "need sbatch --array=0-1" in (at_home / "bench.log").read_text()


def test_each_task_of_an_array_takes_its_profile_and_its_own_file(slurm: Cluster, at_home: Path) -> None:
    stand_in = at_home / "python"
    stand_in.write_text(f'#!/bin/bash\necho "$*" >{at_home}/called.$SLURM_ARRAY_TASK_ID\n')
    stand_in.chmod(0o755)
    os.environ["BENCH_PYTHON"] = str(stand_in)
    run(
        "sbatch", "--array=0-1", "--mem=100M", "--output=bench-%a.log", str(BENCH), "kimi_k2,minimax_m2.1",
        "--server", "slurm",
    )  # fmt: skip
    assert wait_for(lambda: len(list(at_home.glob("called.*"))) == 2), [p.read_text() for p in at_home.glob("*.log")]
    assert wait_for(lambda: not slurm.jobs())
    for task, name in enumerate(("kimi_k2", "minimax_m2.1")):
        called = (at_home / f"called.{task}").read_text()
        assert called == f"-m pytest --profile={name} --server-info={ROOT}/server_info.{name}.txt --server slurm\n"


def test_a_sweep_before_the_server_is_there_says_how_to_wait(
    slurm: Cluster, make_profile: MakeProfile, at_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's two commands without the wait between them: not the simulated server, and exit code 13."""
    make_profile()
    info = at_home / "info.txt"
    monkeypatch.setenv("SERVER_INFO", str(info))
    job = run("sbatch", "--parsable", "--hold", "-Jmine", *SMALL, "--output=serve.log", str(SERVE), "stub.toml").strip()
    command = [sys.executable, "-m", "pytest", "-k", "isl4096", "--no-plot", "-p", "no:cacheprovider"]
    command.append(f"--results-dir={at_home}/results")
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 13, done.stdout
        assert (
            f"job {job} of slurm/serve.sh is PENDING and has not published {info} yet; wait for it: "
            in done.stdout + done.stderr
        )
        waiting = subprocess.Popen([sys.executable, "-m", "bench_tests.server.wait", "--timeout=60"], cwd=ROOT)
        try:
            run("scontrol", "release", job)
            assert waiting.wait(90) == 0
        finally:
            waiting.kill()
            waiting.wait()
        named = subprocess.run([*command[:3], "--co", "-q"], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert named.returncode == 0, named.stdout
        assert "isl16-osl4-conc2]" in named.stdout  # by the file's path in server_info.txt
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs())


def test_the_job_of_a_profile_by_the_readmes_command(slurm: Cluster, at_home: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{PRINT}"
    options = run(sys.executable, "-c", script).strip()
    info = at_home / "info.txt"
    command = f"sbatch --parsable --output=serve.log {options} {shlex.quote(str(SERVE))} demo --server-info {info}"
    job = run("bash", "-c", command).strip()
    try:
        assert wait_for(info.exists)
        assert read_server_info(info).model == "simulated"
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs())


PRINT = "from bench_tests.server.slurm.__main__ import main\nmain(['options', 'demo'])"
