"""Load from several hosts of an allocation, and a real vLLM as the served command: whole sweeps on a real Slurm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench_tests.load.records import Records
from bench_tests.sim.simulator import SimSpec, Simulator
from tests.slurm.conftest import ROOT, Cluster, run
from tests.slurm.test_slurm_sweep import lenient
from tests.support.processes import alive, wait_for

VLLM = os.environ.get("BENCH_VLLM") or shutil.which("vllm")


def _pytest(*args: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-plot", *args]


def test_load_of_three_hosts_is_one_set_of_records(cluster: Cluster, tmp_path: Path) -> None:
    """salloc -N 3 pytest --load-hosts all: each host carries its share, prompts and counts are those of one host."""
    profile = tmp_path / "hosts.toml"
    profile.write_text(f'base = "demo"\n[load]\nstart = "together"\n[validity]\n{lenient()}\n')
    results = tmp_path / "results"
    with Simulator(SimSpec(base_ms=2.0, prefix_caching=False, truth_log=str(tmp_path / "truth.jsonl"))) as simulator:
        command = _pytest(
            f"--profile={profile}", f"--results-dir={results}", "--base-url", simulator.url, "--load-hosts", "all",
            "--point", "isl64-osl16-conc12", "--num-prompts", "60", "--num-warmups", "12", "--seed", "1",
        )  # fmt: skip
        done = subprocess.run(
            ["salloc", "--quiet", "-N", "3", "-n", "3", *command], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        simulator.stats()
    (path,) = results.glob("hosts_*.json")
    result = json.loads(path.read_text())
    assert result["completed"] == 60
    assert result["client"]["load_hosts"] == ["gpu1", "gpu2", "gpu3"]
    assert result["client"]["load_processes"] == 3
    assert {p["host"] for p in result["client"]["processes"]} == {"gpu1", "gpu2", "gpu3"}
    records = Records.load(results / result["records"])
    assert sorted(set(records.worker.tolist())) == [0, 1, 2]
    assert (records.output_tokens[records.measured] == 16).all()
    sends = records.send_s[records.measured]
    assert sends.min() >= 0, "a process started before the others were told to"
    firsts = [sends[records.worker[records.measured] == worker].min() for worker in range(3)]
    assert max(firsts) - min(firsts) < 1.0, "the processes did not start together"
    truth = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert sum(line["prompt_tokens"] == 64 for line in truth) == 72  # the probe's prompts are shorter


def test_load_hosts_outside_of_an_allocation_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        _pytest("--server", "sim", f"--results-dir={tmp_path}", "--load-hosts", "all"), cwd=ROOT, capture_output=True,
        text=True, timeout=60, env={k: v for k, v in os.environ.items() if not k.startswith("SLURM_JOB")},
    )  # fmt: skip
    assert done.returncode == 4, done.stdout
    assert "not inside of a Slurm allocation" in done.stdout + done.stderr


@pytest.mark.skipif(not VLLM, reason="no vLLM: set $BENCH_VLLM (tests/vllm/install.sh makes one)")
def test_a_real_vllm_is_submitted_swept_and_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    from tests.vllm.make_tiny_model import DTYPE, make

    model = tmp_path / "model"
    model.mkdir()
    make(model)
    profile = tmp_path / "tiny.toml"
    profile.write_text(
        f'base = "demo"\n[model]\nid = "{model}"\nvocab_size = 4096\n[sweep]\nisl = [64, 128]\nosl = [8]\n'
        f"concurrency = [2]\n[load]\nnum_prompts = 8\nnum_warmups = 2\n[server]\n"
        f'serve_command = ["{VLLM}", "serve"]\n'
        'serve_args = ["--load-format", "dummy", "--max-model-len", "4096", "--enforce-eager",'
        f' "--dtype", "{DTYPE}"]\n'
        'startup_timeout = "8min"\nenv = { VLLM_CPU_KVCACHE_SPACE = "1", OMP_NUM_THREADS = "1", HF_HUB_OFFLINE = "1" }\n'
        f'[slo]\np99_ttft = "60s"\np99_tpot = "60s"\n[validity]\n{lenient()}\n'
    )
    info, results = tmp_path / "server_info.txt", tmp_path / "results"
    done = subprocess.run(
        _pytest(f"--profile={profile}", f"--results-dir={results}", f"--server-info={info}", "--server", "slurm", "--start=together"),
        cwd=ROOT, capture_output=True, text=True, timeout=560,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(path.read_text()) for path in results.glob("tiny_*.json")]
    assert len(found) == 2
    for result in found:
        assert result["completed"] == 8
        assert result["engine"] == "vllm"
        assert result["server"]["job_id"]
        assert result["server"]["counted"]["generation_tokens"] == 8 * 10
    assert not info.exists()
    assert wait_for(lambda: not alive(f"serve {model}"), 30), "a process of the server is left"
    assert found[0]["server"]["job_id"] not in run("squeue", "-h", "-o", "%A").split()
