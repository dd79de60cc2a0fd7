"""Traces: units and blocks fixed by the format, windows, speed, coarse clocks; content and hits known to the token."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.errors import UsageError
from bench_tests.load.workload.cache_theory import block_hashes, hit_tokens
from bench_tests.load.workload.content import trace_positions
from bench_tests.load.workload.trace import Trace, infinite_cache_hit_tokens
from bench_tests.load.workload.trace_formats import FORMATS, read_trace

MOONCAKE = [
    {"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [1, 2, 3]},
    {"timestamp": 0, "input_length": 1024, "output_length": 7, "hash_ids": [1, 2]},
    {"timestamp": 3000, "input_length": 600, "output_length": 9, "hash_ids": [1, 9]},
    {"timestamp": 27482, "input_length": 512, "output_length": 1, "hash_ids": [4]},
]
BAILIAN = [
    {"chat_id": 1, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 33, "output_length": 5, "type": "text",
     "turn": 1, "hash_ids": [1, 2, 3]},
    {"chat_id": 2, "parent_chat_id": 1, "timestamp": 62.5, "input_length": 40, "output_length": 6, "type": "text",
     "turn": 2, "hash_ids": [1, 2, 7]},
]  # fmt: skip
BURST_1 = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,Conversation log\n118,GPT-4,417,276,693,API log\n"
BURST_3 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n19440110.0,7,3.5,GPT-4,100,20,120,API log\n19440112.5,8,2.5,GPT-4,50,10,60,API log\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109\r\n"
AZURE_2024 = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2024-05-10 00:00:00.009930+00:00,2162,5\r\n2024-05-10 00:00:01+00:00,2399,6\r\n"
AZURE_2025 = "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\r\n2025-01-01 00:00:00.5,1,30,4\r\n2025-01-01 00:00:02.5,0,31,4\r\n"


def jsonl(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def written(folder: Path, text: str) -> Path:
    path = folder / "trace"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "name", "times_s", "inputs", "block"),
    [
        (jsonl(MOONCAKE), "mooncake", [0, 0, 3, 27.482], [1100, 1024, 600, 512], 512),
        (jsonl(BAILIAN), "bailian", [0, 1.386], [33, 40], 16),
        (BURST_1, "burstgpt", [0, 113], [472, 417], 0),
        (BURST_3, "burstgpt", [0, 2.5], [100, 50], 0),
        (AZURE, "azure", [0, 4.314579], [374, 396], 0),
        (AZURE_2024, "azure", [0, 0.99007], [2162, 2399], 0),
        (AZURE_2025, "azure", [0, 2.0], [30, 31], 0),
        ("\ufeff" + BURST_1, "burstgpt", [0, 113], [472, 417], 0),
    ],
)
def test_a_format_fixes_its_units_and_is_known_by_its_first_line(
    tmp_path: Path, text: str, name: str, times_s: list[float], inputs: list[int], block: int
) -> None:
    for asked in (name, "auto"):
        trace = read_trace(written(tmp_path, text), asked)
        assert trace.format == name
        assert trace.arrival_s == pytest.approx(times_s, abs=1e-6)
        assert trace.input_tokens.tolist() == inputs
        assert trace.block == block


def test_a_failed_request_of_a_trace_is_left_out_and_counted(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, BURST_1))
    assert list(trace.left_out.values()) == [1]
    assert "1 left out" in trace.line()


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "auto", "format"),
        (jsonl(MOONCAKE), "bailian", "blocks of 16"),  # too few hashes is another length, too many another format
        (jsonl(BAILIAN), "mooncake", "blocks of 512"),
        (jsonl(MOONCAKE), "azure", "header"),
        ("{", "mooncake", "line 1"),
        ('{"timestamp": 0, "input_length": "x", "output_length": 1}', "mooncake", "input_length"),
        ('{"timestamp": NaN, "input_length": 1, "output_length": 1}', "mooncake", "timestamp"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-45 00:00:00,1,1\n", "azure", "TIMESTAMP"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 00:00:00\n", "azure", "line 2"),
        (BURST_1.replace("472", "0").replace("417", "0"), "burstgpt", "no request"),
    ],
)
def test_what_is_no_such_trace_is_told_in_one_line(tmp_path: Path, text: str, name: str, words: str) -> None:
    if (text, name) == (jsonl(MOONCAKE), "bailian"):
        assert read_trace(written(tmp_path, text), name).block == 16  # fewer hashes than blocks: only less is shared
        return
    with pytest.raises(UsageError) as told:
        read_trace(written(tmp_path, text), name)
    assert words in str(told.value)
    assert "\n" not in str(told.value)
    assert "trace" in str(told.value)


def test_a_window_and_a_speed(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, jsonl(MOONCAKE)))
    part = trace.window(1, 28).faster(2)
    assert part.arrival_s == pytest.approx([0, 24.482 / 2])
    assert part.input_tokens.tolist() == [600, 512]
    assert part.blocks(0).tolist() == [1, 9]
    assert part.blocks(1).tolist() == [4]
    assert trace.first(2).blocks(1).tolist() == [1, 2]
    with pytest.raises(UsageError, match="--window"):
        trace.window(4, 5)
    assert trace.facts() != part.facts()
    assert trace.facts() == read_trace(written(tmp_path, jsonl(MOONCAKE))).facts()


def test_a_coarse_clock_is_seen_and_can_be_spread(tmp_path: Path) -> None:
    rows = [{"timestamp": 3000 * (i // 10), "input_length": 9, "output_length": 1, "hash_ids": [i]} for i in range(500)]
    trace = read_trace(written(tmp_path, jsonl(rows)))
    assert trace.coarse
    assert "50 distinct times" in trace.line()
    even = trace.spread("uniform", seed=3)
    assert not even.coarse
    assert even.distinct_times == 500
    assert (np.diff(even.arrival_s) >= 0).all()
    assert even.arrival_s == pytest.approx(trace.arrival_s, abs=3.0 + 1e-9)
    assert trace.spread("none", seed=3) is trace


def test_equal_hashes_give_equal_tokens_and_nothing_else_does(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, jsonl(MOONCAKE)))
    a, b, c, d = (trace_positions(trace, i, seed=5, pool_size=30000) for i in range(4))
    assert [len(x) for x in (a, b, c, d)] == [1100, 1024, 600, 512]
    assert (a[:1024] == b).all()
    assert (a[:512] == c[:512]).all()
    assert (a[512:600] != c[512:]).mean() > 0.9
    assert (a[:512] != d).mean() > 0.9
    other = trace_positions(trace, 0, seed=6, pool_size=30000)
    assert (a != other).mean() > 0.9


def test_what_the_hashes_do_not_cover_is_the_requests_own(tmp_path: Path) -> None:
    rows = [{"timestamp": i, "input_length": 700, "output_length": 1, "hash_ids": [1]} for i in range(2)]
    trace = read_trace(written(tmp_path, jsonl(rows)))
    a, b = (trace_positions(trace, i, seed=5, pool_size=30000) for i in range(2))
    assert len(a) == len(b) == 700
    assert (a[:512] == b[:512]).all()
    assert (a[512:] != b[512:]).mean() > 0.9


def test_hits_of_an_endless_cache_by_hand(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, jsonl(MOONCAKE)))
    # 1100 tokens are two whole blocks; the second request has both, the third the first of them
    assert infinite_cache_hit_tokens(trace).tolist() == [0, 1024, 512, 0]
    prompts = [trace_positions(trace, i, seed=5, pool_size=30000) for i in range(4)]
    hashes = [block_hashes(p, 16) for p in prompts]
    lengths = [len(p) for p in prompts]
    # the server's blocks are smaller, and the last token of a prompt is always computed
    assert hit_tokens(hashes, lengths, 16).tolist() == [0, 1008, 512, 0]


def test_a_finite_cache_gives_up_what_was_used_the_longest_ago() -> None:
    hashes = [[1, 2, 3], [4, 5, 6], [1, 2, 3], [4, 5, 6]]
    lengths = [49, 49, 49, 49]
    assert hit_tokens(hashes, lengths, 16).tolist() == [0, 0, 48, 48]
    assert hit_tokens(hashes, lengths, 16, capacity_blocks=3).tolist() == [0, 0, 0, 0]
    # one block of the first prompt is given up, and that is its last
    assert hit_tokens(hashes, lengths, 16, capacity_blocks=5).tolist() == [0, 0, 32, 32]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([*FORMATS, "auto"]))
def test_whatever_a_file_holds_is_a_trace_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "trace"
    path.write_bytes(data)
    told = ""
    try:
        assert len(read_trace(path, name)) > 0
    except UsageError as why:
        told = str(why)
    assert "\n" not in told


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "timestamp": st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.none()),
                "input_length": st.one_of(st.integers(), st.floats(), st.booleans(), st.none()),
                "output_length": st.one_of(st.integers(), st.floats(), st.text(max_size=5)),
                "hash_ids": st.one_of(st.lists(st.integers(), max_size=4), st.integers(), st.none()),
            },
        ),
        max_size=5,
    )
)
def test_whatever_rows_hold_is_a_trace_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "trace"
    path.write_text(jsonl(rows))
    told = ""
    try:
        found = read_trace(path, "mooncake")
        assert isinstance(found, Trace)
        assert (np.diff(found.arrival_s) >= 0).all()
    except UsageError as why:
        told = str(why)
    assert "\n" not in told
