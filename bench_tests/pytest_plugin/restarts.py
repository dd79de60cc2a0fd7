"""`--restarts N`: the rounds of a session spread over N starts of its server, which are a unit of the comparison."""

from __future__ import annotations

from bench_tests.errors import UsageError
from bench_tests.measure.point import Sweep
from bench_tests.pytest_plugin.state import Session
from bench_tests.server.attach import look_at
from bench_tests.server.choose import Choice, obtain

__all__ = ["check", "start_of", "to_start"]


def check(state: Session, choice: Choice) -> None:
    """Raise UsageError where the session's server can't be started so often."""
    restarts = int(state.option("--restarts"))
    if restarts == 1:
        return
    if choice.kind == "attach":
        raise UsageError(
            f"--restarts {restarts}: this session attaches to a server that it has not started ({choice.source}); use "
            "--server slurm or local, or leave --restarts out"
        )
    if state.option("--keep-server"):
        raise UsageError(f"--restarts {restarts} and --keep-server: the server is stopped between starts; drop one")
    if restarts > state.runs:
        raise UsageError(f"--restarts {restarts}: there are {state.runs} rounds; use --repeat {restarts} or more")


def start_of(run: int, runs: int, restarts: int) -> int:
    """On which start of the server, from 0, round `run` of `runs` (from 1) is measured; as even as it can be."""
    return (run - 1) * restarts // runs


async def to_start(state: Session, sweep: Sweep, run: int) -> None:
    """Start the server anew where this round is of the next start. Raises ServerError, UsageError."""
    wanted = start_of(run, state.runs, int(state.option("--restarts")))
    if wanted == sweep.start or state.choice is None:
        return
    with state.terminal.uncaptured() as say:
        say(f"starting the server anew: start {wanted + 1} of {state.option('--restarts')}")
        await sweep.served.stop()
        sweep.served = await obtain(state.choice, state.results_dir / "logs", False, say)
        sweep.model = await look_at(sweep.served.endpoint, state.choice.profile.model.id)
    sweep.start = wanted
