"""What a person sees on the terminal while a sweep runs. Reaches pytest's terminal through the config it is given."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bench_tests.compare.capacity import Capacity
from bench_tests.compare.regression import SweepComparison
from bench_tests.compare.sides import sides_rows
from bench_tests.compare.words import comparison_lines
from bench_tests.load.team import Progress
from bench_tests.markdown import markdown
from bench_tests.measure.point import Measurement, Sweep
from bench_tests.pytest_plugin.table import columns, gpus_words, live_line, point_line, row
from bench_tests.sweep.point import Point
from bench_tests.sweep.units import format_s
from bench_tests.verdict.checks.server import ttft_words
from bench_tests.verdict.decide import PASSED
from bench_tests.verdict.speculation import speculation_words

__all__ = ["Terminal", "not_made", "notes"]

NOTED = (
    "other_load",
    "gathered_stream",
    "one_event_answers",
    "client_lag",
    "calibration",
    "tokens_per_event",
    "server_ttft",
    "speculation",
    "counted_by_tokenizer",
    "preemptions",
    "server_profile",
    "server_cpus",
)  # checks that hold, and are told all the same
CLEAR = "\r\x1b[K"


class Terminal:
    """Writes beside pytest's own output: lines in a log or CI, a line that lives on a terminal."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def _reporter(self) -> Any:
        return self.config.pluginmanager.get_plugin("terminalreporter")

    @property
    def _quiet(self) -> bool:
        return bool(self.config.option.verbose < 0)

    @contextlib.contextmanager
    def uncaptured(self) -> Iterator[Callable[[str], None]]:
        """Within, what is said reaches the terminal at once, although pytest captures output."""
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            yield self.say

    def say(self, text: str) -> None:
        """One line, said now."""
        if self._reporter is None:
            return
        self._reporter.ensure_newline()
        self._reporter.write_line(text)
        self._reporter.flush()

    def say_plain(self, text: str) -> None:
        """One line, where pytest has not started its terminal."""
        print(text)

    @contextlib.contextmanager
    def live(self, name: str, number: int, points: int) -> Iterator[Callable[[Progress], None] | None]:
        """A line that tells how far a point is; only where a person looks at it."""
        with self.uncaptured():
            if self._quiet or self._reporter is None or not sys.stdout.isatty():
                yield None
                return
            self._reporter.ensure_newline()

            def show(progress: Progress) -> None:
                sys.stdout.write(CLEAR + live_line(name, number, points, progress))
                sys.stdout.flush()

            try:
                yield show
            finally:
                sys.stdout.write(CLEAR)
                sys.stdout.flush()

    def header(self, sweep: Sweep, cases: Sequence[tuple[Point, int]], further: Sequence[str] = ()) -> None:
        """What is going to be measured, said before the first load."""
        if self._quiet:
            return
        model, profile = sweep.model, sweep.profile
        simulated = " SIMULATED" if model.simulated else ""
        context = f", context {model.max_model_len}" if model.max_model_len else ""
        requests = sum(sweep.num_prompts(p) + profile.num_warmups(p) + profile.load.filling(p.conc) for p, _ in cases)
        points, runs = len({p for p, _ in cases}), len({run for _, run in cases})
        again = f" in {runs} rounds" if runs > 1 else ""
        with self.uncaptured() as say:
            say(f"server: {sweep.served.endpoint.base_url} ({sweep.served.kind}){simulated}")
            say(f"model: {model.model}, {sweep.engine} {model.version}, {gpus_words(sweep.gpus)}{context}")
            most = "at most " if any(sweep.budget(p) for p, _ in cases) else ""
            asked = f", {points} point{'s' * (points != 1)}{again}, {most}{requests} requests{_expected(sweep, cases)}"
            say(f"profile: {profile.name}{asked * bool(cases)}")
            for line in further:
                say(line)

    def point(self, measurement: Measurement) -> None:
        """A point's outcome, said when it has ended."""
        if not self._quiet:
            self.say("  " + point_line(measurement))
        if self.config.option.verbose > 0:
            side = measurement.result.get("server_side")
            if isinstance(side, Mapping):
                for words in filter(None, (ttft_words(side), side.get("spike_words"), speculation_words(side))):
                    self.say(f"    {words}")

    def summary(
        self,
        measurements: Sequence[Measurement],
        comparison: SweepComparison | None,
        capacities: Sequence[Capacity] = (),
        against: str = "",
    ) -> None:
        """The table of the sweep, and below it what was not as it should be."""
        reporter = self._reporter
        reporter.section("sweep", "=")
        simulated = any((m.result.get("server") or {}).get("simulated") for m in measurements)
        if simulated:
            reporter.write_line("SIMULATED: these figures are of the built-in simulated server, not of an engine")
        reporter.write_line(markdown([row(m, measurements) for m in measurements], columns(measurements)))
        for measurement in measurements:
            if measurement.verdict.word != PASSED:
                for message in measurement.verdict.messages:
                    reporter.write_line(f"{measurement.verdict.word} {measurement.point}: {message}")
            for note in notes(measurement.result):
                reporter.write_line(f"note {measurement.point}: {note}")
        for line in not_made(measurements):
            reporter.write_line(line)
        if capacities:
            reporter.section("capacity", "=")
            for found in capacities:
                reporter.write_line(found.unclear or found.words)
        if comparison is not None:
            reporter.section(f"against {against}" if against else "against the baseline", "=")
            if against:
                headings, rows = sides_rows(comparison)
                reporter.write_line(markdown(rows, headings))
            for line in comparison_lines(comparison):
                reporter.write_line(line)


def notes(result: Mapping[str, Any]) -> list[str]:
    """What a reader of a valid run's figures has to know of it: other load on the server, an ITL in doubt."""
    validity = result.get("validity")
    checks = validity.get("checks") if isinstance(validity, Mapping) else None  # a kept file may say anything
    said = [check for check in checks if isinstance(check, Mapping)] if isinstance(checks, list) else []
    return [
        str(check["text"]) for check in said if check.get("name") in NOTED and check.get("ok") and check.get("text")
    ]


def not_made(measurements: Sequence[Measurement]) -> list[str]:
    """The checks that could not be made, one line a reason, however many points it holds for."""
    found: dict[tuple[str, str], int] = {}
    for measurement in measurements:
        validity = measurement.result.get("validity")
        listed = validity.get("not_made") if isinstance(validity, Mapping) else None
        for check in listed if isinstance(listed, list) else ():
            if isinstance(check, Mapping):
                key = (str(check.get("name")), str(check.get("why")))
                found[key] = found.get(key, 0) + 1
    reasons: dict[tuple[str, int], list[str]] = {}
    for (name, why), count in found.items():
        reasons.setdefault((why, count), []).append(name)
    of = len(measurements)
    return [
        f"not checked{'' if count == of else f' in {count} of {of} runs'}: {', '.join(names)}: {why}"
        for (why, count), names in reasons.items()
    ]


def _expected(sweep: Sweep, cases: Sequence[tuple[Point, int]]) -> str:
    """How long it took the last time, where all points have a result; nothing is guessed."""
    total = 0.0
    for point, _ in cases:
        kept = sweep.earlier(point)
        duration = kept.get("duration") if kept else None
        if not isinstance(duration, int | float):
            return ""
        share = 1 + sweep.profile.num_warmups(point) / sweep.num_prompts(point)
        total += duration * share
    return f", about {format_s(total)} by the last results"
