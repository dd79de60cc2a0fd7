"""Each reason to doubt a run trips when it should and not before, and says what to do; a doubted run has no verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench_tests.load.records import Records
from bench_tests.pytest_plugin.notes import notes
from bench_tests.sweep.point import Point
from bench_tests.sweep.settings import Validity
from bench_tests.sweep.slo import Objective
from bench_tests.verdict.decide import ERROR, FAILED, PASSED, decide
from bench_tests.verdict.summary import summarize
from bench_tests.verdict.validity import Check, RunFacts, check_run
from tests.support.make_records import records

LIMITS = Validity()
QUIET = {
    "worst_pause_s": 0.01,
    "cpu_s": 1.0,
    "duration_s": 10.0,
    "core_wait_s": 0.1,
    "looks": 1000,
    "clock_step_s": 1e-5,
}


def run(n: int = 40, *, conc: int = 4, **columns: Any) -> Records:
    """A closed loop without gaps: each of `conc` places sends as its last answer ends, a second each."""
    sends = [float(i // conc) for i in range(n)]
    return records(sends, [[s + 0.2, s + 0.6, s + 1.0] for s in sends], **columns)


def facts(**changes: Any) -> RunFacts:
    base = RunFacts(Point(10, 3, 4), 40, client=[QUIET], asserted=[Objective("p99_ttft", 1.0)])
    return replace(base, **changes)


def checks(of: Records, about: RunFacts, limits: Validity = LIMITS) -> dict[str, Check]:
    return {check.name: check for check in check_run(of, about, limits)}


def tripped(of: Records, about: RunFacts, limits: Validity = LIMITS) -> list[str]:
    found = checks(of, about, limits)
    for check in found.values():
        assert check.ok or check.text, "what is wrong must be said"
    return [name for name, check in found.items() if not check.ok]


def test_a_clean_run_is_not_doubted() -> None:
    assert tripped(run(), facts()) == []
    assert tripped(run(400), facts(num_prompts=400, cached_tokens=0.0, calibrated_events_per_s=100.0)) == []


def test_a_staggered_start_that_was_none_has_no_verdict() -> None:
    about = facts(client=[{**QUIET, "begun_over_s": 0.8}, {**QUIET, "begun_over_s": 0.0}])
    assert tripped(run(), about) == ["start"]
    assert tripped(run(), facts(client=[{**QUIET, "begun_over_s": 0.8}, {**QUIET, "begun_over_s": None}])) == []


def some_failed(share: float) -> Records:
    bad = int(40 * share)
    return run(kind=["stalled"] * bad + ["completed"] * (40 - bad))


def test_failed_requests() -> None:
    got = checks(some_failed(0.05), facts())["failed_requests"]
    assert not got.ok
    assert got.figure == pytest.approx(0.05)
    assert "2 of 40 requests failed (2 stalled); the first says: was stalled" in got.text
    assert tripped(some_failed(0.05), facts(), replace(LIMITS, max_failed_share=0.05)) == []
    assert tripped(some_failed(0.075), facts(), replace(LIMITS, max_failed_share=0.05)) == ["failed_requests"]


def test_all_failed_is_never_allowed_and_no_request_is_no_run() -> None:
    lenient = replace(LIMITS, max_failed_share=1.0)
    assert tripped(run(kind=["http"] * 40), facts(), lenient) == ["failed_requests"]
    assert tripped(Records.empty(), facts(), lenient) == ["failed_requests"]


def test_a_stopped_run() -> None:
    assert tripped(run(), facts(stopped="the job has ended")) == ["complete"]


def test_tokens_must_be_those_that_were_sent() -> None:
    other = [10] * 39 + [11]
    got = checks(run(input_tokens=other), facts())["tokens"]
    assert "11 instead of 10" in got.text
    assert tripped(run(input_tokens=[-1] * 40), facts()) == []  # a server that does not count them
    assert tripped(run(output_tokens=[3] * 39 + [-1]), facts()) == ["tokens"]


def test_what_a_reader_must_know_of_a_valid_run() -> None:
    def check(name: str, ok: object, text: object) -> dict[str, object]:
        return {"name": name, "ok": ok, "text": text}

    checks = [
        check("other_load", True, "others"),
        check("preemptions", True, ""),
        check("client_lag", True, "late"),
        check("requests_for_p99", True, "few"),
    ]
    assert notes({"validity": {"checks": checks}}) == ["others", "few"]  # nothing asserted: p99 TTFT and TPOT are read
    for metric, told in (
        ("p99_itl", ["others", "late", "few"]),
        ("mean_itl", ["others", "late"]),
        ("mean_ttft", ["others"]),
    ):
        slo = {"objectives": [{"metric": metric, "limit": 1.0}]}
        assert notes({"slo": slo, "validity": {"checks": checks}}) == told
    for damaged in (None, {}, {"validity": 3}, {"validity": {"checks": {"a": 1}}}, {"validity": {"checks": [3, {}]}}):
        assert notes(damaged or {}) == []


def test_requests_that_were_sent_twice() -> None:
    def said(resent: int, n: int = 40) -> list[str]:
        return tripped(run(n), facts(num_prompts=n, client=[QUIET | {"resent": resent}]))

    assert said(0) == said(1) == []  # a connection that the server was just closing
    assert said(2) == said(10) == said(32) == ["resent"]
    assert said(36) == said(40) == []  # a server that never keeps one: nothing is lost there
    assert said(4, 400) == []
    assert said(5, 400) == ["resent"]


def test_prefix_cache_hits_with_a_prefix_of_its_own() -> None:
    n, warm = 40, 8
    measured = [False] * warm + [True] * n
    of = records([float(i) for i in range(n + warm)], [[i + 0.2, i + 0.6] for i in range(n + warm)], measured=measured,
                 asked_input=[100] * (n + warm))  # fmt: skip
    about = facts(prefix_len=60, point=Point(40, 2, 1))
    assert checks(of, replace(about, cached_tokens=60.0 * 47))["prefix_cache"].figure == 0
    assert checks(of, replace(about, cached_tokens=100.0 * 48))["prefix_cache"].figure == pytest.approx(0.4)
    by_usage = replace(of, cached_tokens=np.full(n + warm, 100))
    assert checks(by_usage, about)["prefix_cache"].figure == pytest.approx(0.4)


def test_prefix_cache_hits() -> None:
    total = 400.0
    assert tripped(run(), facts(cached_tokens=0.009 * total)) == []
    assert tripped(run(), facts(cached_tokens=0.02 * total)) == ["prefix_cache"]
    assert tripped(run(), facts(cached_tokens=0.02 * total, prefix_len=2)) == []  # what prompts share on purpose
    assert tripped(run(cached_tokens=[8] * 40), facts()) == ["prefix_cache"]  # by usage, where there are no counters
    assert not checks(run(), facts())["prefix_cache"].made


def test_concurrency() -> None:
    assert tripped(run(3), facts(num_prompts=3)) == ["concurrency"]
    half = records([i * 0.5 for i in range(40)], [[i * 0.5 + 0.1, i * 0.5 + 0.4] for i in range(40)])
    got = checks(half, facts())["concurrency"]
    assert not got.ok
    assert got.figure == 0


def test_the_rate_that_was_asked() -> None:
    steady = records([i / 10 for i in range(40)], [[i / 10 + 0.1, i / 10 + 0.2] for i in range(40)])
    assert tripped(steady, facts(request_rate=10.0)) == []
    wanted = replace(steady, scheduled_s=steady.send_s / 1.09)
    assert tripped(wanted, facts(request_rate=10.0)) == []
    late = checks(replace(steady, scheduled_s=steady.send_s / 1.2), facts(request_rate=10.0))["request_rate"]
    assert not late.ok
    assert late.figure == pytest.approx(1 / 1.2)
    assert math.isinf(facts().request_rate)


def test_few_requests_are_judged_by_their_own_schedule_and_not_by_the_mean_rate() -> None:
    five = records([0.0, 0.1, 0.2, 0.3, 9.0], [[s + 0.05] for s in (0.0, 0.1, 0.2, 0.3, 9.0)])
    assert tripped(five, facts(request_rate=1000.0, num_prompts=5)) == []


@pytest.mark.parametrize("late_every, expected", [(40, []), (10, ["held_back"])])
def test_a_concurrency_that_holds_scheduled_requests_back(late_every: int, expected: list[str]) -> None:
    """Two streams; each answer takes 10 ms, but after some requests both are busy beyond the next one's time."""
    due = [float(i) for i in range(40)]
    ends = [
        s + (2.5 if i % late_every >= late_every - 3 and i % late_every < late_every - 1 else 0.01)
        for i, s in enumerate(due)
    ]
    send = list(due)
    for i in range(2, 40):  # two streams: a third request waits for the first end of the two before it
        if min(ends[i - 1], ends[i - 2]) > due[i]:
            send[i] = min(ends[i - 1], ends[i - 2])
    of = records(send, [[s, max(e, s)] for s, e in zip(send, ends, strict=True)], scheduled_s=due)
    held = checks(of, facts(request_rate=1.0, point=Point(10, 2, 2)))["held_back"]
    assert held.figure == pytest.approx(sum(s > d for s, d in zip(send, due, strict=True)) / 40)
    assert [
        name for name in tripped(of, facts(request_rate=1.0, point=Point(10, 2, 2))) if name == "held_back"
    ] == expected


def test_an_open_loop_is_judged_from_the_scheduled_time_and_says_both() -> None:
    of = replace(run(400), scheduled_s=run(400).send_s - 0.5)  # each waited 0.5 s in the client, TTFT 0.2 s
    verdict = decide(of, [Objective("p99_ttft", 0.3)], "point", [])
    assert verdict.word == FAILED
    assert "700" in verdict.messages[0]
    assert "200.0 ms from the send" in verdict.messages[0]
    closed = replace(of, scheduled_s=np.zeros(400))
    assert decide(closed, [Objective("p99_ttft", 0.3)], "point", []).word == PASSED


# ---- how the events arrived


def arrived(together: int, osl: int = 8, n: int = 40, **columns: Any) -> Records:
    """Answers of `osl` events that came `together` at a time."""
    sends = [float(i // 4) for i in range(n)]
    events = [[s + 0.2 + 0.1 * (i // together) for i in range(osl)] for s in sends]
    return records(sends, events, **columns)


@pytest.mark.parametrize("together, expected", [(1, []), (2, []), (4, ["gathered_stream"]), (8, ["gathered_stream"])])
def test_answers_that_came_in_clumps_have_no_verdict_on_their_times(together: int, expected: list[str]) -> None:
    about = facts(asserted=[Objective("p99_ttft", 5.0)], point=Point(10, 8, 4))
    assert [name for name in tripped(arrived(together), about) if name == "gathered_stream"] == expected
    check = checks(arrived(together), about)["gathered_stream"]
    for words in ("proxy_buffering off", "option http-no-delay", "p99_ttft"):
        assert (words in check.text) == bool(expected)


@pytest.mark.parametrize("osl", [2, 3])
def test_short_answers_that_came_whole_were_gathered(osl: int) -> None:
    about = facts(asserted=[Objective("p99_tpot", 5.0)], point=Point(10, osl, 4))
    assert "gathered_stream" in tripped(arrived(osl, osl), about)
    assert "gathered_stream" not in tripped(arrived(1, osl), about)
    of = arrived(1, osl)
    some = replace(of, moments=np.where(np.arange(40) % 3 == 0, 1, of.moments))
    assert "gathered_stream" not in tripped(some, about), "a busy host reads two events at once now and then"


def test_one_event_of_several_tokens_is_no_gathering() -> None:
    about = facts(asserted=[Objective("p99_ttft", 5.0)], point=Point(10, 3, 4))
    assert "gathered_stream" not in tripped(arrived(1, 1, output_tokens=[3] * 40, asked_output=[3] * 40), about)


@pytest.mark.parametrize(
    "metric, judged", [("p99_tpot", False), ("p99_itl", False), ("p99_ttft", True), ("p99_e2el", True)]
)
def test_an_answer_in_one_event_has_no_time_between_tokens(metric: str, judged: bool) -> None:
    """A TPOT of 0 would pass any limit."""
    about = facts(asserted=[Objective(metric, 5.0)], point=Point(10, 3, 4))
    check = checks(arrived(1, 1, output_tokens=[3] * 40, asked_output=[3] * 40), about)["one_event_answers"]
    assert check.ok == judged
    assert "p99_e2el" in check.text
    single = checks(arrived(1, 1, output_tokens=[1] * 40, asked_output=[1] * 40), about)["one_event_answers"]
    assert single.ok
    assert single.text == "", "an answer of one token is one event"


def test_events_that_came_two_at_a_time_are_told() -> None:
    about = facts(asserted=[Objective("p99_ttft", 5.0)], point=Point(10, 8, 4))
    check = checks(arrived(2), about)["gathered_stream"]
    assert check.ok
    assert "2.0 at a time" in check.text
    assert check.text in notes({"validity": {"checks": [check.as_dict()]}}), "a note is told"
    assert checks(arrived(1), about)["gathered_stream"].text == ""


def test_tokens_that_nobody_counted_are_unknown() -> None:
    of = run(output_tokens=[-1] * 40)
    found = checks(of, facts(client=[{**QUIET, "uncounted": 40}]))
    assert not found["tokens"].ok
    assert "--tokenizer" in found["tokens"].text
    assert "counted_by_tokenizer" not in found, "no tokenizer counted them"
    figures = summarize(of, 4)
    assert (figures["output_throughput"], figures["total_output"], figures["total_token_throughput"]) == (None,) * 3
    assert figures["input_throughput"] > 0
    assert figures["steady_state"]["output_throughput"] is None


def test_a_usage_that_counts_no_prompts_leaves_them_as_sent() -> None:
    of = run(input_tokens=[-1] * 40)
    assert tripped(of, facts()) == []
    assert "as sent" in checks(of, facts())["counted_by_tokenizer"].text


def test_clumps_are_a_note_where_no_objective_depends_on_them() -> None:
    for asserted in ([], [Objective("p99_e2el", 5.0)]):
        check = checks(arrived(8), facts(asserted=asserted))["gathered_stream"]
        assert check.ok
        assert "gathers" in check.text


@pytest.mark.parametrize("together", [4, 8])
def test_a_client_that_read_late_blames_nobody_else_for_clumps(together: int) -> None:
    """Clumps of 4 in 0.1 s: an event each 14 ms; whole answers after 0.2 s: each 25 ms."""
    about = facts(asserted=[Objective("p99_tpot", 5.0)], point=Point(10, 8, 4))
    of = arrived(together)
    late = checks(replace(of, lag_s=np.full(40, 0.02)), about)["gathered_stream"]
    assert not late.ok, "it was not measured, whoever is the cause"
    assert "cannot be told" in late.text
    assert "20.0 ms late" in late.text
    for blamed in ("proxy_buffering", "HAProxy", "between the server"):
        assert blamed not in late.text
    some = np.where(np.arange(40) % 3 == 0, 0.02, 1e-4)  # a third of the answers: the others were gathered elsewhere
    for lag_s in (some, np.full(40, 0.002)):
        assert "proxy_buffering off" in checks(replace(of, lag_s=lag_s), about)["gathered_stream"].text


def test_one_of_many_answers_in_clumps_is_enough_for_a_p99() -> None:
    """Two replicas, one of them behind a proxy that gathers."""
    some = arrived(1)
    some = replace(some, moments=np.where(np.arange(40) % 20 == 0, 1, some.moments))
    assert "gathered_stream" in tripped(some, facts(asserted=[Objective("p99_tpot", 5.0)]))
    assert "gathered_stream" not in tripped(
        some, facts(asserted=[Objective("p99_tpot", 5.0)]), replace(LIMITS, max_gathered_share=0.1)
    )


def test_many_tokens_an_event_are_told_and_no_clumps() -> None:
    of = arrived(1, output_tokens=[23] * 40, asked_output=[23] * 40)
    found = checks(of, facts(asserted=[Objective("p99_ttft", 5.0)]))
    assert found["gathered_stream"].ok
    assert "2.9 tokens an event" in found["tokens_per_event"].text
    assert checks(arrived(1), facts())["tokens_per_event"].text == ""


def test_many_events_a_token_are_no_clumps() -> None:
    of = arrived(4, output_tokens=[2] * 40, asked_output=[2] * 40)  # each token is told in four events
    assert checks(of, facts(asserted=[Objective("p99_ttft", 5.0)]))["gathered_stream"].ok


@pytest.mark.parametrize(
    "name, key, within, beyond",
    [
        ("client_pause", "worst_pause_s", 0.24, 0.26),
        ("client_cpu", "cpu_s", 8.9, 9.1),
        ("client_core_wait", "core_wait_s", 0.99, 1.01),
        ("clock", "clock_step_s", 0.0009, 0.0011),
    ],
)
def test_the_clients_own_state(name: str, key: str, within: float, beyond: float) -> None:
    def one(value: float) -> Mapping[str, Any]:
        return {**QUIET, key: value}

    assert tripped(run(), facts(client=[one(within)])) == []
    assert tripped(run(), facts(client=[QUIET, one(beyond)])) == [name]  # the worst of the processes counts


def test_a_process_that_had_nothing_to_send_is_not_at_its_limit() -> None:
    idle = {**QUIET, "looks": 0, "cpu_s": 1e-4, "duration_s": 1e-5}
    assert tripped(run(), facts(client=[QUIET, idle])) == []


@pytest.mark.parametrize(
    "metric, column, size",
    [("p99_ttft", "first_blur_s", 0.2), ("p99_e2el", "last_blur_s", 1.0), ("mean_ttft", "first_blur_s", 0.2)],
)
def test_merged_reads_matter_where_they_move_an_asserted_figure(metric: str, column: str, size: float) -> None:
    about = facts(asserted=[Objective(metric, 5.0)])
    assert tripped(replace(run(), **{column: np.array([0.009 * size] * 40)}), about) == []
    assert tripped(replace(run(), **{column: np.array([0.011 * size] * 40)}), about) == [f"client_blur_{metric}"]
    other = facts(asserted=[Objective("p99_tpot", 5.0)])
    assert f"client_blur_{metric}" not in checks(replace(run(), **{column: np.array([size] * 40)}), other)


def test_blur_in_tpot_is_shared_by_its_steps() -> None:
    about = facts(asserted=[Objective("p99_tpot", 5.0)])  # (0.8 s) / 2 = 0.4 s
    assert tripped(run(last_blur_s=[0.007] * 40), about) == []
    assert tripped(run(last_blur_s=[0.009] * 40), about) == ["client_blur_p99_tpot"]


def test_reads_later_than_the_gap_between_events_forbid_a_verdict_on_itl() -> None:
    about = facts(asserted=[Objective("p99_itl", 5.0)])  # gaps of 0.4 s
    assert tripped(run(lag_s=[0.19] * 40), about) == []
    assert tripped(run(lag_s=[0.21] * 40), about) == ["client_blur_p99_itl"]


def test_such_reads_are_told_where_itl_is_not_asserted() -> None:
    assert checks(run(lag_s=[0.19] * 40), facts())["client_lag"].text == ""
    late = checks(run(lag_s=[0.21] * 40), facts())["client_lag"]
    assert late.ok
    assert "p99 ITL" in late.text


def test_answers_that_came_all_at_once_say_nothing_of_itl() -> None:
    at_once = run(lag_s=[0.01] * 40)
    at_once = replace(at_once, event_s=np.repeat(at_once.event_s[::3], 3))
    about = facts(asserted=[Objective("p99_itl", 1.0)])
    assert tripped(at_once, about) == ["client_blur_p99_itl"]
    assert "p99 ITL" in checks(at_once, facts())["client_lag"].text


def test_where_nothing_is_asserted_the_usual_figures_must_hold() -> None:
    about = facts(asserted=[])
    assert tripped(run(first_blur_s=[0.001] * 40), about) == []
    assert tripped(run(first_blur_s=[0.003] * 40), about) == ["client_blur_p99_ttft"]
    assert tripped(run(last_blur_s=[0.009] * 40), about) == ["client_blur_p99_tpot"]


def test_a_load_beyond_what_was_calibrated() -> None:
    rate = 120 / 10  # events over the run's length

    def known(true_to: float, bound: float | None) -> RunFacts:
        return facts(calibrated_events_per_s=true_to, calibrated_bound=bound, calibration_file="/cache/host.json")

    assert tripped(run(), known(rate * 1.01, rate * 1.01)) == []
    assert tripped(run(), known(rate * 0.99, rate * 0.99)) == ["calibration"]
    assert "/cache/host.json" in checks(run(), known(rate * 0.99, rate * 0.99))["calibration"].text
    unknown = checks(run(), known(rate * 0.5, None))["calibration"]  # no load was found that this client can't carry
    assert unknown.ok
    assert "could not be judged (/cache/host.json)" in unknown.text
    shared = replace(run(), worker=np.arange(40, dtype=np.int16) % 2)  # what it advises helps: two carry half each
    assert tripped(shared, replace(known(rate * 0.6, rate * 0.6), client=[QUIET, QUIET])) == []


def test_few_requests_are_told_and_no_doubt() -> None:
    few = checks(run(), facts())["requests_for_p99"]
    assert few.ok
    assert "n=40" in few.text
    assert not checks(run(400), facts(num_prompts=400))["requests_for_p99"].text


def test_another_server_than_before() -> None:
    assert tripped(run(), facts(server_changes=["it was restarted"])) == ["same_server"]


def test_every_limit_of_a_profile_decides_something() -> None:
    """Each key of [validity], set to where nothing passes, trips a check of this clean run (min_p99_requests only tells)."""
    asked = facts(cached_tokens=1.0, server_changes=())
    blurred = run(first_blur_s=[1e-4] * 40, cached_tokens=[0] * 40)
    strict = {
        "max_blur_share": 0.0, "max_pause": 0.001, "max_client_cpu": 0.0, "max_core_wait": 1e-6,
        "min_concurrency_share": 1.01, "max_cache_share": 0.0, "max_clock_step": 1e-6,
    }  # fmt: skip
    for key, value in strict.items():
        assert len(tripped(blurred, asked, replace(LIMITS, **{key: value}))) == 1, key  # type: ignore[arg-type]


# ---- the verdict


SLOW = [Objective("p99_ttft", 0.1)]


def test_a_doubted_run_has_no_verdict_whatever_its_figures() -> None:
    wrong = [Check("clock", False, 1.0, 0.001, "s", "the clock was set")]
    assert decide(run(), SLOW, "point", wrong).word == ERROR
    assert decide(run(), [], "point", wrong).messages == ("the clock was set",)


def test_the_message_says_by_how_much() -> None:
    verdict = decide(run(400), SLOW, "point", [])
    assert verdict.word == FAILED
    assert verdict.messages[0].startswith("p99 TTFT 200.0 ms > 100.0 ms (+100 %, n=400, 95 % CI ")


def test_within_is_passed_also_at_the_limit() -> None:
    assert decide(run(), [Objective("mean_e2el", 1.0 + 1e-9)], "point", []).word == PASSED
    assert decide(run(), [Objective("mean_e2el", 0.99)], "point", []).word == FAILED
    assert decide(run(), [], "point", []).word == PASSED


def test_an_objective_without_a_figure_is_an_error_and_a_breach_outranks_it() -> None:
    one = records([0.0, 1.0], [[0.5], [1.5]])
    assert decide(one, [Objective("p99_tpot", 1.0)], "point", []).word == ERROR
    assert decide(one, [Objective("p99_tpot", 1.0), Objective("mean_ttft", 0.1)], "point", []).word == FAILED


def test_nothing_completed_is_never_a_pass() -> None:
    none = run(kind=["http"] * 40)
    found = check_run(none, facts(), LIMITS)
    assert decide(none, [Objective("p99_ttft", 9.0)], "point", found).word == ERROR
    assert np.isnan(run(kind=["http"] * 40).tpot_s()).sum() == 0
