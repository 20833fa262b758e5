"""Requests that were answered before their end."""

from __future__ import annotations

from tests.h2raw import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    NO_ERROR,
    POST,
    RST_STREAM,
    RawClient,
    frame,
    word,
)
from tests.webkit import serve, until


def test_a_request_that_is_answered_early_may_end() -> None:
    """Some clients do not understand a reset behind a whole answer: httpx waits for windows to send the rest."""
    with serve() as site, RawClient(site) as client:
        (conn,) = until(lambda: site.conns)
        for sid, end in (
            (1, frame(DATA, END_STREAM, 1)),
            (3, b""),
            (5, frame(RST_STREAM, 0, 5, word(CANCEL))),
        ):
            client.send(client.headers(sid, POST, END_HEADERS))
            assert client.response(sid)[1] == b"hello"
            until(lambda sid=sid: sid in conn.leftovers.left)
            client.send(frame(DATA, 0, sid, b"x" * 1000), end or client.headers(sid, [("x", "y")]))
            client.ping()
            assert not conn.leftovers.left and not conn.streams and conn.idle


def test_a_request_of_which_too_much_is_left_is_reset_without_error() -> None:
    with serve() as site, RawClient(site) as client:
        client.send(client.headers(1, [*POST, ("content-length", "2000000")], END_HEADERS))
        assert client.response(1)[1] == b"hello"
        assert client.until(RST_STREAM, 1).code == NO_ERROR
        client.send(frame(DATA, END_STREAM, 1, b"x" * 1000))
        assert client.is_alive()
        client.send(client.headers(3, POST, END_HEADERS))
        assert client.response(3)[1] == b"hello"
        for _ in range(64):
            client.send(frame(DATA, 0, 3, b"x" * 16384))
        assert client.until(RST_STREAM, 3).code == NO_ERROR
        client.send(frame(DATA, END_STREAM, 3, b"x" * 1000))
        assert client.is_alive()
