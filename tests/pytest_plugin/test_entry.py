"""The entry point of an installation: what it does before pytest has its configuration, and beside a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench_tests.pytest_plugin.entry import join_values
from tests.support.suite import ROOT

FLAGS = {"--results-dir", "--profile"}


def test_a_value_that_exists_elsewhere_is_joined_to_its_flag(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "results").mkdir(parents=True)
    there.mkdir()
    for args, joined in (
        (["--results-dir", str(there), "-q"], [f"--results-dir={there}", "-q"]),
        (["--results-dir", "../there"], ["--results-dir=../there"]),
        (["--results-dir", "results"], ["--results-dir", "results"]),
        (["--results-dir", str(tmp_path / "new")], ["--results-dir", str(tmp_path / "new")]),
        (["-k", str(there), str(there)], ["-k", str(there), str(there)]),
        ([f"--results-dir={there}"], [f"--results-dir={there}"]),
    ):
        assert join_values(args, FLAGS, here) == joined
    also = {"--trace": "--trace-file"}
    assert join_values(["--trace", str(there)], {"--trace"}, here, also) == [f"--trace-file={there}"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages in which the suite is installed, as far as Python and pytest can tell."""
    folder = tmp_path / "site"
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("bench_tests", "plotting"):
        shutil.copytree(ROOT / package, folder / package, ignore=ignore)
    info = folder / "bench_tests-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-tests\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[pytest11]\nbench_tests = bench_tests.pytest_plugin.entry\n")
    return folder


def pytest_in(folder: Path, site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "OPENAI_", "SERVER_INFO"))}
    env |= {"PYTHONPATH": str(site), "SERVER_INFO": str(folder / "none")}
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", *args]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)


@pytest.mark.sessions
def test_an_installed_suite_runs_from_an_empty_folder_and_a_second_time(tmp_path: Path, site: Path) -> None:
    folder, results = tmp_path / "empty", tmp_path / "run1"
    folder.mkdir()
    args = ["--pyargs", "bench_tests", "--server", "sim", "-k", "isl1024 and conc1", "--results-dir", str(results)]
    for _ in range(2):
        done = pytest_in(folder, site, *args, "--num-prompts", "2", "--no-plot")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"rootdir: {folder}" in done.stdout
        assert "DeprecationWarning" not in done.stdout + done.stderr
        assert [f.name for f in results.glob("demo*.json")] == ["demo_sim_tp1_isl1024_osl32_conc1.json"]
    assert not list(folder.iterdir())


TRACE = '{"timestamp": 0, "input_length": 8, "output_length": 2, "hash_ids": [1]}\n'


@pytest.mark.sessions
def test_a_trace_is_read_in_spite_of_pytests_own_trace(tmp_path: Path, site: Path) -> None:
    folder, elsewhere = tmp_path / "mine", tmp_path / "traces"
    folder.mkdir()
    elsewhere.mkdir()
    for place in (folder, elsewhere):
        (place / "t.jsonl").write_text(TRACE)
    common = ("--pyargs", "bench_tests", "--server", "sim", "--co", "-q")
    for given in (("--trace", "t.jsonl"), ("--trace", "../traces/t.jsonl"), ("--trace-file=t.jsonl",)):
        done = pytest_in(folder, site, *common, *given)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "test_slo[trace_t]" in done.stdout
    done = pytest_in(ROOT, tmp_path, "--server", "sim", "--co", "-q", f"--trace-file={elsewhere / 't.jsonl'}")
    assert "test_slo[trace_t]" in done.stdout, done.stdout + done.stderr
    assert "--pdb-trace" in pytest_in(ROOT, tmp_path, "--help").stdout


@pytest.mark.sessions
def test_in_a_checkout_its_own_files_win_over_the_installed_ones(tmp_path: Path, site: Path) -> None:
    (site / "bench_tests" / "measure" / "point.py").write_text("raise AssertionError('the installed one')\n")
    there = tmp_path / "exists"
    there.mkdir()
    done = pytest_in(ROOT, site, "--co", "-q", "--profile", "demo", "--results-dir", str(there))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bench_tests/test_slo_sweep.py::test_slo[isl1024-osl32-conc1]" in done.stdout


@pytest.mark.sessions
def test_another_projects_tests_run_as_without_it(tmp_path: Path, site: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "test_theirs.py").write_text("def test_isl4(): pass\ndef test_conc1(): pass\n")
    done = pytest_in(folder, site, "-k", "conc", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 deselected" in done.stdout
    assert not (folder / "results").exists()


@pytest.mark.sessions
def test_a_plugin_that_owns_one_of_our_options_is_named(tmp_path: Path) -> None:
    (tmp_path / "profiler.py").write_text(
        "def pytest_addoption(parser):\n"
        "    parser.getgroup('Profiling').addoption('--profile', action='store_true', help='profile the tests')\n"
    )
    done = pytest_in(ROOT, tmp_path, "-p", "profiler", "--co", "-q", "--profile", "demo")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "--profile: the plugin profiler has an option of this name too" in done.stdout + done.stderr
    without = pytest_in(ROOT, tmp_path, "-p", "profiler", "--co", "-q", "--server", "sim")
    assert "test_slo[isl1024-osl32-conc1]" in without.stdout
