"""The server's counters: of several engines and versions, under any of the model's names, and when they are no witness."""

from __future__ import annotations

import itertools
import math
from asyncio import run
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_tests.load.records import Records
from bench_tests.measure.counters import count
from bench_tests.server.metrics import Histogram, Metrics, merged, parse_metrics, read_metrics, several_servers
from bench_tests.server.served import Endpoint
from bench_tests.sweep.point import Point
from bench_tests.sweep.settings import Validity
from bench_tests.verdict.checks import answers
from bench_tests.verdict.checks.check import Check, RunFacts
from tests.support.make_records import records as make_records
from tests.support.odd_servers import odd_server
from tests.support.suite import run_suite


def page(values: Mapping[str, float], label: str = "m", start: float | None = 1000.0) -> str:
    """Counters in Prometheus' format, all of one model."""
    lines = [f'{name}{{engine="0",model_name="{label}"}} {value}' for name, value in values.items()]
    return "\n".join([*lines, *([f"process_start_time_seconds {start}"] if start is not None else [])]) + "\n"


VLLM = {"vllm:prompt_tokens_total": 100.0, "vllm:generation_tokens_total": 10.0}


def parsed(text: str, model: str = "m") -> Metrics:
    return parse_metrics(text.encode(), model)


@pytest.mark.parametrize(
    "hits, cached",
    [
        ({"vllm:prefix_cache_hits_total": 30.0}, 30.0),
        ({"vllm:gpu_prefix_cache_hits_total": 30.0}, 30.0),
        ({"vllm:prefix_cache_hits_total": 0.0, "vllm:external_prefix_cache_hits_total": 40.0}, 40.0),
        ({"vllm:prefix_cache_hits_total": 5.0, "vllm:external_prefix_cache_hits_total": 40.0}, 45.0),
        ({"vllm:prefix_cache_hits_total": 0.0, "vllm:prompt_tokens_cached_total": 60.0}, 60.0),
        ({"vllm:prefix_cache_hits": 7.0}, 7.0),
        ({}, None),
    ],
)
def test_hits_are_found_under_the_names_of_several_versions(hits: dict[str, float], cached: float | None) -> None:
    assert parsed(page(VLLM | hits)).values.get("cached_tokens") == cached


def test_other_engines_have_their_own_names() -> None:
    sglang = {
        "sglang:prompt_tokens_total": 9.0,
        "sglang:cached_tokens_total": 4.0,
        "sglang:generation_tokens_total": 2.0,
    }
    got = parsed(page(sglang)).values
    assert (got["prompt_tokens"], got["cached_tokens"], got["generation_tokens"]) == (9.0, 4.0, 2.0)
    got = parsed("llamacpp:prompt_tokens_total 9\nllamacpp:tokens_predicted_total 2\n").values
    assert (got["computed_tokens"], got["generation_tokens"]) == (9.0, 2.0)
    other = parsed("go_goroutines 9\n")
    assert "no counters of an engine that is known" in other.missing


def test_an_alias_or_adapter_has_the_first_names_counters_and_two_models_have_their_own() -> None:
    assert parsed(page(VLLM, label="first"), "second").values["prompt_tokens"] == 100.0
    two = page(VLLM, label="first") + page({"vllm:prompt_tokens_total": 7.0}, label="second")
    assert parsed(two, "second").values["prompt_tokens"] == 7.0
    third = parsed(two, "third")
    assert "prompt_tokens" not in third.values
    assert "of 2 models, none of them named third" in third.missing


@pytest.mark.parametrize(
    "odd",
    ["vllm:odd{a=b} 1", 'vllm:avg{model_name="m"} NaN', "}{", "vllm:x{", "\x00", '# TYPE vllm:prompt_tokens nonsense', "# EOF", "vllm:y 1e999999"],
)  # fmt: skip
def test_one_odd_line_costs_no_other_counter(odd: str) -> None:
    for text in (f"{odd}\n{page(VLLM)}", f"{page(VLLM)}{odd}\n"):
        got = parsed(text)
        assert got.values["prompt_tokens"] == 100.0
        assert got.missing == ""


def test_an_odd_line_of_a_counter_makes_that_one_unknown_and_is_said() -> None:
    got = parsed(page(VLLM | {"vllm:prefix_cache_hits_total": 3.0}) + "vllm:prefix_cache_hits_total{a=b} 1\n")
    assert "cached_tokens" not in got.values
    assert got.values["prompt_tokens"] == 100.0
    assert "vllm:prefix_cache_hits_total" in got.missing


def test_engines_and_exemplars_add_up() -> None:
    text = "".join(
        f'vllm:prompt_tokens_total{{engine="{n}",model_name="m"}} 5 # {{id="x"}} 1.0 1.7e9\n' for n in range(8)
    )
    assert parsed(text).values["prompt_tokens"] == 40.0


# ---- several servers behind one URL


def turns(*pages: str) -> Callable[[], tuple[int, str]]:
    """/metrics of a balancer: each reading is of the next server."""
    each = itertools.cycle(pages)
    return lambda: (200, next(each))


def growing() -> Callable[[], tuple[int, str]]:
    numbers = itertools.count(1)
    return lambda: (200, page({"vllm:prompt_tokens_total": float(next(numbers))}))


@pytest.mark.parametrize(
    "pages",
    [
        (page(VLLM, start=1000.0), page(VLLM, start=5000.0)),
        (page(VLLM, start=None), page({"vllm:prompt_tokens_total": 9e6}, start=None)),
        (page(VLLM, start=1.0), page(VLLM, start=1.0), page(VLLM, start=900.0)),
    ],
)
def test_several_servers_are_recognised_and_one_is_not(pages: tuple[str, ...]) -> None:
    with odd_server(metrics=turns(*pages)) as (_, url):
        assert "several servers" in run(several_servers(Endpoint(url), "m"))
    with odd_server(metrics=growing()) as (_, url):
        assert run(several_servers(Endpoint(url), "m")) == ""
    with odd_server() as (_, url):
        assert run(several_servers(Endpoint(url), "m")) == ""


def test_a_server_that_was_restarted_is_still_one() -> None:
    with odd_server(metrics=turns(page(VLLM, start=2000.0))) as (_, url):
        after = run(read_metrics(Endpoint(url), "m"))
        assert after.changes(parsed(page(VLLM, start=1000.0)))
        assert run(several_servers(Endpoint(url), "m", after)) == ""


def test_a_point_behind_a_balancer_is_measured_and_says_what_was_not_checked(tmp_path: Path) -> None:
    two = turns(page(VLLM, start=1000.0), page({"vllm:prompt_tokens_total": 9e6}, start=7000.0))
    with odd_server(metrics=two) as (_, url):
        outcome = run_suite(tmp_path, "--base-url", url, "--model", "m", "--slo=none", "--point", "isl64-osl8-conc2")
    (result,) = outcome.results().values()
    assert result["verdict"] == "PASSED", outcome.out
    assert "several servers answer here by turns" in outcome.out
    for wrong in ("restarted", "of others", "went back"):
        assert wrong not in outcome.out
    assert {check["name"] for check in result["validity"]["not_made"]} >= {"prefix_cache", "other_load", "same_server"}
    assert "counted" not in result["server"]


# ---- what the counters say of a run


def ten(cached: float = -1) -> Records:
    """Ten answers of four tokens to prompts of ten; `cached`: what the usage of each says of cached tokens."""
    sends = [0.1 * n for n in range(10)]
    return make_records(sends, [[s + 0.01 * k for k in range(1, 5)] for s in sends], cached_tokens=[cached] * 10)


SENT = float(ten().asked_input.sum())


def judged(after: Mapping[str, float], records: Records | None = None, prefix_len: int = 0) -> dict[str, Check]:
    """The checks of a run of ten requests between two readings."""
    records = ten() if records is None else records
    before = Metrics(dict.fromkeys(after, 0.0) | {"started": 1.0})
    got = count(before, Metrics(dict(after) | {"started": 1.0}), records, "")
    facts = RunFacts(
        Point(8, 4, 2), 10, prefix_len=prefix_len, cached_tokens=got.cached_tokens, preemptions=got.preemptions,
        not_counted=got.not_used,
    )  # fmt: skip
    found = [answers.cached(records, facts, Validity()), answers.preempted(facts), *got.extra]
    return {check.name: check for check in found if check is not None}


def test_the_larger_of_counter_and_usage_counts() -> None:
    cold = judged({"prompt_tokens": SENT, "cached_tokens": 0.0}, ten(0))
    assert cold["prefix_cache"].ok
    by_counter = judged({"prompt_tokens": SENT, "cached_tokens": SENT}, ten(0))
    by_usage = judged({"prompt_tokens": SENT, "cached_tokens": 0.0}, ten(10))
    for checks in (by_counter, by_usage):
        assert not checks["prefix_cache"].ok
        assert checks["prefix_cache"].figure == pytest.approx(1.0)


def test_without_a_witness_the_check_is_not_made_and_says_why() -> None:
    unknown = ten()
    check = judged({"prompt_tokens": SENT}, unknown)["prefix_cache"]
    assert not check.made
    assert "counts no hits" in check.text
    half = judged({"prompt_tokens": SENT / 2, "cached_tokens": 0.0}, unknown)
    assert not half["prefix_cache"].made
    assert not half["other_load"].made
    others = judged({"prompt_tokens": SENT * 2, "cached_tokens": SENT}, unknown)
    assert "of others" in others["other_load"].text
    assert not others["prefix_cache"].made


def test_preempted_requests_are_no_repeated_prompts() -> None:
    unknown = ten()
    each = float(unknown.asked_input[0])
    checks = judged({"prompt_tokens": SENT, "cached_tokens": 2 * each, "preemptions": 2.0}, unknown)
    assert checks["prefix_cache"].ok
    assert "preempted 2 requests" in checks["preemptions"].text
    repeated = judged({"prompt_tokens": SENT, "cached_tokens": SENT, "preemptions": 2.0}, unknown)
    assert not repeated["prefix_cache"].ok


def test_llama_cpp_counts_what_its_cache_did_not_have() -> None:
    unknown = ten()
    assert judged({"computed_tokens": SENT}, unknown)["prefix_cache"].ok
    assert not judged({"computed_tokens": SENT / 4}, unknown)["prefix_cache"].ok


def test_readings_that_did_not_come_say_nothing() -> None:
    got = count(Metrics(missing="the server has no /metrics (HTTP 404)"), Metrics(), ten(), "")
    assert {check.name for check in got.extra} == {"other_load", "same_server"}
    assert all(not check.made and "no /metrics" in check.text for check in got.extra)


# ---- histograms


def histogram_of(values: list[float], bounds: list[float]) -> Histogram:
    every = [*bounds, math.inf]
    return Histogram(len(values), sum(values), {b: float(sum(v <= b for v in values)) for b in every})


@given(st.lists(st.floats(0.001, 20.0), min_size=1, max_size=60), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_lies_between_the_bounds_that_are_said(values: list[float], q: float) -> None:
    low, high = histogram_of(values, [0.01, 0.1, 1.0, 10.0]).between(q) or (math.nan, math.nan)
    assert low <= float(np.percentile(values, q * 100)) * (1 + 1e-12)
    assert float(np.percentile(values, q * 100)) <= high * (1 + 1e-12)


def test_a_histogram_of_nothing_has_neither_mean_nor_percentile() -> None:
    assert Histogram().mean_s is None
    assert Histogram().between(0.5) is None
    assert Histogram(3, 1.0).between(0.5) is None


def page_of(requests: int, engine: int = 0) -> str:
    label = f'engine="{engine}",model_name="m"'
    return (
        f"vllm:prompt_tokens_total{{{label}}} {requests * 10}\n"
        f"vllm:kv_cache_usage_perc{{{label}}} {0.2 * (engine + 1)}\n"
        f'vllm:time_to_first_token_seconds_bucket{{{label},le="0.1"}} {requests}\n'
        f'vllm:time_to_first_token_seconds_bucket{{{label},le="+Inf"}} {requests}\n'
        f"vllm:time_to_first_token_seconds_count{{{label}}} {requests}\n"
        f"vllm:time_to_first_token_seconds_sum{{{label}}} {requests * 0.05}\n"
    )


def test_engines_of_a_server_and_servers_of_a_point_are_put_together_alike() -> None:
    both = parsed(page_of(4) + page_of(6, engine=1))
    apart = merged([parsed(page_of(4)), parsed(page_of(6, engine=1))])
    for got in (both, apart):
        assert got.values["prompt_tokens"] == 100.0
        assert got.values["kv_cache"] == pytest.approx(0.3)
        assert got.histograms["ttft"].mean_s == pytest.approx(0.05)
        assert got.histograms["ttft"].buckets == {0.1: 10.0, math.inf: 10.0}
    assert both.since(parsed(page_of(4))).histograms["ttft"].count == 6
    lacking = merged([parsed(page_of(4)), Metrics(missing="gpu2 does not answer")])
    assert (lacking.values, lacking.missing) == ({}, "gpu2 does not answer")


def test_half_a_histogram_is_none() -> None:
    text = page_of(4).replace("seconds_sum{", "seconds_sum{odd ")
    assert "ttft" not in parsed(text).histograms
    assert "time_to_first_token_seconds_sum" in parsed(text).missing
