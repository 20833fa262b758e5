"""Contents of requests: windows that follow the reader."""

from __future__ import annotations

import hashlib
import os

from gevent.event import Event

from hemi.web.request import Request
from hemi.web.response import Response
from tests.h2raw import DATA, END_HEADERS, END_STREAM, POST, WINDOW_UPDATE, RawClient, frame
from tests.webkit import serve, until


def test_what_is_not_read_is_not_taken_in_and_then_it_is() -> None:
    go = Event()

    def app(req: Request, resp: Response) -> bool:
        go.wait(10)
        resp.send(hashlib.sha256(req.content()).hexdigest())
        return True

    data = os.urandom(16384)
    with serve(app) as site, RawClient(site) as client:
        window = client.settings[4]
        client.send(client.headers(1, POST, END_HEADERS), frame(DATA, 0, 1, data) * (window // 16384))
        client.ping()
        go.set()
        assert int.from_bytes(client.until(WINDOW_UPDATE, 1).payload, "big") >= window // 2
        client.send(frame(DATA, END_STREAM, 1, data))
        assert client.response(1)[1].decode() == hashlib.sha256(data * (window // 16384 + 1)).hexdigest()


def test_a_fast_reader_makes_its_window_grow() -> None:
    def app(req: Request, resp: Response) -> bool:
        while req.receive():
            pass
        resp.send("done")
        return True

    server = {"h2_window": 65535, "h2_max_window": "1M"}
    with serve(app, server=server) as site, RawClient(site) as client:
        client.send(client.headers(1, POST, END_HEADERS))
        room = 65535
        grown = 0
        for _ in range(20):
            client.send(*[frame(DATA, 0, 1, b"x" * 16384)] * (room // 16384))
            room %= 16384
            while room < 65535 - 16384:
                size = int.from_bytes(client.until(WINDOW_UPDATE, 1).payload, "big")
                room += size
                grown = max(grown, room)
        client.send(frame(DATA, END_STREAM, 1))
        assert client.response(1)[1] == b"done"
        assert 250_000 < grown <= 1 << 20


def test_contents_that_nobody_reads_do_not_hold_up_the_others() -> None:
    """The window of the connection is opened for what was dropped."""
    with serve() as site, RawClient(site) as client:
        for number in range(20):
            sid = 2 * number + 1
            client.send(client.headers(sid, POST, END_HEADERS), frame(DATA, 0, sid, b"x" * 16384) * 8)
            client.until(DATA, sid)
        (conn,) = site.conns
        until(lambda: not conn.streams)
        assert conn.inflow.left + conn.inflow.taken == conn.inflow.window


def test_padding_counts_and_is_given_back() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(str(len(req.content())))
        return True

    with serve(app) as site, RawClient(site) as client:
        client.send(client.headers(1, POST, END_HEADERS))
        for _ in range(100):
            client.send(frame(DATA, 8, 1, b"\xff" + b"x" * 9000 + b"\0" * 255))
            client.ping()
        client.send(frame(DATA, END_STREAM, 1))
        assert client.response(1)[1] == b"900000"
        (conn,) = site.conns
        until(lambda: not conn.streams)
        assert conn.inflow.left + conn.inflow.taken == conn.inflow.window
