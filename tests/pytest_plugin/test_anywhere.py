"""From any folder, with whatever else is installed, and with what a careless user types: the right cases, or one good line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench_tests.errors import UsageError
from bench_tests.sweep.profile import load_profile
from tests.support.suite import ROOT

SHUFFLE = """
import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.reverse()
"""
RERUNS = """
def pytest_addoption(parser):
    parser.addoption("--reruns", type=int)
    parser.addini("reruns", "how often", default=None)
"""
COUNT = """
def pytest_addoption(parser):
    parser.addoption("--count", type=int, default=1)
"""


def collect(*args: str, cwd: Path = ROOT, plugins: Path | None = None, **env: str) -> tuple[int, str]:
    """`pytest --co -q ARGS` as from a shell in `cwd`: its exit code and its words."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "OPENAI_", "SERVER_INFO"))}
    clean |= {"SERVER_INFO": "none-here", "PYTHONPATH": str(plugins or ""), **env}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--co", "-q", *args]
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.sessions
@pytest.mark.parametrize("folder", ["bench_tests", "docs", "slurm"])
def test_in_any_folder_of_the_checkout_pytest_is_the_sweep(folder: str) -> None:
    code, out = collect("--server", "sim", cwd=ROOT / folder)
    assert code == 0, out
    assert out.count("test_slo[") == 9


@pytest.mark.sessions
def test_the_checkout_as_an_argument_is_the_sweep_and_its_tests_are_not(tmp_path: Path) -> None:
    code, out = collect(str(ROOT), "--server", "sim", cwd=tmp_path)
    assert code == 0, out
    assert out.count("::") == out.count("test_slo[") == 9
    code, out = collect(cwd=ROOT / "tests" / "docs")
    assert code == 0, out
    assert "test_slo[" not in out
    assert "test_plain_words.py::" in out


@pytest.mark.quick
def test_a_selection_of_nothing_says_what_there_is_and_a_wrong_one_is_quoted_as_typed() -> None:
    code, out = collect("--server", "sim", "-k", "isl1025")
    assert code == 5
    assert all(word in out for word in ("'isl1025'", "1024, 4096, 8192", "conc 1, 4, 16"))
    code, out = collect("--server", "sim", "-k", "isl4096 andd")
    assert code == 4
    assert "isl4096 andd" in out
    assert "/isl" not in out


@pytest.mark.sessions
def test_whatever_shuffles_rounds_stay_rounds(tmp_path: Path) -> None:
    (tmp_path / "shuffler.py").write_text(SHUFFLE)
    args = ("--server", "sim", "-k", "isl1024", "--repeat", "2")
    _, straight = collect(*args)
    code, shuffled = collect("-p", "shuffler", *args, plugins=tmp_path)
    assert code == 0, shuffled
    cases = [line for line in straight.splitlines() if "::" in line]
    assert len(cases) == 6
    assert [line for line in shuffled.splitlines() if "::" in line] == cases


@pytest.mark.sessions
@pytest.mark.parametrize(("name", "text", "args"), [
    ("rerunfailures", RERUNS, ("--reruns", "2")),
    ("rerunfailures", RERUNS, ("-o", "reruns=2")),
    ("pytest_repeat", COUNT, ("--count", "3")),
])  # fmt: skip
def test_what_would_run_our_cases_again_is_refused_for_them_alone(
    name: str, text: str, args: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / f"{name}.py").write_text(text)  # a stand-in: the real one need not be installed
    code, out = collect("-p", name, *args, "--server", "sim", plugins=tmp_path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert code == 4, out
    assert "--repeat" in out
    tests = str(ROOT / "tests" / "docs" / "test_plain_words.py")
    code, out = collect("-p", name, *args, tests, plugins=tmp_path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert code == 0, out


@pytest.mark.quick
def test_a_profile_may_have_a_bom_and_lie_in_the_home_folder_and_is_no_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bom.toml").write_bytes(b'\xef\xbb\xbfbase = "demo"\n[sweep]\nisl = [5]\n')
    (tmp_path / "above.toml").write_text('base = "~/bom.toml"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    assert {point.isl for point in load_profile(str(tmp_path / "above.toml")).points} == {5}
    code, out = collect("--server", "sim", "--profile=~/bom.toml", HOME=str(tmp_path))
    assert code == 0, out
    assert "isl5-" in out
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(UsageError, match="regular file"):
        load_profile(str(tmp_path / "pipe.toml"))
