"""What the tests of layer 4 share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hemi.source import Dirs
from tests.net.kit import Net


@pytest.fixture
def net(dirs: Dirs) -> Iterator[Callable[[str], Net]]:
    """Runs a configuration: net(text). Stopped at the end."""
    running: list[Net] = []

    def start(text: str) -> Net:
        running.append(Net(text, dirs))
        return running[-1]

    yield start
    for one in running:
        one.served.close()
