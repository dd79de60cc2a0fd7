"""Each row of the fault matrix, run as a user runs the suite; afterwards no trace of the key anywhere."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from bench_tests.sim.faults import FAULTS
from tests.faults.matrix import ROWS
from tests.faults.row import NOTHING, PASSED, Row
from tests.faults.runner import Outcome, Servers, run_row
from tests.faults.write_docs import DOCS, page

AT_A_TIME = 3


@pytest.fixture(scope="module")
def key() -> str:
    return f"sk-{secrets.token_hex(20)}"


class Rows:
    """All rows of this session, started ahead, a few at a time; one that is asked for again runs again, on its own."""

    def __init__(self, wanted: list[Row], folder: Path, key: str) -> None:
        self.folder, self.key, self.servers = folder, key, Servers(key)
        self.pool = ThreadPoolExecutor(AT_A_TIME)
        self.ahead = {row.name: self._started(row, row.name) for row in wanted}

    def outcome(self, row: Row) -> Outcome:
        first = self.ahead.pop(row.name, None)
        return (first or self._started(row, f"{row.name}-{secrets.token_hex(4)}")).result()

    def _started(self, row: Row, name: str) -> Future[Outcome]:
        return self.pool.submit(run_row, row, self.folder / name, self.servers, self.key)

    def stop(self) -> None:
        self.pool.shutdown(cancel_futures=True)
        self.servers.stop()


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, key: str) -> Iterator[Rows]:
    wanted: list[Row] = [
        cast("Row", i.callspec.params["row"])
        for i in request.session.items
        if isinstance(i, pytest.Function) and "rows" in i.fixturenames
    ]
    rows = Rows(wanted, tmp_path_factory.mktemp("faults"), key)
    yield rows
    rows.stop()


@pytest.mark.faults
@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_fault(row: Row, rows: Rows, key: str) -> None:
    got = rows.outcome(row)
    shown = f"{row.fault}\n{got.printed[-6000:]}"
    assert (got.code, got.verdict) == (row.exit, row.verdict), shown
    everything = got.printed + "".join(got.kept.values())
    for words in row.words:
        assert words in everything, f"{words!r} is not in:\n{shown}"
    if not row.traceback:
        assert "Traceback (most recent call last)" not in got.printed, shown
        assert "INTERNALERROR" not in got.printed, shown
    for result in got.results:
        if not result["completed"]:
            assert result["p99_ttft"] is None
    if row.verdict != NOTHING:
        assert got.results
    for secret in (key, key[::-1]):
        assert secret not in got.printed, f"the key is printed:\n{shown}"
        for name, text in got.kept.items():
            assert secret not in text, f"the key is in {name}"
    leftovers = [name for name in got.kept if "/." in name]
    assert not leftovers, "half-written files stay behind"


@pytest.mark.quick
def test_the_documentation_is_made_of_the_same_data() -> None:
    assert Path(DOCS).read_text() == page(), "run: python -m tests.faults.write_docs"


@pytest.mark.quick
def test_the_matrix_is_a_matrix() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names)) >= 40
    assert {row.exit for row in ROWS} == {0, 1, 2, 4, 12, 13}
    assert all(row.words for row in ROWS if row.exit not in (0, 2))
    assert all((row.exit == 0) == (row.verdict == PASSED) for row in ROWS)


@pytest.mark.quick
def test_every_switch_of_the_simulated_server_has_a_row() -> None:
    used = {s.partition(":")[0].partition("@")[0] for row in ROWS for s in row.switches}
    by_hand = {"model_swapped"}  # switched on in the middle
    elsewhere = {"slow_down"}  # no fault of an answer: tests/test_simulator_faults.py
    assert set(FAULTS) - used == by_hand | elsewhere
