"""Samples of power and energy as their sources write them: our sampler, nvidia-smi, DCGM's exporter."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

__all__ = ["Samples", "read_csv", "read_dcgm", "read_sampler"]

Row = tuple[float, float, float]  # Unix seconds, joules since any zero, watts; NaN for what is not told
_TIMES = ("%Y/%m/%d %H:%M:%S.%f", "%Y/%m/%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S")
_LINE = re.compile(r"(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION|DCGM_FI_DEV_POWER_USAGE)\{(.*)\}\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass
class Samples:
    """By GPU its rows in the order of the file; and what in it could not be read, in words."""

    gpus: dict[str, list[Row]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, gpu: str, row: Row) -> None:
        """One more row of a GPU."""
        self.gpus.setdefault(gpu, []).append(row)

    def take(self, other: Samples) -> None:
        """The rows of another file too."""
        for gpu, rows in other.gpus.items():
            self.gpus.setdefault(gpu, []).extend(rows)
        self.problems += other.problems


def read_sampler(text: str, only: Collection[int] = ()) -> Samples:
    """What power_sampler.py writes; `only` these indices, where some are named. A half-written last line is left out."""
    found, host, odd = Samples(), "", 0
    *lines, last = text.split("\n")
    for line in (*lines, *([last] if last.endswith("}") else [])):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            if "error" in said:
                found.problems.append(str(said["error"])[:300])
            elif "unix_s" in said:
                t = _finite(said["unix_s"])
                for index, energy, power in said["gpus"]:
                    if not only or index in only:
                        joules, watts = (math.nan if v is None else _finite(v) / 1000 for v in (energy, power))
                        found.add(f"{host} GPU {int(index)}".strip(), (t, joules, watts))
            else:
                host = str(said["host"])[:100]
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            odd += 1
    if odd:
        found.problems.append(f"{odd} lines cannot be read")
    return found


def read_csv(text: str, only: Collection[int] = ()) -> Samples:
    """`nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv`: local time, `412.34 W`; by the names in its header."""
    found, odd = Samples(), 0
    lines = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    rows = csv.reader(line.replace("\0", "") for line in lines)
    columns: dict[str, int] = {}
    try:
        for row in rows:
            names = [name.strip().partition(" [")[0] for name in row]
            if "timestamp" in names:  # also in the middle: nvidia-smi was started again
                columns = {name: place for place, name in enumerate(names)}
                continue
            power = next((columns[name] for name in ("power.draw", "power.draw.instant") if name in columns), None)
            if power is None:
                break
            try:
                gpu = row[columns["index"]].strip() if "index" in columns else row[columns["uuid"]].strip()
                if only and int(gpu) not in only:
                    continue
                found.add(
                    f"GPU {gpu[:64]}", (_local_time(row[columns["timestamp"]].strip()), math.nan, _watts(row[power]))
                )
            except (ValueError, IndexError, KeyError, OverflowError):
                odd += 1
    except csv.Error:
        odd += 1
    if lines and not (
        "timestamp" in columns
        and {"power.draw", "power.draw.instant"} & columns.keys()
        and {"index", "uuid"} & columns.keys()
    ):
        found.problems.append("it has no header with timestamp, index and power.draw")
    elif odd:
        found.problems.append(f"{odd} lines cannot be read")
    return found


def read_dcgm(pages: Iterable[tuple[float, str]], only: Collection[int] = ()) -> Samples:
    """Pages of DCGM's exporter with the Unix times at which they came. It reads a GPU now and then: a page that says of one
    what the page before said is no new sample.
    """
    found = Samples()
    latest: dict[str, str] = {}
    for t, text in pages:
        values: dict[str, dict[str, float]] = {}
        for line in text.splitlines():
            part = _LINE.match(line)
            if part is None:
                continue
            labels = dict(_LABEL.findall(part[2]))
            index = labels.get("gpu", "")
            if labels.get("GPU_I_ID") or (only and not (index.isdigit() and int(index) in only)):
                continue
            name = f"{labels.get('Hostname', '')[:100]} GPU {index[:16]}".strip()
            try:
                values.setdefault(name, {})[part[1]] = _finite(part[3])
            except ValueError:
                continue
        for name, said in values.items():
            pair = (
                said.get("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", math.nan) / 1000,
                said.get("DCGM_FI_DEV_POWER_USAGE", math.nan),
            )
            if str(pair) != latest.get(name):  # a NaN is the same as another
                latest[name] = str(pair)
                found.add(name, (t, *pair))
    if not found.gpus:
        found.problems.append("no page of it holds DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION or DCGM_FI_DEV_POWER_USAGE")
    return found


def _finite(value: object) -> float:
    number = float(value)  # type: ignore[arg-type]  # what float() refuses is a line that cannot be read
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _watts(text: str) -> float:
    """`412.34 W`, `412.34`; NaN for `[N/A]` and the like."""
    text = text.strip()
    return math.nan if text.startswith("[") else _finite(text.removesuffix("W"))


def _local_time(text: str) -> float:
    for form in _TIMES:
        try:
            return datetime.strptime(text, form).timestamp()  # nvidia-smi says the host's local time
        except ValueError:
            continue
    raise ValueError(text)
