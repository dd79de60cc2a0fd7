"""For all tests of the suite itself: warnings are errors, and in CI nothing that a real part is needed for is skipped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

# a shell that starts this in the background has it ignore SIGINT, and with it all that the tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)

REQUIRE_ALL = os.environ.get("BENCH_REQUIRE_ALL") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # not in pytest.ini: a user's sweep must not end because some plugin of theirs warns
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"), append=False)
        item.add_marker(pytest.mark.filterwarnings("error"), append=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With BENCH_REQUIRE_ALL=1 a skip is a failure: a check that did not run has shown nothing."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped, but BENCH_REQUIRE_ALL=1: {reason}"
