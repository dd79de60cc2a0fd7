"""Reading /metrics beside a load: of whom, how often, what is kept of it, and a server that has none."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import zipfile
from asyncio import run
from pathlib import Path

import pytest

from bench_tests.errors import UsageError
from bench_tests.server.sampler import Sampler, Source, sources_of
from bench_tests.server.served import Endpoint
from bench_tests.sweep.profile import Profile, load_profile
from bench_tests.sweep.serving import Role, Server
from tests.support.odd_servers import odd_server

ENGINE = Endpoint("https://llm.example.com/gw", "sk-1", extra=(("X-Team", "a"),))


def test_whose_metrics_are_read() -> None:
    assert sources_of(Server(), ENGINE) == (Source("server", ENGINE),)
    assert sources_of(Server(metrics=("none",)), ENGINE) == ()
    found = sources_of(Server(metrics=("http://gpu1:8000", "gpu2:9000/own/metrics/")), ENGINE)
    assert [(s.name, s.endpoint.base_url, s.path) for s in found] == [
        ("gpu1:8000", "http://gpu1:8000", "/metrics"),
        ("gpu2:9000/own/metrics", "http://gpu2:9000", "/own/metrics"),
    ]
    roles = (Role("prefill", 4, "http://a:1"), Role("decode", 8, "http://b:1"), Role("router"))
    named = sources_of(Server(role=roles), ENGINE)
    assert [(s.name, s.gpus) for s in named] == [("prefill", 4), ("decode", 8)]
    assert len(sources_of(Server(role=roles, metrics=("http://c",)), ENGINE)) == 1  # the option comes first


def test_the_key_goes_to_the_servers_own_host_alone() -> None:
    other, own = sources_of(Server(metrics=("http://gpu1:8000", "https://llm.example.com:9000")), ENGINE)
    assert (other.endpoint.api_key, other.endpoint.extra) == (None, ())
    assert (own.endpoint.api_key, own.endpoint.extra) == ("sk-1", (("X-Team", "a"),))


@pytest.mark.parametrize("urls", [("ftp://x",), ("http://a", "http://a/metrics"), ("http://key@a",)])
def test_what_is_no_url_or_named_twice_is_refused(urls: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--server-metrics") as why:
        sources_of(Server(metrics=urls), ENGINE)
    assert "\n" not in str(why.value)


def profile_of(folder: Path, text: str) -> Profile:
    path = folder / "p.toml"
    path.write_text(f"base = 'demo'\n{text}")
    return load_profile(str(path))


def test_roles_of_a_profile_say_its_gpus(tmp_path: Path) -> None:
    text = "[[server.role]]\nname = 'prefill'\ngpus = 4\nmetrics = 'http://a:1'\n[[server.role]]\nname = 'decode'\ngpus = 8\n"
    profile = profile_of(tmp_path, text)
    assert (profile.gpus, profile.named_gpus) == (12, 12)
    assert load_profile("demo").named_gpus is None


@pytest.mark.parametrize(
    "text, words",
    [
        ("[server]\nrole = 'x'\n", r"\[\[server.role\]\]"),
        ("[[server.role]]\ngpus = 1\n", "server.role 1.name"),
        ("[[server.role]]\nname = 'a/b'\n", "it names what is kept"),
        ("[[server.role]]\nname = 'a'\nrank = 1\n", "unknown key 'rank'"),
        ("[[server.role]]\nname = 'a'\n[[server.role]]\nname = 'a'\n", "is there twice"),
        ("[[server.role]]\nname = 'a'\ngpus = -1\n", "server.role 1.gpus"),
    ],
)
def test_wrong_roles_are_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as why:
        profile_of(tmp_path, text)
    assert "\n" not in str(why.value)


def test_a_server_is_read_before_beside_and_after_and_its_bytes_are_kept() -> None:
    each = itertools.count(1)
    with odd_server(metrics=lambda: (200, f"vllm:prompt_tokens_total {next(each)}\n")) as (_, url):
        sampler = Sampler(sources_of(Server(), Endpoint(url)), every_s=0.02)

        async def load() -> None:
            await sampler.start()
            while len(sampler.rounds) < 4:
                await asyncio.sleep(0.01)
            await sampler.stop()

        run(load())
    said = [sample.body for samples in sampler.rounds for sample in samples]
    assert said == [f"vllm:prompt_tokens_total {n}\n".encode() for n in range(1, len(said) + 1)]
    times = [time for samples in sampler.rounds for time in (samples[0].asked_s, samples[0].came_s)]
    assert times == sorted(times)
    with zipfile.ZipFile(io.BytesIO(sampler.pack())) as packed:
        lines = json.loads(packed.read("samples.json"))
        assert [packed.read(line["member"]) for line in lines] == said


def test_one_that_has_none_is_asked_at_the_ends_alone() -> None:
    asked: list[int] = []

    def metrics() -> tuple[int, str]:
        asked.append(1)
        return 404, "none"

    with odd_server(metrics=metrics) as (_, url):
        sampler = Sampler(sources_of(Server(), Endpoint(url)), every_s=0.01)

        async def load() -> None:
            await sampler.start()
            await asyncio.sleep(0.1)
            sampler.now()
            await sampler.stop()

        run(load())
    assert len(asked) == 2
    assert sampler.rounds[0][0].missing == "the server has no /metrics (HTTP 404)"


def test_a_moment_of_ones_own_is_read_at_once() -> None:
    with odd_server(metrics=lambda: (200, "vllm:prompt_tokens_total 1\n")) as (_, url):
        sampler = Sampler(sources_of(Server(), Endpoint(url)), every_s=600.0)

        async def load() -> None:
            await sampler.start()
            sampler.now()
            while len(sampler.rounds) < 2:
                await asyncio.sleep(0.01)
            await sampler.cancel()

        run(load())
    assert len(sampler.rounds) == 2


def test_one_of_two_that_does_not_answer_is_named() -> None:
    with odd_server(metrics=lambda: (200, "vllm:prompt_tokens_total 1\n")) as (_, url):
        sampler = Sampler(sources_of(Server(metrics=(url, "http://127.0.0.1:1")), Endpoint(url)))
        run(sampler.stop())
    there, gone = sampler.rounds[0]
    assert there.missing == ""
    assert "http://127.0.0.1:1 does not answer /metrics" in gone.missing
