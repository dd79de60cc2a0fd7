"""`python -m bench_tests.server.slurm options PROFILE`: what sbatch is to be asked for; `configs PROFILE`: its configurations;
`script`: the server's script.

The standard library is enough.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from bench_tests.errors import BenchError
from bench_tests.server.slurm.request import SERVE_SCRIPT, sbatch_options
from bench_tests.sweep.profile import in_config, load_profile

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """A parser whose refusal a shell cannot pass over either."""

    def error(self, message: str) -> NoReturn:
        print(_refused(" ".join(sys.argv[1:])))
        super().error(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Print what sbatch is to be asked for a profile's server, or the script's path. Exit status 4 for wrong usage.

    In `sbatch $(... options NAME) slurm/serve.sh NAME` a shell passes over an exit status: for whatever cannot be answered
    it prints an option that sbatch refuses, for without any the script's own request would be submitted.
    """
    parser = _Parser(prog="python -m bench_tests.server.slurm", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    options = commands.add_parser("options", help="sbatch's options of a profile's server job")
    options.add_argument("profile", help="a profile's name or TOML file")
    options.add_argument("--config", metavar="NAME", help="which of the profile's configurations")
    commands.add_parser("script", help="the path of the server's script, which an installed package has in itself")
    configs = commands.add_parser("configs", help="the names of a profile's configurations, one a line")
    configs.add_argument("profile", help="a profile's name or TOML file")
    asked = parser.parse_args(argv)
    if asked.command == "script":
        print(SERVE_SCRIPT)
        return 0
    name = asked.profile
    if asked.command == "configs":
        return _configs(name)
    try:
        said = " ".join(sbatch_options(in_config(load_profile(name), asked.config)))
    except BenchError as why:
        print(f"slurm: {why}", file=sys.stderr)
        print(_refused(name))
        return 4
    except BaseException:
        print(_refused(name))
        raise
    print(said)
    return 0


def _configs(name: str) -> int:
    try:
        found = load_profile(name).configs
    except BenchError as why:
        print(f"slurm: {why}", file=sys.stderr)
        return 4
    for config in found:
        print(config)
    return 0


def _refused(asked: str) -> str:
    return f"--no-profile-of-this-name={re.sub(r'[^A-Za-z0-9._/-]', '_', asked) or '_'}"


if __name__ == "__main__":
    sys.exit(main())
