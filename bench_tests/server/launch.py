"""How a profile's server is launched, as one short word. Standard library alone: a job writes it down too."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from bench_tests.sweep.profile import Profile

__all__ = ["launch_digest"]

#: keys of [server] that change where it is found and how it is waited for, and not what it does
_NOT_LAUNCHED = ("engine", "host", "port", "startup_timeout", "stop_timeout", "metrics", "role", "gpus")


def launch_digest(profile: Profile) -> str:
    """The same for two starts that a profile's tables make alike: what `--resume` asks of a server that it need not start."""
    server = {key: value for key, value in dataclasses.asdict(profile.server).items() if key not in _NOT_LAUNCHED}
    tables = [server, dataclasses.asdict(profile.container), dataclasses.asdict(profile.sim), profile.model.id]
    return hashlib.sha256(json.dumps(tables, sort_keys=True, default=str).encode()).hexdigest()[:12]
