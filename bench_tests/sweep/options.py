"""The command line's options as data, and what they make of a profile.

One list, so that registering them, overriding a profile by them and documenting them cannot drift apart.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.sweep.applies import all_apply
from bench_tests.sweep.find import between_text, share_text
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import Profile
from bench_tests.sweep.ramp import parse_ramp
from bench_tests.sweep.slo import parse_goodput, parse_objectives
from bench_tests.sweep.units import parse_rate
from bench_tests.sweep.workload import TRACE_FORMATS, window_s

__all__ = ["ALSO", "OPTIONS", "Option", "apply_options", "selected_points"]

SERVERS = ("auto", "attach", "slurm", "local", "sim")
#: another name of an option: pytest has a `--trace` without a value, and refuses one behind an equals sign
ALSO = {"--trace": "--trace-file"}


@dataclass(frozen=True)
class Option:
    """One option: its flag, its meaning, and how argparse is to take it."""

    flag: str
    help: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    sets: str = ""  # the profile's key that it overrides, as TABLE.KEY

    @property
    def dest(self) -> str:
        """argparse's name for its value; of our own, so that another plugin's option can have the same flag's name."""
        return str(self.kwargs.get("dest", "bench_" + self.flag.lstrip("-").replace("-", "_")))


def _typed(check: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return check(text)
        except UsageError as why:
            raise argparse.ArgumentTypeError(str(why)) from why

    return parse


def _whole(low: int) -> Callable[[str], Any]:
    def check(text: str) -> int:
        if not text.strip().lstrip("-").isdigit() or int(text) < low:
            raise UsageError(f"{text!r}: expected a whole number of at least {low}")
        return int(text)

    return _typed(check)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise UsageError(f"{text!r}: expected a number from 0 to below 1")
    return value


def _positive(text: str) -> float:
    return _finite(parse_rate(text, "value"), text)


def _finite(value: float, text: str) -> float:
    if not math.isfinite(value):
        raise UsageError(f"{text!r}: expected a finite number above 0")
    return value


def _seed(text: str) -> int | None:
    if text == "fresh":
        return None
    if not text.isdigit() or int(text) >= 2**62:
        raise UsageError(f"{text!r}: expected a whole number from 0 to 2^62, or fresh")
    return int(text)


def _window(text: str) -> str:
    window_s(text, "value")
    return text


def _processes(text: str) -> int:
    if text == "auto":
        return 0
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise UsageError(f"{text!r}: expected a whole number from 1 to 256, or auto")
    return int(text)


def _given(text: str) -> str:
    """A text that is not empty: an empty one is a variable that is missing, and no wish for the default."""
    if not text.strip():
        raise UsageError("it is empty (a variable that is not set?); give a value, or leave the option out")
    return text


def _path(text: str) -> str:
    """A file or folder, `~` as the home folder: a shell leaves that alone behind an equals sign."""
    return os.path.expanduser(_given(text))


def _urls(text: str) -> tuple[str, ...]:
    """`URL[,URL]`, or `none`; what a URL is, the server's side says."""
    urls = tuple(part.strip() for part in _given(text).split(","))
    if not all(urls) or len(set(urls)) < len(urls) or ("none" in urls and len(urls) > 1):
        raise UsageError(f"{text!r}: expected different URLs with commas between them, or none")
    return urls


def _engine(text: str) -> str:
    if not _ENGINE.fullmatch(text):
        raise UsageError(f"{text!r}: expected letters, digits, '.' and '-' (it names result files)")
    return text


def _header(text: str) -> tuple[str, str]:
    name, equals, variable = text.partition("=")
    if not equals or not _HEADER.fullmatch(name) or not _VARIABLE.fullmatch(variable):
        # the text is not shown: it may be the value itself, and so a key
        raise UsageError("expected NAME=VARIABLE: a header's name, and the environment variable that holds its value")
    return name, variable


_ENGINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,31}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TRUE = {"action": "store_true", "default": False}

OPTIONS = (
    Option("--profile", "kimi_k2, minimax_m2.1, demo, or a TOML file of yours; default: the one that server_info.txt names "
           "or whose model the server serves, else demo", {"metavar": "NAME|PATH", "type": _typed(_path)}),
    Option("--server", "where the server comes from: auto (--base-url, else server_info.txt, else sbatch where the profile "
           "is not demo and Slurm is there, else, for demo alone, the simulated server), attach, slurm, local (vllm serve as "
           "a child) or sim", {"choices": SERVERS, "default": "auto"}),
    Option("--base-url", "attach to this server", {"metavar": "URL", "type": _typed(_given)}),
    Option("--server-info", "the file that names the server (default: server_info.txt in the repository's root, or "
           "$SERVER_INFO)", {"metavar": "PATH", "type": _typed(_path)}),
    Option("--results-dir", "where results are kept (default: results/)", {"metavar": "DIR", "type": _typed(_path)}),
    Option("--point", "exactly this point, in or out of the profile's grid; repeatable",
           {"metavar": "isl2048-osl128-conc16", "action": "append", "type": _typed(Point.parse)}),
    Option("--model", "the model as the server serves it, instead of the profile's", {"metavar": "NAME", "type": _typed(_given)}, "model.id"),
    Option("--tokenizer", "tokenizer for text prompts, instead of the profile's", {"metavar": "NAME|PATH", "type": _typed(_path)}, "model.tokenizer"),
    Option("--vocab-size", "draw token ids below this, instead of finding out what the server accepts",
           {"metavar": "N", "type": _whole(2)}, "model.vocab_size"),
    Option("--prompt-format", "prompts as token ids, or as text of as many tokens (needs the model's tokenizer)",
           {"choices": ("ids", "text")}, "load.prompt_format"),
    Option("--endpoint", "which endpoint is loaded: /v1/completions, or /v1/chat/completions (needs the model's tokenizer)",
           {"choices": ("completions", "chat")}, "load.endpoint"),
    Option("--header", "a further header of each request, its value taken from the environment variable; repeatable",
           {"metavar": "NAME=VARIABLE", "action": "append", "type": _typed(_header)}),
    Option("--engine", "the engine's name in results, instead of what the server says of itself",
           {"metavar": "NAME", "type": _typed(_engine)}, "server.engine"),
    Option("--num-prompts", "measured requests a point", {"metavar": "N", "type": _whole(1)}, "load.num_prompts"),
    Option("--num-warmups", "requests before the measured ones", {"metavar": "N", "type": _whole(0)}, "load.num_warmups"),
    Option("--request-rate", "requests started per second; inf: as the concurrency allows",
           {"metavar": "R", "type": _typed(lambda text: parse_rate(text, "value"))}, "load.request_rate"),
    Option("--burstiness", "shape of the gamma gaps between starts: 1 Poisson, below burstier",
           {"metavar": "B", "type": _typed(_positive)}, "load.burstiness"),
    Option("--ramp", "a rate that changes while a point runs: 1:50/5m climbs from 1 to 50/s in 5 minutes, 1:50/5m/10 in ten steps",
           {"metavar": "LOW:HIGH/TIME", "type": _typed(lambda text: str(parse_ramp(text, "value") or ""))}, "workload.ramp"),
    Option("--trace", "replay a recorded trace: its arrivals, lengths and shared content", {"metavar": "FILE"}, "workload.trace"),
    Option("--trace-format", "the trace's format; auto follows its first line", {"choices": TRACE_FORMATS}, "workload.trace_format"),
    Option("--speed", "replay a trace so many times as fast", {"metavar": "X", "type": _typed(_positive)}, "workload.speed"),
    Option("--window", "the part of a trace that is replayed, of its own time",
           {"metavar": "10m:20m", "type": _typed(_window)}, "workload.window"),
    Option("--tick-spread", "requests that share a time of a trace: sent together (none), or spread up to its next time",
           {"choices": ("none", "uniform")}, "workload.tick_spread"),
    Option("--dataset", "prompts of a file: ShareGPT's JSON, or JSONL of prompts or messages", {"metavar": "FILE"}, "workload.dataset"),
    Option("--sessions", "conversations of several turns at the profile's numbers of users: synthetic ones ([sessions]), or a file's",
           {"metavar": "FILE|synthetic"}, "workload.sessions"),
    Option("--start", "how a closed loop's streams begin: together (all at one moment), or staggered (spread over a request's duration)",
           {"choices": ("together", "staggered")}, "load.start"),
    Option("--random-range-ratio", "lengths uniform in ISL × (1 ± R), likewise OSL",
           {"metavar": "R", "type": _typed(_fraction)}, "load.range_ratio"),
    Option("--random-prefix-len", "tokens before the ISL that all prompts share", {"metavar": "N", "type": _whole(0)}, "load.prefix_len"),
    Option("--ignore-eos", "generate exactly OSL tokens", {"action": "store_true", "default": None}, "load.ignore_eos"),
    Option("--no-ignore-eos", "let the model end its answers",
           {"action": "store_false", "dest": "bench_ignore_eos", "default": None}),
    Option("--seed", "draw the same prompts again; fresh (the default) draws new ones each session",
           {"metavar": "N", "type": _typed(_seed)}, "load.seed"),
    Option("--slo", 'objectives of all points instead of the profile\'s: "p99_ttft<=2s,p99_tpot<=50ms", or none',
           {"metavar": "LIST", "type": _typed(parse_objectives)}),
    Option("--goodput", 'limits of one request to count as good: "ttft:2s tpot:50ms e2el:10s"',
           {"metavar": "LIST", "type": _typed(parse_goodput)}),
    Option("--gpus", "GPUs of a server that was there before, for figures per GPU; without it and without sizes in the profile "
           "they are unknown", {"metavar": "N", "type": _whole(1)}, "server.gpus"),
    Option("--server-metrics", "where the server's /metrics are, one URL a replica, if not at its own URL; none: they are not read",
           {"metavar": "URL[,URL]", "type": _typed(_urls)}, "server.metrics"),
    Option("--server-profile", "bracket each point with the server's /start_profile and /stop_profile", _TRUE, "load.server_profile"),
    Option("--repeat", "measure each point N times, in rounds", {"metavar": "N", "type": _whole(1), "default": 1}),
    Option("--restarts", "spread the rounds over N starts of a server that this session starts (--server slurm or local)",
           {"metavar": "N", "type": _whole(1), "default": 1}),
    Option("--find", "search for the highest load within the objectives, as an interval, instead of the sweep: one case for each "
           "ISL and OSL", {"choices": ("conc", "rate")}),
    Option("--between", "the loads that a search begins and ends with (default: 1:256, of rates 0.25:64)",
           {"metavar": "LOW:HIGH", "type": _typed(between_text)}),
    Option("--within", "how wide a search's interval may be (default: 5%)", {"metavar": "SHARE", "type": _typed(share_text)}),
    Option("--attain", "a search's criterion: this share of attempted requests is within all limits of --goodput, instead of "
           "the objectives", {"metavar": "SHARE", "type": _typed(share_text)}),
    Option("--min-capacity", "the load that the server has to carry: a search that proves less fails",
           {"metavar": "N", "type": _typed(_positive)}),
    Option("--resume", "keep points that already have a valid result of the same server and settings", _TRUE),
    Option("--load-processes", "load processes that share one point's load, or auto",
           {"metavar": "N", "type": _typed(_processes)}, "load.processes"),
    Option("--load-hosts", "spread each point's load over hosts of this Slurm allocation: all, a number, or names",
           {"metavar": "all|N|NAMES", "type": _typed(_given)}),
    Option("--keep-server", "leave a server that this session started in Slurm running", _TRUE),
    Option("--insecure", "do not verify the server's TLS certificate (recorded in the results)", _TRUE),
    Option("--baseline", "compare with the results in this folder: test_regression.py fails where serving got slower",
           {"metavar": "DIR", "type": _typed(_path)}),
    Option("--against", "a second live server (B), measured in turn with this session's (A): test_regression.py fails where B is "
           "slower", {"metavar": "URL", "type": _typed(_given)}),
    Option("--history", "a folder of many nights' sessions: this one is held against the last accepted ones and added; "
           "test_regression.py fails where it is slower, or where a figure has changed for the worse of late",
           {"metavar": "DIR", "type": _typed(_path)}),
    Option("--save-baseline", "keep this session's valid results there, to be compared with later", {"metavar": "DIR", "type": _typed(_path)}),
    Option("--allow-different", "compare also with results of another model, engine version, GPU count or settings", _TRUE),
    Option("--summary-md", "append a Markdown summary to this file (also to $GITHUB_STEP_SUMMARY, when it is set)",
           {"metavar": "FILE", "type": _typed(_path)}),
    Option("--report", "the self-contained HTML report (default: plots/report.html in the results directory)",
           {"metavar": "FILE", "type": _typed(_path)}),
    Option("--calibrate", "measure this client on this host against the simulated server's truth log, and leave", _TRUE),
    Option("--plot", "draw the pictures from the results directory and leave: no server, no load", _TRUE),
    Option("--no-plot", "do not draw pictures when the sweep ends", _TRUE),
)  # fmt: skip


def apply_options(profile: Profile, option: Callable[[str], Any]) -> Profile:
    """The profile as the command line overrides it; `option` gives the value of a flag, None where it was not given."""
    tables: dict[str, dict[str, Any]] = {}
    for one in OPTIONS:
        value = option(one.flag) if one.sets else None
        if value not in (None, "", one.kwargs.get("default")):
            table, _, key = one.sets.partition(".")
            tables.setdefault(table, {})[key] = value
    changed: dict[str, Any] = {name: replace(getattr(profile, name), **keys) for name, keys in tables.items()}
    profile = replace(profile, **changed, load_of_file=profile.load)
    if option("--slo") is not None:
        profile = replace(profile, slo=replace(profile.slo, limits_s=option("--slo"), overrides=()))
    if option("--goodput") is not None:
        profile = replace(profile, goodput=option("--goodput"))
    return profile


def _of_users(profile: Profile, points: list[Point]) -> list[Point]:
    """The points of --point as points of sessions. Raises UsageError."""
    found = [
        replace(point, workload=profile.workload.of_users(point.users)) if point.users else point for point in points
    ]
    for number, point in enumerate(found):
        if not point.users:
            raise UsageError(f"--point {point}: sessions have users and lengths of their own; use e.g. --point users32")
        if point in found[:number]:
            raise UsageError(f"--point {point} is given twice; keep one")
    return found


def selected_points(profile: Profile, points: list[Point] | None) -> list[Point]:
    """The points of --point, else the profile's. Raises UsageError for one that is named twice, or none at all."""
    all_apply(profile, points)
    if not points:
        found = profile.points
        if not found:
            keys = (
                "sweep.users, or use --point users32"
                if profile.workload.sessions
                else "sweep.isl and sweep.concurrency, or use --point"
            )
            raise UsageError(f"{profile.source}: it has no points; set {keys}")
        return found
    if profile.workload.sessions:
        return _of_users(profile, points)
    if profile.workload.trace or profile.workload.dataset:
        raise UsageError(f"--point {points[0]}: {profile.workload.name} has lengths of its own; leave out --point")
    if profile.workload.ramp:  # a concurrency of the point is a cap then
        points = [replace(point, rate=0.0, workload=profile.workload.name) for point in points]
    for number, point in enumerate(points):
        if point in points[:number]:
            raise UsageError(f"--point {point} is given twice; keep one")
    return points
