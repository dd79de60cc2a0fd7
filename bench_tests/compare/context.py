"""What a reader of a comparison has to know beside its figures, a line each: what else differs, and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np

from bench_tests.compare.judge import FigureOfSweep, Judged
from bench_tests.compare.samples import PointRuns
from bench_tests.compare.stray import Stray
from bench_tests.compare.table import Column, Side, loads_of
from bench_tests.figures import label_of

__all__ = ["context_lines", "noise_lines"]

FAR = 3.0  # a shift of so many standard errors of the points' own noise is one that all points share
SMALLEST_SHIFT = 0.005  # below this it is not worth a line
MANY = 4  # points named in a line
WORTH_A_LINE = 1.2  # the factor on a variance: a standard deviation of 10 % more


def context_lines(pairs: Sequence[tuple[PointRuns, PointRuns]], judged: Judged) -> list[str]:
    """What else differs between the sides, one line each; the first says what the two sides are."""
    if not judged.figures:
        return []
    sides = judged.figures[0].table.sides
    lines = [f"now: {_side(sides.cur)}; baseline: {_side(sides.base)}"]
    if not sides.one_start and _starts(sides.cur) and not set(_starts(sides.cur)) & set(_starts(sides.base)):
        lines.append(
            "the server was started anew between the sides: a start of the same server can move figures by some per cent"
        )
    now, then = _said(sides.cur, "version"), _said(sides.base, "version")
    if now and then and now != then:
        lines.append(f"engine version: {', '.join(then)} in the baseline, {', '.join(now)} now")
    lines += _loads(pairs)
    lines += [words for figure in judged.figures if (words := _shared(figure, judged))]
    lines += [_stray(stray) for stray in judged.strays]
    return lines


def _starts(side: Side) -> list[str]:
    return _said(side, "start")


def _said(side: Side, name: str) -> list[str]:
    return list(dict.fromkeys(str(getattr(c, name)) for c in side.columns if getattr(c, name)))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _side(side: Side) -> str:
    """`3 rounds of 1 session, 1 start of the server, on node7, 2026-11-25`."""
    sessions = len({column.session for column in side.columns})
    parts = [f"{_count(len(side.columns), 'round')} of {_count(sessions, 'session')}"]
    starts = _starts(side)
    parts.append(f"{_count(len(starts), 'start')} of the server" if starts else "starts of the server not known")
    if nodes := _said(side, "node"):
        parts.append(f"on {', '.join(nodes[:MANY])}{' ...' if len(nodes) > MANY else ''}")
    days = sorted({math.floor(c.day) for c in side.columns if c.day is not None})
    if days:
        parts.append(" to ".join(dict.fromkeys(_date(day) for day in (days[0], days[-1]))))
    return ", ".join(parts)


def _date(day: float) -> str:
    return f"{datetime.fromtimestamp(day * 86400, UTC):%Y-%m-%d}"


def _names(keys: Sequence[object]) -> str:
    more = f" and {len(keys) - MANY} more" if len(keys) > MANY else ""
    return ", ".join(map(str, keys[:MANY])) + more


def _loads(pairs: Sequence[tuple[PointRuns, PointRuns]]) -> Iterable[str]:
    found = [(pair[0].key, *loads_of(pair)) for pair in pairs]
    waves = [(key, values) for key, values, _ in found if values is not None]
    tokens = [(key, values) for key, _, values in found if values is not None]
    for what, entries, words in (
        ("in step", waves, "streams moved together differently: two loads, their latencies follow"),
        ("tokens per event", tokens, "the server's front fell behind its engine on one side"),
    ):
        if entries:
            key, (now, then) = max(
                entries, key=lambda entry: abs(math.log(max(entry[1][0], 1e-3) / max(entry[1][1], 1e-3)))
            )
            yield f"{what}: {then:.2f} → {now:.2f} at {key} ({_names([key for key, _ in entries])}): {words}"


def _shared(figure: FigureOfSweep, judged: Judged) -> str:
    """The line of a shift that all points share and that starts and days could have made; empty where there is none."""
    shift = figure.shift
    verdict = next((c.verdict for c in judged.overall if c.metric == figure.metric.name), "same")
    seen = abs(shift.moved) > max(FAR * math.sqrt(shift.own), SMALLEST_SHIFT)
    if not seen or verdict in ("regression", "improvement") or figure.table.usable.sum() < 3:
        return ""
    sides = figure.table.sides
    nodes = {" and ".join(_said(side, "node")) for side in (sides.base, sides.cur)} - {""}
    asked = f" The nodes are {' and '.join(sorted(nodes))}." if nodes else ""
    what = "rounds do here" if sides.one_start else "starts and days do here: build, start, node or day?"
    return (
        f"every point by the same {math.expm1(shift.moved):+.1%} in {label_of(figure.metric.name)}, "
        f"no more than {what}{asked}"
    ).replace("%", " %")


def _stray(stray: Stray) -> str:
    off = f"{math.expm1(stray.off):+.0%}".replace("%", " %")
    return (
        f"set aside: {_where(stray)}: {off} in {label_of(stray.metric)} against the others of its kind, at all points"
    )


def _where(stray: Stray) -> str:
    column: Column = stray.column
    named = f" {column.session}" if column.session else ""
    if stray.kind == "round":
        return f"round {column.round + 1} of session{named} ({stray.side})"
    return f"session{named} of the {'baseline' if stray.side == 'baseline' else 'present side'}"


def noise_lines(judged: Judged) -> list[str]:
    """How each figure was judged: what its noise is and where it comes from, and where the rule was weaker."""
    return [line for figure in judged.figures for line in (_noise(figure), _following(figure)) if line]


def _following(figure: FigureOfSweep) -> str:
    """The line of rounds that follow each other; empty where they do not."""
    follow = figure.follow
    if follow.factor < WORTH_A_LINE:
        return ""
    return (
        f"{label_of(figure.metric.name)}: a point's rounds follow each other (correlation {follow.rho:.1f}): "
        f"their mean is taken to vary {math.sqrt(follow.factor):.1f} times as much as their scatter says"
    )


def _noise(figure: FigureOfSweep) -> str:
    use = figure.table.usable
    sds = np.sqrt(figure.noise.var[use])
    name = label_of(figure.metric.name)
    spread = f"{sds.min():.1%} to {sds.max():.1%}" if sds.max() > 1.2 * sds.min() else f"{np.median(sds):.1%}"
    if figure.noise.rule == "repeated runs":
        text = f"{name}: noise of a run {spread}, measured"
    else:
        lacking = "the requests are not in these files; " if figure.noise.rule == "summary only" else ""
        text = f"{name}: weaker rule, no point was run twice: {lacking}noise of a run {spread}, assumed or from the points' scatter"
    between = figure.shift.session_sd
    unit = "a session" if figure.table.sides.one_start else "a start or day"
    source = f"measured over {figure.shift.measured + 1}" if figure.shift.measured else "assumed, not measured"
    hint = "" if figure.noise.rule == "repeated runs" else "; measure both sides with --repeat 3"
    return f"{text}; {unit} moves all points by {between:.1%} ({source}){hint}".replace("%", " %")
