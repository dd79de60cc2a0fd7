"""Where this suite lies on disk: a checkout's root, or the folder that an installation put the package in."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CHECKOUT", "PACKAGE", "ROOT"]

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
CHECKOUT = (ROOT / "slurm" / "serve.sh").is_file()  # an installed package has neither scripts nor a results folder
