"""The command line's options as data.

One list, so that registering them, overriding a profile by them and documenting them cannot drift apart.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench_tests.sweep.find import between_text, share_text
from bench_tests.sweep.point import Point
from bench_tests.sweep.ramp import parse_ramp
from bench_tests.sweep.slo import parse_goodput, parse_objectives
from bench_tests.sweep.typed import (
    columns,
    engine,
    fraction,
    given,
    header,
    path,
    positive,
    processes,
    seed,
    typed,
    urls,
    whole,
    window,
)
from bench_tests.sweep.units import parse_rate
from bench_tests.sweep.workload import TRACE_FORMATS

__all__ = ["ALSO", "OPTIONS", "Option", "hints"]

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


_TRUE = {"action": "store_true", "default": False}

OPTIONS = (
    Option("--profile", "kimi_k2, minimax_m2.1, demo, or a TOML file of yours; default: the one that server_info.txt names "
           "or whose model the server serves, else demo", {"metavar": "NAME|PATH", "type": typed(path)}),
    Option("--server", "where the server comes from: auto (--base-url, else server_info.txt, else sbatch where the profile "
           "is not demo and Slurm is there, else, for demo alone, the simulated server), attach, slurm, local (vllm serve as "
           "a child) or sim", {"choices": SERVERS, "default": "auto"}),
    Option("--base-url", "attach to this server", {"metavar": "URL", "type": typed(given)}),
    Option("--server-info", "the file that names the server (default: server_info.txt in the repository's root, or "
           "$SERVER_INFO)", {"metavar": "PATH", "type": typed(path)}),
    Option("--results-dir", "where results are kept (default: results/)", {"metavar": "DIR", "type": typed(path)}),
    Option("--point", "exactly this point, in or out of the profile's grid; repeatable",
           {"metavar": "isl2048-osl128-conc16", "action": "append", "type": typed(Point.parse)}),
    Option("--model", "the model as the server serves it, instead of the profile's", {"metavar": "NAME", "type": typed(given)}, "model.id"),
    Option("--tokenizer", "tokenizer for text prompts, instead of the profile's", {"metavar": "NAME|PATH", "type": typed(path)}, "model.tokenizer"),
    Option("--vocab-size", "draw token ids below this, instead of finding out what the server accepts",
           {"metavar": "N", "type": whole(2)}, "model.vocab_size"),
    Option("--prompt-format", "prompts as token ids, or as text of as many tokens (needs the model's tokenizer)",
           {"choices": ("ids", "text")}, "load.prompt_format"),
    Option("--endpoint", "which endpoint is loaded: /v1/completions, or /v1/chat/completions (needs the model's tokenizer)",
           {"choices": ("completions", "chat")}, "load.endpoint"),
    Option("--header", "a further header of each request, its value taken from the environment variable; repeatable",
           {"metavar": "NAME=VARIABLE", "action": "append", "type": typed(header)}),
    Option("--engine", "the engine's name in results, instead of what the server says of itself",
           {"metavar": "NAME", "type": typed(engine)}, "server.engine"),
    Option("--num-prompts", "measured requests a point", {"metavar": "N", "type": whole(1)}, "load.num_prompts"),
    Option("--num-warmups", "requests before the measured ones", {"metavar": "N", "type": whole(0)}, "load.num_warmups"),
    Option("--request-rate", "requests started per second; inf: as the concurrency allows",
           {"metavar": "R", "type": typed(lambda text: parse_rate(text, "value"))}, "load.request_rate"),
    Option("--burstiness", "shape of the gamma gaps between starts: 1 Poisson, below burstier",
           {"metavar": "B", "type": typed(positive)}, "load.burstiness"),
    Option("--ramp", "a rate that changes while a point runs: 1:50/5m climbs from 1 to 50/s in 5 minutes, 1:50/5m/10 in ten steps",
           {"metavar": "LOW:HIGH/TIME", "type": typed(lambda text: str(parse_ramp(text, "value") or ""))}, "workload.ramp"),
    Option("--trace", "replay a recorded trace: its arrivals, lengths and shared content", {"metavar": "FILE"}, "workload.trace"),
    Option("--trace-format", "the trace's format; auto follows its first line", {"choices": TRACE_FORMATS}, "workload.trace_format"),
    Option("--speed", "replay a trace so many times as fast", {"metavar": "X", "type": typed(positive)}, "workload.speed"),
    Option("--window", "the part of a trace that is replayed, of its own time",
           {"metavar": "10m:20m", "type": typed(window)}, "workload.window"),
    Option("--tick-spread", "requests that share a time of a trace: sent together (none), or spread up to its next time",
           {"choices": ("none", "uniform")}, "workload.tick_spread"),
    Option("--dataset", "prompts of a file: ShareGPT's JSON, or JSONL of prompts or messages", {"metavar": "FILE"}, "workload.dataset"),
    Option("--sessions", "conversations of several turns at the profile's numbers of users: synthetic ones ([sessions]), or a file's",
           {"metavar": "FILE|synthetic"}, "workload.sessions"),
    Option("--start", "how a closed loop's streams begin: together (all at one moment), or staggered (spread over a request's duration)",
           {"choices": ("together", "staggered")}, "load.start"),
    Option("--random-range-ratio", "lengths uniform in ISL × (1 ± R), likewise OSL",
           {"metavar": "R", "type": typed(fraction)}, "load.range_ratio"),
    Option("--random-prefix-len", "tokens before the ISL that all prompts share", {"metavar": "N", "type": whole(0)}, "load.prefix_len"),
    Option("--ignore-eos", "generate exactly OSL tokens", {"action": "store_true", "default": None}, "load.ignore_eos"),
    Option("--no-ignore-eos", "let the model end its answers",
           {"action": "store_false", "dest": "bench_ignore_eos", "default": None}),
    Option("--seed", "draw the same prompts again; fresh (the default) draws new ones each session",
           {"metavar": "N", "type": typed(seed)}, "load.seed"),
    Option("--slo", 'objectives of all points instead of the profile\'s: "p99_ttft<=2s,p99_tpot<=50ms", or none',
           {"metavar": "LIST", "type": typed(parse_objectives)}),
    Option("--goodput", 'limits of one request to count as good: "ttft:2s tpot:50ms e2el:10s"',
           {"metavar": "LIST", "type": typed(parse_goodput)}),
    Option("--gpus", "GPUs of a server that was there before, for figures per GPU; without it and without sizes in the profile "
           "they are unknown", {"metavar": "N", "type": whole(1)}, "server.gpus"),
    Option("--server-metrics", "where the server's /metrics are, one URL a replica, if not at its own URL; none: they are not read",
           {"metavar": "URL[,URL]", "type": typed(urls)}, "server.metrics"),
    Option("--server-profile", "bracket each point with the server's /start_profile and /stop_profile", _TRUE, "load.server_profile"),
    Option("--repeat", "measure each point N times, in rounds", {"metavar": "N", "type": whole(1), "default": 1}),
    Option("--restarts", "spread the rounds over N starts of a server that this session starts (--server slurm or local)",
           {"metavar": "N", "type": whole(1), "default": 1}),
    Option("--config", "one of the profile's configurations of the server; repeatable (default: all)",
           {"metavar": "NAME", "action": "append", "type": typed(given)}),
    Option("--parallel-configs", "with --server slurm: measure K configurations side by side, each in a job of its own",
           {"metavar": "K", "type": whole(1), "default": 1}),
    Option("--find", "search for the highest load within the objectives, as an interval, instead of the sweep: one case for each "
           "ISL and OSL", {"choices": ("conc", "rate")}),
    Option("--between", "the loads that a search begins and ends with (default: 1:256, of rates 0.25:64)",
           {"metavar": "LOW:HIGH", "type": typed(between_text)}),
    Option("--within", "how wide a search's interval may be (default: 5%)", {"metavar": "SHARE", "type": typed(share_text)}),
    Option("--attain", "a search's criterion: this share of attempted requests is within all limits of --goodput, instead of "
           "the objectives", {"metavar": "SHARE", "type": typed(share_text)}),
    Option("--min-capacity", "the load that the server has to carry: a search that proves less fails",
           {"metavar": "N", "type": typed(positive)}),
    Option("--budget", "the time that the whole session may take: coarse points first, each by as few requests as settle its "
           "verdict, more where that is too close to call; job: what is left of this Slurm job",
           {"metavar": "2h|job", "type": typed(given)}),
    Option("--resume", "keep points that already have a valid result of the same server and settings", _TRUE),
    Option("--load-processes", "load processes that share one point's load, or auto",
           {"metavar": "N", "type": typed(processes)}, "load.processes"),
    Option("--load-hosts", "spread each point's load over hosts of this Slurm allocation: all, a number, or names",
           {"metavar": "all|N|NAMES", "type": typed(given)}),
    Option("--keep-server", "leave a server that this session started in Slurm running", _TRUE),
    Option("--insecure", "do not verify the server's TLS certificate (recorded in the results)", _TRUE),
    Option("--baseline", "compare with the results in this folder: test_regression.py fails where serving got slower",
           {"metavar": "DIR", "type": typed(path)}),
    Option("--against", "a second live server (B), measured in turn with this session's (A): test_regression.py fails where B is "
           "slower", {"metavar": "URL", "type": typed(given)}),
    Option("--history", "a folder of many nights' sessions: this one is held against the last accepted ones and added; "
           "test_regression.py fails where it is slower, or where a figure has changed for the worse of late",
           {"metavar": "DIR", "type": typed(path)}),
    Option("--save-baseline", "keep this session's valid results there, to be compared with later", {"metavar": "DIR", "type": typed(path)}),
    Option("--allow-different", "compare also with results of another model, engine version, GPU count or settings", _TRUE),
    Option("--summary-md", "append a Markdown summary to this file (also to $GITHUB_STEP_SUMMARY, when it is set)",
           {"metavar": "FILE", "type": typed(path)}),
    Option("--report", "the self-contained HTML report (default: plots/report.html in the results directory)",
           {"metavar": "FILE", "type": typed(path)}),
    Option("--columns", "further columns of the table: goodput, requests (a second), e2el, or any figure of a result",
           {"metavar": "LIST", "type": typed(columns)}),
    Option("--calibrate", "measure this client on this host against the simulated server's truth log, and leave", _TRUE),
    Option("--plot", "draw the pictures from the results directory and leave: no server, no load", _TRUE),
    Option("--no-plot", "do not draw pictures when the sweep ends", _TRUE),
)  # fmt: skip


#: what other clients call a point's axes
_AXES = re.compile(r"--(?:random-)?(?:(?:max-)?concurrency|conc|(?:input|output)-len|isl|osl)")


def hints(args: Sequence[str]) -> dict[str, str]:
    """What is said of flags that nobody has, should pytest refuse them: the option that was meant."""
    known = [option.flag for option in OPTIONS]
    found = {}
    for flag in (arg.partition("=")[0] for arg in args if arg.startswith("--")):
        if flag in known:
            continue
        if _AXES.fullmatch(flag):
            found[flag] = "a point has its lengths and its concurrency in its name: --point isl2048-osl128-conc16"
        elif near := difflib.get_close_matches(flag, known, 1, cutoff=0.8):
            found[flag] = f"did you mean {near[0]}?"
    return found
