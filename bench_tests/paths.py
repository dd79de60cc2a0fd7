"""Where this suite lies on disk: a checkout's root, or the folder that an installation put the package in."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CHECKOUT", "PACKAGE", "ROOT", "workspace"]

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
CHECKOUT = (ROOT / "slurm" / "serve.sh").is_file()  # an installed package has neither scripts nor a results folder


def workspace() -> Path:
    """Where server_info.txt, results and logs lie by default: the checkout; of an installed package the working folder."""
    return ROOT if CHECKOUT else Path.cwd()
