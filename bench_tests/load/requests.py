"""Ready requests: the bytes of each, serialised into a temporary file before the clock starts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np

from bench_tests.errors import NotMeasured, UsageError
from bench_tests.load.dialect.choose import dialect_of
from bench_tests.load.mix import cancel_after_s, model_of
from bench_tests.load.plan import LoadPlan
from bench_tests.load.prompts import IdPool, Ids, group_ids, lengths, prompt_ids
from bench_tests.load.texts import Rendered, exact_text, load_tokenizer
from bench_tests.load.workload.sessions import load_scripts
from bench_tests.load.workload.source import draw_dataset, load_dataset, trace_of, trace_prompt
from bench_tests.sweep.prefix import Prefix

__all__ = ["Request", "RequestFile"]


@dataclass(frozen=True, slots=True)
class Request:
    """Where a ready request lies in the file, and what it asks for."""

    index: int  # its number among the run's measured requests, among its warm-ups, or among those that keep it full
    offset: int
    size: int
    isl: int
    osl: int
    measured: bool = True
    cancel_ns: int = 0  # from its send, when it is cancelled on purpose; 0: never
    data: bytes = b""  # itself, where it was made while the load ran; else it lies in the file
    session: int = -1  # whose turn it is; -1: of no session
    turn: int = 0  # which of the session's, from 1
    turns: int = 0  # how many the session has
    history: int = 0  # tokens of its prompt that stand in the history too
    shared: int = 0  # of these such as the server has computed: the last token of an answer is not


def _of_text(plan: LoadPlan) -> bool:
    """Whether token ids of a session's history are the tokenizer's: the server gives none, or a file has text."""
    if not plan.users:
        return False
    scripts = load_scripts(plan.workload.sessions, plan.sessions).scripts
    return not plan.token_ids or any(turn.messages for script in scripts for turn in script.turns)


class RequestFile:
    """All requests of a process's share, serialised into an unnamed temporary file before the clock starts.

    In a file and not in memory because 640 prompts of 14,336 tokens are 60 MB; it is read back, from the page cache,
    just before a request is sent and outside its clock.
    """

    def __init__(self, plan: LoadPlan) -> None:
        dataset, self._trace = load_dataset(plan.workload), trace_of(plan)
        self.dialect = dialect_of(plan.load.endpoint)
        text = dataset is not None or plan.load.text_prompts or _of_text(plan)
        self.tokenizer: Any = load_tokenizer(plan.model.tokenizer) if text else None
        own: Any = self.tokenizer
        if plan.load.chat and not plan.model.vocab_size and hasattr(own, "__len__"):
            plan = replace(plan, model=replace(plan.model, vocab_size=len(own)))
        self.plan = plan
        self.pool = IdPool(plan)
        try:
            # held open for as long as requests are read from it
            self._file: IO[bytes] = tempfile.TemporaryFile(prefix="bench-requests-")  # noqa: SIM115
        except OSError as why:
            raise NotMeasured(f"temporary folder: {why.strerror}; requests are kept there (set $TMPDIR)") from why
        if text and self._trace is not None and self._trace.block:
            raise UsageError(
                "--trace: shared content needs prompts as token ids; set load.prompt_format = 'ids', and load.endpoint = 'completions'"
            )
        self._drawn = draw_dataset(plan, dataset, self._count, self.rendered()) if dataset is not None else None
        self._prefix = Prefix(**plan.load.prefix)
        # each prefix once, before anything else, by one process: afterwards every prompt finds its own in the cache
        self.primes = self._prime() if plan.worker == 0 else []
        self.warming = True
        self.warmups = self._write(plan.share(plan.num_warmups), first=0, measured=False)
        self.warming = False
        of_users = bool(plan.users)  # their turns are made of the answers before them
        self.requests = (
            [] if of_users else self._write(plan.share(plan.num_prompts), first=plan.num_warmups, measured=True)
        )
        own = plan.share(plan.filling)
        self.filling = self._write(own, first=plan.num_warmups + plan.num_prompts, measured=False)
        self._file.flush()
        self.fileno = self._file.fileno()

    def _count(self, texts: list[str]) -> list[int]:
        """Tokens of each text, with the special tokens that a server adds as well."""
        return [len(ids) for ids in self.tokenizer(texts).input_ids] if texts else []

    def rendered(self) -> Rendered | None:
        """Counts messages as the server does; None where none are sent."""
        load = self.plan.load
        return Rendered(self.tokenizer, self.plan.template_adds, load.chat_template_kwargs) if load.chat else None

    def close(self) -> None:
        self._file.close()

    def _write(self, mine: Sequence[int], first: int, measured: bool) -> list[Request]:
        plan, requests, offset = self.plan, [], self._file.tell()
        for i, (serial, prompt, isl, osl) in zip(mine, self._prompts(mine, first), strict=True):
            data = self.request(prompt, osl, f"{plan.seed:x}-{serial}", model_of(plan, serial))
            try:
                self._file.write(data)
            except OSError as why:
                raise NotMeasured(f"temporary folder: {why.strerror}; requests are kept there (set $TMPDIR)") from why
            cancel_ns = int(cancel_after_s(plan, serial) * 1e9) if measured else 0
            requests.append(Request(i, offset, len(data), isl, osl, measured, cancel_ns))
            offset += len(data)
        return requests

    def _prime(self) -> list[Request]:
        """One request a prefix and model: adapters share no cache."""
        requests: list[Request] = []
        offset = self._file.tell()
        for group, model in product(range(self._prefix.count), self.plan.load.models or ("",)):
            positions = group_ids(self.plan, len(self.pool), group)
            data = self.request(self._as_json(positions), 1, f"{self.plan.seed:x}-prime-{len(requests)}", model)
            self._file.write(data)
            requests.append(Request(len(requests), offset, len(data), len(positions), 1, measured=False))
            offset += len(data)
        return requests

    def _prompts(self, mine: Sequence[int], first: int) -> Iterator[tuple[int, bytes, int, int]]:
        """Serial number, prompt as JSON, its tokens and the tokens that are asked for, of each; made one by one."""
        plan, trace = self.plan, self._trace
        serials = [plan.first_serial + first + i for i in mine]
        if self._drawn is not None:
            for i, serial in zip(mine, serials, strict=True):
                of = first + i
                prompt = self.dialect.prompt_of(self._drawn.texts[of], self._drawn.messages[of])
                yield serial, prompt, self._drawn.isl[of], self._drawn.osl[of]
            return
        template = plan.template_adds if plan.load.chat else 0
        inside = template if plan.load.template_tokens == "inside" else 0
        if trace is not None:
            for i, serial in zip(mine, serials, strict=True):
                isl, osl = int(trace.input_tokens[i % len(trace)]), int(trace.output_tokens[i % len(trace)])
                isl = self._own(isl, inside)
                # a warm-up has a length of the trace and nothing of its content, which must not be in the cache yet
                own = prompt_ids(plan, len(self.pool), serial, isl) if self.warming else None
                positions = trace_prompt(trace, plan, i, len(self.pool)) if own is None else own
                yield serial, self._as_json(positions), isl + template, osl
            return
        numbers = np.array(serials, np.int64)
        behind = self._prefix.own(plan.isl) if self._prefix.used else plan.isl
        isls, osls = lengths(plan, numbers, behind, 0), lengths(plan, numbers, plan.osl, 1)
        for serial, isl, osl in zip(serials, isls.tolist(), osls.tolist(), strict=True):
            positions = prompt_ids(plan, len(self.pool), serial, self._own(isl, inside))
            yield serial, self._as_json(positions), len(positions) + template, osl

    @staticmethod
    def _own(isl: int, inside: int) -> int:
        """Tokens of a prompt's own where its template's count with it. Raises UsageError."""
        if isl <= inside:
            raise UsageError(
                f"load.template_tokens = 'inside': a prompt of {isl} tokens has none beside the chat template's {inside}; "
                "use a longer ISL, or template_tokens = 'extra'"
            )
        return isl - inside

    def _as_json(self, positions: Ids) -> bytes:
        if self.tokenizer is None:
            return b"[" + self.pool.as_json(positions) + b"]"
        ids = self.pool.ids[positions].tolist()
        return self.dialect.prompt_of(exact_text(self.tokenizer, ids, special=not self.dialect.text_alone))

    def request(self, prompt: bytes, osl: int, request_id: str, model: str = "") -> bytes:
        plan = self.plan
        url = urlsplit(plan.base_url)
        fields = plan.load.fields(model or plan.model.id, osl)
        if plan.users and plan.token_ids:
            fields["return_token_ids"] = True
        body = self.dialect.body(fields, prompt)
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
            "User-Agent": "bench-tests",
            "X-Request-Id": request_id,
            **plan.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        query = f"?{plan.query}" if plan.query else ""
        head = (
            f"POST {url.path.rstrip('/')}{self.dialect.path}{query} HTTP/1.1\r\nHost: {url.netloc.rpartition('@')[2]}\r\n"
            f"{lines}Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body
