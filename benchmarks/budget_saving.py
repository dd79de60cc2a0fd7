"""What `--budget` saves: a whole sweep of 48 points, then the same one in a part of its time, and where their verdicts differ.

    python benchmarks/budget_saving.py [--share 0.4] [--folder DIR]

Whole sessions on the simulated server, from outside. The grid is kimi_k2's with shorter answers and a faster server.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_tests.markdown import markdown
from bench_tests.measure.capacity import over_of

PROFILE = """
base = "kimi_k2"
name = "saved"
[model]
id = "simulated"
[sweep]
osl = [32]
[sim]
step_ms = 10.0
prefill_tok_per_s = 400000
[slo]
p99_ttft = "1s"
p99_tpot = "30ms"
[validity]
max_core_wait = "1s"
max_pause = "10s"
max_blur_share = 1.0
"""
NEAR = 0.10  # a figure this near to its limit may fall on either side of it in two runs of the same kind


def session(folder: Path, *args: str) -> tuple[float, str]:
    """Seconds of one session on the simulated server, from its start to its end, and what it said."""
    profile = folder.parent / "saved.toml"
    profile.write_text(PROFILE)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--server",
        "sim",
        f"--profile={profile}",
        f"--results-dir={folder}",
        *args,
    ]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    return time.monotonic() - began, done.stdout


def results(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("saved_*.json"))]
    return {f"isl{r['point']['isl']}-conc{r['point']['conc']}": r for r in found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.4, help="the budget, as a share of the whole sweep's time")
    parser.add_argument("--folder", type=Path, help="keep both sweeps' results there")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    whole_s, _ = session(folder / "whole")
    budget_s = math.floor(args.share * whole_s)
    short_s, said = session(folder / "short", f"--budget={budget_s}s")
    whole, short = results(folder / "whole"), results(folder / "short")
    over = {name: over_of(result) for name, result in whole.items() if result["verdict"] in ("PASSED", "FAILED")}
    far = [name for name, value in over.items() if abs(value) >= math.log(1 + NEAR)]
    differ = [n for n in far if n not in short or short[n]["verdict"] != whole[n]["verdict"]]
    print(markdown(
        [[f"{whole_s:.0f} s", f"{budget_s} s", f"{short_s:.0f} s", f"{short_s / budget_s:.3f}", f"{short_s / whole_s:.0%}",
          str(len(over)), str(len(far)), str(len(differ))]],
        ["whole sweep", "budget", "with budget", "/ budget", "/ whole", "points judged", f"{NEAR:.0%} or more from their limit",
         "of these another verdict"],
    ))  # fmt: skip
    for name in differ:
        print(
            f"{name}: {whole[name]['verdict']} {over[name]:+.2f}, then {short.get(name, {}).get('verdict', 'left out')}"
        )
    print("\n".join(line for line in said.splitlines() if line.startswith(("budget ", "too close", "left out"))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
