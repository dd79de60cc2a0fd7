"""Profiles: what a model's sweep is, read from TOML. A user's file says only what differs from its `base`."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.sweep import keys, serving, settings
from bench_tests.sweep.configs import Config, variants
from bench_tests.sweep.cost import Cost, Power
from bench_tests.sweep.point import Point, grid, loads
from bench_tests.sweep.sessions import Sessions
from bench_tests.sweep.slo import Goodput, Slo, parse_goodput, parse_slo_table
from bench_tests.sweep.workload import Workload

__all__ = ["BUILTIN", "TABLES", "Profile", "in_config", "load_profile", "profile_for_model"]

_FOLDER = Path(__file__).parent / "profiles"
BUILTIN = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
TABLES: dict[str, type] = {
    "model": settings.Model,
    "sweep": settings.Sweep,
    "load": settings.Load,
    "workload": Workload,
    "sessions": Sessions,
    "timeouts": settings.Timeouts,
    "tiers": settings.Tiers,
    "validity": settings.Validity,
    "regression": settings.Regression,
    "server": serving.Server,
    "container": serving.Container,
    "slurm": serving.Slurm,
    "sim": serving.Sim,
    "power": Power,
    "cost": Cost,
}
TOP_KEYS = ("name", "base", "description", "goodput", "slo", "configs", "matrix")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # it becomes part of file names


@dataclass(frozen=True)
class Profile:
    """A model's sweep: what to run, how to load, how the server is started, and what is promised."""

    name: str
    source: str
    description: str = ""
    model: settings.Model = field(default_factory=settings.Model)
    sweep: settings.Sweep = field(default_factory=settings.Sweep)
    load: settings.Load = field(default_factory=settings.Load)
    workload: Workload = field(default_factory=Workload)
    sessions: Sessions = field(default_factory=Sessions)
    timeouts: settings.Timeouts = field(default_factory=settings.Timeouts)
    tiers: settings.Tiers = field(default_factory=settings.Tiers)
    validity: settings.Validity = field(default_factory=settings.Validity)
    regression: settings.Regression = field(default_factory=settings.Regression)
    server: serving.Server = field(default_factory=serving.Server)
    container: serving.Container = field(default_factory=serving.Container)
    slurm: serving.Slurm = field(default_factory=serving.Slurm)
    sim: serving.Sim = field(default_factory=serving.Sim)
    power: Power = field(default_factory=Power)
    cost: Cost = field(default_factory=Cost)
    slo: Slo = field(default_factory=Slo)
    goodput: Goodput | None = None
    sizes_said: bool = False  # whether the file names a parallel size of the server
    config: Config | None = None  # which of several configurations of the server this is
    configs: Mapping[str, Profile] = field(default_factory=dict)  # the profile in each of its configurations
    load_of_file: settings.Load | None = None  # [load] as the file has it, where options override it

    @property
    def label(self) -> str:
        """The profile's name, with the configuration's where there is one: for logs and jobs."""
        return f"{self.name}-{self.config.name}" if self.config else self.name

    @property
    def points(self) -> list[Point]:
        """The grid and the further points, in their order. Raises UsageError for a point that is there twice."""
        sweep, workload = self.sweep, self.workload
        if workload.sessions:
            return [Point(0, 0, workload=workload.of_users(users)) for users in sweep.users]
        if workload.trace:
            return [Point(0, 0, workload=workload.name)]
        if workload.dataset:
            points = [Point(0, 0, conc, rate, workload.name) for conc, rate in loads(sweep.concurrency, sweep.rate)]
        elif workload.ramp:
            points = [Point(isl, osl, workload=workload.name) for isl in sweep.isl for osl in sweep.osl]
        else:
            points = grid(sweep.isl, sweep.osl, sweep.concurrency, sweep.rate)
            points += [Point.parse(text) for text in sweep.points]
        for number, point in enumerate(points):
            if point in points[:number]:
                raise UsageError(f"{self.source}: point {point} is there twice; remove it from sweep.points")
        return points

    @property
    def gpus(self) -> int:
        """All GPUs of a server that is started as the profile says. Formula: TP × DP × PP, unless server.gpus or the roles
        say it.
        """
        sizes = self.server.tensor_parallel * self.server.data_parallel * self.server.pipeline_parallel
        return self.server.gpus or sum(role.gpus for role in self.server.role) or sizes

    @property
    def named_gpus(self) -> int | None:
        """The GPUs of a server that was there before: what the profile or `--gpus` says; None where neither does."""
        said = self.server.gpus or self.sizes_said or any(role.gpus for role in self.server.role)
        return self.gpus if said else None

    def num_prompts(self, point: Point) -> int:
        """How many measured requests this point has."""
        if self.load.num_prompts:
            return self.load.num_prompts
        if point.rate:
            return max(1, math.ceil(point.rate * self.load.rate_seconds))
        if point.users:
            return self.load.prompts_per_concurrency * point.users
        return self.load.prompts_per_concurrency * point.conc

    def num_warmups(self, point: Point) -> int:
        """How many requests precede them. Each user of sessions has one, where it enters."""
        if point.users:
            return 0
        if self.load.num_warmups >= 0:
            return self.load.num_warmups
        return self.load.warmups_per_concurrency * (point.conc or max(1, math.ceil(point.rate)))

    def rate(self, point: Point) -> float:
        """Requests started per second; infinite where the concurrency alone delays them, or the workload says when."""
        return point.rate or self.load.request_rate


def load_profile(name_or_path: str) -> Profile:
    """Read a built-in profile by its name, or a TOML file. Raises UsageError with the file, the key and the fix."""
    looks_like_path = name_or_path.endswith(".toml") or "/" in name_or_path
    if not looks_like_path and name_or_path not in BUILTIN:
        near = difflib.get_close_matches(name_or_path, BUILTIN, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--profile {name_or_path!r}: expected one of {', '.join(BUILTIN)}, or a .toml file{hint}")
    path = Path(name_or_path) if looks_like_path else _FOLDER / f"{name_or_path}.toml"
    table, source = _read(path, seen=()), str(path) if looks_like_path else f"profile {name_or_path}"
    profile = _build(table, source, source, default_name=path.stem)
    configs = {}
    for config, its in variants(table, source):
        built = _build(its, source, f"{source} configs.{config.name}", default_name=path.stem)
        configs[config.name] = replace(built, config=config)
    return replace(profile, configs=configs)


def in_config(profile: Profile, name: str | None) -> Profile:
    """The profile in this configuration; as it is without one. Raises UsageError for a name that it does not have."""
    if name is None:
        return profile
    if name not in profile.configs:
        near = difflib.get_close_matches(name, profile.configs, 1)
        known = (
            f"expected one of {', '.join(profile.configs)}" if profile.configs else "it has none: add [configs.NAME]"
        )
        raise UsageError(
            f"--config {name}: {profile.source} has no such configuration; "
            + (f"did you mean {near[0]}?" if near else known)
        )
    return profile.configs[name]


def profile_for_model(model: str) -> str | None:
    """The built-in profile whose model this is, if any."""
    for name in BUILTIN:
        if name != "demo" and load_profile(name).model.id == model:
            return name
    return None


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device read without end
            raise UsageError(f"profile {path}: not a regular file; expected a readable TOML file")
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as why:
        raise UsageError(f"profile {path}: {why.strerror or why}; expected a readable TOML file") from why
    except (ValueError, RecursionError) as why:  # not TOML, not UTF-8, a number of 5,000 digits, a NUL in the path
        raise UsageError(f"profile {path}: not TOML: {why}") from why
    base = table.pop("base", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise UsageError(f"profile {path} base: {base!r}; expected a profile's name or a .toml file")
    if base in BUILTIN:
        base_path = _FOLDER / f"{base}.toml"
    elif base.endswith(".toml"):
        base_path = path.parent / Path(base).expanduser()
    else:
        raise UsageError(f"profile {path} base: {base!r}; expected one of {', '.join(BUILTIN)}, or a .toml file")
    if base_path in seen or base_path == path:
        raise UsageError(f"profile {path} base: {base!r} leads back to itself")
    below = _read(base_path, (*seen, path))
    if "matrix" in table:
        below.pop("matrix", None)  # its lists are one whole: a derived profile has its own or none
    below.pop("name", None)  # a derived profile is another profile: its results must not take the base's names
    return _merge(below, table)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merge(merged[name], value) if both else value
    return merged


def _build(table: dict[str, Any], source: str, where: str, default_name: str) -> Profile:
    """The profile of a table; `where` it stands, for messages: a configuration's differs from its file."""
    known = [*TOP_KEYS, *TABLES]
    for unknown in table.keys() - set(known):
        raise UsageError(_unknown(source, unknown, known))
    name = table.get("name", default_name)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{source} name: {name!r}; expected letters, digits, '.', '_' and '-' (it names result files)")
    parts: dict[str, Any] = {
        section: _build_table(kind, table.get(section, {}), f"{where} {section}") for section, kind in TABLES.items()
    }
    slo = table.get("slo", {})
    if not isinstance(slo, dict):
        raise UsageError(f"{source} slo: {slo!r}; expected a table [slo]")
    goodput = table.get("goodput")
    profile = Profile(
        name=name,
        source=source,
        description=str(table.get("description", "")),
        slo=parse_slo_table(slo, source),
        sizes_said=any(key.endswith("_parallel") for key in table.get("server", {})),
        goodput=parse_goodput(_goodput_text(goodput, source), f"{source} goodput") if goodput else None,
        **parts,
    )
    _ = profile.points  # a point that is there twice is told now, not in the middle of the sweep
    return profile


def _goodput_text(value: object, source: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return " ".join(f"{name}:{limit}{'' if isinstance(limit, str) else 's'}" for name, limit in value.items())
    raise UsageError(f"{source} goodput: {value!r}; expected a text such as 'ttft:2s tpot:50ms', or a table")


def _build_table(kind: type, table: object, where: str) -> Any:
    if not isinstance(table, dict):
        raise UsageError(f"{where}: {table!r}; expected a table [{where.rpartition(' ')[2]}]")
    specs = {spec.name: spec for spec in dataclasses.fields(kind)}
    for unknown in table.keys() - specs.keys():
        raise UsageError(_unknown(where, unknown, list(specs)))
    return kind(**{name: keys.checked(specs[name], value, f"{where}.{name}") for name, value in table.items()})


def _unknown(where: str, key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"{where}: unknown key {key!r}; " + (f"did you mean {near[0]}?" if near else f"expected {', '.join(known)}")
