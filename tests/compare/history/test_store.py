"""The folder of a history: two writers, a kill at any moment, a person's word."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.compare.history.store import accept, add_session, add_verdict, read_history
from bench_tests.compare.history.trend import trend_of
from bench_tests.errors import UsageError


def result(at: int, tpot: float = 0.02, conc: int = 4) -> dict[str, Any]:
    return {
        "schema_version": 1, "date": f"202611{at:02d}-230000", "run_id": f"s{at}", "run": 1, "verdict": "PASSED", "num_prompts": 40,
        "completed": 40, "max_concurrency": conc, "point": {"isl": 64, "osl": 8, "conc": conc}, "mean_tpot": tpot, "p99_ttft": 0.1,
        "output_throughput": 100.0, "server": {"model": "m", "engine": "vllm", "version": "1"}, "duration": 1.0 + at,
        "settings": {"isl": 64, "osl": 8, "concurrency": conc, "num_prompts": 40},
    }  # fmt: skip


def keep(folder: Path, at: int, tpot: float = 0.02) -> None:
    place = folder.parent / f"results{at}"
    place.mkdir()
    for conc in (1, 4):
        (place / f"p{conc}.json").write_text(json.dumps(result(at, tpot, conc)))
    assert add_session(folder, f"s{at}", sorted(place.glob("*.json"))) is not None


def test_what_is_added_is_read_in_the_order_of_the_dates(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    for at in (2, 1, 3):
        keep(folder, at, 0.01 * at)
    found = read_history(folder)
    assert [session.id for session in found.sessions] == ["s1", "s2", "s3"]
    tpots = [[v["mean_tpot"] for v in s.figures.values()] for s in found.sessions]
    assert tpots == [[pytest.approx(0.01 * at)] * 2 for at in (1, 2, 3)]
    assert found.sessions[0].facts["version"] == "1"
    assert len(trend_of(found).sessions) == 3


def test_the_baseline_is_the_last_sessions_without_an_alarm_or_with_a_persons_word(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    for at in range(1, 6):
        keep(folder, at)
        if at != 3:
            add_verdict(folder, f"s{at}", ["slower"] if at >= 4 else [])
    assert [p.name for p in read_history(folder).last_accepted(10)] == ["s1", "s2"], "without a verdict it is none"
    accept(folder, "s5")
    assert [p.name for p in read_history(folder).last_accepted(10)] == ["s1", "s2", "s5"]
    assert [p.name for p in read_history(folder).last_accepted(2, suspect=["s2"])] == ["s1", "s5"]
    with pytest.raises(UsageError, match="no such session"):
        accept(folder, "s9")


def test_half_a_line_and_a_folder_without_its_line_are_what_a_killed_writer_leaves(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    keep(folder, 1)
    keep(folder, 2)
    whole = (folder / "index.jsonl").read_bytes()
    (folder / "index.jsonl").write_bytes(whole[: len(whole) - 40])  # killed in the middle of s2's line
    (folder / "sessions" / ".s9.tmp").mkdir()  # killed in the middle of a folder
    found = read_history(folder)
    assert [session.id for session in found.sessions] == ["s1", "s2"], "its results are there, so it is"
    assert found.broken == 1
    keep(folder, 3)
    assert [session.id for session in read_history(folder).sessions] == ["s1", "s2", "s3"]
    assert read_history(folder).broken == 1


WRITER = """
import sys, json
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.compare.history.test_store import result
from bench_tests.compare.history.store import add_session, add_verdict
folder, name = Path(sys.argv[1]), sys.argv[2]
at = 0
while True:
    at += 1
    place = folder.parent / f"{name}-{at}"
    place.mkdir()
    run = f"{name}x{at}"
    (place / "p.json").write_text(json.dumps(result(1, 0.02) | {"run_id": run, "duration": at + 0.5}))
    add_session(folder, run, [place / "p.json"])
    add_verdict(folder, run, [])
    print(run, flush=True)
"""


@pytest.mark.sessions
def test_two_writers_and_kills_lose_nothing_and_leave_nothing_half(tmp_path: Path) -> None:
    """Each writer says what it has written; it is killed at a random moment, ten times, while another one writes."""
    folder, root = tmp_path / "history", Path(__file__).resolve().parents[3]
    said: list[str] = []
    for number in range(10):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(folder), f"w{number}{side}", str(root)], cwd=root, stdout=subprocess.PIPE, text=True)
            for side in "ab"
        ]  # fmt: skip
        for writer in writers:
            assert writer.stdout is not None
            said.append(writer.stdout.readline().strip())
        time.sleep(random.Random(number).uniform(0.01, 0.3))
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        for writer in writers:
            out, _ = writer.communicate()
            said += [line for line in out.splitlines() if out.endswith("\n") or line != out.splitlines()[-1]]
    found = read_history(folder)
    there = {session.id for session in found.sessions}
    assert set(said) <= there, "what was said to be written is there"
    assert {p.name for p in (folder / "sessions").iterdir() if not p.name.startswith(".")} == there
    for session in found.sessions:
        assert session.figures, "nothing is half"
        assert (folder / "sessions" / session.id / "p.json").stat().st_size > 0
    judged = {session.id for session in found.sessions if session.judged}
    assert set(said) <= judged


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.lists(st.recursive(st.none() | st.floats() | st.text(max_size=4), lambda c: st.lists(c, max_size=2) | st.dictionaries(st.sampled_from(["event", "session", "figures", "facts", "date"]), c, max_size=4), max_leaves=8), max_size=5))  # fmt: skip
def test_any_index_is_read(tmp_path_factory: pytest.TempPathFactory, data: bytes, values: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    lines = [json.dumps(value).encode() for value in values]
    (folder / "index.jsonl").write_bytes(b"\n".join([data, *lines]))
    trend_of(read_history(folder))


def test_accepted_sessions_whose_results_are_gone_are_counted(tmp_path: Path) -> None:
    """An index without its sessions (a cache that kept one file) has nothing to compare with, and says so."""
    folder = tmp_path / "history"
    for at in range(1, 6):
        keep(folder, at)
        add_verdict(folder, f"s{at}", ["slower"] if at == 5 else [])
    assert read_history(folder).gone() == 0
    shutil.rmtree(folder / "sessions" / "s2")
    found = read_history(folder)
    assert found.gone() == 1
    assert [p.name for p in found.last_accepted(2)] == ["s3", "s4"]
    shutil.rmtree(folder / "sessions")
    assert read_history(folder).gone() == 4, "the one with an alarm is none"
