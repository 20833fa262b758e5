"""Leaders for the tests of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes.leaderkit import CONFIG, Leader


@pytest.fixture
def lead(tmp_path: Path) -> Iterator[Callable[..., Leader]]:
    """Starts leaders: lead(config, *arguments). Ended at the end, with everything that they started."""
    running: list[Leader] = []

    def start(config: str | None = CONFIG, *arguments: str, **options: object) -> Leader:
        leader = Leader(tmp_path, config, *arguments, **options)
        running.append(leader)
        return leader

    yield start
    for leader in running:
        leader.kill()
