"""A real vLLM with a chat template: prompts of exactly the promised tokens, and sessions whose hits are theory's to the block.

Its tiny model has no words for thinking, so no reasoning parser can be tried on it: thinking is the simulated server's alone
(tests/load/test_chat.py).
"""

from __future__ import annotations

import json
import re
from asyncio import run
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench_tests.load.records import Records
from bench_tests.server.client import get
from bench_tests.server.served import Endpoint
from bench_tests.verdict.sessions import hits_expected
from tests.vllm.conftest import LENIENT, needs_vllm, sweep

pytestmark = needs_vllm

TALK = """
name = "talk"
base = "demo"
[model]
id = "tiny"
vocab_size = 4096
[workload]
sessions = "synthetic"
[sessions]
turns = 6
new_tokens = 100
osl = 96
think_time = "100ms"
system_tokens = 60
block = BLOCK
[load]
num_prompts = 36
[slo]
p99_ttft = "60s"
"""


def block_of(server: Endpoint) -> int:
    """The block size that it says itself."""
    said = run(get(server, "/metrics"))
    assert said is not None
    found = re.search(rb'cache_config_info\{[^}]*block_size="(\d+)"', said.body)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("where, isl", [("extra", None), ("inside", 512)])
def test_a_chats_prompts_have_the_tokens_that_were_promised(
    where: str, isl: int | None, tmp_path: Path, server: Endpoint, model: Path
) -> None:
    profile = (
        f'name = "chat"\nbase = "demo"\n[model]\nid = "tiny"\n[load]\nendpoint = "chat"\ntemplate_tokens = "{where}"\n'
    )
    profile += '[slo]\np99_ttfat = "60s"\n' + LENIENT
    options = ("--point", "isl512-osl16-conc2", f"--tokenizer={model}", "--num-prompts=20")
    for attempt in range(3):  # two cores for engine and client: one that was starved of CPU says so, rightly
        folder = tmp_path / str(attempt)
        folder.mkdir()
        outcome = sweep(folder, server, *options, profile=profile)
        if outcome.code != 12:
            break
    assert outcome.code == 0 or outcome.only_starved(), outcome.out
    (result,) = outcome.results().values()
    template = result["template_tokens"]
    assert template > 4
    records = Records.load(outcome.results_dir / result["records"])
    assert records.input_tokens.tolist() == [isl or 512 + template] * len(records)
    assert result["total_output_tokens"] == 16 * 20
    assert result["p99_ttfat"] == result["p99_ttft"], "it does not think"


def talk(folder: Path, server: Endpoint, *options: str, more: str = "") -> tuple[dict[str, Any], Records]:
    profile = TALK.replace("BLOCK", str(block_of(server))) + more + LENIENT
    outcome = sweep(folder, server, "--point", "users3", *options, profile=profile)
    assert outcome.code == 0, outcome.out
    (result,) = outcome.results().values()
    return result, Records.load(outcome.results_dir / result["records"])


def test_a_sessions_hits_are_theorys_to_the_block_on_generated_tokens_too(tmp_path: Path, server: Endpoint) -> None:
    block = block_of(server)
    result, records = talk(tmp_path, server)
    done = records.completed
    assert done.sum() == 36
    assert set(records.turn[done].tolist()) == {1, 2, 3, 4, 5, 6}
    assert records.input_tokens[done].tolist() == records.asked_input[done].tolist()
    expected = hits_expected(records, block)
    assert records.cached_tokens[done].tolist() == expected[done].tolist()
    assert (expected[done & (records.turn > 1)] > 0).all()
    (stats,) = result["client"]["processes"]
    assert stats["answers_by_tokenizer"] == 0
    assert stats["answers_by_ids"] >= 36
    # in these the block that is hit last lies in what the server has generated
    before = np.where(records.turn > 1, records.shared_tokens + 1 - 96, 0)
    assert (expected[done] > before[done]).any(), "no block of an answer was hit: the lengths show nothing"


def test_a_chats_session_is_its_messages(tmp_path: Path, server: Endpoint, model: Path) -> None:
    """Generated text may be cut into other tokens when it comes again: the hits are at most theory's, and the prompt before."""
    result, records = talk(
        tmp_path, server, "--endpoint", "chat", f"--tokenizer={model}", more='\n[timeouts]\nrequest = "120s"\n'
    )
    done = records.completed & (records.turn > 1)
    assert json.dumps(result["by_turn"])
    assert (records.input_tokens[records.completed] == records.asked_input[records.completed]).all()
    block = block_of(server)
    assert (records.cached_tokens[done] >= (records.history_tokens[done] // 2) // block * block).all()
