"""Where energy is read: the sampler on a driver's library, nvidia-smi's and DCGM's words, and which source a server has."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.errors import UsageError
from bench_tests.server import power_sampler
from bench_tests.server.attach import AttachedServer
from bench_tests.server.info import ServerInfo, read_server_info, write_server_info
from bench_tests.server.power import PowerMeter, check_power
from bench_tests.server.power_files import read_csv, read_dcgm, read_sampler
from bench_tests.server.served import Endpoint
from bench_tests.server.slurm.power import JobPower
from bench_tests.sweep.cost import Power
from bench_tests.sweep.profile import load_profile
from tests.support.odd_servers import odd_server

# a driver's library with two GPUs of 500 W and 300 W; the second one tells no power
NVML = r"""
#include <string.h>
#include <time.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static int which[2] = {0, 1};
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = &which[i]; return i > 1 ? 2 : 0; }
int nvmlDeviceGetUUID(void *h, char *s, unsigned n) { strncpy(s, *(int *)h ? "GPU-b" : "GPU-a", n); return 0; }
int nvmlDeviceGetName(void *h, char *s, unsigned n) { strncpy(s, "Fake H100", n); return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *h, unsigned long long *e) {
  *e = (unsigned long long)((now() - 1.7e9) * 1000 * (*(int *)h ? 300 : 500)); return 0; }
int nvmlDeviceGetPowerUsage(void *h, unsigned *p) { *p = 500000; return *(int *)h ? 3 : 0; }
"""


def test_the_sampler_reads_a_drivers_library(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (apt-get install gcc)")
    source, library, out = tmp_path / "nvml.c", tmp_path / "libnvml.so", tmp_path / "power.jsonl"
    source.write_text(NVML)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    argv = [sys.executable, "-I", power_sampler.__file__, str(out), "--every=0.02", f"--library={library}"]
    with subprocess.Popen(argv) as process:
        try:
            deadline = time.monotonic() + 30
            while not out.exists() or out.read_text().count("\n") < 12:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.terminate()
    assert process.returncode == 0
    head = json.loads(out.read_text().splitlines()[0])
    assert [gpu["uuid"] for gpu in head["gpus"]] == ["GPU-a", "GPU-b"]
    found = read_sampler(out.read_text())
    assert found.problems == []
    assert [name.rpartition(" GPU ")[2] for name in found.gpus] == ["0", "1"]
    for rows, watts in zip(found.gpus.values(), (500, 300), strict=True):
        (t0, first, _), (t1, last, _) = rows[0], rows[-1]
        assert (last - first) / (t1 - t0) == pytest.approx(watts, rel=0.1)
    zero, one = found.gpus.values()
    assert zero[0][2] == 500.0
    assert math.isnan(one[0][2])
    assert list(read_sampler(out.read_text(), [1]).gpus) == [list(found.gpus)[1]]


def test_a_host_without_a_driver_says_so(tmp_path: Path) -> None:
    out = tmp_path / "{host}.jsonl"
    argv = [sys.executable, "-I", power_sampler.__file__, str(out), "--library=libno-such.so.1"]
    assert subprocess.run(argv, timeout=30).returncode == 1
    (written,) = tmp_path.iterdir()
    found = read_sampler(written.read_text())
    assert "no NVML here" in found.problems[0]
    assert written.stem in found.problems[0]


SMI = """timestamp, index, power.draw [W], utilization.gpu [%]
2026/11/26 07:30:01.250, 0, 412.34 W, 99 %
2026/11/26 07:30:01.250, 1, [N/A], 99 %
2026/11/26 07:30:02.250, 0, 400.00, 98 %
2026/11/26 07:30:02.250, 1, 380.1"""


def test_nvidia_smis_file_is_read_by_its_header() -> None:
    found = read_csv(SMI)
    at = datetime(2026, 11, 26, 7, 30, 1, 250_000).timestamp()  # local time, as nvidia-smi has it
    assert found.gpus["GPU 0"][0][0] == at
    assert [row[2] for row in found.gpus["GPU 0"]] == [412.34, 400.0]
    assert len(found.gpus["GPU 1"]) == 1, "the last line is half written"
    assert math.isnan(found.gpus["GPU 1"][0][2])
    assert list(read_csv(SMI, [0]).gpus) == ["GPU 0"]
    assert "has no header" in read_csv("1, 2, 3\n4, 5, 6\n").problems[0]
    assert "1 lines cannot" in read_csv(SMI.replace("412.34 W", "much")).problems[0]
    twice = SMI + "\n" + SMI.replace("07:30", "07:31") + "\n"
    assert len(read_csv(twice).gpus["GPU 0"]) == 4


def page(energy: float, power: float = 400.0, gpu: int = 0) -> str:
    label = f'gpu="{gpu}",UUID="GPU-{gpu}",Hostname="node1",modelName="H100"'
    return (
        "# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).\n"
        f"DCGM_FI_DEV_POWER_USAGE{{{label}}} {power}\nDCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{label}}} {energy * 1000}\n"
    )


def test_dcgm_is_read_and_a_page_that_repeats_is_no_sample() -> None:
    pages = [(float(t), page(1000.0 + 400 * (t // 5 * 5)) + page(5.0 * t, gpu=1)) for t in range(11)]
    found = read_dcgm(pages)
    assert [row[0] for row in found.gpus["node1 GPU 0"]] == [0.0, 5.0, 10.0]
    assert found.gpus["node1 GPU 0"][1] == (5.0, 3000.0, 400.0)
    assert len(found.gpus["node1 GPU 1"]) == 11
    assert list(read_dcgm(pages, [1]).gpus) == ["node1 GPU 1"]
    assert "holds DCGM_FI" in read_dcgm([(0.0, "go_goroutines 9\n")]).problems[0]
    parts = page(1.0).replace('gpu="0"', 'gpu="0",GPU_I_ID="1"')  # MIG: a share of a GPU has its whole energy
    assert read_dcgm([(0.0, parts)]).gpus == {}


@given(st.text(max_size=300))
def test_no_text_raises(text: str) -> None:
    for read in (read_csv, read_sampler):
        for whole in (text, SMI + "\n" + text, '{"host": "a", "gpus": []}\n' + text + "\n"):
            found = read(whole)
            assert all("\n" not in problem for problem in found.problems)
    read_dcgm([(0.0, text), (1.0, page(1.0) + text)])


@given(st.recursive(st.none() | st.floats() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["unix_s", "gpus", "host", "error"]), x)))  # fmt: skip
@settings(max_examples=40)
def test_no_json_raises(value: Any) -> None:
    read_sampler(json.dumps(value) + "\n" + json.dumps({"unix_s": 1.0, "gpus": value}) + "\n")


# ---- which source a server has


@dataclass
class Elsewhere(AttachedServer):
    source: str = "--base-url"
    extra: dict[str, Any] = field(default_factory=dict)


def read(power: Power, served: AttachedServer, until_s: float = 0.0) -> Any:
    async def both() -> Any:
        meter = PowerMeter(power, served)
        await meter.start()
        return await meter.stop(until_s)

    return asyncio.run(both())


def test_a_server_on_another_host_is_not_sampled_here() -> None:
    found = read(Power("nvml"), Elsewhere(Endpoint("http://gpu1.example.com:8000")))
    assert "on another host" in found.samples.problems[0]


def test_the_files_of_a_servers_job_are_read_of_all_its_nodes(tmp_path: Path) -> None:
    for node in ("n1", "n2"):
        lines = [
            {"host": node, "gpus": []},
            *({"unix_s": float(t), "gpus": [[0, t * 400_000, 400_000]]} for t in range(200)),
        ]
        (tmp_path / f"power-7.{node}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    served = Elsewhere(
        Endpoint("http://n1:8000"), extra={"job_id": "7", "power_file": f"{tmp_path}/power-7.{{host}}.jsonl"}
    )
    found = read(Power("nvml"), served, until_s=150.0)
    assert set(found.samples.gpus) == {"n1 GPU 0", "n2 GPU 0"}
    assert found.samples.gpus["n1 GPU 0"][-1] == (199.0, 79_600.0, 400.0)
    assert len(found.samples.gpus["n1 GPU 0"]) < 200, "what lies long before the point is not read again"
    lone = Elsewhere(Endpoint("http://127.0.0.1:8000"), extra={"job_id": "7"})
    assert "nothing samples its GPUs" in read(Power("nvml"), lone).samples.problems[0]


def test_a_dcgm_exporter_is_read_beside_the_load() -> None:
    begin = time.time()
    with odd_server(metrics=lambda: (200, page(400 * (time.time() - begin)))) as (_, url):
        found = read(Power("dcgm", urls=(url,)), Elsewhere(Endpoint("http://n1:8000")))
    assert len(found.samples.gpus["node1 GPU 0"]) == 2
    assert found.ending == "zip"
    gone = read(Power("dcgm", urls=("http://127.0.0.1:1",)), Elsewhere(Endpoint("http://n1:8000")))
    assert any("does not answer" in problem for problem in gone.samples.problems)


@pytest.mark.parametrize(
    "power, words",
    [(Power("dcgm"), "power.urls"), (Power("csv"), "power.file"), (Power("dcgm", urls=("ftp://x",)), "power.urls")],
)
def test_a_source_that_lacks_what_it_needs_is_wrong_usage(power: Power, words: str) -> None:
    with pytest.raises(UsageError, match=words) as why:
        check_power(power)
    assert "\n" not in str(why.value)


# ---- in a job


def test_a_job_samples_its_node_and_publishes_where(tmp_path: Path) -> None:
    demo = load_profile("demo")
    job = JobPower(replace(demo, power=Power("nvml")), {"LOGS_DIR": str(tmp_path)}, "4711")
    try:
        assert job.file == f"{tmp_path}/power-4711.{{host}}.jsonl"
        info = tmp_path / "server_info.txt"
        write_server_info(info, ServerInfo("http://n1:8000", job_id="4711", power_file=job.file))
        assert read_server_info(info).power_file == job.file
        deadline = time.monotonic() + 30
        while not any(path.read_text().endswith("\n") for path in tmp_path.glob("power-4711.*.jsonl")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        job.end()
    (written,) = tmp_path.glob("power-4711.*.jsonl")
    assert json.loads(written.read_text().splitlines()[0]).keys() & {"host", "error"}
    assert JobPower(demo, {}, "4711").file == ""


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "power-1.{host}.jsonl", "/x/power-1.jsonl", "/x/power-*/../a.{host}.jsonl"]
)
def test_another_file_is_not_read_for_it(tmp_path: Path, path: str) -> None:
    info = tmp_path / "server_info.txt"
    info.write_text(f"http://n1:8000\npower_file={path}\n")
    with pytest.raises(UsageError, match="power_file"):
        read_server_info(info)
