"""Real proxies before an engine that streams: what gathers the stream is named, what hands it on changes nothing."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from bench_tests.sim.simulator import Simulator
from tests.load.test_loop import make_certificate
from tests.proxies.conftest import Proxy
from tests.support.suite import run_suite

SLO = "p99_ttft<=5s,p99_tpot<=200ms"
STREAMING = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;'
TRIES = 3  # of a comparison of two runs: the machine may be busy during one of them

# what a busy machine breaks is no matter here; whether a stream is gathered does not depend on it
LENIENT = """
base = "demo"
[model]
id = ""
[validity]
max_blur_share = 1.0
max_core_wait = "1s"
max_pause = "20s"
max_client_cpu = 1.0
min_concurrency_share = 0.1
"""


def measured(folder: Path, url: str, point: str = "isl64-osl32-conc4", *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and result of one session against this URL."""
    folder.mkdir(exist_ok=True)
    args = [f"--base-url={url}", "--point", point, "--num-prompts=24", "--num-warmups=4", "--slo", SLO, *options]
    outcome = run_suite(folder, *args, profile=LENIENT)
    (result,) = outcome.results().values()
    return outcome.code, result


def p99_tpot_against_direct(folder: Path, engine: Simulator, url: str) -> float:
    """p99 TPOT through the proxy over that of the engine itself; the median of a few pairs."""
    ratios = []
    for number in range(TRIES):
        code, direct = measured(folder / f"direct{number}", engine.url)
        assert code == 0, direct["messages"]
        code, through = measured(folder / f"through{number}", url)
        assert code == 0, through["messages"]
        assert through["arrival_moments_per_event"] > 0.9
        ratios.append(through["p99_tpot"] / direct["p99_tpot"])
        if abs(ratios[-1] - 1) <= 0.03:
            return ratios[-1]
    return statistics.median(ratios)


def test_haproxy_as_it_comes_gathers_and_is_named(proxy: Proxy, tmp_path: Path) -> None:
    code, result = measured(tmp_path / "run", proxy("haproxy"))
    assert (code, result["verdict"]) == (12, "ERROR")
    assert result["arrival_moments_per_event"] < 1 / 3
    assert any("HAProxy: option http-no-delay" in message for message in result["messages"])


def test_haproxy_without_delay_changes_nothing(proxy: Proxy, engine: Simulator, tmp_path: Path) -> None:
    url = proxy("haproxy", "option http-no-delay")
    assert p99_tpot_against_direct(tmp_path, engine, url) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("settings", ["", STREAMING], ids=["as it comes", "proxy_buffering off"])
def test_nginx_changes_nothing(proxy: Proxy, engine: Simulator, tmp_path: Path, settings: str) -> None:
    """As it comes too: Debian's 1.22 hands on what has come as soon as the engine makes a pause."""
    assert p99_tpot_against_direct(tmp_path, engine, proxy("nginx", settings)) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    "settings, expected", [(STREAMING, "PASSED"), (f"{STREAMING} gzip on; gzip_types text/event-stream;", None)]
)
def test_nginx_with_tls(proxy: Proxy, tmp_path: Path, settings: str, expected: str | None) -> None:
    """TLS hides nothing of it; gzip is not asked for, so none is made."""
    url = proxy("nginx", settings, make_certificate(tmp_path, "IP:127.0.0.1"))
    code, result = measured(tmp_path / "run", url, "isl64-osl32-conc4", "--insecure")
    assert result["completed"] == 24
    if expected:
        assert (code, result["verdict"]) == (0, expected), result["messages"]
