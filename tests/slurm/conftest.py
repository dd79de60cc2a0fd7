"""A real Slurm for the tests of this folder: three nodes with eight pretended GPUs each, on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench_tests.sweep.profile import Profile, load_profile
from tests.support.processes import wait_for

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STUB = HERE / "stub_server.py"
MakeProfile = Callable[..., Profile]


def run(*argv: str, timeout_s: float = 60) -> str:
    """A command's output, stdout and stderr; it must succeed."""
    told = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s)
    assert told.returncode == 0, f"{argv}: {told.stdout}{told.stderr}"
    return told.stdout + told.stderr


@dataclass
class Cluster:
    """The running cluster. Slurm's commands find it by the environment."""

    folder: Path
    lasting: set[str] = field(default_factory=set)  # jobs that may outlive the test that sees them

    def jobs(self) -> set[str]:
        """Jobs that are pending, running or completing."""
        return set(run("squeue", "-h", "-o", "%A").split()) - self.lasting

    def sbatch(self, *options: str, script: str = "sleep 600") -> str:
        """Submit a script of a line; its job's id."""
        return run("sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", script).strip()

    def account_of(self, job: str) -> str:
        """What Slurm knows and has logged of a job, for the message of a test that fails."""
        log = (self.folder / "log" / "slurmctld.log").read_text(errors="replace").splitlines()
        return "\n".join([run("scontrol", "show", "job", job), *[line for line in log if job in line][-30:]])


def _unfit() -> str | None:
    if os.geteuid() != 0:
        return "a Slurm on this machine needs root"
    if not shutil.which("slurmctld", path=os.environ["PATH"] + ":/usr/sbin") and not shutil.which("apt-get"):
        return "slurmctld is not installed, and there is no apt-get to install it"
    return None


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of its own for the session; skipped where there can be none, a failure if BENCH_REQUIRE_ALL=1."""
    required, unfit = os.environ.get("BENCH_REQUIRE_ALL") == "1", _unfit()
    folder = Path(f"/tmp/bs-{os.getpid()}")
    before = dict(os.environ)
    os.environ["CLUSTER_DIR"] = str(folder)
    os.environ["CLUSTER_PORT"] = str(18000 + os.getpid() % 1000 * 8)
    os.environ["SLURM_CONF"] = str(folder / "etc" / "slurm.conf")
    os.environ["PATH"] += ":/usr/sbin"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        if unfit is None:
            up = subprocess.run([str(HERE / "cluster_up.sh")], capture_output=True, text=True, timeout=300)
            unfit = None if up.returncode == 0 else f"no cluster: {up.stderr.strip()[-1500:]}"
        if unfit is not None:
            pytest.fail(unfit) if required else pytest.skip(unfit)
        yield Cluster(folder)
    finally:
        subprocess.run([str(HERE / "cluster_down.sh")], timeout=120)
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def slurm(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster; the test that leaves a job there fails."""
    yield cluster
    left = cluster.jobs()
    if left:
        subprocess.run(["scancel", *left], timeout=30)
        wait_for(lambda: not cluster.jobs())
    assert not left, f"jobs were left: {left}"


@dataclass
class Image:
    """An image of the stand-in for pyxis: a folder with this Python and the stub, and an ENV of its own."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    @classmethod
    def make(cls, folder: Path, *content: Path, entrypoint: str = "", **environment: str) -> Image:
        """`content`: further paths of this host that are in it."""
        folder.mkdir(parents=True)
        paths = dict.fromkeys([sys.prefix, sys.base_prefix, str(STUB), *map(str, content)])
        (folder / "content").write_text("".join(f"{path}\n" for path in paths))
        (folder / "environment").write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
        if entrypoint:
            (folder / "entrypoint").write_text(entrypoint)
            (folder / "entrypoint").chmod(0o755)
        return cls(folder)


def write_profile(folder: Path, *args: str, name: str = "stub", model: str = "org/stub", **said: str) -> Profile:
    """A profile whose server is the stub. `said`: further lines by table, such as slurm='time = \"1\"'."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    flags = ", ".join(f'"{arg}"' for arg in (*args, f"--marker={folder}"))
    path.write_text(
        f'[model]\nid = "{model}"\n[sweep]\nisl = [16]\nosl = [4]\nconcurrency = [1, 2]\n'
        f'[server]\nserve_command = ["{sys.executable}", "{STUB}"]\nserve_args = [{flags}]\n'
        f'stop_timeout = "{said.get("stop", "2s")}"\nstartup_timeout = "{said.get("startup", "30s")}"\n{said.get("server", "")}\n'
        f'[slurm]\nmemory = "1G"\n{said.get("slurm", "")}\n[container]\n{said.get("container", "")}\n'
    )
    return load_profile(str(path))


@pytest.fixture
def make_profile(tmp_path: Path) -> MakeProfile:
    """`write_profile` in the test's own folder."""

    def make(*args: str, **said: str) -> Profile:
        return write_profile(tmp_path, *args, **said)

    return make
