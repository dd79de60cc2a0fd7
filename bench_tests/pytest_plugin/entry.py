"""Where an installation's entry point (pytest11) comes in, before pytest has looked for its configuration.

A checkout works without it: its conftest.py names the plugin. With both, the checkout that pytest is started in wins, and
the plugin is there once.
"""

from __future__ import annotations

import copy
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench_tests.paths import ROOT

PLUGIN = "bench_tests.pytest_plugin.hooks"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Register the plugin behind all others, so that an option that is taken is another's and not refused to it."""
    here = early_config.invocation_params.dir
    if (checkout := _checkout(here)) is not None and checkout != ROOT:
        _import_from(checkout)
    early_config.pluginmanager.import_plugin(PLUGIN)
    from bench_tests.sweep.options import ALSO, OPTIONS

    takes_value = {o.flag for o in OPTIONS if not str(o.kwargs.get("action", "")).startswith("store_")}
    typed = list(early_config.invocation_params.args)
    joined = join_values(typed, takes_value, here, ALSO)
    if joined != typed:
        _start_again(early_config, typed, joined)
    args[:] = join_values(args, takes_value, here, ALSO)
    early_config.known_args_namespace = parser.parse_known_args(args, namespace=copy.copy(early_config.option))


def join_values(
    args: Sequence[str], takes_value: set[str], here: Path, also: Mapping[str, str] | None = None
) -> list[str]:
    """`--results-dir /scratch/run1` as `--results-dir=/scratch/run1` where that exists outside of the folder `here`.

    pytest takes such a value for a folder of tests, whose configuration it would read. `also`: the name that an option has
    with an equals sign, where its own is refused.
    """
    found: list[str] = []
    for arg in args:
        path = here / arg
        if found and found[-1] in takes_value and path.exists() and not path.resolve().is_relative_to(here.resolve()):
            found[-1] = f"{(also or {}).get(found[-1], found[-1])}={arg}"
        else:
            found.append(arg)
    return found


def _start_again(config: pytest.Config, typed: list[str], joined: list[str]) -> None:
    """Start this pytest again with its arguments joined: by now it has settled its configuration by the wrong folder.

    Does nothing where pytest was called by a program and not from a command line.
    """
    if sys.argv[1:] != typed or sys.orig_argv[-len(typed) :] != typed:
        return
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    os.execv(sys.executable, [*sys.orig_argv[: -len(typed)], *joined])


def _checkout(folder: Path) -> Path | None:
    """The checkout of this suite that a folder lies in, if any."""
    marks = ("conftest.py", "slurm/serve.sh", "bench_tests/pytest_plugin/hooks.py")
    return next((f for f in (folder, *folder.parents) if all((f / mark).is_file() for mark in marks)), None)


def _import_from(checkout: Path) -> None:
    """Have `bench_tests` be that checkout's from now on, instead of the installed one's."""
    for name in [n for n in sys.modules if n.partition(".")[0] in ("bench_tests", "plotting")]:
        if name != __name__:
            del sys.modules[name]
    sys.path.insert(0, str(checkout))
    importlib.invalidate_caches()
