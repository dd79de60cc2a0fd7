"""Configurations of a profile's server: `[configs.NAME]` and `[matrix]`, each a variant that a sweep starts and measures."""

from __future__ import annotations

import difflib
import itertools
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.sweep.serving import Container, Server, Sim, Slurm
from bench_tests.sweep.settings import Model

__all__ = ["Config", "variants"]

#: what differs between configurations: of the server alone, never of its load or of what is promised
TABLES = {"server": Server, "container": Container, "slurm": Slurm, "sim": Sim, "model": Model}
#: flags of the serve command by their names, as vLLM has them, and the word for each in a configuration's name
FLAGS = {
    "max_num_batched_tokens": "mbt",
    "max_num_seqs": "seqs",
    "max_model_len": "len",
    "gpu_memory_utilization": "mem",
    "quantization": "",
    "dtype": "",
    "kv_cache_dtype": "kv",
    "block_size": "block",
    "decode_context_parallel_size": "dcp",
    "api_server_count": "api",
    "attention_backend": "",
    "all2all_backend": "",
    "speculative_config": "spec",
    "enable_prefix_caching": "prefix",
    "enable_chunked_prefill": "chunked",
    "async_scheduling": "async",
    "enable_eplb": "eplb",
    "enable_dbo": "dbo",
}
_WORDS = {**FLAGS, "tensor_parallel": "tp", "data_parallel": "dp", "pipeline_parallel": "pp", "expert_parallel": "ep"}
_SIZES = {
    "tensor_parallel": "--tensor-parallel-size",
    "data_parallel": "--data-parallel-size",
    "pipeline_parallel": "--pipeline-parallel-size",
    "expert_parallel": "--enable-expert-parallel",
}
_SERVER_KEYS = tuple(spec.name for spec in fields(Server))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # it becomes part of test ids and file names
_AXIS = re.compile(r"(?<![A-Za-z0-9])(?:isl|osl|conc|rate|users|run)\d", re.IGNORECASE)
_MOST = 256  # configurations of a matrix


@dataclass(frozen=True)
class Config:
    """Which configuration a profile describes: its name, and what sets it apart from the profile, flat."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def variants(table: Mapping[str, Any], source: str) -> Iterator[tuple[Config, dict[str, Any]]]:
    """Each configuration of a profile's `table`, and the table that describes it alone. Raises UsageError."""
    plain = {name: value for name, value in table.items() if name not in ("configs", "matrix")}
    named = table.get("configs", {})
    if not isinstance(named, dict) or not all(isinstance(said, dict) for said in named.values()):
        raise UsageError(f"{source} configs: {named!r}; expected tables of the form [configs.NAME]")
    found = [
        (name, _flat(said, f"{source} configs.{name}"), f"{source} configs.{name}") for name, said in named.items()
    ]
    found += [(name, said, f"{source} matrix") for name, said in _matrix(table, source)]
    seen: set[str] = set()
    for name, settings, where in found:
        if not _NAME.fullmatch(name) or _AXIS.search(name):
            raise UsageError(f"{where}: the name {name!r}; expected letters, digits, '.', '_' and '-', and no part such as "
                             "isl4096 or conc16 (it begins the names of cases and names result files)")  # fmt: skip
        if name in seen:
            raise UsageError(
                f"{where}: two configurations are called {name}; give each a name of its own ([configs.NAME])"
            )
        seen.add(name)
        yield Config(name, settings), _applied(plain, settings)


def _flat(said: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings by `tensor_parallel`, `sim.step_ms`, `env.NAME` ... Raises UsageError for a key that means nothing."""
    found: dict[str, Any] = {}
    for key, value in said.items():
        if key in TABLES or key == "env":
            if not isinstance(value, dict):
                raise UsageError(f"{where}.{key}: {value!r}; expected a table")
            known = () if key == "env" else [spec.name for spec in fields(TABLES[key])]
            for inner, one in value.items():
                if known and inner not in known:
                    raise UsageError(_unknown(f"{where}.{key}", inner, known))
                found[inner if key == "server" else f"{key}.{inner}"] = one
        elif key.startswith("--") or key in (*FLAGS, *_SERVER_KEYS, "image"):
            found[key] = value
        else:
            raise UsageError(_unknown(where, key, [*_SERVER_KEYS, *FLAGS, "image", "env", *TABLES]))
    return found


def _unknown(where: str, key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    flag = f'a flag of the serve command is written "--{key.replace("_", "-")}"'
    return f"{where}: unknown key {key!r}; " + (f"did you mean {near[0]}? " if near else "") + flag


def _matrix(table: Mapping[str, Any], source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every combination of the lists of `[matrix]` but the excluded ones, with a name made of its values."""
    said, where = table.get("matrix"), f"{source} matrix"
    if said is None:
        return
    if not isinstance(said, dict):
        raise UsageError(f"{where}: {said!r}; expected a table [matrix] of lists")
    out = said.get("exclude", [])
    if not isinstance(out, list) or not all(isinstance(one, dict) and one for one in out):
        raise UsageError(f"{where}.exclude: {out!r}; expected a list of tables, such as [{{tensor_parallel = 4}}]")
    lists = _flat({key: value for key, value in said.items() if key != "exclude"}, where)
    for key, values in lists.items():
        if not isinstance(values, list) or not values or any(values.count(value) > 1 for value in values):
            raise UsageError(f"{where}.{key}: {values!r}; expected a list in [ ] of different values")
    excluded, used = [_flat(one, f"{where}.exclude") for one in out], set()
    for one in excluded:
        for key, value in one.items():
            if value not in lists.get(key, []):
                raise UsageError(f"{where}.exclude: {key} = {value!r} is none of the matrix; correct it or remove it")
    combinations = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    if not lists or len(combinations) > _MOST:
        raise UsageError(f"{where}: {len(combinations) * bool(lists)} configurations; expected 1 to {_MOST}")
    for one in combinations:
        hit = [n for n, other in enumerate(excluded) if all(one[key] == value for key, value in other.items())]
        used.update(hit)
        if not hit:
            yield "-".join(filter(None, (_word(*item) for item in one.items()))) or "plain", one


def _word(key: str, value: Any) -> str:
    """A value in a configuration's name: tp4, mbt8192, fp8; nothing for what is off."""
    short = _WORDS.get(key, key.lstrip("-").rpartition(".")[2].replace("_", "-"))
    if isinstance(value, bool):
        return (short or key) if value else ""
    said = f"{value:g}" if isinstance(value, float) else str(value)
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", said).strip("-").lower()
    return short + (plain if len(plain) <= 20 else f"{zlib.crc32(said.encode()):08x}")


def _applied(plain: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The profile's table with these settings in it."""
    table = {name: dict(value) if isinstance(value, dict) else value for name, value in plain.items()}
    flags = {}
    for key, value in settings.items():
        place, dot, inner = key.partition(".")
        if key.startswith("--") or key in FLAGS:
            flags[key] = value
        elif place == "env" and dot:
            server = table.setdefault("server", {})
            server["env"] = {**server.get("env", {}), inner: value}
        elif key == "image":
            table.setdefault("container", {})["image"] = value
        elif dot:
            table.setdefault(place, {})[inner] = value
        else:
            table.setdefault("server", {})[key] = value
    server = table.get("server", {})
    args = server.get("serve_args", [])
    sizes = [_SIZES[key] for key in settings if key in _SIZES]
    if (flags or sizes) and isinstance(args, list):  # another type is told when the table is checked
        for flag in sizes:  # the key of the configuration counts, not the profile's own flag
            args = _with_flag(args, flag, False)
        for key, value in flags.items():
            args = _with_flag(args, key, value)
        table["server"] = {**server, "serve_args": args}
    return table


def _with_flag(args: Sequence[Any], key: str, value: Any) -> list[Any]:
    """The arguments with this flag's value in place of the one that they have. false: vLLM's `--no-FLAG` for a name of
    FLAGS, and left out for one that is written with its dashes.
    """
    flag = key if key.startswith("--") else f"--{key.replace('_', '-')}"
    kept: list[Any] = []
    skip = False
    for arg in args:
        own = isinstance(arg, str) and arg.startswith("--")
        skip = arg in (flag, f"--no-{flag[2:]}") if own else skip
        if not skip and not (own and arg.startswith(f"{flag}=")):
            kept.append(arg)
    if value is True:
        return [*kept, flag]
    if value is False:
        return kept if key.startswith("--") else [*kept, f"--no-{flag[2:]}"]
    return [*kept, flag, str(value)]
