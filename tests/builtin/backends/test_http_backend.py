"""http_backend as a component."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from hemi.errors import ConfigError
from hemi.proxy_protocol import Header, parse
from tests.badserver import Hang, answering, bad_server
from tests.web.proxy.proxykit import node_of, proxying
from tests.webkit import until


def test_it_counts_what_nodes_do_and_keeps_connections() -> None:
    with bad_server(answering()) as node, proxying(node, backend={"idle_conns": 1}) as site:
        assert site.get().status == 200
        assert site.get().status == 200
        known = node_of(site)
        until(lambda: known.pool.idle)
        assert (known.leases, known.in_flight, known.failures) == (2, 0, 0)
        assert node.conns == 1
        backend = site.stage.members["backends"]["up"]
        assert backend.describe()["type"] == "http_backend"
        assert not backend.exchanges


def test_a_stopped_stage_leaves_no_connection() -> None:
    with bad_server(answering()) as node:
        with proxying(node) as site:
            assert site.get().status == 200
        until(lambda: node.ended)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nodes_are_told_of_the_client(version: str) -> None:
    """By a PROXY header; each connection is for one exchange of one client."""
    heads: list[Header] = []

    def read_header(sock: Any) -> None:
        found = parse(sock.recv(4096, socket.MSG_PEEK))
        assert isinstance(found, Header)
        sock.recv(found.size)
        heads.append(found)

    with (
        bad_server([read_header, *answering()[:2], Hang()]) as node,
        proxying(node, backend={"send_proxy": version}) as site,
    ):
        with site.connect() as client:
            for _ in range(2):
                client.request()
                assert client.answer().status == 200
            src = client.sock.getsockname()
            dst = client.sock.getpeername()
        assert node.conns == 2
        for head in heads:
            assert (head.src_host, head.src_port, head.dst_host, head.dst_port) == (*src, *dst)
            assert head.authority == ("a.example" if version == "v2" else "")


def test_a_proxy_header_is_before_tls_and_checks_send_one(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def look(sock: Any) -> None:
        seen.append(sock.recv(15))
        sock.close()

    backend = {
        "send_proxy": "v1",
        "tls": True,
        "tls_verify": False,
        "checks": [{"tls": {"interval": "50ms"}}],
    }
    with bad_server([look]) as node, proxying(node, backend=backend):
        until(lambda: len(seen) >= 2)
    assert set(seen) == {b"PROXY UNKNOWN\r\n"}


def test_version_2_has_no_proxy_headers() -> None:
    with (
        pytest.raises(ConfigError, match="send_proxy must not stand beside version"),
        proxying("127.0.0.1:1", backend={"send_proxy": "v1", "version": "2"}),
    ):
        pass
