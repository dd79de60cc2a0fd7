"""`--history` from outside: sessions of a simulated server, one of them slower, and a person who accepts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench_tests.compare.history.store import read_history
from tests.support.suite import QUICK, ROOT, run_suite

#: slow enough that a busy machine moves it little
PROFILE = QUICK.replace("isl = [64, 128]", "isl = [64]").replace("step_ms = 1.0", "step_ms = 10.0").replace("num_prompts = 12", "num_prompts = 8") + """
[regression]
figures = ["mean_tpot"]
blind = 100
thresholds = { mean_tpot = 0.25 }
"""  # fmt: skip


def night(tmp_path: Path, history: Path, profile: str = PROFILE, *args: str) -> tuple[int, str]:
    place = tmp_path / f"night{len(list(tmp_path.glob('night*')))}"
    place.mkdir()
    outcome = run_suite(place, "--server", "sim", f"--history={history}", *args, profile=profile)
    return outcome.code, outcome.out


def plotting(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "plotting", "history", *args], cwd=ROOT, capture_output=True, text=True, timeout=120)  # fmt: skip


def test_nights_are_gathered_a_slower_one_is_an_alarm_and_is_accepted(tmp_path: Path) -> None:
    history = tmp_path / "history"
    for number in range(3):
        code, out = night(tmp_path, history)
        assert code == 0, out
        assert f"{number} earlier sessions" in out
        assert "nothing was compared yet" in out
        assert "3 passed" in out  # two points, and since when
    slow = PROFILE.replace("step_ms = 10.0", "step_ms = 20.0")
    code, out = night(tmp_path, history, slow)
    assert code == 1, out
    assert "slower by" in out
    last = read_history(history).sessions[-1]
    assert last.alarm
    assert len(read_history(history).last_accepted(10)) == 3, "what was slower is no baseline"
    assert f"history accept {last.id}" in out or "regression" in out
    done = plotting("accept", last.id, f"--history={history}")
    assert done.returncode == 0, done.stderr
    assert (history / "history.png").stat().st_size > 10_000
    assert "session" in (history / "history.html").read_text()
    assert read_history(history).sessions[-1].accepted


def test_wrong_usage_is_told(tmp_path: Path) -> None:
    code, out = night(tmp_path, tmp_path / "history", PROFILE, "--baseline", "results")
    assert code == 4
    assert "a history has its own baseline" in out
    assert plotting("accept", "nobody", f"--history={tmp_path}").returncode == 4
    assert plotting(f"--history={tmp_path}").returncode == 4


def test_a_history_that_has_lost_its_sessions_is_no_history(tmp_path: Path) -> None:
    history = tmp_path / "nights"
    (history / "sessions").mkdir(parents=True)
    lines = []
    for at in range(4):
        figures = {"isl64-osl8-conc1": {"mean_tpot": 0.01}}
        lines.append({"event": "session", "session": f"s{at}", "date": f"2026110{at + 1}-230000", "figures": figures})
        lines.append({"event": "verdict", "session": f"s{at}", "alarm": []})
    (history / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    outcome = run_suite(tmp_path, "--server", "sim", f"--history={history}")
    assert outcome.code == 4, outcome.out
    assert "4 of its 4 accepted sessions are gone" in outcome.out
    assert str(history / "sessions") in outcome.out
