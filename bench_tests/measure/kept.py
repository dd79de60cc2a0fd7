"""What of the server's side is kept of a run, beside its result and records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench_tests.measure.server_side import Story
from bench_tests.results.write import write_bytes
from bench_tests.server.metrics import Metrics

__all__ = ["Kept"]


@dataclass(frozen=True)
class Kept:
    """The counters of a run, its story, and by what they hold the files as they came: (ending, bytes)."""

    counted: Metrics | None = None
    story: Story = field(default_factory=Story)
    raw: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)

    def beside(self, folder: Path, name: str) -> Story:
        """The story, when the files that it names have been written beside the records. Raises NotMeasured."""
        files = dict(self.raw)
        if self.story.series:
            files["series"] = ("server.npz", self.story.save_series())
        named = {}
        for what, (ending, data) in files.items():
            if data:
                write_bytes(folder / f"{name}.{ending}", data)
                named[what] = f"{folder.name}/{name}.{ending}"
        power = {"raw": named.pop("power")} if "power" in named else {}
        return replace(
            self.story,
            facts={**self.story.facts, **named} if self.story.facts else {},
            power={**self.story.power, **power} if self.story.power else {},
        )
