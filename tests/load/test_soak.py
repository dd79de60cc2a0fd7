"""The soak's own judgement, and a few seconds of it: a client that grows is found, this one does not."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from benchmarks.soak import Sample, grew, main


def samples(**grows: float) -> list[Sample]:
    """Forty looks; the arguments are what each look adds."""
    start = {"memory_mb": 60.0, "descriptors": 260, "threads": 24} | {
        "suite_mb": 80.0, "suite_descriptors": 20, "suite_threads": 1
    }  # fmt: skip
    return [
        Sample(i * 5.0, (i + 1) * 100, **{k: type(v)(v + grows.get(k, 0) * i) for k, v in start.items()})  # type: ignore[arg-type]
        for i in range(40)
    ]


def test_what_stays_the_same_has_not_grown() -> None:
    assert grew(samples()) == []
    assert grew(samples(memory_mb=0.1)) == []


def test_what_goes_up_and_down_has_not_grown() -> None:
    swings = [replace(s, memory_mb=60 + 20 * (i % 7) / 6) for i, s in enumerate(samples())]
    assert grew(swings) == []


@pytest.mark.parametrize("what", [f.name for f in fields(Sample)[2:]])
def test_what_grows_is_named(what: str) -> None:
    (found,) = grew(samples(**{what: 2.0}))
    assert found.startswith(what)


def test_too_short_a_soak_says_nothing() -> None:
    assert "too few" in grew([])[0]
    assert "too few" in grew(samples()[:3])[0]


@pytest.mark.faults
def test_a_few_seconds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    short = ["--minutes", "0.3", "--streams", "32", "--osl", "32", "--gap-ms", "10", "--every-s", "0.5"]
    assert main([*short, f"--csv={tmp_path / 's.csv'}", f"--picture={tmp_path / 's.png'}"]) == 0
    assert "nothing grew" in capsys.readouterr().out
    assert (tmp_path / "s.png").stat().st_size > 10_000
    assert len((tmp_path / "s.csv").read_text().splitlines()) > 20
