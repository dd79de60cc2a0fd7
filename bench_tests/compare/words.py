"""A comparison in words for whoever guards a server: one line a statement."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from bench_tests.compare.change import Change, SweepComparison
from bench_tests.figures import FIGURES, label_of
from bench_tests.sweep.units import format_s

__all__ = ["blind_line", "change_line", "comparison_lines", "summary_line"]

MANY = 6  # points named in a line
DOUBLED = 1.0  # as a slowdown
_DOUBLED = ("twice as slow", "half of it")  # as the figure has it: of a latency, of a throughput
FAR = 10.0  # times the baseline
VERDICTS = (
    ("regression", "regression"),
    ("improvement", "improvement"),
    ("same", "not slower"),
    ("unclear", "cannot tell"),
)


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %" if abs(share) < 0.995 else f"{100 * share:+.0f} %"


def _size(share: float) -> str:
    """Without its sign, where a word says the way."""
    return _percent(share).lstrip("+-")


def _end(share: float) -> str:
    """The end of an interval; where hardly anything is known it may be absurdly far."""
    return f"beyond ×{FAR:g}" if share >= FAR - 1 else _percent(share)


def _seen(change: Change, nothing: str = "nothing", only: str = "") -> str:
    """From which change on it would have been seen: `from +9.0 % on`; from a doubling on the number says nothing more."""
    if change.visible >= DOUBLED:
        return f"{nothing} short of {_DOUBLED[change.higher_is_better]}"
    return f"{only}from {_percent(_own_way(change, change.visible))} on"


def _own_way(change: Change, slower: float) -> float:
    """A slowdown as the change of this figure: of a throughput the loss. 0.25 slower is a throughput of −0.2."""
    return 1 / (1 + slower) - 1 if change.higher_is_better else slower


def change_line(change: Change) -> str:
    """What became of a figure, in one of three answers.

    `mean TPOT 20.1 ms → 22.3 ms: slower by 10.9 % (95 % CI +7.2 % to +14.7 %, p 0.0003 after correction)`,
    `...: not slower by more than 2.1 % (+0.3 %)`, `...: cannot tell (+1.2 %), would see from +9.0 % on`.
    """
    name = label_of(change.metric)
    if change.point is None:
        values = "over the whole sweep"
    elif FIGURES[change.metric].unit == "tok/s":
        values = f"{change.baseline:,.0f} → {change.current:,.0f} tok/s"
    else:
        values = f"{format_s(change.baseline)} → {format_s(change.current)}"
    moved, worst = _percent(change.ratio - 1), _size(_own_way(change, max(change.at_most, 0.0)))
    verb = ("lower", "higher") if change.higher_is_better else ("slower", "faster")
    if change.verdict in ("regression", "improvement"):
        weak = f", {change.rule}" if change.weak else ""
        said = (
            f"{verb[change.verdict == 'improvement']} by {_size(change.ratio - 1)} (95 % CI {_percent(change.low - 1)} to "
            f"{_end(change.high - 1)}, p {change.p_adjusted:.2g} after correction{weak})"
        )
    elif change.verdict == "same":
        said = f"not {verb[0]} by more than {worst} ({moved})"
    else:
        said = f"cannot tell ({moved}), would see {_seen(change)}"
    return f"{name} {values}: {said}"


def blind_line(changes: Sequence[Change]) -> str:
    """Why a comparison is no pass: what it would have missed, and what to do."""
    changes = sorted(changes, key=lambda change: -change.visible)
    missed = "; ".join(f"{label_of(c.metric)} {_seen(c, 'not at all', 'only ')}" for c in changes)
    few = min(min(c.runs) for c in changes)
    do = (
        "measure both sides with --repeat 3" if few < 3 else "measure more rounds, or keep runs of more days and starts"
    )
    return f"cannot tell: a slowdown would be seen in {missed}; {do} (or set [regression] blind)"


def _places(changes: Sequence[Change]) -> str:
    points: list[Hashable] = [c.point for c in changes]
    more = f" and {len(points) - MANY} more" if len(points) > MANY else ""
    return ", ".join(map(str, points[:MANY])) + more


def summary_line(comparison: SweepComparison) -> str:
    """How many figures had which answer: `144 figures of 48 points: 3 regressions, 80 not slower, 61 cannot tell`."""
    counts = {verdict: sum(c.verdict == verdict for c in comparison.changes) for verdict, _ in VERDICTS}
    said = [f"{counts[verdict]} {word}{'s' if word in VERDICTS[0] + VERDICTS[1] and counts[verdict] != 1 else ''}"
            for verdict, word in VERDICTS if counts[verdict]]  # fmt: skip
    points = len({c.point for c in comparison.changes})
    return f"{len(comparison.changes)} figures of {points} point{'s' * (points != 1)}: {', '.join(said) or 'none compared'}"


def comparison_lines(comparison: SweepComparison) -> list[str]:
    """What a comparison found, as a list: what changed, what was and was not seen, what else differs, what to do next."""
    lines = [summary_line(comparison)]
    for word, changes in (("regression", comparison.regressions), ("improvement", comparison.improvements)):
        lines += [f"{word}: {change.point or 'sweep'}: {change_line(change)}" for change in changes]
    lines += [f"sweep: {change_line(c)}" for c in comparison.overall if c.verdict in ("same", "unclear")]
    lines += _not_slower(comparison)
    lines += comparison.context
    if comparison.missing:
        lines.append(f"in the baseline but not measured now: {', '.join(map(str, comparison.missing))}")
    if comparison.new:
        lines.append(f"measured but not in the baseline: {', '.join(map(str, comparison.new))}")
    return [f"- {line}" for line in (*lines, *comparison.notes, _next(comparison))]


def _not_slower(comparison: SweepComparison) -> list[str]:
    """A line a figure on the points where nothing was found: how much is ruled out, and what would have been seen."""
    lines = []
    for metric in dict.fromkeys(c.metric for c in comparison.changes):
        of = [c for c in comparison.changes if c.metric == metric]
        same, unclear = [c for c in of if c.verdict == "same"], [c for c in of if c.verdict == "unclear"]
        if same:
            worst = max(same, key=lambda c: c.at_most)
            lines.append(
                f"points: {label_of(metric)} at {len(same)} of {len(of)}: not "
                f"{'lower' if worst.higher_is_better else 'slower'} by more than {_size(_own_way(worst, worst.at_most))}"
            )
        if unclear:
            ends = dict.fromkeys((min(unclear, key=lambda c: c.visible), max(unclear, key=lambda c: c.visible)))
            seen = ", ".join(f"{_seen(c)} at {c.point}" for c in ends)
            lines.append(f"points: {label_of(metric)} at {len(unclear)} of {len(of)}: cannot tell; would see {seen}")
    return lines


def _next(comparison: SweepComparison) -> str:
    if not comparison.changes:
        return "next: nothing could be compared; see the points' own messages, and measure again"
    if comparison.regressions:
        return (
            "next: look at what else differs (above); run again to see whether it stays; if it is wanted, keep this run as "
            "the new baseline with --save-baseline"
        )
    if comparison.blind:
        return f"next: {blind_line(comparison.blind[:1])}"
    if comparison.improvements:
        return "next: if the improvement stays when run again, keep it as the new baseline with --save-baseline"
    return "next: nothing; keep this run beside the baseline's to make the next comparison surer"
