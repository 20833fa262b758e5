"""Row 1: clients that are slow on purpose, in heads, contents and reading, and those that just are slow."""

from __future__ import annotations

import gevent
import pytest

from hemi.web.errors import ClientGone
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Client, serve, until


def echo(req: Request, resp: Response) -> bool:
    resp.send(req.content())
    return True


def drip(client: Client, data: bytes, every: float) -> None:
    """Sends one byte after another until the server does not take them any more."""
    try:
        for at in range(len(data)):
            client.send(data[at : at + 1])
            gevent.sleep(every)
    except OSError:
        pass


def test_head_that_drips() -> None:
    with serve(server={"head_timeout": "300ms"}) as site, site.connect() as client:
        dripping = gevent.spawn(drip, client, b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 100, 0.02)
        answer = client.answer()
        assert answer.status == 408 and answer.closes
        assert client.is_closed()
        dripping.join(5)
        assert site.access[0].status == 408


def test_head_that_drips_behind_a_good_request() -> None:
    with serve(server={"head_timeout": "300ms"}) as site, site.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /")
        assert client.answer().status == 200
        dripping = gevent.spawn(drip, client, b"x" * 300, 0.02)
        assert client.answer().status == 408
        assert client.is_closed()
        dripping.join(5)


def test_empty_lines_that_drip() -> None:
    """They come before a head and are no part of it, but must not keep a connection."""
    with serve(server={"head_timeout": "300ms", "keepalive_timeout": "1h"}) as site, site.connect() as client:
        dripping = gevent.spawn(drip, client, b"\r\n" * 100, 0.02)
        assert client.answer().status == 408
        assert client.is_closed()
        dripping.join(5)


def test_silence_is_answered_by_silence() -> None:
    with serve(server={"head_timeout": "300ms"}) as site, site.connect() as client:
        assert client.is_closed()
        assert site.access == []


@pytest.mark.parametrize("chunked", [False, True])
def test_content_that_stops(chunked: bool) -> None:
    framing = b"transfer-encoding: chunked\r\n\r\n5\r\nhe" if chunked else b"content-length: 5\r\n\r\nhe"
    with serve(echo, server={"read_timeout": "200ms"}) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\n" + framing)
        answer = client.answer()
        assert answer.status == 408 and answer.closes
        assert client.is_closed()
        assert not site.log.of("error")


def test_content_that_drips() -> None:
    """Always something within read_timeout, but below min_rate."""
    config = {"read_timeout": "10s", "min_rate": "10K", "rate_grace": "300ms"}
    with serve(echo, server=config) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n")
        dripping = gevent.spawn(drip, client, b"x" * 1000, 0.01)
        answer = client.answer()
        assert answer.status == 408 and answer.closes
        assert client.is_closed()
        dripping.join(5)


def test_chunks_that_drip() -> None:
    config = {"read_timeout": "10s", "min_rate": "10K", "rate_grace": "300ms"}
    with serve(echo, server=config) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        dripping = gevent.spawn(drip, client, b"1\r\nx\r\n" * 200, 0.01)
        assert client.answer().status == 408
        assert client.is_closed()
        dripping.join(5)


def test_a_slow_but_steady_upload_survives() -> None:
    """Slower than all at once, and longer than rate_grace, but above min_rate."""
    config = {"read_timeout": "300ms", "min_rate": "1K", "rate_grace": "100ms"}
    with serve(echo, server=config) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20000\r\n\r\n")
        for _ in range(20):
            client.send(b"x" * 1000)
            gevent.sleep(0.03)
        assert client.answer().content == b"x" * 20000


def test_reader_that_stops() -> None:
    ends: list[BaseException] = []

    def app(req: Request, resp: Response) -> bool:
        try:
            while True:
                resp.echo(b"x" * 65536)
        except ClientGone as error:
            ends.append(error)
            raise

    with serve(app, server={"write_timeout": "300ms"}) as site, site.connect(rcvbuf=16384) as client:
        client.request()
        client.exactly(100)
        until(lambda: ends)
        until(lambda: not site.conns)
        assert not site.log.of("error")


def read_slowly(client: Client, size: int, piece: int, every: float) -> int:
    """Reads with pauses; returns how much came."""
    received = 0
    try:
        while received < size:
            data = client.sock.recv(piece)
            if not data:
                break
            received += len(data)
            gevent.sleep(every)
    except OSError:
        pass
    return received


SIZE = 8_000_000


def large(req: Request, resp: Response) -> bool:
    resp.send(b"x" * SIZE)
    return True


def test_reader_that_drips() -> None:
    """It takes something all the time, but far less than min_rate."""
    config = {"write_timeout": "400ms", "min_rate": "50M"}
    with serve(large, server=config) as site, site.connect(rcvbuf=16384) as client:
        client.request()
        reading = gevent.spawn(read_slowly, client, SIZE, 16384, 0.02)
        until(lambda: site.access)
        until(lambda: not site.conns)
        assert not reading.dead  # it was cut while it read
        reading.kill()
        assert not site.log.of("error")


def test_a_slow_but_honest_download_survives() -> None:
    """It takes three times as long as write_timeout allows for a pause."""
    with serve(large, server={"write_timeout": "300ms"}) as site, site.connect(rcvbuf=65536) as client:
        client.request()
        assert read_slowly(client, SIZE, 1 << 17, 0.015) >= SIZE
        assert not site.log.of("warning")


def test_many_slow_clients_cost_others_nothing() -> None:
    with serve(server={"head_timeout": "2s"}) as site:
        slow = [site.connect() for _ in range(300)]
        for client in slow:
            client.send(b"GET / HTTP/1.1\r\nhost: ")
        for _ in range(20):
            assert site.get("/").status == 200
        for client in slow:
            client.send(b"a\r\n\r\n")
        assert {client.answer().status for client in slow} == {200}
        for client in slow:
            client.close()
