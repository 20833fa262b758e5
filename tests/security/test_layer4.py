"""Attacks on layer 4 and the forward proxies: bytes that nobody would send, slow and oversized openings, floods, and
requests that would be two (rows 1, 3, 15 and 23 of the threats). What a router does not understand passes unchanged.

That forward proxies are no way in is in `test_open_proxy`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hemi.proxy_protocol import build_v1, build_v2
from hemi.source import Dirs
from tests.net.kit import TIMEOUT, Net, dial, echoed, receive, rest, until, untrusting
from tests.peer import Peer
from tests.test_tlshello import real_hello
from tests.tlskit import Authority

FUZZ = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

CONFIG = """
handshake_timeout: 500ms
inspect_timeout: 500ms
request_timeout: 500ms
backends:
  echo: {{type: tcpx_backend, nodes: [{{address: "{echo}"}}]}}
routers:
  sni:
    type: tcpx_router
    address: "127.0.0.1:0"
    cases:
      - if: $server_name == "shop.example.com" or $next_proto *= "imap"
        dealets: [{{tcpx_proxy: {{to_backend: echo}}}}]
      - dealets: [{{tcpx_proxy: {{to_backend: echo}}}}]
  proxied:
    type: tcpx_router
    address: "127.0.0.1:0"
    proxy_protocol: true
    cases: [{{dealets: [{{tcpx_proxy: {{to_backend: echo, send_proxy: v2}}}}]}}]
  tls:
    type: tcpx_router
    address: "127.0.0.1:0"
    tls: true
    certificates: [{{certificate: {certificate}, private_key: {key}}}]
    cases: [{{dealets: [{{tcpx_proxy: {{to_backend: echo}}}}]}}]
servers:
  socks: {{type: socks_server, address: "127.0.0.1:0", allow: [{{networks: 127.0.0.1, ports: {port}}}]}}
  users:
    type: socks_server
    address: "127.0.0.1:0"
    users: {{anna: "{{PLAIN}}gorox"}}
    allow_plain: true
    max_failures: 0
    allow: [{{networks: 127.0.0.1, ports: {port}}}]
  tunnel: {{type: tunnel_server, address: "127.0.0.1:0", allow: [{{networks: 127.0.0.1, ports: {port}}}]}}
"""


class Target:
    """All of them in front of one echo server."""

    def __init__(self, dirs: Dirs, folder: Path) -> None:
        self.echo = Peer()
        identity = Authority(folder).issue("localhost")
        text = CONFIG.format(
            echo=self.echo.address,
            port=self.echo.port,
            certificate=identity.certificate,
            key=identity.private_key,
        )
        self.net = Net(text, dirs)

    def talk(self, name: str, data: bytes, pieces: int = 1 << 20) -> bytes:
        """Sends, ends sending, returns what comes back until the end, or until a reset."""
        got = b""
        with self.net.connect(name) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for at in range(0, len(data), pieces):
                    sock.sendall(data[at : at + pieces])
                    gevent.sleep(0)
                sock.shutdown(socket.SHUT_WR)
                while piece := sock.recv(65536):
                    got += piece
            except TimeoutError:
                raise
            except OSError:
                pass
        return got

    def bugs(self) -> list[str]:
        """What the servers themselves failed of."""
        return self.net.log.find("a connection from")

    def close(self) -> None:
        """Ends everything."""
        self.net.served.close()
        self.echo.stop()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    from tests.running import dirs_below

    folder = tmp_path_factory.mktemp("layer4")
    one = Target(dirs_below(folder), folder)
    yield one
    assert one.bugs() == []
    one.close()


def mutated(*samples: bytes) -> st.SearchStrategy[bytes]:
    """Noise, and good messages with some bytes changed, cut out, doubled or added."""

    def change(sample: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        data = bytearray(sample)
        for at, size, new in changes:
            at %= len(data) + 1
            data[at : at + size] = new
        return bytes(data)

    changes = st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4
    )
    return st.binary(max_size=300) | st.builds(change, st.sampled_from(samples), changes)


HELLO = real_hello("shop.example.com")
SOURCE, PLACE = ("192.0.2.1", 1234), ("192.0.2.2", 443)
PROXY_HEADS = [build_v1(SOURCE, PLACE), build_v2(SOURCE, PLACE), build_v2(("2001:db8::1", 1), ("::1", 2))]


def socks5(host: bytes, port: int, kind: int = 3, command: int = 1) -> bytes:
    """A greeting and a request."""
    address = bytes((len(host),)) + host if kind == 3 else host
    return b"\5\1\0" + bytes((5, command, 0, kind)) + address + struct.pack("!H", port)


# Routers: what is not understood passes unchanged


@FUZZ
@given(
    data=mutated(HELLO, HELLO + b"and more", b"\x16\3\1\0\0", b"SSH-2.0-x\r\n"),
    pieces=st.sampled_from([1 << 20, 7, 1]),
)
def test_a_router_changes_nothing(target: Target, data: bytes, pieces: int) -> None:
    """Whatever the ClientHello reader makes of it: the node gets each byte, once, in order."""
    assert target.talk("sni", data, pieces) == data


@FUZZ
@given(data=mutated(*PROXY_HEADS, PROXY_HEADS[0] + b"GET / HTTP/1.1\r\n\r\n"))
def test_proxy_headers(target: Target, data: bytes) -> None:
    """A header is taken or the connection ends: never is a piece of a bad one passed on as data."""
    records = target.net.records("proxied")
    got = target.talk("proxied", data)
    until(lambda: records)
    status, reason, _, _, sent = records[0]
    if status == 400:
        assert reason and got == b"" and sent == 0
    else:
        assert got.startswith(b"\r\n\r\n\0\r\nQUIT\n")  # the header that the node got, and echoed
        assert data.endswith(got[16 + struct.unpack("!H", got[14:16])[0] :])


@FUZZ
@given(data=mutated(HELLO), pieces=st.sampled_from([1 << 20, 5]))
def test_handshakes(target: Target, data: bytes, pieces: int) -> None:
    """Nothing but alerts and handshake records comes out, and nothing gets to the node."""
    before = target.echo.accepted
    got = target.talk("tls", data, pieces)
    assert got[:1] in (b"", b"\x15", b"\x16")
    assert target.echo.accepted == before


# Forward proxies


@FUZZ
@given(
    data=mutated(
        socks5(b"localhost", 80),
        socks5(b"\x7f\0\0\1", 1, 1),
        b"\4\1\0\x50\0\0\0\1anna\0localhost\0",
        b"\5\1\2\1\4anna\5gorox",
    )
)
@pytest.mark.parametrize("name", ["socks", "users"])
def test_socks(target: Target, name: str, data: bytes) -> None:
    """Answers are those of the protocol, and only a good request to the one allowed port gets through."""
    before = target.echo.accepted
    got = target.talk(name, data)
    assert got[:1] in (b"", b"\0", b"\5") and len(got) <= 32
    assert target.echo.accepted == before


@FUZZ
@given(
    data=mutated(
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
        b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
    )
)
def test_http(target: Target, data: bytes) -> None:
    got = target.talk("tunnel", data)
    assert got == b"" or got.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))


def test_after_all_that_they_serve(target: Target) -> None:
    """Comes after the fuzzing: everything still works, and nothing was left open."""
    port = target.echo.port
    with target.net.connect("sni") as sock:
        assert echoed(sock) == b"hello"
    with target.net.connect("tls") as raw, untrusting().wrap_socket(raw, server_hostname="localhost") as sock:
        assert echoed(sock) == b"hello"
    with target.net.connect("socks") as sock:
        sock.sendall(socks5(b"127.0.0.1", port))
        assert receive(sock, 12)[:4] == b"\5\0\5\0"
        assert echoed(sock) == b"hello"
    with target.net.connect("tunnel") as sock:
        sock.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % port)
        assert receive(sock, 39).startswith(b"HTTP/1.1 200")
        assert echoed(sock) == b"hello"
    for name in ("sni", "proxied", "tls", "socks", "users", "tunnel"):
        until(lambda name=name: not target.net.owner(name).conns)
        assert not [member for gate in target.net.owner(name).gates for member in gate.members]
    until(lambda: not target.echo.open)
    assert not target.net.served.stage.members["backends"]["echo"].channels  # type: ignore[attr-defined]


# Slow and oversized

OPENINGS = {
    "proxied": PROXY_HEADS[0][:-3],
    "tls": HELLO[:40],
    "socks": b"\5\1\0\5\1\0\3",
    "tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nHo",
}


@pytest.mark.parametrize("name", OPENINGS)
def test_slow_openings(target: Target, name: str) -> None:
    """Whoever never ends its opening is cut, and bytes that trickle in win no time."""
    with target.net.connect(name) as sock:
        sock.sendall(OPENINGS[name][:-4])

        def trickle() -> None:
            try:
                for byte in OPENINGS[name][-4:]:
                    gevent.sleep(0.15)
                    sock.sendall(bytes((byte,)))
            except OSError:
                pass

        trickling = gevent.spawn(trickle)
        with gevent.Timeout(TIMEOUT):
            try:
                assert len(rest(sock)) < 300  # SOCKS chose a method, HTTP says 408
            except ConnectionError:
                pass
        trickling.kill()


def test_a_slow_hello_is_no_reason_to_wait_for_ever(target: Target) -> None:
    """A router peeks for `inspect_timeout` at most; then the bytes go where those of others go."""
    with target.net.connect("sni") as sock:
        sock.sendall(HELLO[:40])
        assert receive(sock, 40) == HELLO[:40]
        assert echoed(sock, HELLO[40:]) == HELLO[40:]


@pytest.mark.parametrize(
    ("name", "data", "answer"),
    [
        ("proxied", b"PROXY TCP4 " + b"1" * 500, b""),
        ("proxied", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + bytes(65535), b""),
        ("tls", b"\x16\3\1\x40\1" + bytes(0x4001), b"\x15"),
        ("tls", b"\x16\3\1\0\1\1" * 9000, b"\x15"),
        ("socks", b"\4\1\0\x50\1\2\3\4" + b"a" * 100_000, b"\0"),
        ("users", b"\5\xff" + bytes(255) + b"x" * 100_000, b"\5"),
        ("tunnel", b"GET http://localhost/ HTTP/1.1\r\nA: " + b"a" * 100_000, b"HTTP/1.1 431"),
        ("tunnel", b"GET http://localhost/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 414"),
    ],
)  # fmt: skip
def test_oversized_openings(target: Target, name: str, data: bytes, answer: bytes) -> None:
    got = target.talk(name, data)
    assert got.startswith(answer) and len(got) < 300


# Requests that would be two


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: +3\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X: a\n\nGET http://localhost/ HTTP/1.1\r\n",
        b" folded: x\r\n",
        b"Host: other\r\n",
    ],
)
def test_smuggling(target: Target, fields: bytes) -> None:
    """Of a request that could be read in two ways nothing gets to the server behind."""
    before, port = target.echo.accepted, target.echo.port
    got = target.talk(
        "tunnel", b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n%babc" % (port, fields + b"\r\n")
    )
    assert got.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
    assert target.echo.accepted == before


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT 127.0.0.1:%d\r\nX: HTTP/1.1",
        b"CONNECT 127.0.0.1:%d@example.com:80 HTTP/1.1",
        b"CONNECT user@127.0.0.1:%d HTTP/1.1",
        b"CONNECT http://127.0.0.1:%d HTTP/1.1",
        b"CONNECT 127.0.0.1:%d/ HTTP/1.1",
        b"CONNECT [127.0.0.1]:%d HTTP/1.1",
        b"CONNECT 127.0.0.1:0%d0 HTTP/1.1",
        b"CONNECT 127.0.0.1%%3a%d HTTP/1.1",
        b"CONNECT 127.0.0.1:%d HTTP/0.9",
        b"CONNECT 127.0.0.1:%d HTTP/1.1\nHost: x",
        b"CONNECT  127.0.0.1:%d HTTP/1.1",
        b"GET http://user@127.0.0.1:%d/ HTTP/1.1",
        b"GET //127.0.0.1:%d/ HTTP/1.1",
        b"GET gopher://127.0.0.1:%d/ HTTP/1.1",
        b"GET http://127.0.0.1:%d\\@example.com/ HTTP/1.1",
    ],
)
def test_targets_that_say_two_things(target: Target, line: bytes) -> None:
    before = target.echo.accepted
    got = target.talk("tunnel", line % target.echo.port + b"\r\nHost: x\r\n\r\n")
    assert got == b"" or got.startswith(b"HTTP/1.1 4"), got
    assert target.echo.accepted == before


def test_what_follows_a_refused_connect_goes_nowhere(target: Target) -> None:
    """A client that does not wait for the answer sends the first bytes of its tunnel: they are no request."""
    before = target.echo.accepted
    got = target.talk(
        "tunnel",
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n"
        b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % target.echo.port,
    )
    assert got.count(b"HTTP/1.1") == 1 and got.startswith(b"HTTP/1.1 403")
    assert target.echo.accepted == before


# Floods

Start = Callable[[str], Net]


@pytest.fixture
def flooded(dirs: Dirs) -> Iterator[Any]:
    echo = Peer()
    one = Net(
        f"""
backends: {{echo: {{type: tcpx_backend, nodes: [{{address: "{echo.address}"}}]}}}}
routers:
  front:
    type: tcpx_router
    address: "127.0.0.1:0"
    max_concurrent_conns: 40
    cases:
      - dealets: [{{limit: {{concurrent: 5, connections: 1000/s}}}}, {{tcpx_proxy: {{to_backend: echo}}}}]
""",
        dirs,
    )
    yield one
    one.served.close()
    echo.stop()


def test_a_flood_of_connections(flooded: Net) -> None:
    """Those within the limits are served while the others are turned away, and all is forgotten afterwards."""
    address = flooded.address("front")
    kept = [dial(address) for _ in range(5)]
    assert [echoed(sock) for sock in kept] == [b"hello"] * 5
    refused = []
    for _ in range(200):
        refused.append(dial(address))
    with gevent.Timeout(TIMEOUT):
        for sock in refused:
            try:
                assert rest(sock) == b""
            except ConnectionError:
                pass
            sock.close()
    assert [echoed(sock) for sock in kept] == [b"hello"] * 5
    for sock in kept:
        sock.close()
    until(lambda: not flooded.owner("front").conns)
    dealet = flooded.owner("front").cases[0].dealets[0]
    assert not dealet._open and not dealet._counted
    with dial(address) as sock:
        assert echoed(sock) == b"hello"
    assert len(flooded.log.find("beyond 5 connections")) <= 3  # a flood does not fill the log
