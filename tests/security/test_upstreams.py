"""SECURITY row 5: upstreams that lie about their answers must not make clients believe another one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.badserver import Close, Drip, Hang, Request, Reset, answering, bad_server, ok
from tests.web.proxy.proxykit import node_of, proxying
from tests.webkit import Client, Malformed, until


def get(client: Client) -> Any:
    client.request()
    return client.answer()


SECOND = ok(b"evil", "X-Evil: 1")


@pytest.mark.parametrize(
    "answer",
    [
        ok() + SECOND,
        ok() + b"x",
        ok() + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + SECOND,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nxx",
    ],
)
def test_what_comes_behind_an_answer_is_dropped_and_the_connection_with_it(answer: bytes) -> None:
    with (
        bad_server([Request(), answer, Request(), ok(b"wrong")], answering(b"right")) as node,
        proxying(node) as site,
    ):
        with site.connect() as client:
            assert get(client).content == b"hello"
            assert get(client).content == b"right"
        assert node.conns == 2
        assert any("sent more than its answer" in entry.message for entry in site.log.of("warning", "proxy"))


@pytest.mark.parametrize("head", [b"204 No Content\r\n", b"304 Not Modified\r\n"])
def test_a_content_where_none_may_be_is_dropped(head: bytes) -> None:
    answer = b"HTTP/1.1 " + head + b"Content-Length: 4\r\n\r\nevil"
    script = [Request(), answer, Hang()]
    with bad_server(script, answering(b"right")) as node, proxying(node) as site, site.connect() as client:
        assert get(client).status == int(head[:3])
        assert get(client).content == b"right"


def test_a_content_behind_the_head_of_a_head_is_dropped() -> None:
    with bad_server([Request(), ok(b"evil!"), Hang()], answering(b"right")) as node, proxying(node) as site:
        with site.connect() as client:
            client.request("HEAD")
            assert client.answer("HEAD").status == 200
            assert get(client).content == b"right"
        assert node.conns == 2


def test_bytes_on_an_idle_connection_end_it() -> None:
    sent: list[Any] = []
    with (
        bad_server([Request(), ok(), lambda sock: sent.append(sock), Hang()], answering(b"right")) as node,
        proxying(node) as site,
        site.connect() as client,
    ):
        assert get(client).content == b"hello"
        until(lambda: sent)
        sent[0].sendall(SECOND)
        assert get(client).content == b"right"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"220 ready\r\n\r\n", "not HTTP/1"),
        (b"\x16\x03\x01\x02\x00\x01\x00" * 10, "not HTTP/1"),
        (b"\r\n" + ok(), "not HTTP/1"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "not HTTP/1"),
        (b"HTTP/1.1 999 OK\r\n\r\n", "status 999"),
        (b"HTTP/1.1 99 OK\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "transfer coding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", ""),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.0"),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", "malformed"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "not asked for"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 50, "interim"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "larger than"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 600 + b"\r\n", "fields"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunks"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", "chunks"),
    ],
)
@pytest.mark.parametrize("good", [0, 2], ids=["fresh", "kept"])
def test_what_is_no_answer_is_a_502(answer: bytes, reason: str, good: int) -> None:
    """Also on a connection that is kept, behind good answers, where exchanges take the short way."""
    script = [Request(), ok()] * good + [Request(), answer, Close()]
    with bad_server(script) as node, proxying(node, backend={"max_fails": 0}) as site:
        with site.connect() as client:
            for _ in range(good):
                assert get(client).status == 200
            got = get(client)
            assert got.status == 502
            assert b"evil" not in got.content
        assert reason in site.log.of("error", "proxy")[0].message
        assert node.address in site.log.of("error", "proxy")[0].message
        assert not node_of(site).pool.idle
        assert node_of(site).failures == 1
        assert len(node.requests) == good + 1


@pytest.mark.parametrize("end", [Close(), Reset()])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nhello",
    ],
)
def test_clients_can_tell_that_an_answer_was_cut(answer: bytes, end: Any) -> None:
    with bad_server([Request(), answer, end]) as node, proxying(node) as site, site.connect() as client:
        client.request()
        with pytest.raises((ConnectionResetError, Malformed, AssertionError)):
            got = client.answer()
            assert got.status == 200
        assert "content" in site.log.of("error", "proxy")[0].message


def test_an_end_before_the_answer_is_a_502() -> None:
    for script in (
        [Close()],
        [Request(), Close()],
        [Request(), b"HTTP/1.1 200 O", Close()],
        [Request(), Reset()],
    ):
        with bad_server(script) as node, proxying(node) as site:
            assert site.get().status == 502


def test_one_byte_at_a_time_is_slow_but_right() -> None:
    with bad_server([Request(), Drip(ok(b"slow"), 0.001)]) as node, proxying(node) as site:
        assert site.get().content == b"slow"
