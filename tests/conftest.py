"""For all tests of the suite itself: each test's tier, warnings are errors, and in CI nothing that a real part is needed for is skipped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

REQUIRE_ALL = os.environ.get("BENCH_REQUIRE_ALL") == "1"

# the check before a release asks the same each time; elsewhere each run looks at new examples, and fuzz.py at millions
if REQUIRE_ALL:
    from hypothesis import settings

    settings.register_profile("check", derandomize=True)
    settings.load_profile("check")

HERE = Path(__file__).parent
# What a test needs decides its tier, and where it lies says what it needs; the longest matching path wins. A marker on
# the test itself (`slow`, `faults`, `quick`) comes before this table.
TIERS = {
    "slurm": "slurm",
    "slurm/test_slurm_words.py": "quick",
    "slurm/test_cluster_down.py": "quick",
    "slurm/test_step.py": "quick",
    "slurm/test_without_cluster.py": "sessions",
    "vllm": "vllm",
    "faults": "faults",
    "load/test_truth.py": "slow",
    "load/test_client_truth.py": "slow",
    "load/test_open_loop.py": "slow",
    "load/test_stagger.py": "slow",
    "load/test_mix.py": "sessions",
    "load/test_chat.py": "sessions",
    "load/test_sessions.py": "sessions",
    "docs/test_recipes.py": "sessions",
    "proxies": "proxies",
    "servers": "servers",
    "plotting/test_report_browser.py": "browser",
}
ALL_TIERS = ("quick", "sessions", "slow", "faults", "browser", "slurm", "vllm", "proxies", "servers")


def tier_of(item: pytest.Item) -> str:
    """The tier of a test: its own marker's, its folder's, `sessions` where its module runs whole sessions, else `quick`."""
    own = [tier for tier in ALL_TIERS if item.get_closest_marker(tier)]
    if own:
        return own[0]
    path = item.path.relative_to(HERE)
    for part in (path, *path.parents):
        if tier := TIERS.get(part.as_posix()):
            return tier
    return "sessions" if "run_suite" in vars(getattr(item, "module", object)) else "quick"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # pytest also loads this file for a sweep that is started in the repository's folder: none of it is for users' sweeps
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    for item in ours:
        item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"), append=False)
        item.add_marker(pytest.mark.filterwarnings("error"), append=False)
        item.add_marker(tier_of(item))
        if (
            tier_of(item) != "quick"
        ):  # real servers and clients on a shared machine: one that was starved says so, rightly
            item.add_marker(pytest.mark.flaky(reruns=2))
    if ours:  # a shell that starts this in the background has it ignore SIGINT, and with it all that tests interrupt
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With BENCH_REQUIRE_ALL=1 a skip is a failure: a check that did not run has shown nothing."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped, but BENCH_REQUIRE_ALL=1: {reason}"
