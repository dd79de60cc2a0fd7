"""For this SLO take that configuration: the best point of each within both limits, as data and as a table to paste."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench_tests.markdown import markdown
from plotting import style
from plotting.configs import Family
from plotting.frontier import limits_of
from plotting.group import Cell, isl_words

__all__ = ["Choice", "Decision", "Row", "Slo", "decide", "decision_rows", "decision_table", "share", "slos_of"]

DECISION_COLUMNS = (
    "ISL", "within", "take", "at", "output tok/s/GPU", "server tok/s", "GPU-hours per M output tokens", "cost per M output tokens",
    "next best", "p99 settled",
)  # fmt: skip


@dataclass(frozen=True)
class Slo:
    """Two limits at once, seconds; None: no limit on that one."""

    ttft_s: float | None
    tpot_s: float | None

    @property
    def words(self) -> str:
        """`p99 TTFT ≤ 2 s, p99 TPOT ≤ 50 ms`."""
        said = [("TTFT", self.ttft_s), ("TPOT", self.tpot_s)]
        return ", ".join(f"p99 {name} ≤ {style.seconds(limit)}" for name, limit in said if limit is not None)

    def within(self, cell: Cell) -> bool:
        """Whether the cell's figures keep both limits; one that was not measured keeps none."""
        for metric, limit in (("p99_ttft", self.ttft_s), ("p99_tpot", self.tpot_s)):
            value = cell.metric(metric)
            if limit is not None and (value is None or value > limit):
                return False
        return True

    def settled(self, cell: Cell) -> bool | None:
        """Whether the 95 % intervals of a cell within lie within as well; None where the files hold none."""
        known = None
        for metric, limit in (("p99_ttft", self.ttft_s), ("p99_tpot", self.tpot_s)):
            interval = cell.interval(metric)
            if limit is not None and interval is not None:
                known = known is not False and interval[1] <= limit
        return known


def slos_of(family: Family, tiers: Mapping[str, Sequence[float]] | None = None) -> tuple[list[Slo], str]:
    """The limits that are held against every configuration, tightest first, and where they are from.

    The TTFT tiers and the TPOT tiers are taken in pairs, tightest with tightest; the shorter list repeats its loosest.
    """
    groups = [config.group for config in family.configs]
    ttft, source = limits_of(groups, "ttft", tiers or {})
    tpot, other = limits_of(groups, "tpot", tiers or {})
    pairs = [
        (ttft[min(i, len(ttft) - 1)] if ttft else None, tpot[min(i, len(tpot) - 1)] if tpot else None)
        for i in range(max(len(ttft), len(tpot)))
    ]
    own = {
        (limits["p99_ttft"], limits["p99_tpot"])
        for group in groups
        for point in group.points
        if {"p99_ttft", "p99_tpot"} <= (limits := {o.metric: o.limit_s for o in point.slo}).keys()
    }
    found = [Slo(*pair) for pair in dict.fromkeys([*pairs, *(sorted(own) if len(own) <= 2 else ())])]
    return found, "; ".join(sorted({source, other}))


@dataclass(frozen=True)
class Choice:
    """The best point of one configuration within an SLO."""

    config: str
    cell: Cell
    value: float
    settled: bool | None


@dataclass(frozen=True)
class Row:
    """One ISL and SLO: every configuration that keeps it, the best first; empty where none does."""

    isl: int
    slo: Slo
    choices: tuple[Choice, ...]

    @property
    def best(self) -> Choice | None:
        """The configuration to take."""
        return self.choices[0] if self.choices else None

    @property
    def lead(self) -> float | None:
        """The best one's throughput over the next one's, less one; None without a next one."""
        return self.choices[0].value / self.choices[1].value - 1 if len(self.choices) > 1 else None


@dataclass(frozen=True)
class Decision:
    """For each ISL and SLO the configuration with the highest output throughput per GPU within it."""

    family: Family
    slos: tuple[Slo, ...]
    limits_from: str
    rows: tuple[Row, ...]
    points: int
    unmeasured: int

    def row(self, isl: int, slo: Slo) -> Row:
        """The row of that ISL and SLO."""
        return next(row for row in self.rows if (row.isl, row.slo) == (isl, slo))


def decide(family: Family, tiers: Mapping[str, Sequence[float]] | None = None) -> Decision:
    """Formula: best(ISL, SLO) = max output tok/s/GPU over points of that ISL with p99 TTFT *and* p99 TPOT within it."""
    slos, source = slos_of(family, tiers)
    every = [cell for config in family.configs for cell in config.group.cells]
    rows = [Row(isl, slo, _choices(family, isl, slo)) for isl in family.isls for slo in slos]
    return Decision(family, tuple(slos), source, tuple(rows), len(every), sum(not cell.measured for cell in every))


def _choices(family: Family, isl: int, slo: Slo) -> tuple[Choice, ...]:
    found = []
    for config in family.configs:
        within = [
            (value, cell)
            for cell in config.group.cells
            if cell.isl == isl and (value := cell.throughput("output")) is not None and slo.within(cell)
        ]
        if within:
            value, cell = max(within, key=lambda pair: pair[0])
            found.append(Choice(config.name, cell, value, slo.settled(cell)))
    return tuple(sorted(found, key=lambda choice: -choice.value))


def decision_rows(decision: Decision) -> list[list[str]]:
    """The table's cells, by DECISION_COLUMNS. Formula: GPU-hours per M output tokens = 10⁶ / (output tok/s/GPU × 3600)."""
    rows = []
    for row in decision.rows:
        best = row.best
        if best is None:
            rows.append([isl_words(row.isl), row.slo.words, "none keeps it", *[""] * 7])
            continue
        group = next(config.group for config in decision.family.configs if config.name == best.config)
        cost = best.cell.metric("cost_per_million_output")
        following = (
            f"{row.choices[1].config}, {share(row.choices[1].value / best.value - 1)}" if row.lead is not None else ""
        )
        rows.append(
            [
                isl_words(row.isl),
                row.slo.words,
                best.config,
                best.cell.load,
                style.amount(best.value) if group.gpus else "GPUs not stated",
                style.amount(best.value * (group.gpus or 1)),
                f"{1e6 / best.value / 3600:.3g}" if group.gpus and best.value else "",
                f"{cost:.3g} {_currency(best.cell)}".rstrip() if cost is not None else "",
                following,
                {True: "yes", False: "no: its interval reaches beyond the limit", None: "no interval in the files"}[
                    best.settled
                ],
            ]
        )
    return rows


def share(value: float) -> str:
    """`+47 %`, `−3 %`; what rounds to nothing is `< 1 %`."""
    return "< 1 %" if abs(value) < 0.01 else f"{'+' if value > 0 else '−'}{abs(value):.0%}".replace("%", " %")


def _currency(cell: Cell) -> str:
    said = cell.runs[0].raw.get("cost")
    return style.plain(str(said.get("currency", "")), 10) if isinstance(said, Mapping) else ""


def decision_table(decision: Decision) -> str:
    """The decision and the starts as Markdown; columns that would be empty are left out."""
    rows = decision_rows(decision)
    kept = [i for i in range(len(DECISION_COLUMNS)) if any(row[i] for row in rows)]
    out = [
        f"{'SIMULATED. ' if decision.family.simulated else ''}{decision.family.title}: {decision.family.caption()}.",
        _counted(decision),
        "",
        markdown([[_safe(row[i]) for i in kept] for row in rows], [DECISION_COLUMNS[i] for i in kept]),
    ]
    starts = [[_safe(config.name), config.start] for config in decision.family.configs if config.start]
    if starts:
        out += ["", markdown(starts, ("configuration", "start of the server"))]
    return "\n".join(out)


def _counted(decision: Decision) -> str:
    count = len(decision.family.configs)
    return (
        f"{decision.points} points of {count} configuration{'s' * (count != 1)}, {decision.unmeasured} not measured; "
        f"{decision.limits_from}. Each: the highest output throughput per GPU within both limits. {decision.family.silent}"
    ).rstrip()


def _safe(text: str) -> str:
    """A name from a file breaks no table."""
    return " ".join(text.replace("|", "\\|").split())
