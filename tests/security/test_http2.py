"""SECURITY rows 4, 6, 7 and 8: what is tried with the frames and field blocks of HTTP/2, and what becomes of it."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from hemi.web.request import Request
from hemi.web.response import Response
from tests.h2raw import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GET,
    GOAWAY,
    HEADERS,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    PRIORITY_UPDATE,
    PROTOCOL_ERROR,
    RST_STREAM,
    SETTINGS,
    SETTINGS_TIMEOUT,
    WINDOW_UPDATE,
    RawClient,
    frame,
    settings,
    word,
)
from tests.web.proxy.proxykit import proxying
from tests.webkit import Site, hello, serve, until


def calm(client: RawClient, site: Site, *words: str) -> None:
    """The connection has ended for a flood, and the log says who did it."""
    last = client.goaway()
    assert last.code == ENHANCE_YOUR_CALM
    told(site, *words)


def told(site: Site, *words: str) -> None:
    """The log has a warning about the peer with these words."""
    (entry,) = site.log.of("warning", "h2")
    assert "127.0.0.1:" in entry.message
    for one in words:
        assert one in entry.message


# Row 6: streams that come to nothing


def test_rapid_reset() -> None:
    """CVE-2023-44487."""
    begun = 0

    def app(req: Request, resp: Response) -> bool:
        nonlocal begun
        begun += 1
        gevent.sleep(0.05)
        return hello(req, resp)

    with serve(app) as site, RawClient(site) as client:
        for number in range(1000):
            sid = 2 * number + 1
            client.send(client.headers(sid), frame(RST_STREAM, 0, sid, word(CANCEL)))
        calm(client, site, "reset")
        assert begun <= 200


def test_rapid_reset_does_not_run_more_than_the_limit_at_a_time() -> None:
    """Streams that the client has reset count until their handlers have ended."""
    running, most = 0, 0
    go = Event()

    def app(req: Request, resp: Response) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            go.wait(10)
        finally:
            running -= 1
        return hello(req, resp)

    with serve(app, server={"h2_max_streams": 10, "h2_max_resets": 1000}) as site, RawClient(site) as client:
        for number in range(100):
            sid = 2 * number + 1
            client.send(client.headers(sid))
            client.ping()
            client.send(frame(RST_STREAM, 0, sid, word(CANCEL)))
        client.ping()
        assert most == 20
        go.set()
        until(lambda: not running)
        client.send(client.headers(999))
        assert client.response(999)[1] == b"hello"


@pytest.mark.parametrize(
    "trick",
    [
        lambda sid: frame(WINDOW_UPDATE, 0, sid, word(0)),
        lambda sid: frame(WINDOW_UPDATE, 0, sid, word(0x7FFFFFFF)),
        lambda sid: frame(PRIORITY, 0, sid, b"\0"),
        lambda sid: frame(DATA, END_STREAM, sid, b"more than nothing"),
    ],
)
def test_made_you_reset(trick) -> None:  # type: ignore[no-untyped-def]
    """CVE-2025-8671: the client has the server reset its streams, by errors behind a whole request."""

    def app(req: Request, resp: Response) -> bool:
        gevent.sleep(0.05)
        return hello(req, resp)

    with serve(app) as site, RawClient(site) as client:
        for number in range(1000):
            sid = 2 * number + 1
            client.send(client.headers(sid), trick(sid))
        calm(client, site, "reset")


def test_malformed_requests_count() -> None:
    with serve() as site, RawClient(site) as client:
        for number in range(1000):
            client.send(client.headers(2 * number + 1, [*GET, ("connection", "close")]))
        calm(client, site, "reset")


def test_clients_that_break_off_some_of_many_requests_are_served() -> None:
    with serve() as site, RawClient(site) as client:
        for number in range(1000):
            client.send(client.headers(2 * number + 1))
            if number % 3 == 0:
                client.send(frame(RST_STREAM, 0, 2 * number + 1, word(CANCEL)))
            client.ping()
        assert client.is_alive()
        assert not site.log.of("warning")


# Row 7: floods and stalls

FLOODS = {
    "ping": frame(PING, 0, 0, b"12345678"),
    "ping-ack": frame(PING, ACK, 0, b"12345678"),
    "settings": settings((4, 65535)),
    "empty-settings": settings(),
    "priority": frame(PRIORITY, 0, 1, word(0) + b"\x10"),
    "priority-update": frame(PRIORITY_UPDATE, 0, 0, word(1) + b"u=1"),
    "window-update": frame(WINDOW_UPDATE, 0, 0, word(1)),
    "window-update-of-a-stream": frame(WINDOW_UPDATE, 0, 1, word(1)),
    "empty-data": frame(DATA, 0, 1),
    "padding": frame(DATA, 8, 1, b"\x03\0\0\0"),
    "unknown": frame(0xEE, 0, 0, b"x" * 100),
    "reset-of-closed": frame(RST_STREAM, 0, 3, word(CANCEL)),
    "goaway": frame(GOAWAY, 0, 0, word(0) + word(0)),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_floods_of_frames_that_bring_nothing(flood: bytes) -> None:
    """CVE-2019-9512, 9513, 9515, 9518."""

    def app(req: Request, resp: Response) -> bool:
        req.content()
        return hello(req, resp)

    with serve(app) as site, RawClient(site) as client:
        client.send(client.headers(1, POST, END_HEADERS), client.headers(3))
        client.response(3)
        for _ in range(30):
            client.send(flood * 100)
        calm(client, site, "flood")


def test_answers_that_nobody_takes_are_bounded() -> None:
    """CVE-2019-9512, 9515: the client does not read the acknowledgments that it provokes; the server stops reading."""
    with serve() as site:
        client = RawClient(site, rcvbuf=4096)
        with client:
            (conn,) = site.conns
            conn.calm.frames.left = conn.calm.frames.most = 10**9
            sender = gevent.spawn(lambda: [client.send(FLOODS["ping"] * 1000) for _ in range(2000)])
            until(lambda: conn.writer.size > 200_000 or conn.attention.waits)
            gevent.sleep(0.05)
            assert conn.writer.size < 1_000_000
            sender.kill()


@pytest.mark.parametrize("size", [0, 1, 16000])
def test_continuation_flood(size: int) -> None:
    """CVE-2024-27316 and its family: fields without an end."""
    with serve() as site, RawClient(site) as client:
        client.send(client.headers(1, GET, END_STREAM))
        for _ in range(200):
            client.send(frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y"[:size] + b"\x00" * (size - 5)))
        calm(client, site, "CONTINUATION")
        assert not site.access


def test_a_block_that_never_ends_is_late() -> None:
    with serve(server={"head_timeout": "300ms"}) as site, RawClient(site) as client:
        client.send(client.headers(1, GET, END_STREAM))
        calm(client, site, "too long")


def test_a_frame_that_drips_is_late() -> None:
    with serve(server={"head_timeout": "300ms"}) as site, RawClient(site) as client:
        data = frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x82" * 200)
        with gevent.Timeout(10):
            for at in range(len(data)):
                client.send(data[at : at + 1])
                gevent.sleep(0.02)
                if not site.conns or site.log.entries:
                    break
        calm(client, site, "too long")


def test_settings_that_are_not_acknowledged() -> None:
    with serve(server={"h2_settings_timeout": "100ms"}) as site, RawClient(site, begin=False) as client:
        client.send(PREFACE, settings())
        assert client.goaway().code == SETTINGS_TIMEOUT


def test_a_client_that_asks_nothing_is_ended() -> None:
    with serve(server={"head_timeout": "100ms"}) as site, RawClient(site) as client:
        last = client.goaway()
        assert last.code == 0 and last.payload[:4] == word(0)


def test_a_window_that_stays_shut_ends_the_stream() -> None:
    ends: list[Exception] = []

    def app(req: Request, resp: Response) -> bool:
        try:
            resp.send(b"x" * 100_000)
        except Exception as error:
            ends.append(error)
            raise
        return True

    with serve(app, server={"write_timeout": "200ms"}) as site:
        with RawClient(site, pairs=[(4, 10)]) as client:
            client.send(client.headers(1))
            assert client.until(RST_STREAM).code == CANCEL
            client.send(
                settings((4, 1_000_000)), frame(WINDOW_UPDATE, 0, 0, word(1_000_000)), client.headers(3)
            )
            assert len(client.response(3)[1]) == 100_000
        assert len(ends) == 1


def test_a_window_that_opens_byte_by_byte_ends_the_stream() -> None:
    """Slow read: every update brings a byte, so that something always moves."""
    with (
        serve(lambda req, resp: resp.send(b"x" * 100_000) or True, server={"write_timeout": "300ms"}) as site,
        RawClient(site, pairs=[(4, 1)]) as client,
    ):
        client.send(client.headers(1))
        with gevent.Timeout(10):
            while (one := client.frame()).kind != RST_STREAM:
                if one.kind == DATA:
                    client.send(frame(WINDOW_UPDATE, 0, 1, word(1)))
                    gevent.sleep(0.01)
        assert one.code == CANCEL


def test_a_window_of_the_connection_that_stays_shut_ends_it() -> None:
    with (
        serve(lambda req, resp: resp.send(b"x" * 100_000) or True, server={"write_timeout": "200ms"}) as site,
        RawClient(site, pairs=[(4, 1_000_000)]) as client,
    ):
        client.send(client.headers(1), client.headers(3))
        assert client.goaway().code == ENHANCE_YOUR_CALM
        told(site, "stalls")


def test_a_client_that_does_not_read_is_ended() -> None:
    with (
        serve(
            lambda req, resp: resp.send(b"x" * 20_000_000) or True, server={"write_timeout": "200ms"}
        ) as site,
        RawClient(site, pairs=[(4, 0x7FFFFFFF)], rcvbuf=4096) as client,
    ):
        client.send(frame(WINDOW_UPDATE, 0, 0, word(0x70000000)), client.headers(1))
        until(lambda: site.access)
        until(lambda: not site.conns)


def test_an_honest_slow_client_gets_it_all() -> None:
    """Windows that open late, but by enough, are no attack."""
    size = 300_000
    with (
        serve(
            lambda req, resp: resp.send(b"x" * size) or True,
            server={"write_timeout": "400ms", "min_rate": 10_000},
        ) as site,
        RawClient(site, pairs=[(4, 10_000)]) as client,
    ):
        client.send(client.headers(1))
        got = 0
        while got < size:
            one = client.until(DATA)
            got += len(one.payload)
            if got % 10_000 == 0:
                gevent.sleep(0.02)
                client.send(
                    frame(WINDOW_UPDATE, 0, 1, word(10_000)), frame(WINDOW_UPDATE, 0, 0, word(10_000))
                )
        assert one.flags & END_STREAM
        assert not site.log.entries


def test_slow_contents_get_a_408() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(req.content())
        return True

    with serve(app, server={"read_timeout": "200ms"}) as site, RawClient(site) as client:
        client.send(client.headers(1, POST, END_HEADERS), frame(DATA, 0, 1, b"x"))
        client.send(client.headers(3))
        assert client.response(3)[1] == b""
        assert client.response(1)[0][":status"] == "408"
        assert not site.log.of("error")


def test_contents_that_drip_get_a_408() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(req.content())
        return True

    with (
        serve(app, server={"rate_grace": "300ms", "min_rate": 1000, "read_timeout": "10s"}) as site,
        RawClient(site) as client,
    ):
        client.send(client.headers(1, POST, END_HEADERS))

        def drip() -> None:
            while True:
                client.send(frame(DATA, 0, 1, b"x"))
                gevent.sleep(0.02)

        sender = gevent.spawn(drip)
        assert client.response(1)[0][":status"] == "408"
        sender.kill()


# Row 8: field blocks


def test_hpack_bomb() -> None:
    """A large entry of the table, a thousand times in a few bytes."""
    with serve() as site, RawClient(site) as client:
        value = b"a" * 4000
        entry = b"\x40\x01x\x7f" + bytes([0x80 | ((4000 - 127) & 0x7F), (4000 - 127) >> 7]) + value
        client.send(
            client.headers(1, GET, END_STREAM), frame(CONTINUATION, END_HEADERS, 1, entry + b"\xbe" * 10_000)
        )
        last = client.goaway()
        assert last.code == ENHANCE_YOUR_CALM
        told(site, "too large")
        assert not site.access


def test_heads_that_are_too_large_are_refused_one_by_one() -> None:
    with serve(server={"max_head_size": "2K"}) as site, RawClient(site) as client:
        client.send(client.headers(1, [*GET, ("x", "y" * 3000)]), client.headers(3))
        assert client.response(1)[0][":status"] == "431"
        assert client.response(3)[0][":status"] == "200"


def test_cookie_crumbs_are_bounded() -> None:
    """CVE-2026-47774: crumbs count, and are joined once."""
    with serve() as site, RawClient(site) as client:
        crumbs = [("cookie", f"a{number}=b") for number in range(200)]
        client.send(client.headers(1, GET + crumbs), client.headers(3, GET + crumbs[:100] * 3))
        assert client.response(1)[0][":status"] == "200"
        assert client.response(3)[0][":status"] == "431"


def test_what_is_remembered_is_bounded() -> None:
    with serve() as site, RawClient(site) as client:
        (conn,) = until(lambda: site.conns)
        for number in range(3000):
            path = f"/{number:04}".encode()
            block = b"\x82\x86\x04\x05" + path + b"\x01\x09a.example\x00\x01x\x04" + path[1:]
            client.send(frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, block))
            client.until(HEADERS, 2 * number + 1)
        assert len(conn.memo[1]) <= 128
        assert len(site.server.known_fields) <= 1024


# Row 4: smuggling through the proxy

TRICKS = {
    "crlf-in-value": [*GET, ("x", "y\r\nhost: other")],
    "crlf-in-path": [*GET[:2], (":path", "/ HTTP/1.1\r\nx: y"), GET[3]],
    "crlf-in-method": [(":method", "GET / HTTP/1.1\r\nx: y"), *GET[1:]],
    "crlf-in-authority": [*GET[:3], (":authority", "a\r\nx: y")],
    "name-with-colon": [*GET, ("x: y\r\nz", "1")],
    "transfer-encoding": [*POST, ("transfer-encoding", "chunked")],
    "two-lengths": [*POST, ("content-length", "3"), ("content-length", "5")],
    "length-list": [*POST, ("content-length", "3, 3")],
    "connection": [*GET, ("connection", "x-secret")],
}


@pytest.mark.parametrize("fields", TRICKS.values(), ids=TRICKS)
def test_nothing_of_a_trick_reaches_a_node(fields: list[tuple[str, str]]) -> None:
    with (
        serve() as origin,
        proxying(origin.address, address="127.0.0.2:0") as site,
        RawClient(site) as client,
    ):
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        flags = END_HEADERS if fields[0][1] == "POST" else END_HEADERS | END_STREAM
        client.send(client.headers(1, raw, flags))  # type: ignore[arg-type]
        if fields[0][1] == "POST":
            client.send(frame(DATA, END_STREAM, 1, b"abc"))
        one = client.frame()
        while one.sid != 1:
            one = client.frame()
        if one.kind == RST_STREAM:
            assert one.code == PROTOCOL_ERROR
        else:
            assert dict(client.decoder.decode(one.payload))[":status"] == "400"
        assert not origin.access and not origin.conns


def test_a_content_that_is_longer_than_its_length_does_not_reach_the_node_whole() -> None:
    """The node sees a request that was broken off, never a second one (CL.0 and its kin)."""
    seen: list[bytes] = []

    def app(req: Request, resp: Response) -> bool:
        seen.append(req.content())
        resp.send(b"ok")
        return True

    with (
        serve(app) as origin,
        proxying(origin.address, address="127.0.0.2:0") as site,
        RawClient(site) as client,
    ):
        smuggled = b"GET /admin HTTP/1.1\r\nhost: a\r\n\r\n"
        client.send(client.headers(1, [*POST, ("content-length", "1")], END_HEADERS))
        client.send(frame(DATA, END_STREAM, 1, b"x" + smuggled))
        assert client.until(RST_STREAM).code == PROTOCOL_ERROR
        client.send(client.headers(3, POST, END_HEADERS), frame(DATA, END_STREAM, 3, smuggled))
        assert client.response(3)[1] == b"ok"
        assert seen == [smuggled]
        assert [entry.line for entry in origin.access] == ["POST / HTTP/1.1"]


def test_the_preface_is_no_way_around_restrictions() -> None:
    with serve(server={"protocols": ["http/1.1"]}) as site, RawClient(site, begin=False) as client:
        client.send(PREFACE + frame(SETTINGS))
        assert client.exactly(12) == b"HTTP/1.1 505"
    with serve(server={"protocols": ["h2"]}) as site, site.connect() as plain:
        plain.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b"HTTP/1.1" not in plain.rest()
        assert not site.access


def test_the_end_of_a_connection_ends_its_handlers() -> None:
    ends: list[str] = []

    def app(req: Request, resp: Response) -> bool:
        try:
            req.content()
        finally:
            ends.append(req.path)
        return True

    with serve(app) as site:
        with RawClient(site) as client:
            client.send(client.headers(1, POST, END_HEADERS), client.headers(3, POST, END_HEADERS))
            client.ping()
        until(lambda: len(ends) == 2 and not site.conns)
        with RawClient(site) as client:
            client.send(client.headers(1, POST, END_HEADERS))
            client.ping()
            client.send(frame(PING, 0, 0, b""))
            client.goaway()
        until(lambda: len(ends) == 3 and not site.conns)
