"""WebSockets over every wire, by themselves and through the proxy: a list of cases after RFC 6455, section by section,
as the Autobahn suite has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from wsproto.events import CloseConnection, Pong

from hemi.web.websocket import WebSocket
from tests.badserver import Hang, Head, bad_server
from tests.h2client import H2Client
from tests.web.proxy.proxykit import proxying
from tests.web.websocket.wskit import FIELDS, H2Tunnel, frame, open_ws, random_bytes, serving
from tests.webkit import Site, dial, until
from tests.wires import Wire

SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536, 300_000]


@pytest.mark.parametrize("packed", [False, True])
def test_sizes_and_types(wire: Wire, packed: bool) -> None:
    """§5.2, RFC 7692."""
    with serving(wire=wire) as site, open_ws(site, wire=wire, deflate=packed) as ws:
        for size in SIZES:
            for message in ("*" * size, random_bytes(size)):
                ws.send(message)
                assert ws.receive() == message
        ws.close()
        assert ws.end() == (1000, "")
        until(lambda: site.access)
        assert site.access[0].status == 101
        if not packed:
            head = sum(2 if size < 126 else 4 if size < 65536 else 10 for size in SIZES) * 2
            assert site.access[0].bytes_sent == sum(SIZES) * 2 + head + 4


def test_pieces(wire: Wire) -> None:
    """Frames that come cut anywhere, and many at once."""
    with serving(wire=wire) as site, open_ws(site, wire=wire) as ws:
        data = frame(0x81, b"a" * 130) + frame(0x89, b"b") + frame(0x01, b"c") + frame(0x80, b"d")
        for at in range(len(data)):
            ws.raw(data[at : at + 1])
        ws.raw(data * 20)
        for _ in range(21):
            assert [ws.event() for _ in range(3)] == ["a" * 130, Pong(b"b"), "cd"]


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))])
def test_pings(wire: Wire, payload: bytes) -> None:
    """§5.5.2, §5.5.3: also ten at once, and pongs that nobody asked for."""
    with serving(wire=wire) as site, open_ws(site, wire=wire) as ws:
        ws.raw(frame(0x8A, payload) + frame(0x89, payload) * 10)
        assert [ws.event() for _ in range(10)] == [Pong(payload)] * 10


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0x89, bytes(126)), 1002),
        (frame(0xC1, b"a"), 1002),
        (frame(0x83, b"a"), 1002),
        (frame(0x8B), 1002),
        (frame(0x80, b"a"), 1002),
        (frame(0x01, b"a") + frame(0x81, b"b"), 1002),
        (frame(0x81, b"a", None), 1002),
        (frame(0x81, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80"), 1007),
        (frame(0x82, size=1 << 25), 1009),
        (frame(0x88, b"\x03"), 1002),
        (frame(0x88, b"\x03\xe8\xff"), 1007),
        (frame(0x88, b"\x03\xed"), 1002),
    ],
)
def test_violations(wire: Wire, data: bytes, code: int) -> None:
    """§5.4 to §5.6, §7.4.1, §8.1: said by the code, and the connection ends."""
    with serving(wire=wire) as site, open_ws(site, wire=wire) as ws:
        ws.raw(data)
        assert ws.end()[0] == code


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", 1005), (b"\x03\xe8", 1000), (b"\x03\xe8" + b"r" * 123, 1000), (b"\x0b\xb8", 3000)],
)
def test_closing(wire: Wire, payload: bytes, code: int) -> None:
    """§5.5.1, §7.1: the code comes back, and what comes behind a close frame is not served."""
    with serving(wire=wire) as site, open_ws(site, wire=wire) as ws:
        ws.raw(frame(0x88, payload) + frame(0x81, b"late"))
        event = ws.event()
        assert isinstance(event, CloseConnection)
        assert int(event.code) == code
        assert ws.event() is None


def test_closing_by_the_server(wire: Wire) -> None:
    """§7.1.1."""

    def app(ws: WebSocket) -> None:
        assert ws.receive() == "x"
        ws.close(4000, "done")

    with serving(app, wire=wire) as site, open_ws(site, wire=wire) as ws:
        ws.send("x")
        assert ws.end() == (4000, "done")
        until(lambda: site.access)


def test_refusals(wire: Wire) -> None:
    """§4.2.1, §4.4, §10.2: other versions, pages of other sites; 426 for what is no handshake."""
    with serving(wire=wire) as site:
        for fields, status in (({"Sec-WebSocket-Version": "12"}, 426), ({"Origin": "http://b.example"}, 403)):
            client = wire.connect(site)
            tunnel = H2Tunnel(client) if wire.version == "2.0" else client
            tunnel.request("GET", "/", {**FIELDS, **fields})
            answer = tunnel.answer()
            assert answer.status == status
            if status == 426:
                assert answer.header("sec-websocket-version") == "13"
                assert (answer.header("upgrade") is None) == (wire.version == "2.0")
            client.close()
        with wire.connect(site) as client:
            client.request("GET", "/")
            assert client.answer().status == 426


def test_subprotocols(wire: Wire) -> None:
    """§4.2.2."""
    with (
        serving(wire=wire, subprotocols=["b", "c"]) as site,
        open_ws(site, wire=wire, Sec_WebSocket_Protocol="a, b, c") as ws,
    ):
        assert ws.subprotocol == "b"


def test_clients_that_end_without_a_word(wire: Wire) -> None:
    codes: list[int] = []

    def app(ws: WebSocket) -> None:
        assert ws.receive() is None
        codes.append(ws.close_code)

    with serving(app, wire=wire) as site:
        with open_ws(site, wire=wire) as ws:
            ws.client.shutdown() if wire.transport != "tls" or wire.version == "2.0" else ws.client.close()
            until(lambda: codes)
        assert codes == [1006]
        until(lambda: site.access)
        assert not site.log.of("error")


# Through the proxy


@contextmanager
def through(wire: Wire, version: str) -> Iterator[tuple[Site, Site]]:
    """A proxy that is spoken to over a wire, and speaks a version of HTTP to the server behind it."""
    with serving(_address="127.0.0.2:0") as origin:  # stages share what has the same address
        handlet = {"http_proxy": {"to_backend": "up"}}
        backend = {"type": "http_backend", "version": version, "nodes": [{"address": origin.address}]}
        with wire.serve(rules=[{"handlets": [handlet]}], stage={"backends": {"up": backend}}) as site:
            yield site, origin


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_through_the_proxy(wire: Wire, version: str) -> None:
    """RFC 6455 §4, RFC 8441 §5: between any two versions."""
    with through(wire, version) as (site, origin), open_ws(site, wire=wire, deflate=True) as ws:
        assert ws.extensions is not None
        for message in ("x", "y" * 100_000, random_bytes(200_000)):
            ws.send(message)
            assert ws.receive() == message
        ws.ping(b"p")
        assert ws.event() == Pong(b"p")
        ws.close(3001)
        assert ws.end() == (3001, "")
        ws.client.close()
        until(lambda: site.access and origin.access)
        assert site.access[0].status == origin.access[0].status == 101
        assert site.access[0].bytes_sent == origin.access[0].bytes_sent > 200_000
        assert not [*site.log.of("error"), *site.log.of("warning"), *origin.log.of("error")]


@pytest.mark.parametrize("proof", ["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", ""])
def test_nodes_that_did_not_read_the_key(proof: str) -> None:
    """A client of HTTP/2 cannot check it, so the proxy must."""
    answer = f"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{proof}\r\n"
    with bad_server([Head(), answer.encode(), Hang()]) as node, proxying(node) as site:
        client = H2Tunnel(H2Client(dial(site.address)))
        client.request("GET", "/", FIELDS)
        assert client.answer().status == 502
        assert node.requests[0].header("sec-websocket-key")
        client.close()
