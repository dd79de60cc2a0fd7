"""The packages: what may import what, who alone knows pytest, where slow imports stand, how long a module is.

The way of the data is sweep → load → server → measure → verdict → compare → results → picture; what lies earlier on it
never imports what comes later. A package is allowed what its line in ALLOWED names, and nothing else.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASE = {
    "errors",
    "figures",
    "markdown",
    "masking",
    "net",
    "paths",
    "text",
}  # loose modules that import nothing of ours but each other

ALLOWED: dict[str, set[str]] = {
    "sweep": BASE,
    "load": {"sweep"} | BASE,
    "sim": BASE,
    "server": {"sweep", "load", "sim"} | BASE,  # load: what an endpoint is sent, for the probe
    "verdict": {"sweep", "load"} | BASE,
    "results": {"sweep", "load"} | BASE,
    "compare": {"sweep", "load", "verdict", "results"} | BASE,
    "calibration": {"sweep", "load", "sim", "results"} | BASE,
    # compare: whether a result that is there answers the question that a point asks (--resume)
    "measure": {"sweep", "load", "server", "verdict", "results", "compare", "calibration"} | BASE,
    "plotting": {"sweep", "load", "verdict", "results", "compare"} | BASE,
    # the cases of the suite: what a user sees, and what only they and the plugin may use
    "cases": {"sweep", "measure", "verdict", "compare", "pytest_plugin"} | BASE,
    "pytest_plugin": {
        "sweep", "load", "server", "measure", "verdict", "compare", "results", "calibration", "plotting", "sim",
    } | BASE,
}  # fmt: skip

# What goes against the way today, module by module. It only shrinks: a line that is no longer true is to be removed.
AGAINST_THE_WAY: set[tuple[str, str]] = set()

MAX_LINES = 300
LONGER = {
    "bench_tests/load/worker/loop.py": 455,  # the timed loop: one thing, read as one
}

SLOW = {"transformers", "matplotlib", "scipy", "plotly", "pandas"}  # imported inside of the functions that use them
THE_JOBS_OWN_SIDE = (
    "server.serve",
    "server.wait",
    "server.slurm.serve",
    "server.slurm.wait",
    "server.keeper",
    "server.power_sampler",
)


def modules() -> dict[str, Path]:
    files = [*ROOT.glob("bench_tests/**/*.py"), *ROOT.glob("plotting/**/*.py")]
    return {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """The modules that these statements import; a name of a package counts as its module where it is one."""
    known = modules()
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "relative imports are not counted here"
            assert node.level == 0, "relative imports are not counted here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def at_the_top(path: Path) -> Iterator[ast.AST]:
    """The statements that run when the module is imported; `if TYPE_CHECKING:` does not."""
    todo: list[ast.AST] = [tree(path)]
    while todo:
        node = todo.pop()
        yield node
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not checking and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo.extend(ast.iter_child_nodes(node))


def package(module: str) -> str | None:
    """Where a module belongs: `load`, `plotting`, a loose module's own name, `cases`; None for the empty packages."""
    top, *rest = module.split(".")
    if top == "plotting":
        return top
    if not rest:
        return None
    return "cases" if rest[0].startswith("test_") else rest[0]


def edges() -> set[tuple[str, str]]:
    """All imports of ours by ours, wherever they stand in a module."""
    ours = ("bench_tests", "plotting")
    found = {(m, there) for m, path in modules().items() for there in imported(ast.walk(tree(path)))}
    return {(here, there) for here, there in found if there.split(".")[0] in ours}


def test_imports_follow_the_way_of_the_data() -> None:
    against = set()
    for here, there in edges():
        a, b = package(here), package(there)
        if a is not None and b is not None and a != b and b not in ALLOWED.get(a, BASE):
            against.add((here, there))
    assert against - AGAINST_THE_WAY == set(), "against the way; move what they share to where both may import it"
    assert AGAINST_THE_WAY - against == set(), "no longer there: remove the line from AGAINST_THE_WAY"


def test_the_allowed_ways_have_a_direction() -> None:
    assert set(TopologicalSorter(ALLOWED).static_order()) == set(ALLOWED) | BASE
    with pytest.raises(CycleError):
        list(TopologicalSorter(ALLOWED | {"sweep": {"measure"}}).static_order())


def test_every_package_has_its_line() -> None:
    packages = {path.parent.name for path in ROOT.glob("bench_tests/*/__init__.py")}
    assert packages | {"plotting", "cases"} == set(ALLOWED)
    loose = {path.stem for path in ROOT.glob("bench_tests/*.py")} - {"__init__"}
    assert {name for name in loose if not name.startswith("test_")} <= BASE


def test_no_module_imports_itself_by_a_detour() -> None:
    known = modules()
    graph = {m: {t for t in imported(at_the_top(path)) if t in known and t != m} for m, path in known.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(known)  # CycleError names the ring


def test_only_the_plugin_knows_pytest() -> None:
    knowing = {m for m, path in modules().items() for name in imported(ast.walk(tree(path))) if "pytest" in name.split(".")[0]}  # fmt: skip
    assert knowing
    assert {m for m in knowing if package(m) not in ("pytest_plugin", "cases")} == set()


def test_what_is_slow_to_import_is_imported_where_it_is_used() -> None:
    early = {(m, n) for m, path in modules().items() for n in imported(at_the_top(path)) if n.split(".")[0] in SLOW}
    assert {(m, n) for m, n in early if not m.startswith("plotting")} == set()
    # and none of it comes by a detour: neither collecting the cases nor the timed process has use for it
    wanted = "bench_tests.pytest_plugin.options, bench_tests.pytest_plugin.fixtures, bench_tests.pytest_plugin.reports, bench_tests.load.worker.main, bench_tests.measure.point"
    shown = f"import sys, {wanted}; print(*sorted({SLOW!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", shown], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_the_jobs_own_side_is_the_standard_library_alone() -> None:
    """As on a compute node whose Python has no packages."""
    names = ", ".join(f"bench_tests.{name}" for name in THE_JOBS_OWN_SIDE)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {names}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_no_module_is_longer_than_one_reads_at_once() -> None:
    long = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in modules().values()}
    long = {name: lines for name, lines in long.items() if lines > MAX_LINES}
    assert {name: lines for name, lines in long.items() if lines > LONGER.get(name, MAX_LINES)} == {}
    assert set(LONGER) - set(long) == set(), "short enough by now: remove the line from LONGER"


def test_the_repositorys_folder_is_found_once() -> None:
    finding = {m for m, path in modules().items() if any(
        isinstance(n, ast.Attribute) and n.attr == "parents" and "__file__" in ast.unparse(n) for n in ast.walk(tree(path))
    )}  # fmt: skip
    assert finding <= {"bench_tests.paths"}
    again = {m for m, path in modules().items() if "ROOT =" in path.read_text(encoding="utf-8")}
    assert again == {"bench_tests.paths"}
