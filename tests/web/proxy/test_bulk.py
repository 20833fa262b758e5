"""Bulk that the kernel moves: pipes, and what becomes of exchanges around them."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from typing import Any

import gevent
import pytest
from gevent import socket

from hemi.sockets import Channel
from hemi.web.proxy.bulk import LEAST, Pipe
from tests.badserver import Again, Close, Hang, Head, Request, answering, bad_server, ok
from tests.web.proxy.proxykit import node_of, proxying
from tests.webkit import Malformed, scripted, until

SIZE = 3 * LEAST + 12345
DATA = hashlib.shake_128(b"bulk").digest(SIZE)


@pytest.fixture
def ends() -> Any:
    """Two channels, and the other sides of their sockets."""
    pairs = [socket.socketpair() for _ in range(2)]
    channels = []
    for mine, _ in pairs:
        channels.append(Channel(mine._sock))
    try:
        yield channels, [other for _, other in pairs]
    finally:
        for channel in channels:
            channel.close()
        for _, other in pairs:
            other.close()


def test_a_pipe_moves_what_comes(ends: Any) -> None:
    (source, target), (feeder, eater) = ends
    got = bytearray()

    def eat() -> None:
        while data := eater.recv(65536):
            got.extend(data)

    tasks = [gevent.spawn(feeder.sendall, DATA), gevent.spawn(eat)]
    left = SIZE
    with closing(Pipe()) as pipe:
        while left:
            left -= pipe.fill(source, left)
            pipe.empty(target)
            assert pipe.held == 0
    target.shutdown_write()
    gevent.joinall(tasks, timeout=10, raise_error=True)
    assert bytes(got) == DATA


def test_a_pipe_with_something_left_in_it_is_not_used_again(ends: Any) -> None:
    (source, target), (feeder, eater) = ends
    first = Pipe()
    numbers = first._ends
    feeder.sendall(b"secret")
    assert first.fill(source, 100) == 6
    first.close()
    first.close()
    second = Pipe()
    assert second._ends not in (numbers, (-1, -1)) or not os.path.exists(f"/proc/self/fd/{numbers[0]}")
    feeder.sendall(b"next")
    second.fill(source, 100)
    second.empty(target)
    assert eater.recv(100) == b"next"
    numbers = second._ends
    second.close()
    with closing(Pipe()) as third:
        assert third._ends == numbers
    feeder.close()
    with closing(Pipe()) as fourth:
        assert fourth.fill(source, 100) == 0


def test_contents_past_the_parser_and_requests_behind_them() -> None:
    """Requests follow on the connection of the client, pipelined to the content as well."""
    with bad_server(answering(b"ok")) as node, proxying(node) as site, site.connect() as client:
        for _ in range(2):
            head = b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE
            client.send(head + DATA + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
            assert [client.answer().content, client.answer().content] == [b"ok", b"ok"]
        assert [seen.line.split()[1] for seen in node.requests] == ["/up", "/next"] * 2
        assert node.requests[0].content == node.requests[2].content == DATA
        assert [one.status for one in site.access] == [200] * 4
        assert node.conns == 1


def test_an_early_answer_leaves_the_rest_of_the_content_where_it_belongs() -> None:
    """The node answers behind the head, and what the client still sends is never taken for a request."""
    evil = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
    data = (evil * (SIZE // len(evil) + 1))[:SIZE]
    with (
        bad_server([Head(), ok(b"early"), Hang()], answering(b"ok")) as node,
        proxying(node) as site,
        site.connect() as client,
    ):
        client.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE + data[: 2 * LEAST])
        assert client.answer().content == b"early"
        with pytest.raises((OSError, AssertionError, EOFError)):
            client.send(data[2 * LEAST :] + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = client.answer()
            assert (answer.status, len(node.requests)) == (0, 0)
        until(lambda: not node_of(site).in_flight)
        assert not any("evil" in seen.line for seen in node.requests)


def test_answers_that_are_cut_and_clients_that_leave() -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + DATA[:-9]
    with bad_server([Request(), cut, Close()]) as node, proxying(node) as site:
        with site.connect() as client:
            client.request()
            with pytest.raises((ConnectionResetError, Malformed, AssertionError)):
                client.answer()
        assert "9 bytes of its content are missing" in site.log.of("error", "proxy")[0].message
        assert node_of(site).failures == 1
    with bad_server([Request(), ok(DATA * 20), Again()]) as node, proxying(node) as site:
        with site.connect() as client:
            client.request()
            client.exactly(100)
        until(lambda: site.access and not node_of(site).in_flight)
        assert node_of(site).failures == 0
        assert not node_of(site).pool.idle


def test_nodes_that_leave_and_clients_that_break_off() -> None:
    with (
        bad_server([Head(), Close()]) as node,
        proxying(node, max_retries=0) as site,
        site.connect() as client,
    ):
        with pytest.raises((OSError, AssertionError)):
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE + DATA)
            assert client.answer().status == 502
            raise ConnectionResetError
        until(lambda: node_of(site).failures == 1)
    with bad_server([Request(), ok()]) as node, proxying(node) as site:
        with site.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE + DATA[:LEAST])
            until(lambda: node.conns)
        until(lambda: site.access and not node_of(site).in_flight)
        assert node_of(site).failures == 0


def test_a_content_that_drips_is_cut() -> None:
    server = {"rate_grace": "300ms", "min_rate": 1_000_000_000, "read_timeout": "5s"}
    with (
        bad_server([Request(), ok()]) as node,
        proxying(node, server=server) as site,
        site.connect() as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE + DATA[:LEAST])
        assert client.answer().status == 408
        assert node_of(site).failures == 0


def test_content_does_not_go_past_a_limit() -> None:
    rule = {"handlets": [{"limit": {"bandwidth": "64M"}}, {"http_proxy": {"to_backend": "up"}}]}
    with bad_server([Request(), ok(DATA), Again()]) as node, proxying(node, rule=rule) as site:
        assert site.get().content == DATA


def test_without_free_descriptors_bytes_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(flags: int) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("hemi.web.proxy.bulk._spare", [])
    monkeypatch.setattr("hemi.web.proxy.bulk.os.pipe2", refuse)
    with bad_server([Request(), ok(DATA), Again()]) as node, proxying(node) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE + DATA)
        assert client.answer().content == DATA
        assert node.requests[0].content == DATA


def test_what_a_filter_changes_is_not_moved() -> None:
    class Upper:
        """Changes each byte."""

        def update(self, data: bytes) -> bytes:
            return data.upper()

        def finish(self) -> bytes:
            return b"end"

    def filtering(req: Any, resp: Any) -> bool:
        req.filters += (Upper(),)
        return False

    rule = {"handlets": [scripted(filtering), {"http_proxy": {"to_backend": "up"}}]}
    with bad_server(answering()) as node, proxying(node, rule=rule) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE + b"x" * SIZE)
        assert client.answer().status == 200
        assert node.requests[0].content == b"X" * SIZE + b"end"
