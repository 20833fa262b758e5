"""Attacks by and on the way to nodes (SECURITY rows 5, 12, 15): what they send unasked, and who pretends to be one."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hemi.upstream.dial import dial
from hemi.upstream.errors import DialFailed
from hemi.values import Addr
from tests.peer import Peer
from tests.running import until
from tests.tlskit import Authority
from tests.upstream.conftest import peer, run  # noqa: F401
from tests.upstream.kit import Running

Run = Callable[..., Running]
Peers = Callable[..., Peer]


def backend_of(run: Run, one: Peer, more: str = "") -> Any:  # noqa: F811
    return run(f'b: {{type: echo_backend, nodes: [{{address: "{one.address}"}}]{more}}}')["b"]


@pytest.mark.parametrize("unasked", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"\0"])
def test_a_second_answer_is_nobodys(run: Run, peer: Peers, unasked: bytes) -> None:  # noqa: F811
    """What a node sends after its answer must not become the answer to the next request (response splitting)."""

    def talk(sock: Any) -> None:
        while data := sock.recv(100):
            sock.sendall(data)
            sock.sendall(unasked)

    one = peer(talk)
    backend = backend_of(run, one)
    (node,) = backend.roster.nodes
    lease = backend.lease()
    conn = lease.take()
    conn.channel.send(b"x")
    assert conn.channel.recv(1) == b"x"
    lease.done(keep=True)  # what is behind has not arrived yet, perhaps
    assert until(lambda: not node.pool.idle or not node.pool.idle[0].channel.is_quiet())
    lease = backend.lease()
    assert lease.take() is not conn
    assert conn.channel not in backend.channels
    lease.end()


def test_a_man_in_the_middle_gets_nothing(run: Run, peer: Peers, tmp_path: Path) -> None:  # noqa: F811
    """Nodes are verified by default: a certificate of somebody else's authority ends the handshake."""
    mine, theirs = Authority(tmp_path, "mine"), Authority(tmp_path, "theirs")
    identity = theirs.issue("node.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.private_key)
    heard: list[bytes] = []
    one = peer(lambda sock: heard.append(sock.recv(100)), context=context)
    backend = backend_of(run, one, f", tls: true, tls_ca: {mine.file}, tls_server_name: node.test")
    with pytest.raises(DialFailed, match="tls: certificate verify failed"):
        backend.lease().take()
    assert heard == []


def test_names_cannot_lead_inside(peer: Peers) -> None:  # noqa: F811
    """The address that was permitted is the one that is dialled: a name is not asked for twice (DNS rebinding)."""
    one = peer()
    asked: list[str] = []

    class Rebinding:
        def resolve(self, host: str, port: int, *, timeout: float | None = None) -> list[tuple[int, Any]]:
            asked.append(host)
            return [(socket.AF_INET, ("127.0.0.1" if len(asked) > 1 else "127.0.0.2", port))]

    seen: list[str] = []

    def permit(address: str) -> bool:
        seen.append(address)
        return address != "127.0.0.1"

    with pytest.raises(DialFailed) as caught:
        dial(Addr("evil.test", one.port), Rebinding(), timeout=0.05, permit=permit)
    assert (caught.value.phase, asked, seen, one.accepted) == ("connect", ["evil.test"], ["127.0.0.2"], 0)
    with pytest.raises(DialFailed, match="its address is not permitted"):
        dial(Addr("evil.test", one.port), Rebinding(), timeout=0.05, permit=lambda address: False)
