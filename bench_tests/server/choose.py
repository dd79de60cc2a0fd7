"""Which profile and which server a session uses, by its options and by what is there.

Nothing falls back silently: a server that was named and does not answer is an error.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench_tests.errors import ServerError, UsageError
from bench_tests.server.attach import AttachedServer, look_at
from bench_tests.server.client import must_ask_for_its_key
from bench_tests.server.info import ServerInfo, default_server_info, read_server_info
from bench_tests.server.power import check_power
from bench_tests.server.sampler import sources_of
from bench_tests.server.served import Endpoint, Say, Served
from bench_tests.server.url import mask_url, split_url
from bench_tests.sweep.profile import BUILTIN, Profile, load_profile, profile_for_model
from bench_tests.sweep.selected import apply_options, selected_configs
from bench_tests.sweep.settings import Validity

__all__ = ["Choice", "choose", "obtain", "second"]


@dataclass(frozen=True)
class Choice:
    """What a session has settled on before anything is collected. `kind`: attach, slurm, local or sim."""

    profile: Profile
    kind: str
    source: str  # why, in words
    endpoint: Endpoint | None = None
    info: ServerInfo | None = None
    info_path: Path | None = None
    configs: tuple[str, ...] = ()  # of the profile's configurations, which are measured

    def of(self, config: str) -> Choice:
        """The choice of one configuration: its profile, and in Slurm a server_info.txt of its own."""
        if not config:
            return self
        path = self.info_path or default_server_info()
        own = path.with_name(f"{path.stem}.{config}{path.suffix}") if self.kind == "slurm" else path
        return replace(self, profile=self.profile.configs[config], info_path=own, configs=())


async def choose(option: Callable[[str], Any]) -> Choice:
    """Settle the profile and the kind of server. Asks a server only where its model has to name the profile."""
    choice = await _choose(option)
    choice = replace(choice, configs=_configs(choice, option("--config")))
    for one in (choice.of(name).profile for name in choice.configs or ("",)):
        sources_of(one.server, choice.endpoint or Endpoint("http://localhost"))  # wrong URLs are told now
        check_power(one.power)
    return choice


def _configs(choice: Choice, named: Sequence[str] | None) -> tuple[str, ...]:
    """The configurations that are measured: of a server that was there before, the one that is named. Raises UsageError."""
    if choice.kind != "attach":
        return tuple(selected_configs(choice.profile, named))
    said = choice.info.config if choice.info is not None else None
    if not named and said in choice.profile.configs:
        return (str(said),)
    if named and len(named) > 1:
        raise UsageError(
            f"--config {named[1]}: this session attaches to one server ({choice.source}); name the configuration that it "
            "has, or start each with --server slurm or local"
        )
    return tuple(selected_configs(choice.profile, named)) if named else ()


async def _choose(option: Callable[[str], Any]) -> Choice:
    named = load_profile(option("--profile")) if option("--profile") else None
    if named is not None:
        named = apply_options(named, option)
    kind = option("--server")
    info_path = Path(option("--server-info")).absolute() if option("--server-info") else default_server_info()
    base_url = option("--base-url")
    if base_url:
        if kind not in ("auto", "attach"):
            shown = mask_url(base_url)
            raise UsageError(f"--base-url {shown} and --server {kind}: one of them names the server; drop the other")
        base, query = split_url(base_url, "--base-url")
        endpoint = Endpoint(base, _key(), bool(option("--insecure")), _headers(option("--header")), query)
        return Choice(named or await _profile_of(endpoint, None, None, option), "attach", "--base-url", endpoint)
    if kind == "auto" and named is None and not info_path.exists():
        await _must_not_be_starting(info_path)
    if kind == "attach" or (kind == "auto" and info_path.exists()):
        if not info_path.exists():
            raise ServerError(f"{info_path}: no such file; start a server (sbatch slurm/serve.sh) or give --base-url")
        info = read_server_info(info_path)
        key = info.api_key or _key()
        endpoint = Endpoint(info.url, key, bool(option("--insecure")), _headers(option("--header")))
        profile = named or await _profile_of(endpoint, info, info_path, option)
        return Choice(profile, "attach", str(info_path), endpoint, info, info_path)
    if option("--server-info") and kind == "auto":
        raise ServerError(f"--server-info {info_path}: no such file; start a server (sbatch slurm/serve.sh) first")
    profile = named or apply_options(load_profile("demo"), option)
    if kind == "auto":
        kind = _automatic(profile)
    return Choice(profile, kind, f"--server {option('--server')}", info_path=info_path)


def second(choice: Choice, option: Callable[[str], Any]) -> Choice:
    """The same profile on the server of --against; headers and key are the same for both. Raises UsageError."""
    base, query = split_url(option("--against"), "--against")
    endpoint = Endpoint(base, _key(), bool(option("--insecure")), _headers(option("--header")), query)
    return Choice(choice.profile, "attach", "--against", endpoint)


def _key() -> str | None:
    """$OPENAI_API_KEY, when it is set. Raises UsageError, without the key, for one that no header can carry."""
    key = os.environ.get("OPENAI_API_KEY", "")
    if any(not 33 <= ord(c) <= 126 for c in key):
        raise UsageError(
            "$OPENAI_API_KEY: it has characters that a key cannot have (a line end? a space?); set it again"
        )
    return key or None


def _headers(named: Sequence[tuple[str, str]] | None) -> tuple[tuple[str, str], ...]:
    """The headers of --header with their values. Raises UsageError, without the value, for one that cannot be sent."""
    found = []
    for name, variable in named or ():
        value = os.environ.get(variable, "")
        if not value:
            raise UsageError(f"--header {name}={variable}: ${variable} is not set; export {variable}=... first")
        if not value.isascii() or not value.isprintable():
            raise UsageError(f"--header {name}={variable}: ${variable} has characters that no header can carry")
        found.append((name, value))
    return tuple(found)


def _automatic(profile: Profile) -> str:
    if profile.name == "demo":
        return "sim"
    if shutil.which("sbatch"):
        return "slurm"
    raise ServerError(
        f"profile {profile.name} has no server: no --base-url, no server_info.txt, and no Slurm here; start one and give "
        "--base-url URL, or use --server local, or --server sim to rehearse on the simulated server"
    )


async def _must_not_be_starting(path: Path) -> None:
    """Raises ServerError while a server that the user has submitted is still to come: the simulated one is not meant."""
    if not shutil.which("squeue"):
        return
    from bench_tests.server.slurm.start import submitted_for

    job = await submitted_for(path)
    if job is None or path.exists():  # it may have come up meanwhile
        return
    which = "" if path == default_server_info() else f" --server-info={shlex.quote(str(path))}"
    raise ServerError(
        f"job {job.job_id} of slurm/serve.sh is {job.state} and has not published {path} yet; wait for it: "
        f"python3 -m bench_tests.server.wait{which}, or name another server: --base-url URL, "
        "--server-info=PATH or --server sim"
    )


async def _profile_of(
    endpoint: Endpoint, info: ServerInfo | None, path: Path | None, option: Callable[[str], Any]
) -> Profile:
    """The profile that server_info.txt names or whose model is served; else the demo's points for whatever is served."""
    if info is not None and info.profile:
        return apply_options(_profile_in(info.profile, path), option)
    served = await look_at(endpoint, option("--model") or "")
    name = profile_for_model(served.model)
    if name:
        return apply_options(load_profile(name), option)
    demo = load_profile("demo")
    # the demo's leniency is for a rehearsal; what is said of a real server holds as strictly as by any profile
    validity = demo.validity if served.simulated else Validity()
    return apply_options(replace(demo, model=replace(demo.model, id=""), validity=validity), option)


def _profile_in(value: str, path: Path | None) -> Profile:
    """What `profile=` of server_info.txt names. Raises UsageError.

    That file may be another's work: what it names is read as a profile or not at all, and no word of it is told.
    """
    if value not in BUILTIN and not value.endswith(".toml"):
        why = f"expected one of {', '.join(BUILTIN)}, or a .toml file"
    elif value not in BUILTIN and not os.path.isfile(value):
        why = "no such file on this host"
    else:
        try:
            return load_profile(value)
        except (UsageError, ValueError, RecursionError):
            why = "expected a profile, and it cannot be loaded as one (given as --profile it says why)"
    raise UsageError(f"{path}: profile={value!r}: {why}; name the profile yourself: --profile=FILE.toml")


async def obtain(choice: Choice, log_dir: Path, keep: bool, say: Say) -> Served:
    """The server itself: attached to, or started. Raises ServerError and UsageError."""
    if choice.kind == "attach" and choice.endpoint is not None:
        served = await _attached(choice, choice.endpoint, say)
        if choice.info is not None and choice.info.model:
            try:
                await look_at(served.endpoint, choice.info.model)
            except ServerError as why:
                raise ServerError(f"{choice.info_path} names model {choice.info.model}: {why}") from None
        return served
    if choice.kind == "local":
        from bench_tests.server.local import LocalServer

        return await LocalServer.start(choice.profile, log_dir, say)
    if choice.kind == "slurm":
        from bench_tests.server.slurm.obtain import obtain_job

        if not shutil.which("sbatch"):
            raise ServerError("--server slurm: no sbatch on PATH; run this on the cluster's login node")
        return await obtain_job(choice.profile, choice.info_path or default_server_info(), log_dir, say, keep)
    from bench_tests.server.simulated import SimulatedServer

    return await SimulatedServer.start(choice.profile)


async def _attached(choice: Choice, endpoint: Endpoint, say: Say) -> Served:
    info = choice.info
    if info is not None and info.job_id and choice.info_path is not None and shutil.which("squeue"):
        from bench_tests.server.slurm.job import SlurmServer

        return await SlurmServer.attach(info, choice.profile, choice.info_path, say, like=endpoint)
    await must_ask_for_its_key(endpoint, info.api_key if info is not None else None)
    extra = {"job_id": info.job_id, "hostname": info.hostname} if info is not None and info.job_id else {}
    if info is not None and info.power_file:
        extra["power_file"] = info.power_file
    return AttachedServer(endpoint, choice.source, extra=extra)
