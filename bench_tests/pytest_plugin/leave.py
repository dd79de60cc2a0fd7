"""Leaving a session early, in words of ours: pytest would put the name of its exception before them."""

from __future__ import annotations

from typing import NoReturn

import pytest

from bench_tests.errors import BenchError

__all__ = ["leave"]


class _Stopped(pytest.exit.Exception):  # type: ignore[name-defined, misc]  # pytest sets it on a function
    """pytest's Exit. Before the first case pytest says its message twice: `early` leaves it to the first."""

    def __init__(self, msg: str, returncode: int, early: bool) -> None:
        super().__init__(msg, returncode)
        self._early = early

    def __str__(self) -> str:
        return "" if self._early else self.msg


# what pytest shows of an exception: its name, and no module before it
_Stopped.__module__, _Stopped.__qualname__, _Stopped.__name__ = "builtins", "stopped", "stopped"


def leave(why: BenchError, early: bool = False) -> NoReturn:
    """End the session with the exit code of `why`; `early`: before the first case."""
    raise _Stopped(str(why), why.exit_code, early)
