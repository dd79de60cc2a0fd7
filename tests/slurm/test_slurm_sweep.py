"""Whole sweeps with pytest against the simulated server in a job of a real Slurm."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench_tests.errors import UsageError
from bench_tests.server.info import ServerInfo, read_server_info, write_server_info
from bench_tests.server.served import Endpoint
from bench_tests.server.slurm.near import answers
from bench_tests.sim.simulator import SimSpec, Simulator
from bench_tests.sweep.keys import checked
from bench_tests.sweep.settings import Validity
from tests.server.test_power import NVML
from tests.slurm.conftest import ROOT, Cluster, Image, run, wait_for
from tests.support.processes import alive

NO_SERVER, INTERRUPTED = 13, 2
SERVING = json.dumps(
    f"env PYTHONPATH={ROOT} {sys.executable} -m bench_tests.server.simulator --model {{model}} --api-key-env VLLM_API_KEY".split()
)


def lenient() -> str:
    """[validity] without what a busy machine breaks: the figures are no matter here, only whether requests succeed."""
    lines = []
    for spec in dataclasses.fields(Validity):
        if any(word in spec.name for word in ("failed", "cache", "p99")):
            continue
        value: object = 0 if spec.name.startswith("min_") else 1
        try:
            checked(spec, value, spec.name)
        except UsageError:
            value = '"60s"'
        lines.append(f"{spec.name} = {value}")
    return "\n".join(lines)


class Sweeping:
    """A pytest of its own process, in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        osl: int = 8,
        step_ms: float = 5.0,
        time_limit: str = "10",
        slurm: str = "",
        server: str = "",
        container: str = "",
        model: str = "simulated",
    ) -> None:
        self.folder, self.info, self.results = folder, folder / "server_info.txt", folder / "results"
        self.profile = folder / "sim.toml"
        self.output = folder / "output.txt"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.profile.write_text(
            f'base = "demo"\n[model]\nid = "{model}"\n[sweep]\nisl = [64]\nosl = [{osl}]\nconcurrency = [1, 2]\n'
            f'[load]\nnum_prompts = 4\nnum_warmups = 0\n[server]\nserve_args = ["--base-ms", "{step_ms}"]\n{server}\n'
            f'[slurm]\nmemory = "1G"\ntime = "{time_limit}"\n{slurm}\n[slo]\np99_ttft = "60s"\np99_tpot = "60s"\n'
            f"[validity]\n{lenient()}\n[container]\n{container}\n"
        )

    def start(self, *args: str, server: str = "slurm") -> None:
        """pytest in the background; what it says goes to `output`."""
        common = ["--profile", str(self.profile), "--server-info", str(self.info), "--results-dir", str(self.results)]
        with open(self.output, "ab") as out:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "pytest",
                    "bench_tests",
                    "--server",
                    server,
                    "--no-plot",
                    "-p",
                    "no:cacheprovider",
                    *common,
                    *args,
                ],
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, timeout_s: float = 90) -> int:
        """Its exit code."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def __call__(self, *args: str, server: str = "slurm") -> int:
        self.start(*args, server=server)
        return self.wait()

    @property
    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def result(self, conc: int) -> dict[str, Any]:
        """A point's result file."""
        found = list(self.results.glob(f"*conc{conc}.json"))
        assert len(found) == 1, self.said
        loaded: dict[str, Any] = json.loads(found[0].read_text())
        return loaded

    def in_a_point(self) -> bool:
        """Requests run on the server just now."""
        if not self.info.exists():
            return False
        info = read_server_info(self.info)
        for look in range(2):  # half a second apart: the probe's one token is no point
            time.sleep(0.5 * look)
            reply = answers(Endpoint(info.url, info.api_key), "/metrics")
            if reply is None or re.search(rb"vllm:num_requests_running\S* [1-9]", reply[1]) is None:
                return False
        return True

    def job(self) -> str:
        """The server's job."""
        return read_server_info(self.info).job_id or ""

    def kill(self) -> None:
        """Nothing of it may outlive a test that failed."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def sweeping(tmp_path: Path) -> Iterator[Sweeping]:
    """A short sweep of two points."""
    sweep = Sweeping(tmp_path)
    yield sweep
    sweep.kill()


@pytest.fixture
def long_sweep(tmp_path: Path) -> Iterator[Sweeping]:
    """Two points of about 40 and 20 s."""
    sweep = Sweeping(tmp_path, osl=100, step_ms=100)
    yield sweep
    sweep.kill()


@pytest.fixture(scope="session")
def timing_out(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweeping]:
    """A sweep whose server's job has two minutes, less the one for TERM ahead: begun first and looked at last."""
    folder = tmp_path_factory.mktemp("limit")
    image = Image.make(folder / "image", ROOT)  # the server is a step of its job, behind a real srun
    sweep = Sweeping(
        folder, osl=1000, step_ms=100, time_limit="2", slurm='extra = ["-wgpu3"]',
        container=f'image = "{image}"', server=f'serve_command = {SERVING}',
    )  # fmt: skip
    before = cluster.jobs()
    sweep.start()
    assert wait_for(lambda: cluster.jobs() - before)
    cluster.lasting |= cluster.jobs() - before
    yield sweep
    sweep.kill()


def test_a_sweep_leaves_its_results_and_nothing_else(timing_out: Sweeping, slurm: Cluster, sweeping: Sweeping) -> None:
    sweeping.start()
    assert wait_for(sweeping.info.exists)
    info = read_server_info(sweeping.info)
    assert sweeping.wait() == 0, sweeping.said
    assert not sweeping.info.exists()
    assert info.api_key
    for conc in (1, 2):
        result = sweeping.result(conc)
        assert (result["verdict"], result["completed"]) == ("PASSED", 4)
        server = result["server"]
        assert (server["job_id"], server["partition"], server["nodes"]) == (info.job_id, "main", info.hostname)
        assert server["slurm_version"]
        assert server["simulated"] is True
    files = [path for path in sweeping.folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if info.api_key.encode() in path.read_bytes()] == []


def test_a_kept_server_serves_the_next_session_and_no_other_model(
    slurm: Cluster, sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweeping("--keep-server", "-k", "conc1") == 0, sweeping.said
    job = sweeping.job()
    assert slurm.jobs() == {job}
    try:
        assert sweeping("-k", "conc2", server="auto") == 0, sweeping.said
        assert sweeping("-k", "conc2", "--resume") == 0, sweeping.said
        assert f"attached to job {job}" in sweeping.said
        assert slurm.jobs() == {job}
        assert sweeping.result(2)["server"]["job_id"] == job

        other = Sweeping(sweeping.folder / "other", model="other/model")
        other.info.write_bytes(sweeping.info.read_bytes())
        assert other(server="attach") == NO_SERVER, other.said
        assert "other/model" in other.said

        key = read_server_info(sweeping.info).api_key
        assert key
        bare = Sweeping(sweeping.folder / "bare")
        bare.info.write_text(sweeping.info.read_text().splitlines()[0])
        assert bare(server="attach") == NO_SERVER, "without its key it gives nothing"
        monkeypatch.setenv("OPENAI_API_KEY", key)
        assert bare("-k", "conc1", server="attach") == 0, bare.said
    finally:
        run("scancel", job)
    assert wait_for(lambda: not slurm.jobs())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_job(slurm: Cluster, long_sweep: Sweeping, how: signal.Signals) -> None:
    long_sweep.start()
    assert wait_for(long_sweep.in_a_point)
    assert long_sweep.process is not None
    long_sweep.process.send_signal(how)
    assert long_sweep.wait(30) == INTERRUPTED, long_sweep.said
    assert slurm.jobs() == set()
    assert not long_sweep.info.exists()


def test_an_internal_error_cancels_the_job(slurm: Cluster, sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = sweeping.folder / "broken.py"
    broken.write_text("def pytest_runtest_teardown(item):\n    raise KeyError('internal')\n\n\n"
                      "def pytest_runtest_logreport(report):\n    raise KeyError('internal')\n")  # fmt: skip
    monkeypatch.setenv("PYTHONPATH", str(sweeping.folder))
    assert sweeping("-p", "broken") == 3, sweeping.said
    assert "submitted job" in sweeping.said
    assert "INTERNALERROR" in sweeping.said
    assert slurm.jobs() == set()
    assert not sweeping.info.exists()


def test_scancel_in_the_middle_of_a_point(slurm: Cluster, long_sweep: Sweeping) -> None:
    long_sweep.start()
    assert wait_for(long_sweep.in_a_point)
    job = long_sweep.job()
    run("scancel", job)
    assert long_sweep.wait() == NO_SERVER, long_sweep.said
    result = long_sweep.result(1)
    assert result["verdict"] == "ERROR"
    assert f"job {job} was cancelled" in " ".join(result["messages"]) + long_sweep.said


def test_node_down_in_the_middle_the_job_comes_back_and_the_point_is_measured_again(
    slurm: Cluster, tmp_path: Path
) -> None:
    sweep, node = Sweeping(tmp_path, osl=20, step_ms=100, slurm='extra = ["--exclude=gpu3"]'), "gpu1"
    try:
        sweep.start()
        assert wait_for(sweep.in_a_point)
        job, node = sweep.job(), read_server_info(sweep.info).hostname or ""
        run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        assert wait_for(lambda: run("squeue", "-h", "-o", "%T", "-j", job).strip() == "PENDING")
        # Slurm itself would wait for two minutes, so that the node can clean up
        run("scontrol", "update", f"jobid={job}", f"excnodelist={node},gpu3", "starttime=now")
        assert sweep.wait() == 0, sweep.said
        assert [sweep.result(conc)["verdict"] for conc in (1, 2)] == ["PASSED", "PASSED"]
        assert sweep.result(1)["server"]["restarts"] == 1
        assert f"lost its node {node} and requeued" in sweep.said
    finally:
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True)
        sweep.kill()


def test_node_down_in_the_middle_without_requeue(slurm: Cluster, tmp_path: Path) -> None:
    sweep, node = Sweeping(tmp_path, osl=100, step_ms=100, slurm='extra = ["--exclude=gpu3", "--no-requeue"]'), "gpu1"
    try:
        sweep.start()
        assert wait_for(sweep.in_a_point)
        node = read_server_info(sweep.info).hostname or ""
        run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        assert sweep.wait() == NO_SERVER, sweep.said
        assert f"lost its node {node}" in sweep.said
        assert sweep.result(1)["verdict"] == "ERROR"
    finally:
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True)
        sweep.kill()


def test_slurmctld_away_for_20_s_in_the_middle(slurm: Cluster, tmp_path: Path) -> None:
    sweep = Sweeping(tmp_path, osl=70, step_ms=100)
    try:
        sweep.start("-k", "conc1")
        assert wait_for(sweep.in_a_point)
        os.kill(int((slurm.folder / "run" / "slurmctld.pid").read_text()), signal.SIGTERM)
        time.sleep(20)
        run("slurmctld")
        assert wait_for(lambda: subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0)
        assert sweep.wait() == 0, sweep.said
        assert sweep.result(1)["verdict"] == "PASSED"
    finally:
        sweep.kill()


def test_slurmctld_that_hangs_for_20_s_in_a_sequential_run(slurm: Cluster, tmp_path: Path) -> None:
    """It takes connections and answers none, while the run asks now and then whether its verdict is clear."""
    sweep = Sweeping(tmp_path, osl=3, step_ms=20)
    text = sweep.profile.read_text().replace("[slo]\n", '[slo]\nmode = "confident"\nmax_requests = 4000\n')
    sweep.profile.write_text(text)
    controller = int((slurm.folder / "run" / "slurmctld.pid").read_text())
    try:
        sweep.start("-k", "conc2")
        assert wait_for(sweep.in_a_point)
        os.kill(controller, signal.SIGSTOP)
        time.sleep(20)
        os.kill(controller, signal.SIGCONT)
        assert sweep.wait(240) == 0, sweep.said
        result = sweep.result(2)
        assert result["verdict"] == "PASSED"
        assert result["completed"] < 4000, "its verdict was clear before"
        assert result["client"]["processes"][0]["worst_pause_s"] < 1.0, "the load stood while Slurm was asked"
    finally:
        os.kill(controller, signal.SIGCONT)
        sweep.kill()


def test_the_demo_profile_as_a_job_passes_its_own_objectives(slurm: Cluster, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "bench_tests", "--server", "slurm", "--profile", "demo", "--no-plot"]
    places = [f"--server-info={tmp_path}/info.txt", f"--results-dir={tmp_path}/results", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "9 passed" in done.stdout


def test_two_engines_over_two_nodes_are_one_server(slurm: Cluster, tmp_path: Path) -> None:
    command = json.dumps([sys.executable, str(Path(__file__).with_name("sim_over_nodes.py")), "--truth", str(tmp_path)])
    server = f"nodes = 2\ngpus_per_node = 1\ntensor_parallel = 2\nserve_command = {command}"
    sweep = Sweeping(tmp_path, osl=40, step_ms=20, server=server)
    try:
        assert sweep("--keep-server") == 0, sweep.said
        job = sweep.job()
        for conc in (1, 2):
            result = sweep.result(conc)
            assert (result["verdict"], result["completed"]) == ("PASSED", 4)
            assert (result["server"]["num_nodes"], result["server"]["job_gpus"]) == (2, 2)
        assert (tmp_path / "rank0.jsonl").read_text()
        assert (tmp_path / "rank1.jsonl").read_text()
        run("scancel", job)
        assert wait_for(lambda: not slurm.jobs(), 30)
        assert wait_for(lambda: not alive(f"--truth\0{tmp_path}"), 10)
        log = next((ROOT / "logs").glob(f"*{job}.log")) if not list(tmp_path.glob("**/serve-*.log")) else None
        said = (log or next(tmp_path.glob("**/serve-*.log"))).read_text()
        assert "engine 0 stopped in order" in said
        assert "engine 1 stopped in order" in said
    finally:
        sweep.kill()
        subprocess.run(["scancel", "--name=serve-sim"], timeout=60)


def test_the_energy_of_a_servers_gpus_is_sampled_on_all_of_its_nodes(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a driver's library that has one GPU of 500 W; a node says its own name."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (apt-get install gcc)")
    source = NVML.replace("*n = 2", "*n = 1")
    (tmp_path / "nvml.c").write_text(source)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(tmp_path / "nvml.c")], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setenv("LOGS_DIR", str(tmp_path))
    command = json.dumps([sys.executable, str(Path(__file__).with_name("sim_over_nodes.py")), "--truth", str(tmp_path)])
    server = f"nodes = 2\ngpus_per_node = 1\ntensor_parallel = 2\nserve_command = {command}\n[power]\nsource = 'nvml'"
    sweep = Sweeping(tmp_path, osl=40, step_ms=20, server=server)
    try:
        assert sweep("--point", "isl64-osl40-conc2", "--slo", "j_per_output_token<=1000") == 0, sweep.said
        result = sweep.result(2)
        power = result["power"]
        assert power["power_valid"], power
        assert len({name.partition(" ")[0] for name in power["gpus"]}) == 2, "both nodes are sampled"
        assert result["avg_power_w"] == pytest.approx(1000, rel=0.02)
        assert wait_for(lambda: not alive("power_sampler.py"), 15)
    finally:
        sweep.kill()
        subprocess.run(["scancel", "--name=serve-sim"], timeout=60)


def test_the_key_is_asked_for_or_nothing_is_measured(slurm: Cluster, tmp_path: Path) -> None:
    """--server slurm and attach: a server of ours that serves everybody is no server, and there is no figure of it."""
    stub = json.dumps([sys.executable, str(Path(__file__).with_name("stub_server.py"))])
    sweep = Sweeping(tmp_path / "slurm", server=f'serve_command = {stub}\nstop_timeout = "2s"')
    sweep.profile.write_text(sweep.profile.read_text().replace('"--base-ms"', '"--no-key", "--base-ms"'))
    assert sweep() == NO_SERVER, sweep.said
    assert "answers without its key" in sweep.said
    assert not list(sweep.results.glob("*_isl*.json"))
    with Simulator(SimSpec(model="simulated")) as everybodys:
        for job_id in ("4711000", "other-cluster"):
            info = ServerInfo(everybodys.url, str(sweep.profile), "simulated", job_id, "a-key")
            write_server_info(sweep.info, info)
            assert sweep(server="attach") == NO_SERVER, sweep.said
            assert "answers without the key that its server_info.txt has" in sweep.said
    assert not list(sweep.results.glob("*_isl*.json"))


def test_wait_ends_with_a_job_that_failed(slurm: Cluster, tmp_path: Path) -> None:
    sweep = Sweeping(tmp_path, container='image = "org/nowhere:1"')
    serve = [str(ROOT / "slurm" / "serve.sh"), str(sweep.profile), f"--server-info={sweep.info}"]
    options = ["--parsable", "--gpus-per-node=0", "--mem=1G", "--time=10", f"--output={tmp_path}/serve.log"]
    waiting = [sys.executable, "-m", "bench_tests.server.wait", f"--server-info={sweep.info}", "--timeout=100"]
    job = run("sbatch", *options, *serve).strip()
    for _ in range(2):  # while it runs or fails, and when it is over
        done = subprocess.run(waiting, cwd=ROOT, capture_output=True, text=True, timeout=110)
        assert done.returncode == NO_SERVER, done.stdout + done.stderr
        assert f"job {job} failed with exit code 13" in done.stderr
        assert "404 Not Found" in done.stderr
    job = run("sbatch", *options, "--nodes=9", "--no-kill", *serve).strip()
    done = subprocess.run(waiting, cwd=ROOT, capture_output=True, text=True, timeout=110)
    run("scancel", job)
    assert done.returncode == NO_SERVER, done.stdout
    assert "waiting will not help" in done.stderr
    assert wait_for(lambda: not slurm.jobs())


def test_a_profile_that_is_none_submits_nothing(slurm: Cluster, tmp_path: Path) -> None:
    command = f"sbatch $({sys.executable} -m bench_tests.server.slurm options kimi_k3) slurm/serve.sh kimi_k3"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "did you mean kimi_k2?" in done.stderr
    assert "no-profile-of-this-name=kimi_k3" in done.stderr
    assert slurm.jobs() == set()


def test_files_that_name_no_server_of_ours(slurm: Cluster, sweeping: Sweeping) -> None:
    ended = slurm.sbatch(script="exit 0")
    assert wait_for(lambda: not slurm.jobs())
    write_server_info(sweeping.info, ServerInfo("http://127.0.0.1:9", "demo", "simulated", ended))
    assert sweeping(server="auto") == NO_SERVER
    assert f"names job {ended}, which ended by itself" in sweeping.said
    assert "stale" in sweeping.said
    sweeping.info.write_text("http://127.0.0.1:9\n")
    assert sweeping(server="attach") == NO_SERVER


def test_the_clients_job_is_requeued_and_goes_on(slurm: Cluster, tmp_path: Path) -> None:
    """slurm/bench.sh with the real pytest: told to stop in the second point, requeued, and then the second alone is left."""
    sweep = Sweeping(tmp_path, osl=20, step_ms=50)
    os.environ |= {"BENCH_PYTHON": sys.executable, "BENCH_ROOT": str(ROOT), "SERVER_INFO": str(sweep.info)}
    options = ["--output", f"{tmp_path}/%x.log", "--open-mode=append", "--mem=1G", "--time=10"]
    serve, bench = str(ROOT / "slurm" / "serve.sh"), str(ROOT / "slurm" / "bench.sh")
    try:
        server = run(
            "sbatch", "--parsable", *options, "-Jserve", "--gpus-per-node=0", serve, str(sweep.profile)
        ).strip()
        arguments = [str(sweep.profile), "bench_tests", "--results-dir", str(sweep.results), "--no-plot"]
        client = run(
            "sbatch", "--parsable", *options, "-Jbench", f"--dependency=after:{server}", bench, *arguments
        ).strip()
        assert wait_for(lambda: list(sweep.results.glob("*conc1.json")), 40), (tmp_path / "bench.log").read_text()
        first = sweep.result(1)
        run("scontrol", "requeue", client)
        assert wait_for(lambda: "PENDING" in run("squeue", "-h", "-o", "%T", "-j", client))
        run("scontrol", "update", f"jobid={client}", "starttime=now")
        assert wait_for(lambda: slurm.jobs() == {server}, 60)
        said = (tmp_path / "bench.log").read_text()
        assert "ExitCode=0:0" in run("scontrol", "show", "job", client), said
        assert sweep.result(1) == first
        assert sweep.result(2)["verdict"] == "PASSED"
    finally:
        run("scancel", *slurm.jobs())
        for name in ("BENCH_PYTHON", "BENCH_ROOT", "SERVER_INFO"):
            del os.environ[name]
    assert wait_for(lambda: not slurm.jobs())


def test_the_time_limit_in_the_middle_of_a_point(timing_out: Sweeping, slurm: Cluster) -> None:
    assert timing_out.wait(120) == NO_SERVER, timing_out.said
    assert timing_out.result(1)["verdict"] == "ERROR"
    assert "reached its time limit" in timing_out.said
    assert wait_for(lambda: not timing_out.info.exists(), 5)
    (log,) = (timing_out.folder).glob("**/serve-sim-*.log")
    assert "stopped in order" in log.read_text()
