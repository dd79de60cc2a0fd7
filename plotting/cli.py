"""The command line: `python -m plotting` and `python -m plotting compare`. Exit code 0, or 4 with one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from bench_tests.compare.sessions import read_latest
from bench_tests.errors import UsageError
from bench_tests.figures import key_of
from bench_tests.results.schema import Objective, PointResult, Results, parse_objectives

__all__ = ["compare_parser", "draw_parser", "export_parser", "main", "parse_slo", "parse_tiers"]

_SUFFIXES = (".png", ".svg", ".pdf")
_MOST_NAMED = 20  # files left out that are named one by one


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 4 for wrong usage and for nothing to draw."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["compare"]:
            _compare(compare_parser().parse_args(given[1:]))
        elif given[:1] == ["history"]:
            from plotting.history_cli import history_command

            history_command(
                given[1:], _Parser(prog="python -m plotting history", description="Draw or accept a history.")
            )
        elif given[:1] == ["export"]:
            _export(export_parser().parse_args(given[1:]))
        else:
            _draw(draw_parser().parse_args(given))
    except UsageError as why:
        print(f"python -m plotting: {why}", file=sys.stderr)
        return 4
    except OSError as why:
        print(f"python -m plotting: {why.filename}: {why.strerror}; name a place that can be written", file=sys.stderr)
        return 4
    return 0


def draw_parser() -> argparse.ArgumentParser:
    """The options of `python -m plotting`."""
    parser = _Parser(
        prog="python -m plotting",
        description="Draw the pictures of a folder of benchmark results.",
        epilog="`python -m plotting compare A B ...` compares folders.",
    )
    parser.add_argument(
        "--results-dir",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder of result files, searched with its subfolders (default: results)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="SLA frontier into FILE.png (or .svg, .pdf), throughput lines into FILE-lines.png",
    )
    parser.add_argument("--all", action="store_true", help="every picture that the results allow, into --output-dir")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="where --all and --export write")
    parser.add_argument("--format", choices=[s[1:] for s in _SUFFIXES], default="png", help="of --all (default: png)")
    parser.add_argument(
        "--point",
        action="append",
        default=[],
        metavar="isl2048-osl128-conc16",
        help="with --all: distribution and timeline of this point only (repeatable)",
    )
    _shared(parser)
    parser.add_argument("--tiers-ttft", metavar="1,2,3", help="tiers of the frontier, p99 TTFT in seconds")
    parser.add_argument("--tiers-tpot", metavar="20,35", help="tiers of the frontier, p99 TPOT in milliseconds")
    parser.add_argument("--export", choices=["vllm"], help="write what `vllm bench sweep plot` and `plot_pareto` read")
    return parser


def compare_parser() -> argparse.ArgumentParser:
    """The options of `python -m plotting compare`."""
    parser = _Parser(prog="python -m plotting compare", description="Compare runs point by point with the first one.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="result folders; the first is the base")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("compare.png"),
        metavar="FILE",
        help="the picture, .png, .svg or .pdf (default: compare.png)",
    )
    parser.add_argument(
        "--threshold", type=float, default=5.0, metavar="PERCENT", help="changes below this are not marked (default: 5)"
    )
    parser.add_argument(
        "--any-load",
        action="store_true",
        help="match points whatever else sets their loads apart, such as how streams begin",
    )
    _shared(parser)
    return parser


def _shared(parser: _Parser) -> None:
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="also write the report, one self-contained file"
    )
    parser.add_argument("--gpus", type=int, metavar="N", help="number of GPUs where a file does not say")
    parser.add_argument("--slo", metavar="'p99_ttft<=2s,p99_tpot<=50ms'", help="judge results that hold no verdict")
    parser.add_argument(
        "--source", default="", metavar="TEXT", help="added to each caption: where the results are from"
    )


def parse_tiers(text: str | None, option: str, unit_s: float) -> tuple[float, ...]:
    """`1,2,3` in units of `unit_s` seconds. Raises UsageError for anything but positive numbers."""
    if text is None:
        return ()
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (0.0,)
    if not all(0 < value < 1e6 for value in values) or len(values) > 12:
        raise UsageError(f"{option} {text}: up to 12 positive numbers were expected, as in {option} 1,2,5")
    return tuple(sorted({value * unit_s for value in values}))


def parse_slo(text: str) -> tuple[Objective, ...]:
    """`p99_ttft<=2s,p99_tpot<=50ms`, as pytest's --slo reads it. Raises UsageError with the accepted form."""
    return tuple(Objective(key_of(metric), limit_s) for metric, limit_s in parse_objectives(text).items())


def _read(folder: Path, options: argparse.Namespace) -> Results:
    from plotting.draw import with_points

    if options.gpus is not None and options.gpus < 1:
        raise UsageError(f"--gpus {options.gpus}: expected a number of at least 1")
    objectives = parse_slo(options.slo) if options.slo else ()
    results = with_points(read_latest(folder))
    lacking = sorted({o.metric for o in objectives if not any(o.metric in p.metrics for p in results.points)})
    if lacking:
        raise UsageError(f"--slo {', '.join(lacking)}: no result in {folder} holds it; name a figure that results have")
    return replace(results, points=tuple(_completed(p, options.gpus, objectives) for p in results.points))


def _completed(point: PointResult, gpus: int | None, objectives: tuple[Objective, ...]) -> PointResult:
    """What the user says about results that do not say it themselves."""
    if gpus and point.gpus is None:
        point = replace(point, gpus=gpus)
    if objectives and point.verdict is None and point.measured:
        values = [point.metrics.get(o.metric) for o in objectives]
        if all(value is not None for value in values):
            within = all(v <= o.limit_s for v, o in zip(values, objectives, strict=True) if v is not None)
            point = replace(point, verdict="PASSED" if within else "FAILED", slo=objectives)
    return point


def _suffix(path: Path, option: str, known: Sequence[str] = _SUFFIXES) -> None:
    if path.suffix.lower() not in known:
        raise UsageError(f"{option} {path}: expected a file name that ends in {' or '.join(known)}")


def export_parser() -> argparse.ArgumentParser:
    """The options of `python -m plotting export`."""
    parser = _Parser(prog="python -m plotting export", description="Write results in another tool's format.")
    parser.add_argument("--format", required=True, choices=("inferencex", "llm-d", "vllm"), help="whose format")
    parser.add_argument(
        "--results-dir", type=Path, default=Path("results"), metavar="DIR", help="folder of result files"
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="where they are written")
    parser.add_argument("--gpus", type=int, metavar="N", help="GPUs of results that do not say")
    return parser


def _export(options: argparse.Namespace) -> None:
    from plotting.export import export_vllm
    from plotting.export_others import export_inferencex, export_llm_d

    options.slo = None
    results = _read(options.results_dir, options)
    write = {"inferencex": export_inferencex, "llm-d": export_llm_d, "vllm": export_vllm}[options.format]
    _say(write(results.points, options.output_dir), [results], [])


def _draw(options: argparse.Namespace) -> None:
    from plotting import draw

    if not (options.output or options.all or options.report or options.export):
        raise UsageError("nothing to do: give --output FILE.png, --all, --report FILE.html or --export vllm")
    if (options.all or options.export) and options.output_dir is None:
        raise UsageError("--output-dir is missing: name the folder that --all or --export writes into")
    if options.output:
        _suffix(options.output, "--output")
    if options.report:
        _suffix(options.report, "--report", (".html", ".htm"))
    tiers = {
        "ttft": parse_tiers(options.tiers_ttft, "--tiers-ttft", 1.0),
        "tpot": parse_tiers(options.tiers_tpot, "--tiers-tpot", 0.001),
    }
    results = _read(options.results_dir, options)
    files: list[Path] = []
    notes: list[str] = []
    if options.output:
        pair = draw.draw_pair(results, options.output, tiers, options.source)
        files += pair.files
        notes += pair.notes
    if options.all:
        every = draw.draw_results(
            results, options.output_dir, tiers, options.source, f".{options.format}", options.point
        )
        files += every.files
        notes += every.notes
    if options.export:
        from plotting.export import export_vllm

        written = export_vllm(results.points, options.output_dir)
        print(f"{options.output_dir}: {len(written)} summary.json files for `vllm bench sweep plot`")
    if options.report:
        from plotting.report import write_report

        files.append(write_report([results], options.report, tiers=tiers, source=options.source))
    _say(files, [results], notes)


def _compare(options: argparse.Namespace) -> None:
    from plotting import style
    from plotting.compare import compare_data
    from plotting.compare_draw import draw_compare

    if len(options.folders) < 2:
        raise UsageError(f"compare {options.folders[0]}: two folders or more were expected, the first is the base")
    if not 0 <= options.threshold < 1000:
        raise UsageError(f"--threshold {options.threshold:g}: expected a share in percent, as in --threshold 5")
    _suffix(options.output, "--output")
    if options.report:
        _suffix(options.report, "--report", (".html", ".htm"))
    runs = [_read(folder, options) for folder in options.folders]
    data = compare_data(runs[0], runs[1:], options.threshold / 100, any_load=options.any_load)
    if not data.ratios:
        raise UsageError(
            f"compare {options.folders[0]}: no point of the same load (ISL, OSL, conc, rate) is in both it and another folder; --any-load matches "
            "points whose loads differ in something else"
        )
    files = [style.save(draw_compare(data, source=options.source), options.output)]
    if options.report:
        from plotting.report import write_report

        share = options.threshold / 100
        files.append(
            write_report(runs, options.report, source=options.source, threshold=share, any_load=options.any_load)
        )
    worse = sum(ratio.state in ("worse", "worse?") for ratio in data.ratios)
    notes = [
        (
            f"{len(data.points)} points compared, {data.unmatched} in one run alone; {data.regressions} figures worse, "
            f"{worse - data.regressions} worse without an interval to test with"
        )
    ]
    _say(files, runs, notes)


def _say(files: Sequence[Path], runs: Sequence[Results], notes: Sequence[str]) -> None:
    for path in files:
        print(path)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    for run in runs:
        print(f"{run.folder}: {run.count}", file=sys.stderr)
    left_out = [left for run in runs for left in run.left_out]
    for left in left_out[:_MOST_NAMED]:
        print(f"left out: {left.path}: {left.reason}", file=sys.stderr)
    if len(left_out) > _MOST_NAMED:
        print(f"left out: {len(left_out) - _MOST_NAMED} files more", file=sys.stderr)
