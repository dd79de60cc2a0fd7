"""Measures one point from its plan to its result file. Knows every room but the pictures and pytest."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_tests.calibration.store import Calibration, calibration_for, host_facts
from bench_tests.errors import NotMeasured, ServerGone, ServerStuck, UsageError
from bench_tests.load.hosts import srun_prefixes
from bench_tests.load.plan import SILENT, LoadPlan
from bench_tests.load.records import KINDS, Records
from bench_tests.load.team import INTERRUPTED, LoadRun, Progress, run_load
from bench_tests.results.files import SCHEMA_VERSION, result_name, write_bytes, write_result
from bench_tests.results.resume import answer_of, earlier_result, prompts_drawn
from bench_tests.server.attach import ServedModel, context_needed, find_vocab
from bench_tests.server.client import post_json, why_unhealthy
from bench_tests.server.metrics import Metrics, read_metrics
from bench_tests.server.served import Served
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import Profile
from bench_tests.verdict.decide import ERROR, Verdict, decide
from bench_tests.verdict.early import EarlyVerdict
from bench_tests.verdict.summary import summarize
from bench_tests.verdict.validity import Check, RunFacts, check_run

__all__ = ["Measurement", "Sweep"]

STUCK_S = 60.0  # how long one token of a server may take that has just let a whole point wait
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


@dataclass
class Sweep:
    """The points of one session against one server."""

    profile: Profile
    served: Served
    model: ServedModel
    results_dir: Path
    metadata: Mapping[str, Any] = field(default_factory=dict)
    calibrations: Sequence[Calibration] = ()  # of this client on this host
    hosts: Sequence[str] = ()  # that carry the load; empty: this one
    run_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}")
    seed: int = 0
    serial: int = 0  # prompts given out so far: no two of a sweep may start alike
    vocab_size: int = 0

    def __post_init__(self) -> None:
        chosen = self.profile.load.seed
        self.seed = secrets.randbits(62) if chosen is None else chosen

    # ------------------------------------------------------------------ what a point is asked

    @property
    def engine(self) -> str:
        return "sim" if self.model.simulated else self.profile.server.engine

    def path(self, point: Point, run: int) -> Path:
        """Where the result of this run of the point is kept."""
        tp = self.profile.server.tensor_parallel
        return self.results_dir / f"{result_name(self.profile.name, self.engine, tp, point, run)}.json"

    def settings(self, point: Point) -> dict[str, Any]:
        """All that shapes the load of a point, but for the seed: what two results must share to be comparable."""
        load = self.profile.load
        return {
            "endpoint": "/v1/completions",
            "isl": point.isl,
            "osl": point.osl,
            "concurrency": point.conc,
            "num_prompts": self._num_prompts(point),
            "num_warmups": self.profile.num_warmups(point),
            "request_rate": _rate(load.request_rate),
            "burstiness": load.burstiness,
            "range_ratio": load.range_ratio,
            "prefix_len": load.prefix_len,
            "prompt_format": load.prompt_format,
            "ignore_eos": load.ignore_eos,
            "temperature": load.temperature,
            "extra_body": load.extra_body,
        }

    def plan(self, point: Point, workers: int) -> LoadPlan:
        """The load of one run of a point; takes its prompts' running numbers."""
        profile, load, timeouts = self.profile, self.profile.load, self.profile.timeouts
        if load.prompt_format == "ids" and not self.vocab_size:
            self.vocab_size = profile.model.vocab_size or find_vocab(self.served.endpoint, self.model.model)
        needed = context_needed(point.isl, point.osl, load.range_ratio, load.prefix_len)
        if self.model.max_model_len is not None and needed > self.model.max_model_len:
            raise NotMeasured(
                f"{point} needs a context of {needed} tokens, the server has {self.model.max_model_len}: answers would "
                "be cut short; serve with a larger --max-model-len or leave the point out"
            )
        plan = LoadPlan(
            base_url=self.served.endpoint.base_url,
            api_key=self.served.endpoint.api_key,
            insecure=self.served.endpoint.insecure,
            model=self.model.model,
            isl=point.isl,
            osl=point.osl,
            conc=point.conc,
            num_prompts=self._num_prompts(point),
            num_warmups=profile.num_warmups(point),
            seed=self.seed,
            first_serial=self.serial,
            request_rate=None if load.request_rate == float("inf") else load.request_rate,
            burstiness=load.burstiness,
            range_ratio=load.range_ratio,
            prefix_len=load.prefix_len,
            prompt_format=load.prompt_format,
            tokenizer=profile.model.tokenizer or self.model.model,
            vocab_size=self.vocab_size or 32000,
            first_id=profile.model.first_id,
            special_ids=profile.model.special_ids,
            ignore_eos=load.ignore_eos,
            temperature=load.temperature,
            extra_body=load.extra_body,
            connect_timeout_s=timeouts.connect,
            first_token_timeout_s=timeouts.first_token,
            between_tokens_timeout_s=timeouts.between_tokens,
            request_timeout_s=timeouts.request,
            point_timeout_s=timeouts.point,
            report_values=self._budget(point) > 0,
            workers=workers,
        )
        self.serial += plan.num_prompts + plan.num_warmups
        return plan

    def _budget(self, point: Point) -> int:
        """How many requests a sequential run may take; 0 where the number is fixed."""
        return self.profile.slo.max_requests if self.profile.slo.objectives(point) else 0

    def _num_prompts(self, point: Point) -> int:
        return self._budget(point) or self.profile.num_prompts(point)

    def _block(self, point: Point) -> int:
        """How many requests go through the server together: in a closed loop as many as run at a time."""
        return point.conc if self.profile.load.request_rate == float("inf") else 1

    # ------------------------------------------------------------------ measuring

    def pass_over_prompts(self) -> None:
        """With a fixed seed: prompts that results in the directory have had are not drawn again."""
        self.serial = max(self.serial, prompts_drawn(self.results_dir, self.seed))

    def kept(self, point: Point, run: int) -> Measurement | None:
        """A valid result of an earlier session that answers the same question of the same server, if there is one."""
        path = self.path(point, run)
        asked = {"server": self._server(), "settings": self.settings(point), "slo": self._slo(point)}
        result = answer_of(path, asked)
        if result is None:
            return None
        word, words = str(result.get("verdict")), tuple(result.get("messages", ()))
        return Measurement(point, run, result, path, Verdict(word, words), kept=True)

    def earlier(self, point: Point) -> dict[str, Any] | None:
        """Whatever an earlier session has left of this point; for estimates only."""
        return earlier_result(self.path(point, 1))

    def measure(self, point: Point, run: int = 1, show: Callable[[Progress], None] | None = None) -> Measurement:
        """Load the server with one point, judge and keep it. The file is there when this returns or raises.

        Raises ServerGone when the server went away, KeyboardInterrupt when a person did; both leave a result with the
        verdict ERROR and what was measured so far.
        """
        started = datetime.now(UTC)
        try:
            plan = self.plan(point, self._workers(point))
        except NotMeasured as why:
            return self._keep(point, run, started, None, None, Verdict(ERROR, (str(why),)), [])
        endpoint = self.served.endpoint
        before = read_metrics(endpoint, self.model.model)
        if self.profile.load.server_profile:
            post_json(endpoint, "/start_profile", {})
        try:
            launcher = srun_prefixes(list(self.hosts), plan.workers) if self.hosts else None
            budget = self._budget(point)
            early = EarlyVerdict(self.profile.slo.objectives(point), budget, point.conc) if budget else None
            enough = early.add if early else None
            load = run_load(plan, launcher=launcher, watch=self.served.gone, enough=enough, show=show)
        except (NotMeasured, UsageError) as why:
            measurement = self._keep(point, run, started, plan, None, Verdict(ERROR, (str(why),)), [])
            self._still_there(str(why))
            return measurement
        finally:
            if self.profile.load.server_profile:
                post_json(endpoint, "/stop_profile", {})
        counted = read_metrics(endpoint, self.model.model)
        checks = check_run(load.records, self._run_facts(point, load, before, counted), self.profile.validity)
        objectives = self.profile.slo.objectives(point)
        ended = early.finish(load.records) if early else None
        verdict = decide(load.records, objectives, self.profile.slo.mode, checks, ended, self._block(point))
        measurement = self._keep(point, run, started, plan, load, verdict, checks, counted.since(before))
        if load.stopped == INTERRUPTED:
            raise KeyboardInterrupt
        kinds = set(load.records.kind.tolist())
        if load.stopped or kinds & {KINDS.index("connect"), KINDS.index("cut_off"), KINDS.index("error_event")}:
            self._still_there(load.stopped or "; ".join(verdict.messages))
        return measurement

    def _still_there(self, why: str) -> None:
        """After trouble: raise ServerGone when the server does not answer any more."""
        gone = self.served.gone()
        deadline = time.monotonic() + REVIVE_S
        while gone is None and (reason := why_unhealthy(self.served.endpoint, 2.0)):
            if time.monotonic() > deadline:
                gone = f"the server at {self.served.endpoint.base_url} does not serve any more: {reason}"
            else:
                time.sleep(0.5)
                gone = self.served.gone()
        if gone is not None:
            raise ServerGone(gone)
        if SILENT in why:
            self._not_stuck(why)

    def _not_stuck(self, why: str) -> None:
        """Raise ServerStuck when a server that has let many wait leaves one token unanswered too; its front may live."""
        limit_s = min(STUCK_S, max(5.0, self.profile.timeouts.first_token))
        body = {"model": self.model.model, "prompt": [self.profile.model.first_id], "max_tokens": 1}
        if post_json(self.served.endpoint, "/v1/completions", body, limit_s) is None:
            url = self.served.endpoint.base_url
            raise ServerStuck(
                f"the server at {url} is stuck: {why}; nor did it answer a prompt of one token within {limit_s:g} s"
            )

    def _workers(self, point: Point) -> int:
        asked = self.profile.load.processes
        if self.hosts:
            return min(point.conc, max(1, asked) * len(self.hosts))
        spare = max(1, len(os.sched_getaffinity(0)) - 1)
        # one process is true to 80,000 events/s (docs/methods.md), and 1,024 streams at 20 ms a token are 50,000
        return min(point.conc, asked or min(spare, 1 + point.conc // 1024))

    def _calibration(self, load: LoadRun) -> Calibration | None:
        """What is known of this client under such a load; nothing where other hosts carry it."""
        return None if self.hosts else calibration_for(self.calibrations, load.workers)

    def _run_facts(self, point: Point, load: LoadRun, before: Metrics, after: Metrics) -> RunFacts:
        counted = after.since(before)
        calibration = self._calibration(load)
        # the server counts warm-ups too: their prompts are new as well, so none of theirs may be cached either
        cached = counted.values.get("cached_tokens")
        seen, ours = counted.values.get("prompt_tokens"), int(load.records.asked_input.sum())
        notes = []
        if seen is not None and seen > 1.01 * ours:
            # others use this server too: its counters are not about us alone, and our figures include their load
            cached = None
            words = f"the server also took {seen - ours:,.0f} prompt tokens of others: the figures include that load"
            notes.append(Check("other_load", True, seen / max(ours, 1), 1.01, "share", words))
        return RunFacts(
            point=point,
            num_prompts=self._num_prompts(point),
            prefix_len=self.profile.load.prefix_len,
            request_rate=self.profile.load.request_rate,
            client=load.stats,
            stopped=load.stopped,
            cached_tokens=cached,
            server_changes=after.changes(before),
            asserted=self.profile.slo.objectives(point),
            calibrated_events_per_s=calibration.events_per_s if calibration else None,
            extra=notes,
        )

    # ------------------------------------------------------------------ what is kept

    def _slo(self, point: Point) -> dict[str, Any]:
        slo = self.profile.slo
        budget = {"max_requests": slo.max_requests} if slo.max_requests else {}
        return {
            "mode": slo.mode,
            **budget,
            "objectives": [{"metric": o.metric, "limit": o.limit_s} for o in slo.objectives(point)],
        }

    def _server(self) -> dict[str, Any]:
        server = self.profile.server
        return {
            "base_url": self.served.endpoint.base_url,
            "insecure": self.served.endpoint.insecure,
            "engine": self.engine,
            "gpus": self.profile.gpus,
            "tensor_parallel": server.tensor_parallel,
            "data_parallel": server.data_parallel,
            "pipeline_parallel": server.pipeline_parallel,
            **self.model.as_dict(),
            **self.served.facts(),
        }

    def _keep(
        self,
        point: Point,
        run: int,
        started: datetime,
        plan: LoadPlan | None,
        load: LoadRun | None,
        verdict: Verdict,
        checks: Sequence[Check],
        counted: Metrics | None = None,
    ) -> Measurement:
        profile, path = self.profile, self.path(point, run)
        records = load.records if load else Records.empty()
        goodput = profile.goodput.limits_s if profile.goodput else None
        records_file = None
        if load is not None and len(records):
            records_file = f"records/{path.stem}.npz"
            write_bytes(path.parent / records_file, records.save())
        result: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "date": f"{started:%Y%m%d-%H%M%S}",
            "model_id": self.model.model,
            "tokenizer_id": profile.model.tokenizer or self.model.model,
            "engine": self.engine,
            "engine_version": self.model.version,
            "profile": profile.name,
            "run_id": self.run_id,
            "run": run,
            "point": {"isl": point.isl, "osl": point.osl, "conc": point.conc},
            "num_prompts": int(records.measured.sum()) if self._budget(point) else profile.num_prompts(point),
            "request_rate": _rate(profile.load.request_rate),
            "burstiness": profile.load.burstiness,
            "max_concurrency": point.conc,
            **summarize(records, point.conc, goodput, self._block(point)),
            "verdict": verdict.word,
            "messages": list(verdict.messages),
            "slo": self._slo(point),
            "slo_tiers": {"ttft": list(profile.tiers.ttft), "tpot": list(profile.tiers.tpot)},
            "goodput": dict(goodput) if goodput else None,
            "validity": {"valid": verdict.word != ERROR, "checks": [check.as_dict() for check in checks]},
            "client": self._client(load, records),
            "server": self._server() | ({"counted": counted.values} if counted else {}),
            "settings": self.settings(point),
            "seed": self.seed,
            "first_serial": plan.first_serial if plan else None,
            "metadata": {**profile.load.metadata, **self.metadata},
            "records": records_file,
        }
        write_result(path, result)
        return Measurement(point, run, result, path, verdict)

    def _client(self, load: LoadRun | None, records: Records) -> dict[str, Any]:
        facts: dict[str, Any] = dict(host_facts()) | {"job_id": os.environ.get("SLURM_JOB_ID")}
        if load is not None:
            events = int(records.events.sum())
            cpu_s = sum(float(s.get("cpu_s", 0)) for s in load.stats)
            calibration = self._calibration(load)
            facts |= {
                "calibration": calibration.cited() if calibration else None,
                "load_processes": load.workers,
                "load_hosts": list(self.hosts),
                "prepare_s": load.prepare_s,
                "cpu_us_per_event": cpu_s / events * 1e6 if events else None,
                "kernel_stamps": all(s.get("stamped", False) for s in load.stats),
                "uncounted_answers": sum(int(s.get("uncounted", 0)) for s in load.stats),
                "processes": load.stats,
            }
        return facts


def _rate(rate: float) -> float | str:
    return "inf" if rate == float("inf") else rate
