"""What can go wrong, as a tree. Every message names the thing, its value, what was expected and the fix.

BenchError
 ├── UsageError        the user's option, profile or file: one line, pytest's exit code 4
 ├── ServerError       no server, or not the one that was asked for: exit code 13
 └── NotMeasured       this point could not be measured: verdict ERROR, exit code 12
      └── ServerGone   ... because the server went away in the middle: the session ends with 13
           └── ServerStuck  ... or answers no prompt any more
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["BenchError", "NotMeasured", "ServerError", "ServerGone", "ServerStuck", "UsageError"]


class BenchError(Exception):
    """Root of all errors that are told to a person in one line, without a traceback."""

    exit_code: ClassVar[int] = 12  # the session's, where this decides it


class UsageError(BenchError):
    """An option, profile, point or input file is wrong; the message says which and how to fix it."""

    exit_code = 4


class ServerError(BenchError):
    """There is no server to measure, or it is not the one that was asked for."""

    exit_code = 13


class NotMeasured(BenchError):
    """A point could not be measured; nothing is said about the server's speed."""


class ServerGone(NotMeasured):
    """The server (or its job) ended while a point was being measured."""

    exit_code = 13


class ServerStuck(ServerGone):
    """It is there, says that it is healthy, and answers no prompt: there is no return to wait for."""
