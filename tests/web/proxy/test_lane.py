"""The short way through a proxy: whether an exchange takes it makes no difference to anybody."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest

from tests import cgikit
from tests.badserver import Again, Close, Drip, Hang, Request, Reset, answering, bad_server, ok
from tests.web.proxy.proxykit import node_of, proxying
from tests.webkit import Answer, Client, until

OTHERS: list[tuple[list[Any], bytes]] = [
    ([ok(b"other")], b"other"),
    ([ok(b"other", "X-Made-By: node", "Date: Thu, 01 Jan 1970 00:00:00 GMT")], b"other"),
    ([ok(b"")], b""),
    ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
    ([b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"], b""),
    ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"], b"no"),
    ([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", ok(b"other")], b"other"),
    ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nother\r\n0\r\n\r\n"], b"other"),
    ([ok(b"x" * 100_000)], b"x" * 100_000),
    ([Drip(ok(b"other"), 0)], b"other"),
    ([ok(b"other")[:-3], ok(b"other")[-3:]], b"other"),
    ([b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n"], b""),
]


def get(client: Client, method: str = "GET") -> Answer:
    client.request(method)
    answer = client.answer(method)
    while answer.status == 103:
        answer = client.answer(method)
    return answer


@pytest.mark.parametrize(("steps", "content"), OTHERS)
def test_answers_are_alike_on_fresh_and_on_kept_connections(steps: list[Any], content: bytes) -> None:
    """The first one is on a fresh connection; the others are behind answers whose heads are known, or are that."""
    script = [
        Request(),
        *steps,
        *[Request(), ok(b"good")] * 2,
        *[Request(), *steps] * 2,
        Request(),
        ok(b"good"),
    ]
    with bad_server(script) as node, proxying(node) as site, site.connect() as client:
        found = [get(client) for _ in range(6)]
        assert [one.content for one in found] == [content, b"good", b"good", content, content, b"good"]
        for other in found[3:5]:
            assert other.status == found[0].status
            assert [field for field in other.fields if field[0] != "date"] == [
                field for field in found[0].fields if field[0] != "date"
            ]
        assert node.conns == 1
        assert node_of(site).in_flight == 0
        assert not site.log.of("warning") and not site.log.of("error")


def test_methods() -> None:
    methods = ("GET", "GET", "HEAD", "GET", "POST", "DELETE", "OPTIONS", "HEAD")
    script: list[Any] = []
    for method in methods:
        script += [Request(), ok(b"hi")[: -2 if method == "HEAD" else None]]
    with bad_server(script) as node, proxying(node) as site, site.connect() as client:
        for method in methods:
            answer = get(client, method)
            assert (answer.status, answer.content) == (200, b"" if method == "HEAD" else b"hi")
            assert answer.header("content-length") == "2"
        assert node.conns == 1


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["close", "reset"])
@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"])
def test_a_kept_connection_that_breaks(end: Any, part: bytes) -> None:
    """Without a byte of an answer another connection is tried; otherwise the client can tell."""
    good = [Request(), ok(b"good")]
    with (
        bad_server([*good, *good, Request(), *([part] if part else []), end], [*good, Again()]) as node,
        proxying(node) as site,
        site.connect() as client,
    ):
        assert [get(client).content for _ in range(2)] == [b"good"] * 2
        if not part:
            assert get(client).content == b"good"
            assert node_of(site).failures == 0
        elif len(part) < 20:
            assert get(client).status == 502
        else:
            with pytest.raises((AssertionError, OSError)):
                get(client)
        until(lambda: not node_of(site).in_flight)


def test_a_kept_connection_that_says_nothing() -> None:
    good = [Request(), ok(b"good")]
    with (
        bad_server([*good, *good, Request(), Hang()]) as node,
        proxying(node, head_timeout="300ms", max_retries=0) as site,
        site.connect() as client,
    ):
        assert [get(client).status for _ in range(3)] == [200, 200, 504]
        assert node_of(site).failures == 1
        assert node_of(site).in_flight == 0


def test_a_client_that_leaves() -> None:
    good = [Request(), ok(b"good")]
    with bad_server([*good, *good, Request(), Hang()]) as node, proxying(node) as site:
        with site.connect() as client:
            get(client), get(client)
            client.request()
            until(lambda: len(node.requests) == 3)
        until(lambda: node.ended)
        until(lambda: len(site.access) == 3)
        assert site.access[2].status == 499
        assert node_of(site).failures == 0
        assert node_of(site).in_flight == 0
        assert not site.stage.members["backends"]["up"].exchanges


def test_statuses_that_are_tried_again_are_so_on_kept_connections() -> None:
    bad = b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"
    with (
        bad_server([Request(), bad, Again()]) as first,
        bad_server(answering(b"good")) as second,
        proxying(first, second, retry_statuses=["503"], backend={"max_fails": 0}) as site,
        site.connect() as client,
    ):
        assert [get(client).content for _ in range(6)] == [b"good"] * 6
        assert len(first.requests) >= 2


def test_fields_that_depend_on_the_request() -> None:
    with (
        bad_server(answering(b"hi")) as node,
        proxying(
            node,
            set_request={"X-Path": "$path", "X-Const": "c"},
            set_response={"X-Path": "$path"},
            host="$hostname.inner",
        ) as site,
        site.connect() as client,
    ):
        for path in ("/a", "/b", "/a"):
            client.request("GET", path)
            assert client.answer().header("x-path") == path
        assert [seen.header("x-path") for seen in node.requests] == ["/a", "/b", "/a"]
        assert {seen.header("x-const") for seen in node.requests} == {"c"}
        assert {seen.header("host") for seen in node.requests} == {"a.example.inner"}


CALLS = {"http": 26, "fcgi": 34}
"""Python calls of an exchange on kept connections, from the wait for the request to the next one."""


@pytest.mark.parametrize("protocol", CALLS)
def test_the_budget_of_calls(protocol: str) -> None:
    with ExitStack() as stack:
        if protocol == "http":
            site = stack.enter_context(proxying(stack.enter_context(bad_server(answering()))))
        else:
            app = stack.enter_context(cgikit.answering(cgikit.plain(b"hello")))
            site = stack.enter_context(cgikit.site("fcgi", app.address, backend={"keep_conn": True}))
        client = stack.enter_context(site.connect())
        calls: Counter[str] = Counter()

        def note(frame: Any, event: str, argument: Any) -> None:
            if event == "call" and "/hemi/" in frame.f_code.co_filename:
                calls[frame.f_code.co_qualname] += 1

        def exchange() -> None:
            client.send(b"GET /a.php HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.answer().status == 200

        for _ in range(3):
            exchange()
        sys.setprofile(note)
        try:
            for _ in range(10):
                exchange()
        finally:
            sys.setprofile(None)
        assert sum(calls.values()) / 10 < CALLS[protocol] + 1, calls.most_common()
