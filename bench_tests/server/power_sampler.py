"""Writes the energy counter and the power of this host's GPUs to a file, twice a second: `python -I power_sampler.py OUT`.

Runs beside a server, in its job or on its host, with the standard library and the driver's libnvidia-ml alone. `{host}` in
OUT is this host's name. The first line says the GPUs: {"host", "gpus": [{"index", "uuid", "name"}]}; each further one is
{"unix_s", "gpus": [[index, mJ since the driver was loaded, mW]]}, null for what a GPU does not tell; {"error"} says why there
is none. Ends with TERM, or with whoever started it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import socket
import sys
import time
from typing import Any

_PR_SET_PDEATHSIG = 1
_EVERY_S = 0.5


class Nvml:
    """The few calls of the driver's library that are needed. Raises OSError where it is not there or refuses."""

    def __init__(self, library: str) -> None:
        self._lib = ctypes.CDLL(library)
        self._call("nvmlInit_v2")
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        self.handles: dict[int, ctypes.c_void_p] = {}
        for index in range(count.value):
            handle = ctypes.c_void_p()
            self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
            self.handles[index] = handle

    def _call(self, name: str, *args: Any) -> None:
        code = getattr(self._lib, name)(*args)
        if code:
            raise OSError(f"{name}: NVML's error {code}")

    def words(self, name: str, index: int) -> str:
        """A text of a GPU: nvmlDeviceGetUUID, nvmlDeviceGetName."""
        said = ctypes.create_string_buffer(96)
        self._call(name, self.handles[index], said, ctypes.c_uint(96))
        return said.value.decode("utf-8", "replace")

    def reading(self, index: int) -> tuple[int | None, int | None]:
        """mJ since the driver was loaded, mW; None for what this GPU does not tell."""
        energy, power = ctypes.c_ulonglong(), ctypes.c_uint()
        found: list[int | None] = []
        for name, value in (
            ("nvmlDeviceGetTotalEnergyConsumption", energy),
            ("nvmlDeviceGetPowerUsage", power),
        ):
            try:
                self._call(name, self.handles[index], ctypes.byref(value))
                found.append(int(value.value))
            except (OSError, AttributeError):
                found.append(None)
        return found[0], found[1]


def _write(out: int, line: dict[str, Any]) -> None:
    os.write(out, json.dumps(line).encode() + b"\n")
    os.fsync(out)  # a reader on another host sees it


def main(argv: list[str] | None = None) -> int:
    """Sample until TERM. Exit status 1 where there is no NVML."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--every", type=float, default=_EVERY_S)
    parser.add_argument("--library", default="libnvidia-ml.so.1")
    options = parser.parse_args(argv)
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: stopping.append(got))
    parent = os.getppid()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    out = os.open(options.out.replace("{host}", host), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        nvml = Nvml(options.library)
        gpus = [
            {"index": i, "uuid": nvml.words("nvmlDeviceGetUUID", i), "name": nvml.words("nvmlDeviceGetName", i)}
            for i in nvml.handles
        ]
    except (OSError, AttributeError) as why:
        _write(out, {"error": f"{host}: no NVML here: {why}"})
        return 1
    _write(out, {"host": host, "gpus": gpus})
    due = time.monotonic()
    while not stopping and os.getppid() == parent:
        before = time.time()
        readings = [[index, *nvml.reading(index)] for index in nvml.handles]
        _write(out, {"unix_s": (before + time.time()) / 2, "gpus": readings})
        due = max(due + options.every, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
