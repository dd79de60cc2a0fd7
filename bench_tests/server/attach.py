"""Attach to a server that runs already, and make sure before the first load that it is the one to be measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from bench_tests.errors import ServerError
from bench_tests.masking import is_telling, masked
from bench_tests.net import clear_proxy
from bench_tests.server.client import Reply, Unreachable, ask, get, post_json
from bench_tests.server.served import Endpoint, Say
from bench_tests.server.url import mask_url
from bench_tests.text import harmless

__all__ = ["ENGINES", "AttachedServer", "ServedModel", "context_needed", "find_vocab", "look_at"]

NO_NAME = "unknown"  # what a router lists that does not know its workers' model
VOCABS = (32000, 16000, 8000, 4000, 2000, 1000, 500)
SHOWN_MODELS = 8  # names of a long list of models that a message shows
_HEALTH_S = 2.0  # /health is a note: it is not waited for
# what a server says of itself → the engine's name in results, by the first word that fits
_ENGINES = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llama.cpp",
    "llama.cpp": "llama.cpp",
    "huggingface": "tgi",
    "nvidia": "trtllm",
    "tensorrt": "trtllm",
    "lmdeploy": "lmdeploy",
    "ollama": "ollama",
    "transformers": "transformers",
    "litellm": "litellm",
}

ENGINES = frozenset(_ENGINES.values())
_VERSIONS = {  # where an engine without /version says its own, and under which key
    "sglang": ("/get_server_info", "version"),
    "llama.cpp": ("/props", "build_info"),
    "tgi": ("/info", "version"),
}


@dataclass(frozen=True)
class ServedModel:
    """What the server says of itself."""

    model: str
    all_models: tuple[str, ...]
    max_model_len: int | None
    version: str
    simulated: bool
    root: str = ""
    engine: str = ""  # "": it does not say
    notes: tuple[str, ...] = ()  # what a person should know of it, once

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

    async def gone(self) -> str | None:
        return None

    async def wait_for_return(self, say: Say) -> bool:
        return False

    def facts(self) -> dict[str, Any]:
        return {"kind": self.kind, "source": self.source, **self.extra}

    async def stop(self) -> None:
        return


async def look_at(endpoint: Endpoint, wanted: str) -> ServedModel:
    """Ask the server what it is: reachable, and serving `wanted` (any model when empty). /v1/models decides.

    Raises ServerError that says which of these it is not, and what to do.
    """
    url = endpoint.base_url
    try:
        answer = await ask(endpoint, "GET", "/v1/models", timeout_s=30.0)
    except Unreachable as why:
        fix = "" if clear_proxy(url) else "; start one (sbatch slurm/serve.sh) or check --base-url"
        raise ServerError(f"no server at {url}: {why}{fix}") from None
    models = _models(answer, url, wanted)
    notes: list[str] = []
    names = [str(m["id"]) for m in models]
    chosen: dict[str, Any] = {"id": wanted}
    if wanted in names:
        chosen = models[names.index(wanted)]
    elif not wanted and names:
        chosen = models[0]
        if "*" in str(chosen["id"]):
            raise ServerError(f"the server at {url} lists {_shown(names)}; name the model with --model")
    elif names and not any(_fits(name, wanted) for name in names):
        raise ServerError(
            f"the server at {url} serves {_shown(names)}, not {wanted}; choose another --profile or server, or --model"
        )
    else:
        listed = f"lists {_shown(names)}" if names else "lists no models"
        notes.append(f"the server {listed}: {wanted} is taken on trust")
    health = await get(endpoint, "/health", _HEALTH_S)
    if health is None or health.status >= 500:
        said = f"HTTP {health.status}" if health else f"nothing within {_HEALTH_S:g} s"
        notes.append(f"/health says {said}; /v1/models answers, so it is measured")
    version, simulated = await _version(endpoint)
    simulated = simulated or chosen.get("owned_by") == "bench-tests-simulator"
    engine = "sim" if simulated else await _engine(endpoint, chosen, answer)
    if version == "unknown" and engine in _VERSIONS:
        version = await _version_of(endpoint, *_VERSIONS[engine])
    return ServedModel(
        model=str(chosen["id"]),
        all_models=tuple(names),
        max_model_len=_whole(chosen.get("max_model_len")),
        version=version,
        simulated=simulated,
        root=_text(endpoint, chosen.get("root"), 1000),
        engine=engine,
        notes=tuple(notes),
    )


def _models(answer: Reply, url: str, wanted: str) -> list[dict[str, Any]]:
    """The list of models, in any of the shapes that servers give it; empty where there is none and one was named."""
    if answer.status in (401, 403):
        raise ServerError(
            f"the server at {url} refuses the key (HTTP {answer.status}){_said(answer)}; set $OPENAI_API_KEY to its key, or give the header "
            "that it wants: --header NAME=VARIABLE"
        )
    if 300 <= answer.status < 400:
        to = f" to {answer.masked(mask_url(answer.location))}" if answer.location else ""
        raise ServerError(
            f"the server at {url} redirects /v1/models{to} (HTTP {answer.status}), which is not followed; give the URL "
            "that it leads to as --base-url"
        )
    if b"HTTPS port" in answer.body or (answer.status == 400 and b"HTTPS" in answer.body):
        raise ServerError(f"the server at {url} answers {answer.words()}; does it serve https:// instead of http://?")
    if answer.status >= 500:
        raise ServerError(f"the server at {url} answers /v1/models with {answer.words()}; look at its log")
    said = answer.json() if answer.status == 200 else None
    listed = said.get("data", said.get("models")) if isinstance(said, dict) else said
    if isinstance(listed, list) and all(isinstance(m, dict) for m in listed):
        named = [m | {"id": m.get("id", m.get("name", m.get("model")))} for m in listed]
        named = [m for m in named if m["id"] != NO_NAME]
        if all(isinstance(m["id"], str) and m["id"] for m in named) and (named or wanted):
            telling = [secret for secret in answer.secrets if is_telling(secret)]
            repeats = [m["id"] != wanted and any(secret in m["id"] for secret in telling) for m in named]
            return [m | {"id": "(masked)"} if key else m for m, key in zip(named, repeats, strict=True)]
    if wanted and (answer.status in (404, 405, 501) or (listed in ([], None, {}) and isinstance(said, dict | list))):
        return []
    how = f"with {answer.words()}" if answer.status != 200 else "but not with a list of models"
    if answer.status == 200 and listed == []:
        how = "with an empty list"
    raise ServerError(
        f"the server at {url} answers /v1/models {how}; name the model with --model if it is an OpenAI-compatible "
        "server, else check --base-url"
    )


def _said(answer: Reply) -> str:
    said = answer.quoted(80)
    return f", saying {said!r}" if said else ""


def _fits(pattern: str, wanted: str) -> bool:
    """A gateway's wildcard, such as openai/* or *."""
    head, star, tail = pattern.partition("*")
    return bool(star) and wanted.startswith(head) and wanted.endswith(tail)


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else ""
    return ", ".join(harmless(name) for name in names[:SHOWN_MODELS]) + more


def _whole(value: object) -> int | None:
    """A length that may come as a float or a text; None where it is none."""
    try:
        return int(float(value)) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None


async def _version(endpoint: Endpoint) -> tuple[str, bool]:
    answer = await get(endpoint, "/version")
    said = answer.json() if answer is not None and answer.status == 200 else None
    if not isinstance(said, dict):
        return "unknown", False
    return _text(endpoint, said.get("version")) or "unknown", said.get("simulated") is True


async def _version_of(endpoint: Endpoint, path: str, key: str) -> str:
    answer = await get(endpoint, path)
    said = answer.json() if answer is not None and answer.status == 200 else None
    return (_text(endpoint, said.get(key)) if isinstance(said, dict) else "") or "unknown"


def _text(endpoint: Endpoint, said: object, limit: int = 100) -> str:
    """A short text of the server's for results, without a key that it repeats; "" for anything else."""
    if not isinstance(said, str):
        return ""
    for secret in filter(is_telling, endpoint.secrets):
        said = masked(said, secret)
    return harmless(said)[:limit]


async def _engine(endpoint: Endpoint, chosen: dict[str, Any], models: Reply) -> str:
    """The engine by its own words: who owns the model, the server header, the names of its counters; "" for unknown."""
    owner = str(chosen.get("owned_by") or "").lower()
    for word, engine in _ENGINES.items():
        if word in owner or word in models.server.lower():
            return engine
    metrics = await get(endpoint, "/metrics")
    head = metrics.body[:200_000] if metrics is not None and metrics.status == 200 else b""
    for prefix, engine in (
        (b"\nvllm:", "vllm"),
        (b"\nsglang:", "sglang"),
        (b"\nllamacpp:", "llama.cpp"),
        (b"\ntgi_", "tgi"),
    ):
        if prefix in b"\n" + head:
            return engine
    return ""


def context_needed(isl: int, osl: int, range_ratio: float, prefix_len: int) -> int:
    """Tokens that the longest request of a point needs. Formula: prefix + ceil(ISL·(1+r)) + ceil(OSL·(1+r))."""
    return prefix_len + math.ceil(isl * (1 + range_ratio)) + math.ceil(osl * (1 + range_ratio))


async def find_vocab(endpoint: Endpoint, model: str) -> int:
    """A number below which all token ids are accepted: the largest of a few, found by asking for one token each.

    Servers say in words of their own that an id is out of their vocabulary, or say nothing; where smaller ids are accepted
    it was about the ids. Raises ServerError when none is accepted and the words are about the vocabulary.
    """
    said, of_ids = "", False
    for vocab in VOCABS:
        body = {"model": model, "prompt": [vocab - 1] * 4, "max_tokens": 1, "temperature": 0.0}
        answer = await post_json(endpoint, "/v1/completions", body)
        if answer is not None and answer.status == 200 and b'"error"' not in answer.body:
            return vocab
        said = "no answer" if answer is None else answer.words()
        named = answer is not None and b"vocab" in answer.body.lower()
        of_ids = of_ids or named
        if answer is None or not (named or answer.status in (400, 422)):
            return VOCABS[0]  # not about the ids: the load itself will say what is wrong
    if not of_ids:
        return VOCABS[0]
    raise ServerError(
        f"the server at {endpoint.base_url} accepts no prompt of token ids ({said}); give --vocab-size N, or "
        "--prompt-format text"
    )
