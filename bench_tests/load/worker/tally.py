"""Turns what the loop kept of each request (bytes, stamps) into rows of records. Works while the loop is idle."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.dialect.base import Dialect
from bench_tests.load.dialect.completions import COMPLETIONS
from bench_tests.load.records import COMPLETED, KINDS, OF_SESSIONS, WITHDRAWN, Records
from bench_tests.load.requests import Request
from bench_tests.load.worker.framing import WHOLE, BadFraming, Framing
from bench_tests.load.worker.row import PACK, ROW
from bench_tests.load.worker.spool import Spool
from bench_tests.load.worker.stream import Answer, parse_answer
from bench_tests.masking import is_telling, masked
from bench_tests.text import harmless

__all__ = ["Raw", "Tally"]

NS = 1e9
MAX_ERROR = 300  # characters of a failure's words that are kept
MOST_MODELS = 64  # names of models that are kept
WARM = 4096  # durations of warm-ups that are kept
# what servers call an end that the model itself chose: OpenAI, TGI, others; not "length", "abort" or "content_filter"
STOPS = ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "tool_calls", "function_call")
RECOUNTED = 10  # a text made of tokens may be cut into others when it is counted: a tenth more or fewer, at most


@dataclass(slots=True)
class Raw:
    """All that is known of one request when it has ended. Times in ns of CLOCK_REALTIME; one entry a read."""

    request: Request
    due_ns: int
    send_ns: int  # 0: never sent
    connect_s: float
    buf: bytearray
    framing: Framing
    ends: array[int]  # bytes in buf after each read
    stamps: array[int]  # the kernel's stamp of each read as seconds, nanoseconds; empty where there are none
    reads: array[int]  # when the loop read
    polls: array[int]  # when the loop last knew that there was nothing more to read
    failure: tuple[str, str] | None  # kind and words, where the loop itself saw the request fail
    withdrawn_ns: int = 0  # when it was cancelled on purpose: until then it was in flight; 0: it was not


class Tally:
    """Collects raw outcomes and makes the records of a phase."""

    def __init__(
        self,
        ignore_eos: bool,
        worker: int,
        secrets: Sequence[str] = (),
        from_due: bool = False,
        dialect: Dialect = COMPLETIONS,
    ) -> None:
        self.dialect = dialect
        self.heard: Callable[[Raw, Answer, int], None] | None = None  # is told of each answer and of its end, ns
        self.ignore_eos = ignore_eos
        self.from_due = from_due  # an open loop: its TTFT is judged from the moment that was scheduled
        self.worker = worker
        self.secrets = tuple(secrets)
        self.rows = 0
        self.kept = Spool()  # ROWs
        self.events = Spool()  # the moments of all events, ns
        self.errors = {"": 0}  # words of failures, by number
        self.counted: dict[int, int] = {}  # tokens by row, counted by the tokenizer
        self.uncounted: list[tuple[int, str, str]] = []  # row, text and finish_reason of answers without usage
        self.models: Counter[str] = Counter()  # answers by the model that they name
        self.completed = 0
        self.failed = 0
        self.warm_s: list[float] = []  # durations of the first warm-ups that completed
        self.outcomes: list[tuple[int, float | None, float | None]] = []  # index, TTFT, TPOT; None: it failed
        self.recent: list[tuple[float, float | None]] = []  # TTFT and TPOT of the latest completed, for the live line

    def add(self, raw: Raw) -> None:
        """Parse and judge one request; this costs about 1.5 µs an event."""
        for secret in filter(is_telling, self.secrets):
            # a server or proxy that repeats the request's headers; of the same length, so that no offset moves
            if secret.encode() in raw.buf:
                raw.buf[:] = raw.buf.replace(secret.encode(), b"*" * len(secret.encode()))
        answer = _whole(raw, self.dialect) if raw.failure is None else _partial(raw, self.dialect)
        stamps = _stamps(raw)
        first = last = end = together = begun = 0
        first_blur = last_blur = begun_blur = np.nan
        moments = np.empty(0, np.int64)
        merged = np.empty(0, np.intp)  # the read of each event that shares it with the event before
        if len(answer.ends):
            ends = np.frombuffer(raw.ends, np.int64)
            place = np.searchsorted(ends, answer.ends, side="left")
            moments = stamps[place]
            first, last = int(moments[0]), int(moments[-1])
            first_blur = _blur(raw, stamps, ends, int(place[0]), int(answer.ends[0]))
            last_blur = _blur(raw, stamps, ends, int(place[-1]), int(answer.ends[-1]))
            if answer.answer_at >= 0:
                begun = int(moments[answer.answer_at])
                begun_blur = _blur(raw, stamps, ends, int(place[answer.answer_at]), int(answer.ends[answer.answer_at]))
            merged = place[1:][place[1:] == place[:-1]]
            end, together = int(stamps[-1]), len(place)
            if len(merged):
                together -= _gathered(raw, stamps, merged, (last - first) / (len(place) - 1), len(place))
        end = raw.withdrawn_ns or end
        self._check_length(raw.request, answer)
        if answer.error:  # the key may also have come escaped, or in two chunks; only then is it cut
            for secret in self.secrets:
                answer.error = masked(answer.error, secret)
            answer.error = harmless(answer.error[: 4 * MAX_ERROR])[:MAX_ERROR]
        request = raw.request
        lag = _lag_s(raw, stamps, merged)
        if answer.text and answer.kind == COMPLETED:
            self.uncounted.append((self.rows, answer.text, answer.finish_reason))
        self.kept.append(PACK(
            answer.kind, request.measured, answer.http_status, raw.due_ns, raw.send_ns, first, last, end,
            request.index, request.isl, request.osl, answer.input_tokens, answer.output_tokens, answer.cached_tokens,
            answer.reasoning_tokens, len(moments), together, self.errors.setdefault(answer.error, len(self.errors)), begun,
            request.session, request.turn, request.turns, request.history, request.shared,
            raw.connect_s, lag, first_blur, last_blur, begun_blur,
        ))  # fmt: skip
        self.events.append(moments.tobytes())
        self.rows += 1
        if self.heard is not None:
            self.heard(raw, answer, end)
        if not request.measured:
            if answer.kind == COMPLETED and len(self.warm_s) < WARM:
                self.warm_s.append((last - raw.send_ns) / NS)
            return
        if answer.kind == COMPLETED:
            self.completed += 1
            if len(self.models) < MOST_MODELS or answer.model in self.models:
                self.models[answer.model] += 1
            ttft, tokens = (first - raw.send_ns) / NS, answer.output_tokens
            tpot = (last - first) / NS / (tokens - 1) if tokens > 1 else None  # one token, or not counted yet
            self.recent.append((ttft, tpot))
            judged = (first - raw.due_ns) / NS if self.from_due else ttft
            self.outcomes.append((request.index, judged, tpot))
        else:
            self.failed += answer.kind != WITHDRAWN
            self.outcomes.append((request.index, None, None))

    def _check_length(self, request: Request, answer: Answer) -> None:
        if answer.kind == COMPLETED and (words := self._short(request.osl, answer.output_tokens, answer.finish_reason)):
            more = answer.several and answer.output_tokens > request.osl
            why = "; its events are of several choices: one a request is measured, so leave n out of load.extra_body"
            answer.fail("short", words + why * more)

    def _short(self, asked: int, got: int, finish_reason: str) -> str:
        """What is wrong with so many output tokens, -1 for unknown; "" when they are what was asked."""
        wrong = got > asked or (got < asked and (self.ignore_eos or finish_reason not in STOPS))
        return f"{got} output tokens of {asked} asked (finish_reason {finish_reason})" if got >= 0 and wrong else ""

    def recount(self, row: int, output_tokens: int) -> None:
        """Set the tokens of an answer whose server gave no usage, counted by the tokenizer."""
        self.counted[row] = output_tokens

    def records(self, zero_ns: int) -> Records:
        """All rows, and the end of adding; times become seconds since `zero_ns`. Raises NotMeasured."""
        rows = np.frombuffer(self.kept.read(), ROW)
        moments = np.frombuffer(self.events.read(), np.int64)
        self.kept.close()
        self.events.close()

        def seconds(column: NDArray[np.int64]) -> NDArray[np.float64]:
            # differences before floats: a float holds a date to 200 ns only
            return np.where(column == 0, np.nan, (column - zero_ns) / NS)

        output_tokens, kind, error = rows["output_tokens"].copy(), rows["kind"].astype(np.int8), rows["error"].copy()
        reasons = {row: reason for row, _, reason in self.uncounted}
        for row, tokens in self.counted.items():
            output_tokens[row] = tokens
            asked = int(rows["asked_output"][row])
            slack = max(1, asked // RECOUNTED) if reasons[row] == "length" else 0
            if abs(tokens - asked) > slack and (words := self._short(asked, tokens, reasons[row])):
                kind[row] = KINDS.index("short")
                words = f"{words}, counted by the tokenizer"
                error[row] = self.errors.setdefault(words, len(self.errors))
        return Records(
            kind=kind,
            measured=rows["measured"].astype(np.bool_),
            http_status=rows["http_status"].astype(np.int16),
            scheduled_s=seconds(rows["due"]),
            send_s=seconds(rows["send"]),
            first_s=seconds(rows["first"]),
            last_s=seconds(rows["last"]),
            answer_s=seconds(rows["answer"]),
            end_s=seconds(rows["end"]),
            connect_s=rows["connect_s"].copy(),
            asked_input=rows["asked_input"].copy(),
            asked_output=rows["asked_output"].copy(),
            input_tokens=rows["input_tokens"].copy(),
            output_tokens=output_tokens,
            cached_tokens=rows["cached_tokens"].copy(),
            **{name: rows[name].copy() for name in OF_SESSIONS},
            reasoning_tokens=rows["reasoning_tokens"].copy(),
            events=rows["events"].copy(),
            event_s=(moments - zero_ns) / NS,
            moments=rows["moments"].copy(),
            number=rows["number"].copy(),
            lag_s=rows["lag_s"].copy(),
            first_blur_s=rows["first_blur_s"].copy(),
            last_blur_s=rows["last_blur_s"].copy(),
            answer_blur_s=rows["answer_blur_s"].copy(),
            worker=np.full(len(rows), self.worker, np.int16),
            error=np.array(list(self.errors), np.str_)[error],
        )


def _stamps(raw: Raw) -> NDArray[np.int64]:
    """When the kernel received the last byte of each read, ns, shape (reads,)."""
    if not len(raw.stamps):
        return np.frombuffer(raw.reads, np.int64)
    pairs = np.frombuffer(raw.stamps, np.int64)
    return np.asarray(pairs[0::2] * 1_000_000_000 + pairs[1::2])


def _blur(raw: Raw, stamps: NDArray[np.int64], ends: NDArray[np.int64], place: int, end: int) -> float:
    """How long before its stamp an event may have arrived, at most, seconds.

    A read that holds more behind the event than its chunk's line end may be two segments that TCP has merged, of which
    the kernel keeps the later stamp. The event cannot be older than the moment when the loop last found nothing.
    """
    if len(raw.stamps) and ends[place] <= end + 2:
        return 0.0
    since = max(raw.polls[place], int(stamps[place - 1]) if place else raw.send_ns)
    return float(max(0, int(stamps[place]) - since)) / NS


def _gathered(raw: Raw, stamps: NDArray[np.int64], merged: NDArray[np.intp], gap_ns: float, events: int) -> int:
    """How many events came together with the one before, as far as this client did not merge them itself.

    `merged`: the read of each event that shares it with the one before; `gap_ns`: the mean gap of the answer's events.
    The loop may have let them gather in its own socket where its last look was longer ago than half of the time that
    so many take in this answer; such events are not counted.
    """
    reads, more = np.unique(merged, return_counts=True)
    before = np.where(reads > 0, stamps[reads - 1], raw.send_ns)
    waited_ns = stamps[reads] - np.maximum(np.frombuffer(raw.polls, np.int64)[reads], before)
    gap_ns = gap_ns or (int(stamps[reads[-1]]) - raw.send_ns) / events  # all in one read: no gap is known
    return int(more[waited_ns < more * gap_ns / 2].sum())


def _lag_s(raw: Raw, stamps: NDArray[np.int64], several: NDArray[np.intp]) -> float:
    """How long a byte may have waited for the loop, at most, seconds; `several`: the reads of more than one event.

    Since its stamp, or, in a read of several events, which may be as many segments with the last one's stamp, since the
    moment when the loop last found nothing.
    """
    if not len(stamps):
        return 0.0
    reads = np.frombuffer(raw.reads, np.int64)
    lag = int((reads - stamps).max())
    if len(several):
        before = np.where(several > 0, stamps[several - 1], raw.send_ns)
        since = np.maximum(np.frombuffer(raw.polls, np.int64)[several], before)
        lag = max(lag, int((reads[several] - since).max()))
    return lag / NS


def _whole(raw: Raw, dialect: Dialect) -> Answer:
    """The answer of a request whose end the loop saw; the chunks in front of that end are walked only now."""
    try:
        if raw.framing.mode == WHOLE or (raw.framing.feed(raw.buf) and raw.framing.pos == len(raw.buf)):
            return parse_answer(raw.buf, raw.framing, dialect)
        words = "bytes behind the last chunk"
    except BadFraming as why:
        words = str(why)
    failed = Answer(http_status=raw.framing.status)
    failed.fail("malformed", words)
    return failed


def _partial(raw: Raw, dialect: Dialect) -> Answer:
    """What an answer that did not end has said, marked with the failure that the loop saw."""
    kind, words = raw.failure or ("cut_off", "")
    failed = Answer(http_status=raw.framing.status)
    try:
        # the loop looks at an end only: what came before it is walked here
        if not raw.framing.closed(raw.buf):
            raw.framing.feed(raw.buf)
    except BadFraming as why:
        if kind == "cut_off":  # up to there it was well
            kind, words = "malformed", f"{why}; {words}"
    if raw.framing.status == 200 and raw.framing.has_body:
        said = parse_answer(raw.buf, raw.framing, dialect)
        failed.ends, failed.output_tokens, failed.input_tokens = said.ends, said.output_tokens, said.input_tokens
        if said.kind == KINDS.index("error_event"):
            kind, words = "error_event", said.error
    failed.fail(kind, words)
    return failed
