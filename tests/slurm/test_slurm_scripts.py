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

from bench_tests.server.endpoint import Endpoint
from bench_tests.server.info import read_server_info
from bench_tests.server.process import answers
from bench_tests.server.slurm_request import sbatch_options
from bench_tests.sweep.profile import BUILTIN, load_profile
from tests.processes import alive, wait_for
from tests.slurm.conftest import ROOT, Cluster, MakeProfile, run

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
    scripts = [*ROOT.glob("slurm/*.sh"), *Path(__file__).parent.glob("*.sh")]
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
        f'echo "$PWD: $*" >>{at_home}/called\nfor ((i = 0; i < 300; i++)); do sleep 0.1; done\n'
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
        assert f"{ROOT}: -m pytest --profile {profile}" in called.read_text()
        assert f"--server-info {info} --resume --server attach -k isl16 and conc1" in called.read_text()
        assert "org/stub answers at http://gpu" in (at_home / "bench.log").read_text()

        run("scontrol", "requeue", client)
        assert wait_for(lambda: state(client) == "PENDING", 60)
        assert wait_for(lambda: begun_anew(client, called), 300), slurm.account_of(client)
        assert called.read_text().count("ended in order") == 1

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
        assert f"--profile {name} --server-info {ROOT}/server_info.{name}.txt --resume --server slurm" in called


def test_in_a_container_the_server_is_a_step_and_ends_with_its_job(
    slurm: Cluster, make_profile: MakeProfile, at_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = 'image = "org/image:pinned"\nmounts = ["$MODELS:$MODELS", "$NOWHERE:$NOWHERE"]'
    profile = make_profile(container=image).source
    (at_home / "bin").mkdir()
    (at_home / "bin" / "srun").symlink_to(Path(__file__).parent / "fake_srun.sh")
    real = shutil.which("srun")
    monkeypatch.setenv("REAL_SRUN", str(real))
    monkeypatch.setenv("PYXIS_NOTES", str(at_home / "notes"))
    monkeypatch.setenv("PATH", f"{at_home / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("MODELS", "/models")
    monkeypatch.setenv("NOWHERE", "")
    info = at_home / "info.txt"
    arguments = [str(SERVE), profile, "--server-info", str(info)]
    job = run("sbatch", "--parsable", *SMALL, "--output=serve.log", *arguments).strip()
    try:
        assert wait_for(info.exists)
        said = read_server_info(info)
        assert answers(Endpoint(said.url, said.api_key), "/v1/models") is not None
        assert (at_home / "notes").read_text().splitlines() == [
            "--container-image=org/image:pinned",
            "--container-mounts=/models:/models",
            "--no-container-entrypoint",
        ]
        steps = run("squeue", "-h", "-s", "-o", "%i %j", "-j", job)
        assert f"{job}.0" in steps
        key = said.api_key
        assert key
        assert key not in run("ps", "-eo", "args") + run("scontrol", "show", "step", f"{job}.0")
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs())
    assert wait_for(lambda: alive(f"--marker={at_home}") == [], 5)
    assert not info.exists()
    without = run("sbatch", "--parsable", *SMALL, "--output=plain.log", *arguments, "--no-container").strip()
    try:
        assert wait_for(info.exists)
        assert f"{without}.0" not in run("squeue", "-h", "-s", "-o", "%i", "-j", without)
    finally:
        run("scancel", without)
    assert wait_for(lambda: not slurm.jobs())


def test_the_job_of_a_profile_by_the_readmes_command(slurm: Cluster, at_home: Path) -> None:
    options = run(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{PRINT}").strip()
    info = at_home / "info.txt"
    command = f"sbatch --parsable --output=serve.log {options} {shlex.quote(str(SERVE))} demo --server-info {info}"
    job = run("bash", "-c", command).strip()
    try:
        assert wait_for(info.exists)
        assert read_server_info(info).model == "simulated"
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs())


PRINT = "from bench_tests.server.slurm import main\nmain(['options', 'demo'])"
