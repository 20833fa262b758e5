"""Connections to nodes that speak HTTP/2, through a proxy with HTTP/1 clients."""

from __future__ import annotations

from typing import Any

import gevent

from tests.h2node import Exchange, Node2, echo
from tests.web.proxy.proxykit import node_of, proxying
from tests.webkit import until

V2 = {"version": "2"}


def test_an_exchange() -> None:
    with Node2() as node, proxying(node.address, backend=V2) as site, site.connect() as client:
        for number in range(3):
            client.request("GET", f"/a?{number}", {"X-A": "b"})
            answer = client.answer()
            assert (answer.status, answer.content) == (200, b"hello")
            assert answer.header("content-type") == "text/plain"
        assert node.accepted == 1
        seen = node.exchanges[2]
        assert (seen[":method"], seen[":path"], seen[":scheme"]) == ("GET", "/a?2", "http")
        assert seen[":authority"] and seen.get("host") is None and seen["x-a"] == "b"
        assert seen.get("connection") is None
        assert not node.broken
        told = node_of(site).describe()
        assert (told["conns"], told["in_flight"], told["idle_conns"], told["leases"]) == (1, 0, 1, 3)


def test_contents_and_trailers() -> None:
    with Node2(echo) as node, proxying(node.address, backend=V2) as site:
        for size in (0, 1, 70_000, 3_000_000):
            data = (bytes(range(256)) * (size // 256 + 1))[:size]
            with site.connect() as client:
                writer = gevent.spawn(client.request, "POST", "/", content=data)
                answer = client.answer()
                writer.get()
                assert answer.content == data, site.log.entries
        with site.connect() as client:
            client.request("POST", "/", content=[b"one", b"two"], trailers=[("X-Sum", "6")])
            answer = client.answer()
        assert answer.content == b"onetwo"
        assert answer.trailers == [("x-sum", "6")]
        assert node.accepted == 1 and not node.broken


def test_many_at_a_time() -> None:
    gate: Any = []

    def wait(exchange: Exchange) -> None:
        gate.append(exchange)
        until(lambda: len(gate) == 30)
        exchange.answer(exchange[":path"].encode())

    with Node2(wait) as node, proxying(node.address, backend=V2) as site:
        clients = [site.connect() for _ in range(30)]
        for number, client in enumerate(clients):
            client.request("GET", f"/{number}")
        for number, client in enumerate(clients):
            assert client.answer().content == b"/%d" % number
            client.close()
        assert node.accepted == 1
