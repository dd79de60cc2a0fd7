"""Two sweeps against one server: the second is told, and whatever ends the first frees the server."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench_tests.server.lock import ServerLock

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract sockets are Linux's")


def test_a_second_sweep_of_one_server_is_found_by_whichever_name() -> None:
    first = ServerLock("http://localhost:64999")
    assert first.take()
    for other in ("http://localhost:64999", "http://127.0.0.1:64999/", "http://[::1]:64999"):
        assert not ServerLock(other).take()
    for another in ("http://localhost:64998", "http://localhost:64999/model-b", "http://gpu1:64999"):
        lock = ServerLock(another)
        assert lock.take()
        lock.release()
    first.release()
    assert first.take()
    first.release()


def test_it_ends_with_the_process() -> None:
    code = "from bench_tests.server.lock import ServerLock; assert ServerLock('http://localhost:64997').take()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    lock = ServerLock("http://localhost:64997")
    assert lock.take()
    lock.release()
