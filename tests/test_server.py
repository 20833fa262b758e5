"""The kind of servers."""

from __future__ import annotations

from hemi import component as registry
from hemi.server import Server


def test_what_any_server_says() -> None:
    server = Server()
    assert (server.requests, server.conns, server.addresses, server.urls()) == (0, 0, [], [])


def test_it_is_a_kind() -> None:
    assert registry.kinds()["servers"] is Server
