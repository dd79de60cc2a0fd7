"""What a server's job asks srun for: in an image, over several nodes, and what is told before sbatch. No cluster."""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bench_tests.errors import UsageError
from bench_tests.measure.about_server import few_cpus
from bench_tests.paths import ROOT
from bench_tests.server.command import Command, serve_command
from bench_tests.server.slurm.joblog import LINES, last_words
from bench_tests.server.slurm.node import cpu_warning, must_be_submittable, with_defaults
from bench_tests.server.slurm.request import sbatch_options
from bench_tests.server.slurm.step import Head, as_step, on_each, over_nodes
from bench_tests.sweep.profile import Profile, load_profile

JOB = with_defaults({
    "WEIGHTS_DIR": "/weights", "WORKSPACE": "/ws", "RESULTS_DIR": "/res", "LOGS_DIR": "/logs", "CACHE_DIR": "/cache",
    "SLURM_CPUS_PER_TASK": "32", "SLURM_GPUS_PER_NODE": "8", "VIRTUAL_ENV": "/v", "PYTHONPATH": "/p", "PATH": "/bin",
})  # fmt: skip
HEAD = Head("gpu1", 29500, "10.0.0.1")


def profile(folder: Path, text: str) -> Profile:
    path = folder / "mine.toml"
    path.write_text(text if "[model]" in text else f'[model]\nid = "m"\n{text}')
    return load_profile(str(path))


def command(of: Profile) -> Command:
    return serve_command(of, host="h", port=1, api_key="s3cret", environ=JOB)


def split(step: Command) -> tuple[list[str], list[str]]:
    at = step.argv.index("--")
    return list(step.argv[:at]), list(step.argv[at + 1 :])


@pytest.mark.parametrize("name", ["kimi_k2", "minimax_m2.1"])
def test_the_built_in_profiles_as_steps(name: str) -> None:
    of = load_profile(name)
    step = as_step(command(of), of, JOB, contained=True)
    srun, inner = split(step)
    assert inner == list(command(of).argv)
    assert srun[0] == "srun"
    assert {"--export=ALL", "--nodes=1", "--ntasks=1", "--cpus-per-task=32", "--no-container-entrypoint"} <= set(srun)
    assert "--container-mounts=/weights:/weights,/cache:/cache,/ws:/ws,/res:/res,/logs:/logs" in srun
    assert "s3cret" not in " ".join(step.argv)
    assert step.env["VLLM_API_KEY"] == "s3cret"
    assert not {"VIRTUAL_ENV", "PYTHONPATH"} & step.env.keys()
    (named,) = (part for part in srun if part.startswith("--container-env="))
    names = set(named.partition("=")[2].split(","))
    assert {"VLLM_API_KEY", "HF_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "PYTHONUNBUFFERED"} <= names
    folders = {name: step.env[name] for name in names - {"VLLM_API_KEY", "PYTHONUNBUFFERED"}}
    assert all(folder.startswith(("/cache", "/weights")) for folder in folders.values()), folders


def test_weights_are_not_downloaded_into_what_is_thrown_away() -> None:
    of = load_profile("kimi_k2")
    with pytest.raises(UsageError, match=r"download_dir.*WEIGHTS_DIR.*empty.*thrown away"):
        must_be_submittable(of, {"WEIGHTS_DIR": ""})
    with pytest.raises(UsageError, match=r"\$WEIGHTS_DIR, which is not set"):
        must_be_submittable(of, {})
    bare = replace(of, container=replace(of.container, image=""))
    assert must_be_submittable(bare, {"WEIGHTS_DIR": ""}) == []


def test_what_may_be_wrong_is_said_before_sbatch(tmp_path: Path) -> None:
    (told,) = must_be_submittable(load_profile("kimi_k2"), {"WEIGHTS_DIR": "/not/here"})
    assert "/not/here" in told
    image = '[container]\nimage = "x"\nextra = ["--container-name=mine"]\n'
    doubts = " ".join(must_be_submittable(profile(tmp_path, image), {}))
    assert "HF_HOME" in doubts
    assert "--container-name=mine" in doubts
    later = profile(tmp_path, '[server]\nserve_args = ["--x", "$SLURM_JOB_ID"]\n')
    assert must_be_submittable(later, {}) == []


def test_the_images_options(tmp_path: Path) -> None:
    text = '[server]\nserve_command = ["python", "-m", "x"]\n[container]\nimage = "i"\nwritable = true\nentrypoint = true\n'
    of = profile(tmp_path, text)
    srun, inner = split(as_step(on_each(command(of), of, JOB, HEAD, contained=True), of, JOB, contained=True))
    assert {"--container-writable", "--container-entrypoint"} <= set(srun)
    assert "--no-container-entrypoint" not in srun
    assert inner[0] == "python3"
    assert as_step(command(of), of, JOB, contained=True).env["PYTHONPATH"] == str(ROOT)


def test_python_is_the_images_on_each_node(tmp_path: Path) -> None:
    of = profile(tmp_path, '[server]\nnodes = 2\nserve_command = ["python", "-m", "x"]\n[container]\nimage = "i"\n')
    line = on_each(command(of), of, JOB, HEAD, contained=True)
    assert [on_node(line, rank)[0] for rank in (0, 1)] == ["python3", "python3"]


def test_what_only_the_job_has_is_no_hindrance_to_sbatch(tmp_path: Path) -> None:
    image = '[server]\ndownload_dir = "/w"\n[container]\nimage = "i"\nmounts = ["/tmp/$SLURM_JOB_ID:/s"]\n'
    of = profile(tmp_path, image + '[container.env]\nHF_HOME = "/s/$SLURM_JOB_ID"\n')
    must_be_submittable(of, {})
    srun, _ = split(as_step(command(of), of, {**JOB, "SLURM_JOB_ID": "7"}, contained=True))
    assert "--container-mounts=/tmp/7:/s" in srun


def test_gpus_by_gres(tmp_path: Path) -> None:
    of = profile(tmp_path, '[server]\ntensor_parallel = 8\n[container]\nimage = "i"\n[slurm]\ngres = "gpu:h100:8"\n')
    options = sbatch_options(of)
    assert {"--gpus-per-node=0", "--gres=gpu:h100:8"} <= set(options)
    step = as_step(command(of), of, JOB, contained=True)
    assert "--gres=gpu:h100:8" in step.argv
    assert "SLURM_GPUS_PER_NODE" not in step.env


def on_node(line: Command, rank: int) -> list[str]:
    """What a node's shell makes of it, with `echo` for the server."""
    shell, flag, script = line.argv
    assert (shell, flag) == ("sh", "-c")
    script = script.replace("exec ", "printf '%s\\n' ")
    env = {**os.environ, "SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)}
    return subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=True).stdout.splitlines()


def flags(words: list[str]) -> dict[str, str]:
    return {word: words[at + 1] if at + 1 < len(words) else "" for at, word in enumerate(words) if word[:2] == "--"}


def test_tensors_and_pipelines_over_nodes(tmp_path: Path) -> None:
    of = profile(
        tmp_path, '[server]\nnodes = 2\ntensor_parallel = 8\npipeline_parallel = 2\nserve_args = ["--x", "a b\'$$c"]\n'
    )
    line = over_nodes(command(of), of, JOB, HEAD)
    first, second = on_node(line, 0), on_node(line, 1)
    assert flags(first)["--x"] == "a b'$c"
    assert "--headless" in second
    assert "--headless" not in first
    for rank, words in enumerate((first, second)):
        told = flags(words)
        assert (told["--nnodes"], told["--node-rank"], told["--master-addr"]) == ("2", str(rank), "gpu1")
        assert told["--master-port"] == "29500"
    srun, _ = split(as_step(line, of, JOB, contained=False))
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1"} <= set(srun)
    assert not any("container" in part for part in srun)


def test_replicas_over_nodes(tmp_path: Path) -> None:
    of = profile(tmp_path, "[server]\nnodes = 2\ndata_parallel = 16\n")
    line = over_nodes(command(of), of, JOB, HEAD)
    first, second = flags(on_node(line, 0)), flags(on_node(line, 1))
    assert first["--data-parallel-size"] == second["--data-parallel-size"] == "16"
    assert first["--data-parallel-size-local"] == second["--data-parallel-size-local"] == "8"
    assert second["--data-parallel-start-rank"] == "8"
    assert {told["--data-parallel-address"] for told in (first, second)} == {"10.0.0.1"}, "it is listened on"
    assert "--headless" in second
    assert not {"--headless", "--data-parallel-start-rank"} & first.keys()
    with pytest.raises(UsageError, match=r"data_parallel: 3 replicas on 2 nodes"):
        over_nodes(command(of), replace(of, server=replace(of.server, data_parallel=3)), JOB, HEAD)


def test_another_engine_over_nodes_needs_its_flags(tmp_path: Path) -> None:
    text = '[server]\nengine = "other"\nnodes = 2\n'
    of = profile(tmp_path, text)
    with pytest.raises(UsageError, match=r"server\.nodes: 2.*node_args.*nodes = 1"):
        must_be_submittable(of, {})
    args = 'node_args = ["--at={head}:{head_port}", "--n={nodes}", "--rank", "r$SLURM_PROCID"]\nworker_args = ["--quiet"]\n'
    of = profile(tmp_path, text + args)
    line = over_nodes(command(of), of, JOB, HEAD)
    assert on_node(line, 1)[-5:] == ["--at=gpu1:29500", "--n=2", "--rank", "r1", "--quiet"]
    assert on_node(line, 0)[-4:] == ["--at=gpu1:29500", "--n=2", "--rank", "r0"]
    assert shlex.split(line.argv[2])


def test_few_cpus_are_said() -> None:
    of = load_profile("kimi_k2")
    assert cpu_warning(of, {"SLURM_CPUS_ON_NODE": "32"}) is None
    assert cpu_warning(of, {}) is None
    assert "1 CPUs for 8 GPUs" in (cpu_warning(of, {"SLURM_CPUS_ON_NODE": "1"}) or "")
    assert cpu_warning(load_profile("demo"), {"SLURM_CPUS_ON_NODE": "1"}) is None


def test_a_failed_jobs_log_begins_with_what_pyxis_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    before = [f"serve: old line {n}" for n in range(30)] + ["pyxis: an earlier start", "serve: starting m"]
    pyxis = ["pyxis: importing", "pyxis: [ERROR] 404 Not Found", *[f"pyxis: advice {n}" for n in range(40)]]
    log.write_text("\n".join([*before, *pyxis, *[f"srun: line {n}" for n in range(30)]]))
    lines = last_words(log).splitlines()
    assert len(lines) <= LINES
    assert "404 Not Found" in "\n".join(lines[:3])
    assert "earlier" not in "\n".join(lines)
    assert lines[-1] == "srun: line 29"
    log.write_text("one\ntwo")
    assert last_words(log) == "one\ntwo"


def test_few_cpus_are_a_note_of_the_result() -> None:
    assert few_cpus({"job_cpus": 32, "job_gpus": 8}) == []
    assert few_cpus({"job_cpus": None, "job_gpus": 8}) == few_cpus({"kind": "attach"}) == []
    (note,) = few_cpus({"job_cpus": 2, "job_gpus": 8})
    assert note.ok
    assert "2 CPUs for 8 GPUs" in note.text


def test_the_documented_engine_without_a_variable_for_its_key(tmp_path: Path) -> None:
    """Its key reaches it, and stands on no command line."""
    text = (ROOT / "docs" / "slurm.md").read_text()
    (recipe,) = (part.partition("```")[0] for part in text.split("```toml\n") if "sglang.launch_server" in part)
    of = profile(tmp_path, recipe + '\n[model]\nid = "m"\n')
    made = serve_command(of, host="h", port=1, api_key="s3cret-key", environ=JOB)
    line = over_nodes(made, of, JOB, HEAD)
    assert "s3cret-key" not in " ".join(line.argv)
    package = tmp_path / "sglang"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "launch_server.py").write_text(
        "import sys\nprint(sys.argv[1:])\nprint(open('/proc/self/cmdline').read().split(chr(0)))\n"
    )
    env = {**os.environ, **line.env, "SLURM_PROCID": "1", "PYTHONPATH": str(tmp_path)}
    said = subprocess.run(line.argv, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"--api-key=s3cret-key", "--model-path", "m", "10.0.0.1:29500", "1"} <= set(ast.literal_eval(said[0]))
    assert "s3cret-key" not in said[1]
