"""Profiles: the built-in facts, files that say what differs, and one line for whatever is wrong in them."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench_tests.errors import UsageError
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import BUILTIN, TABLES, load_profile, profile_for_model
from bench_tests.sweep.selected import apply_options, selected_points
from bench_tests.sweep.slo import parse_goodput, parse_objectives


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def one_line(why: UsageError) -> None:
    assert "\n" not in str(why)


def test_kimi_k2_is_what_it_was() -> None:
    profile = load_profile("kimi_k2")
    assert profile.model.id == "moonshotai/Kimi-K2-Thinking"
    assert (len(profile.points), profile.gpus, profile.server.tensor_parallel) == (48, 8, 8)
    point = Point(4096, 128, 16)
    assert point in profile.points
    assert (profile.num_prompts(point), profile.num_warmups(point), profile.load.range_ratio) == (160, 32, 0.0)
    assert profile.tiers.ttft == (1, 2, 3, 5, 10)
    assert profile.tiers.tpot == (0.02, 0.035, 0.05, 0.075)
    args = " ".join(profile.server.serve_args)
    for flag in (
        "--trust-remote-code",
        "--max-num-batched-tokens 32768",
        "--enable-auto-tool-choice",
        "--tool-call-parser kimi_k2",
        "--reasoning-parser kimi_k2",
    ):
        assert flag in args


def test_minimax_is_what_it_was() -> None:
    profile = load_profile("minimax_m2.1")
    assert profile.model.id == "MiniMaxAI/MiniMax-M2.1"
    assert (len(profile.points), profile.gpus, profile.load.range_ratio) == (25, 4, 0.2)
    assert (profile.tiers.ttft, profile.tiers.tpot) == ((0.5, 1, 2, 5, 10), (0.05, 0.075, 0.1, 0.2))
    args = " ".join(profile.server.serve_args)
    for flag in ("--trust-remote-code", "--tool-call-parser minimax_m2", "--reasoning-parser minimax_m2_append_think"):
        assert flag in args


def test_a_model_finds_its_profile() -> None:
    assert profile_for_model("moonshotai/Kimi-K2-Thinking") == "kimi_k2"
    assert profile_for_model("unknown/model") is None


def test_a_file_says_only_what_differs(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, 'base = "kimi_k2"\n[sweep]\nconcurrency = [4]\n[load]\nnum_prompts = 7\n'))
    kimi = load_profile("kimi_k2")
    assert profile.name == "mine"
    assert [p.conc for p in profile.points] == [4] * 8
    assert profile.num_prompts(Point(1024, 128, 4)) == 7
    assert (profile.model, profile.server, profile.tiers) == (kimi.model, kimi.server, kimi.tiers)
    write(tmp_path, 'base = "mine.toml"\n[load]\nseed = 3\n', "more.toml")
    assert load_profile(str(tmp_path / "more.toml")).load.seed == 3


def test_objectives_by_point(tmp_path: Path) -> None:
    text = """
[sweep]
isl = [64, 4096]
osl = [8]
concurrency = [1, 16]
[slo]
p99_ttft = "2s"
p99_tpot = 0.05
[[slo.override]]
isl = 4096
p99_ttft = "5s"
[[slo.override]]
conc = [16]
p99_tpot = "none"
p99_ttft = "none"
"""
    slo = load_profile(write(tmp_path, text)).slo
    assert {o.metric: o.limit_s for o in slo.objectives(Point(64, 8, 1))} == {"p99_ttft": 2.0, "p99_tpot": 0.05}
    assert {o.metric: o.limit_s for o in slo.objectives(Point(4096, 8, 1))} == {"p99_ttft": 5.0, "p99_tpot": 0.05}
    assert slo.objectives(Point(4096, 8, 16)) == ()


@pytest.mark.parametrize(
    "text, words",
    [
        ("[load]\nnum_promts = 3\n", "did you mean num_prompts"),
        ("[laod]\n", "did you mean load"),
        ("[sweep]\nisl = [-1]\n", "sweep.isl[0]: -1; expected a whole number of at least 1"),
        ("[sweep]\nisl = [1.5]\n", "sweep.isl"),
        ("[sweep]\nisl = [true]\n", "sweep.isl"),
        ("[sweep]\nconcurrency = [0]\n", "sweep.concurrency"),
        ("[sweep]\nisl = 64\n", "expected a list"),
        ("[sweep]\nisl = [64, 64]\n", "twice"),
        ('[sweep]\nisl = [64]\nosl = [8]\nconcurrency = [4]\npoints = ["isl64-osl8-conc4"]\n', "is there twice"),
        ('[sweep]\npoints = ["64x8x4"]\n', "isl2048-osl128-conc16"),
        ("[load]\nrequest_rate = 0\n", "request rate"),
        ("[load]\nrange_ratio = 1.0\n", "range_ratio"),
        ("[load]\nburstiness = 0\n", "burstiness"),
        ("[load]\nseed = -1\n", "seed"),
        ('[load]\nprompt_format = "words"\n', "expected one of ids, text"),
        ("[timeouts]\nconnect = 0\n", "more than zero"),
        ('[timeouts]\nconnect = "soon"\n', "not a duration"),
        ("[validity]\nmax_failed_share = 2\n", "max_failed_share"),
        ('[slo]\np99_tftt = "2s"\n', "unknown key 'p99_tftt'"),
        ('[slo]\nmode = "hopeful"\n', "point, confident"),
        ("[[slo.override]]\nisl = 0\n", "override 1 isl"),
        ("slo = 3\n", "slo"),
        ("sweep = 3\n", "sweep"),
        ('goodput = "ttft=2s"\n', "goodput"),
        ("goodput = 7\n", "goodput"),
        ('name = "../etc/passwd"\n', "name"),
        ('name = ""\n', "name"),
        ('base = "kimi"\n', "base"),
        ("base = 3\n", "base"),
        ('base = "none.toml"\n', "none.toml"),
        ('base = "mine.toml"\n', "leads back to itself"),
        ("[load]\nextra_body = {x = 1979-05-27}\n", "load.extra_body.x: 1979-05-27; expected what JSON has"),
        ("[load]\nextra_body = {x = [{y = nan}]}\n", "load.extra_body.x.0.y: nan"),
        ("[load]\nmetadata = {x = 07:32:00}\n", "load.metadata.x"),
        ("[load\n", "not TOML"),
        ("x = " + "9" * 5000, "not TOML"),
        ("x = " + "[" * 20000, "not TOML"),
        ('base = "a\\u0000.toml"\n', "not TOML"),
        ('[slo]\np0_ttft = "2s"\n', "unknown key 'p0_ttft'"),
        (
            '[slo]\nmode = "confident"\nmax_requests = 9\np99_itl = "2s"\n',
            "p99_itl cannot be judged request by request",
        ),
        ("\udcff", "not TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError) as told:
        load_profile(str(path))
    assert words in str(told.value)
    assert re.search(r"\b(mine|none|a\0)\.toml", str(told.value)) or "isl2048" in words
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["kimi", "nowhere.toml", "/", ".toml", "", "demo.toml"])
def test_what_is_no_profile(name: str) -> None:
    with pytest.raises(UsageError):
        load_profile(name)


def test_all_built_in_profiles_are_in_order() -> None:
    for name in BUILTIN:
        assert load_profile(name).points


simple = (
    st.none()
    | st.booleans()
    | st.integers(-3, 10**12)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["2s", "none", "fresh", "inf", "isl1-osl1-conc1"])
)
keys = sorted(
    {name for table in TABLES.values() for name in (spec.name for spec in fields(table))}
    | {"p99_ttft", "override", "mode", "name", "base"}
)


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return '"' + "".join(f"\\U{ord(c):08X}" if not 0xD800 <= ord(c) < 0xE000 else "?" for c in str(value)) + '"'


@given(
    tables=st.dictionaries(
        st.sampled_from([*TABLES, "slo", "goodput", "unknown"]),
        st.dictionaries(st.sampled_from(keys), simple | st.lists(simple, max_size=3), max_size=4),
        max_size=4,
    ),
    top=st.dictionaries(st.sampled_from(["name", "base", "goodput", "description", "x"]), simple, max_size=2),
)  # fmt: skip
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_raises_anything_but_a_usage_error(
    tmp_path: Path, tables: dict[str, dict[str, object]], top: dict[str, object]
) -> None:
    text = "".join(f"{k} = {toml(v)}\n" for k, v in top.items() if k not in tables)
    for name, table in tables.items():
        text += f"[{name}]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in table.items())
    try:
        profile = load_profile(write(tmp_path, text))
        for point in profile.points:
            profile.slo.objectives(point)
    except UsageError as why:
        one_line(why)


@given(st.binary(max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_raise_anything_but_a_usage_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "mine.toml").write_bytes(data)
    try:
        load_profile(str(tmp_path / "mine.toml"))
    except UsageError as why:
        one_line(why)


@given(
    st.text(max_size=30)
    | st.lists(st.sampled_from(["p99_ttft", "<=", "2s", ",", "ttft", ":", "none", " ", "1e999s", "-"]), max_size=8).map(
        "".join
    )
)
@settings(max_examples=80, deadline=None)
def test_no_objective_raises_anything_but_a_usage_error(text: str) -> None:
    for parse in (parse_objectives, parse_goodput):
        try:
            parse(text)
        except UsageError:
            pass


@pytest.mark.parametrize("text", ["ttft:2000", "ttft:2s tpot:50"])
def test_a_limit_without_a_unit_is_not_guessed(text: str) -> None:
    with pytest.raises(UsageError, match="has no unit"):
        parse_goodput(text)
    with pytest.raises(UsageError, match="has no unit"):
        parse_objectives("p99_ttft<=2000")
    assert parse_objectives("p99_ttft<=2s") == {"p99_ttft": 2.0}


def test_objectives_for_points_that_are_not_there_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = 'base = "demo"\n[sweep]\nisl = [64]\nosl = [8]\nconcurrency = [1, 4]\n[slo]\np99_ttft = "1s"\n[[slo.override]]\n'
    path.write_text(text + 'isl = [640]\np99_ttft = "2s"\n')
    with pytest.raises(UsageError, match=r"slo.override 1: isl = \[640\] selects no point"):
        selected_points(load_profile(str(path)), None)
    assert selected_points(load_profile(str(path)), [Point(640, 8, 1)])  # --point may be the one that is meant
    path.write_text(text + 'isl = 64\np99_ttft = "2s"\n')
    assert selected_points(load_profile(str(path)), None)


def test_burstiness_without_a_rate_is_told() -> None:
    asked = {"--burstiness": 0.5}
    with pytest.raises(UsageError, match="--request-rate"):
        selected_points(apply_options(load_profile("demo"), asked.get), None)
    assert selected_points(apply_options(load_profile("demo"), asked.get), [Point(64, 8, 0, 4.0)])
    asked["--request-rate"] = 5.0
    assert selected_points(apply_options(load_profile("demo"), asked.get), None)


def test_gpus_of_a_server_that_was_there_are_those_that_somebody_named(tmp_path: Path) -> None:
    assert load_profile("demo").named_gpus is None
    assert load_profile("kimi_k2").named_gpus == 8
    assert apply_options(load_profile("demo"), {"--gpus": 4}.get).named_gpus == 4
    path = tmp_path / "mine.toml"
    path.write_text('base = "demo"\n[server]\ntensor_parallel = 1\n')
    assert load_profile(str(path)).named_gpus == 1
