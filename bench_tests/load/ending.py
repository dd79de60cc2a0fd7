"""What ends a run: a kind that code can ask for, and words for a person."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bench_tests.errors import NotMeasured

__all__ = ["End", "EndedEarly", "Ending"]


class End(StrEnum):
    """The kinds. All but DONE and ENOUGH leave requests of the plan unanswered."""

    DONE = "done"  # all requests were sent, and have ended
    ENOUGH = "enough"  # a sequential run: no further request was needed
    INTERRUPTED = "interrupted"  # by a person
    SERVER_GONE = "server_gone"  # its job has ended
    SILENT = "silent"  # as many requests in a row as there are streams got no answer in time
    REFUSED = "refused"  # connection after connection failed
    TIME_UP = "time_up"  # the whole point's timeout
    LOST = "lost"  # one of several load processes has died; what the others measured is there
    ORPHANED = "orphaned"  # the process that asked for the load is gone


@dataclass(frozen=True)
class Ending:
    """Why a run ended. `words` is empty where nothing has to be said."""

    kind: End = End.DONE
    words: str = ""

    @property
    def early(self) -> bool:
        """Whether the run was stopped before it had what it was started for."""
        return self.kind not in (End.DONE, End.ENOUGH)

    def line(self) -> str:
        """As one line of the pipe to a load process: KIND WORDS."""
        return f"{self.kind} {' '.join(self.words.split())}".rstrip()

    @classmethod
    def from_line(cls, line: str) -> Ending:
        """Formula: the inverse of `line`. A kind that is not known counts as an interruption."""
        kind, _, words = line.partition(" ")
        known = kind in {end.value for end in End}
        return cls(End(kind), words) if known else cls(End.INTERRUPTED, line)


class EndedEarly(NotMeasured):
    """A run ended before anything of it was measured."""

    def __init__(self, message: str, ending: Ending) -> None:
        super().__init__(message)
        self.ending = ending
