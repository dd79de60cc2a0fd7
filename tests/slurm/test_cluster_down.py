"""The test cluster takes away what it made and nothing of others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

DOWN = Path(__file__).parent / "cluster_down.sh"


def test_only_its_own_lines_leave_the_hosts_file(tmp_path: Path) -> None:
    ours, hosts = tmp_path / "cluster", tmp_path / "hosts"
    (ours / "etc").mkdir(parents=True)
    (ours / "etc" / "slurm.conf").write_text("")
    others = [
        "127.0.0.1 localhost",
        "10.0.0.7 gpu1",
        f"127.0.0.11 gpu1 # bench-slurm {tmp_path}/another",
        f"127.0.0.12 gpu2 # bench-slurm {ours}2",
        "10.0.0.8 gpu8 # bench-slurm's friend",
        "# the end",
    ]
    own = [f"127.0.0.{10 + i} gpu{i} # bench-slurm {ours}" for i in (1, 2, 3)]
    hosts.write_text("\n".join([*others[:2], *own[:2], *others[2:], own[2], ""]))
    env = os.environ | {"CLUSTER_DIR": str(ours), "CLUSTER_HOSTS": str(hosts)}
    subprocess.run(["bash", str(DOWN)], env=env, check=True, timeout=60)
    assert hosts.read_text().splitlines() == others
    assert not ours.exists()
