"""Whether a run may be judged at all: each reason to doubt it with its figure, its limit and what to do.

Pure: records and facts in, checks out. What is checked is in verdict/checks, a module a kind of doubt.
"""

from __future__ import annotations

from bench_tests.load.records import Records
from bench_tests.sweep.settings import Validity
from bench_tests.verdict.checks import answers, arrivals, client, load, server
from bench_tests.verdict.checks.check import Check, RunFacts

__all__ = ["Check", "RunFacts", "check_run"]


def check_run(records: Records, facts: RunFacts, limits: Validity) -> list[Check]:
    """All checks of a run, in the order in which a person should read them."""
    checks: list[Check | None] = [_stopped(facts), answers.failed(records, limits), answers.resent(records, facts)]
    if records.completed.any():
        checks += [
            answers.tokens(records),
            answers.one_model(facts, limits),
            answers.cached(records, facts, limits),
            answers.prefix_hits(records, facts),
            answers.preempted(facts),
            *load.asked_load(records, facts, limits),
            arrivals.gathered(records, facts, limits),
            arrivals.in_one_event(records, facts, limits),
            *client.client(records, facts, limits),
            client.lag(records),
            client.calibration(records, facts),
            arrivals.tokens_per_event(records, facts.speculative),
            server.server_ttft(records, facts),
            answers.counted(records, facts),
            answers.unanswered(records, facts),
            answers.few(records, limits),
        ]
    checks.append(_server(facts))
    checks += facts.extra
    return [check for check in checks if check is not None]


def _stopped(facts: RunFacts) -> Check:
    return Check(
        "complete", not facts.stopped, None, None, "", f"the run was stopped: {facts.stopped}" * bool(facts.stopped)
    )


def _server(facts: RunFacts) -> Check:
    changes = "; ".join(facts.server_changes)
    return Check(
        "same_server",
        not changes,
        float(len(facts.server_changes)),
        0.0,
        "changes",
        f"the server changed during the run: {changes}; measure again" if changes else "",
    )
