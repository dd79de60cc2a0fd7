"""The same points against a baseline (`--baseline DIR`, `--history DIR`) or a second server (`--against URL`): is it slower?

A regression is beyond a factor and statistically beyond the noise of rounds, sessions and starts, corrected over the whole
sweep. Where a comparison could not have seen one, the case is an ERROR: nothing was found out.
"""

from bench_tests.compare.history.trend import Trend
from bench_tests.compare.regression import SweepComparison
from bench_tests.compare.words import blind_line, change_line
from bench_tests.errors import NotMeasured
from bench_tests.sweep.point import Point


async def test_regression(comparison: SweepComparison, compared: Point) -> None:
    """No figure of this point is a regression against the baseline, and one would have been seen."""
    changes = comparison.of(compared)
    worse = [change for change in changes if change.verdict == "regression"]
    assert not worse, "; ".join(map(change_line, worse))
    if blind := [change for change in changes if change.blind]:
        raise NotMeasured(f"{compared}: {blind_line(blind)}")


async def test_sweep_as_a_whole(comparison: SweepComparison) -> None:
    """No figure has moved for the worse over the sweep as a whole, which sees less than any single point can show."""
    worse = [change for change in comparison.overall if change.verdict == "regression"]
    assert not worse, "; ".join(map(change_line, worse))
    if blind := [change for change in comparison.overall if change.blind]:
        raise NotMeasured(f"the sweep as a whole: {blind_line(blind)}")


async def test_since_when(trend: Trend) -> None:
    """No figure has changed for the worse within the last sessions of the history (`--history DIR`), but for what was accepted."""
    assert not trend.alarms, "; ".join(change.words for change in trend.alarms)
