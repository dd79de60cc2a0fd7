"""Servers and gateways of others: each is started, and a point is measured on it as a user would."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.rows import ROWS, Row
from tests.servers.start import STARTS, Assets, Running
from tests.servers.write_docs import DOCS, page
from tests.support.suite import Outcome, run_suite

POINT, PROMPTS, OSL = "isl64-osl8-conc2", 12, 8
# nothing here is about speed: two cores are shared by a server, perhaps a gateway, and the client; a tiny model makes a
# token in 0.3 ms, so that several lie there at each read (tests/proxies is about streams that something gathers)
LENIENT = """
name = "others"
base = "demo"
[model]
id = "tiny"
[load]
num_warmups = 2
[slo]
p99_ttft = "60s"
[validity]
max_core_wait = "5s"
max_pause = "30s"
max_blur_share = 1.0
min_concurrency_share = 0.1
"""


class OneAtATime:
    """The server that runs; another one ends it first. Rows of one server stand together."""

    def __init__(self, folder: Path) -> None:
        self.assets = Assets(folder)
        self._stack = ExitStack()
        self._name = ""
        self._running: Running | None = None

    def get(self, name: str) -> Running:
        if name != self._name or self._running is None:
            self.stop()
            self._running = self._stack.enter_context(STARTS[name](self.assets))
            self._name = name
        return self._running

    def stop(self) -> None:
        self._stack.close()
        self._running = None


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneAtATime]:
    one = OneAtATime(tmp_path_factory.mktemp("servers"))
    yield one
    one.stop()


def _between(outcome: Outcome) -> bool:
    """Whether there was time between tokens; a starved client reads the few of a tiny model at once, which LENIENT passes."""
    (result,) = outcome.results().values()
    return result["p99_tpot"] > 0 or "gathers the stream" in outcome.out


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_a_point_of(row: Row, servers: OneAtATime, tmp_path: Path) -> None:
    running = servers.get(row.start)
    options = [
        option.format(tokenizer=servers.assets.model, weights=servers.assets.folder / "weights")
        for option in row.options
    ]
    for attempt in range(3):  # where a busy machine held the server or the client back, the suite says so, rightly
        folder = tmp_path / str(attempt)
        folder.mkdir()
        outcome = run_suite(
            folder, "--base-url", running.url, "--point", POINT, "--num-prompts", str(PROMPTS), *options,
            profile=LENIENT + ("" if row.paced else "max_gathered_share = 1.0\n"),
            env={"OPENAI_API_KEY": running.api_key} if running.api_key else {},
        )  # fmt: skip
        if outcome.code == row.exit and (row.exit or not row.by_token or _between(outcome)):
            break
    assert outcome.code == row.exit, outcome.out
    for words in row.words:
        assert words in outcome.out, outcome.out
    assert "Traceback" not in outcome.out
    assert running.api_key == "" or running.api_key not in outcome.out
    if row.exit:
        return
    (result,) = outcome.results().values()
    assert result["completed"] == result["num_prompts"] == PROMPTS
    assert result["total_output_tokens"] == OSL * PROMPTS
    if row.input_counted:
        assert result["total_input_tokens"] == (64 + result.get("template_tokens", 0)) * PROMPTS
    assert 0 < result["median_ttft"] <= result["p99_ttft"]
    # a gateway that leaves Nagle's algorithm on holds a whole answer back until the first event's ACK, some 40 ms later
    assert _between(outcome) or not row.by_token
    if row.engine:
        assert result["engine"] == row.engine


@pytest.mark.quick
def test_the_documentation_is_made_of_the_same_data() -> None:
    assert DOCS.read_text() == page(), "run: python -m tests.servers.write_docs"


@pytest.mark.quick
def test_each_way_to_start_one_has_a_row_and_rows_of_one_server_stand_together() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {row.start for row in ROWS} == set(STARTS)
    turns = [start for start, _ in itertools.groupby(row.start for row in ROWS)]
    assert len(turns) == len(set(turns))
    assert all(row.words for row in ROWS if row.exit), "what it says is what a reader looks for"
