"""What is said below the table beside the verdicts: the notes that bear on what is asserted, and the checks not made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench_tests.figures import figures_where
from bench_tests.measure.point import Measurement
from bench_tests.verdict.checks.arrivals import MOVED
from bench_tests.verdict.decide import PASSED

__all__ = ["not_made", "note_lines", "notes", "verdict_lines"]

#: checks that hold and are told all the same, with the latencies that they are about; an empty set: about all of them
NOTED: Mapping[str, frozenset[str]] = {
    "other_load": frozenset(),
    **MOVED,
    "client_lag": frozenset(("itl",)),
    "calibration": frozenset(),
    "tokens_per_event": frozenset(("ttft", "ttfat", "itl")),
    "server_ttft": frozenset(("ttft",)),
    "speculation": frozenset(),
    "counted_by_tokenizer": frozenset(),
    "preemptions": frozenset(),
    "late_end": frozenset(),
    "two_states": frozenset(),
    "server_profile": frozenset(),
    "server_cpus": frozenset(),
    "requests_for_p99": frozenset(),
}


def _asserted(result: Mapping[str, Any]) -> frozenset[str]:
    """The metrics of the run's objectives; the headline figures where there is none."""
    slo = result.get("slo")
    listed = slo.get("objectives") if isinstance(slo, Mapping) else None
    named = [one.get("metric") for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    return frozenset(map(str, named)) or frozenset(figure.name for figure in figures_where(headline=True))


def _told(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    validity = result.get("validity")
    checks = validity.get("checks") if isinstance(validity, Mapping) else None  # a kept file may say anything
    asserted = _asserted(result)
    latencies = {metric.partition("_")[2] for metric in asserted}
    found = []
    for check in checks if isinstance(checks, list) else ():
        if not isinstance(check, Mapping):
            continue
        name = str(check.get("name"))
        if name not in NOTED or not (check.get("ok") and check.get("text")):
            continue
        if name == "requests_for_p99" and not any(metric.startswith("p99") for metric in asserted):
            continue
        if NOTED[name] and not NOTED[name] & latencies:
            continue
        found.append((name, str(check["text"])))
    return found


def notes(result: Mapping[str, Any]) -> list[str]:
    """What a reader of a valid run's figures has to know of it: other load on the server, a p99 of ten requests."""
    return [text for _, text in _told(result)]


def note_lines(measurements: Sequence[tuple[str, Measurement]]) -> list[str]:
    """The notes of all (name, measurement), one line for those that differ in nothing but their figures."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for label, measurement in measurements:
        for name, text in _told(measurement.result):
            groups.setdefault((name, _shape(text)), []).append((label, text))
    lines = []
    for told in groups.values():
        label, text = told[0]
        of = f" and {_count(len(told) - 1, 'other')}" if len(told) > 1 else ""
        of += " (figures of the first)" if len({text for _, text in told}) > 1 else ""
        lines.append(f"note {label}{of}: {text}")
    return lines


def verdict_lines(measurements: Sequence[tuple[str, Measurement]]) -> list[tuple[str, str, str]]:
    """What was not PASSED: its verdict, its name, its message; an equal message of several, such as the log of a server
    that did not start, once.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for label, measurement in measurements:
        if measurement.verdict.word != PASSED:
            for message in measurement.verdict.messages:
                groups.setdefault((measurement.verdict.word, message), []).append(label)
    return [
        (word, told[0] + (f" and {_count(len(told) - 1, 'other')}" if len(told) > 1 else ""), message)
        for (word, message), told in groups.items()
    ]


def _shape(text: str) -> str:
    return re.sub(r"\d[\d.,]*", "#", text)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def not_made(measurements: Iterable[Measurement]) -> list[str]:
    """The checks that could not be made, one line a reason, however many points it holds for."""
    found: dict[tuple[str, str], list[str]] = {}
    of = 0
    for measurement in measurements:
        of += 1
        validity = measurement.result.get("validity")
        listed = validity.get("not_made") if isinstance(validity, Mapping) else None
        for check in listed if isinstance(listed, list) else ():
            if isinstance(check, Mapping):
                why = str(check.get("why"))
                found.setdefault((str(check.get("name")), _shape(why)), []).append(why)
    reasons: dict[tuple[str, int], list[str]] = {}
    for (name, _), whys in found.items():
        reasons.setdefault((whys[0], len(whys)), []).append(name)
    runs = _count(of, "run")
    return [
        f"not checked{'' if count == of else f' in {count} of {runs}'}: {', '.join(names)}: {why}"
        for (why, count), names in reasons.items()
    ]
