"""Two configurations of a real vLLM (its CPU build), each started and stopped by one sweep."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.processes import alive
from tests.support.suite import run_suite
from tests.vllm.conftest import needs_vllm

pytestmark = needs_vllm

MATRIX = """
[matrix]
max_num_seqs = [2, 4]
"""


def test_each_configuration_is_a_vllm_of_its_own(tmp_path: Path, profile: str) -> None:
    told = profile.replace('VLLM_LOGGING_LEVEL = "WARNING"', 'VLLM_LOGGING_LEVEL = "INFO"') + MATRIX
    args = ("--server", "local", "--point", "isl64-osl8-conc2", "--num-prompts", "4", "--num-warmups", "0")
    got = run_suite(tmp_path, *args, profile=told, timeout_s=900)
    assert got.code == 0, got.out
    found = {result["config"]["name"]: result for result in got.results().values()}
    assert list(found) == ["seqs2", "seqs4"]
    for seqs, result in zip(("2", "4"), found.values(), strict=True):
        assert result["verdict"] == "PASSED"
        assert f"--max-num-seqs {seqs}" in result["server"]["command"]
        assert result["config"]["settings"] == {"max_num_seqs": int(seqs)}
        start = result["start"]
        assert start["ready_s"] > 0
        assert (
            start["load_s"] is None or start["load_s"] < start["ready_s"]
        )  # it says nothing of weights that are made up
    pids = {result["server"]["pid"] for result in found.values()}
    assert len(pids) == 2
    assert not alive("--max-num-seqs")
    for pid in pids:  # engine and worker have names of their own
        assert subprocess.run(["pgrep", "-g", str(pid)], capture_output=True).stdout == b""
