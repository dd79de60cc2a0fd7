"""A server that we start: what it is told, when it is ready, and that nothing of it is left, however we end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench_tests.errors import ServerError, UsageError
from bench_tests.server.command import Command, expand, lease_port, serve_command
from bench_tests.server.local import LocalServer
from bench_tests.server.process import ServerProcess, log_tail
from bench_tests.server.served import Endpoint, Served
from bench_tests.server.sim_settings import sim_spec
from bench_tests.server.slurm.near import answers
from bench_tests.sim.simulator import SimSpec
from bench_tests.sim.simulator import _parser as simulator_options
from bench_tests.sweep.profile import Profile, load_profile
from tests.support.processes import alive, wait_for

STUB = Path(__file__).parents[1] / "slurm" / "stub_server.py"
ROOT = Path(__file__).parents[2]
WEIGHTS = {"WEIGHTS_DIR": "/weights"}


def stub_profile(folder: Path, *args: str, model: str = "org/stub", stop: str = "5s", startup: str = "20s") -> Profile:
    path = folder / "stub.toml"
    flags = ", ".join(f'"{arg}"' for arg in args)
    path.write_text(
        f'[model]\nid = "{model}"\n[sweep]\nisl = [16]\nconcurrency = [1]\n[server]\nport = 0\nserve_args = [{flags}]\n'
        f'serve_command = ["{sys.executable}", "{STUB}"]\nstop_timeout = "{stop}"\nstartup_timeout = "{startup}"\n'
    )
    return load_profile(str(path))


def test_the_built_in_profiles_become_their_commands() -> None:
    argv = serve_command(
        load_profile("kimi_k2"), host="0.0.0.0", port=8000, api_key="k", environ={**WEIGHTS, "X": "y"}
    ).argv
    assert argv[:3] == ("vllm", "serve", "moonshotai/Kimi-K2-Thinking")
    line = " ".join(argv)
    for part in (
        "--trust-remote-code",
        "--tensor-parallel-size 8",
        "--max-num-batched-tokens 32768",
        "--tool-call-parser kimi_k2",
        "--reasoning-parser kimi_k2",
        "--download-dir /weights",
        "--host 0.0.0.0 --port 8000",
    ):
        assert part in line
    argv = serve_command(load_profile("minimax_m2.1"), host="h", port=1, api_key=None, environ=WEIGHTS).argv
    assert "--tensor-parallel-size 4" in " ".join(argv)
    assert "--max-num-batched-tokens" not in argv


def test_the_simulated_server_is_the_same_in_a_job_as_in_a_session(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    faults = '["status_500:0.1", "coalesce:4"]'
    path.write_text(f'base = "demo"\n[sim]\nstep_ms = 7.5\nmax_num_seqs = 9\nfaults = {faults}\n')
    for profile in (load_profile("demo"), load_profile(str(path))):
        argv = serve_command(profile, host="127.0.0.1", port=0, api_key="k", environ={}).argv
        assert argv[:3] == ("python", "-m", "bench_tests.server.simulator")
        options = vars(simulator_options().parse_args(argv[3:]))
        said = {name: options[name] for name in SimSpec.__dataclass_fields__ if name in options}
        spec = SimSpec(**said, faults=tuple(options["fault"]))
        assert spec == sim_spec(profile)
        assert spec != SimSpec(), "a profile's engine is not the default one"


def test_the_key_is_in_the_environment_alone() -> None:
    command = serve_command(load_profile("kimi_k2"), host="h", port=1, api_key="s3cret", environ=WEIGHTS)
    assert command.env["VLLM_API_KEY"] == "s3cret"
    assert "s3cret" not in repr(command)
    assert not any("s3cret" in part for part in command.argv)


def test_variables_are_expanded_and_an_unset_one_is_named() -> None:
    assert expand("$A/${B}c$$D", {"A": "1", "B": "2"}, "here") == "1/2c$D"
    with pytest.raises(UsageError, match=r"here.*\$NOT_THERE.*export NOT_THERE="):
        expand("x/$NOT_THERE", {}, "here")
    with pytest.raises(UsageError, match=r"download_dir.*\$WEIGHTS_DIR"):
        serve_command(load_profile("kimi_k2"), host="h", port=1, api_key=None, environ={})
    empty = serve_command(load_profile("kimi_k2"), host="h", port=1, api_key=None, environ={"WEIGHTS_DIR": ""})
    assert "--download-dir" not in empty.argv


def test_parallel_sizes_and_environment(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(
        '[model]\nid = "m"\n[server]\ndata_parallel = 2\npipeline_parallel = 4\ntensor_parallel = 8\n'
        'serve_args = ["--tensor-parallel-size=8"]\n[server.env]\nA = 1\nB = true\nC = "$HOME_X/c"\n'
    )
    command = serve_command(load_profile(str(path)), host="h", port=1, api_key=None, environ={"HOME_X": "/h"})
    assert " ".join(command.argv).count("tensor-parallel-size") == 1
    assert "--data-parallel-size 2 --pipeline-parallel-size 4" in " ".join(command.argv)
    assert command.env == {"A": "1", "B": "1", "C": "/h/c"}
    path.write_text('[model]\nid = "m"\n[server.env]\nA = [1]\n')
    with pytest.raises(UsageError, match=r"server\.env\.A"):
        serve_command(load_profile(str(path)), host="h", port=1, api_key=None, environ={})
    path.write_text("[sweep]\nisl = [1]\n")
    with pytest.raises(UsageError, match=r"model\.id"):
        serve_command(load_profile(str(path)), host="h", port=1, api_key=None, environ={})


def test_a_taken_port_is_left_alone_and_a_leased_one_is_not_given_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        lease = lease_port(port, "127.0.0.1")
        assert lease.port != port
    again = lease_port(lease.port, "127.0.0.1")
    assert again.port != lease.port
    lease.release()
    third = lease_port(lease.port, "127.0.0.1")
    assert third.port == lease.port
    third.release()
    again.release()


def test_start_serve_stop_leaves_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    profile = stub_profile(tmp_path, "--workers", "2", f"--marker={tmp_path}", stop="1s")
    local = asyncio.run(LocalServer.start(profile, tmp_path / "logs", said.append))
    try:
        assert isinstance(local, Served)
        key = local.endpoint.api_key
        assert key
        assert asyncio.run(local.gone()) is None
        assert answers(local.endpoint, "/v1/models") is not None
        assert answers(local.endpoint, "/v1/models")[0] == 200  # type: ignore[index]
        for wrong in (None, "no"):
            reply = answers(Endpoint(local.endpoint.base_url, wrong), "/v1/models")
            assert reply is not None
            assert reply[0] == 401
        shown = repr(local.facts()) + repr(said) + repr(local.endpoint) + (tmp_path / "logs").as_posix()
        assert key not in shown
        for entry in alive(str(tmp_path)):
            assert key not in Path(f"/proc/{entry}/cmdline").read_text()
        workers = alive(f"stub-worker {tmp_path}")
        assert len(workers) == 2
    finally:
        asyncio.run(local.stop())
    asyncio.run(local.stop())
    assert alive(str(tmp_path)) == []
    assert alive(f"stub-worker {tmp_path}") == []
    assert "stopped" in (asyncio.run(local.gone()) or "")
    assert not asyncio.run(local.wait_for_return(said.append))
    assert answers(local.endpoint, "/health", 0.5) is None


def test_two_at_once_have_two_ports_and_two_keys(tmp_path: Path) -> None:
    profile = stub_profile(tmp_path)
    one = asyncio.run(LocalServer.start(profile, tmp_path, lambda _: None))
    try:
        two = asyncio.run(LocalServer.start(profile, tmp_path, lambda _: None))
        asyncio.run(two.stop())
    finally:
        asyncio.run(one.stop())
    assert one.endpoint.base_url != two.endpoint.base_url
    assert one.endpoint.api_key != two.endpoint.api_key


def test_one_that_dies_at_the_start_is_told_with_its_last_lines_and_without_the_key(tmp_path: Path) -> None:
    profile = stub_profile(tmp_path, "--die-before")
    with pytest.raises(ServerError) as told:
        asyncio.run(LocalServer.start(profile, tmp_path, lambda _: None))
    message = str(told.value)
    assert "exit code 3" in message
    assert "CUDA out of memory ***" in message
    assert "loading shard 29" in message
    assert "loading shard 5\n" not in message


def test_one_that_is_not_there_or_not_ready_or_not_ours(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"does not answer after .*startup_timeout"):
        asyncio.run(
            LocalServer.start(stub_profile(tmp_path, "--slow", "60", startup="500ms"), tmp_path, lambda _: None)
        )
    with pytest.raises(ServerError, match="HTTP 401"):
        asyncio.run(LocalServer.start(stub_profile(tmp_path, "--ignore-key"), tmp_path, lambda _: None))
    with pytest.raises(ServerError, match=r"answers without its key \(HTTP 200\).*stopped.*VLLM_API_KEY"):
        asyncio.run(LocalServer.start(stub_profile(tmp_path, "--no-key"), tmp_path, lambda _: None))
    path = tmp_path / "p.toml"
    path.write_text('[model]\nid = "m"\n[server]\nserve_command = ["no-such-program"]\nport = 0\n')
    with pytest.raises(UsageError, match=r"no-such-program.*install"):
        asyncio.run(LocalServer.start(load_profile(str(path)), tmp_path, lambda _: None))
    assert alive(str(tmp_path)) == []


def test_its_death_is_noticed(tmp_path: Path) -> None:
    local = asyncio.run(LocalServer.start(stub_profile(tmp_path, "--die-after", "0.3"), tmp_path, lambda _: None))
    try:
        assert wait_for(lambda: asyncio.run(local.gone()) is not None)
        assert "exit code 4" in (asyncio.run(local.gone()) or "")
    finally:
        asyncio.run(local.stop())


def test_one_that_ignores_term_is_killed(tmp_path: Path) -> None:
    profile = stub_profile(tmp_path, "--ignore-term", f"--marker={tmp_path}", stop="500ms")
    local = asyncio.run(LocalServer.start(profile, tmp_path, lambda _: None))
    began = time.monotonic()
    asyncio.run(local.stop())
    assert time.monotonic() - began > 0.4  # it had its time; that this returns at all says that it was killed
    assert alive(str(tmp_path)) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, "error", "exit"])
def test_however_we_end_nothing_is_left(tmp_path: Path, how: signal.Signals | str) -> None:
    stub_profile(tmp_path, "--workers", "1", f"--marker={tmp_path}", stop="500ms")
    ending = {"error": "raise RuntimeError('internal')", "exit": "sys.exit(0)"}.get(str(how), "time.sleep(60)")
    ours = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import asyncio, sys, time\nfrom pathlib import Path\nfrom bench_tests.server.local import LocalServer\n"
                "from bench_tests.sweep.profile import load_profile\n"
                f"asyncio.run(LocalServer.start(load_profile('{tmp_path}/stub.toml'), Path('{tmp_path}'), lambda _: None))\n"
                f"print('up', flush=True)\n{ending}"
            ),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert ours.stdout is not None
    try:
        assert ours.stdout.readline() == b"up\n"
        if isinstance(how, signal.Signals):
            assert len(alive(f"--marker={tmp_path}")) >= 1
            ours.send_signal(how)
        ours.wait(10)
        assert wait_for(lambda: alive(f"--marker={tmp_path}") == [])
        assert wait_for(lambda: alive(f"stub-worker {tmp_path}") == [])
    finally:
        ours.kill()
        ours.wait()
        ours.stdout.close()


def test_even_a_killed_keeper_leaves_no_server(tmp_path: Path) -> None:
    marker = f"stub-{tmp_path.name}-{os.getpid()}"
    process = ServerProcess(
        [sys.executable, "-c", f"import time; time.sleep(60)  # {marker}"],
        dict(os.environ),
        tmp_path / "log",
        stop_timeout_s=1,
    )
    assert wait_for(lambda: len(alive(marker)) == 2)
    os.kill(process.pid, signal.SIGKILL)
    assert wait_for(lambda: alive(marker) == [])
    assert process.ended() == "was killed by SIGKILL"
    process.stop()


def test_a_log_is_told_by_its_end_and_without_terminal_codes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old\n" * 50000 + b"a 10%\ra 99%\r\n\x1b[31mred\x1b[0m\xff\n\n")
    assert log_tail(log, 2) == "a 99%\n[31mred[0m\ufffd"
    assert log_tail(tmp_path / "none").startswith("(")


def test_a_command_never_shows_its_environment() -> None:
    assert "x9" not in repr(Command(("a",), {"VLLM_API_KEY": "x9"}))
