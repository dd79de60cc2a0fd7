"""What a profile says of power and money: where a GPU's energy is read, and what an hour of it costs."""

from __future__ import annotations

from dataclasses import dataclass

from bench_tests.sweep.keys import key, list_of, maybe, number, one_of, text, whole

__all__ = ["Cost", "Power"]


@dataclass(frozen=True)
class Power:
    source: str = key(
        one_of("none", "nvml", "dcgm", "csv"),
        "none",
        "where the GPUs' energy is read: nvml (in the server's job, or on this host), dcgm (its exporter), csv (nvidia-smi's "
        "file); none: nowhere",
    )
    urls: tuple[str, ...] = key(list_of(text, unique=True), (), "dcgm: URLs of the exporters, such as http://gpu1:9400")
    file: str = key(
        maybe, "", "csv: the file that `nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv -l 1` writes"
    )
    gpus: tuple[int, ...] = key(
        list_of(whole(0), unique=True),
        (),
        "which of a host's GPUs are the server's, by index; empty: all that are seen",
    )


@dataclass(frozen=True)
class Cost:
    gpu_hour: float = key(number(0), 0.0, "price of a GPU for an hour; 0: no costs are computed")
    currency: str = key(text, "USD", "its currency, as results and tables show it")
