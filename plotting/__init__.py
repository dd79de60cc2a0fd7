"""Pictures and the report, from result files and nothing else. `python -m plotting --help` has the command line."""

from __future__ import annotations

from plotting.draw import Drawn, draw_all
from plotting.model import LeftOut, PointResult, Results
from plotting.read import read_folder

__all__ = ["Drawn", "LeftOut", "PointResult", "Results", "draw_all", "read_folder"]
