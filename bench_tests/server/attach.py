"""Attach to a server that runs already, and make sure before the first load that it is the one to be measured.

Knows the endpoint and the errors.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bench_tests.errors import ServerError, UsageError
from bench_tests.server.client import get, post_json, why_unreachable
from bench_tests.server.served import Endpoint, Say

__all__ = ["AttachedServer", "ServedModel", "clean_url", "find_vocab", "look_at", "mask_url"]

VOCABS = (32000, 16000, 8000, 4000, 2000, 1000, 500)


@dataclass(frozen=True)
class ServedModel:
    """What the server says of itself."""

    model: str
    all_models: tuple[str, ...]
    max_model_len: int | None
    version: str
    simulated: bool
    root: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "version": self.version,
            "max_model_len": self.max_model_len,
            "simulated": self.simulated,
            "root": self.root,
        }


@dataclass
class AttachedServer:
    """A server that somebody else runs: nothing of it is ours to stop."""

    endpoint: Endpoint
    source: str  # where its address came from, for messages
    kind: str = "attach"
    extra: dict[str, Any] = field(default_factory=dict)

    def gone(self) -> str | None:
        return None

    def wait_for_return(self, say: Say) -> bool:
        return False

    def facts(self) -> dict[str, Any]:
        return {"kind": self.kind, "source": self.source, **self.extra}

    def stop(self) -> None:
        return


def clean_url(text: str, where: str) -> str:
    """The base URL as everything uses it: http(s)://HOST[:PORT][/PATH], no /v1, no login. Raises UsageError."""
    text = text.strip()
    try:
        url = urlsplit(text if "//" in text else f"http://{text}")
        _ = url.port
    except ValueError as why:
        raise UsageError(f"{where} {mask_url(text)!r}: {why}; expected http://HOST[:PORT]") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UsageError(f"{where} {mask_url(text)!r}: expected http://HOST[:PORT] or https://HOST[:PORT]")
    if url.username or url.password or url.query:
        raise UsageError(f"{where} {mask_url(text)!r}: a key does not belong in a URL; set $OPENAI_API_KEY instead")
    path = url.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return urlunsplit((url.scheme, url.netloc, path, "", ""))


def mask_url(text: str) -> str:
    """A URL fit for messages: login and query, which can hold keys, masked."""
    head, at, host = text.rpartition("@")
    if at:
        scheme = head.partition("//")[0] + "//" if "//" in head else ""
        text = f"{scheme}***@{host}"
    base, question, _ = text.partition("?")  # what follows may hold a key too
    return f"{base}?***" if question else base


def look_at(endpoint: Endpoint, wanted: str) -> ServedModel:
    """Ask the server what it is: reachable, healthy, and serving `wanted` (any model when empty).

    Raises ServerError that says which of these it is not, and what to do.
    """
    url = endpoint.base_url
    why = why_unreachable(endpoint, "/health")
    if why is not None:
        raise ServerError(f"no server at {url}: {why}; start one (sbatch slurm/serve.sh) or check --base-url")
    health = get(endpoint, "/health")
    # /health is vLLM's; a server without it (404) may be fine all the same
    if health is not None and health[0] >= 500:
        raise ServerError(f"the server at {url} is not healthy: /health says HTTP {health[0]}; look at its log")
    answer = get(endpoint, "/v1/models")
    if answer is None:
        raise ServerError(f"the server at {url} does not answer /v1/models; is it an OpenAI-compatible server?")
    status, body = answer
    if status in (401, 403):
        raise ServerError(f"the server at {url} refuses the key (HTTP {status}); set $OPENAI_API_KEY to its key")
    if status != 200:
        raise ServerError(f"the server at {url} answers /v1/models with HTTP {status}; look at its log")
    models = _models(body, url)
    names = [str(m["id"]) for m in models]
    if wanted and wanted not in names:
        served = ", ".join(names)
        raise ServerError(f"the server at {url} serves {served}, not {wanted}; choose another --profile or server")
    chosen = models[names.index(wanted)] if wanted else models[0]
    version, simulated = _version(endpoint)
    longest = chosen.get("max_model_len")
    return ServedModel(
        model=str(chosen["id"]),
        all_models=tuple(names),
        max_model_len=longest if isinstance(longest, int) else None,
        version=version,
        simulated=simulated or chosen.get("owned_by") == "bench-tests-simulator",
        root=str(chosen.get("root") or ""),
    )


def _models(body: bytes, url: str) -> list[dict[str, Any]]:
    try:
        models = json.loads(body)["data"]
        if models and all(isinstance(m["id"], str) for m in models):
            return list(models)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise ServerError(f"the server at {url} answers /v1/models, but not with a list of models; is it a vLLM server?")


def _version(endpoint: Endpoint) -> tuple[str, bool]:
    answer = get(endpoint, "/version")
    try:
        said = json.loads(answer[1]) if answer and answer[0] == 200 else {}
        return str(said.get("version", "unknown")), said.get("simulated") is True
    except (ValueError, AttributeError, RecursionError):
        return "unknown", False


def context_needed(isl: int, osl: int, range_ratio: float, prefix_len: int) -> int:
    """Tokens that the longest request of a point needs. Formula: prefix + ceil(ISL·(1+r)) + ceil(OSL·(1+r))."""
    return prefix_len + math.ceil(isl * (1 + range_ratio)) + math.ceil(osl * (1 + range_ratio))


def find_vocab(endpoint: Endpoint, model: str) -> int:
    """A number below which all token ids are accepted: the largest of a few, found by asking for one token each.

    vLLM answers an id out of its vocabulary with an error, other servers may not; then the first is taken.
    Raises ServerError when none is accepted.
    """
    said = ""
    for vocab in VOCABS:
        body = {"model": model, "prompt": [vocab - 1] * 4, "max_tokens": 1, "temperature": 0.0}
        answer = post_json(endpoint, "/v1/completions", body)
        if answer is not None and answer[0] == 200 and b'"error"' not in answer[1]:
            return vocab
        said = "no answer" if answer is None else f"HTTP {answer[0]}: {answer[1][:200].decode('utf-8', 'replace')}"
        if answer is None or b"vocab" not in answer[1].lower():
            return VOCABS[0]  # not about the ids: the load itself will say what is wrong
    raise ServerError(
        f"the server at {endpoint.base_url} accepts no prompt of token ids ({said}); use prompt_format = 'text'"
    )
