"""The CI recipes run as they are written: a pass that is kept, a comparison, a breach, and what says nothing."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # comes with transformers

from bench_tests.errors import NotMeasured, ServerError
from bench_tests.sim.simulator import SimSpec, Simulator
from tests.support.suite import QUICK, ROOT

RECIPES = ROOT / "docs" / "recipes"
KEY = "sk-docs-5f0c1a"


@pytest.fixture(scope="module")
def live() -> Iterator[Simulator]:
    fast = SimSpec(base_ms=1.0, per_seq_us=1.0, prefill_tok_per_s=1e6, prefix_caching=False, api_key=KEY)
    with Simulator(fast) as simulator:
        yield simulator


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def workflow(name: str) -> Mapping[str, Any]:
    loaded = yaml.safe_load(read(RECIPES / name))
    assert isinstance(loaded, dict)
    return loaded


def steps_of(name: str) -> list[Mapping[str, Any]]:
    """The steps of a recipe that run a command; installing is left out: it was done for these tests already."""
    if name == "github-actions.yml":
        steps = workflow(name)["jobs"]["sweep"]["steps"]
        return [step for step in steps if "run" in step and "pip install" not in step["run"]]
    job = workflow(name)["llm-serving"]
    return [{"run": line, "env": job["variables"]} for line in job["script"]]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a recipe runs: its environment, its results and its baseline."""

    folder: Path
    env: dict[str, str]

    def run(self, script: str, **more: str) -> tuple[int, str]:
        command = ["bash", "-e", "-o", "pipefail", "-c", script]
        env = {**self.env, **more}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    @property
    def kept(self) -> list[Path]:
        return sorted((self.folder / "baseline").glob("*/*.json"))


@pytest.fixture
def place(tmp_path: Path, live: Simulator) -> Place:
    profile = tmp_path / "quick.toml"
    profile.write_text(QUICK)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "GITHUB_", "PYTEST_", "SERVER_INFO"))}
    return Place(tmp_path, clean | {
        "BASE_URL": live.url,
        "PROFILE": str(profile),
        "OPENAI_API_KEY": KEY,
        "BENCH_PYTHON": sys.executable,
        "RESULTS": str(tmp_path / "results"),
        "BASELINE": str(tmp_path / "baseline"),
        "PYTEST_ADDOPTS": "-p no:cacheprovider --no-plot --point isl64-osl8-conc2 --num-prompts 6",
    })  # fmt: skip


def test_the_github_recipe_keeps_a_baseline_and_compares_with_it(place: Place) -> None:
    (step,) = steps_of("github-actions.yml")
    secret = "${{ secrets.LLM_API_KEY }}"
    assert step["env"]["OPENAI_API_KEY"] == secret
    code, out = place.run(step["run"], KEEP="true", GITHUB_STEP_SUMMARY=str(place.folder / "summary.md"))
    assert code == 0, out
    assert [path.stem.partition("_run")[2] for path in place.kept] == ["", "2", "3"]
    assert "PASSED" in read(place.folder / "summary.md")
    code, out = place.run(step["run"], KEEP="")
    assert "against the baseline" in out
    assert code in (0, 1), out  # a busy machine may well have become slower; that it compares is what counts here
    assert len(place.kept) == 3
    assert KEY not in out


def test_the_github_recipe_warns_where_nothing_was_measured_and_fails_on_the_rest(place: Place) -> None:
    (step,) = steps_of("github-actions.yml")
    code, out = place.run(step["run"], BASE_URL="http://127.0.0.1:1")
    assert code == 0, out
    assert f"::warning title=llm-serving::not measured (exit code {ServerError.exit_code})" in out
    code, out = place.run(step["run"], PYTEST_ADDOPTS=f"{place.env['PYTEST_ADDOPTS']} --slo p99_ttft<=1us")
    assert code == 1, out
    code, out = place.run(step["run"], PROFILE="nowhere")
    assert code == 4, out


def test_the_gitlab_recipe_fails_on_a_breach(place: Place) -> None:
    (step,) = steps_of("gitlab-ci.yml")
    assert step["env"] == {"BASE_URL": "$LLM_BASE_URL", "PROFILE": "$LLM_PROFILE"}
    assert workflow("gitlab-ci.yml")["llm-serving"]["allow_failure"]["exit_codes"] == [
        NotMeasured.exit_code,
        ServerError.exit_code,
    ]
    addopts = f"{place.env['PYTEST_ADDOPTS']} --slo p99_ttft<=1us"
    code, out = place.run(step["run"], KEEP="true", PYTEST_ADDOPTS=addopts)
    assert code == 1, out
    assert "slower than its objectives" in out
    assert place.kept == []
    assert (place.folder / "results" / "junit.xml").exists()  # what the recipe names as its report


def test_the_slurm_recipe_reads_a_private_file_alone(place: Place) -> None:
    settings = place.folder / "settings"
    names = ("BASE_URL", "PROFILE", "OPENAI_API_KEY")
    text = "".join(f"{name}={place.env[name]}\n" for name in names) + f"BENCH_ROOT={ROOT}\n"
    settings.write_text(text.replace(place.env["BASE_URL"], "http://127.0.0.1:1"))
    script = str(RECIPES / "slurm-cron.sh")
    settings.chmod(0o644)
    code, out = place.run(script, LLM_SETTINGS=str(settings))
    assert (code, "chmod 600" in out) == (4, True)
    settings.chmod(0o600)
    bare = {k: v for k, v in place.env.items() if k not in names}
    code, out = Place(place.folder, bare).run(script, LLM_SETTINGS=str(settings))
    assert code == ServerError.exit_code, out
    assert "no server" in out


def test_what_could_not_be_measured_is_measured_once_more(place: Place, live: Simulator) -> None:
    live.set_faults("status_500")
    try:
        code, out = place.run(f"{RECIPES / 'guard.sh'} --repeat=1")
    finally:
        live.set_faults()
    assert code == NotMeasured.exit_code, out
    assert out.count("test session starts") == 2
    assert "not measured, twice" in out
    assert KEY not in out


def test_the_recipes_scripts_are_clean() -> None:
    for script in RECIPES.glob("*.sh"):
        assert os.access(script, os.X_OK), script
        assert subprocess.run(["bash", "-n", str(script)], timeout=10).returncode == 0
