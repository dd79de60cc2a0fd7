"""What is documented exists, what exists is documented, and the documents' examples run."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import re
import shlex
import subprocess
import sys
from asyncio import run
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench_tests.errors import NotMeasured, ServerError, UsageError
from bench_tests.figures import LATENCIES
from bench_tests.load.records import KINDS, Records
from bench_tests.measure.point import Sweep
from bench_tests.server.attach import AttachedServer, look_at
from bench_tests.server.info import ServerInfo
from bench_tests.server.served import Endpoint
from bench_tests.server.slurm.control import Job
from bench_tests.sim.simulator import SimSpec, Simulator
from bench_tests.sweep.options import OPTIONS
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import TOP_KEYS, load_profile
from bench_tests.sweep.slo import MODES, parse_slo_table
from tests.support.suite import QUICK

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGE = DOCS / "profiles.md"
RECIPES = DOCS / "recipes"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "results" / "README.md"])
KEY = "sk-docs-5f0c1a"

CODES = {
    **{int(code): "pytest's" for code in pytest.ExitCode if code <= pytest.ExitCode.NO_TESTS_COLLECTED},
    NotMeasured.exit_code: "not measured",
    ServerError.exit_code: "no server",
}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def rows(text: str, header: str) -> list[list[str]]:
    """The cells of all tables whose header's first cell is `header`."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == header:
            inside = True
        elif inside and not set(cells[0]) <= {"-", ":"}:
            found.append(cells)
    return found


def named(cell: str) -> list[str]:
    """The words in backticks of a cell."""
    return re.findall(r"`([^`]+)`", cell)


def code_lines(text: str) -> Iterator[str]:
    """The lines of fenced and indented code; continued lines joined, inline commands of tables included."""
    fenced = False
    for line in text.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()
        elif line.startswith("|"):
            yield from (word for word in named(line) if re.search(r"(^| )pytest ", word))


def pytest_commands(text: str) -> list[list[str]]:
    """The arguments of every pytest command in a page's code."""
    found = []
    for line in code_lines(text):
        for command in re.split(r"&&|;(?=\s)", line):
            words = shlex.split(command, comments=True) if "pytest" in command else []
            starts = [i for i, word in enumerate(words) if re.fullmatch(r"(?:\S*/)?pytest", word)]
            if starts and (starts[0] == 0 or words[0] == "salloc"):
                found.append(words[starts[0] + 1 :])
    return found


# ------------------------------------------------------------------------------------------------ options and commands


def our_parser() -> argparse.ArgumentParser:
    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> Any:
            raise AssertionError(message)

    parser = Parser(allow_abbrev=False, add_help=False)
    for option in OPTIONS:
        parser.add_argument(option.flag, **{"dest": option.dest, **option.kwargs})
    return parser


@pytest.fixture(scope="module")
def pytest_flags() -> set[str]:
    command = [sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", done.stdout))


def test_each_option_is_in_the_tables_and_each_one_there_exists() -> None:
    documented = [named(row[0])[0].split()[0] for row in rows(read(DOCS / "options.md"), "option")]
    assert len(documented) == len(set(documented))
    of_others = {"-k", "--metadata"}  # pytest's and pytest-metadata's own, said there because they belong to a sweep
    assert set(documented) - of_others == {option.flag for option in OPTIONS}


def test_the_tables_name_each_option_as_its_help_does() -> None:
    takes = {option.flag: option.kwargs.get("metavar") is not None or "choices" in option.kwargs for option in OPTIONS}
    for row in rows(read(DOCS / "options.md"), "option"):
        flag, _, value = named(row[0])[0].partition(" ")
        assert flag not in takes or bool(value) == takes[flag], row[0]


def test_each_option_has_a_default_and_an_example_that_uses_it() -> None:
    defaults = {option.flag: option.kwargs.get("default") for option in OPTIONS}
    for option, meaning, default, example in rows(read(DOCS / "options.md"), "option"):
        flag = named(option)[0].split()[0]
        assert meaning
        assert default
        assert flag in shlex.split(named(example)[0].replace("=", " "))
        if defaults.get(flag) not in (None, False):
            assert default == f"`{defaults[flag]}`"
        elif defaults.get(flag) is False:
            assert default == "off"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_the_options_of_a_pages_commands_exist_and_take_their_values(page: Path, pytest_flags: set[str]) -> None:
    for words in pytest_commands(read(page)):
        _, rest = our_parser().parse_known_args(words)  # a bad value of ours is an AssertionError with its reason
        for word in rest:
            flag = word.partition("=")[0]
            assert not flag.startswith("-") or flag in pytest_flags, f"{' '.join(words)}: {flag}"


def test_paths_of_others_are_given_with_an_equals_sign() -> None:
    flags = {option.flag for option in OPTIONS}
    for page in PAGES:
        for words in pytest_commands(read(page)):
            bare = [after for word, after in itertools.pairwise(words) if word in flags]
            assert not [path for path in bare if path.startswith("/")], f"{page.name}: {words}"


def test_the_exit_codes_are_the_ones_that_are_given() -> None:
    for page in (ROOT / "README.md", DOCS / "options.md", DOCS / "ci.md"):
        for code, *_ in rows(read(page), "exit code"):
            assert int(code) in CODES, page
    assert {int(row[0]) for row in rows(read(DOCS / "options.md"), "exit code")} == set(CODES)
    assert {int(row[0]) for row in rows(read(ROOT / "README.md"), "exit code")} >= {
        0,
        1,
        NotMeasured.exit_code,
        ServerError.exit_code,
    }
    for page in PAGES:
        said = {int(code) for code in re.findall(r"exit code (\d+)", read(page))}
        assert said <= {*CODES, 143}, page  # 143: a job's script after TERM, in Slurm's records


# ------------------------------------------------------------------------------------------------ profiles


def test_the_tables_of_profile_keys_are_current() -> None:
    command = [sys.executable, str(DOCS / "make_tables.py"), "--check"]
    assert subprocess.run(command, timeout=60).returncode == 0, "run python docs/make_tables.py"


def test_the_keys_above_and_of_slo_are_documented() -> None:
    with pytest.raises(UsageError) as refused:
        parse_slo_table({"no_such_key": 1}, "profile")
    of_slo = str(refused.value).partition("expected ")[2].partition(" or a metric")[0].split(", ")
    by_hand = [row for row in rows(read(PAGE), "key") if len(row) == 3]  # the made tables have four columns
    documented = {key for row in by_hand for key in named(row[0])}
    assert documented == {*TOP_KEYS, *of_slo, "p99_ttft", "p99_tpot"}
    assert {mode for row in by_hand for mode in MODES if f'"{mode}"' in row[1]} == set(MODES)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_example_profiles_load(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(re.findall(r"```toml\n(.*?)```", read(page), re.DOTALL)):
        path = tmp_path / f"example{number}.toml"
        path.write_text(text)
        assert load_profile(str(path)).points


def test_profiles_md_has_examples() -> None:
    assert read(PAGE).count("```toml") >= 3


# ------------------------------------------------------------------------------------------------ results


@pytest.fixture(scope="module")
def live() -> Iterator[Simulator]:
    fast = SimSpec(base_ms=1.0, per_seq_us=1.0, prefill_tok_per_s=1e6, prefix_caching=False, api_key=KEY)
    with Simulator(fast) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def result(live: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The result of a real point."""
    folder = tmp_path_factory.mktemp("result")
    profile = folder / "quick.toml"
    profile.write_text(QUICK)
    served = AttachedServer(Endpoint(live.url, KEY), "--base-url")
    model = run(look_at(served.endpoint, ""))
    return asyncio.run(Sweep(load_profile(str(profile)), served, model, folder).measure(Point(64, 8, 2))).result


def keys_of_table(header: str) -> set[str]:
    """The keys in the first column of the table with this header in docs/results.md; `mean_X` by latency."""
    keys = set()
    for row in rows(read(DOCS / "results.md"), header):
        for key in named(row[0]):
            several = [f"{key[:-1]}{x}" for x in LATENCIES] if key.endswith("_X") else [key]
            keys.update(several)
    return keys


def test_each_key_of_a_result_is_documented_and_each_one_there_exists(result: Mapping[str, Any]) -> None:
    assert keys_of_table("key") == set(result)


def test_the_keys_inside_of_a_results_tables_are_documented(result: Mapping[str, Any]) -> None:
    text = read(DOCS / "results.md")
    assert keys_of_table("key of `steady_state`") == set(result["steady_state"])
    assert keys_of_table("kind of error") == set(KINDS[1:])
    processes = set(result["client"]["processes"][0])
    assert keys_of_table("key of `client`") == set(result["client"]) | processes
    for key in (*result["settings"], *result["validity"]["checks"][0], *result["slo"], *result["server"]["counted"]):
        assert f"`{key}`" in text, key
    documented = keys_of_table("key of `server`")
    assert set(result["server"]) <= documented
    assert set(result["server_side"]) <= keys_of_table("key of `server_side`")


def test_the_columns_of_the_records_are_documented() -> None:
    assert keys_of_table("array") == {field.name for field in dataclasses.fields(Records)}


def test_the_keys_of_server_info_are_documented() -> None:
    documented = {key for row in rows(read(DOCS / "options.md"), "key") for key in named(row[0])}
    assert documented == {field.name for field in dataclasses.fields(ServerInfo)} - {"url"}


def test_what_a_slurm_job_adds_to_a_result_is_documented() -> None:
    from bench_tests.server.slurm.job import SlurmServer

    server = SlurmServer(load_profile("demo"), "1", Path("server_info.txt"), ours=False)
    server._seen.job = Job("1", "RUNNING")
    assert set(server.facts()) <= keys_of_table("key of `server`")


# ------------------------------------------------------------------------------------------------ links and figures


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", read(page), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_and_images_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for target in targets:
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_tests_and_data_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(r"`(tests/[\w./-]+)`", read(page))
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_page_is_linked_from_the_readme() -> None:
    text = read(ROOT / "README.md")
    for page in DOCS.glob("*.md"):
        assert f"(docs/{page.name}" in text, page.name


FIGURE = re.compile(r"(?<![\d.,])(\d[\d.,]*\d|\d)( %)?(?![\d%])")


def test_figures_that_the_readme_takes_from_a_page_are_there() -> None:
    """Shares and large numbers, beside a link to the page of methods or of statistics."""
    found: list[str] = []
    for paragraph in re.split(r"\n\n|\n(?=- )", read(ROOT / "README.md")):
        said = re.sub(r"\s+", " ", paragraph)
        figures = {m[0].replace(",", "") for m in FIGURE.finditer(said) if m[2] or "," in m[1]}
        for page in re.findall(r"\(docs/(statistics|methods)\.md\)", "" if said.startswith("|") else said):
            there = {m[0].replace(",", "") for m in FIGURE.finditer(re.sub(r"\s+", " ", read(DOCS / f"{page}.md")))}
            assert figures <= there, (page, figures - there)
            found += figures
    assert len(found) >= 3, "the README's figures are no longer found: this test checks nothing"


def test_the_readme_counts_the_points_and_gpus_of_built_in_profiles() -> None:
    said = re.findall(r"`([\w.]+)`\s+\((\d+)\s+points,\s+(?:(\d+)\s+GPUs|simulated)\)", read(ROOT / "README.md"))
    assert len(said) >= 3
    for name, points, gpus in said:
        profile = load_profile(name)
        assert (len(profile.points), profile.gpus) == (int(points), int(gpus or profile.gpus)), name


def test_the_readme_has_its_two_commands() -> None:
    text = read(ROOT / "README.md")
    setup = "python3 -m venv .venv && .venv/bin/pip install -q -r {} && .venv/bin/pytest{}"
    fenced = re.findall(r"```[a-z]*\n(.*?)\n```", text, re.DOTALL)
    assert setup.format("requirements.txt -e .", "") in fenced
    marked = re.search(r"<!-- test command -->\n```[a-z]*\n(.*?)\n```", text, re.DOTALL)
    assert marked is not None
    assert marked[1] == setup.format("requirements-dev.txt", " tests")
