"""What the suite does with servers and gateways of others: how each is set up, what a user has to say, what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NOT_RUN", "PROXIES", "ROWS", "TEXT", "Row"]

TEXT = ("--prompt-format", "text", "--tokenizer={tokenizer}")
WORDS = ("--prompt-format", "text", "--tokenizer", "words")  # as the simulated server counts a text
CHAT = ("--endpoint", "chat", "--tokenizer={tokenizer}")


@dataclass(frozen=True)
class Row:
    """`start` is a function of start.py. Exit 0 is a point that PASSED with every token that was asked for."""

    name: str
    server: str  # for the reader
    setup: str  # for the reader
    start: str
    options: tuple[str, ...] = ()  # beyond --base-url and the point
    exit: int = 0
    words: tuple[str, ...] = ()  # which it says
    engine: str = ""  # what the result calls it
    by_token: bool = True  # it sends tokens as they come; else a word, or a whole answer without a blank, is one event
    input_counted: bool = True  # the server's own count of the prompts is the one that was asked for
    remark: str = ""  # for the reader
    paced: bool = False  # its tokens come so far apart that a stream which something gathers would be an ERROR here


ROWS: tuple[Row, ...] = (
    Row("vllm", "vLLM 0.32 (CPU)", "`vllm serve`, two names, a LoRA adapter", "vllm_names", ("--model", "tiny"), engine="vllm"),
    Row("vllm-second-name", "vLLM 0.32 (CPU)", "the same, by its second name", "vllm_names", ("--model", "second"), engine="vllm"),
    Row("vllm-lora", "vLLM 0.32 (CPU)", "the same, the adapter", "vllm_names", ("--model", "adapter"), engine="vllm"),
    Row("vllm-chat", "vLLM 0.32 (CPU)", "the first, chat", "vllm_names", ("--model", "tiny", *CHAT), engine="vllm"),
    Row("vllm-data-parallel", "vLLM 0.32 (CPU)", "`--data-parallel-size 2`", "vllm_data_parallel", engine="vllm"),
    Row("llama-metrics", "llama.cpp's `llama-server`", "with `--metrics`", "llama_with_metrics", engine="llama.cpp"),
    Row("llama", "llama.cpp's `llama-server`", "without", "llama", engine="llama.cpp"),
    Row(
        "transformers", "`transformers serve` 5.19", "as it is", "transformers", ("--model={weights}",), exit=12,
        words=("prompt must be a string", "--prompt-format text"),
    ),
    Row(
        "transformers-text", "`transformers serve` 5.19", "with what it asks for", "transformers",
        ("--model={weights}", *TEXT, "--no-ignore-eos"),
    ),
    Row(
        "transformers-chat", "`transformers serve` 5.19", "chat", "transformers",
        ("--model={weights}", *CHAT, "--no-ignore-eos"), words=("tokens an event",), by_token=False,
    ),
    Row("litellm", "LiteLLM 1.108", "provider `text-completion-openai`, before the simulated server", "litellm_completions", paced=True),
    Row(
        "litellm-chat", "LiteLLM 1.108", "provider `hosted_vllm`, chat, before the simulated server, which thinks", "litellm_chat",
        ("--endpoint", "chat", "--tokenizer", "words", "--slo", "p99_ttfat<=60s"),
        words=("the chat template adds 4 tokens",), paced=True,
    ),
    Row(
        "litellm-vllm", "LiteLLM 1.108", "provider `hosted_vllm`, before the simulated server", "litellm_vllm", exit=12,
        words=("Unmapped prompt format", "--prompt-format text"),
    ),
    Row(
        "litellm-vllm-text", "LiteLLM 1.108", "provider `hosted_vllm`, before the simulated server", "litellm_vllm",
        WORDS, paced=True,
    ),
    Row(
        "sglang-router", "sglang-router 0.3.2", "before two simulated servers", "sglang_router", exit=12,
        words=("takes prompts as text alone", "--prompt-format text"),
    ),
    Row(
        "sglang-router-text", "sglang-router 0.3.2", "the same, with what it asks for", "sglang_router",
        ("--model", "tiny", *WORDS), exit=12, words=("gathers the stream",), paced=True,
        remark="it leaves Nagle's algorithm on: events wait for the ACK of those before, up to 40 ms",
    ),
)  # fmt: skip

# proxy, set up as, result, what it says: what tests/proxies holds
PROXIES: tuple[tuple[str, str, str, str], ...] = (
    (
        "HAProxy 2.6",
        "nothing but timeouts",
        "exit code 12",
        "“HAProxy: option http-no-delay”: it gathers events, and TTFT and TPOT would be its own",
    ),
    ("HAProxy 2.6", "`option http-no-delay`", "works", "p99 TPOT within 3 % of the direct run"),
    (
        "HAProxy 2.6",
        "two replicas, turn by turn",
        "works",
        "“several servers answer here by turns: their counters are not used”",
    ),
    (
        "nginx 1.22",
        "as it comes",
        "works",
        "p99 TPOT within 3 % of the direct run: it hands on what has come when the engine pauses",
    ),
    ("nginx 1.22", "`proxy_buffering off`", "works", "p99 TPOT within 3 % of the direct run"),
    (
        "nginx 1.22",
        "TLS with a certificate of its own",
        "works",
        "with `--insecure`; without it, or `$SSL_CERT_FILE`: “certificate verify failed”, exit code 13",
    ),
)

NOT_RUN: tuple[tuple[str, str], ...] = (
    ("vLLM on a GPU", "CI has none; measured by hand on an H100 ([example](example-h100.md))"),
    ("SGLang, TensorRT-LLM, text-generation-inference", "they need a GPU, or a build for the CPU that was not tried"),
    ("Ollama, LocalAI", "not tried"),
    ("the hosted endpoints of providers", "CI reaches no network beyond its package registries"),
)
