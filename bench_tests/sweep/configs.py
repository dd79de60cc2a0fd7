"""Configurations of a profile's server: `[configs.NAME]` and `[matrix]`, each a variant that a sweep starts and measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """Which configuration a profile describes: its name, and what sets it apart from the profile, flat."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
