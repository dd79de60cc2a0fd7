"""A sweep and a comparison as tables: Markdown to paste, CSV with plain numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from bench_tests.markdown import markdown
from bench_tests.results.schema import Results
from plotting import style
from plotting.compare import COMPARED, CompareData, Ratio
from plotting.configs import families
from plotting.decision import decide, decision_table
from plotting.group import Cell

__all__ = ["compare_table", "sweep_and_decision", "sweep_table"]

_TIMES = ("median_ttft", "p99_ttft", "median_tpot", "p99_tpot", "p99_e2el")
_RATES = ("input_tok_s_gpu", "output_tok_s_gpu", "request_throughput", "request_goodput")
_HEAD = ("simulated", "configuration", "isl", "osl", "load", "runs", "n", "verdict")
_NAMES = {
    "median_ttft": "p50 TTFT", "p99_ttft": "p99 TTFT", "median_tpot": "p50 TPOT", "p99_tpot": "p99 TPOT", "p99_e2el": "p99 E2EL",
    "input_tok_s_gpu": "input tok/s/GPU", "output_tok_s_gpu": "output tok/s/GPU", "request_throughput": "requests/s",
    "request_goodput": "goodput (requests/s)", "isl": "ISL", "osl": "OSL",
}  # fmt: skip


def sweep_table(results: Results, kind: str) -> str:
    """A row a point, medians over its runs. `csv`: seconds and plain numbers; `md`: readable, columns without a value left out."""
    rows: list[list[str]] = []
    plain = kind == "csv"
    for family in families(results.points):
        for config in family.configs:
            for cell in config.group.cells:
                head = ["yes" if family.simulated else "no", config.name, _count(cell.isl), _count(cell.osl), cell.load]
                n = "+".join(str(run.n) for run in cell.measured if run.n is not None)
                figures = [_figure(cell, key, config.group.gpus, plain=plain) for key in (*_TIMES, *_RATES)]
                rows.append([*head, str(len(cell.runs)), n, cell.verdict, *figures])
    columns = [*_HEAD, *(f"{key}_s" if plain and key in _TIMES else key for key in (*_TIMES, *_RATES))]
    if plain:
        return _csv(columns, rows)
    kept = [i for i in range(len(columns)) if any(row[i] for row in rows) and (i or any(r[0] == "yes" for r in rows))]
    return markdown([[_safe(row[i]) for i in kept] for row in rows], [_NAMES.get(columns[i], columns[i]) for i in kept])


def sweep_and_decision(results: Results, kind: str, tiers: Mapping[str, Sequence[float]] | None = None) -> str:
    """The table of a sweep; as Markdown with the decision for each OSL and load below it."""
    if kind == "csv":
        return sweep_table(results, kind)
    decided = [decide(family, tiers) for family in families(results.points) if any(family.isls)]
    return "\n\n".join([sweep_table(results, kind), *(decision_table(data) for data in decided if data.slos)])


def _count(tokens: int) -> str:
    return str(tokens) if tokens else ""


def _figure(cell: Cell, key: str, gpus: int | None, *, plain: bool) -> str:
    if key.endswith("_tok_s_gpu"):
        # of a whole server it is another figure, in a column that says GPU
        value = cell.throughput(key.partition("_")[0]) if gpus or cell.runs[0].per_gpu else None
    else:
        value = cell.metric(key)
    if value is None:
        return ""
    return f"{value:.6g}" if plain else style.seconds(value) if key in _TIMES else style.amount(value)


_STATES = {
    "worse": "worse", "worse?": "worse, not tested", "better": "better", "better?": "better, not tested", "unknown": "cannot tell",
    "same": "no change shown",
}  # fmt: skip


def compare_table(data: CompareData, kind: str) -> str:
    """A row a figure of a point: base, run, the change with its 95 % interval, and what is said of it.

    `md` holds the changes and what cannot be told, and counts the rest below; `csv` holds every figure.
    """
    names = {key: label for key, label, _ in COMPARED}
    if kind == "csv":
        rows = [
            [r.run, str(r.place.isl or ""), str(r.place.osl or ""), r.place.words, r.metric, f"{r.base:.6g}", f"{r.value:.6g}",
             f"{r.ratio:.6g}", *(f"{end:.6g}" for end in r.interval or ()), *[""] * (0 if r.interval else 2), _STATES[r.state]]
            for r in data.ratios
        ]  # fmt: skip
        return _csv(["run", "isl", "osl", "point", "figure", "base", "value", "ratio", "low", "high", "state"], rows)
    told = [r for r in data.ratios if r.state != "same"]
    rows = [
        [_safe(r.run), _safe(r.place.words), names[r.metric], _value(r.metric, r.base), _value(r.metric, r.value), f"{r.ratio:.2f}×",
         f"{r.interval[0]:.2f} to {r.interval[1]:.2f}×" if r.interval else "", _STATES[r.state]]
        for r in told
    ]  # fmt: skip
    columns = ("run", "point", "figure", _safe(data.base), "value", "change", "95 % interval", "")
    rest = f"{len(data.points)} points, {len(data.ratios)} figures: {_counts(data.ratios)}. {data.unmatched} points in one run alone."
    return "\n\n".join(filter(None, (markdown(rows, columns) if rows else "", rest)))


def _counts(ratios: Sequence[Ratio]) -> str:
    counts = [(words, sum(r.state == state for r in ratios)) for state, words in _STATES.items()]
    return ", ".join(f"{count} {words}" for words, count in counts if count)


def _value(metric: str, value: float) -> str:
    return style.amount(value) if metric.endswith("_throughput") else style.seconds(value)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([columns, *(_inert(row) for row in rows)])
    return out.getvalue().rstrip("\n")


def _inert(row: Sequence[str]) -> list[str]:
    """A name from a file is no formula of a spreadsheet."""
    return [f"'{cell}" if cell[:1] in ("=", "+", "-", "@") and not _is_number(cell) else cell for cell in row]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _safe(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
