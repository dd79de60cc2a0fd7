"""What a person sees: a live line and a table at any width, each failure once, the notes that bear on what is asserted."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from bench_tests.errors import UsageError
from bench_tests.load.team import Progress
from bench_tests.measure.point import Measurement
from bench_tests.pytest_plugin.live import Pace, clock_words, live_line
from bench_tests.pytest_plugin.notes import not_made, note_lines
from bench_tests.pytest_plugin.reports import resume_command
from bench_tests.pytest_plugin.table import fitted, point_line, table
from bench_tests.sweep.point import Point
from bench_tests.sweep.typed import columns
from bench_tests.verdict.decide import ERROR, PASSED, Verdict
from tests.support.suite import QUICK, ROOT, run_suite

POINT = Point.parse("isl14336-osl128-conc256")
FIGURES = {"p99_ttft": 1.6, "p99_tpot": 0.05, "median_ttft": 0.8, "median_tpot": 0.04, "completed": 10,
           "input_throughput": 8e4, "output_throughput": 8e3, "request_throughput": 7.25, "median_e2el": 2.5,
           "p99_e2el": 3.5, "p95_ttft": 1.5}  # fmt: skip


def measured(run: int = 1, point: Point = POINT, **result: Any) -> Measurement:
    said = {**FIGURES, "slo": {"objectives": [{"metric": "p99_ttft", "limit": 2.0}]}, **result}
    return Measurement(point, run, said, Path("x.json"), Verdict(PASSED))


def checked(*checks: tuple[str, str], why: str = "") -> dict[str, Any]:
    made = [{"name": name, "ok": True, "text": text} for name, text in checks]
    return {"validity": {"checks": made, "not_made": [{"name": "server_ttft", "why": why}] if why else []}}


@pytest.mark.quick
@pytest.mark.parametrize("width", range(1, 200, 7))
def test_the_live_line_fits_any_width_and_keeps_what_matters_most(width: int) -> None:
    progress = Progress("measure", 150, 3, 2560, 0.8, 0.04)
    line = live_line(str(POINT), 7, 48, progress, width=width, elapsed_s=3700, left_s=125, clock="14:05:13")
    assert len(line) < width or not line
    if width > 24:
        assert str(POINT) in line
    if width > 75:
        assert all(part in line for part in ("[7/48]", "153/2560", "3 failed", "2:05"))
    if width > 150:
        assert all(part in line for part in ("14:05:13", "1:01:40", "800.0 ms", "40.0 ms"))


@pytest.mark.quick
def test_the_time_left_follows_the_work_that_is_done() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    cases = [(POINT, run) for run in (1, 2, 3, 4)]
    pace.plan(dict.fromkeys(cases, 10.0))
    pace.begin()
    assert pace.left_s(cases[0], 0.0) is None  # nothing is known yet
    now[0] = 5.0
    assert pace.left_s(cases[0], 0.5) == pytest.approx(35.0)
    now[0] = 10.0
    pace.end(cases[0])
    pace.end(cases[1], loaded=False)  # reused: it took no time, and says nothing of the others
    now[0] = 60.0  # a person has suspended it between two cases
    pace.begin()
    assert pace.left_s(cases[2], 0.0) == pytest.approx(20.0)
    assert pace.left_s((POINT, 9), 0.5) is None
    assert pace.elapsed_s == 60.0
    assert [clock_words(s) for s in (0, 59.6, 3600)] == ["0:00", "1:00", "1:00:00"]


@pytest.mark.quick
def test_a_table_drops_columns_by_width_and_gains_those_that_are_asked_for() -> None:
    whole = table([measured(1), measured(2)], columns("goodput,requests,e2el,p95_ttft"))
    assert {"goodput req/s", "req/s", "E2EL p50", "E2EL p99", "TTFT p95"} <= set(whole.headings)
    assert "7.25" in str(whole)
    assert [row[0] for row in whole.rows] == [f"{POINT} run 1", f"{POINT} run 2"]
    before = len(whole.headings)
    for width in (300, 140, 80, 60):
        found, hidden = fitted(whole, width)
        assert max(map(len, str(found).splitlines())) <= width
        assert {"point", "verdict", "TTFT p99"} <= set(found.headings)  # what is asserted goes last
        assert len(found.headings) + len(hidden) == len(whole.headings)
        assert len(found.headings) <= before
        before = len(found.headings)
    assert fitted(whole, 5)[0].headings == ("point", "verdict")
    assert len(point_line(measured(), width=50)) <= 50
    assert "n=10" in point_line(measured())


@pytest.mark.quick
@pytest.mark.parametrize(("text", "words"), [("goodputt", "mean goodput"), ("qqq", "p95_ttft"), (" ", "empty")])
def test_a_column_that_there_is_not(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        columns(text)


@pytest.mark.quick
def test_notes_that_differ_in_figures_alone_are_one_line_and_only_those_that_bear_on_what_is_asserted() -> None:
    late, few = ("client_lag", "2.7 ms late"), ("requests_for_p99", "n={} is too small")
    runs = [measured(**checked(late, (few[0], few[1].format(n)), why=f"other requests ({n})")) for n in (10, 20, 40)]
    assert note_lines([(str(n), run) for n, run in enumerate(runs)]) == [
        "note 0 and 2 others (figures of the first): n=10 is too small"
    ]
    assert len(not_made(runs)) == 1
    assert "in 1 of 2 runs" in not_made([runs[0], measured()])[0]
    itl = measured(slo={"objectives": [{"metric": "p95_itl", "limit": 1}]}, **checked(late, few))
    assert note_lines([("a", itl)]) == ["note a: 2.7 ms late"]


@pytest.mark.quick
def test_the_command_that_goes_on() -> None:
    assert resume_command(("-k", "isl64 and conc1")) == "pytest -k 'isl64 and conc1' --resume"
    assert resume_command(("--resume",)) == "pytest --resume"


def test_a_failure_is_told_once_with_its_run_and_a_point_that_was_not_measured_too(tmp_path: Path) -> None:
    args = ("--server", "sim", "-k", "isl64 and conc1", "--repeat", "2")
    outcome = run_suite(tmp_path, *args, "--slo", "p99_ttft<=10us,p99_tpot<=10s")
    assert outcome.code == 1, outcome.out
    assert outcome.out.count("10 µs") == 2, outcome.out  # each run's limit, once
    assert "FAILED isl64-osl8-conc1 run 2: p99 TTFT" in outcome.out
    assert "2 failed" in outcome.out
    assert "note isl64-osl8-conc1 run 1 and 1 other: n=12" in outcome.out
    tight = run_suite(
        tmp_path,
        *args,
        "--num-prompts",
        "13",
        profile=QUICK.replace("min_concurrency_share = 0.1", 'max_pause = "1us"').replace('max_pause = "10s"', ""),
    )
    assert tight.code == 12, tight.out
    assert all(tight.out.count(m["messages"][0]) == 1 for m in tight.results().values() if m["verdict"] == ERROR), (
        tight.out
    )


def test_no_server_is_one_line_without_the_names_of_classes(tmp_path: Path) -> None:
    outcome = run_suite(tmp_path, "--base-url", "http://127.0.0.1:9")
    assert outcome.code == 13, outcome.out
    assert outcome.out.count("no server at http://127.0.0.1:9") == 1, outcome.out
    assert "_pytest" not in outcome.out


def in_terminal(columns: int, folder: Path, *args: str, **env: str) -> tuple[int, bytes]:
    """`pytest ARGS` on a terminal of its own: its exit code, and each byte that it wrote there."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "OPENAI_", "SERVER_INFO", "GITHUB_"))}
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "PY_COLORS"):
        clean.pop(name, None)
    clean |= {"TERM": "xterm", "SERVER_INFO": "none-here", **env}
    (folder / "quick.toml").write_text(QUICK)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--profile={folder / 'quick.toml'}", *args]
    with subprocess.Popen(command, cwd=ROOT, env=clean, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        out = b""
        while select.select([ours], [], [], 300)[0]:
            try:
                out += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
    os.close(ours)
    return process.returncode, out


@pytest.mark.sessions
@pytest.mark.parametrize("width", [60, 140])
def test_on_a_terminal_the_live_line_leaves_nothing_behind(width: int, tmp_path: Path) -> None:
    args = ("--server", "sim", "-k", "isl64", "--num-prompts", "200", "--no-plot", f"--results-dir={tmp_path / 'r'}")
    code, out = in_terminal(width, tmp_path, *args, NO_COLOR="1" if width == 60 else "")
    assert code == 0, out.decode()
    updates = [part.partition(b"\r")[0].decode() for part in out.split(b"\r\x1b[K")[1:]]
    shown = [update for update in updates if "isl64" in update and "/" in update]
    assert shown, out.decode()
    assert all(len(update) < width for update in shown if "measure" in update)
    green = b"\x1b[32mPASSED"
    assert (green in out) == (width == 140)
    lines = out.decode().replace("\x1b[32m", "").replace("\x1b[0m", "").splitlines()
    assert max(len(line) for line in lines if line.startswith("| ")) <= width


def test_ctrl_c_while_drawing_is_quiet(tmp_path: Path) -> None:
    """A drawing that never ends is interrupted: no traceback, the code of an interruption."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types, time\n"
        "def draw_all(*args, **kwargs):\n"
        "    print('DRAWING', flush=True)\n"
        "    time.sleep(600)\n"
        "module = types.ModuleType('plotting')\n"
        "module.draw_all = draw_all\n"
        "sys.modules['plotting'] = module\n"
    )

    def interrupt(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if "DRAWING" in line:
                process.send_signal(signal.SIGINT)
                return

    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "OPENAI_", "SERVER_INFO"))}
    env |= {"PYTHONPATH": str(tmp_path), "SERVER_INFO": "none-here"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--plot", f"--results-dir={tmp_path}"]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        interrupt(process)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 2, out
    assert "pytest --plot" in out
    assert "Traceback" not in out
