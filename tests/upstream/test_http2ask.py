"""Asking nodes by HTTP/2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hemi.upstream.dial import DialedChannel, dial
from hemi.upstream.http2ask import NotHTTP2, ask
from hemi.values import Addr
from tests.h2node import Exchange, Node2

FIELDS = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]


@contextmanager
def node(app: Any = None, raw: Callable[[Any], Any] | None = None) -> Iterator[Any]:
    with Node2(app, raw=raw) as one:
        host, port = one.address.split(":")
        channel = dial(Addr(host, int(port)))
        assert isinstance(channel, DialedChannel)
        try:
            yield channel
        finally:
            channel.close()


def test_an_answer() -> None:
    def app(exchange: Exchange) -> None:
        exchange.begin(200, [("a", "b")])
        exchange.send(b"x" * 1000)
        exchange.end([("c", "d")])

    with node(app) as channel:
        answer = ask(channel, FIELDS, whole=True, most=10)
        assert (answer.status, answer.content) == (200, b"x" * 10)
        assert answer.fields[b"a"] == b"b" and answer.fields[b"c"] == b"d"


def test_a_head_is_enough() -> None:
    with node(lambda exchange: exchange.begin(404)) as channel:
        assert ask(channel, FIELDS, whole=False, most=10).status == 404


def test_contents_go_both_ways() -> None:
    with node(lambda exchange: exchange.answer(exchange.content()[::-1])) as channel:
        assert ask(channel, FIELDS, b"abc", whole=True, most=10).content == b"cba"


def test_endless_answers_are_left() -> None:
    def app(exchange: Exchange) -> None:
        exchange.begin(200)
        while True:
            exchange.send(b"x" * 10000)

    with node(app) as channel:
        assert ask(channel, FIELDS, whole=True, most=1000).content == b"x" * 1000


def chatter(sock: Any) -> None:
    sock.sendall(b"\0\0\0\4\0\0\0\0\0")
    while True:
        sock.sendall(b"\0\0\x08\6\1\0\0\0\0abcdefgh" * 100)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (lambda sock: sock.recv(1000), "closed the connection"),
        (lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), "HTTP/1"),
        (lambda sock: sock.sendall(b"\0\0\0\4\0\0\0\0\1"), "rules"),
        (
            lambda sock: sock.sendall(b"\0\0\0\4\0\0\0\0\0" + b"\0\0\x08\7\0\0\0\0\0" + bytes(8)),
            "ended the conn",
        ),
        (
            lambda sock: sock.sendall(b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\3\0\0\0\0\1\0\0\0\7"),
            "reset the stream",
        ),
        (chatter, "before its answer"),
    ],
)
def test_what_is_no_answer(raw: Callable[[Any], Any], reason: str) -> None:
    with node(raw=raw) as channel, pytest.raises(NotHTTP2, match=reason):
        ask(channel, FIELDS, whole=True, most=1000)
