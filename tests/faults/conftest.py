"""Registers the marker of the fault matrix: `-m "not faults"` leaves its minutes out."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "faults: runs the whole suite as a subprocess against a fault (minutes)")
