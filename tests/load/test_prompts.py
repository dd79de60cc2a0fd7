"""Prompts: exactly as long as asked, none like another, the same from the same seed whatever shares the load."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.errors import UsageError
from bench_tests.load.plan import LoadPlan
from bench_tests.load.prompts import IdPool, prompt_ids
from bench_tests.load.requests import RequestFile
from bench_tests.load.texts import count_tokens
from tests.support.plans import change_plan, make_plan

PLAN = make_plan(
    "http://127.0.0.1:1/v1x", "m", isl=40, osl=8, conc=4, num_prompts=12, num_warmups=5, seed=11, vocab_size=500, first_id=10
)  # fmt: skip


def bodies(plan: LoadPlan, warmups: bool = False) -> list[dict[str, Any]]:
    """What the requests of a plan say, in their order."""
    return [body for _, body in requests(plan, warmups)]


def requests(plan: LoadPlan, warmups: bool = False) -> list[tuple[str, dict[str, Any]]]:
    file = RequestFile(plan)
    found = []
    try:
        import os

        for request in file.warmups if warmups else file.requests:
            data = os.pread(file.fileno, request.size, request.offset)
            head, _, body = data.partition(b"\r\n\r\n")
            said = json.loads(body)
            assert f"Content-Length: {len(body)}\r\n" in head.decode() + "\r\n"
            assert said["max_tokens"] == request.osl
            assert isinstance(said["prompt"], str) or len(said["prompt"]) == request.isl
            found.append((head.decode(), said))
    finally:
        file.close()
    return found


def test_prompts_have_exactly_the_length_and_the_request_its_fields() -> None:
    for head, said in requests(change_plan(PLAN, headers={"Authorization": "Bearer k"}, extra_body={"top_k": 1})):
        assert len(said["prompt"]) == 40
        assert all(10 <= t < 500 for t in said["prompt"])
        assert (said["stream"], said["stream_options"], said["ignore_eos"]) == (True, {"include_usage": True}, True)
        assert (said["model"], said["top_k"], said["temperature"]) == ("m", 1, 0.0)
        assert head.startswith("POST /v1x/v1/completions HTTP/1.1\r\nHost: 127.0.0.1:1\r\n")
        assert "\r\nAuthorization: Bearer k\r\n" in head


def test_no_two_prompts_of_a_sweep_start_alike() -> None:
    """Warm-ups, repetitions and further points included, up to as many prompts as there are ids."""
    firsts, serial = [], 0
    for isl in (40, 7, 40, 1):  # a sweep of several points, one of them twice
        plan = change_plan(PLAN, isl=isl, first_serial=serial)
        firsts += [b["prompt"][0] for b in bodies(plan, True) + bodies(plan)]
        serial += plan.num_prompts + plan.num_warmups
    assert len(firsts) == 68
    assert len(set(firsts)) == 68


def test_beyond_the_vocabulary_two_tokens_tell_prompts_apart() -> None:
    pool = 490
    heads = {tuple(prompt_ids(PLAN, pool, serial, 40)[:2].tolist()) for serial in range(3 * pool)}
    assert len(heads) == 3 * pool


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_the_prompts_do_not_depend_on_how_many_share_them(workers: int) -> None:
    plan = change_plan(PLAN, range_ratio=0.3, num_prompts=13)
    plans = [replace(plan, workers=workers, worker=w) for w in range(workers)]
    together = {i: body for each in plans for i, body in zip(each.share(13), bodies(each), strict=True)}
    assert [together[i] for i in range(13)] == bodies(plan)


def test_the_seed_decides() -> None:
    assert bodies(PLAN) == bodies(PLAN)
    assert not set(map(str, bodies(PLAN))) & set(map(str, bodies(change_plan(PLAN, seed=12))))


def test_a_shared_prefix_stands_before_the_length_and_is_all_that_is_shared() -> None:
    plan = change_plan(PLAN, prefix_len=6)
    prompts = [b["prompt"] for b in bodies(plan, True) + bodies(plan)]
    assert {len(p) for p in prompts} == {46}
    assert len({tuple(p[:6]) for p in prompts}) == 1
    assert len({p[6] for p in prompts}) == len(prompts)


@given(ratio=st.floats(0.01, 0.99), isl=st.integers(1, 300), osl=st.integers(1, 50), seed=st.integers(0, 2**62))
@settings(max_examples=25, deadline=None)
def test_a_range_keeps_its_bounds(ratio: float, isl: int, osl: int, seed: int) -> None:
    plan = change_plan(PLAN, isl=isl, osl=osl, range_ratio=ratio, seed=seed, num_warmups=0)
    for said in bodies(plan):
        assert max(1, np.floor(isl * (1 - ratio))) <= len(said["prompt"]) <= np.ceil(isl * (1 + ratio))
        assert max(1, np.floor(osl * (1 - ratio))) <= said["max_tokens"] <= np.ceil(osl * (1 + ratio))


def test_a_range_is_uniform_in_both_lengths() -> None:
    plan = change_plan(PLAN, isl=1000, osl=1000, range_ratio=0.2, num_prompts=600, num_warmups=0)
    file = RequestFile(plan)
    for values in ([r.isl for r in file.requests], [r.osl for r in file.requests]):
        assert np.mean(values) == pytest.approx(1000, rel=0.02)
        assert min(values) < 815
        assert max(values) > 1185
        assert np.std(values) == pytest.approx(400 / np.sqrt(12), rel=0.1)
    assert abs(np.corrcoef([r.isl for r in file.requests], [r.osl for r in file.requests])[0, 1]) < 0.15
    file.close()


def test_special_ids_are_never_drawn() -> None:
    plan = change_plan(PLAN, vocab_size=40, first_id=10, special_ids=(12, 13, 39, 700), isl=300)
    drawn = {t for b in bodies(plan) for t in b["prompt"]}
    assert drawn == set(range(10, 39)) - {12, 13}


@pytest.mark.parametrize("special", [tuple(range(1, 20)), tuple(range(20))])
def test_a_vocabulary_of_nothing_is_told(special: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="vocab_size 20"):
        IdPool(change_plan(PLAN, vocab_size=20, special_ids=special))


def test_a_tiny_vocabulary_still_has_ids_below_the_first() -> None:
    assert len(IdPool(change_plan(PLAN, vocab_size=30, first_id=100))) == 15


def test_640_prompts_of_14336_tokens_are_made_quickly() -> None:
    """A generous bound for a shared machine; about 0.4 s alone."""
    plan = change_plan(PLAN, isl=14336, num_prompts=640, num_warmups=0, vocab_size=150_000)
    start = time.process_time()
    RequestFile(plan).close()
    assert time.process_time() - start < 3


# ---- text


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE that merges, so that decoding and encoding again changes the number of tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("tokenizer")
    made = Tokenizer(models.BPE(unk_token=None))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    words = Path(__file__).read_text(encoding="utf-8").split()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([" ".join(words)], trainer)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_text_prompts_have_exactly_the_tokens_and_differ(tokenizer: Path) -> None:
    from transformers import AutoTokenizer

    plan = change_plan(PLAN, prompt_format="text", tokenizer=str(tokenizer), vocab_size=600, special_ids=(0,))
    theirs = AutoTokenizer.from_pretrained(str(tokenizer))
    texts = [b["prompt"] for b in bodies(plan, True) + bodies(plan)]
    assert [len(theirs(text).input_ids) for text in texts] == [40] * 17
    assert len({text[:4] for text in texts}) == len(texts)
    assert count_tokens(plan, texts[:2]) == [40, 40]


@pytest.mark.filterwarnings("ignore")
def test_a_missing_tokenizer_is_told_in_one_line(tmp_path: Path) -> None:
    plan = change_plan(PLAN, prompt_format="text", tokenizer=str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"model\.tokenizer") as told:
        RequestFile(plan)
    assert "\n" not in str(told.value)
