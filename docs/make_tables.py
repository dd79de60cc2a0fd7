"""Writes the tables of docs/profiles.md from the code that reads profiles: `python docs/make_tables.py`.

With `--check` it writes nothing and ends with 1 when the page is not as the code says.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench_tests.errors import UsageError  # noqa: E402
from bench_tests.sweep.keys import checked  # noqa: E402
from bench_tests.sweep.profile import BUILTIN, TABLES, Profile, load_profile  # noqa: E402

__all__ = ["main", "page_with_tables", "tables"]

PAGE = ROOT / "docs" / "profiles.md"
_BLOCK = re.compile(r"(<!-- table (?P<name>[\w.]+): begin -->\n).*?(<!-- table (?P=name): end -->)", re.DOTALL)
# what a check's message expects → a column's word
_SHORT = {
    "a text in quotes, not empty, without control characters": "text",
    "a form such as 2s, 50ms or 1.5": "duration",
    "a table": "table",
}
_LISTS = {
    "tuple[int, ...]": "list of whole numbers",
    "tuple[float, ...]": "list of numbers",
    "tuple[str, ...]": "list of texts",
}


def tables() -> dict[str, str]:
    """Each table of the page by its name, as Markdown."""
    made = {name: _keys(kind) for name, kind in TABLES.items()}
    made["builtin"] = _builtin([load_profile(name) for name in BUILTIN])
    return made


def page_with_tables(text: str) -> str:
    """The page with its tables as the code says them. Raises ValueError when it lacks one, or has one too many."""
    made = tables()
    found = [match["name"] for match in _BLOCK.finditer(text)]
    if sorted(found) != sorted(made):
        raise ValueError(f"{PAGE}: has the tables {sorted(found)}; expected each of {sorted(made)} once")
    return _BLOCK.sub(lambda match: f"{match[1]}{made[match['name']]}\n{match[3]}", text)


def _keys(kind: type) -> str:
    rows = [(f"`{spec.name}`", _value(spec), _default(spec), str(spec.metadata["doc"])) for spec in fields(kind)]
    return _markdown(("key", "value", "default", "meaning"), rows)


def _expected(spec: Field[Any]) -> str:
    try:
        checked(spec, object(), "")
    except UsageError as why:
        return str(why).partition("expected ")[2]
    raise AssertionError(f"{spec.name}: its check takes anything")


def _value(spec: Field[Any]) -> str:
    words = _expected(spec)
    if words.startswith("a list"):
        return _LISTS.get(str(spec.type)) or "list of durations"
    if "None" in str(spec.type):
        words += ', or `"fresh"`'
    if words.startswith("one of "):
        return " or ".join(f'`"{name}"`' for name in words.removeprefix("one of ").split(", "))
    return _SHORT.get(words) or words.removeprefix("a ")


def _default(spec: Field[Any]) -> str:
    if spec.default is MISSING:
        return "`{}`"
    value = spec.default
    if value is None:
        return '`"fresh"`'
    if _expected(spec) in _SHORT and isinstance(value, float):
        return f"`{_duration(value)}`"
    return f"`{_toml(value)}`"


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "m")):
        if seconds >= unit and seconds % unit == 0:
            return f'"{seconds / unit:g}{name}"'
    return f'"{seconds:g}s"' if seconds >= 1 else f'"{seconds * 1000:g}ms"'


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return "inf" if math.isinf(value) else f"{value:g}"
    return str(value)


def _builtin(profiles: Sequence[Profile]) -> str:
    def numbers(values: Sequence[float]) -> str:
        return ", ".join(f"{value:g}" for value in values)

    def limits(profile: Profile) -> str:
        return ", ".join(f"{metric} ≤ {limit:g} s" for metric, limit in profile.slo.limits_s.items())

    rows = [
        ("model", *(f"`{p.model.id}`" for p in profiles)),
        ("ISL", *(numbers(p.sweep.isl) for p in profiles)),
        ("OSL", *(numbers(p.sweep.osl) for p in profiles)),
        ("concurrency", *(numbers(p.sweep.concurrency) for p in profiles)),
        ("points", *(str(len(p.points)) for p in profiles)),
        ("prompts, warm-ups × concurrency",
         *(f"{p.load.prompts_per_concurrency}, {p.load.warmups_per_concurrency}" for p in profiles)),
        ("range ratio", *(f"{p.load.range_ratio:g}" for p in profiles)),
        ("objectives", *(limits(p) for p in profiles)),
        ("TTFT tiers, s", *(numbers(p.tiers.ttft) for p in profiles)),
        ("TPOT tiers, s", *(numbers(p.tiers.tpot) for p in profiles)),
        ("GPUs (TP × DP × PP)", *(str(p.gpus) for p in profiles)),
        ("server's job", *(f"{p.slurm.memory}, {p.slurm.time}" for p in profiles)),
        ("container", *(f"`{p.container.image}`" if p.container.image else "none" for p in profiles)),
    ]  # fmt: skip
    return _markdown(("", *(f"`{p.name}`" for p in profiles)), rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, or with --check compare it. Exit code 1 when it was not as the code says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when the page is not current")
    options = parser.parse_args(argv)
    was = PAGE.read_text(encoding="utf-8")
    now = page_with_tables(was)
    if options.check:
        return int(was != now)
    PAGE.write_text(now, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
