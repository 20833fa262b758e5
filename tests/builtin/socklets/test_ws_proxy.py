"""The socklet ws_proxy: WebSockets to the nodes of a backend, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import hemi.builtin.backends.http_backend
import hemi.builtin.socklets.ws_proxy  # noqa: F401
from hemi.errors import ConfigError
from hemi.web.websocket import WebSocket
from tests import webkit
from tests.web.websocket.wskit import FIELDS, open_ws, serving
from tests.webkit import Site, until


@contextmanager
def proxying(*nodes: str, **more: Any) -> Iterator[Site]:
    """A site with nothing but ws_proxy."""
    backend = {"type": "http_backend", "nodes": [{"address": node} for node in nodes]}
    rules = [{"socklets": [{"ws_proxy": {"to_backend": "up", **more}}]}]
    mapping = webkit.config(rules=rules, stage={"backends": {"up": backend}}, address="127.0.0.2:0")
    with webkit.running(mapping) as site:
        yield site


def tell(ws: WebSocket) -> None:
    req = ws.request
    ws.send(f"{req.path} {req.header('x-forwarded-for')} {req.header('via')}")
    for message in ws:
        ws.send(message)


def test_messages() -> None:
    with serving(tell) as origin, proxying(origin.address, strip_prefix="/ws") as site:
        with open_ws(site, "/ws/chat") as ws:
            assert ws.receive() == "/chat 127.0.0.1 1.1 gorox"
            for message in ("x", b"y" * 100_000):
                ws.send(message)
                assert ws.receive() == message
            ws.close(3000)
            assert ws.end() == (3000, "")
        assert site.get("/").status == 426
        until(lambda: len(site.access) == 2)
        assert sorted(access.status for access in site.access) == [101, 426]
        assert origin.server.requests == 1


def test_balancing_and_nodes_that_are_down() -> None:
    with (
        serving(lambda ws: ws.send("one")) as one,
        serving(lambda ws: ws.send("two"), _address="127.0.0.3:0") as two,
        proxying(one.address, two.address, "127.0.0.1:1") as site,
    ):
        said = set()
        for _ in range(6):
            with open_ws(site) as ws:
                said.add(ws.receive())
                ws.end()
        assert said == {"one", "two"}


def test_what_does_not_reach_a_node() -> None:
    with serving(tell) as origin, proxying(origin.address) as site, site.connect() as client:
        for fields, status in (({"Origin": "http://b.example"}, 403), ({"Sec-WebSocket-Version": "8"}, 426)):
            client.request("GET", "/", {**FIELDS, **fields})
            assert client.answer().status == status
        assert origin.server.requests == 0


def test_nobody_there() -> None:
    with proxying("127.0.0.1:1") as site, site.connect() as client:
        client.request("GET", "/", FIELDS)
        assert client.answer().status == 502


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strip_prefix": "x"}, "must be a path"),
        ({"sticky_cookie": "a b"}, "name of a cookie"),
        ({"via": "a\nb"}, "via"),
    ],
)
def test_problems(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message), proxying("127.0.0.1:1", **given):
        pass
