"""The options of `python -m plotting` and its commands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from bench_tests.errors import UsageError

__all__ = ["SUFFIXES", "Parser", "compare_parser", "draw_parser", "export_parser"]

SUFFIXES = (".png", ".svg", ".pdf")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def draw_parser() -> argparse.ArgumentParser:
    """The options of `python -m plotting`."""
    parser = Parser(
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
    parser.add_argument("--format", choices=[s[1:] for s in SUFFIXES], default="png", help="of --all (default: png)")
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
    parser = Parser(prog="python -m plotting compare", description="Compare runs point by point with the first one.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="result folders; the first is the base")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("compare.png"),
        metavar="FILE",
        help="the picture, .png, .svg or .pdf (default: compare.png)",
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="NAME",
        help="of one folder: compare its configurations, the first is the base (repeatable)",
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


def _shared(parser: Parser) -> None:
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="also write the report, one self-contained file"
    )
    parser.add_argument("--table", choices=["md", "csv"], help="print a table, Markdown or CSV, to standard output")
    parser.add_argument("--gpus", type=int, metavar="N", help="number of GPUs where a file does not say")
    parser.add_argument("--slo", metavar="'p99_ttft<=2s,p99_tpot<=50ms'", help="judge results that hold no verdict")
    parser.add_argument(
        "--source", default="", metavar="TEXT", help="added to each caption: where the results are from"
    )


def export_parser() -> argparse.ArgumentParser:
    """The options of `python -m plotting export`."""
    parser = Parser(prog="python -m plotting export", description="Write results in another tool's format.")
    parser.add_argument("--format", required=True, choices=("inferencex", "llm-d", "vllm"), help="whose format")
    parser.add_argument(
        "--results-dir", type=Path, default=Path("results"), metavar="DIR", help="folder of result files"
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="where they are written")
    parser.add_argument("--gpus", type=int, metavar="N", help="GPUs of results that do not say")
    return parser
