"""Fixtures: peers and running backends, ended with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hemi.source import Dirs
from tests.peer import Peer
from tests.upstream.kit import Running


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    """Starts nodes: peer(handle=echo, context=None)."""
    peers: list[Peer] = []

    def start(*arguments: Any, **keywords: Any) -> Peer:
        peers.append(Peer(*arguments, **keywords))
        return peers[-1]

    yield start
    for one in peers:
        one.stop()


@pytest.fixture
def run(dirs: Dirs) -> Iterator[Callable[..., Running]]:
    """Runs backends: run("b: {type: echo_backend, …}", predecessor=None)."""
    running: list[Running] = []

    def start(text: str, predecessor: Running | None = None) -> Running:
        running.append(Running(text, dirs, predecessor))
        return running[-1]

    yield start
    for one in running:
        one.stop()
