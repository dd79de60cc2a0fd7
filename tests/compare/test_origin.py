"""Where a run comes from, by its result."""

from __future__ import annotations

from typing import Any

import pytest

from bench_tests.compare.origin import origin_of


def result(**server: Any) -> dict[str, Any]:
    return {"run_id": "one", "date": "20261125-120000", "server": server, "client": {"hostname": "here"}, "in_step": 0.4,
            "tokens_per_event": 1.5, "engine_version": "0.25"}  # fmt: skip


def test_a_session_a_day_and_how_the_streams_moved() -> None:
    got = origin_of(result())
    assert (got.session, got.in_step, got.tokens_per_event, got.version) == ("one", 0.4, 1.5, "0.25")
    assert got.day == pytest.approx(20782.5)  # noon, days since 1970


@pytest.mark.parametrize(
    "server, start, node",
    [
        ({"counted": {"started": 1795646792.82}, "start": "one/1"}, "1795646792.82", ""),
        ({"start": "one/2", "kind": "local"}, "one/2", "here"),
        ({"job_id": "77", "kind": "slurm", "nodes": "gpu[1-2]"}, "77", "gpu[1-2]"),
        ({"kind": "attach"}, "", ""),
    ],
)
def test_a_start_of_the_server_and_its_node(server: dict[str, Any], start: str, node: str) -> None:
    got = origin_of(result(**server))
    assert (got.start, got.node) == (start, node)


def test_nothing_is_made_up_of_an_old_or_odd_file() -> None:
    got = origin_of({"server": [], "date": "yesterday", "in_step": "much", "tokens_per_event": float("nan")})
    assert (got.session, got.start, got.day, got.node, got.in_step, got.tokens_per_event) == (
        "",
        "",
        None,
        "",
        None,
        None,
    )
