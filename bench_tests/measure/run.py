"""A measurement as a user's own case reads it: its figures as attributes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench_tests.errors import NotMeasured
from bench_tests.measure.point import Measurement

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """`run.p99_ttft` and each further figure of a result file by its key: times in seconds, throughputs per second."""

    measurement: Measurement

    @property
    def result(self) -> Mapping[str, Any]:
        """The whole content of the result file."""
        return self.measurement.result

    @property
    def verdict(self) -> str:
        """PASSED or FAILED by the objectives that the load was given; PASSED where it had none."""
        return self.measurement.verdict.word

    def __getattr__(self, name: str) -> Any:
        """A figure. Raises NotMeasured where this run has none, AttributeError where no result has one of that name."""
        if name.startswith("_"):
            raise AttributeError(name)
        result = self.measurement.result
        if name not in result:
            near = difflib.get_close_matches(name, list(result), 1)
            raise AttributeError(f"a run has no {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
        if result[name] is None:
            raise NotMeasured(f"{self.measurement.point}: {name} was not measured")
        return result[name]
