"""The report: one HTML file with everything in it, which asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench_tests.results.schema import Results
from plotting.report.payload import as_json, payload

__all__ = ["render_report", "write_report"]

_HERE = Path(__file__).parent


def write_report(
    runs: Sequence[Results],
    path: Path,
    *,
    tiers: Mapping[str, Sequence[float]] | None = None,
    source: str = "",
    threshold: float = 0.05,
    against: Sequence[str] = (),
    any_load: bool = False,
) -> Path:
    """Write the report of one run, or of several compared with the first, to `path`; returns it.

    The file appears whole or not at all. `tiers` in seconds by `ttft` and `tpot`; `threshold` is a share. `against`: what a
    session's comparison with its baseline says, a line each. `any_load`: as compare_data takes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        page = render_report(runs, tiers=tiers, source=source, threshold=threshold, against=against, any_load=any_load)
        aside.write_text(page, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def render_report(
    runs: Sequence[Results],
    *,
    tiers: Mapping[str, Sequence[float]] | None = None,
    source: str = "",
    threshold: float = 0.05,
    against: Sequence[str] = (),
    any_load: bool = False,
) -> str:
    """The page's text. Only the scripts of this package may run in it: its policy names them by their hashes."""
    library = (_HERE / "vendor" / "plotly-cartesian.min.js").read_text(encoding="utf-8")
    own = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("dom.js", "charts.js", "page.js"))
    allowed = " ".join(f"'sha256-{_hash(script)}'" for script in (library, own))
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    title = " against ".join(reversed([run.folder.absolute().name for run in runs][:3])) + ": benchmark report"
    filled = {
        "POLICY": html.escape(policy, quote=False),
        "TITLE": html.escape(title.encode("utf-8", "replace").decode()),
        "STYLE": (_HERE / "report.css").read_text(encoding="utf-8"),
        "DATA": as_json(payload(runs, tiers, source, threshold, against, any_load)),
        "LIBRARY": library,
        "OWN": own,
    }
    # one pass over the template: nothing that is filled in is looked at again
    parts = (_HERE / "page.html").read_text(encoding="utf-8").split("@@")
    return "".join(filled[part] if place % 2 else part for place, part in enumerate(parts))


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
