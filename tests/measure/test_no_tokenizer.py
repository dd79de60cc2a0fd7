"""A server without usage whose model no tokenizer is known for: sought once, not at each point."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench_tests.sim.simulator import SimSpec, Simulator
from tests.support.suite import QUICK, run_suite

pytestmark = pytest.mark.sessions
NO_HUB = "http://127.0.0.1:9"  # where nothing listens


def test_a_tokenizer_that_cannot_be_had_is_sought_once(tmp_path: Path) -> None:
    seen = tmp_path / "sitecustomize.py"  # each process of the suite tells when it asks for a tokenizer
    seen.write_text(
        "import bench_tests.load.texts as texts\n"
        "ask = texts.load_tokenizer\n"
        "def told(name):\n"
        f"    open({str(tmp_path / 'asked')!r}, 'a').write(name + '\\n')\n"
        "    return ask(name)\n"
        "texts.load_tokenizer = told\n"
    )
    env = {"PYTHONPATH": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": NO_HUB}
    with Simulator(SimSpec(base_ms=1.0, per_seq_us=0.0, faults=("no_usage",))) as simulator:
        outcome = run_suite(tmp_path, "--base-url", simulator.url, "--no-ignore-eos", profile=QUICK, env=env)
    assert outcome.code == 12, outcome.out
    assert len(outcome.results()) == 4
    assert outcome.out.count("without usage") >= 1
    assert (tmp_path / "asked").read_text().splitlines() == ["simulated"]
