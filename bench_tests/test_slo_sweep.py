"""The sweep: one case a point, each measured once a round and held against its objectives.

PASSED: measured, and within its objectives. FAILED: measured, and beyond them. ERROR: not measured.
"""

from bench_tests.measure.point import Measurement
from bench_tests.verdict.decide import FAILED


async def test_slo(measured: Measurement) -> None:
    """The p99 TTFT and TPOT of this point (and what else its SLO names) are within their limits."""
    verdict = measured.verdict
    assert verdict.word != FAILED, "; ".join(verdict.messages)
