"""The same points against a baseline (`--baseline DIR`): is this server slower than it was?

A regression is beyond a factor and statistically beyond the noise from run to run, corrected over the whole sweep.
"""

from bench_tests.compare.baseline import change_line
from bench_tests.compare.regression import SweepComparison
from bench_tests.sweep.point import Point


async def test_regression(comparison: SweepComparison, compared: Point) -> None:
    """No figure of this point is a regression against the baseline."""
    worse = [change for change in comparison.of(compared) if change.verdict == "regression"]
    assert not worse, "; ".join(map(change_line, worse))


async def test_sweep_as_a_whole(comparison: SweepComparison) -> None:
    """No figure has moved for the worse over the sweep as a whole, which sees less than any single point can show."""
    worse = [change for change in comparison.overall if change.verdict == "regression"]
    assert not worse, "; ".join(map(change_line, worse))
