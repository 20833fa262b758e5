"""The fixture `wire`, over which the tests of this folder run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wires import Wire, http1_wires

NAMES = ["h1-tcp", "h1-uds", "h1-tls"]


@pytest.fixture(scope="session")
def wires(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Wire]:
    """All wires by name."""
    folder: Path = tmp_path_factory.mktemp("w")
    return {wire.name: wire for wire in http1_wires(folder)}


@pytest.fixture(params=NAMES, scope="session")
def wire(request: pytest.FixtureRequest, wires: dict[str, Wire]) -> Iterator[Wire]:
    """One wire after another."""
    yield wires[request.param]
