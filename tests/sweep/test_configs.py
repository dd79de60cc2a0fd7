"""Configurations of a profile's server: what each makes of the profile, its name, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench_tests.errors import UsageError
from bench_tests.server.command import serve_command
from bench_tests.sweep.point import Point, rewrite_keyword
from bench_tests.sweep.profile import Profile, load_profile

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "configurations"
MATRIX = """
[matrix]
tensor_parallel = [4, 8]
max_num_batched_tokens = [8192, 32768]
exclude = [{ tensor_parallel = 4, max_num_batched_tokens = 32768 }]
"""


def profile(folder: Path, text: str, base: str = "kimi_k2") -> Profile:
    path = folder / "mine.toml"
    path.write_text(f'base = "{base}"\n{text}')
    return load_profile(str(path))


def test_a_matrix_is_every_combination_but_the_excluded(tmp_path: Path) -> None:
    found = profile(tmp_path, MATRIX).configs
    assert list(found) == ["tp4-mbt8192", "tp8-mbt8192", "tp8-mbt32768"]
    one = found["tp4-mbt8192"]
    assert one.config is not None
    assert one.config.settings == {"tensor_parallel": 4, "max_num_batched_tokens": 8192}
    assert (one.server.tensor_parallel, one.gpus) == (4, 4)
    args = list(one.server.serve_args)
    assert args.count("--max-num-batched-tokens") == 1  # the profile's own, 32768, is replaced
    assert args[args.index("--max-num-batched-tokens") + 1] == "8192"
    assert args[args.index("--tool-call-parser") + 1] == "kimi_k2"
    assert one.points == load_profile("kimi_k2").points


def test_a_named_configuration_says_what_differs(tmp_path: Path) -> None:
    found = profile(tmp_path, """
[server]
serve_args = ["--tensor-parallel-size=2", "--flag", "a", "b"]
env = { KEPT = "1" }
[configs.all]
tensor_parallel = 4
expert_parallel = true
image = "other:1"
env.ADDED = "2"
enable_prefix_caching = false
"--flag" = false
"--new" = true
slurm.partition = "big"
sim.step_ms = 2.0
[configs.plain]
""").configs  # fmt: skip
    one, plain = found["all"], found["plain"]
    assert one.server.serve_args == ("--no-enable-prefix-caching", "--new")
    assert (one.server.tensor_parallel, one.server.expert_parallel) == (4, True)
    assert one.server.env == {"KEPT": "1", "ADDED": "2"}
    assert (one.container.image, one.slurm.partition, one.sim.step_ms) == ("other:1", "big", 2.0)
    assert one.config is not None
    assert one.config.settings["sim.step_ms"] == 2.0
    assert plain.server.env == {"KEPT": "1"}
    assert plain.server.serve_args == ("--tensor-parallel-size=2", "--flag", "a", "b")


@pytest.mark.parametrize(
    "text, words",
    [
        ("[configs.a]\ntensor_paralel = 4", "configs.a: unknown key 'tensor_paralel'; did you mean tensor_parallel?"),
        ("[configs.a]\ntensor_parallel = 0", "configs.a server.tensor_parallel: 0"),
        ("[configs.a]\nload.num_prompts = 4", "configs.a: unknown key 'load'"),
        ("[configs.a]\nsim.stepms = 4", "configs.a.sim: unknown key 'stepms'; did you mean step_ms?"),
        ("[configs.'a b']", "the name 'a b'"),
        ("[configs.isl4096]", "the name 'isl4096'"),
        ("[configs]\na = 1", "expected tables of the form [configs.NAME]"),
        ("[matrix]", "0 configurations"),
        ("[matrix]\ntensor_parallel = 4", "expected a list"),
        ("[matrix]\ntensor_parallel = [4, 4]", "different values"),
        ("[matrix]\ntensor_parallel = [4]\nexclude = [{ tensor_parallel = 8 }]", "exclude: tensor_parallel = 8"),
        ("[configs.tp4]\n[matrix]\ntensor_parallel = [4]", "two configurations are called tp4"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        profile(tmp_path, text)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_example_profiles_are_what_their_names_say() -> None:
    found = {path.stem: load_profile(str(path)).configs for path in EXAMPLES.glob("*.toml")}
    kimi, minimax = found["kimi_k2_which"], found["minimax_m2.1_which"]
    assert list(kimi) == ["tp8-ep", "dp8-ep", "tp8-dcp8", "tp4-mbt8192", "tp8-mbt8192", "tp8-mbt32768"]
    assert list(minimax) == ["dp8-ep", "tp4-mbt32768", "tp4-fp8kv", "tp4", "tp4-ep", "tp8-ep"]
    assert {name: one.gpus for name, one in minimax.items()}["tp8-ep"] == 8
    command = serve_command(minimax["dp8-ep"], host="h", port=1, api_key=None, environ={"WEIGHTS_DIR": "/w"}).argv
    assert command[command.index("--data-parallel-size") + 1] == "8"
    assert "--enable-expert-parallel" in command
    assert "--tensor-parallel-size" not in command


def test_a_derived_profile_has_a_matrix_of_its_own(tmp_path: Path) -> None:
    profile(tmp_path, MATRIX)
    (tmp_path / "second.toml").write_text('base = "mine.toml"\n[matrix]\ndata_parallel = [1, 2]\n')
    assert list(load_profile(str(tmp_path / "second.toml")).configs) == ["dp1", "dp2"]


def test_a_case_begins_with_its_configuration() -> None:
    assert str(Point(4096, 128, 16, config="tp4")) == "tp4-isl4096-osl128-conc16"
    assert rewrite_keyword("tp4") == "/tp4/"
    assert rewrite_keyword("tp4-mbt8192-isl4096") == "(/tp4/ and /mbt8192/ and /isl4096/)"
    assert rewrite_keyword("fast-isl4096 and not conc1") == "([fast- and /isl4096/) and not /conc1/"
    assert (
        rewrite_keyword("test_slo[fast-isl64-osl8-conc1]") == "(test_slo and [fast- and /isl64/ and /osl8/ and /conc1/)"
    )
    assert rewrite_keyword("fast") == "fast"
