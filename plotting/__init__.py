"""Pictures and the report, from result files and nothing else. `python -m plotting --help` has the command line."""

from __future__ import annotations

from bench_tests.compare.sessions import read_latest as read_folder
from bench_tests.results.schema import LeftOut, PointResult, Results
from plotting.draw import Drawn, draw_all

__all__ = ["Drawn", "LeftOut", "PointResult", "Results", "draw_all", "read_folder"]
