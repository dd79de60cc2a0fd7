"""A few of the kills of kill_test.py, for CI."""

from __future__ import annotations

import pytest

from tests.faults.kill_test import test_kills as _kills

test_a_few_kills = pytest.mark.faults(_kills)
