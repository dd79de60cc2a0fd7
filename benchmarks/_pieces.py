"""Rows of simulated pairs in pieces: each with a seed of its own, written as it ends, so that a run may stop and go on."""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from benchmarks._comparison import Pairs, count
from benchmarks._scenarios import Scenario

__all__ = ["PIECE", "Piece", "code", "in_order", "simulate"]

ROOT = Path(__file__).resolve().parents[1]
PIECE = 50  # pairs
JUDGING = ("following", "judge", "pooled", "samples", "shift", "stray", "sweep_noise", "table")


@dataclass(frozen=True)
class Piece:
    """Some pairs of a row."""

    row: str
    number: int  # of the row's pieces
    pairs: int
    scenario: Scenario


def in_order(stages: Sequence[Mapping[str, Scenario]], pairs: int) -> list[Piece]:
    """The rows of a stage in turn, a piece each, until all have their pairs; then those of the next."""
    sizes = [min(PIECE, pairs - begun) for begun in range(0, pairs, PIECE)]
    return [
        Piece(row, k, size, scenario)
        for rows in stages
        for k, size in enumerate(sizes)
        for row, scenario in rows.items()
    ]


def code() -> str:
    """A short name of the code that judges and simulates: pieces of other code are not added up."""
    files = [
        *(ROOT / "bench_tests" / "compare" / f"{name}.py" for name in JUDGING),
        *(ROOT / "benchmarks").glob("_s*.py"),
    ]
    files.sort()
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _count(job: tuple[Piece, int]) -> Counter[str]:
    piece, seed = job
    own = np.random.SeedSequence([seed, zlib.crc32(piece.row.encode()), piece.number]).generate_state(1)[0]
    return count(Pairs(replace(piece.scenario, requests_seed=seed), piece.pairs, int(own)))


def _kept(file: Path | None, seed: int) -> Iterator[tuple[str, int, Counter[str]]]:
    """The pieces that this code made with this seed."""
    if file is None or not file.exists():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if (entry["code"], entry["seed"]) == (code(), seed):
            yield entry["row"], entry["piece"], Counter(entry["counts"])


def simulate(
    pieces: Sequence[Piece], seed: int, *, workers: int = 1, file: Path | None = None, stop_s: float | None = None
) -> dict[str, Counter[str]]:
    """Count the pieces, by row; those that `file` has are taken from there, new ones are appended to it.

    After `stop_s` seconds no further one is begun: the rows then have the pairs that they have.
    """
    began = time.monotonic()
    done = {(row, number): counts for row, number, counts in _kept(file, seed)}
    todo = [piece for piece in pieces if (piece.row, piece.number) not in done]
    name = code()
    with ProcessPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        for at in range(0, len(todo), workers):
            if stop_s is not None and time.monotonic() - began > stop_s:
                break
            some = todo[at : at + workers]
            jobs = [(piece, seed) for piece in some]
            for piece, counts in zip(some, pool.map(_count, jobs) if pool else map(_count, jobs), strict=True):
                done[piece.row, piece.number] = counts
                if file:
                    entry = {"code": name, "seed": seed, "row": piece.row, "piece": piece.number, "counts": counts}
                    with file.open("a", encoding="utf-8") as out:
                        out.write(json.dumps(entry) + "\n")
    wanted = {(piece.row, piece.number) for piece in pieces}
    totals: dict[str, Counter[str]] = {}
    for (row, number), counts in done.items():
        if (row, number) in wanted:
            totals.setdefault(row, Counter()).update(counts)
    return totals
