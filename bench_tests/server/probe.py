"""One streamed token before the sweep settles what a server takes and gives: no whole point is lost to a refused field.

What can be left out is left out for the session, and said once with the option that says so for good; where nothing that
is left would do, each point is an ERROR without a load.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bench_tests.errors import NotMeasured, ServerError, UsageError
from bench_tests.load.dialect.choose import dialect_of
from bench_tests.load.texts import WORDS
from bench_tests.server.attach import ENGINES, ServedModel, find_vocab
from bench_tests.server.client import Reply, Unreachable, ask, why_unhealthy
from bench_tests.server.metrics import several_servers
from bench_tests.server.served import Endpoint
from bench_tests.server.template import has_token_ids, measure_template
from bench_tests.sweep.profile import Profile
from bench_tests.text import quoted

__all__ = ["Probed", "probe"]

LONGEST_S = 60.0  # that one token is waited for; a server may be slow with its first
TOKENS = 4  # of the probe's prompt
# how a request may differ from what the profile asks, in the order of the least loss; a reply may name the field
REMOVABLE = ("stream_options", "ignore_eos", "temperature")
ATTEMPTS: tuple[tuple[str, ...], ...] = (
    *((name,) for name in REMOVABLE),
    ("stream_options", "ignore_eos"),
    REMOVABLE,
)
OPTION = {
    "max_tokens": '[load] omit = ["max_tokens"]; the length is asked for as max_completion_tokens',
    "stream_options": '[load] omit = ["stream_options"]',
    "ignore_eos": '--no-ignore-eos or [load] omit = ["ignore_eos"]; answers may end early',
    "temperature": '[load] omit = ["temperature"]',
}


@dataclass(frozen=True)
class Probed:
    """The profile as this server takes it, and what a person should know, once."""

    profile: Profile
    notes: tuple[str, ...] = ()
    several: str = ""  # that several servers answer here by turns, in words
    refused: str = ""  # why no point can be measured, in words: each is an ERROR, and none is loaded
    token_ids: bool = False  # it gives the token ids of its answers
    template_tokens: int = 0  # what the server's chat template adds to each prompt


@dataclass(frozen=True)
class _Answer:
    """What became of one probe. `usage` is the server's, None where it gives none."""

    reply: Reply
    token: bool
    usage: dict[str, Any] | None
    error: str = ""  # of an error event in the stream
    ids: bool = False  # its events have the token ids of what was generated

    @property
    def refused(self) -> bool:
        """It is the request that is wrong, not the server: another one may do."""
        if any(word in self.error.lower() for word in (*REMOVABLE, "vocab")):
            return True
        whole = self.reply.status == 200 and "json" in self.reply.kind and not self.token  # an answer that is no stream
        # a gateway's 500 that speaks of the prompt is about what was sent as well
        about_it = self.reply.status == 500 and b"prompt" in self.reply.body.lower()
        return whole or about_it or (400 <= self.reply.status < 500 and self.reply.status not in (408, 429))


async def probe(endpoint: Endpoint, profile: Profile, model: ServedModel) -> Probed:
    """Ask for one streamed token as the load will, and settle what the server does not take.

    Raises ServerError for a server that gives none and says itself that it is not well.
    """
    several = await several_servers(endpoint, model.model)
    notes = [several] if several else []
    engine, said = profile.server.engine or model.engine or "unknown", model.engine
    if said and engine != said and engine in ENGINES and not model.simulated:
        notes.append(f"the server says that it is {said}, not the profile's {engine}: results carry its name")
        engine = said
    profile = replace(profile, server=replace(profile.server, engine=engine))
    if model.simulated and profile.load.text_prompts and not profile.model.tokenizer:  # it counts words
        profile = replace(profile, model=replace(profile.model, tokenizer=WORDS))
    try:
        answer = await _ask(endpoint, profile, model.model, ())
        if not answer.token and not answer.refused:  # it may be a hiccup
            answer = await _ask(endpoint, profile, model.model, ())
    except Unreachable as why:
        await _must_be_healthy(endpoint, model.model)
        return Probed(profile, (*notes, f"the probe of one token got no answer: {why}"), several)
    if answer.refused:
        try:
            profile, answer, more = await _settle(endpoint, profile, model.model, answer)
        except NotMeasured as why:
            return Probed(profile, tuple(notes), several, str(why))
        notes += more
    elif not answer.token:  # a broken server or a busy one: a load's own requests say more than one that failed
        await _must_be_healthy(endpoint, model.model)
        said = answer.error or answer.reply.words()
        return Probed(profile, (*notes, f"the probe of one token got none: {said}"), several)
    if not profile.load.text_prompts and not profile.model.vocab_size:
        try:
            vocab = await find_vocab(endpoint, model.model)
        except ServerError as why:
            return Probed(profile, tuple(notes), several, str(why))
        profile = replace(profile, model=replace(profile.model, vocab_size=vocab))
    token_ids = False
    if profile.workload.sessions and not profile.load.chat:
        ask = partial(_try, endpoint, model=model.model, omit=())
        try:
            token_ids, more = await has_token_ids(profile, model.model, ask)
        except UsageError as why:
            return Probed(profile, tuple(notes), several, str(why))
        notes += more
    profile, more = await _of_usage(endpoint, profile, model.model, answer)
    notes += more
    if not profile.load.chat:
        return Probed(profile, tuple(notes), several, token_ids=token_ids)
    if answer.usage is None and profile.load.template_tokens == "extra":
        return Probed(profile, (*notes, "what the chat template adds to each prompt is unknown"), several)
    try:
        template = await _template(endpoint, profile, model.model)
    except (NotMeasured, UsageError) as why:
        return Probed(profile, tuple(notes), several, str(why))
    where = "on top of the ISL" if profile.load.template_tokens == "extra" else "which are taken out of the ISL"
    return Probed(
        profile,
        (*notes, f"the chat template adds {template} tokens to each prompt, {where}"),
        several,
        template_tokens=template,
    )


async def _template(endpoint: Endpoint, profile: Profile, model: str) -> int:
    """Raises NotMeasured and UsageError."""

    async def ask(text: str) -> dict[str, Any] | None:
        try:
            return (await _ask(endpoint, profile, model, (), text)).usage
        except Unreachable as why:
            raise NotMeasured(f"what the chat template adds is unknown: {why}") from None

    return await measure_template(profile.model.tokenizer or model, profile.model.first_id, ask)


async def _must_be_healthy(endpoint: Endpoint, model: str) -> None:
    """Raises ServerError for a server that gives no token and says itself that it is not well."""
    why = await why_unhealthy(endpoint, model=model)
    if why is not None:
        raise ServerError(f"the server at {endpoint.base_url} does not serve: {why}; look at its log")


async def _settle(
    endpoint: Endpoint, profile: Profile, model: str, first: _Answer
) -> tuple[Profile, _Answer, list[str]]:
    """A request that it takes, after one that it refused. Raises NotMeasured."""
    url, reply = endpoint.base_url, first.reply
    if reply.status in (401, 403):
        raise NotMeasured(
            f"the server at {url} refuses a completion ({reply.words()}); set $OPENAI_API_KEY to its key, or give the "
            "header that it wants: --header NAME=VARIABLE"
        )
    said = reply.body.lower()
    if b"vocab" in said and not profile.load.text_prompts:
        return profile, first, []  # about the ids alone: which it takes is found out next
    if reply.status in (404, 405) and not any(name.encode() in said for name in (*REMOVABLE, "prompt")):
        path, other = dialect_of(profile.load.endpoint).path, "completions" if profile.load.chat else "chat"
        raise NotMeasured(
            f"the server at {url} has no {path} for {model} ({reply.words()}); it is what the load asks: check --base-url and "
            f"--model, or give --endpoint {other}"
        )
    named = tuple(name for name in REMOVABLE if name.encode() in said)
    attempts = tuple(dict.fromkeys(filter(None, (named, *ATTEMPTS))))
    if b"max_completion_tokens" in said and "max_tokens" not in profile.load.omit:  # how some want the length
        attempts = tuple((*omit, "max_tokens") for omit in ((), *attempts))
    wanted = profile.load.fields(model, 1)
    for omit in attempts:
        if not any(name in wanted for name in omit):
            continue
        answer = await _try(endpoint, profile, model, omit)
        if answer is not None and answer.token:
            left = tuple(name for name in omit if name in wanted)
            load = replace(profile.load, omit=tuple(dict.fromkeys((*profile.load.omit, *left))))
            notes = [f"the server refuses {name}, so it is left out ({OPTION[name]})" for name in left]
            return replace(profile, load=load), answer, notes
        if answer is not None and answer.refused and "stream_options" in omit:
            first = answer  # the later words say what is left to fix
    return await _as_text(endpoint, profile, model, first, attempts)


async def _as_text(
    endpoint: Endpoint, profile: Profile, model: str, refused: _Answer, attempts: tuple[tuple[str, ...], ...]
) -> tuple[Profile, _Answer, list[str]]:
    url, reply = endpoint.base_url, refused.reply
    as_text = replace(profile, load=replace(profile.load, prompt_format="text"))
    if not profile.load.text_prompts:
        for omit in ((), *attempts):
            answer = await _try(endpoint, as_text, model, omit)
            if answer is None or not answer.token:
                continue
            if not profile.model.tokenizer:
                raise NotMeasured(
                    f"the server at {url} takes prompts as text alone ({reply.words()}); give --prompt-format text and "
                    "--tokenizer NAME (the model's, for prompts of an exact length)"
                )
            left = tuple(name for name in omit if name in profile.load.fields(model, 1))
            load = replace(as_text.load, omit=tuple(dict.fromkeys((*profile.load.omit, *left))))
            notes = [f"the server refuses {name}, so it is left out ({OPTION[name]})" for name in left]
            notes.append("the server takes no token ids, so prompts are text (--prompt-format text)")
            return replace(as_text, load=load), answer, notes
    if reply.status == 200 and not refused.error:
        raise NotMeasured(
            f"the server at {url} does not stream its answers ({reply.kind or 'no content type'}): without a stream there "
            "is no TTFT to measure; turn streaming on there, or on what stands before it"
        )
    raise NotMeasured(
        f"the server at {url} refuses a completion of one token: {refused.error or reply.words()}; leave out what it does not take: "
        "[load] omit, --no-ignore-eos, --prompt-format text, or add what it wants: [load] extra_body, --header"
    )


async def _try(endpoint: Endpoint, profile: Profile, model: str, omit: tuple[str, ...]) -> _Answer | None:
    try:
        return await _ask(endpoint, profile, model, omit)
    except Unreachable:
        return None


async def _ask(
    endpoint: Endpoint, profile: Profile, model: str, omit: tuple[str, ...], text: str = "a b c d"
) -> _Answer:
    """Raises Unreachable."""
    dialect = dialect_of(profile.load.endpoint)
    ids = [profile.model.first_id] * TOKENS
    prompt = json.loads(dialect.prompt_of(text)) if profile.load.text_prompts else ids
    body = replace(profile.load, omit=(*profile.load.omit, *omit)).fields(model, 1)
    limit_s = min(LONGEST_S, profile.timeouts.first_token)
    reply = await ask(endpoint, "POST", dialect.path, body | {dialect.prompt_key: prompt}, limit_s)
    events = _events(reply.body) if reply.status == 200 else []
    usages = [e["usage"] for e in events if isinstance(e.get("usage"), dict)]
    token = any(e.get("choices") for e in events) and not any(e.get("error") for e in events)
    error = next((quoted(reply.masked(json.dumps(e))) for e in events if e.get("error")), "")
    choices = [choice for e in events for choice in (e.get("choices") or ()) if isinstance(choice, dict)]
    return _Answer(reply, token, usages[-1] if usages else None, error, any(c.get("token_ids") for c in choices))


def _events(body: bytes) -> list[dict[str, Any]]:
    """The JSON objects of a stream's events; the data of one may stand in several lines."""
    found: list[dict[str, Any]] = []
    data = ""
    for line in (*re.split("\r\n|\r|\n", body.decode("utf-8", "replace").lstrip("\ufeff")), ""):
        if line.startswith("data:"):
            data += line[5:] + "\n"
        if line.startswith("data:") or not line:
            try:
                event = json.loads(data)
            except (ValueError, RecursionError):
                event = None
            if isinstance(event, dict):
                found.append(event)
            if isinstance(event, dict) or not line:
                data = ""
    return found


async def _of_usage(endpoint: Endpoint, profile: Profile, model: str, answer: _Answer) -> tuple[Profile, list[str]]:
    """What the answer's usage says: there is none, or it counts more tokens than were sent (where ids were)."""
    if not answer.token:
        return profile, []
    if answer.usage is None:
        tokenizer = profile.model.tokenizer or model
        return profile, [
            f"the server gives no usage: tokens are counted by the tokenizer {tokenizer} (--tokenizer NAME)"
        ]
    more = _added(profile, answer)
    if not more:
        return profile, []
    what = f"the server adds {more} token{'s' * (more > 1)} to each prompt (a beginning-of-text token?)"
    plain = replace(profile.load, extra_body={**profile.load.extra_body, "add_special_tokens": False})
    without = replace(profile, load=plain)
    again = await _try(endpoint, without, model, ())
    if again is not None and again.token and not _added(without, again):
        return without, [f"{what}, so it is told not to ([load] extra_body = {{add_special_tokens = false}})"]
    return profile, [f"{what}: all points will say so; leave it out there, where the server has an option for that"]


def _added(profile: Profile, answer: _Answer) -> int:
    """Tokens that the server counts beyond the ids that were sent, where it is one or two; else 0."""
    counted = answer.usage.get("prompt_tokens") if answer.usage else None
    if not isinstance(counted, int) or profile.load.text_prompts:
        return 0
    return counted - TOKENS if 0 < counted - TOKENS <= 2 else 0
