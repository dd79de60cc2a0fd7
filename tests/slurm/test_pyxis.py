"""The server in a container, on a real Slurm whose srun has a stand-in for pyxis; and that stand-in, point by point.

pyxis and enroot are in no registry of packages, so CI has a stand-in (pyxis/) that does what they do by default: a root
that is read-only, home included, the image's ENV first, PATH set anew, only what is mounted. srun itself is the real one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench_tests.server.info import read_server_info
from bench_tests.server.served import Endpoint
from bench_tests.server.slurm.near import answers
from tests.slurm.conftest import ROOT, STUB, Cluster, Image, MakeProfile, run
from tests.support.processes import alive, wait_for

SERVE = ROOT / "slurm" / "serve.sh"
SMALL = ("--gpus-per-node=1", "--mem=1G", "--time=10", "--open-mode=append")
Batch = Callable[..., str]


@pytest.fixture
def batch(slurm: Cluster, tmp_path: Path) -> Batch:
    """Runs a script's lines as a job, and gives what it wrote."""

    def submit(script: str, *options: str) -> str:
        log = tmp_path / "batch.log"
        log.unlink(missing_ok=True)
        run("sbatch", "--wait", f"--output={log}", "--mem=100M", *options, "--wrap", script)
        return log.read_text()

    return submit


class Serving:
    """Jobs of serve.sh in a test's own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.info, self.log = folder, folder / "info.txt", folder / "serve.log"

    def __call__(self, profile: Any, *options: str, arguments: tuple[str, ...] = ()) -> str:
        return run(
            "sbatch", "--parsable", *SMALL, *options, f"--output={self.log}", str(SERVE), profile.source,
            "--server-info", str(self.info), *arguments,
        ).strip()  # fmt: skip

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def serves(self) -> Endpoint:
        assert wait_for(self.info.exists, 40), self.said()
        info = read_server_info(self.info)
        return Endpoint(info.url, info.api_key)


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serving:
    monkeypatch.setenv("BENCH_PYTHON", sys.executable)
    monkeypatch.setenv("BENCH_ROOT", str(ROOT))
    for name in ("RESULTS_DIR", "LOGS_DIR", "CACHE_DIR"):
        monkeypatch.setenv(name, f"{tmp_path}/new/{name.lower()}")
    return Serving(tmp_path)


def state(job: str) -> str:
    return run("squeue", "-h", "-t", "all", "-o", "%T", "-j", job).strip()


def status(endpoint: Endpoint) -> int | None:
    reply = answers(endpoint, "/v1/models")
    return reply[0] if reply else None


def contained(image: object, *mounts: str, more: str = "") -> str:
    """A profile's [container]."""
    return f'image = "{image}"\nmounts = {json.dumps(list(mounts))}\n{more}'


# ------------------------------------------------------------------ the stand-in does what pyxis and enroot do


def test_the_stand_ins_root_is_read_only_home_included(batch: Batch, tmp_path: Path) -> None:
    image, (shared, hidden) = Image.make(tmp_path / "image"), (tmp_path / "shared", tmp_path / "hidden")
    shared.mkdir()
    hidden.mkdir()
    script = (
        f"for d in $HOME /usr {shared} {hidden} /tmp; do mkdir -p $d/.cache/x 2>/dev/null && echo $d written; done; "
        "mkdir $HOME/.cache 2>&1; echo $HOME"
    )
    step = f"srun --container-image={image} --container-mounts={shared}:{shared} --no-container-entrypoint"
    said = batch(f"{step} -- sh -c '{script}'")
    assert "Read-only file system" in said
    assert [line for line in said.splitlines() if line.endswith("written")] == [
        f"{shared} written", f"{hidden} written", "/tmp written",
    ]  # fmt: skip
    assert (shared / ".cache" / "x").exists()
    assert not (hidden / ".cache").exists(), "what is not mounted is in the container's own /tmp"
    assert "/root written" in batch(f"{step} --container-writable -- sh -c '{script}'")


def test_the_stand_ins_image_goes_before_the_jobs_environment(batch: Batch, tmp_path: Path) -> None:
    image = Image.make(
        tmp_path / "image", entrypoint='#!/bin/sh\necho entered\nexec "$@"\n', GIVEN="image", OTHER="image"
    )
    show = "-- sh -c 'echo $GIVEN $OTHER $MINE $PATH'"
    step = f"GIVEN=job OTHER=job MINE=job PATH=/x/bin:$PATH srun --container-image={image}"
    reset = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert batch(f"{step} {show}") == f"image image job {reset}\n"
    assert batch(f"{step} --container-env=GIVEN,MINE {show}") == f"job image job {reset}\n"
    assert batch(f"{step} --container-entrypoint {show}").startswith("entered\n")


def test_a_named_container_is_used_whatever_image_is_asked_for(batch: Batch, tmp_path: Path) -> None:
    first, second = (Image.make(tmp_path / name, WHICH=name) for name in ("first", "second"))
    show = "--container-name=mine -- sh -c 'echo $WHICH'"
    assert batch(f"srun --container-image={first} {show}; srun --container-image={second} {show}") == "first\nfirst\n"


def test_srun_limits_the_environment_as_its_job_was_told(batch: Batch, tmp_path: Path) -> None:
    show = "sh -c 'echo $MINE'"
    for export in ("NONE", "X=1"):
        said = batch(f"export MINE=job; srun {show}; srun --export=ALL {show}", f"--export={export}")
        assert said.split() == ["job"], "the first step has no word of it"


def test_srun_answers_term_with_kill_and_slurm_signals_in_order(batch: Batch) -> None:
    task = 'trap "echo in order; exit 0" TERM; for i in 1 2 3 4 5 6 7 8 9; do sleep 1; done'
    killed = batch(f"srun sh -c '{task}' & sleep 2; kill $!; wait")
    assert "in order" not in killed
    told = batch(f"srun sh -c '{task}' & sleep 2; scancel --signal=TERM $SLURM_JOB_ID; wait")
    assert "in order" in told


# ------------------------------------------------------------------ the server in it


def test_the_server_in_an_image_has_its_key_its_folders_and_nothing_of_the_host(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.make(tmp_path / "image", VLLM_API_KEY="image", HF_HOME="/image", GIVEN="image", UNNAMED="image")
    cache, weights = tmp_path / "new" / "cache_dir", tmp_path / "weights"
    weights.mkdir()
    env = 'env = { HF_HOME = "$CACHE_DIR/hf", TRITON_CACHE_DIR = "$CACHE_DIR/triton", GIVEN = "container" }'
    mounts = [f"${name}:${name}" for name in ("CACHE_DIR", "RESULTS_DIR", "LOGS_DIR", "WEIGHTS_DIR", "NOWHERE")]
    profile = make_profile(
        "--dump", f"{cache}/dump.json", server='env = { GIVEN = "server" }\ndownload_dir = "$WEIGHTS_DIR"',
        container=contained(image, *mounts, more=env),
    )  # fmt: skip
    for name, value in {"VIRTUAL_ENV": "/host", "PYTHONPATH": "/host", "NOWHERE": "", "UNNAMED": "job"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WEIGHTS_DIR", str(weights))
    job = serving(profile, "--cpus-per-task=4")
    try:
        endpoint = serving.serves()
        assert [status(endpoint), status(Endpoint(endpoint.base_url))] == [200, 401]
        told = json.loads((cache / "dump.json").read_text())
        assert told["env"]["VLLM_API_KEY"] == endpoint.api_key
        assert (told["env"]["GIVEN"], told["env"]["HF_HOME"]) == ("server", f"{cache}/hf")
        assert told["env"]["UNNAMED"] == "image"
        assert not {"VIRTUAL_ENV", "PYTHONPATH"} & told["env"].keys()
        writable = told["writable"]
        assert not writable["/root"]
        assert not writable["/usr"]
        assert writable[f"{cache}/hf"]
        assert writable[f"{cache}/triton"]
        assert ["--download-dir", str(weights)] == told["arguments"][-2:]
        key = endpoint.api_key
        assert key
        shown = run("ps", "-eo", "args") + run("scontrol", "show", "step", f"{job}.0") + serving.said()
        assert key not in shown
        assert "CPUs for" not in serving.said()
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs())
    assert wait_for(lambda: alive(f"--marker={tmp_path}") == [], 5)
    assert not serving.info.exists()


@pytest.mark.parametrize("export", ["NONE", "X=1"])
def test_a_limited_environment_of_the_job_does_not_cost_the_key(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path, export: str
) -> None:
    profile = make_profile(container=contained(Image.make(tmp_path / "image")))
    job = serving(profile, f"--export={export}")
    try:
        endpoint = serving.serves()
        assert [status(endpoint), status(Endpoint(endpoint.base_url))] == [200, 401]
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs())


def test_a_server_that_serves_everybody_is_stopped_and_never_published(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path
) -> None:
    job = serving(make_profile("--no-key", container=contained(Image.make(tmp_path / "image"))))
    assert wait_for(lambda: state(job) == "FAILED", 40), serving.said()
    assert "ExitCode=13:0" in run("scontrol", "show", "job", job)
    assert "answers without its key" in serving.said()
    assert "stopped in order" in serving.said()
    assert not serving.info.exists()


def told_in_order(serving: Serving) -> bool:
    return "stub of org/stub stopped in order" in serving.said()


@pytest.mark.parametrize(
    "order", [("scancel", "--batch", "--signal=TERM"), ("scancel",), ("scontrol", "requeue")], ids=" ".join
)
def test_a_server_in_an_image_ends_in_order(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path, order: tuple[str, ...]
) -> None:
    profile = make_profile(container=contained(Image.make(tmp_path / "image")))
    job = serving(profile)
    try:
        serving.serves()
        run(*order, job)
        assert wait_for(lambda: not serving.info.exists(), 10)
        assert wait_for(lambda: told_in_order(serving), 15), serving.said()
        assert wait_for(lambda: state(job) != "RUNNING", 15), serving.said()
        assert wait_for(lambda: alive(f"--marker={tmp_path}") == [], 10)
    finally:
        subprocess.run(["scancel", job], timeout=60)
    assert wait_for(lambda: not slurm.jobs(), 30)


def test_the_file_goes_when_the_shutdown_begins(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path
) -> None:
    """A server that takes its time to stop is not found meanwhile."""
    job = serving(make_profile("--ignore-term", stop="8s"))
    try:
        serving.serves()
        run("scancel", "--batch", "--signal=TERM", job)
        assert wait_for(lambda: not serving.info.exists(), 5)
        assert alive(f"--marker={tmp_path}"), "it is still there"
    finally:
        subprocess.run(["scancel", job], timeout=60)
    assert wait_for(lambda: not slurm.jobs(), 40)


def test_the_time_limit_ends_the_server_in_order(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path
) -> None:
    """TERM ahead of the limit by slurm/serve.sh's own request, through a real srun."""
    job = serving(make_profile(container=contained(Image.make(tmp_path / "image"))), "--time=1", "--signal=B:TERM@50")
    serving.serves()
    assert wait_for(lambda: not serving.info.exists(), 60)
    assert wait_for(lambda: told_in_order(serving), 15), serving.said()
    assert wait_for(lambda: state(job) != "RUNNING", 15)
    assert wait_for(lambda: not slurm.jobs() and not alive(f"--marker={tmp_path}"))


def test_an_image_or_a_mount_that_is_not_there_is_told(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path
) -> None:
    job = serving(make_profile(container=contained("org/nowhere:1")))
    assert wait_for(lambda: state(job) == "FAILED", 30), serving.said()
    assert "404 Not Found" in serving.said()
    job = serving(make_profile(container=contained(Image.make(tmp_path / "image"), "/nowhere:/nowhere")))
    assert wait_for(lambda: state(job) == "FAILED", 30), serving.said()
    assert "failed to mount: /nowhere" in serving.said()


def test_without_the_container_it_is_no_step(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path
) -> None:
    job = serving(make_profile(container=contained(Image.make(tmp_path / "image"))), arguments=("--no-container",))
    try:
        serving.serves()
        assert f"{job}.0" not in run("squeue", "-h", "-s", "-o", "%i", "-j", job)
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs())


def test_an_entrypoint_and_few_cpus(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path
) -> None:
    image = Image.make(tmp_path / "image", entrypoint='#!/bin/sh\necho through the entrypoint\nexec "$@"\n')
    profile = make_profile(server="tensor_parallel = 2", container=contained(image, more="entrypoint = true"))
    job = serving(profile, "--gpus-per-node=2", "--cpus-per-task=3")
    try:
        serving.serves()
        assert "through the entrypoint" in serving.said()
        assert "warning: 4 CPUs for 2 GPUs" in serving.said() or "warning: 3 CPUs for 2 GPUs" in serving.said()
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs())


def test_a_program_in_the_images_own_folder_needs_its_full_path(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path
) -> None:
    """The image's ENV has the folder first on PATH, as a venv of an image has: the login shell sets it anew."""
    venv = tmp_path / "venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "vllm").write_text(f'#!/bin/sh\nexec {sys.executable} {STUB} "$@"\n')
    (venv / "vllm").chmod(0o755)
    image = Image.make(tmp_path / "image", venv, PATH=f"{venv}:/usr/bin:/bin")
    for program in ("vllm", f"{venv}/vllm"):
        made = make_profile(container=contained(image))
        text = Path(made.source).read_text()
        Path(made.source).write_text(text.replace(f'["{sys.executable}", "{STUB}"]', f'["{program}"]'))
        job = serving(made)
        try:
            if program == "vllm":
                assert wait_for(lambda job=job: state(job) == "FAILED", 40), serving.said()
                assert "vllm" in serving.said()
                assert "No such file or directory" in serving.said()
                assert not serving.info.exists()
            else:
                assert status(serving.serves()) == 200
        finally:
            subprocess.run(["scancel", job], timeout=60)
    assert wait_for(lambda: not slurm.jobs())


def test_gpus_by_gres_reach_the_step(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path
) -> None:
    from bench_tests.server.slurm.request import sbatch_options

    profile = make_profile(
        "--dump", f"{tmp_path}/new/cache_dir/dump.json", server="tensor_parallel = 2", slurm='gres = "gpu:2"',
        container=contained(Image.make(tmp_path / "image"), "$CACHE_DIR:$CACHE_DIR"),
    )  # fmt: skip
    job = serving(profile, *sbatch_options(profile))
    try:
        serving.serves()
        env = json.loads((tmp_path / "new" / "cache_dir" / "dump.json").read_text())["env"]
        assert len(env["CUDA_VISIBLE_DEVICES"].split(",")) == 2
        assert "gres/gpu=2" in run("scontrol", "-d", "show", "job", job) or "gpu:2" in run(
            "scontrol", "-d", "show", "job", job
        )
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs())


def test_over_two_nodes_both_work_one_serves_and_scancel_ends_both(
    slurm: Cluster, make_profile: MakeProfile, serving: Serving, tmp_path: Path
) -> None:
    profile = make_profile(
        server="nodes = 2\npipeline_parallel = 2\ngpus_per_node = 1",
        container=contained(Image.make(tmp_path / "image")),
    )
    job = serving(profile, "--nodes=2")
    try:
        endpoint = serving.serves()
        assert status(endpoint) == 200
        started = [_arguments(process) for process in alive(f"--marker={tmp_path}")]
        servers = [arguments for arguments in started if arguments[:2] == [sys.executable, str(STUB)]]
        ranks = {arguments[arguments.index("--node-rank") + 1]: arguments for arguments in servers}
        assert sorted(ranks) == ["0", "1"]
        assert "--headless" in ranks["1"]
        assert "--headless" not in ranks["0"]
        for arguments in ranks.values():
            assert arguments[arguments.index("--nnodes") + 1] == "2"
            assert arguments[arguments.index("--master-addr") + 1] == read_server_info(serving.info).hostname
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs(), 30)
    assert wait_for(lambda: not alive(f"--marker={tmp_path}"), 10)


def _arguments(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0") or [""]
    except OSError:
        return [""]
