"""Row 3: smuggling. The corpus of messages is in tests/conformance; here is what several messages do together.

The server remembers the fields and lines of ordinary requests, so that it need not parse the same bytes again:
nothing must get into that memory that means something else when it is found.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Site, serve

Seen = list[tuple[str, str, dict[str, str], str]]


@pytest.fixture
def seen() -> Seen:
    return []


@pytest.fixture
def site(seen: Seen) -> Iterator[Site]:
    def app(req: Request, resp: Response) -> bool:
        content = req.content().decode("latin-1")
        seen.append((req.method, req.path, {k.decode(): v.decode() for k, v in req.index.items()}, content))
        resp.send(b"ok")
        return True

    with serve(app) as site:
        yield site


def statuses(site: Site, data: bytes) -> list[int]:
    """The statuses of all answers to these bytes."""
    found = []
    with site.connect() as client:
        client.send(data)
        client.shutdown()
        while True:
            try:
                client._more()
            except AssertionError:
                break
        client.ended = True
        while client.buffer:
            found.append(client.answer().status)
    return found


def test_a_request_line_does_not_become_a_field(site: Site, seen: Seen) -> None:
    """An empty line before a request must not make its line and fields a known block of fields."""
    assert statuses(site, b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n") == [200]
    assert statuses(site, b"GET /x HTTP/1.1\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n") == [400]
    assert len(seen) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.0",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/2.0",
        b"get / HTTP/1.1",
        b"GET /%00 HTTP/1.1",
        b"GET /../a HTTP/1.1",
        b"GET http:///a HTTP/1.1",
        b"CONNECT a:80 HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /#a HTTP/1.1",
        b"GET /",
        b"",
    ],
)
def test_known_fields_behind_another_line(site: Site, seen: Seen, line: bytes) -> None:
    """The line decides as it would with fields that nobody has seen."""
    fresh = statuses(site, line + b"\r\nhost: fresh\r\n\r\n")
    for _ in range(3):
        assert statuses(site, b"GET / HTTP/1.1\r\nhost: known\r\n\r\n") == [200]
    assert b"host: known\r\n\r\n" in site.server.known_heads
    assert statuses(site, line + b"\r\nhost: known\r\n\r\n") == fresh


def test_known_fields_in_a_content(site: Site, seen: Seen) -> None:
    """A content that looks like a known request is content."""
    request = b"GET /smuggled HTTP/1.1\r\nhost: known\r\n\r\n"
    assert statuses(site, request) == [200]
    assert statuses(site, request) == [200]
    seen.clear()
    with site.connect() as client:
        client.send(b"POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(request))
        client.send(request)
        assert client.answer().status == 200
        client.send(request[:20])
        client.send(request[20:])
        assert client.answer().status == 200
    assert [(method, path, content) for method, path, _, content in seen] == [
        ("POST", "/p", request.decode()),
        ("GET", "/smuggled", ""),
    ]


def test_known_fields_behind_half_a_head(site: Site, seen: Seen) -> None:
    request = b"GET /b HTTP/1.1\r\nhost: known\r\n\r\n"
    assert statuses(site, request) == [200]
    seen.clear()
    with site.connect() as client:
        client.drip(b"GET /a HTTP/1.1\r\nx: ")
        client.send(request)
        assert client.answer().status == 200
    assert seen == [("GET", "/a", {"x": "GET /b HTTP/1.1", "host": "known"}, "")]


def test_known_fields_behind_a_refusal(site: Site, seen: Seen) -> None:
    request = b"GET /b HTTP/1.1\r\nhost: known\r\n\r\n"
    assert statuses(site, request) == [200]
    seen.clear()
    with site.connect() as client:
        client.drip(b"GET /a HTTP/1.1\r\n\r\n")
        try:
            client.send(request)
        except OSError:
            pass
        assert client.answer().status == 400
        assert client.is_closed()
    assert seen == []


def test_what_is_known_cannot_be_changed_by_a_handlet(seen: Seen) -> None:
    def app(req: Request, resp: Response) -> bool:
        before = (list(req.fields), dict(req.index))
        seen.append(("", "", {}, repr(before)))
        req.add_header("x-added", "1")
        req.delete_header("x-there")
        resp.send(b"ok")
        return True

    with serve(app) as site, site.connect() as client:
        for _ in range(4):
            client.request("GET", "/", {"x-there": "1"})
            assert client.answer().status == 200
    assert len({entry[3] for entry in seen}) == 1


def test_nothing_of_a_refused_message_is_served(site: Site, seen: Seen) -> None:
    """Two framings: whoever believes either of them would see a second request."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
    for framing in (
        b"content-length: 0\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked\r\ncontent-length: 5",
        b"content-length: 5\r\ncontent-length: 0",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity",
        b"transfer-encoding: xchunked",
        b"transfer-encoding:\x0bchunked",
        b"transfer-encoding : chunked",
        b"content-length: 00000000000000000000000000000000000000000000000000000000000000000000-1",
    ):
        body = b"0\r\n\r\n"
        found = statuses(site, b"POST / HTTP/1.1\r\nhost: a\r\n" + framing + b"\r\n\r\n" + body + smuggled)
        assert len(found) == 1 and found[0] in (400, 501), framing
    assert seen == []


def test_a_refusal_ends_what_was_pipelined(site: Site, seen: Seen) -> None:
    good = b"GET /good HTTP/1.1\r\nhost: a\r\n\r\n"
    assert statuses(site, good + b"GET / HTTP/1.1\r\n\r\n" + good) == [200, 400]
    assert [path for _, path, _, _ in seen] == ["/good"]


def test_answers_are_the_servers_own() -> None:
    """Nothing that a client says can make a line in a response."""

    def app(req: Request, resp: Response) -> bool:
        for value in ("a\r\nx-injected: 1", "a\nb", "a\rb", "a\0b"):
            for call in (
                lambda value=value: resp.add_header("x-echo", value),
                lambda value=value: resp.set_header(value, "x"),
                lambda value=value: resp.early_hints(value),
                lambda value=value: resp.add_trailer("x-echo", value),
            ):
                with pytest.raises(ValueError):
                    call()
        resp.redirect("/a\r\nx-injected: 1")
        return True

    with serve(app) as site, site.connect() as client:
        client.request()
        answer = client.answer()
        assert answer.status == 302
        assert answer.header("location") == "/a%0D%0Ax-injected:%201"
        assert answer.header("x-injected") is None
