"""Extended CONNECT: a stream as a channel (RFC 8441)."""

from __future__ import annotations

import time
from typing import Any

import gevent
import pytest

from hemi.sockets import DeadlinePassed
from hemi.web.request import Request
from hemi.web.response import Response
from tests.h2raw import (
    CANCEL,
    CONNECT_ERROR,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    RST_STREAM,
    RawClient,
    frame,
    word,
)
from tests.webkit import serve, until

CONNECT = [(":method", "CONNECT"), (":protocol", "echo"), *GET[1:]]


def echo(req: Request, resp: Response) -> bool:
    """Echoes what the tunnel carries, until it ends."""
    assert (req.method, req.index[b"upgrade"], req.index[b"connection"]) == ("GET", b"echo", b"upgrade")
    assert req.content() == b""
    resp.add_header("x-who", "echo")
    channel, early = req.stream.take_over(resp, req.index[b"upgrade"])
    assert early == b""
    try:
        while data := channel.recv(65536):
            channel.send(data)
        channel.send_pieces([b"good", b"bye"])
        channel.shutdown_write()
    finally:
        channel.close()
    return True


def opened(client: RawClient, sid: int = 1) -> None:
    client.send(client.headers(sid, CONNECT, END_HEADERS))
    head = client.until(HEADERS, sid)
    fields = dict(client.decoder.decode(head.payload))
    assert fields[":status"] == "200" and fields["x-who"] == "echo"
    assert not head.flags & END_STREAM and not {"content-length", "content-type"} & set(fields)


def test_bytes_both_ways_and_the_end_of_each() -> None:
    with serve(echo) as site, RawClient(site) as client:
        opened(client)
        for data in (b"a", b"bc" * 8000):
            client.send(frame(DATA, 0, 1, data))
            got = b""
            while len(got) < len(data):
                got += client.until(DATA).payload
            assert got == data
        client.send(frame(DATA, END_STREAM, 1))
        assert client.response(1)[1] == b"goodbye"
        assert client.is_alive()
        (entry,) = site.access
        assert (entry.status, entry.bytes_sent) == (200, 0)  # who has the channel counts, as over HTTP/1
        assert not site.log.entries


def test_what_comes_before_the_answer_is_not_lost() -> None:
    with serve(echo) as site, RawClient(site) as client:
        client.send(client.headers(1, CONNECT, END_HEADERS), frame(DATA, END_STREAM, 1, b"early"))
        assert client.response(1)[1] == b"earlygoodbye"


def test_back_pressure() -> None:
    sent = 0

    def flood(req: Request, resp: Response) -> bool:
        nonlocal sent
        channel, _ = req.stream.take_over(resp, b"echo")
        for _ in range(100):
            channel.send(b"x" * 10_000)
            sent += 10_000
        return True

    with serve(flood) as site, RawClient(site) as client:
        client.send(client.headers(1, CONNECT, END_HEADERS))
        client.ping()
        until(lambda: sent == 60_000)
        client.send(frame(8, 0, 0, word(1 << 20)), frame(8, 0, 1, word(1 << 20)))
        assert len(client.response(1)[1]) >= 1_000_000 - 65_535


@pytest.mark.parametrize("how", ["client", "server", "connection"])
def test_resets(how: str) -> None:
    ends: list[BaseException] = []

    def app(req: Request, resp: Response) -> bool:
        channel, _ = req.stream.take_over(resp, b"echo")
        if how == "server":
            channel.reset()
        try:
            channel.recv(1)
        except OSError as error:
            ends.append(error)
        with pytest.raises(OSError):
            channel.send(b"x")
        channel.close()
        channel.close()
        return True

    with serve(app) as site:
        with RawClient(site) as client:
            client.send(client.headers(1, CONNECT, END_HEADERS))
            client.until(HEADERS, 1)
            if how == "server":
                assert client.until(RST_STREAM, 1).code == CONNECT_ERROR
            elif how == "client":
                client.send(frame(RST_STREAM, 0, 1, word(CANCEL)))
            if how != "connection":
                assert client.is_alive()
        until(lambda: ends)
        assert not site.log.of("error")


def test_deadlines_and_cuts() -> None:
    seen: list[Any] = []

    def app(req: Request, resp: Response) -> bool:
        channel, _ = req.stream.take_over(resp, b"echo")
        channel.deadline = time.monotonic() + 0.1
        assert channel.deadline > 0 and not channel.late and not channel.writing and channel.tls is None
        assert channel.write_timeout == 60.0 and channel.least_taken == 1
        try:
            channel.recv_waiting(1)
        except DeadlinePassed as error:
            seen.append(error)
        assert channel.late
        assert "TunnelChannel open" in repr(channel)
        channel.linger(0.1)
        return True

    with serve(app) as site, RawClient(site) as client:
        client.send(client.headers(1, CONNECT, END_HEADERS))
        client.until(DATA, 1)
        assert seen
        until(lambda: not any(conn.streams for conn in site.conns))


def test_a_cut_wakes_who_reads_and_who_writes() -> None:
    ends: list[str] = []

    def app(req: Request, resp: Response) -> bool:
        channel, _ = req.stream.take_over(resp, b"echo")

        def write() -> None:
            try:
                channel.send(b"x" * 1_000_000)
            except OSError as error:
                ends.append(type(error).__name__)

        writer = gevent.spawn(write)
        gevent.spawn_later(0.05, lambda: channel.cut(time.monotonic()))
        try:
            channel.recv(1)
        except OSError as error:
            ends.append(type(error).__name__)
        writer.join(5)
        return True

    with serve(app) as site, RawClient(site) as client:
        client.send(client.headers(1, CONNECT, END_HEADERS))
        assert client.until(RST_STREAM, 1).code == CANCEL
        until(lambda: len(ends) == 2)
        assert "BrokenPipeError" in ends


def test_an_answer_instead_of_a_tunnel() -> None:
    def app(req: Request, resp: Response) -> bool:
        if req.path == "/no":
            resp.send("no", 403)
        else:
            resp.send("this is a page")
        return True

    with serve(app) as site, RawClient(site) as client:
        for sid, path, status in ((1, "/no", "403"), (3, "/page", "501")):
            client.send(client.headers(sid, [*CONNECT[:3], (":path", path), CONNECT[4]], END_HEADERS))
            assert client.response(sid)[0][":status"] == status
        assert client.is_alive()


def test_an_ordinary_request_has_no_tunnel() -> None:
    def app(req: Request, resp: Response) -> bool:
        req.stream.take_over(resp, b"echo")
        return True

    with serve(app) as site, RawClient(site) as client:
        client.send(client.headers(1))
        client.until(RST_STREAM, 1)
        assert client.is_alive()
