"""A result names the configuration of its server, and how long that took to start."""

from __future__ import annotations

from pathlib import Path

from bench_tests.compare.comparable import differences, group_key
from bench_tests.results.read import as_read
from tests.support.plotting_examples import example_result


def test_a_result_names_its_configuration_and_its_start() -> None:
    plain = example_result(4096, 128, 16)
    said = {"name": "tp4-mbt8192", "settings": {"tensor_parallel": 4, "max_num_batched_tokens": 8192}}
    start = {"load_s": 40.0, "compile_s": None, "ready_s": 95.5}
    one = as_read({**plain, "config": said, "start": start}, Path("a.json"))
    assert (one.config, one.config_settings) == ("tp4-mbt8192", said["settings"])
    assert one.start_s == {"load": 40.0, "ready": 95.5}
    other = as_read({**plain, "config": {"name": "tp8", "settings": {}}}, Path("b.json"))
    none = as_read({**plain, "config": None}, Path("c.json"))
    assert group_key(one) != group_key(other) != group_key(none)
    assert any("config" in words for words in differences(one, other))
    assert none.config == ""
    assert none.start_s == {}
