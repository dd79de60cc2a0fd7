"""Datasets: the two forms, what of them cannot be used, and which prompts are drawn in which order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.errors import UsageError
from bench_tests.load.workload.dataset import Dataset, draw, read_dataset

SHAREGPT = [
    {
        "id": "a",
        "conversations": [{"from": "human", "value": "What is TPOT?"}, {"from": "gpt", "value": "Time per token."}],
    },
    {"id": "b", "conversations": [{"from": "gpt", "value": "Hello"}]},
    {
        "id": "c",
        "conversations": [
            {"from": "system", "value": "s"},
            {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "Hey"},
        ],
    },
]
LINES = (
    '{"prompt": "one two three", "output_len": 7}\n\n{"messages": [{"role": "user", "content": "hi"}, '
    '{"role": "assistant", "content": "hello"}]}\n{"prompt": "  "}\n{"prompt": "four", "max_tokens": 3}\n'
)


def read(folder: Path, text: str) -> Dataset:
    path = folder / "data"
    path.write_text(text)
    return read_dataset(path)


def test_sharegpt_gives_the_first_human_turn_that_was_answered(tmp_path: Path) -> None:
    found = read(tmp_path, json.dumps(SHAREGPT))
    assert [(e.prompt, e.answer) for e in found.entries] == [("What is TPOT?", "Time per token."), ("Hi", "Hey")]
    assert sum(found.left_out.values()) == 1
    assert "2 prompts (sharegpt); 1 left out" in found.line()


def test_lines_give_prompts_messages_and_lengths(tmp_path: Path) -> None:
    found = read(tmp_path, LINES)
    assert [(e.prompt, e.output_tokens) for e in found.entries] == [("one two three", 7), ("hi", 0), ("four", 3)]
    assert found.entries[1].messages == ({"role": "user", "content": "hi"},)
    assert found.entries[1].answer == "hello"
    assert sum(found.left_out.values()) == 1


@pytest.mark.parametrize("text", ["", "[]", "[1]", "{", "[", '"x"', '{"prompt": "x", "output_len": -1}', '{"messages": [3]}',
                                  '[{"id": 1}]'])  # fmt: skip
def test_what_is_no_dataset_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as told:
        read(tmp_path, text)
    assert "--dataset" in str(told.value)
    assert "\n" not in str(told.value)


def test_drawing_goes_by_seed_order_and_lengths(tmp_path: Path) -> None:
    data = read(tmp_path, "".join(json.dumps({"prompt": f"p{i}"}) + "\n" for i in range(20)))
    lengths = list(range(20))
    first, fitting = draw(data, 10, 1, "shuffled", lengths, 5, 14)
    assert fitting == 10
    assert sorted(first) == list(range(5, 15))
    assert first == draw(data, 10, 1, "shuffled", lengths, 5, 14)[0] != draw(data, 10, 2, "shuffled", lengths, 5, 14)[0]
    again, _ = draw(data, 25, 1, "shuffled", lengths, 5, 14)
    assert sorted(again[:10]) == sorted(again[10:20]) == list(range(5, 15))
    assert draw(data, 4, 1, "file", lengths, 5, 14)[0] == [5, 6, 7, 8]
    assert draw(data, 4, 1, "file", lengths, 5, 14, skip=8)[0] == [13, 14, 5, 6]
    later = draw(data, fitting - 4, 1, "shuffled", lengths, 5, 14, skip=4)[0]
    assert sorted(draw(data, 4, 1, "shuffled", lengths, 5, 14)[0] + later) == sorted(first), "a second run's are others"
    assert len(draw(data, 3, 1, "shuffled", lengths, 5, 14, skip=10**15)[0]) == 3
    longest, _ = draw(data, 20, 1, "longest", lengths, 0, 99)
    assert longest == list(reversed(range(20)))
    with pytest.raises(UsageError, match="none of 20"):
        draw(data, 1, 1, "file", lengths, 100, 200)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["conversations", "from", "value", "prompt", "messages", "role", "content"]), inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_whatever_a_file_holds_is_a_dataset_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "data"
    path.write_bytes(data)
    told = ""
    try:
        assert read_dataset(path).entries
    except UsageError as why:
        told = str(why)
    assert "\n" not in told
