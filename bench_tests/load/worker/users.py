"""Users who have conversations: each waits after an answer, then sends the history with it and what is new.

A turn is made when the answer before it has been read, while its user waits: in the loop's idle time, as answers are parsed.
Users enter at random turns, with a history that nobody has answered; that first request of each is not measured. Once as
many turns as are wanted have been given to users, others go on unmeasured until the last measured one has ended.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from bench_tests.load.plan import LoadPlan
from bench_tests.load.records import COMPLETED
from bench_tests.load.requests import Request, RequestFile
from bench_tests.load.worker.history import History, new_history, said_in
from bench_tests.load.worker.stagger import Due
from bench_tests.load.worker.stream import Answer
from bench_tests.load.worker.tally import Raw
from bench_tests.load.workload.sessions import Script, load_scripts

__all__ = ["Users"]

NS = 1_000_000_000
_ENTER, _ORDER = 2**52, 2**52 + 1  # random streams of their own


class _Talk:
    """One user's session: where it is, and what has been said."""

    def __init__(self, session: int, script: Script, history: History, at: int) -> None:
        self.session, self.script, self.history, self.at = session, script, history, at


class Users:
    """The order of sending of one phase of sessions, as `Order` has it. Hears of each answer by `heard`."""

    def __init__(self, plan: LoadPlan, files: RequestFile) -> None:
        self.plan, self.files = plan, files
        self.scripts = load_scripts(plan.workload.sessions, plan.sessions).scripts
        rng = np.random.Generator(np.random.Philox(key=np.array([plan.seed + plan.first_serial, _ORDER], np.uint64)))
        self._order: list[int] = rng.permutation(len(self.scripts)).tolist()
        self._numbers = deque(plan.share(plan.num_prompts))  # of the measured requests that are still to be given
        self._next = [plan.users + u for u in range(plan.users)]  # the number of each user's next session
        self._talks: dict[int, _Talk] = {}  # by session
        self._todo: Due = deque()
        self._closed = False
        self.released = plan.workers == 1
        self.owed = 0  # measured requests that were given and have not ended
        self.by_ids = self.by_tokenizer = self.broken = 0

    # ------------------------------------------------------------------ what the loop asks

    def begin(self, measured: Sequence[tuple[Request, int]], filling: Sequence[Request], now_ns: int) -> Due:
        """Each user's entry: at a random turn, at a random moment of the time that is waited before it."""
        for user in range(self.plan.worker, self.plan.users, self.plan.workers):
            key = np.array([self.plan.seed + self.plan.first_serial, _ENTER], np.uint64)
            rng = np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, user], np.uint64)))
            script = self._script(user)
            at = int(rng.integers(0, len(script.turns)))
            history = new_history(self.files, user)
            for turn in script.turns[:at]:
                history.ask(turn)
                history.pretend(turn.osl)
            talk = self._talks[user] = _Talk(user, script, history, at)
            request = self._request(talk, measured=False, index=user)
            self._todo.append((request, now_ns + int(rng.random() * script.turns[at].wait_s * NS)))
        self._todo = deque(sorted(self._todo, key=itemgetter(1)))
        return self._todo

    def more(self) -> Sequence[tuple[Request, int]]:
        return ()

    def ended(self, request: Request, todo: Due, now_ns: int) -> None:
        self.owed -= request.measured

    @property
    def own_ended(self) -> bool:
        return not self._numbers and self.owed <= 0

    @property
    def done(self) -> bool:
        return self.own_ended and self.released

    def enough(self, running: int) -> None:
        self._numbers.clear()
        self.owed = running

    def unsent(self) -> Sequence[tuple[Request, int]]:
        self._closed = True
        return ()

    def facts(self) -> dict[str, int]:
        """How each history was made, and how many sessions ended by a turn that failed."""
        return {
            "answers_by_ids": self.by_ids,
            "answers_by_tokenizer": self.by_tokenizer,
            "sessions_broken": self.broken,
        }

    # ------------------------------------------------------------------ what is said

    def heard(self, raw: Raw, answer: Answer, end_ns: int) -> None:
        """The answer to a turn has been read: its user's next turn is due when it has waited."""
        talk = self._talks.pop(raw.request.session, None)
        if talk is None or self._closed or self.done:
            return
        if answer.kind != COMPLETED:
            self.broken += 1
            talk = None  # what was said is not known: the user begins anew
        else:
            ids, text = said_in(raw.framing.body(raw.buf), self.files.dialect)
            exact = talk.history.answered(ids, text, answer.output_tokens)
            self.by_ids, self.by_tokenizer = self.by_ids + exact, self.by_tokenizer + (not exact)
            talk.at += 1
        if talk is None or talk.at >= len(talk.script.turns):
            user = raw.request.session % self.plan.users
            session = self._next[user]
            self._next[user] += self.plan.users
            talk = _Talk(session, self._script(session), new_history(self.files, session), 0)
        self._talks[talk.session] = talk
        since_ns = end_ns or raw.reads[-1] if len(raw.reads) else raw.send_ns or raw.due_ns
        due_ns = since_ns + int(talk.script.turns[talk.at].wait_s / self.plan.workload.speed * NS)
        measured = bool(self._numbers)
        request = self._request(talk, measured, self._numbers.popleft() if measured else talk.session)
        self.owed += measured
        self._insert(request, due_ns)

    def _insert(self, request: Request, due_ns: int) -> None:
        """By its time; mostly it is the last."""
        todo = self._todo
        if not todo or todo[-1][1] <= due_ns:
            todo.append((request, due_ns))
        else:
            insort(todo, (request, due_ns), key=itemgetter(1))

    def _script(self, session: int) -> Script:
        return self.scripts[self._order[session % len(self.scripts)]]

    def _request(self, talk: _Talk, measured: bool, index: int) -> Request:
        turn, plan = talk.script.turns[talk.at], self.plan
        asked = talk.history.ask(turn)
        name = f"{plan.seed:x}-{plan.first_serial}-s{talk.session}-t{talk.at + 1}"
        data = self.files.request(asked.prompt, turn.osl, name)
        return Request(
            index, 0, len(data), asked.tokens, turn.osl, measured, 0, data,
            talk.session, talk.at + 1, len(talk.script.turns), asked.history, asked.shared,
        )  # fmt: skip
