"""How often `--history` calls a server slower that is not, and whether it finds one that is: through real sessions.

    python -m benchmarks.history_sessions --quick        # two minutes: a smoke test
    python -m benchmarks.history_sessions --docs docs    # a quarter of an hour, and into docs/statistics.md

Sessions of the built-in simulated server, each a start of pytest and of the server: first three that are held against nothing,
then A/A sessions against all before them; then slowed ones, each against a copy of the history as the A/A sessions left it, as
one that was found would make the next one an old level. Run it on a machine that does other things meanwhile.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench_tests.compare.history.store import read_history
from benchmarks._page import put

__all__ = ["Night", "night"]

BEGIN, END = "<!-- history sessions: begin -->", "<!-- history sessions: end -->"
ROOT = Path(__file__).resolve().parents[1]
FIRST = 3  # sessions that are held against nothing
STEP_MS, SLOWER = 5.0, 1.1
PROFILE = """
name = "nights"
base = "demo"
[sweep]
isl = [256, 1024]
osl = [32]
concurrency = [4, 8]
[load]
num_prompts = 32
[sim]
step_ms = {step_ms}
step_per_seq_us = {per_seq_us}
prefill_tok_per_s = {prefill}
"""


@dataclass(frozen=True)
class Night:
    """What became of a session. `alarm`: the history keeps it from being a baseline; None: nothing was kept of it."""

    code: int
    alarm: bool | None
    out: str


def night(place: Path, history: Path, slower: float = 1.0) -> Night:
    """One session of a server whose every step and prefill takes `slower` times as long."""
    place.mkdir(parents=True)
    profile = place / "nights.toml"
    profile.write_text(
        PROFILE.format(step_ms=STEP_MS * slower, per_seq_us=20 * slower, prefill=100_000 / slower), encoding="utf-8"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--server=sim", f"--profile={profile}", "--repeat=2"]  # fmt: skip
    command += [f"--results-dir={place / 'results'}", f"--history={history}", "--no-plot"]
    before = {session.id for session in read_history(history).sessions}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    new = [session for session in read_history(history).sessions if session.id not in before]
    return Night(done.returncode, new[0].alarm if new else None, done.stdout + done.stderr)


def _row(what: str, nights: list[Night]) -> str:
    codes = Counter(night.code for night in nights)
    alarms = sum(night.alarm is True for night in nights)
    said = ", ".join(f"{code}: {codes[code]}" for code in sorted(codes))
    return f"| {what} | {len(nights)} | {alarms} | {said} |"


def report(aa: int, slowed: int, folder: Path) -> tuple[str, bool]:
    """The table as Markdown, and whether what is promised is kept."""
    history, began = folder / "history", time.monotonic()
    loads = [os.getloadavg()[0]]
    nights: dict[str, list[Night]] = {"first": [], "aa": [], "slowed": []}
    for number in range(FIRST + aa):
        kind = "first" if number < FIRST else "aa"
        nights[kind].append(night(folder / f"{kind}{number}", history))
        loads.append(os.getloadavg()[0])
        _say(kind, number, nights[kind][-1])
    for number in range(slowed):
        copy = folder / f"history{number}"
        shutil.copytree(history, copy)
        nights["slowed"].append(night(folder / f"slowed{number}", copy, SLOWER))
        loads.append(os.getloadavg()[0])
        _say("slowed", number, nights["slowed"][-1])
    took_s = (time.monotonic() - began) / (FIRST + aa + slowed)
    lines = [
        f"Made by `python -m benchmarks.history_sessions --aa {aa} --slowed {slowed}`: ISL 256 and 1024, OSL 32, concurrency 4 and 8,",
        f"`--repeat 2`, {STEP_MS:g} ms a decode step, {took_s:.0f} s a session; {os.cpu_count()} cores that others used too, load {min(loads):.1f} to {max(loads):.1f}.",
        "",
        "| session | sessions | alarms | exit codes |",
        "| --- | --- | --- | --- |",
        _row(f"the first {FIRST}, held against nothing", nights["first"]),
        _row("the same server (A/A)", nights["aa"]),
        _row(f"every step and prefill {SLOWER - 1:.0%} slower", nights["slowed"]),
    ]
    alarms = sum(found.alarm is True for found in nights["aa"])
    found = all(each.alarm and each.code == 1 for each in nights["slowed"])
    return "\n".join(lines), alarms <= max(1, aa // 20) and found


def _say(kind: str, number: int, found: Night) -> None:
    said = [line for line in found.out.splitlines() if "slower by" in line or "cannot tell" in line or "ERROR" in line]
    print(f"{kind} {number}: exit code {found.code}, alarm {found.alarm}", *said[:3], sep="\n    ", file=sys.stderr, flush=True)  # fmt: skip


def main() -> int:
    """Exit status 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aa", type=int, default=20, help="sessions of the same server, after the first ones")
    parser.add_argument("--slowed", type=int, default=5, help="sessions of the slowed server")
    parser.add_argument("--quick", action="store_true", help="one of each")
    parser.add_argument("--keep", type=Path, help="a folder for the results; a temporary one by default")
    parser.add_argument("--docs", type=Path, help="the folder whose statistics.md gets the table")
    options = parser.parse_args()
    aa, slowed = (1, 1) if options.quick else (options.aa, options.slowed)
    with tempfile.TemporaryDirectory() as folder:
        text, good = report(aa, slowed, options.keep or Path(folder))
    print(text)
    if options.docs:
        put(options.docs, BEGIN, END, text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
