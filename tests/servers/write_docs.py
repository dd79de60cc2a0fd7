"""`python -m tests.servers.write_docs`: the tables of docs/servers.md from the rows; a test checks that they are current."""

from __future__ import annotations

from pathlib import Path

from tests.servers.rows import NOT_RUN, PROXIES, ROWS, Row

__all__ = ["DOCS", "page"]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "servers.md"

_OPENING = """# Servers, gateways and proxies

The suite measures whatever answers `/v1/completions` or, with `--endpoint chat`, `/v1/chat/completions` as OpenAI's do, streamed. Before the first load it asks for one streamed
token: what the server does not take or does not give is said there, once, with the option that fixes it, and no point is lost
to it. A point on each of these is measured in every CI run (`pytest -m servers tests/servers`, `pytest -m proxies tests/proxies`);
"works" is exit code 0, a verdict PASSED, and every token that was asked for.

## Servers and gateways

| server | set up as | options beside `--base-url` | result | what it says |
| --- | --- | --- | --- | --- |
"""

_PROXIES = """
## Proxies

Before the simulated server and, for HAProxy, compared with a direct run.

| proxy | set up as | result | what it says |
| --- | --- | --- | --- |
"""

_NOT_RUN = """
## Not run

| server | why |
| --- | --- |
"""

_CLOSING = """
What an engine's `/metrics` says beyond vLLM's names, and what is concluded from it, is in [methods](methods.md). Words for a server
that refuses something are in [faults](faults.md).

The tables are made from `tests/servers/rows.py` by `python -m tests.servers.write_docs`.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _line(row: Row) -> str:
    options = " ".join(row.options).format(tokenizer="FOLDER", weights="FOLDER")
    words = "; ".join([*(f"“{word}”" for word in row.words), *([row.remark] if row.remark else [])])
    result = "works" if row.exit == 0 else f"exit code {row.exit}"
    return f"| {row.server} | {_cell(row.setup)} | {f'`{options}`' if options else ''} | {result} | {_cell(words)} |"


def page() -> str:
    """The whole page."""
    proxies = "".join(
        f"| {proxy} | {_cell(setup)} | {result} | {_cell(says)} |\n" for proxy, setup, result, says in PROXIES
    )
    not_run = "".join(f"| {server} | {_cell(why)} |\n" for server, why in NOT_RUN)
    rows = "".join(_line(row) + "\n" for row in ROWS)
    return _OPENING + rows + _PROXIES + proxies + _NOT_RUN + not_run + _CLOSING


if __name__ == "__main__":
    DOCS.write_text(page())
    print(DOCS)
