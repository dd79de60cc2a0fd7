"""`python -m bench_tests.server.slurm options PROFILE`: what sbatch is to be asked for. The standard library is enough."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from bench_tests.errors import BenchError
from bench_tests.server.slurm.request import sbatch_options
from bench_tests.sweep.profile import load_profile

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Print what sbatch is to be asked for a profile's server. Exit status 4 for wrong usage.

    In `sbatch $(... options NAME) slurm/serve.sh NAME` a shell passes over an exit status: for a profile that cannot be
    read it prints an option that sbatch refuses, for without any the script's own request would be submitted.
    """
    parser = argparse.ArgumentParser(prog="python -m bench_tests.server.slurm", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    options = commands.add_parser("options", help="sbatch's options of a profile's server job")
    options.add_argument("profile", help="a profile's name or TOML file")
    name = parser.parse_args(argv).profile
    try:
        print(" ".join(sbatch_options(load_profile(name))))
    except BenchError as why:
        print(f"slurm: {why}", file=sys.stderr)
        print(f"--no-profile-of-this-name={re.sub(r'[^A-Za-z0-9._/-]', '_', name) or '_'}")
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
