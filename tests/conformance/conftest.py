"""The fixture `wire`, over which the tests of this folder run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wires import Wire, http1_wires, http2_wires

HTTP1 = ["h1-tcp", "h1-uds", "h1-tls"]
HTTP2 = ["h2c-tcp", "h2c-uds", "h2-tls"]


@pytest.fixture(scope="session")
def wires(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Wire]:
    """All wires by name."""
    folder: Path = tmp_path_factory.mktemp("w")
    (folder / "1").mkdir()
    (folder / "2").mkdir()
    return {wire.name: wire for wire in http1_wires(folder / "1") + http2_wires(folder / "2")}


@pytest.fixture(params=HTTP1 + HTTP2, scope="session")
def wire(request: pytest.FixtureRequest, wires: dict[str, Wire]) -> Iterator[Wire]:
    """One wire after another."""
    yield wires[request.param]


@pytest.fixture(params=HTTP1, scope="session")
def wire1(request: pytest.FixtureRequest, wires: dict[str, Wire]) -> Iterator[Wire]:
    """One wire of HTTP/1 after another, for what is about its syntax."""
    yield wires[request.param]
