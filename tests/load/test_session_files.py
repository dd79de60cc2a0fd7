"""Files of sessions: whatever is in one, it is read or refused in one line that names it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.errors import UsageError
from bench_tests.load.workload.sessions import load_scripts
from bench_tests.sweep.sessions import Sessions

TALK = Sessions()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
requests = st.fixed_dictionaries(
    {},
    optional={
        name: json_values | st.integers(0, 5000)
        for name in ("in", "out", "t", "api_time", "think_time", "hash_ids", "type")
    },
)
sessions = st.lists(st.fixed_dictionaries({}, optional={"requests": st.lists(requests, max_size=5) | json_values, "block_size": json_values}), max_size=3)  # fmt: skip
conversations = st.fixed_dictionaries({"conversations": st.lists(st.lists(st.fixed_dictionaries({}, optional={"messages": json_values}), max_size=3), max_size=3)})  # fmt: skip


def read(text: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "talks.json"
        path.write_text(text)
        return load_scripts(str(path), TALK)


@settings(max_examples=200, deadline=None)
@given(st.one_of(json_values, sessions, conversations).map(json.dumps) | st.text(max_size=60))
def test_a_file_is_read_or_refused_in_a_line(text: str) -> None:
    refused = ""
    try:
        found = read(text)
    except UsageError as why:
        refused = str(why)
    if refused:
        assert refused.startswith("--sessions")
        assert "\n" not in refused
        return
    for script in found.scripts:
        assert script.turns
        for turn in script.turns:
            assert turn.osl >= 1
            assert turn.new >= 1 or turn.messages
            assert 0 <= turn.wait_s < float("inf")
            assert turn.keep is None or turn.keep >= 0


@pytest.mark.parametrize(
    "limit, turns", [(0, 6), (10**6, 6), (500 + 6 * (256 + 128), 6), (500 + 6 * (256 + 128) - 1, 5), (500 + 384, 1)]
)
def test_a_session_ends_before_the_context_that_is_wanted_does(limit: int, turns: int) -> None:
    found = load_scripts("synthetic", Sessions(system_tokens=500, max_context=limit))
    assert [len(script.turns) for script in found.scripts] == [turns]
    assert found.scripts[0].longest() <= (limit or 10**9)


def test_a_first_turn_beyond_that_context_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="max_context"):
        load_scripts("synthetic", Sessions(max_context=300))
