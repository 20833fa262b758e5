"""The fixture `wire`, over which most tests of this folder run; `site` and `client` for those of HTTP/2 by frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import h2kit
from tests.h2raw import RawClient
from tests.webkit import Site, serve
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


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site with the app of h2kit, that logs no error."""
    with serve(h2kit.app) as running:
        yield running
        assert not running.log.of("error")


@pytest.fixture
def client(site: Site) -> Iterator[RawClient]:
    """A client of it that sends single frames."""
    with RawClient(site) as one:
        yield one
