"""The fixture `bench`: cases as users write them, in a folder of theirs."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench_tests.sim.simulator import SimSpec, Simulator
from tests.support.suite import ROOT, run_suite

pytestmark = pytest.mark.sessions


@pytest.fixture(scope="module")
def live() -> Iterator[Simulator]:
    with Simulator(SimSpec(base_ms=1.0, per_seq_us=1.0, per_ktoken_us=0.0, prefill_tok_per_s=1e6)) as simulator:
        yield simulator


def cases(folder: Path, text: str) -> str:
    file = folder / "cases" / "test_mine.py"
    file.parent.mkdir()
    file.write_text(text)
    return str(file.parent)


def test_the_documented_file_runs(tmp_path: Path, live: Simulator) -> None:
    (text,) = re.findall(
        r"<!-- own cases.*?```python\n(.*?)```", (ROOT / "docs" / "own-cases.md").read_text(), flags=re.S
    )
    folder = cases(tmp_path, text)
    outcome = run_suite(
        tmp_path, folder, "-p", "bench_tests.pytest_plugin.hooks", "--base-url", live.url,
        f"--junitxml={tmp_path}/junit.xml", env={"PLOTS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert outcome.code in (0, 1), outcome.out  # its limits are a reader's: a busy machine may miss one
    assert "error" not in outcome.out.splitlines()[-1]
    results = outcome.results()
    assert "quick_sim_tp1_isl2048_osl128_conc32" in results
    assert "quick_sim_tp1_isl512_osl64_conc64_rate2" in results
    assert "quick_sim_tp1_isl512_osl64_conc64_rate4_run2" in results, "the second rate is a result of its own"
    figures = {p.get("name") for p in ET.parse(tmp_path / "junit.xml").getroot().iter("property")}
    assert {"p99_ttft", "verdict"} <= figures
    index = json.loads((outcome.results_dir / "report.json").read_text())
    assert any(test.get("metadata", {}).get("bench") for test in index["tests"])
    assert (outcome.results_dir / "plots" / "report.html").exists()


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("assert run.p99_ttft <= 1e-6", 1, "1 failed"),
        ("assert run.p99_tpot <= 1", 0, "1 passed"),
        ("import pytest; pytest.fail('too slow for us')", 1, "too slow for us"),
        ("assert run.p98_ttft <= 1", 12, "a run has no 'p98_ttft'; did you mean p9"),
    ],
)
def test_a_failed_assertion_is_a_breach(tmp_path: Path, live: Simulator, body: str, code: int, words: str) -> None:
    text = f"async def test_it(bench):\n    run = await bench.load(isl=16, osl=4, conc=2, num_prompts=8)\n    {body}\n"
    folder = cases(tmp_path, text)
    outcome = run_suite(tmp_path, folder, "-p", "bench_tests.pytest_plugin.hooks", "--base-url", live.url)
    assert outcome.code == code, outcome.out
    assert words in outcome.out


def test_a_failure_of_another_test_is_not_hidden_by_a_case_that_was_not_measured(
    tmp_path: Path, live: Simulator
) -> None:
    folder = cases(
        tmp_path,
        "async def test_it(bench):\n    await bench.load(isl=200000, osl=4, conc=2)\n\n"
        "def test_of_ours():\n    assert 1 + 1 == 3\n",
    )
    outcome = run_suite(tmp_path, folder, "-p", "bench_tests.pytest_plugin.hooks", "--base-url", live.url)
    assert outcome.code == 1, outcome.out
    assert "1 failed, 1 error" in outcome.out


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ("isl=200000, osl=4, conc=2", "needs a context of 200004 tokens"),
        ("isl=16, osl=1, conc=2", "p99_tpot was not measured"),
        ("isl=16, osl=4, conc=2, num_promts=3", "did you mean num_prompts?"),
    ],
)
def test_what_is_not_measured_is_an_ERROR(tmp_path: Path, live: Simulator, load: str, words: str) -> None:
    text = f"async def test_it(bench):\n    run = await bench.load({load})\n    assert run.p99_tpot < 1\n"
    folder = cases(tmp_path, text)
    outcome = run_suite(
        tmp_path, folder, "-p", "bench_tests.pytest_plugin.hooks", "--base-url", live.url,
        f"--junitxml={tmp_path}/junit.xml",
    )  # fmt: skip
    assert outcome.code == 12, outcome.out
    assert words in outcome.out
    assert "1 error" in outcome.out
    assert "failed" not in outcome.out.splitlines()[-1]
    assert "Traceback" not in outcome.out
    (suite,) = ET.parse(tmp_path / "junit.xml").getroot().iter("testsuite")
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")


def test_a_projects_own_fixtures_of_the_same_names_are_none_of_ours(tmp_path: Path) -> None:
    text = "import pytest\n"
    for name in ("servers", "sweep", "measured", "compared", "capacity", "trend"):
        text += f"@pytest.fixture\ndef {name}():\n    return 7\n\ndef test_{name}({name}):\n    assert {name} == 7\n\n"
    folder = cases(tmp_path, text + "def test_wrong(sweep):\n    assert sweep == 8\n")
    outcome = run_suite(tmp_path, folder, "-p", "bench_tests.pytest_plugin.hooks", "--server", "sim")
    assert outcome.code == 1, outcome.out
    assert "1 failed, 6 passed" in outcome.out
    assert ".....F" in outcome.out, "each test has its dot"
    assert "assert 7 == 8" in outcome.out
