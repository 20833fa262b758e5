"""Exchanges: what each side may expect of the other, over every wire."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import gevent
import pytest

from hemi.web.errors import ClientGone
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Answer, Client, hello, until
from tests.wires import Wire


def echo(req: Request, resp: Response) -> bool:
    """Sends the content back as it came."""
    resp.send(req.content())
    return True


def closes(wire: Wire, answer: Answer) -> bool:
    """Whether a refusal ends what it must: the connection of HTTP/1, only the stream of HTTP/2."""
    return answer.closes == ("closes" in wire.can)


def ask(client: Client, *args: object, **more: object) -> Answer:
    """One exchange."""
    client.request(*args, **more)  # type: ignore[arg-type]
    return client.answer(str(args[0]) if args else "GET")


# Keep-alive


def test_a_connection_is_kept(wire: Wire) -> None:
    with wire.serve() as site, wire.connect(site) as client:
        for _ in range(50):
            assert ask(client).content == b"hello"
        assert len(site.conns) == 1


def test_the_last_request_is_told(wire: Wire) -> None:
    with wire.serve(server={"keepalive_requests": 3}) as site, wire.connect(site) as client:
        assert [ask(client).closes for _ in range(3)] == [False, False, True]
        assert client.is_closed()


def test_idle_connections_end_in_silence(wire: Wire) -> None:
    with wire.serve(server={"keepalive_timeout": "100ms"}) as site, wire.connect(site) as client:
        assert not ask(client).closes
        assert client.is_closed()
        assert len(site.access) == 1


def test_idle_after_a_content_is_idle_too(wire: Wire) -> None:
    with (
        wire.serve(echo, server={"keepalive_timeout": "100ms", "head_timeout": "1h"}) as site,
        wire.connect(site) as client,
    ):
        assert ask(client, "POST", "/", content=b"hello").content == b"hello"
        until(lambda: all(conn.idle for conn in site.conns))
        assert client.is_closed()
        assert len(site.access) == 1


def test_old_connections_end(wire: Wire) -> None:
    with wire.serve(server={"keepalive_age": "1s"}) as site, wire.connect(site) as client:
        assert not ask(client).closes
        (conn,) = site.conns
        conn.until -= 1.1
        assert ask(client).closes
        assert client.is_closed()


def test_a_handlet_can_close(wire: Wire) -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.add_header("connection", "close")
        return hello(req, resp) is True

    with wire.serve(app) as site, wire.connect(site) as client:
        assert ask(client).closes
        assert client.is_closed()


@pytest.mark.parametrize("keep", [False, True])
def test_http_1_0(wire1: Wire, keep: bool) -> None:
    with wire1.serve() as site, wire1.connect(site) as client:
        for _ in range(1 + keep):
            client.send(b"GET / HTTP/1.0\r\n" + (b"connection: keep-alive\r\n" if keep else b"") + b"\r\n")
            answer = client.answer()
            assert answer.content == b"hello"
            assert answer.header("connection") == ("keep-alive" if keep else "close")
        if not keep:
            assert client.is_closed()


def test_http_1_0_has_no_chunks(wire1: Wire) -> None:
    def app(req: Request, resp: Response) -> bool:
        for piece in ("a", "b", "c"):
            resp.echo(piece)
        resp.add_trailer("x", "y")
        return True

    with wire1.serve(app) as site, wire1.connect(site) as client:
        client.send(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        answer = client.answer()
        assert answer.content == b"abc"
        assert answer.header("transfer-encoding") is None
        assert answer.closes


# Pipelining


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    def app(req: Request, resp: Response) -> bool:
        gevent.sleep(0.01 if req.path == "/0" else 0)
        resp.send(req.path.encode() + req.content())
        return True

    with wire.serve(app) as site, wire.connect(site) as client:
        for number in range(40):
            content = (None, b"hi", [b"h", b"i"])[number % 3]
            client.request("POST", f"/{number}", content=content)
        for number in range(40):
            tail = b"hi" if number % 3 else b""
            assert client.answer().content == b"/%d" % number + tail


def test_content_that_nobody_reads_is_skipped(wire: Wire) -> None:
    with wire.serve() as site, wire.connect(site) as client:
        client.request("POST", "/", content=b"x" * 100_000)
        client.request("POST", "/", content=b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")
        client.request("GET", "/")
        assert [client.answer().closes for _ in range(3)] == [False, False, False]
        lines = [f"POST / HTTP/{wire.version}"] * 2 + [f"GET / HTTP/{wire.version}"]
        assert [entry.line for entry in site.access] == lines


def test_too_much_content_that_nobody_reads_closes(wire1: Wire) -> None:
    with wire1.serve() as site, wire1.connect(site) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 400000\r\n\r\n" + b"x" * 50_000)
        answer = client.answer()
        assert answer.status == 200 and answer.closes
        assert client.is_closed()


# Contents


@pytest.mark.parametrize("chunked", [False, True])
def test_large_contents_both_ways(wire: Wire, chunked: bool) -> None:
    size = 5_000_000
    content = os.urandom(1 << 16) * (size >> 16)

    def app(req: Request, resp: Response) -> bool:
        if req.method == "POST":
            digest = hashlib.sha256()
            for piece in req:
                digest.update(piece)
            resp.send(digest.hexdigest())
        elif chunked:
            for at in range(0, len(content), 100_000):
                resp.echo(content[at : at + 100_000])
        else:
            resp.send(content)
        return True

    with wire.serve(app) as site, wire.connect(site) as client:
        pieces = [content[at : at + 70_000] for at in range(0, len(content), 70_000)]
        client.request("POST", "/", content=pieces if chunked else content)
        assert client.answer().content.decode() == hashlib.sha256(content).hexdigest()
        answer = ask(client)
        assert answer.content == content
        assert (answer.header("content-length") is None) == chunked
        assert (answer.header("transfer-encoding") == "chunked") == (chunked and "chunks" in wire.can)


def test_back_pressure_on_responses(wire: Wire) -> None:
    """A handlet that streams to a client that does not read is held up, and goes on when it reads."""
    sent = [0]

    def app(req: Request, resp: Response) -> bool:
        for _ in range(1600):
            resp.echo(b"x" * 16384)
            sent[0] += 16384
        return True

    with (
        wire.serve(app) as site,
        wire.connect(site, rcvbuf=0 if wire.transport == "uds" else 65536) as client,
    ):
        client.request()
        last = -1

        def stalled() -> bool:
            nonlocal last
            same, last = sent[0] == last and last > 0, sent[0]
            gevent.sleep(0.03)
            return same

        until(stalled)
        assert sent[0] < 400 * 65536
        assert len(client.answer().content) == 400 * 65536


def test_back_pressure_on_requests(wire: Wire) -> None:
    """What a handlet does not read yet is not taken in."""
    go = gevent.event.Event()

    def app(req: Request, resp: Response) -> bool:
        go.wait(10)
        resp.send(str(len(req.content())))
        return True

    size = 16_000_000
    with wire.serve(app) as site, wire.connect(site) as client:
        sender = gevent.spawn(client.request, "POST", "/", content=b"x" * size)
        (conn,) = until(lambda: site.conns)
        gevent.sleep(0.05)
        assert not sender.dead
        if "raw" in wire.can:
            assert conn._queue == type(conn._queue)()
        go.set()
        assert int(client.answer().content) == size
        sender.get(timeout=5)


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_content(wire: Wire, status: int) -> None:
    def app(req: Request, resp: Response) -> bool:
        if req.path == "/streamed":
            resp.status = status
            resp.echo(b"not to be seen")
        elif req.path == "/sent":
            resp.send(b"not to be seen", status)
        else:
            return hello(req, resp) is True
        return True

    with wire.serve(app) as site, wire.connect(site) as client:
        for path in ("/sent", "/streamed"):
            answer = ask(client, "GET", path)
            assert answer.status == status
            assert answer.header("transfer-encoding") is None
            assert answer.header("content-length") is None
            assert ask(client).content == b"hello"


@pytest.mark.parametrize("how", ["sent", "streamed", "promised", "json", "refused"])
def test_head_is_like_get_without_content(wire: Wire, how: str) -> None:
    def app(req: Request, resp: Response) -> bool:
        if how == "sent":
            resp.send("hello")
        elif how == "json":
            resp.send_json([1, 2])
        elif how == "refused":
            return False
        else:
            if how == "promised":
                resp.set_header("content-length", "5")
            resp.echo("hel")
            resp.echo("lo")
        return True

    with wire.serve(app) as site, wire.connect(site) as client:
        get = ask(client, "GET", "/")
        head = ask(client, "HEAD", "/")
        assert head.status == get.status
        assert {name for name, _ in head.fields} == {name for name, _ in get.fields}
        assert head.header("content-length") == get.header("content-length")
        assert ask(client, "GET", "/").content == get.content


def test_head_of_a_stream_goes_out_at_once(wire: Wire) -> None:
    go = gevent.event.Event()

    def app(req: Request, resp: Response) -> bool:
        resp.echo("first")
        go.wait(10)
        resp.echo("second")
        return True

    with wire.serve(app) as site, wire.connect(site) as client:
        assert ask(client, "HEAD", "/").status == 200
        go.set()
        assert ask(client, "GET", "/").content == b"firstsecond"


def test_options_asterisk(wire: Wire) -> None:
    with wire.serve(rules=[{"if": '$path == "/"', "return_code": 200}]) as site, wire.connect(site) as client:
        answer = ask(client, "OPTIONS", "*")
        assert answer.status == 204
        assert "OPTIONS" in (answer.header("allow") or "")


def test_trailers_both_ways(wire: Wire) -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.echo(req.content())
        resp.add_trailer("x-digest", req.trailers["x-sum"])
        return True

    with wire.serve(app) as site, wire.connect(site) as client:
        answer = ask(client, "POST", "/", content=[b"a", b"b"], trailers=[("X-Sum", "12")])
        assert answer.content == b"ab"
        assert answer.trailers == [("x-digest", "12")]
        assert ask(client, "POST", "/", content=[b"a"], trailers=[("X-Sum", "1")]).content == b"a"


# Informational responses


def test_early_hints(wire: Wire) -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.early_hints("</a.css>; rel=preload", "</b.js>; rel=preload")
        resp.early_hints("</c.js>; rel=preload")
        return hello(req, resp) is True

    with wire.serve(app) as site, wire.connect(site) as client:
        answer = ask(client)
        assert [status for status, _ in answer.informational] == [103, 103]
        links = [value for _, fields in answer.informational for _, value in fields]
        assert links == ["</a.css>; rel=preload", "</b.js>; rel=preload", "</c.js>; rel=preload"]
        assert answer.content == b"hello"
        if "raw" in wire.can:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            assert client.answer().informational == []


EXPECTING = {"expect": "100-continue", "content-length": "5"}


def expect(wire: Wire, client: Client) -> None:
    """Sends the head of a request with a content of five bytes, which waits for a 100."""
    if "raw" in wire.can:
        client.request("POST", "/", EXPECTING)
    else:
        client.begin("POST", "/", EXPECTING, open_=True)  # type: ignore[attr-defined]


def send_rest(wire: Wire, client: Client, data: bytes) -> None:
    """Sends what `expect` announced."""
    if "raw" in wire.can:
        client.send(data)
    else:
        client.send_data(client.order[-1], data, last=True)  # type: ignore[attr-defined]


def wait_for_100(wire: Wire, client: Client) -> None:
    """Takes a 100 from the wire."""
    if "raw" in wire.can:
        assert client.head()[1] == 100
    else:
        while not client.order[-1].informational:  # type: ignore[attr-defined]
            client.more()  # type: ignore[attr-defined]
        assert client.order[-1].informational.pop()[0] == 100  # type: ignore[attr-defined]


def test_a_100_goes_out_when_the_content_is_read(wire: Wire) -> None:
    go = gevent.event.Event()

    def app(req: Request, resp: Response) -> bool:
        go.wait(10)
        resp.send(req.content())
        return True

    with wire.serve(app) as site, wire.connect(site) as client:
        expect(wire, client)
        with pytest.raises(TimeoutError), gevent.Timeout(0.05, TimeoutError("nothing comes")):
            wait_for_100(wire, client)
        go.set()
        wait_for_100(wire, client)
        send_rest(wire, client, b"hello")
        assert client.answer().content == b"hello"
        assert ask(client, "POST", "/", content=b"more").content == b"more"


def test_no_100_when_the_content_is_refused(wire: Wire) -> None:
    with wire.serve(echo, webapp={"max_content_size": 4}) as site, wire.connect(site) as client:
        expect(wire, client)
        answer = client.answer()
        assert answer.status == 413 and closes(wire, answer)
        assert answer.informational == []
        assert "closes" not in wire.can or client.is_closed()


def test_no_100_when_nobody_reads(wire: Wire) -> None:
    with wire.serve() as site, wire.connect(site) as client:
        expect(wire, client)
        answer = client.answer()
        assert answer.status == 200 and closes(wire, answer) and not answer.informational
        assert "closes" not in wire.can or client.is_closed()


def test_no_100_when_the_content_is_there(wire: Wire) -> None:
    with wire.serve(echo) as site, wire.connect(site) as client:
        client.request("POST", "/", {"expect": "100-continue"}, content=b"hello")
        answer = client.answer()
        assert answer.content == b"hello" and not answer.informational and not answer.closes
        assert ask(client, "POST", "/", content=b"more").content == b"more"


# Ends


def test_half_closed_clients_are_answered(wire1: Wire) -> None:
    if wire1.transport == "tls":
        pytest.skip("the TLS of Python cannot half-close")

    def app(req: Request, resp: Response) -> bool:
        gevent.sleep(0.01)
        resp.send(b"x" * 1_000_000)
        return True

    with wire1.serve(app) as site, wire1.connect(site) as client:
        client.request()
        client.request()
        client.shutdown()
        assert len(client.answer().content) == 1_000_000
        assert len(client.answer().content) == 1_000_000
        assert client.is_closed()


@pytest.mark.parametrize("chunked", [False, True])
def test_the_answer_to_an_error_can_be_read(wire: Wire, chunked: bool) -> None:
    """Closing with unread data would reset the connection, and destroy the answer on its way."""
    with wire.serve(echo, webapp={"max_content_size": 1000}) as site, wire.connect(site) as client:
        content = b"x" * 600_000
        try:
            client.request("POST", "/", content=[content] if chunked else content)
        except OSError:
            pass
        answer = client.answer()
        assert answer.status == 413 and closes(wire, answer)
        if "closes" in wire.can:
            assert client.rest() == b""  # an end, not a reset


def test_the_answer_to_broken_chunks_can_be_read(wire1: Wire) -> None:
    with wire1.serve(echo) as site, wire1.connect(site) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        until(lambda: site.conns)
        gevent.sleep(0.01)
        client.send(b"zz\r\n" + b"x" * 100_000)
        answer = client.answer()
        assert answer.status == 400 and answer.closes
        assert client.rest() == b""


def test_a_client_that_leaves_ends_the_handlet(wire: Wire) -> None:
    ends: list[BaseException] = []

    def app(req: Request, resp: Response) -> bool:
        try:
            while True:
                resp.echo(b"x" * 10_000)
                gevent.sleep(0)
        except ClientGone as error:
            ends.append(error)
            raise

    with wire.serve(app) as site:
        with wire.connect(site) as client:
            client.request()
            if "raw" in wire.can:
                client.exactly(100)
            else:
                until(lambda: client.more() or client.order[0].size > 100)
        until(lambda: ends)
        until(lambda: not site.conns)
        assert not site.log.of("error") and not site.log.of("warning")


def test_a_client_that_leaves_in_its_content(wire: Wire) -> None:
    seen: list[BaseException] = []
    begun: list[Request] = []

    def app(req: Request, resp: Response) -> bool:
        begun.append(req)
        try:
            req.content()
        except Exception as error:
            seen.append(error)
            raise
        return True

    with wire.serve(app) as site:
        with wire.connect(site) as client:
            if "raw" in wire.can:
                client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhi")
            else:
                client.send_data(client.begin("POST", "/", {"content-length": "10"}, open_=True), b"hi")
            until(lambda: begun)
        until(lambda: seen)
        until(lambda: not site.conns)
        assert not site.log.of("error")


def test_files_are_sent(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    content = os.urandom(1 << 16) * 50
    path.write_bytes(content)

    def app(req: Request, resp: Response) -> bool:
        resp.send_file(str(path))
        return True

    with wire.serve(app) as site, wire.connect(site) as client:
        answer = ask(client)
        assert answer.content == content
        etag = answer.header("etag") or ""
        part = ask(client, "GET", "/", {"range": "bytes=10-19"})
        assert part.status == 206 and part.content == content[10:20]
        assert ask(client, "GET", "/", {"if-none-match": etag}).status == 304
        assert ask(client, "GET", "/", {"range": "bytes=99999999-"}).status == 416
        head = ask(client, "HEAD", "/")
        assert head.header("content-length") == str(len(content))
        assert ask(client, "GET", "/", {"range": "bytes=0-0,-1"}).status == 206
        assert ask(client).content == content
