"""`python -m tests.fuzz TARGET -- -max_total_time=600`: what parses, under a coverage-guided fuzzer (pip install atheris).

By hand: hypothesis has its turn in each test run. A target raises where the suite would have shown a traceback or where two
ways of reading the same bytes differ. What stands behind `--` is libFuzzer's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed: pip install atheris")

with atheris.instrument_imports(include=["bench_tests", "plotting", "prometheus_client"]):
    import prometheus_client.parser  # noqa: F401  # which the suite imports where it is used

    from bench_tests.errors import UsageError
    from bench_tests.load.worker.framing import BadFraming, Framing
    from bench_tests.load.worker.stream import Answer, _Reader, parse_answer
    from bench_tests.results.read import read_file, read_one
    from bench_tests.server.info import read_server_info
    from bench_tests.server.metrics import parse_metrics
    from bench_tests.sweep.point import Point, keyword_tokens, rewrite_keyword
    from bench_tests.sweep.profile import load_profile

from tests.support.stream_bytes import FOLDER, HEAD, chunked

__all__ = ["TARGETS", "main"]

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = Path(tempfile.mkdtemp(prefix="bench-fuzz-"))


def _facts(answer: Answer) -> tuple[object, ...]:
    return (answer.kind, answer.error, answer.ends.tolist(), answer.input_tokens, answer.output_tokens,
            answer.cached_tokens, answer.finish_reason, answer.text)  # fmt: skip


def _fed(raw: bytes, cuts: list[int]) -> tuple[object, ...]:
    """What the framing says of these bytes, fed in pieces."""
    framing, seen, start, whole = Framing(), bytearray(), 0, False
    try:
        for cut in [*cuts, len(raw)]:
            seen += raw[start:cut]
            start = max(start, cut)
            whole = framing.feed(seen)
            if whole:
                break
    except BadFraming:
        return ("bad",)
    if framing.pos < len(seen) and whole:
        return (True, "more behind the end")
    return (whole, framing.status, framing.mode, bytes(framing.body(seen)) if whole else b"")


def framing(data: bytes) -> None:
    """However the segments fall, the same is read; nothing but BadFraming is raised."""
    cuts, raw = sorted(data[:4]), data[4:]
    whole, pieces = _fed(raw, []), _fed(raw, cuts)
    if whole[0] is not True or pieces[0] is not True:
        # bytes behind an end are seen only where they come in the same piece
        assert whole[0] == pieces[0] or "more behind the end" in (*whole, *pieces)
        return
    assert whole == pieces or "more behind the end" in (*whole, *pieces)


def answer(data: bytes) -> None:
    """The template says what each event says; nothing is raised."""
    raw = chunked(data)
    framing = Framing()
    if not framing.feed(raw):
        return
    fast = parse_answer(raw, framing)
    with patch.object(_Reader, "_in_bulk", lambda self, body: False):
        slow = parse_answer(raw, framing)
    assert _facts(fast) == _facts(slow), (_facts(fast), _facts(slow))


def _one_line(why: UsageError) -> None:
    assert "\n" not in str(why)


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        path = SCRATCH / name
        path.write_bytes(data)
        try:
            read(path)
        except UsageError as why:
            _one_line(why)

    target.__doc__ = f"{name}: nothing but one line of words is raised."
    return target


def _profile(path: Path) -> None:
    profile = load_profile(str(path))
    for point in profile.points[:20]:
        profile.slo.objectives(point)


def metrics(data: bytes) -> None:
    """A server's /metrics: nothing is raised."""
    parse_metrics(data, "m")


def points(data: bytes) -> None:
    """--point and -k: nothing but one line of words is raised."""
    text = data.decode("utf-8", "replace")
    rewrite_keyword(text)
    keyword_tokens(text)
    try:
        Point.parse(text)
    except UsageError as why:
        _one_line(why)


TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {}


def _seeds() -> None:
    bodies = [path.read_bytes() for path in sorted(FOLDER.glob("*.http"))]
    results = [
        json.dumps(json.loads(p.read_text())).encode()
        for p in sorted((ROOT / "tests/support/data").rglob("*.json"))[:40]
    ]
    info = b"http://node1:8000\nprofile=kimi_k2\nmodel=a\njob_id=7\napi_key=k\nhostname=n\nport=8000\nstarted=2026\n"
    profiles = [path.read_bytes() for path in sorted((ROOT / "bench_tests/sweep/profiles").glob("*.toml"))]
    families = b'# TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total{model_name="m"} 3.0\n'
    TARGETS.update(
        answer=(answer, [body.partition(b"\r\n\r\n")[2] for body in bodies] + [_unchunked(body) for body in bodies]),
        framing=(framing, [b"\x10\x50\xa0\xff" + body for body in bodies] + [b"\1\2\3\4" + HEAD + b"\r\n"]),
        server_info=(_file("server_info.txt", read_server_info), [info]),
        result=(_file("x.json", read_one), results),
        picture=(_file("y.json", lambda path: read_file(path, SCRATCH)), results),
        profile=(_file("mine.toml", _profile), profiles),
        metrics=(metrics, [families]),
        points=(points, [b"isl2048-osl128-conc16", b"isl4096 and not conc16 or (osl8)"]),
    )


def _unchunked(raw: bytes) -> bytes:
    framing, whole = Framing(), bytearray(raw)
    framing.feed(whole)
    return bytes(framing.body(whole))


_seeds()


def main() -> None:
    """Fuzz one target until libFuzzer ends: its exit status is this command's."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("libfuzzer", nargs="*", help="its options, behind --")
    given = parser.parse_args()
    target, seeds = TARGETS[given.target]
    corpus = SCRATCH / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    warnings.simplefilter("ignore")
    atheris.enabled_hooks.add("RegEx")
    atheris.Setup(
        [sys.argv[0], f"-artifact_prefix={SCRATCH}/", "-max_len=20000", *given.libfuzzer, str(corpus)], target
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
