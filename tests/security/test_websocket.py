"""SECURITY row 14: what a client of a WebSocket can do wrong on purpose, and which code it gets for it."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from wsproto.events import Pong

from hemi.web.websocket import WebSocket
from hemi.web.websocket.deflate import deflate
from hemi.web.websocket.frames import Decoder
from tests.web.websocket.wskit import FIELDS, frame, open_ws, serving
from tests.webkit import until


def attack(data: bytes, *, packed: bool = False, **terms: object) -> tuple[int, str]:
    """What a server that echoes says to bytes, before it closes the connection; it must live on, and say so in its
    log."""
    with serving(**terms) as site:  # type: ignore[arg-type]
        with open_ws(site, deflate=packed) as ws:
            ws.raw(data)
            told = ws.end()
        assert f"is ended: {told[0]}" in until(lambda: site.log.of("info", "websocket"))[0].message
        assert not site.log.of("error")
        with open_ws(site) as other:
            other.send("still there")
            assert other.receive() == "still there"
    return told


def test_unmasked_frames() -> None:
    """A proxy between could be made to take them for HTTP (RFC 6455 §10.3)."""
    assert attack(frame(0x81, b"GET /secret HTTP/1.1\r\n\r\n", None)) == (1002, "a frame that is not masked")


def test_oversized_frames_are_refused_by_their_heads() -> None:
    assert attack(frame(0x82, size=1 << 40))[0] == 1009
    assert attack(frame(0x82, b"x" * 100, size=1 << 62))[0] == 1009
    assert attack(frame(0x82, size=2000), max_frame_size=1000)[0] == 1009


def test_oversized_messages_of_good_frames() -> None:
    data = frame(0x02, bytes(900)) + frame(0x00, bytes(900))
    assert attack(data, max_message_size="1K") == (1009, "the message is too big")


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_fragment_floods(payload: bytes) -> None:
    assert attack(frame(0x01) + frame(0x00, payload) * 5000) == (1008, "too many tiny fragments")


@pytest.mark.parametrize("opcode", [0x89, 0x8A])
def test_ping_floods(opcode: int) -> None:
    assert attack(frame(opcode, b"x") * 5000) == (1008, "too many control frames")


def test_pings_at_an_honest_rate_are_no_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hemi.web.websocket.connection.CONTROL_SECONDS", 0.0)
    with serving() as site, open_ws(site) as ws:
        for _ in range(300):
            ws.ping(b"x")
            assert ws.event() == Pong(b"x")


def test_answers_to_pings_do_not_pile_up() -> None:
    """A client that pings and takes no answers: nothing more is read of it."""
    with serving(_server={"write_timeout": "300ms"}) as site, open_ws(site) as ws:
        (conn,) = site.conns
        ws.client.sock.settimeout(0.5)
        sent = 0
        try:
            while sent < 50_000_000:
                sent += ws.client.sock.send(frame(0x81, b"y" * 120) * 1000)
        except OSError:
            pass
        assert sent < 50_000_000
        until(lambda: conn not in site.conns)


@pytest.mark.parametrize("text", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
def test_bad_utf8(text: bytes) -> None:
    assert attack(frame(0x81, text)) == (1007, "the text is not UTF-8")
    assert attack(frame(0x01, text[:1]) + frame(0x80, text[1:]))[0] == 1007
    assert attack(frame(0xC1, deflate(text, 15)), packed=True)[0] == 1007


def test_bad_utf8_in_the_reason_of_a_close() -> None:
    assert attack(frame(0x88, b"\x03\xe8\xff")) == (1007, "the reason is not UTF-8")


@pytest.mark.parametrize("bits", [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70])
def test_rsv_bits(bits: int) -> None:
    assert attack(frame(0x81 | bits, b"x"))[0] == 1002
    if bits != 0x40:
        assert attack(frame(0x81 | bits, b"x"), packed=True)[0] == 1002


@pytest.mark.parametrize("opcode", [3, 7, 11, 15])
def test_unknown_opcodes(opcode: int) -> None:
    assert attack(frame(0x80 | opcode))[0] == 1002


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_close_codes_that_must_not_be(code: int) -> None:
    assert attack(frame(0x88, code.to_bytes(2)))[0] == 1002


def test_deflate_bombs() -> None:
    """50 MB in 50 KB: refused, and never in memory."""
    bomb = frame(0xC2, deflate(bytes(50_000_000), 15))
    assert len(bomb) < 60_000
    tracemalloc.start()
    try:
        told = attack(bomb, packed=True, max_message_size="1M")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told == (1009, "the message is too big when it is inflated")
    assert peak < 5_000_000


def test_deflate_bombs_in_fragments() -> None:
    piece = deflate(bytes(400_000), 15) + b"\0\0\xff\xff"
    data = frame(0x42, piece) + frame(0x00, piece) + frame(0x80, piece[:-4])
    assert attack(data, packed=True, max_message_size="1M")[0] == 1009


def test_garbage_instead_of_deflate() -> None:
    assert attack(frame(0xC2, b"\xff" * 100), packed=True) == (1007, "the message cannot be inflated")


def test_one_byte_at_a_time_takes_memory_by_the_byte() -> None:
    decoder = Decoder(1 << 20, 1 << 20)
    decoder.feed(frame(0x82, size=1 << 20))
    tracemalloc.start()
    try:
        for _ in range(15_000):
            decoder.feed(b"x")
            assert decoder.next() is None
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://a.example.evil.example", "file://"]
)
def test_cross_site_pages(origin: str) -> None:
    """Browsers send cookies with handshakes to wherever a page likes (cross-site WebSocket hijacking)."""
    called: list[WebSocket] = []
    with serving(called.append) as site, site.connect() as client:
        client.request("GET", "/", {**FIELDS, "Origin": origin, "Cookie": "session=1"})
        assert client.answer().status == 403
        assert not called


def test_handshakes_that_never_end_have_a_deadline() -> None:
    with serving(_server={"head_timeout": "200ms"}) as site, site.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n")
        assert client.answer().status == 408


def test_clients_that_stay_silent_behind_a_failure_are_cut() -> None:
    with serving(close_timeout="200ms") as site, open_ws(site) as ws:
        begun = time.monotonic()
        ws.raw(frame(0x81, b"x", None))
        ws.receive()
        assert ws.client.rest() == b""
        until(lambda: site.access)
        assert time.monotonic() - begun < 5


def test_messages_behind_a_failure_are_not_served() -> None:
    got: list[object] = []

    def app(ws: WebSocket) -> None:
        got.extend(ws)

    with serving(app) as site, open_ws(site) as ws:
        ws.raw(frame(0x81, b"good") + frame(0x83) + frame(0x81, b"bad"))
        assert ws.end()[0] == 1002
        ws.client.close()
        until(lambda: site.access)
        assert got == ["good"]
