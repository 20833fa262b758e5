"""What comes from nodes over HTTP/2, frame by frame. What they may try is in tests/security/test_http2_upstream.py."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event
from h2.errors import ErrorCodes

from tests.h2node import Exchange, Node2
from tests.web.proxy.proxykit import node_of, proxying
from tests.webkit import until

V2 = {"version": "2"}


def test_interim_answers() -> None:
    def hints(exchange: Exchange) -> None:
        exchange.begin(103, [("link", "</a.css>")])
        exchange.begin(103, [("link", "</b.css>")])
        exchange.answer(b"x")

    with Node2(hints) as node, proxying(node.address, backend=V2) as site, site.connect() as client:
        client.request("GET", "/")
        answer = client.answer()
        assert [fields for _, fields in answer.informational] == [
            [("link", "</a.css>")],
            [("link", "</b.css>")],
        ]
        assert answer.content == b"x"


def test_answers_without_content() -> None:
    def bare(exchange: Exchange) -> None:
        exchange.content()
        status = int(exchange[":path"][1:])
        exchange.begin(status, [("content-length", "5")] if exchange[":method"] == "HEAD" else [], True)

    with Node2(bare) as node, proxying(node.address, backend=V2) as site, site.connect() as client:
        for method, status in (("GET", 204), ("GET", 304), ("HEAD", 200), ("GET", 200)):
            client.request(method, f"/{status}")
            answer = client.answer(method)
            assert (answer.status, answer.content) == (status, b"")
            assert answer.header("content-length") == {"HEAD": "5"}.get(
                method, "0" if status == 200 else None
            )
        assert node.accepted == 1 and not any(exchange.is_reset.is_set() for exchange in node.exchanges)


def test_a_node_that_resets() -> None:
    def late(exchange: Exchange) -> None:
        exchange.begin(200, [("content-length", "10")])
        exchange.send(b"abc")
        exchange.reset()

    def early(exchange: Exchange) -> None:
        exchange.reset()

    with Node2(late) as node, proxying(node.address, backend=V2) as site, site.connect() as client:
        client.request("GET", "/")
        with pytest.raises((ConnectionResetError, AssertionError)):
            client.answer()
    with Node2(early) as node, proxying(node.address, backend=V2, max_retries=0) as site:
        assert site.get().status == 502
        assert "reset the stream: INTERNAL_ERROR" in site.log.of("error")[0].message


def test_refused_streams_are_sent_again_whatever_their_method() -> None:
    def picky(exchange: Exchange) -> None:
        if len(node.exchanges) == 1:
            exchange.read()
            exchange.reset(ErrorCodes.REFUSED_STREAM)
        else:
            exchange.answer(exchange.content() + exchange.trailers[0][1].encode())

    with Node2(picky) as node, proxying(node.address, backend=V2) as site, site.connect() as client:
        client.request("POST", "/", content=[b"abc", b"def"], trailers=[("x-t", "!")])
        answer = client.answer()
        assert (answer.status, answer.content) == (200, b"abcdef!")
        assert len(node.exchanges) == 2


def test_who_refuses_always_is_given_up() -> None:
    def never(exchange: Exchange) -> None:
        exchange.reset(ErrorCodes.REFUSED_STREAM)

    with Node2(never) as node, Node2() as other:
        with proxying(node.address, backend=V2) as site:
            assert site.get().status == 502
            assert len(node.exchanges) == 3
        with proxying(node.address, other.address, backend={**V2, "balancer": "first"}) as site:
            assert site.get().content == b"hello"


def test_goaway_drains() -> None:
    go = Event()

    def app(exchange: Exchange) -> None:
        if len(node.exchanges) == 1:
            exchange.begin(200, [("content-length", "4")])
            exchange.send(b"ab")
            go.wait(10)
            exchange.send(b"cd", True)
        elif len(node.exchanges) == 2:
            exchange.content()  # was above the last one, and never answered
            node.conns[0].go_away(1)
            gevent.sleep(10)
        else:
            exchange.answer(b"again " + exchange.content())

    with Node2(app) as node, proxying(node.address, backend=V2) as site, site.connect() as client:
        client.request("GET", "/")
        until(lambda: node.exchanges)
        with site.connect() as second:
            second.request("POST", "/", content=b"x" * 1000)
            assert second.answer().content == b"again " + b"x" * 1000
        assert node.accepted == 2
        assert node_of(site).describe()["conns"] == 2
        go.set()
        assert client.answer().content == b"abcd"
        until(lambda: node.open == 1)


@pytest.mark.parametrize("sizes", [[1], [16384], [1, 0, 5, 16384, 0], [100] * 50])
def test_contents_in_frames_of_any_size(sizes: list[int]) -> None:
    def app(exchange: Exchange) -> None:
        exchange.begin(200, [])
        for size in sizes:
            exchange.send(b"x" * size)
        exchange.send(b"", True)

    with Node2(app) as node, proxying(node.address, backend=V2) as site:
        for _ in range(3):
            answer = site.get()
            assert (answer.status, answer.content) == (200, b"x" * sum(sizes))
        assert node.accepted == 1 and not node.broken
