"""The proxy: nodes that fail, PROXY headers out, TLS to nodes, limits, and what a reload leaves alone."""

from __future__ import annotations

import os
import re
import socket
import ssl
import sys
import textwrap
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from hemi import component
from hemi.proxy_protocol import Header, parse
from hemi.source import Dirs
from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, echoed, problems, receive, rest, until, untrusting
from tests.net.test_listening import closed
from tests.peer import Peer
from tests.running import TOP_DIR
from tests.tlskit import Authority
from tests.upstream.kit import closed_port

Start = Callable[[str], Net]


@pytest.fixture
def echo() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.stop()


def proxy(nodes: list[str], more: str = "", backend: str = "", router: str = "") -> str:
    listed = ", ".join(f'{{address: "{node}"}}' for node in nodes)
    return f"""
drain_timeout: 10s
backends:
  back: {{type: tcpx_backend, nodes: [{listed}]{", " + backend if backend else ""}}}
routers:
  front:
    type: tcpx_router
    address: "127.0.0.1:0"
    {router}
    cases:
      - dealets: [{{tcpx_proxy: {{to_backend: back{", " + more if more else ""}}}}}]
"""


def test_bulk_and_half_close(net: Start, echo: Peer) -> None:  # noqa: F811
    data = os.urandom(1 << 20) * 8
    one = net(proxy([echo.address]))
    found = one.records("front")
    with one.connect("front") as sock:
        sending = gevent.spawn(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        assert rest(sock) == data
        sending.join()
    until(lambda: found)
    assert found[0][0] == 200 and found[0][3:] == (len(data), len(data))
    node = one.served.stage.members["backends"]["back"].roster.nodes[0]  # type: ignore[attr-defined]
    assert node.in_flight == 0 and not node.backend.channels


def test_other_nodes_are_tried(net: Start, echo: Peer) -> None:  # noqa: F811
    dead = [f"127.0.0.1:{closed_port()}" for _ in range(2)]
    one = net(proxy([*dead, echo.address], backend="max_fails: 0"))
    for _ in range(6):
        with one.connect("front") as sock:
            assert echoed(sock) == b"hello"


def test_tries_are_limited(net: Start, echo: Peer) -> None:  # noqa: F811
    one = net(
        proxy([f"127.0.0.1:{closed_port()}", echo.address], "tries: 1", "balancer: first, max_fails: 0")
    )
    found = one.records("front")
    with one.connect("front") as sock:
        assert closed(sock)
    until(lambda: found)
    assert found[0][0] == 502 and "connection refused" in found[0][1]


def test_no_node(net: Start) -> None:  # noqa: F811
    one = net(proxy([f"127.0.0.1:{closed_port()}"]))
    with one.connect("front") as sock:
        assert closed(sock)
    until(lambda: one.log.find("has no node"))
    assert not one.served.stage.members["backends"]["back"].channels  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_proxy_header_out(net: Start, version: str) -> None:  # noqa: F811
    """It is the first that a node gets, also when the client says nothing."""
    seen: list[Header] = []

    def handle(sock: Any) -> None:
        data = sock.recv(1000)
        found = parse(data)
        assert isinstance(found, Header)
        seen.append(found)
        sock.sendall(b"seen" + data[found.size :])

    peer = Peer(handle)
    try:
        one = net(proxy([peer.address], f"send_proxy: {version}"))
        with one.connect("front") as sock:
            assert receive(sock, 4) == b"seen"
            host, port = sock.getsockname()
            assert (seen[0].src_host, seen[0].src_port, seen[0].version) == (host, port, int(version[1]))
            assert f"{seen[0].dst_host}:{seen[0].dst_port}" == one.address("front")
    finally:
        peer.stop()


def test_tls_to_the_node(net: Start, tmp_path: Path) -> None:  # noqa: F811
    authority = Authority(tmp_path)
    identity = authority.issue("node.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.private_key)
    peer = Peer(context=context)
    try:
        one = net(
            proxy(
                [peer.address], backend=f"tls: true, tls_ca: {authority.file}, tls_server_name: node.example"
            )
        )
        data = os.urandom(300_000)
        with one.connect("front") as sock:
            sending = gevent.spawn(sock.sendall, data)
            assert receive(sock, len(data)) == data
            sending.join()
    finally:
        peer.stop()


def test_idle(net: Start, echo: Peer) -> None:  # noqa: F811
    one = net(proxy([echo.address], "idle_timeout: 100ms"))
    found = one.records("front")
    with one.connect("front") as sock:
        assert echoed(sock) == b"hello"
        assert closed(sock)
    until(lambda: found and not echo.open)
    assert found[0][:2] == (200, "idle")


def test_rates(net: Start, echo: Peer) -> None:  # noqa: F811
    """What a connection may send and receive, each in its time; `limit` can say the same for several."""
    one = net(proxy([echo.address], "upload_rate: 64K, download_rate: 32K, rate_burst: 4K"))
    data = os.urandom(12288)
    began = monotonic()
    with one.connect("front") as sock:
        assert echoed(sock, data) == data
        assert 0.2 < monotonic() - began < 5  # 8K of it at 32K a second


def test_rate_bursts_need_rates(dirs: Dirs) -> None:
    assert "rate_burst needs an upload_rate or a download_rate" in problems(
        proxy(["127.0.0.1:1"], "rate_burst: 1K"), dirs
    )


def test_reload_keeps_relays(net: Start, echo: Peer) -> None:  # noqa: F811
    text = proxy([echo.address])
    one = net(text)
    with one.connect("front") as old:
        assert echoed(old) == b"hello"
        one.reload(text.replace("tcpx_proxy", "access: {deny: all}}, {tcpx_proxy"))
        with one.connect("front") as new:
            assert closed(new)
        assert echoed(old, b"still here") == b"still here"
        old.shutdown(socket.SHUT_WR)
        assert rest(old) == b""


def test_the_end_of_the_stage_resets(net: Start, echo: Peer) -> None:  # noqa: F811
    one = net(proxy([echo.address]))
    with one.connect("front") as sock:
        assert echoed(sock) == b"hello"
        one.served.close()
        with pytest.raises(ConnectionResetError):
            rest(sock)


def test_nothing_is_left(net: Start, echo: Peer) -> None:  # noqa: F811
    one = net(proxy([echo.address], router="max_concurrent_conns: 100"))
    with one.connect("front") as sock:
        assert echoed(sock) == b"hello"
    until(lambda: not one.owner("front").conns and not echo.open)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with one.connect("front") as sock:
            assert echoed(sock) == b"hello"
    until(lambda: not one.owner("front").conns and not echo.open)
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not [member for gate in one.owner("front").gates for member in gate.members]


# Faults


def test_nodes_die_and_return_under_load(net: Start) -> None:  # noqa: F811
    """A node that dies takes its own connections with it, and nothing else: new ones go elsewhere, none hangs, nothing
    is left of them."""
    peers = [Peer() for _ in range(3)]
    one = net(proxy([peer.address for peer in peers], "tries: 3", "max_fails: 1, fail_timeout: 50ms"))
    node_of = {peer.address: peer for peer in peers}
    records: list[tuple[int, str]] = []
    one.owner("front").record = lambda conn: records.append((conn.status, conn.node))
    data = os.urandom(200_000)
    before = len(os.listdir("/proc/self/fd"))
    done, failed, working = [0], [0], [True]

    def client() -> None:
        while working[0]:
            try:
                with one.connect("front") as sock:
                    sending = gevent.spawn(sock.sendall, data)
                    whole = receive(sock, len(data)) == data
                    sending.kill()
            except ConnectionError:
                whole = False
            done[0] += whole
            failed[0] += not whole

    clients = [gevent.spawn(client) for _ in range(8)]
    with gevent.Timeout(30):
        for number in range(6):
            peer = peers[number % 3]
            goal = done[0] + 20
            until(lambda goal=goal: done[0] >= goal)
            peer.stop()
            goal = done[0] + 20
            until(lambda goal=goal: done[0] >= goal)  # the others go on
            peer.start()
        working[0] = False
        gevent.joinall(clients, raise_error=True)
    # At each death, those of the eight that were at this node; 502 nobody got.
    assert failed[0] <= 6 * 8 and {status for status, _ in records} == {200}
    assert set(node_of) <= {node for _, node in records}
    until(lambda: not one.owner("front").conns and not any(peer.open for peer in peers))
    backend: Any = one.served.stage.members["backends"]["back"]
    assert not backend.channels and not any(node.in_flight or node.conns for node in backend.roster.nodes)
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)
    for peer in peers:
        peer.stop()


def test_the_drain_of_a_reload_has_an_end(net: Start, echo: Peer) -> None:  # noqa: F811
    """What is busy lives on with the old stage, until `drain_timeout` is over."""
    text = proxy([echo.address]).replace("drain_timeout: 10s", "drain_timeout: 300ms")
    one = net(text)
    with one.connect("front") as old, one.connect("front") as ending:
        assert echoed(old) == echoed(ending) == b"hello"
        reloading = gevent.spawn(one.reload, text)
        with one.connect("front") as new:
            until(lambda: one.owner("front").conns)
            assert echoed(ending) == b"hello"
            ending.shutdown(socket.SHUT_WR)
            assert rest(ending) == b""
            with pytest.raises(ConnectionResetError):
                rest(old)
            assert echoed(new) == b"hello"
        reloading.join()


def tls_router(folder: Path, node: str) -> str:
    identity = Authority(folder).issue("front.example")
    certificate = f"{{certificate: {identity.certificate}, private_key: {identity.private_key}}}"
    return proxy([node], router=f"tls: true\n    certificates: [{certificate}]")


def test_half_close_by_the_node_through_tls(net: Start, tmp_path: Path) -> None:  # noqa: F811
    got: list[bytes] = []

    def handle(sock: Any) -> None:
        sock.sendall(b"all I have to say")
        sock.shutdown(socket.SHUT_WR)
        got.append(rest(sock))

    peer = Peer(handle)
    one = net(tls_router(tmp_path, peer.address))
    with one.connect("front") as raw, untrusting().wrap_socket(raw, server_hostname="front.example") as sock:
        assert rest(sock) == b"all I have to say"
        sock.sendall(b"but I have more")
    until(lambda: got)
    assert got == [b"but I have more"]
    peer.stop()


def test_half_close_by_the_client_through_tls(net: Start, tmp_path: Path) -> None:  # noqa: F811
    """The client's close_notify is the end of what it sends; it still reads all that comes."""

    def handle(sock: Any) -> None:
        sock.sendall(b"you said " + rest(sock))

    peer = Peer(handle)
    one = net(tls_router(tmp_path, peer.address))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = untrusting().wrap_bio(incoming, outgoing, server_hostname="front.example")

    with one.connect("front") as sock:

        def drive(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(sock.recv(65536))

        drive(client.do_handshake)
        client.write(b"that")
        with pytest.raises(ssl.SSLWantReadError):
            client.unwrap()  # the close_notify is written
        assert drive(lambda: client.read(100)) == b"you said that"
    peer.stop()


# Dealets that know what passes: the example of docs/developer/dealets.md, which is run here

GUIDE = TOP_DIR / "docs" / "developer" / "dealets.md"


def example() -> str:
    """The code of the second example of the guide."""
    return re.findall(
        r"\n\n((?:    .*\n|\n)+)", GUIDE.read_text().partition("## Dealets that know the protocol")[2]
    )[0]


@pytest.fixture
def guarded(net: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Net]:  # noqa: F811
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "guide_example.py").write_text(textwrap.dedent(example()))
    peer = Peer()
    for name in ("_registry", "_classes"):  # what it defines is forgotten afterwards
        monkeypatch.setattr(
            component, name, {key: copy(each) for key, each in getattr(component, name).items()}
        )
    yield net("extensions: [guide_example]\n" + proxy([peer.address]).replace("tcpx_proxy", "line_guard"))
    sys.modules.pop("guide_example")
    peer.stop()


def test_a_dealet_that_parses_what_passes(guarded: Net) -> None:
    """Commands are found however they are cut; what is forbidden does not reach the node, and the client is told."""
    found = guarded.records("front")
    with guarded.connect("front") as sock:
        for piece, answer in ((b"HEL", b""), (b"LO\r\nNO", b"HELLO\r\n"), (b"OP\r\nDE", b"NOOP\r\n")):
            sock.sendall(piece)
            assert receive(sock, len(answer)) == answer
        sock.sendall(b"L everything\r\nQUIT\r\n")
        assert rest(sock) == b"-DEL is forbidden\r\n"
    until(lambda: found)
    assert found[0][:2] == (200, "DEL is forbidden") and found[0][3:] == (13, 13)
    with guarded.connect("front") as sock:
        sock.sendall(b"whole\r\nand a line that does not end")
        sock.shutdown(socket.SHUT_WR)
        assert rest(sock) == b"whole\r\nand a line that does not end"
