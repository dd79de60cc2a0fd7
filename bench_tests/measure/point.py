"""Measures one point: plan → load → judge → keep."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_tests.compare.resume import answer_of, earlier_result, prompts_drawn
from bench_tests.errors import NotMeasured, ServerError, ServerGone, ServerStuck, UsageError
from bench_tests.load.dialect.choose import dialect_of
from bench_tests.load.ending import End, EndedEarly, Ending
from bench_tests.load.hosts import srun_prefixes
from bench_tests.load.plan import LoadPlan
from bench_tests.load.records import KINDS, Records
from bench_tests.load.team import LoadRun, Progress, run_load
from bench_tests.load.workload.source import longest_tokens
from bench_tests.measure.criterion import criterion_of
from bench_tests.measure.economy import meter_of, with_economy
from bench_tests.measure.facts import Facts
from bench_tests.measure.kept import Kept
from bench_tests.measure.server_side import ServerSide, tell
from bench_tests.results.write import write_bytes, write_result
from bench_tests.server.attach import context_needed, find_vocab
from bench_tests.server.client import Reply, post_json, why_unhealthy
from bench_tests.server.metrics import several_servers
from bench_tests.sweep.point import Point
from bench_tests.sweep.prefix import Prefix
from bench_tests.verdict.attained import settled
from bench_tests.verdict.decide import ERROR, Verdict, decide
from bench_tests.verdict.early import EarlyVerdict
from bench_tests.verdict.repeats import RepeatedRuns
from bench_tests.verdict.validity import Check, check_run

__all__ = ["Measurement", "Sweep", "bring_back"]

STUCK_S = 60.0  # how long one token of a server may take that has just let a whole point wait
UNCAPPED = 1024  # load processes at most that share a load without a cap
REVIVE_S = 5.0  # how long a server may refuse connections after a point before it counts as gone


@dataclass(frozen=True)
class Measurement:
    """One run of one point, judged and kept."""

    point: Point
    run: int
    result: Mapping[str, Any]
    path: Path
    verdict: Verdict
    kept: bool = False  # from an earlier session (--resume)


def bring_back(sweep: Sweep, mine: Sweep) -> None:
    """What a copy with other settings has come to know or used up: the server's facts, and the prompts' numbers."""
    sweep.serial, sweep.vocab_size, sweep.uncountable = mine.serial, mine.vocab_size, mine.uncountable


def _uncountable(load: LoadRun) -> bool:
    """Whether answers with a text came without usage, and of none the tokens are known."""
    known = load.records.output_tokens[load.records.completed] >= 0
    return not known.any() and sum(int(stats.get("uncounted", 0)) for stats in load.stats) > 0


@dataclass
class Sweep(Facts):
    """The points of one session against one server."""

    serial: int = 0  # prompts given out so far: no two of a sweep may start alike
    vocab_size: int = 0
    uncountable: bool = False  # answers came without usage, and their tokenizer can't be had: it is not sought again
    repeated: RepeatedRuns = field(default_factory=RepeatedRuns)  # what confident verdicts are over

    async def plan(self, point: Point, workers: int) -> LoadPlan:
        """The load of one run of a point; takes its prompts' running numbers."""
        profile, load = self.profile, self.profile.load
        if self.refused:
            raise NotMeasured(self.refused)
        if not load.text_prompts and not self.vocab_size:
            try:
                self.vocab_size = profile.model.vocab_size or await find_vocab(self.served.endpoint, self.model.model)
            except ServerError as why:
                raise NotMeasured(str(why)) from None
        needed = longest_tokens(profile.workload, profile.sessions)
        if needed is None:
            shared = Prefix(**load.prefix).tokens or load.prefix_len
            needed = context_needed(point.isl, point.osl, load.range_ratio, shared)
        needed += self.template_tokens if load.template_tokens == "extra" else 0
        if self.model.max_model_len is not None and needed > self.model.max_model_len:
            raise NotMeasured(
                f"{point} needs a context of {needed} tokens, the server has {self.model.max_model_len}: answers would "
                "be cut short; serve with a larger --max-model-len or leave the point out"
            )
        in_vain = self.uncountable and not load.text_prompts  # text prompts fail without one, and name it
        plan = LoadPlan(
            base_url=self.served.endpoint.base_url,
            headers=self.served.endpoint.headers,
            query=self.served.endpoint.query,
            secrets=self.served.endpoint.secrets,
            insecure=self.served.endpoint.insecure,
            isl=point.isl,
            osl=point.osl,
            conc=point.conc or point.users,
            users=point.users,
            sessions=profile.sessions,
            token_ids=self.token_ids,
            num_prompts=self.num_prompts(point),
            num_warmups=profile.num_warmups(point),
            seed=self.seed,
            salt=self.salt,
            model=replace(
                profile.model,
                id=self.model.model,
                tokenizer="" if in_vain else profile.model.tokenizer or self.model.model,
                vocab_size=self.vocab_size,
            ),
            load=replace(load, request_rate=self.rate(point)),
            workload=profile.workload,
            timeouts=profile.timeouts,
            template_adds=self.template_tokens,
            first_serial=self.serial,
            report_values=self.budget(point) > 0,
            workers=workers,
        )
        self.serial += plan.drawn
        return plan

    # ------------------------------------------------------------------ measuring

    def pass_over_prompts(self) -> None:
        """With a fixed seed: prompts that results in the directory have had are not drawn again."""
        self.serial = max(self.serial, prompts_drawn(self.results_dir, self.seed))

    def join_sessions(self, cases: Iterable[tuple[Point, int]]) -> None:
        """Before the first load: the sessions whose results of these cases will be reused, and this one, count as one."""
        reused = (self.kept(point, run) for point, run in cases)
        self.resumes |= {str(found.result["run_id"]) for found in reused if found and found.result.get("run_id")}

    def kept(self, point: Point, run: int) -> Measurement | None:
        """A valid result of an earlier session that is comparable, if there is one."""
        path = self.path(point, run)
        asked = {
            "server": self.server_facts(),
            **self.config_facts(),
            "settings": self.settings(point),
            "slo": self.slo(point),
        }
        result = answer_of(path, asked)
        if result is None:
            return None
        if len(self.repeated.planned.get(point, ())) > 1 and result.get("records"):
            try:
                self.repeated.take(point, run, Records.load(path.parent / str(result["records"])), self.block(point))
            except UsageError:
                pass  # its verdict stands; the requests are gone
        word, words = str(result.get("verdict")), tuple(result.get("messages", ()))
        return Measurement(point, run, result, path, Verdict(word, words), kept=True)

    def earlier(self, point: Point) -> dict[str, Any] | None:
        """Whatever an earlier session has left of this point; for estimates only."""
        return earlier_result(self.path(point, 1))

    async def measure(self, point: Point, run: int = 1, show: Callable[[Progress], None] | None = None) -> Measurement:
        """Load the server with one point, judge and keep it. The file is there when this returns or raises.

        Raises ServerGone when the server went away, CancelledError when a person ended it; both leave a result with the
        verdict ERROR and what was measured so far.
        """
        started = datetime.now(UTC)
        try:
            plan = await self.plan(point, self._workers(point))
        except NotMeasured as why:
            return self._keep(point, run, started, None, None, Verdict(ERROR, (str(why),)), [])
        endpoint = self.served.endpoint
        side = ServerSide(self.sources, self.model.model, meter_of(self.profile.power, self.served))
        before = await side.start()
        if self.profile.load.server_profile:
            self.own_notes = _profiling(await post_json(endpoint, "/start_profile", {}))
        try:
            launcher = srun_prefixes(list(self.hosts), plan.workers) if self.hosts else None
            budget, criterion = self.budget(point), criterion_of(self.profile, point)
            early = EarlyVerdict(criterion, plan.num_prompts, self.block(point), not plan.filling) if budget else None
            enough = early.add if early else None
            load = await run_load(plan, launcher=launcher, gone=self.served.gone, enough=enough, show=side.watch(show))
        except (NotMeasured, UsageError) as why:
            measurement = self._keep(point, run, started, plan, None, Verdict(ERROR, (str(why),)), [])
            await side.close()
            ending = why.ending if isinstance(why, EndedEarly) else Ending(words=str(why))
            await self._still_there(ending)
            return measurement
        finally:
            await side.cancel()
            if self.profile.load.server_profile:
                await post_json(endpoint, "/stop_profile", {})
        counted = await side.stop(load)
        if not self.several and not self.profile.server.counts_apart and counted.changes(before):
            self.several = await several_servers(endpoint, self.model.model, counted)
        told = tell(side, load, self.several, bool(self.hosts))
        story = with_economy(told, side.energy, load, point, self.profile, self.gpus)
        facts = self.run_facts(point, load, before, counted, story)
        checks = check_run(load.records, facts, self.profile.validity)
        self.uncountable |= _uncountable(load) and not self.profile.load.text_prompts
        objectives = self.profile.slo.objectives(point)
        ended = early.finish(load.records) if early else None
        block = self.block(point)
        repeats = self.repeated.of(point, run, block)
        slo = self.profile.slo
        verdict = decide(load.records, objectives, slo.mode, checks, ended, block, repeats, story.figures, slo.level)
        if ended is not None:
            verdict = settled(verdict, load.records, criterion, ended)
        if all(check.ok for check in checks):
            self.repeated.take(point, run, load.records, block)
        kept = Kept(counted.since(before), story, side.raw())
        measurement = self._keep(point, run, started, plan, load, verdict, checks, kept)
        if load.ending.kind is End.INTERRUPTED:
            raise asyncio.CancelledError  # the session's loop makes a KeyboardInterrupt of it
        kinds = set(load.records.kind.tolist())
        if load.ending.early or kinds & {KINDS.index("connect"), KINDS.index("cut_off"), KINDS.index("error_event")}:
            await self._still_there(load.ending)
        return measurement

    async def _still_there(self, ending: Ending) -> None:
        """After trouble: raise ServerGone when the server does not answer any more."""
        gone = await self.served.gone()
        deadline = time.monotonic() + REVIVE_S
        while gone is None and (reason := await why_unhealthy(self.served.endpoint, 2.0, self.model.model)):
            if time.monotonic() > deadline:
                gone = f"the server at {self.served.endpoint.base_url} does not serve any more: {reason}"
            else:
                await asyncio.sleep(0.5)
                gone = await self.served.gone()
        if gone is not None:
            raise ServerGone(gone)
        if ending.kind is End.SILENT:
            await self._not_stuck(ending.words)

    async def _not_stuck(self, why: str) -> None:
        """Raise ServerStuck when a server that has let many wait leaves one token unanswered too; its front may live."""
        limit_s = min(STUCK_S, max(5.0, self.profile.timeouts.first_token))
        dialect = dialect_of(self.profile.load.endpoint)
        prompt = json.loads(dialect.prompt_of("a")) if dialect.text_alone else [self.profile.model.first_id]
        body = {"model": self.model.model, dialect.prompt_key: prompt, "max_tokens": 1}
        if await post_json(self.served.endpoint, dialect.path, body, limit_s) is None:
            url = self.served.endpoint.base_url
            raise ServerStuck(
                f"the server at {url} is stuck: {why}; nor did it answer a prompt of one token within {limit_s:g} s"
            )

    def _workers(self, point: Point) -> int:
        asked, most = self.profile.load.processes, point.conc or point.users or UNCAPPED
        if self.hosts:
            return min(most, max(1, asked) * len(self.hosts))
        spare = max(1, len(os.sched_getaffinity(0)) - 1)
        # one process is true to 80,000 events/s (docs/methods.md), and 1,024 streams at 20 ms a token are 50,000
        return min(most, asked or min(spare, 1 + point.conc // 1024))

    def _keep(
        self,
        point: Point,
        run: int,
        started: datetime,
        plan: LoadPlan | None,
        load: LoadRun | None,
        verdict: Verdict,
        checks: Sequence[Check],
        kept: Kept | None = None,
    ) -> Measurement:
        path = self.path(point, run)
        records_file = None
        if load is not None and len(load.records):
            records_file = f"records/{path.stem}.npz"
            write_bytes(path.parent / records_file, load.records.save())
        kept = kept or Kept()
        story = kept.beside(path.parent / "records", path.stem)
        result = self.result(point, run, started, plan, load, verdict, checks, kept.counted, records_file, story)
        write_result(path, result)
        return Measurement(point, run, result, path, verdict)


def _profiling(answer: Reply | None) -> list[Check]:
    """What is to be said of a server that was asked to profile itself, and did not begin."""
    if answer is not None and answer.status < 300:
        return []
    said = "no answer" if answer is None else answer.words()
    fix = "vLLM has it where it was started with a profiler (VLLM_TORCH_PROFILER_DIR or --profiler-config)"
    return [
        Check("server_profile", True, None, None, "", f"the server does not profile: /start_profile says {said}; {fix}")
    ]
