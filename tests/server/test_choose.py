"""Which profile and which server a session uses: what server_info.txt may make us read, and a server still to come."""

from __future__ import annotations

import os
import time
from asyncio import run
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench_tests.errors import ServerError, UsageError
from bench_tests.server.choose import choose, obtain
from bench_tests.server.slurm import start as slurm_start
from bench_tests.server.slurm.request import SERVE_SCRIPT
from bench_tests.sweep.options import OPTIONS
from tests.support.odd_servers import odd_server
from tests.support.suite import QUICK, run_suite

DEFAULTS = {option.flag: option.kwargs.get("default") for option in OPTIONS}


def options(**given: Any) -> Callable[[str], Any]:
    """Options as pytest gives them; `server_info` is --server-info."""
    return (DEFAULTS | {"--" + name.replace("_", "-"): value for name, value in given.items()}).__getitem__


@pytest.fixture
def info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the session looks for server_info.txt."""
    path = tmp_path / "server_info.txt"
    monkeypatch.setenv("SERVER_INFO", str(path))
    return path


# ------------------------------------------------------------------------------------------------ profile=


def test_a_profile_of_server_info_is_read_by_its_full_path(info: Path, tmp_path: Path) -> None:
    (tmp_path / "qwen.toml").write_text(QUICK)
    info.write_text(f"http://127.0.0.1:9\nprofile={tmp_path}/qwen.toml\n")
    assert run(choose(options())).profile.name == "quick"
    info.write_text("http://127.0.0.1:9\nprofile=kimi_k2\n")
    assert run(choose(options())).profile.name == "kimi_k2"


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("qwen", "", "expected one of demo, kimi_k2"),
        ("/etc/passwd", None, "expected one of demo, kimi_k2"),
        ("{}/gone.toml", None, "no such file on this host"),
        ("{}", None, "expected one of demo, kimi_k2"),
        ("{}/x.toml", f"root:{SECRET}:0:0\n", "cannot be loaded"),
        ("{}/x.toml", f"{SECRET} = '{SECRET}'\n", "cannot be loaded"),
        ("{}/x.toml", f"name = '/{SECRET}'\n", "cannot be loaded"),
        ("{}/x.toml", f"base = '{SECRET}'\n", "cannot be loaded"),
        ("{}/x.toml", f"[model]\nid = ['{SECRET}']\n", "cannot be loaded"),
        ("{}/x.toml", f"[slo]\n{SECRET} = 1\n", "cannot be loaded"),
        ("{}/x.toml", "x = " + "[" * 100_000, "cannot be loaded"),
        ("{}/x.toml", "x = 1" + "0" * 5000, "cannot be loaded"),
        ("{}/" + "x" * 400 + ".toml", None, "no such file on this host"),
    ],
)
def test_what_server_info_names_and_is_no_profile(
    info: Path, tmp_path: Path, name: str, text: str | None, why: str
) -> None:
    value = name.format(tmp_path)
    if text:
        Path(value).write_text(text)
    info.write_text(f"http://127.0.0.1:9\nprofile={value}\n")
    with pytest.raises(UsageError) as told:
        run(choose(options()))
    said = str(told.value)
    assert said.startswith(f"{info}: profile={value!r}: ")
    assert why in said
    assert "--profile=FILE.toml" in said
    assert SECRET not in said
    assert "root" not in said.replace(str(tmp_path), "")
    assert "\n" not in said


def test_a_fifo_that_server_info_names_is_not_waited_for(info: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.toml")
    info.write_text(f"http://127.0.0.1:9\nprofile={tmp_path}/x.toml\n")
    with pytest.raises(UsageError, match="no such file"):
        run(choose(options()))


def test_a_profile_that_is_named_goes_before_server_infos(info: Path) -> None:
    info.write_text("http://127.0.0.1:9\nprofile=qwen\n")
    assert run(choose(options(profile="demo"))).profile.name == "demo"


# ------------------------------------------------------------------------------------------------ a server still to come


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A stand-in for squeue that says this; `exit 1` and the like are run."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def says(text: str, then: str = "exit 0") -> None:
        stand_in = tmp_path / "bin" / "squeue"
        stand_in.write_text(f"#!/bin/bash\ncat <<'END'\n{text}\nEND\n{then}\n")
        stand_in.chmod(0o755)

    return says


@pytest.mark.parametrize("state", ["PENDING", "CONFIGURING", "RUNNING"])
def test_a_server_still_to_come_is_not_replaced_by_the_simulated_one(
    info: Path, queue: Callable[[str], None], state: str
) -> None:
    queue(f"4710|RUNNING|/home/me|/home/me/train.sh\n4711|{state}|/home/me|{SERVE_SCRIPT} kimi_k2")
    with pytest.raises(ServerError) as told:
        run(choose(options()))
    said = str(told.value)
    assert said.startswith(f"job 4711 of slurm/serve.sh is {state} and has not published {info} yet; wait for it: ")
    assert "python3 -m bench_tests.server.wait, or name another server" in said
    with pytest.raises(ServerError, match=r"server\.wait --server-info=/x/y, or"):
        run(choose(options(server_info="/x/y")))
    for named in ({"server": "sim"}, {"profile": "demo"}):
        assert run(choose(options(**named))).kind == "sim"
    assert run(choose(options(base_url="http://127.0.0.1:9", profile="demo"))).kind == "attach"
    info.write_text("http://127.0.0.1:9\nprofile=demo\n")
    assert run(choose(options())).kind == "attach"


@pytest.mark.parametrize(
    "jobs",
    [
        "",
        "4711|RUNNING|/home/me|/home/me/other/slurm/serve.sh",
        f"4711|COMPLETING|/home/me|{SERVE_SCRIPT}",
        f"4711|RUNNING|/home/me|{SERVE_SCRIPT} kimi_k2 --server-info /home/me/other.txt",
        f"4711|RUNNING|/home/me|{SERVE_SCRIPT} kimi_k2 --server-info=other.txt",
        f"4711|RUNNING|/home/me|{SERVE_SCRIPT.parent}/bench.sh kimi_k2",
        "4711|RUNNING|/home/me|(null)",
        "4711|RUNNING|/home/me|",
        f"x|RUNNING|/home/me|{SERVE_SCRIPT}",
        "4711|RUNNING",
    ],
)
@pytest.mark.usefixtures("info")
def test_other_jobs_are_no_matter(queue: Callable[[str], None], jobs: str) -> None:
    queue(jobs)
    assert run(choose(options())).kind == "sim"


def test_a_job_that_is_to_publish_this_file_counts(info: Path, queue: Callable[[str], None]) -> None:
    for argument in (f"--server-info {info}", f"--server-info={info}", f"--server-info {info.name}"):
        queue(f"4711|RUNNING|{info.parent}|{SERVE_SCRIPT} kimi_k2 {argument}")
        with pytest.raises(ServerError, match="job 4711"):
            run(choose(options()))


@pytest.mark.usefixtures("info")
def test_a_slurm_that_does_not_answer_is_no_slurm(
    queue: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = f"4711|RUNNING|/home/me|{SERVE_SCRIPT}"
    queue(job, "exit 1")
    assert run(choose(options())).kind == "sim"
    monkeypatch.setattr(slurm_start, "_ASK_S", 0.5)
    queue(job, "exec sleep 600")
    began = time.monotonic()
    assert run(choose(options())).kind == "sim"
    assert time.monotonic() - began < 300  # it was not waited for
    (tmp_path / "bin" / "squeue").write_text("no program")
    assert run(choose(options())).kind == "sim"


@pytest.mark.usefixtures("queue")
def test_without_a_slurm_the_demo_runs_as_before(info: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(info.parent / "bin"))
    assert run(choose(options())).kind == "sim"


def test_a_session_ends_with_13_and_one_line(tmp_path: Path, queue: Callable[[str], None]) -> None:
    queue(f"4711|PENDING|/home/me|{SERVE_SCRIPT} kimi_k2")
    outcome = run_suite(tmp_path, "-k", "isl4096", profile=None)
    assert outcome.code == 13, outcome.out
    assert "job 4711 of slurm/serve.sh is PENDING" in outcome.out
    assert "python3 -m bench_tests.server.wait --server-info=" not in outcome.out  # it is $SERVER_INFO's already
    assert "Traceback" not in outcome.out
    assert outcome.results() == {}


def test_a_file_whose_model_is_not_served_is_an_error_that_names_both(info: Path) -> None:
    with odd_server(models=(200, {"data": [{"id": "new"}]})) as (_, url):
        info.write_text(f"{url}\nmodel=old\n")
        choice = run(choose(options(model="new")))
        with pytest.raises(ServerError, match=rf"{info} names model old: the server at {url} serves new, not old"):
            run(obtain(choice, info.parent, False, lambda _: None))
        info.write_text(f"{url}\nmodel=new\n")
        served = run(obtain(run(choose(options())), info.parent, False, lambda _: None))
    assert served.endpoint.base_url == url
