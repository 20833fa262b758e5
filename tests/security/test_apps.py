"""Row 22: handlets that raise, return nothing, stream for ever, or lie about their content."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import gevent
import pytest

from hemi.web.errors import AlreadySent, ClientGone, HTTPError
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import App, Malformed, Site, hello, serve, until


class OfNobody(BaseException):
    """No Exception."""


def raising(error: BaseException) -> App:
    def app(req: Request, resp: Response) -> bool:
        if req.path == "/good":
            return hello(req, resp) is True
        raise error

    return app


def check_serves(site: Site) -> None:
    """The server is none the worse."""
    assert site.get("/good").content == b"hello"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        RecursionError("secret"),
        MemoryError("secret"),
        SystemExit("secret"),
        StopIteration("secret"),
        ConnectionResetError("secret"),
        BlockingIOError("secret"),
        TimeoutError("secret"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "secret"),
        gevent.Timeout(1),
        asyncio.CancelledError("secret"),
        OfNobody("secret"),
        GeneratorExit("secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_raise_is_a_logged_500(error: BaseException) -> None:
    with serve(raising(error)) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            answer = client.answer()
            assert answer.status == 500 and not answer.closes
            assert b"secret" not in answer.content and b"Traceback" not in answer.content
        entries = site.log.of("error", "web")
        assert [entry.exc for entry in entries] == [error, error]
        assert 'webapp "app"' in entries[0].message
        assert [entry.status for entry in site.access] == [500, 500]
        check_serves(site)


def test_the_page_has_the_traceback_in_debug_only() -> None:
    with serve(raising(ValueError("secret")), debug=1) as site:
        assert b"ValueError: secret" in site.get("/").content


def test_a_raise_behind_unsent_pieces_is_a_500() -> None:
    """The head waits for the first piece, so there is time for another one."""

    def app(req: Request, resp: Response) -> bool:
        resp.status = 201
        resp.add_header("x-old", "1")
        resp.begin()
        raise ValueError

    with serve(app) as site, site.connect() as client:
        client.request()
        answer = client.answer()
        assert answer.status == 500 and answer.header("x-old") is None
        client.request()
        assert client.answer().status == 500


@pytest.mark.parametrize("framing", ["chunked", "length", "until-close"])
def test_a_raise_in_the_middle_breaks_off_visibly(framing: str) -> None:
    def app(req: Request, resp: Response) -> bool:
        if framing == "length":
            resp.set_header("content-length", "100")
        resp.echo("half of it")
        raise ValueError

    with serve(app) as site, site.connect() as client:
        client.send(b"GET / HTTP/1.%d\r\nhost: a\r\n\r\n" % (framing != "until-close"))
        with pytest.raises((Malformed, ConnectionResetError)):
            client.answer()
        assert len(site.log.of("error", "web")) == 1


@pytest.mark.parametrize("value", [None, False, True, 0, "yes"])
def test_an_answer_that_says_nothing(value: Any) -> None:
    """False declines; whoever says more must have sent something."""
    with serve(lambda req, resp: value) as site, site.connect() as client:
        client.request()
        answer = client.answer()
        declined = value is not None and not value
        assert answer.status == (404 if declined else 500)
        assert bool(site.log.of("error", "web")) != declined
        client.request()
        assert client.answer().status == answer.status


def test_false_behind_a_response_is_no_second_one() -> None:
    def app(req: Request, resp: Response) -> bool:
        hello(req, resp)
        return False

    with serve(app) as site, site.connect() as client:
        for _ in range(3):
            client.request()
            assert client.answer().content == b"hello"


def test_sending_twice() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(b"first")
        for call in (lambda: resp.send(b"second"), lambda: resp.add_header("x", "y"), resp.begin):
            with pytest.raises(AlreadySent):
                call()
        with pytest.raises(ClientGone):
            resp.echo(b"third")
        raise ValueError("too late for a 500")

    with serve(app) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            assert client.answer().content == b"first"
        assert len(site.log.of("error", "web")) == 2


# Lies about the content


def test_less_content_than_promised() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.set_header("content-length", "10")
        resp.echo(b"12345")
        return True

    with serve(app) as site, site.connect() as client:
        client.request()
        with pytest.raises((Malformed, ConnectionResetError)):
            client.answer()
        assert "5 bytes of the promised content are missing" in str(site.log.of("error")[0].exc)


def test_more_content_than_promised() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.set_header("content-length", "5")
        resp.echo(b"12")
        resp.echo(b"345HTTP/1.1 200 OK\r\n\r\n")
        return True

    with serve(app) as site, site.connect() as client:
        client.request()
        client.request()
        answer = client.answer()
        assert answer.content == b"12345"
        assert client.is_closed()
        assert len(site.log.of("error")) == 1


def test_nothing_of_what_was_promised() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.set_header("content-length", "5")
        resp.begin()
        return True

    with serve(app) as site, site.connect() as client:
        client.request()
        with pytest.raises((Malformed, ConnectionResetError)):
            client.answer()
        assert site.log.of("error")


def test_a_length_for_a_whole_content_is_put_right() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.set_header("content-length", "500")
        resp.send(b"12345")
        return True

    with serve(app) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            assert client.answer().content == b"12345"


def test_framing_fields_of_handlets_do_not_count() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.add_header("transfer-encoding", "chunked")
        resp.add_header("Connection", "keep-alive, x-other")
        resp.add_header("keep-alive", "timeout=5")
        resp.add_header("upgrade", "h2c")
        with pytest.raises(ValueError):
            resp.add_header("content-length", "5, 5")
        return hello(req, resp) is True

    with serve(app) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            answer = client.answer()
            assert answer.content == b"hello"
            assert not {"keep-alive", "upgrade", "transfer-encoding"} & {name for name, _ in answer.fields}


def _status(resp: Response) -> None:
    resp.status = 1000
    resp.send(b"x")


def _text_status(resp: Response) -> None:
    resp.status = "200"  # type: ignore[assignment]
    resp.send(b"x")


def _type(resp: Response) -> None:
    resp.content_type = "text/plain\r\nx-injected: 1"
    resp.send(b"x")


def _streamed_type(resp: Response) -> None:
    resp.content_type = "text/plain\r\nx-injected: 1"
    resp.echo(b"x")


def _error(resp: Response) -> None:
    raise HTTPError(999)


def _not_bytes(resp: Response) -> None:
    resp.send(object())  # type: ignore[arg-type]


def _echo_number(resp: Response) -> None:
    resp.echo(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make", [_status, _text_status, _type, _streamed_type, _error, _not_bytes, _echo_number]
)
def test_responses_that_cannot_be(make: Any) -> None:
    def app(req: Request, resp: Response) -> bool:
        if req.path == "/good":
            return hello(req, resp) is True
        make(resp)
        return True

    with serve(app) as site, site.connect() as client:
        client.request()
        answer = client.answer()
        assert answer.status == 500 and not answer.closes
        assert answer.header("x-injected") is None
        assert site.log.of("error", "web")
        client.request("GET", "/good")
        assert client.answer().content == b"hello"


# Time


def test_a_stream_without_end_ends_with_its_client() -> None:
    ends: list[str] = []

    def app(req: Request, resp: Response) -> bool:
        try:
            while True:
                resp.echo(b"tick\n")
                gevent.sleep(0.001)
        finally:
            ends.append("ended")

    with serve(app) as site:
        with site.connect() as client:
            client.request()
            client.exactly(200)
            assert site.conns
        until(lambda: ends)
        until(lambda: not site.conns)
        assert not site.log.of("error")


def test_a_stream_that_swallows_the_end() -> None:
    """A handlet that catches everything cannot go on sending to nobody."""
    pieces = [0]

    def app(req: Request, resp: Response) -> bool:
        for _ in range(100_000):
            try:
                resp.echo(b"x" * 10_000)
                pieces[0] += 1
            except Exception:
                break
            gevent.sleep(0)
        try:
            resp.echo(b"more")
        except ClientGone:
            pieces.append(-1)
        return True

    with serve(app) as site:
        with site.connect() as client:
            client.request()
            client.exactly(100)
        until(lambda: not site.conns)
        assert pieces[-1] == -1
        assert not site.log.of("error")


def test_one_that_waits_holds_up_nobody() -> None:
    def app(req: Request, resp: Response) -> bool:
        if req.path == "/slow":
            gevent.sleep(5)
        return hello(req, resp) is True

    with serve(app) as site, site.connect() as slow:
        slow.request("GET", "/slow")
        for _ in range(20):
            assert site.get("/").content == b"hello"
        assert len(site.access) == 20


def test_a_request_that_was_kept_does_no_harm() -> None:
    """An app that keeps request and response beyond their exchange cannot touch the next one."""
    kept: list[tuple[Request, Response, Any]] = []

    def app(req: Request, resp: Response) -> bool:
        kept.append((req, resp, resp.stream))
        if len(kept) > 1:
            old_req, old_resp, old_stream = kept[0]
            for call in (
                lambda: old_resp.echo(b"injected"),
                lambda: old_stream.send_data(b"injected"),
                lambda: old_stream.send_informational(103, []),
                lambda: old_req.stream.read(10),
            ):
                try:
                    assert call() in (b"",)
                except (ClientGone, AlreadySent, AttributeError):
                    pass
        resp.send(req.path.encode())
        return True

    with serve(app) as site, site.connect() as client:
        for path in ("/1", "/2"):
            client.request("GET", path)
            assert client.answer().content == path.encode()


def test_error_pages_survive_broken_revisers() -> None:
    """Sizes and types that a handlet set for its own response do not reach the error page."""

    def app(req: Request, resp: Response) -> bool:
        resp.set_header("content-length", "3")
        resp.content_type = "image/png"
        resp.set_etag("x")
        raise HTTPError(418, "short and stout")

    with serve(app) as site:
        answer = site.get("/")
        assert answer.status == 418 and b"short and stout" in answer.content
        assert answer.header("etag") is None and answer.header("content-type") != "image/png"


def test_deep_recursion_is_an_error_like_others() -> None:
    def app(req: Request, resp: Response) -> bool:
        def dive(depth: int) -> int:
            return dive(depth + 1) + 1

        if req.path == "/good":
            return hello(req, resp) is True
        return bool(dive(0))

    before = sys.getrecursionlimit()
    with serve(app) as site:
        assert site.get("/").status == 500
        check_serves(site)
    assert sys.getrecursionlimit() == before
