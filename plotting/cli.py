"""The command line: `python -m plotting` and `python -m plotting compare`. Exit code 0, or 4 with one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench_tests.compare.sessions import read_latest
from bench_tests.errors import UsageError
from bench_tests.figures import key_of
from bench_tests.results.schema import Objective, PointResult, Results, parse_objectives
from plotting.options import SUFFIXES, Parser, compare_parser, draw_parser, export_parser

__all__ = ["compare_parser", "draw_parser", "export_parser", "main", "parse_slo", "parse_tiers"]

_MOST_NAMED = 20  # files left out that are named one by one


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 4 for wrong usage and for nothing to draw."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["compare"]:
            _compare(compare_parser().parse_args(given[1:]))
        elif given[:1] == ["history"]:
            from plotting.history_cli import history_command

            history_command(
                given[1:], Parser(prog="python -m plotting history", description="Draw or accept a history.")
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


def _suffix(path: Path, option: str, known: Sequence[str] = SUFFIXES) -> None:
    if path.suffix.lower() not in known:
        raise UsageError(f"{option} {path}: expected a file name that ends in {' or '.join(known)}")


def _export(options: argparse.Namespace) -> None:
    from plotting.export import export_vllm
    from plotting.export_others import export_inferencex, export_llm_d

    options.slo = None
    results = _read(options.results_dir, options)
    write = {"inferencex": export_inferencex, "llm-d": export_llm_d, "vllm": export_vllm}[options.format]
    _say(write(results.points, options.output_dir), [results], [])


def _draw(options: argparse.Namespace) -> None:
    from plotting import draw

    if not (options.output or options.all or options.report or options.export or options.table):
        raise UsageError(
            "nothing to do: give --output FILE.png, --all, --report FILE.html, --table md or --export vllm"
        )
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
    if options.table:
        from plotting.table import sweep_and_decision

        print(sweep_and_decision(results, options.table, tiers))
    _say(files, [results], notes, aside=bool(options.table))


def _compare(options: argparse.Namespace) -> None:
    from plotting import style
    from plotting.compare import compare_data
    from plotting.compare_draw import draw_compare

    if options.config:
        if len(options.folders) != 1 or len(options.config) < 2:
            raise UsageError(
                "compare --config: one folder and two configurations or more were expected, the first is the base"
            )
    elif len(options.folders) < 2:
        raise UsageError(f"compare {options.folders[0]}: two folders or more were expected, the first is the base")
    if not 0 <= options.threshold < 1000:
        raise UsageError(f"--threshold {options.threshold:g}: expected a share in percent, as in --threshold 5")
    _suffix(options.output, "--output")
    if options.report:
        _suffix(options.report, "--report", (".html", ".htm"))
    runs = [_read(folder, options) for folder in options.folders]
    if options.config:
        from plotting.draw_configs import of_configs

        runs = of_configs(runs[0], options.config)
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
    if options.table:
        from plotting.table import compare_table

        print(compare_table(data, options.table))
    _say(files, runs, notes, aside=bool(options.table))


def _say(files: Sequence[Path], runs: Sequence[Results], notes: Sequence[str], *, aside: bool = False) -> None:
    """`aside`: standard output holds a table, so that the files are named on standard error."""
    for path in files:
        print(path, file=sys.stderr if aside else sys.stdout)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    for run in runs:
        print(f"{run.folder}: {run.count}", file=sys.stderr)
    left_out = [left for run in runs for left in run.left_out]
    for left in left_out[:_MOST_NAMED]:
        print(f"left out: {left.path}: {left.reason}", file=sys.stderr)
    if len(left_out) > _MOST_NAMED:
        print(f"left out: {len(left_out) - _MOST_NAMED} files more", file=sys.stderr)
