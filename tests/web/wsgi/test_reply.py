"""Statuses and fields of replies, and which files can go out by sendfile."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest

from hemi.web.wsgi import reply as module
from hemi.web.wsgi.reply import LENGTH, PLAIN, TYPE, FileWrapper, parse_field, parse_status, part_of
from tests import webkit
from tests.webkit import until
from tests.wsgikit import TEXT, Pieces, plain, serve


def test_statuses() -> None:
    assert [parse_status(text) for text in ("200 OK", "404", "599 What's this?", "204 ")] == [
        200,
        404,
        599,
        204,
    ]


@pytest.mark.parametrize(
    "status", ["", "OK", "20 OK", "2000 OK", "199 No", "600 No", "200OK", "٢٠٠ OK", "200 O\nK"]
)
def test_bad_statuses(status: str) -> None:
    with pytest.raises(ValueError):
        parse_status(status)


def test_fields() -> None:
    assert parse_field(("X-A", " b ")) == (PLAIN, (b"x-a", b"b"))
    assert parse_field(("Content-TYPE", "text/plain")) == (TYPE, "text/plain")
    assert parse_field(("content-length", "007")) == (LENGTH, 7)
    assert parse_field(("X-É".replace("É", "E"), "é")) == (PLAIN, (b"x-e", b"\xe9"))


@pytest.mark.parametrize(
    "field",
    [
        ("Connection", "close"),
        ("keep-alive", "1"),
        ("Upgrade", "websocket"),
        ("TE", "trailers"),
        ("X-A", "1\n"),
        ("X-A", "\0"),
        ("X:A", "1"),
        ("", "1"),
        ("Content-Length", "1.0"),
        ("Content-Length", "9" * 20),
        ("Content-Length", "²"),
    ],
)
def test_bad_fields(field: tuple[str, str]) -> None:
    with pytest.raises(ValueError):
        parse_field(field)


def test_what_apps_send_is_not_remembered_for_ever() -> None:
    for number in range(2 * module.MAX_KNOWN):
        parse_field(("X-A", str(number)))
    assert len(module._fields) <= module.MAX_KNOWN
    parse_field(("X-A", "x" * 1000))
    assert ("X-A", "x" * 1000) not in module._fields


def test_regular_files_have_a_part(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        file.read(3)
        assert part_of(file) == (file.fileno(), 3, 7)
        file.seek(100)
        assert part_of(file) == (file.fileno(), 100, 0)
    with path.open("rb", buffering=0) as raw:
        assert part_of(raw) == (raw.fileno(), 0, 10)
    with tempfile.NamedTemporaryFile() as named:
        named.write(b"abc")
        named.seek(1)
        assert part_of(named) == (named.fileno(), 1, 2)


def test_other_files_have_none(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"content"))
    read, write = os.pipe()
    with gzip.open(path) as packed, open(read, "rb") as pipe, open(write, "wb"), path.open() as text:
        others: list[Any] = [packed, io.BufferedReader(packed), pipe, text, io.BytesIO(b"x"), object(), None]
        for other in others:
            assert part_of(other) is None
    with path.open("rb") as closed:
        pass
    assert part_of(closed) is None
    with tempfile.SpooledTemporaryFile() as spooled:
        assert part_of(spooled) is None


def test_a_wrapper_reads_large_pieces_and_closes() -> None:
    file = io.BytesIO(b"x" * 100_000)
    wrapper = FileWrapper(file, 10)
    assert [len(piece) for piece in wrapper] == [65536, 34464]
    wrapper.close()
    assert file.closed
    FileWrapper(object()).close()


# Of a running server


def test_a_list_without_a_length_gets_one() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", TEXT)
        return [b"a", b"", b"bc"]

    with serve(app, valid=False) as site:  # the validator hides that it is a list
        answer = site.get()
        assert (answer.content, answer.header("content-length")) == (b"abc", "3")


def test_an_empty_iterable_is_an_empty_response() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        return iter(())

    with serve(app) as site:
        assert site.get().header("content-length") == "0"


def test_a_generator_is_streamed_piece_by_piece() -> None:
    gate = gevent.event.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        yield b""
        yield b"first"
        gate.wait(5)
        yield b"second"

    with serve(app) as site, site.connect() as client:
        client.request()
        _, status, fields = client.head()
        assert status == 200 and ("transfer-encoding", "chunked") in fields
        assert client.chunk() == b"first"
        gate.set()
        assert client.chunk() == b"second"
        assert client.chunk() == b""


def test_an_empty_first_piece_does_not_send_the_head() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        yield b""
        start_response("404 Not Found", TEXT)
        yield b""
        yield b"gone"

    with serve(app, valid=False) as site:  # the validator wants start_response before the first piece
        assert site.get().status == 404


def test_several_fields_of_a_name_go_out_one_by_one_in_order() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("201 Yes", [*TEXT, ("Set-Cookie", "a=1"), ("X-B", "2"), ("Set-Cookie", "c=3")])
        return [b"x"]

    with serve(app) as site:
        answer = site.get()
        assert answer.status == 201
        fields = [field for field in answer.fields if field[0] in ("set-cookie", "x-b")]
        assert fields == [("set-cookie", "a=1"), ("x-b", "2"), ("set-cookie", "c=3")]


def test_server_and_date_of_the_app_replace_ours() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [*TEXT, ("Server", "mine"), ("Date", "Thu, 01 Jan 1970 00:00:00 GMT")])
        return [b"x"]

    with serve(app) as site:
        answer = site.get()
        assert answer.header("server") == "mine"
        assert answer.header("date") == "Thu, 01 Jan 1970 00:00:00 GMT"


def test_write_sends_at_once_and_goes_before_what_is_returned() -> None:
    gate = gevent.event.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"one")
        gate.wait(5)
        write(b"two")
        return [b"three"]

    with serve(app) as site, site.connect() as client:
        client.request()
        client.head()
        assert client.chunk() == b"one"
        gate.set()
        assert [client.chunk() for _ in range(3)] == [b"two", b"three", b""]


def test_write_of_the_promised_length_is_one_message() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", "3")])(b"one")
        return []

    with serve(app) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            assert client.answer().content == b"one"


def test_head_has_the_head_of_get_and_no_content() -> None:
    def endless(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        while True:
            yield b"x"

    def own(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", "1234")])
        return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [b"x" * 1234]

    def vague(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else iter([b"x", b"y"])

    def lazy(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        return iter([] if environ["REQUEST_METHOD"] == "HEAD" else [b"x"])

    # "0" would be a lie (RFC 9110 §9.3.2): Werkzeug leaves out the content of every HEAD.
    for app, length in (
        (plain, "5"),
        (endless, None),
        (own, "1234"),
        (vague, None),
        (lazy, None),
    ):
        with serve(app, valid=app is plain) as site, site.connect() as client:
            for _ in range(2):
                client.request("HEAD")
                assert client.answer("HEAD").header("content-length") == length


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_content(status: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status, [("ETag", '"1"')])
        return []

    with serve(app) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            answer = client.answer()
            assert f"{answer.status}" == status[:3]
            assert answer.header("etag") == '"1"' and answer.header("content-type") is None


def test_early_hints_come_before_the_head() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
        return plain(environ, start_response)

    with serve(app) as site:
        assert site.get().informational == [(103, [("link", "</a.css>; rel=preload")])]


# start_response used wrongly, or again


def test_exc_info_replaces_a_head_that_has_not_gone_out() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            start_response("200 OK", [*TEXT, ("X-A", "1"), ("Content-Length", "9")])
            raise KeyError("broken")
        except KeyError:
            start_response("503 Later", TEXT, sys.exc_info())
        return [b"sorry"]

    with serve(app) as site:
        answer = site.get()
        assert (answer.status, answer.header("x-a"), answer.content) == (503, None, b"sorry")


def test_exc_info_raises_when_the_head_has_gone_out() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        yield b"begun"
        try:
            raise KeyError("broken")
        except KeyError:
            start_response("500 Oh", TEXT, sys.exc_info())
        yield b"never"

    with serve(app) as site, site.connect() as client:
        client.request()
        client.head()
        assert client.chunk() == b"begun"
        with pytest.raises((webkit.Malformed, ConnectionResetError)):
            client.chunk()
        until(lambda: site.log.of("error"))
        assert isinstance(site.log.of("error")[0].exc, KeyError)


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        ("200 OK", [("X-A", "1\r\nX-B: 2")], ValueError),
        ("200 OK", [("X A", "1")], ValueError),
        ("200 OK", [("X-A", "ž")], ValueError),
        ("200 OK", [("Connection", "close")], ValueError),
        ("200 OK", [("Transfer-Encoding", "chunked")], ValueError),
        ("200 OK", [("Content-Length", "-1")], ValueError),
        ("200 OK", [("Content-Length", "1"), ("Content-Length", "2")], ValueError),
        ("200 OK", [["X-A", "1"]], TypeError),
        ("200 OK", [(b"X-A", b"1")], TypeError),
        (200, [], TypeError),
        ("hello", [], ValueError),
        ("100 Continue", [], ValueError),
        ("600 No", [], ValueError),
        ("200 OK\r\nX-A: 1", [], ValueError),
    ],
)
def test_what_cannot_be_sent_raises_in_the_app(status: Any, headers: Any, error: type[Exception]) -> None:
    raised: list[Exception] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            start_response(status, headers)
        except Exception as problem:
            raised.append(problem)
            raise
        return [b"x"]

    with serve(app, valid=False) as site:
        answer = site.get()
        assert answer.status == 500 and answer.header("x-b") is None
        assert isinstance(raised[0], error)
        assert site.get().status == 500


def test_calling_start_response_twice_or_never_is_a_logged_500() -> None:
    def twice(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", TEXT)
        start_response("200 OK", TEXT)
        return [b"x"]

    def never(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return [b"x"]

    def wrong(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        return "text"

    def nothing(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)

    def letters(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        yield "text"

    for app in (twice, never, wrong, nothing, letters):
        with serve(app, valid=False) as site, site.connect() as client:
            for _ in range(2):  # the connection survives
                client.request()
                assert client.answer().status == 500
            assert len(site.log.of("error")) == 2


def test_an_app_that_raises_is_a_plain_500_with_the_traceback_in_the_log() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise KeyError("secret")

    with serve(app) as site:
        answer = site.get()
        assert answer.status == 500 and b"secret" not in answer.content
        assert isinstance(site.log.of("error")[0].exc, KeyError)


def test_an_app_that_exits_does_not_end_the_server() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        sys.exit(3)

    with serve(app) as site:
        assert [site.get().status for _ in range(2)] == [500, 500]


# Lies about the length


def sized(length: int, *pieces: bytes, as_list: bool = False) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*TEXT, ("Content-Length", str(length))])
        return list(pieces) if as_list else iter(pieces)

    return app


@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize("pieces", [(b"hello, world",), (b"hello", b", world"), (b"hel", b"lo, world")])
def test_more_than_promised_is_cut_and_the_connection_ends(pieces: tuple[bytes, ...], as_list: bool) -> None:
    with serve(sized(5, *pieces, as_list=as_list)) as site, site.connect() as client:
        client.request()
        assert client.answer().content == b"hello"
        assert client.is_closed()
        assert "Content-Length" in str(site.log.of("error")[0].exc)


@pytest.mark.parametrize("as_list", [True, False])
def test_less_than_promised_breaks_the_connection(as_list: bool) -> None:
    with serve(sized(9, b"he", b"llo", as_list=as_list)) as site, site.connect() as client:
        client.request()
        with pytest.raises((webkit.Malformed, ConnectionResetError)):
            client.answer()
        until(lambda: site.log.of("error"))
        assert "missing" in str(site.log.of("error")[0].exc)


def test_nothing_where_something_was_promised_is_a_500() -> None:
    with serve(sized(9)) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            assert client.answer().status == 500


# close


def test_close_is_called_once_whatever_happens() -> None:
    def breaking() -> Any:
        yield b"x"
        raise KeyError("broken")

    for pieces in ([b"a", b"b"], [], [b""], breaking()):
        made = Pieces(pieces)

        def app(environ: dict[str, Any], start_response: Any, made: Pieces = made) -> Pieces:
            start_response("200 OK", TEXT)
            return made

        with serve(app, valid=False) as site, site.connect() as client:
            client.request()
            client.send(b"")
            until(lambda made=made: made.closed)
            gevent.sleep(0)
            assert made.closed == 1


def test_close_is_called_when_start_response_is_missing() -> None:
    made = Pieces([b"a"])
    with serve(lambda environ, start_response: made, valid=False) as site:
        assert site.get().status == 500
        assert made.closed == 1


def test_a_client_that_leaves_closes_the_iterator_without_noise() -> None:
    ended: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.append("closed")

    with serve(app) as site:
        with site.connect() as client:
            client.request()
            client.head()
        until(lambda: ended)
        until(lambda: site.log.of("debug", "wsgi"))
        assert not site.log.of("error") and not site.log.of("warning")


def test_an_error_in_close_is_logged_and_the_response_stays() -> None:
    class Broken(list[bytes]):
        def close(self) -> None:
            raise KeyError("broken")

    def app(environ: dict[str, Any], start_response: Any) -> Broken:
        start_response("200 OK", TEXT)
        return Broken([b"fine"])

    with serve(app) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            assert client.answer().content == b"fine"
        assert isinstance(site.log.of("error")[0].exc, KeyError)
