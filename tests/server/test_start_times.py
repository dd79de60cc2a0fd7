"""How long a start took, by the engine's log."""

from __future__ import annotations

from pathlib import Path

from bench_tests.server.start_times import start_times, start_words

VLLM = """an earlier start: Model loading took 1.00 GiB memory and 900.000000 seconds
(Worker_TP0 pid=11) INFO 11-26 10:00:01 [gpu_model_runner.py:5150] Model loading took 14.99 GiB memory and 40.250000 seconds
(Worker_TP1 pid=12) INFO 11-26 10:00:02 [gpu_model_runner.py:5150] Model loading took 14.99 GiB memory and 41.500000 seconds
(Worker_TP0 pid=11) INFO 11-26 10:00:20 [monitor.py:20] torch.compile took 12.50 s in total
(Worker_TP0 pid=11) INFO 11-26 10:00:30 [gpu_model_runner.py:6582] Graph capturing finished in 8 secs, took 0.62 GiB
"""


def test_the_slowest_worker_counts_and_only_this_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(VLLM)
    since = VLLM.index("(Worker_TP0")
    assert start_times(95.5, log, since) == {"ready": 95.5, "load": 41.5, "compile": 20.5}
    assert start_times(1.0, tmp_path / "none") == {"ready": 1.0}
    assert start_words({"ready": 95.5, "load": 41.5}) == "ready in 95.5 s (load 41.5 s)"
    assert start_words({}) == ""
