"""Speculative decoding by the server's counters, and the words for it."""

from __future__ import annotations

import pytest

from bench_tests.server.metrics import parse_metrics
from bench_tests.verdict.checks.arrivals import tokens_per_event
from bench_tests.verdict.speculation import speculation, speculation_note, speculation_words
from bench_tests.verdict.summary import summarize
from tests.support.make_records import records


def page(drafts: int, at: tuple[int, ...]) -> bytes:
    label = 'engine="0",model_name="m"'
    lines = [
        f"vllm:prompt_tokens_total{{{label}}} 100.0",
        f"vllm:spec_decode_num_drafts_total{{{label}}} {drafts}",
        f"vllm:spec_decode_num_draft_tokens_total{{{label}}} {drafts * 3}",
        f"vllm:spec_decode_num_accepted_tokens_total{{{label}}} {sum(at)}",
        *(
            f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{{label},position="{place}"}} {count}'
            for place, count in enumerate(at)
        ),
    ]
    return ("\n".join(lines) + "\n").encode()


def test_acceptance_is_of_the_window_and_by_position() -> None:
    before, after = parse_metrics(page(100, (90, 80, 70)), "m"), parse_metrics(page(300, (240, 160, 100)), "m")
    side = speculation(after.since(before).values)
    found = side["speculation"]
    assert (found["drafts"], found["draft_tokens"], found["accepted_tokens"]) == (200, 600, 260)
    assert found["acceptance_length"] == pytest.approx(2.3)
    assert found["acceptance_rate"] == pytest.approx(260 / 600)
    assert found["accepted_by_position"] == pytest.approx([0.75, 0.4, 0.15])
    assert speculation_words(side) == "speculation: 2.30 tokens a step, accepted by position 75 %, 40 %, 15 %"
    (note,) = speculation_note(side, random_prompts=True)
    assert note.ok
    assert "with random prompts" in note.text
    assert speculation_note(side, random_prompts=False) == []


def test_a_server_that_drafts_nothing_has_none() -> None:
    assert speculation({}) == speculation({"drafts": 0.0}) == {}
    assert speculation_words({}) == ""
    assert speculation_note({}, random_prompts=True) == []


def test_several_tokens_an_event_are_its_drafts_and_no_slow_front() -> None:
    three = records([0.0, 1.0], [[0.1, 0.2, 0.3], [1.1, 1.2, 1.3]], output_tokens=[7, 9])
    assert "--api-server-count" in tokens_per_event(three).text
    assert "decodes speculatively" in tokens_per_event(three, speculative=True).text
    assert "--api-server-count" not in tokens_per_event(three, speculative=True).text
    assert summarize(three, 1)["mean_itl_per_token"] == pytest.approx(0.4 / (6 + 8))
