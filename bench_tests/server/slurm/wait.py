"""`python -m bench_tests.server.wait`: waits until the server of server_info.txt answers, for scripts.

Knows server_info.txt and the errors.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench_tests.errors import BenchError, ServerError
from bench_tests.server.info import default_server_info, read_server_info
from bench_tests.server.served import Endpoint, Say
from bench_tests.server.slurm.near import answers

__all__ = ["main", "wait_for_server"]

_POLL_S = 1.0
_SAY_EVERY_S = 60.0


def wait_for_server(path: Path, timeout_s: float, say: Say) -> None:
    """Return when the server that the file names answers /health. Raises ServerError when the time is over."""
    began, told, told_at = time.monotonic(), "", 0.0
    while True:
        now = time.monotonic()
        if not path.exists():
            words = f"waiting for {path}"
        else:
            info = read_server_info(path)
            reply = answers(Endpoint(info.url, info.api_key), "/health")
            if reply is not None and reply[0] == 200:
                say(f"{info.model or 'a server'} answers at {info.url}")
                return
            words = f"{info.url} of {path} does not answer yet (job {info.job_id or 'unknown'})"
        if now - began > timeout_s:
            raise ServerError(f"{words}, for {now - began:.0f} s; is its job running? See `squeue` and its log")
        if words != told or now - told_at > _SAY_EVERY_S:
            told, told_at = words, now
            say(words)
        time.sleep(_POLL_S)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when it answers, 4 for an unreadable file, 13 when the time is over."""
    parser = argparse.ArgumentParser(prog="python -m bench_tests.server.wait", description=main.__doc__)
    parser.add_argument("--server-info", type=Path, default=default_server_info(), metavar="PATH")
    parser.add_argument("--timeout", type=float, default=4 * 3600.0, metavar="SECONDS")
    options = parser.parse_args(argv)
    try:
        wait_for_server(
            options.server_info.absolute(), options.timeout, lambda text: print(f"wait: {text}", flush=True)
        )
    except BenchError as why:
        print(f"wait: {why}", file=sys.stderr)
        return 13 if isinstance(why, ServerError) else 4
    return 0
