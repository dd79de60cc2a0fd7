"""Chats against the simulated server's own log: what was promised of the prompt, what was thought, and when the answer began."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench_tests.load.records import Records
from bench_tests.load.team import run_load
from bench_tests.sim.simulator import SimSpec, Simulator
from bench_tests.sweep.workload import Workload
from tests.support.plans import make_plan

SPEC: dict[str, Any] = {"mode": "paced", "ttft_ms": 30, "gap_ms": 2, "think_tokens": 5}
OSL = 16


def load(folder: Path, spec: dict[str, Any], **said: Any) -> tuple[Records, list[dict[str, Any]]]:
    """The records and the server's rows of a load, in the order of sending and of ids."""
    log = folder / "truth.jsonl"
    with Simulator(SimSpec(**(SPEC | spec), truth_log=str(log))) as sim:
        asked = {"osl": OSL, "num_prompts": 8, "template_adds": 4, "endpoint": "chat", "tokenizer": "words"} | said
        run = asyncio.run(run_load(make_plan(sim.url, **asked)))
        sim.stats()
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert run.records.completed.all(), run.records.error
    return run.records, rows


@pytest.mark.parametrize(
    "spec, thought, before, answered",
    [
        ({}, 5, 5, True),
        ({"thinking_key": "reasoning_content"}, 5, 5, True),
        ({"think_tokens": 0}, -1, 0, True),
        ({"think_tokens": 99}, OSL, OSL, False),
        ({"tool_tokens": 4}, 5, 5, True),
        ({"tool_tokens": 99}, 5, 5, True),
        ({"role_at_once": True}, 5, 5, True),
        ({"faults": ("tokens_per_event:1:3",)}, 5, 3, True),
        ({"faults": ("split",), "utf8": True}, 5, 5, True),
    ],
    ids=["thinks", "other_key", "no_thinking", "only_thinking", "tool", "only_tool", "role_first", "grouped", "split"],
)
def test_what_was_thought_and_when_the_answer_began(
    spec: dict[str, Any], thought: int, before: int, answered: bool, tmp_path: Path
) -> None:
    records, rows = load(tmp_path, spec)
    assert records.reasoning_tokens.tolist() == [thought] * 8
    assert [row["reasoning_tokens"] for row in rows] == [max(0, thought)] * 8
    assert sorted(records.events.tolist()) == sorted(row["n_events"] for row in rows)  # a role is no event
    assert records.input_tokens.tolist() == records.asked_input.tolist() == [row["prompt_tokens"] for row in rows]
    assert records.output_tokens.tolist() == [OSL] * 8
    assert (~np.isnan(records.answer_s)).tolist() == [answered] * 8
    for events, begun in zip(np.split(records.event_s, np.cumsum(records.events)[:-1]), records.answer_s, strict=True):
        if answered:  # which of its events that is; events that came in one read have one moment
            assert (events < begun).sum() <= before < (events <= begun).sum()
    true_s = np.array([row["t_first_answer"] - row["t_first_token"] for row in rows])
    assert not answered or ((true_s > 0) == (before > 0)).all()


def test_the_template_is_told_whether_to_think(tmp_path: Path) -> None:
    records, rows = load(tmp_path, {}, chat_template_kwargs={"enable_thinking": False})
    assert [row["reasoning_tokens"] for row in rows] == [0] * 8
    assert records.thinking_s().tolist() == [0.0] * 8


@pytest.mark.parametrize("where, prompt", [("extra", 64 + 4), ("inside", 64)])
def test_a_template_is_on_top_of_the_isl_or_inside(where: str, prompt: int, tmp_path: Path) -> None:
    log = tmp_path / "truth.jsonl"
    with Simulator(SimSpec(**SPEC, truth_log=str(log))) as sim:
        plan = make_plan(
            sim.url, osl=4, num_prompts=8, endpoint="chat", tokenizer="words", template_adds=4, template_tokens=where
        )
        records = asyncio.run(run_load(plan)).records
        sim.stats()
    assert records.asked_input.tolist() == records.input_tokens.tolist() == [prompt] * 8
    assert [json.loads(line)["prompt_tokens"] for line in log.read_text().splitlines()] == [prompt] * 8


def test_a_datasets_messages_are_sent_as_they_are(tmp_path: Path) -> None:
    talks = [
        {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": f"what is {i} and why"}]}
        for i in range(20)
    ]
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    workload = Workload(dataset=str(path), dataset_osl=OSL)
    records, rows = load(tmp_path, {}, workload=workload, isl=0, osl=0)
    assert set(records.asked_input.tolist()) == {2 + 5 + 2 * 4}  # their words, and the template's share of each message
    assert records.input_tokens.tolist() == records.asked_input.tolist()
    assert {row["prompt_tokens"] for row in rows} == {15}
