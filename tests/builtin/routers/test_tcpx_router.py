"""The router: by addresses, by what the ClientHello asks for, and with TLS that ends here."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hemi.source import Dirs
from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, echoed, problems, rest, until, untrusting
from tests.net.test_listening import closed
from tests.peer import Peer
from tests.tlskit import Authority

Start = Callable[[str], Net]


def saying(word: bytes) -> Callable[[socket.socket], None]:
    def handle(sock: socket.socket) -> None:
        sock.sendall(word)
        sock.recv(100)

    return handle


@pytest.fixture
def peers() -> Iterator[dict[str, Peer]]:
    """Nodes that say who they are, before the client says a word."""
    found = {name: Peer(saying(name.encode())) for name in ("a", "b", "c")}
    yield found
    for peer in found.values():
        peer.stop()


def router(peers: dict[str, Peer], cases: str, more: str = "") -> str:
    backends = "".join(
        f"  {name}: {{type: tcpx_backend, nodes: [{{address: '{peer.address}'}}]}}\n"
        for name, peer in peers.items()
    )
    return f"""
backends:
{backends}
routers:
  front:
    type: tcpx_router
    address: "127.0.0.1:0"
    {more}
    cases:
{cases}
"""


def to(backend: str, condition: str = "") -> str:
    chosen = f"if: {condition!r}, " if condition else ""
    return f"      - {{{chosen}dealets: [{{tcpx_proxy: {{to_backend: {backend}}}}}]}}\n"


def test_addresses_and_fall_through(net: Start, peers: dict[str, Peer]) -> None:  # noqa: F811
    cases = (
        to("a", '$src_host in "10.0.0.0/8"')
        + "      - dealets: [{access: {allow: all}}]\n"  # declines
        + to("b", '$dst_port != "1" and $uds == "off" and $src_port ~= "^[0-9]+$"')
        + to("c")
    )
    one = net(router(peers, cases))
    found = one.records("front")
    with one.connect("front") as sock:
        assert sock.recv(10) == b"b"  # the server speaks first
        sock.sendall(b"bye")
        assert rest(sock) == b""
    until(lambda: found)
    assert found[0] == (200, "", f"TCP {one.address('front')} > {peers['b'].address}", 3, 1)


def test_no_case(net: Start, peers: dict[str, Peer]) -> None:  # noqa: F811
    one = net(router(peers, to("a", '$src_host == "192.0.2.1"')))
    found = one.records("front")
    with one.connect("front") as sock:
        assert closed(sock)
    until(lambda: found)
    assert found[0][:2] == (404, "no case deals with it")
    assert one.log.find("no case deals with it") or one.log.find("no case deals with TCP")


BY_NAME = (
    to("a", '$server_name == "a.example" and $next_proto *= "h2"')
    + to("b", '$server_name $= ".example"')
    + to("c")
)


@pytest.mark.parametrize(
    ("name", "protocols", "node"),
    [
        ("a.example", ("h2", "http/1.1"), "a"),
        ("A.example", (), "b"),
        ("b.example", ("h2",), "b"),
        ("c.test", (), "c"),
    ],
)
def test_tls_passes_through(
    net: Start,  # noqa: F811
    tmp_path: Path,
    name: str,
    protocols: tuple[str, ...],
    node: str,
) -> None:
    """The nodes end TLS themselves, with certificates of their own."""
    identity = Authority(tmp_path).issue("x.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.private_key)
    peers = {one: Peer(saying(one.encode()), context) for one in ("a", "b", "c")}
    try:
        one = net(router(peers, BY_NAME))
        with (
            one.connect("front") as sock,
            untrusting(*protocols).wrap_socket(sock, server_hostname=name) as client,
        ):
            assert client.recv(10) == node.encode()
    finally:
        for peer in peers.values():
            peer.stop()


def test_who_says_nothing_goes_on_after_a_while(net: Start, peers: dict[str, Peer]) -> None:  # noqa: F811
    one = net(router(peers, BY_NAME, "inspect_timeout: 50ms"))
    with one.connect("front") as sock:
        assert sock.recv(10) == b"c"


def test_what_is_no_tls_goes_on_at_once(net: Start, peers: dict[str, Peer]) -> None:  # noqa: F811
    one = net(router({**peers, "c": peers["c"]}, to("a", '$tls == "on"') + to("c"), "inspect_timeout: 1h"))
    with one.connect("front") as sock:
        sock.sendall(b"SSH-2.0-x\r\n")
        assert sock.recv(10) == b"c"


def test_tls_ends_here(net: Start, peers: dict[str, Peer], tmp_path: Path) -> None:  # noqa: F811
    authority = Authority(tmp_path)
    it = authority.issue("a.example", "a.example", "b.example")
    more = (
        f"tls: true\n    tls_next_protos: [db]\n"
        f"    certificates: [{{certificate: {it.certificate}, private_key: {it.private_key}}}]"
    )
    cases = to("a", '$server_name == "a.example" and $next_proto == "db" and $tls == "on"') + to("b")
    one = net(router(peers, cases, more))
    context = ssl.create_default_context(cafile=authority.file)
    context.set_alpn_protocols(["db", "x"])
    for name, node in (("a.example", b"a"), ("b.example", b"b")):
        with one.connect("front") as sock, context.wrap_socket(sock, server_hostname=name) as client:
            assert client.recv(10) == node


def test_unix_domain(net: Start, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "s.sock"
    echo = Peer()
    try:
        text = router({"a": echo, "b": echo}, to("a", '$uds == "on" and $src_host == "unix:"') + to("b"))
        one = net(text.replace('"127.0.0.1:0"', f'["127.0.0.1:0", "{path}"]'))
        found = one.records("front")
        with one.connect("front", 1) as sock:
            assert echoed(sock) == b"hello"
        until(lambda: found)
        assert found[0][2] == f"UDS {path} > {echo.address}"
    finally:
        echo.stop()


def test_access_log(net: Start, peers: dict[str, Peer]) -> None:  # noqa: F811
    text = router(peers, to("a"), "access_log: {target: l4.log, format: json}")
    one = net(text)
    with one.connect("front") as sock:
        assert sock.recv(10) == b"a"
        sock.sendall(b"bye")
        assert rest(sock) == b""
    one.served.close()
    line = (Path(one.dirs.top) / "l4.log").read_text()
    assert '"router":"front"' in line.replace(" ", "") and '"bytes_received":3' in line.replace(" ", "")


def test_shared_dealets(net: Start, peers: dict[str, Peer]) -> None:  # noqa: F811
    cases = "      - {if: '$uds == \"on\"', dealets: [gate]}\n      - dealets: [gate]\n" + to("a")
    one = net(router(peers, cases, "dealets: {gate: {type: access, deny: [127.0.0.1]}}"))
    with one.connect("front") as sock:
        assert closed(sock)


def test_problems(dirs: Dirs) -> None:
    assert "must have cases" in problems('routers: {one: {type: tcpx_router, address: "127.0.0.1:0"}}', dirs)
    case = "{dealets: [{tcpx_proxy: {to_backend: x}}]}"
    text = f'routers: {{one: {{type: tcpx_router, address: "127.0.0.1:0", cases: [{case}]}}}}'
    assert "to_backend" in problems(text, dirs)
