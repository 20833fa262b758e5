"""What a configuration says about processes, as the leader needs it: plain numbers that a worker reports.

They are properties of the stage (`hemi.stage`), so that a reload changes them. Durations in seconds, sizes in bytes;
0 switches a limit off.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hemi.procmgr.child import Child

__all__ = ["Settings", "settings_of"]

JITTER = 0.1
"""By which part of it a limit may be lower for a worker, so that they are not all replaced at once."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings, with what holds until a worker has reported."""

    drain_timeout: float = 30.0
    shutdown_delay: float = 0.0
    start_timeout: float = 120.0
    start_attempts: int = 6
    hang_timeout: float = 30.0
    max_rss: int = 0
    max_requests: int = 0
    max_lifetime: float = 0.0
    log_level: str = "info"

    def updated(self, given: dict[str, Any]) -> Settings:
        """These settings with what is given."""
        known = {each.name for each in fields(self)}
        return replace(self, **{name: value for name, value in given.items() if name in known})

    def thresholds(self) -> dict[str, float]:
        """The limits of one worker, with its jitter."""
        limits = {
            "max_rss": self.max_rss,
            "max_requests": self.max_requests,
            "max_lifetime": self.max_lifetime,
        }
        return {name: limit * random.uniform(1 - JITTER, 1) for name, limit in limits.items() if limit}

    def exceeded(self, child: Child, now: float) -> str:
        """Says which limit a worker has exceeded; "" when none."""
        actual = {
            "max_rss": child.vitals.get("rss", 0),
            "max_requests": child.report.get("requests", 0),
            "max_lifetime": now - child.was_ready_at,
        }
        for name, limit in child.thresholds.items():
            if actual[name] >= limit:
                return f"{name}: {actual[name]:.0f}"
        return ""


def settings_of(stage: Any) -> dict[str, Any]:
    """The settings that a stage has."""
    return {each.name: getattr(stage, each.name) for each in fields(Settings)}
