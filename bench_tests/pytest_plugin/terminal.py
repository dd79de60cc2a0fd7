"""What a person sees on the terminal while a sweep runs. Reaches pytest's terminal through the config it is given."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bench_tests.compare.capacity import Capacity
from bench_tests.compare.regression import SweepComparison
from bench_tests.compare.sides import sides_rows
from bench_tests.compare.words import comparison_lines
from bench_tests.figures import Figure
from bench_tests.load.team import Progress
from bench_tests.markdown import markdown
from bench_tests.measure.point import Measurement, Sweep
from bench_tests.pytest_plugin.live import Case, Pace, live_line, work_of
from bench_tests.pytest_plugin.notes import not_made, note_lines, verdict_lines
from bench_tests.pytest_plugin.table import fitted, gpus_words, label, point_line, table
from bench_tests.sweep.point import Point
from bench_tests.sweep.units import format_s
from bench_tests.verdict.checks.server import ttft_words
from bench_tests.verdict.speculation import speculation_words

__all__ = ["Terminal"]

CLEAR = "\r\x1b[K"
COLOURS = {"PASSED": "green", "FAILED": "red", "ERROR": "yellow"}
_VERDICT = re.compile(rf"\b({'|'.join(COLOURS)})\b")


class Terminal:
    """Writes beside pytest's own output: lines in a log or CI, a line that lives on a terminal."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.pace = Pace()

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

    def say_verdict(self, text: str) -> None:
        """One line, the first verdict in it in its colour, where pytest has colours (not with NO_COLOR)."""
        writer = self.config.get_terminal_writer()
        self.say(_VERDICT.sub(lambda found: writer.markup(found[0], **{COLOURS[found[0]]: True}), text, count=1))

    @property
    def _several(self) -> bool:
        return int(getattr(self.config.option, "bench_repeat", 1)) > 1

    @property
    def _width(self) -> int | None:
        """Columns of the terminal; None in a log or a pipe, which have room for all."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    @property
    def further(self) -> Sequence[Figure]:
        """What --columns adds to the table."""
        return getattr(self.config.option, "bench_columns", None) or ()

    def say_plain(self, text: str) -> None:
        """One line, where pytest has not started its terminal."""
        print(text)

    @contextlib.contextmanager
    def live(self, case: Case, number: int, points: int) -> Iterator[Callable[[Progress], None] | None]:
        """A line that tells how far a point is; only where a person looks at it."""
        self.pace.begin()
        try:
            with self.uncaptured():
                if self._quiet or self._reporter is None or not sys.stdout.isatty():
                    yield None
                    return
                self._reporter.ensure_newline()
                try:
                    yield lambda progress: self._show(case, number, points, progress)
                finally:
                    sys.stdout.write(CLEAR)
                    sys.stdout.flush()
        finally:
            self.pace.end(case)

    def _show(self, case: Case, number: int, points: int, progress: Progress) -> None:
        done = (progress.done + progress.failed) / max(1, progress.total) * (progress.phase == "measure")
        line = live_line(
            str(case[0]), number, points, progress,
            width=self._width or 80,  # each time: a window changes
            elapsed_s=self.pace.elapsed_s, left_s=self.pace.left_s(case, done), clock=time.strftime("%H:%M:%S"),
        )  # fmt: skip
        sys.stdout.write(CLEAR + line)
        sys.stdout.flush()

    def header(
        self, sweep: Sweep, cases: Sequence[tuple[Point, int]], say: Callable[[str], None], further: Sequence[str] = ()
    ) -> None:
        """What is going to be measured, said before the first load."""
        if "--against" not in self.config.invocation_params.args:  # each case has four runs there
            self.pace.plan(work_of(sweep, list(cases)))
        if self._quiet:
            return
        model, profile = sweep.model, sweep.profile
        simulated = " SIMULATED" if model.simulated else ""
        context = f", context {model.max_model_len}" if model.max_model_len else ""
        requests = sum(sweep.num_prompts(p) + profile.num_warmups(p) + profile.load.filling(p.conc) for p, _ in cases)
        points, runs = len({p for p, _ in cases}), len({run for _, run in cases})
        again = f" in {runs} rounds" if runs > 1 else ""
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
            width = self._width
            self.say_verdict("  " + point_line(measurement, self._several, width and width - 2))
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
        whole = table(measurements, self.further)
        hidden: list[str] = []
        if width := self._width:
            whole, hidden = fitted(whole, width)
        for line in str(whole).splitlines():
            self.say_verdict(line)
        if hidden:
            reporter.write_line(f"not shown for want of width: {', '.join(hidden)}")
        if any(f.name == "request_goodput" for f in self.further) and not any(
            m.result.get("goodput") for m in measurements
        ):
            reporter.write_line('no goodput without limits of a request; give some, e.g. --goodput "ttft:2s tpot:50ms"')
        several = self._several or any(m.run > 1 for m in measurements)
        labelled = [(label(m, several), m) for m in measurements]
        for word, name, message in verdict_lines(labelled):
            self.say_verdict(f"{word} {name}: {message}")
        for line in note_lines(labelled):
            reporter.write_line(line)
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
