"""The soak's own judgement, and a few seconds of it: a client that grows is found, this one does not."""

from __future__ import annotations

import pytest

from benchmarks.soak import Sample, grew, main


def samples(memory: float = 0.0, descriptors: float = 0.0, threads: float = 0.0, requests: int = 100) -> list[Sample]:
    """Twenty looks; the arguments are what each look adds."""
    return [
        Sample(i * 5.0, (i + 1) * requests, 60 + memory * i, int(260 + descriptors * i), int(24 + threads * i))
        for i in range(20)
    ]


def test_what_stays_the_same_has_not_grown() -> None:
    assert grew(samples(), 2000) == []
    assert grew(samples(memory=0.2), 2000) == []  # the records of its requests: 100 a look


@pytest.mark.parametrize("what", ["memory", "descriptors", "threads"])
def test_what_grows_is_named(what: str) -> None:
    (found,) = grew(samples(**{what: 2.0}), 2000)  # type: ignore[arg-type]
    assert found.startswith(what)


def test_too_short_a_soak_says_nothing() -> None:
    assert "too few" in grew([], 0)[0]
    assert "too few" in grew(samples()[:3], 0)[0]


@pytest.mark.faults
def test_a_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", "0.3", "--streams", "32", "--osl", "32", "--gap-ms", "10", "--every-s", "0.5"]) == 0
    assert "nothing grew" in capsys.readouterr().out
