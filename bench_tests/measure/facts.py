"""What a result says beside its figures: what was asked, of which server, by which client."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench_tests.calibration.store import Calibration, calibration_for, calibration_path, host_facts
from bench_tests.figures import LATENCIES
from bench_tests.load.mix import model_of
from bench_tests.load.plan import LoadPlan
from bench_tests.load.records import Records
from bench_tests.load.team import LoadRun
from bench_tests.load.workload.source import facts_of, mean_rate, request_count, shareable_tokens
from bench_tests.measure.about_server import AboutServer, few_cpus
from bench_tests.measure.counters import count
from bench_tests.measure.server_side import Story
from bench_tests.results.names import result_name
from bench_tests.results.schema import SCHEMA_VERSION
from bench_tests.server.metrics import Metrics
from bench_tests.server.sampler import Source, sources_of
from bench_tests.sweep.point import Point
from bench_tests.sweep.prefix import Prefix
from bench_tests.sweep.slo import Objective, Slo
from bench_tests.sweep.units import rate_word
from bench_tests.verdict.by_model import by_model
from bench_tests.verdict.decide import ERROR, Verdict
from bench_tests.verdict.sessions import hits_of, of_sessions
from bench_tests.verdict.summary import summarize
from bench_tests.verdict.validity import Check, RunFacts
from bench_tests.verdict.waves import burst_share

__all__ = ["Facts"]


@dataclass
class Facts(AboutServer):
    """What a session knows of its points, its server and itself, and how its results say it."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    calibrations: Sequence[Calibration] = ()  # of this client on this host
    hosts: Sequence[str] = ()  # that carry the load; empty: this one
    seed: int = 0
    salt: int = 0  # of the prompts' tokens
    resumes: set[str] = field(default_factory=set)  # earlier sessions whose results this one reuses
    several: str = ""  # that several servers answer by turns, in words: their counters say nothing
    refused: str = ""  # why the server takes none of our requests, in words
    token_ids: bool = False  # it gives the token ids of its answers, for a session's history
    template_tokens: int = 0  # what its chat template adds to each prompt
    own_notes: Sequence[Check] = ()  # of the session, for each of its runs
    compared: Sequence[str] = ()  # figures that are held against others, so that they have to be right as asserted ones
    name_ends: str = ""  # of the results' names, where a run is no point of the sweep

    def __post_init__(self) -> None:
        chosen = self.profile.load.seed
        self.seed = secrets.randbits(62) if chosen is None else chosen

    # ------------------------------------------------------------------ what a point is asked

    def path(self, point: Point, run: int) -> Path:
        """Where the result of this run of the point is kept."""
        return self.results_dir / f"{result_name(self.profile, self.engine, point, run)}{self.name_ends}.json"

    def settings(self, point: Point) -> dict[str, Any]:
        """All that shapes the load of a point, but for the seed: what two results must share to be comparable."""
        return {
            "isl": point.isl or None,
            "osl": point.osl or None,
            "concurrency": point.conc or None,
            "num_prompts": self.num_prompts(point),
            "num_warmups": self.profile.num_warmups(point),
            **self.profile.load.shape(),
            **self.profile.workload.shape(),
            **facts_of(self.profile.workload, self.profile.sessions),
            "request_rate": rate_word(self.rate(point)),
        }

    def budget(self, point: Point) -> int:
        """How many requests a sequential run may take; 0 where the number is fixed."""
        slo = self.profile.slo
        return slo.max_requests if slo.attain or slo.objectives(point) else 0

    def num_prompts(self, point: Point) -> int:
        """How many measured requests a run of this point has."""
        of_workload = request_count(self.profile.workload)
        if of_workload is not None:
            asked = self.profile.load.num_prompts
            return min(asked, of_workload) if asked else of_workload
        return self.budget(point) or self.profile.num_prompts(point)

    def rate(self, point: Point) -> float:
        """Requests started per second, the mean of a trace or ramp; infinite in a closed loop."""
        of_workload = mean_rate(self.profile.workload, self.profile.load.num_prompts)
        return self.profile.rate(point) if of_workload is None else of_workload

    def block(self, point: Point) -> int:
        """How many requests go through the server together: in a closed loop as many as run at a time."""
        return 1 if point.open_loop or math.isfinite(self.rate(point)) else point.conc

    # ------------------------------------------------------------------ what is kept

    def slo(self, point: Point) -> dict[str, Any]:
        slo = self.profile.slo
        budget = {"max_requests": slo.max_requests} if slo.max_requests else {}
        return {
            "mode": slo.mode,
            **budget,
            **({"level": slo.level} if slo.level != Slo.level else {}),
            **({"attain": slo.attain, "limits": self._limits()} if slo.attain else {}),
            "objectives": [{"metric": o.metric, "limit": o.limit_s} for o in slo.objectives(point)],
        }

    def _limits(self) -> dict[str, float]:
        """What one request must keep to count as good, seconds."""
        return dict(self.profile.goodput.limits_s) if self.profile.goodput else {}

    def result(
        self,
        point: Point,
        run: int,
        started: datetime,
        plan: LoadPlan | None,
        load: LoadRun | None,
        verdict: Verdict,
        checks: Sequence[Check],
        counted: Metrics | None,
        records_file: str | None,
        story: Story,
    ) -> dict[str, Any]:
        """The content of the result file of one run, as plain data; `records_file` is relative to its folder."""
        profile = self.profile
        records = load.records if load else Records.empty()
        goodput, cost = self._limits() or None, profile.cost
        own = counted.values if counted and not self.several else None
        return {
            "schema_version": SCHEMA_VERSION,
            "date": f"{started:%Y%m%d-%H%M%S}",
            "model_id": self.model.model,
            "tokenizer_id": profile.model.tokenizer or self.model.model,
            "engine": self.engine,
            "engine_version": self.model.version,
            "profile": profile.name,
            "run_id": self.run_id,
            "resumes": sorted(self.resumes - {self.run_id}),
            "run": run,
            "point": point.as_dict(),
            "num_prompts": int(records.measured.sum()) if self.budget(point) else self.num_prompts(point),
            "request_rate": rate_word(self.rate(point)),
            "burstiness": profile.load.burstiness,
            "max_concurrency": point.conc or None,
            "start_burst_share": burst_share(records, self.block(point)),
            **summarize(records, point.conc, goodput, self.block(point)),
            **story.figures,
            "server_side": dict(story.facts) or None,
            "power": dict(story.power) or None,
            "cost": {"gpu_hour": cost.gpu_hour, "currency": cost.currency} if cost.gpu_hour else None,
            **({"by_model": by_model(records, self._models(plan, records))} if plan and profile.load.models else {}),
            **(of_sessions(records, profile.sessions.block, own) if point.users else {}),
            "verdict": verdict.word,
            "messages": list(verdict.messages),
            "slo": self.slo(point),
            "slo_tiers": {"ttft": list(profile.tiers.ttft), "tpot": list(profile.tiers.tpot)},
            "goodput": goodput,
            **self.config_facts(),
            "validity": {
                # a verdict that is open leaves the figures right
                "valid": verdict.word != ERROR or verdict.open,
                "checks": [check.as_dict() for check in checks if check.made],
                "not_made": [check.as_dict() for check in checks if not check.made],
            },
            "client": self.client_facts(load, records),
            "server": self.server_facts() | ({"counted": counted.values} if counted and not self.several else {}),
            "settings": self.settings(point),
            **({"template_tokens": self.template_tokens} if profile.load.chat else {}),
            "seed": self.seed,
            "first_serial": plan.first_serial if plan else None,
            "metadata": {**profile.load.metadata, **self.metadata},
            "records": records_file,
        }

    def _models(self, plan: LoadPlan, records: Records) -> list[str]:
        """The model that each row's request was sent to."""
        first = plan.first_serial + np.where(records.measured, plan.num_warmups, 0)
        return [model_of(plan, int(serial)) for serial in first + records.number]

    def client_facts(self, load: LoadRun | None, records: Records) -> dict[str, Any]:
        facts: dict[str, Any] = dict(host_facts()) | {"job_id": os.environ.get("SLURM_JOB_ID")}
        if load is not None:
            events = int(records.events.sum())
            cpu_s = sum(float(s.get("cpu_s", 0)) for s in load.stats)
            calibration = self.calibration(load)
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

    def calibration(self, load: LoadRun) -> Calibration | None:
        """What is known of this client under such a load; nothing where other hosts carry it."""
        return None if self.hosts else calibration_for(self.calibrations, load.workers)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Whose /metrics are read."""
        return sources_of(self.profile.server, self.served.endpoint)

    def _asserted(self, point: Point) -> list[Objective]:
        """The latencies that a verdict or a comparison rests on."""
        objectives = {o.metric: o for o in self.profile.slo.objectives(point) if o.latency}
        names = [name for name in self.compared if name.rpartition("_")[2] in LATENCIES]
        return [*objectives.values(), *(Objective(name, math.inf) for name in names if name not in objectives)]

    def run_facts(self, point: Point, load: LoadRun, before: Metrics, after: Metrics, story: Story) -> RunFacts:
        counted = count(before, after, load.records, self.several)
        prefix = Prefix(**self.profile.load.prefix)
        calibration = self.calibration(load)
        talks, hits = hits_of(load.records, self.profile.sessions.block)
        return RunFacts(
            point=point,
            num_prompts=self.num_prompts(point),
            prefix_len=self.template_tokens
            + (prefix.length(point.isl) if prefix.used else self.profile.load.prefix_len),
            chat=self.profile.load.chat,
            prefix_hit=prefix.hit_tokens(point.isl),
            models=max(1, len(self.profile.load.models)),
            primes=prefix.count * max(1, len(self.profile.load.models)),
            shareable=shareable_tokens(self.profile.workload, self.num_prompts(point)) + talks,
            request_rate=self.rate(point),
            client=load.stats,
            stopped=load.ending.words if load.ending.early else "",
            cached_tokens=counted.cached_tokens,
            preemptions=counted.preemptions,
            not_counted=counted.not_used,
            server_changes=counted.changes,
            server_side=story.facts,
            speculative="speculation" in story.facts,
            asserted=self._asserted(point),
            **(_calibrated(calibration) if calibration else {}),
            extra=[*counted.extra, *story.checks, *self.own_notes, *few_cpus(self.served.facts()), *hits],
        )


def _calibrated(found: Calibration) -> dict[str, Any]:
    """What a calibration says of one load process: more of them carry less each."""
    bound = found.bound_events_per_s
    return {
        "calibrated_events_per_s": found.events_per_s / found.load_processes,
        "calibrated_bound": None if bound is None else bound / found.load_processes,
        "calibration_file": str(calibration_path()),
    }
