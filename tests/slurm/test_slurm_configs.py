"""Configurations of the simulated server on a real Slurm: one job after the other, and side by side."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench_tests.server.info import ServerInfo, read_server_info
from tests.slurm.conftest import Cluster, wait_for
from tests.slurm.test_slurm_sweep import Sweeping
from tests.support.processes import alive

CONFIGS = """
[configs.fast]
"--base-ms" = 70
slurm.extra = ["-wgpu2"]
[configs.broken]
"--no-such-flag" = 1
[configs.slow]
"--base-ms" = 100
slurm.extra = ["-wgpu3"]
"""


class Configured(Sweeping):
    """Three configurations of two points each; one does not start; the others take seconds a point."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, osl=15)
        self.profile.write_text(self.profile.read_text() + CONFIGS)

    def results_of(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for path in sorted(self.results.glob("*conc*.json")):
            result = json.loads(path.read_text())
            found.setdefault(result["config"]["name"], []).append(result)
        return found

    def infos(self) -> dict[str, ServerInfo]:
        """What each configuration's server has published, at one moment."""
        return {path.suffixes[-2][1:]: read_server_info(path) for path in self.folder.glob("server_info.*.txt")}

    def verdicts(self) -> dict[str, list[str]]:
        return {name: [r["verdict"] for r in results] for name, results in self.results_of().items()}


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Configured]:
    sweep = Configured(tmp_path)
    yield sweep
    sweep.kill()


MEASURED = {"fast": ["PASSED"] * 2, "broken": ["ERROR"] * 2, "slow": ["PASSED"] * 2}


def test_a_sweep_of_configurations_is_killed_and_goes_on(slurm: Cluster, configured: Configured) -> None:
    configured.start()
    assert wait_for(lambda: len(configured.results_of().get("slow", ())) == 1, 90), configured.said
    before = configured.results_of()
    assert configured.process is not None
    os.kill(configured.process.pid, signal.SIGKILL)
    configured.process.wait()
    (left,) = slurm.jobs()
    assert (len(before["fast"]), len(before["broken"])) == (2, 2)
    assert all("--no-such-flag" in r["messages"][0] for r in before["broken"])  # the server's own words, from its log

    assert configured("--resume") == 12, configured.said
    now = configured.results_of()
    assert configured.verdicts() == MEASURED, configured.said
    assert now["fast"] == before["fast"]
    assert now["slow"][0] == before["slow"][0]
    assert {r["server"]["job_id"] for r in now["slow"]} == {left}  # the job of the session that was killed served on
    assert now["fast"][0]["median_tpot"] < now["slow"][0]["median_tpot"]
    assert all(r["start"]["ready_s"] > 0 for r in (*now["fast"], *now["slow"]))
    assert slurm.jobs() == set()
    assert configured.infos() == {}
    assert not alive(str(configured.folder))


def test_configurations_side_by_side_share_nothing(slurm: Cluster, configured: Configured) -> None:
    configured.start("--parallel-configs", "2", "-k", "conc1 and not broken", "--num-prompts", "8")  # about 10 s each
    seen: dict[str, ServerInfo] = {}

    def at_once() -> bool:
        seen.update(found := configured.infos())
        return len(found) == 2 or not running()

    def running() -> bool:
        return configured.process is not None and configured.process.poll() is None

    assert wait_for(at_once, 90), configured.said
    assert running(), configured.said  # else it was over before both served
    assert configured.wait() == 0, configured.said
    assert configured.verdicts() == {"fast": ["PASSED"], "slow": ["PASSED"]}, configured.said
    for what in ("api_key", "port", "job_id", "config"):
        assert len({getattr(info, what) for info in seen.values()}) == 2, what
    found = configured.results_of()
    assert [found[name][0]["server"]["nodes"] for name in ("fast", "slow")] == ["gpu2", "gpu3"]
    assert len({r["server"]["job_id"] for name in ("fast", "slow") for r in found[name]}) == 2
    assert len({r["run_id"] for results in found.values() for r in results}) == 1
    assert slurm.jobs() == set()
    assert configured.infos() == {}
    assert not alive(str(configured.folder))
