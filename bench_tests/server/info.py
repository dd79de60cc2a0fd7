"""server_info.txt: how a server that runs elsewhere is found. First line the bare URL, then `key=value` lines.

The file comes from a shared folder, so it is read as untrusted input.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from bench_tests.errors import UsageError
from bench_tests.paths import workspace

__all__ = ["MAX_BYTES", "ServerInfo", "default_server_info", "read_server_info", "remove_if_ours", "write_server_info"]

MAX_BYTES = 64 * 1024  # a real one has a few hundred
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+\[\]-]{0,63}")  # never starts with '-': it becomes an argument
_API_KEY = re.compile(r"[\x21-\x7e]{1,4096}")  # what a header can carry
_POWER_FILE = re.compile(r"/[\x20-\x7e]{1,900}/power-[A-Za-z0-9_.+\[\]-]{1,80}\.\{host\}\.jsonl")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}")


@dataclass(frozen=True)
class ServerInfo:
    """A server as its file describes it; what the file does not say is None."""

    url: str  # without a trailing slash and without /v1
    profile: str | None = None
    model: str | None = None
    job_id: str | None = None
    api_key: str | None = field(default=None, repr=False)
    started: str | None = None  # UTC, ISO 8601
    hostname: str | None = None
    port: int | None = None
    config: str | None = None  # of the profile's configurations
    launch: str | None = None  # what it was launched with (server/launch.py), where a configuration is
    ready_s: str | None = None  # from its start until it served, seconds
    power_file: str | None = None  # what each node's power sampler writes, {host} being the node's name


_KEYS = tuple(spec.name for spec in fields(ServerInfo) if spec.name != "url")


def default_server_info(environ: Mapping[str, str] | None = None) -> Path:
    """$SERVER_INFO, else server_info.txt in the repository's root (without a checkout, in the working folder)."""
    environ = os.environ if environ is None else environ
    return Path(environ.get("SERVER_INFO") or workspace() / "server_info.txt").expanduser().absolute()


def read_server_info(path: Path) -> ServerInfo:
    """Read the file; a file with the URL's line alone is enough, keys it does not know are passed over.

    Raises UsageError with the file, the line and the fix. FileNotFoundError is one of its causes: ask `path.exists()`
    first where a missing file is no error.
    """
    lines = _read_text(path).splitlines()
    if not lines or not lines[0].strip():
        raise UsageError(f"{path} line 1: empty; expected the server's URL, such as http://node1:8000")
    url = _url(lines[0].strip(), f"{path} line 1")
    said: dict[str, str] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.strip().partition("=")
        if not equals:
            raise UsageError(f"{path} line {number}: {_shown(name)} has no '='; expected key=value, such as model=NAME")
        name, value = name.strip(), value.strip()
        if name in said:
            raise UsageError(f"{path} line {number}: {name} is there twice; keep one")
        if name in _KEYS and value:
            said[name] = _value(name, value, f"{path} line {number}")
    port = said.pop("port", None)
    return ServerInfo(url=url, port=int(port) if port else urlsplit(url).port, **said)


def write_server_info(path: Path, info: ServerInfo) -> None:
    """Write the file as a whole or not at all: a reader never sees half of it. Mode 0600, for it holds the key."""
    known = [(name, getattr(info, name)) for name in _KEYS]
    lines = [_url(info.url, "server_info url")]
    lines += [f"{name}={_value(name, str(value), f'server_info {name}')}" for name, value in known if value is not None]
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_if_ours(path: Path, job_id: str, started: str | None = None) -> bool:
    """Remove the file if it names this job. True when it was removed; another job's file is left as it is.

    `started`, where given, must fit too: a requeued job keeps its id, and its old self must not remove the new file.
    """
    if not _names_job(path, job_id, started):
        return False
    aside = path.with_name(f".{path.name}.{os.getpid()}.going")
    try:
        os.rename(path, aside)
    except OSError:  # gone, or in a folder that cannot be written any more: a server must still be stopped
        return False
    if not _names_job(aside, job_id, started):  # another server published itself between the look and the rename
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        aside.unlink(missing_ok=True)
        return False
    aside.unlink(missing_ok=True)
    return True


def _names_job(path: Path, job_id: str, started: str | None) -> bool:
    try:
        info = read_server_info(path)
    except UsageError:
        return False
    return info.job_id == job_id and started in (None, info.started)


def _read_text(path: Path) -> str:
    try:
        # O_NONBLOCK: a FIFO under this name must not make us wait for ever
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            regular = stat.S_ISREG(os.fstat(handle).st_mode)
            data = os.read(handle, MAX_BYTES + 1) if regular else b""
        finally:
            os.close(handle)
    except OSError as why:
        raise UsageError(
            f"{path}: {why.strerror or why}; expected a readable file with the server's URL (--server-info PATH)"
        ) from why
    if not regular:
        raise UsageError(f"{path}: not a regular file; name another with --server-info PATH")
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: larger than {MAX_BYTES} bytes; expected a URL and a few key=value lines")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as why:
        raise UsageError(f"{path}: not UTF-8 text ({why.reason}); expected a URL and key=value lines") from why


def _url(text: str, where: str) -> str:
    fix = "expected the server's bare URL, such as http://node1:8000"
    if any(ord(c) <= 32 or ord(c) > 126 for c in text):
        raise UsageError(f"{where}: {_shown(text)} holds blanks or control characters; {fix}")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as why:
        raise UsageError(f"{where}: {_shown(text)}: {why}; {fix}") from why
    if parts.scheme not in ("http", "https") or not host or not _HOST.fullmatch(host):
        raise UsageError(f"{where}: {_shown(text)}; {fix}")
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{where}: the URL holds a user or password; give the key as api_key= or in $OPENAI_API_KEY")
    if parts.query or parts.fragment:
        raise UsageError(f"{where}: {_shown(text)} has a query; {fix}")
    return text.rstrip("/").removesuffix("/v1").rstrip("/")


def _value(name: str, value: str, where: str) -> str:
    if name == "api_key":
        if not _API_KEY.fullmatch(value):
            raise UsageError(f"{where}: the api_key holds blanks or control characters; expected printable ASCII")
    elif name == "job_id":
        if not _JOB_ID.fullmatch(value):
            raise UsageError(f"{where}: job_id {_shown(value)}; expected a job's number, such as 4711")
    elif name == "port":
        if not (value.isascii() and value.isdigit() and 0 < int(value[:9]) < 65536 and len(value) < 6):
            raise UsageError(f"{where}: port {_shown(value)}; expected a number from 1 to 65535")
    elif name == "ready_s":
        if not _SECONDS.fullmatch(value):
            raise UsageError(f"{where}: ready_s {_shown(value)}; expected seconds, such as 95.500")
    elif name == "power_file":
        if not _POWER_FILE.fullmatch(value):
            raise UsageError(f"{where}: power_file {_shown(value)}; expected /FOLDER/power-JOB.{{host}}.jsonl")
    elif len(value) > 1000 or not value.isprintable():
        raise UsageError(f"{where}: {name} {_shown(value)}; expected one line of printable text")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
