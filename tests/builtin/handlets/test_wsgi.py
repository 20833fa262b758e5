"""The `wsgi` handlet through a real server: PEP 3333, feature by feature, in the validator of wsgiref."""

from __future__ import annotations

import gzip
import io
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest

from hemi.errors import ConfigError, UsageError
from hemi.web.errors import ClientGone
from tests import webkit
from tests.tlskit import Authority, client_context
from tests.webkit import until
from tests.wsgikit import mount, name_of, serve

TEXT = [("Content-Type", "text/plain")]


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return [b"hello"]


def seen(environ: dict[str, Any], keys: list[str]) -> bytes:
    return "\n".join(f"{key}={environ.get(key, '-')}" for key in keys).encode("latin-1")


def shows(*keys: str) -> Any:
    """An app that tells items of its environ."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        content = seen(environ, list(keys))
        start_response("200 OK", [*TEXT, ("Content-Length", str(len(content)))])
        return [content]

    return app


class Pieces:
    """An iterable that notes whether it was closed."""

    def __init__(self, pieces: Any) -> None:
        self.pieces = iter(pieces)
        self.closed = 0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> bytes:
        return next(self.pieces)

    def close(self) -> None:
        self.closed += 1


# Environ


def test_a_list_with_a_length_goes_out_whole_with_our_reason_and_date() -> None:
    with serve(plain) as site:
        answer = site.get()
        assert (answer.status, answer.content) == (200, b"hello")
        assert answer.header("content-length") == "5"
        assert answer.header("content-type") == "text/plain"
        assert answer.header("server") == "gorox" and answer.header("date")


def test_the_environ_says_what_cgi_says() -> None:
    app = shows("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_NAME", "SERVER_PROTOCOL",
                "REMOTE_ADDR", "HTTP_HOST", "HTTP_X_ONE", "wsgi.url_scheme", "wsgi.input_terminated",
                "REQUEST_URI", "CONTENT_LENGTH", "HTTPS")  # fmt: skip
    with serve(app) as site:
        text = site.get("/a//b/../c%20d?q=%20x", x_one="1").content.decode()
    assert text.split("\n") == [
        "REQUEST_METHOD=GET", "SCRIPT_NAME=", "PATH_INFO=/a/c d", "QUERY_STRING=q=%20x", "SERVER_NAME=a.example",
        "SERVER_PROTOCOL=HTTP/1.1", "REMOTE_ADDR=127.0.0.1", "HTTP_HOST=a.example", "HTTP_X_ONE=1",
        "wsgi.url_scheme=http", "wsgi.input_terminated=True", "REQUEST_URI=/a//b/../c%20d?q=%20x",
        "CONTENT_LENGTH=-", "HTTPS=-",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/caf%C3%A9", b"/caf\xc3\xa9"), ("/%ff%fe", b"/\xff\xfe"), ("/%E6%97%A5", "/日".encode())],
)
def test_a_path_beyond_ascii_is_bytes_as_latin_1(path: str, expected: bytes) -> None:
    with serve(shows("PATH_INFO")) as site:
        assert site.get(path).content == b"PATH_INFO=" + expected


def test_repeated_fields_are_joined() -> None:
    with serve(shows("HTTP_X_A", "HTTP_COOKIE")) as site, site.connect() as client:
        client.request(fields=[("X-A", "1"), ("Cookie", "a=1"), ("x-a", "2"), ("Cookie", "b=2")])
        assert client.answer().content == b"HTTP_X_A=1, 2\nHTTP_COOKIE=a=1; b=2"


def test_names_with_underscores_and_proxy_never_reach_the_app() -> None:
    with serve(shows("HTTP_X_USER", "HTTP_PROXY", "HTTP_CONTENT_LENGTH")) as site, site.connect() as client:
        client.request(fields=[("X_User", "admin"), ("Proxy", "http://evil/"), ("Content_Length", "7")])
        assert client.answer().content == b"HTTP_X_USER=-\nHTTP_PROXY=-\nHTTP_CONTENT_LENGTH=-"


def test_a_mount_splits_the_path_and_declines_the_rest() -> None:
    with serve(shows("SCRIPT_NAME", "PATH_INFO"), properties={"script_name": "/shop"}) as site:
        assert site.get("/shop/cart/1").content == b"SCRIPT_NAME=/shop\nPATH_INFO=/cart/1"
        assert site.get("/shop").content == b"SCRIPT_NAME=/shop\nPATH_INFO="
        assert site.get("/shopping").status == 404
        assert site.get("/").status == 404


def test_environ_and_env_come_from_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOROX_TEST", "before")
    import os

    properties = {"environ": {"shop.mode": "test"}, "env": {"GOROX_TEST": "after"}}
    with serve(shows("shop.mode"), properties=properties) as site:
        assert site.get().content == b"shop.mode=test"
        assert os.environ["GOROX_TEST"] == "after"


def test_wsgi_errors_goes_to_the_error_log_by_lines() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.errors"].write("one\ntw")
        environ["wsgi.errors"].writelines(["o\n"])
        environ["wsgi.errors"].write("three")
        environ["wsgi.errors"].flush()
        return plain(environ, start_response)

    with serve(app) as site:
        site.get()
        assert [entry.message for entry in site.log.of("error", "wsgi")] == ["one", "two", "three"]


# Responses


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

    for app, length in ((plain, "5"), (endless, None), (own, "1234")):
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


# Input


def reads(read: Any) -> Any:
    """An app that answers with what `read(input)` makes of its input."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        content = read(environ["wsgi.input"])
        start_response("200 OK", TEXT)
        return [content]

    return app


@pytest.mark.parametrize("content", [b"a\nbc\n\nd", [b"a", b"\nb", b"c\n", b"\nd"]])
@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda source: source.read(100), b"a\nbc\n\nd"),
        (lambda source: source.read(3) + b"|" + source.read(1) + b"|" + source.read(99), b"a\nb|c|\n\nd"),
        (lambda source: b"|".join(source), b"a\n|bc\n|\n|d"),
        (lambda source: b"|".join(source.readlines()), b"a\n|bc\n|\n|d"),
        (lambda source: source.readline() + b"|" + source.read(50), b"a\n|bc\n\nd"),
        (lambda source: b"".join(iter(lambda: source.read(2), b"")), b"a\nbc\n\nd"),
    ],
)
def test_input_reads_sized_and_chunked_content_alike(content: Any, read: Any, expected: bytes) -> None:
    with serve(reads(read)) as site, site.connect() as client:
        for _ in range(2):
            client.request("POST", content=content)
            assert client.answer().content == expected


def test_input_without_arguments_reads_to_the_end() -> None:
    app = reads(lambda source: source.read() + b"|" + source.read())
    with serve(app, valid=False) as site, site.connect() as client:
        client.request("POST", content=[b"ab", b"c"])
        assert client.answer().content == b"abc|"
        client.request("GET")
        assert client.answer().content == b"|"


def test_the_first_read_asks_for_the_content() -> None:
    with serve(reads(lambda source: source.read(5))) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        _, status, _ = client.head()
        assert status == 100
        client.send(b"hello")
        assert client.answer().content == b"hello"


def test_content_that_nobody_reads_does_not_end_the_connection() -> None:
    with serve(plain) as site, site.connect() as client:
        for _ in range(3):
            client.request("POST", content=b"x" * 100_000)
            assert client.answer().content == b"hello"


def test_too_much_content_is_413_even_if_the_app_makes_a_500_of_it() -> None:
    def swallowing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read(10_000)
        except OSError:
            start_response("500 Oh", TEXT)
            return [b"oh"]
        return plain(environ, start_response)

    for app in (reads(lambda source: source.read(10_000)), swallowing):
        with serve(app, webapp={"max_content_size": "1K"}) as site, site.connect() as client:
            client.request("POST", content=[b"x" * 900, b"x" * 900])
            assert client.answer().status == 413


def test_reading_all_into_memory_has_a_limit_of_its_own() -> None:
    app, limits = reads(lambda source: source.read()), {"max_memory_content_size": "64K"}
    with serve(app, valid=False, webapp=limits) as site, site.connect() as client:
        client.request("POST", content=[b"x" * 60_000] * 4)
        assert client.answer().status == 413


def test_broken_chunks_are_400() -> None:
    with serve(reads(lambda source: source.read(10))) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
        assert client.answer().status == 400


def test_a_client_that_leaves_while_sending_is_no_error() -> None:
    raised: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read(10)
        except OSError as error:
            raised.append(error)
            raise
        return plain(environ, start_response)

    with serve(app) as site:
        with site.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        until(lambda: raised)
        assert isinstance(raised[0], (ClientGone, OSError))
        assert not site.log.of("error")


# Files


def sends(make: Any, headers: Any = ()) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*TEXT, *headers])
        return environ["wsgi.file_wrapper"](make(), 4096)

    return app


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 2000)
    return path


def test_file_wrapper_sends_a_file_whole_by_sendfile(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    calls: list[int] = []
    real = os.sendfile
    monkeypatch.setattr(os, "sendfile", lambda *args: (calls.append(1), real(*args))[1])
    opened: list[Any] = []

    def make() -> Any:
        opened.append(data.open("rb"))
        return opened[-1]

    with serve(sends(make), valid=False) as site, site.connect() as client:  # the validator hides the file
        for _ in range(2):
            client.request()
            answer = client.answer()
            assert answer.content == data.read_bytes()
            assert answer.header("content-length") == "512000"
        client.request("HEAD")
        assert client.answer("HEAD").header("content-length") == "512000"
        assert calls and all(file.closed for file in opened)


def test_file_wrapper_sends_from_where_the_file_stands(data: Path) -> None:
    def make() -> Any:
        file = data.open("rb")
        assert file.read(1000)
        return file

    with serve(sends(make), valid=False) as site:
        assert site.get().content == data.read_bytes()[1000:]
    with serve(sends(make, [("Content-Length", "10")]), valid=False) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            assert client.answer().content == data.read_bytes()[1000:1010]


def test_a_range_of_what_cannot_be_sent_by_sendfile(data: Path) -> None:
    headers = [("Content-Length", "3")]
    with serve(sends(lambda: io.BytesIO(b"content"), headers), valid=False) as site, site.connect() as client:
        for _ in range(2):
            client.request()
            assert client.answer().content == b"con"


def test_a_file_shorter_than_promised_breaks_the_connection(data: Path) -> None:
    with (
        serve(sends(lambda: data.open("rb"), [("Content-Length", "600000")])) as site,
        site.connect() as client,
    ):
        client.request()
        with pytest.raises((webkit.Malformed, ConnectionResetError)):
            client.answer()
        until(lambda: site.log.of("error"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: io.BytesIO(b"content"),
        lambda: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(b"content"))),
        lambda: _temporary(tempfile.TemporaryFile),
        lambda: _temporary(tempfile.NamedTemporaryFile),
        lambda: _temporary(tempfile.SpooledTemporaryFile),
    ],
)
def test_file_wrapper_takes_whatever_can_be_read(make: Any) -> None:
    with serve(sends(make)) as site:
        assert site.get().content == b"content"


def test_a_gzip_file_is_sent_decompressed(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"content"))
    with serve(sends(lambda: gzip.open(path))) as site:
        assert site.get().content == b"content"


def _temporary(make: Any) -> Any:
    file = make()
    file.write(b"content")
    file.seek(0)
    return file


# Blocking apps, and loading them


def test_an_app_that_waits_does_not_stop_others() -> None:
    gate = gevent.event.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            gate.wait(5)
        return plain(environ, start_response)

    with serve(app) as site, site.connect() as slow:
        slow.request("GET", "/slow")
        assert site.get("/").status == 200
        gate.set()
        assert slow.answer().status == 200


def load(handlet: dict[str, Any], folder: Path) -> Any:
    return webkit.load(webkit.config(rules=[{"handlets": [handlet]}]), str(folder))


@pytest.mark.parametrize(
    ("text", "spec", "expected"),
    [
        ("import nosuchthing", "{}:app", ["ModuleNotFoundError", "line 1, in <module>", "nosuchthing"]),
        ("def f(:", "{}:app", ["SyntaxError", "line 1"]),
        ("raise SystemExit(3)", "{}:app", ["SystemExit"]),
        ("x = 1", "{}:app", ["has no app"]),
        ("app = 1", "{}:app", ["must be a WSGI app"]),
        ("def make():\n    return 1 / 0", "{}:make()", ["ZeroDivisionError", "line 2, in make"]),
        ("", "{}", ['must be "module:attr"']),
        ("", "nosuch{}:app", ["No module named"]),
    ],
)
def test_an_app_that_cannot_be_loaded_is_a_problem_with_its_traceback(
    tmp_path: Path, text: str, spec: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"broken_app_{time.monotonic_ns()}"
    (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises((ConfigError, UsageError)) as caught:
        load({"wsgi": {"app": spec.format(name)}}, tmp_path).prepare()
    for part in expected:
        assert part in str(caught.value)
    assert "apploader" not in str(caught.value)


def test_a_factory_makes_the_app_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"factory_app_{time.monotonic_ns()}"
    (tmp_path / f"{name}.py").write_text(
        "made = []\n"
        "class Box:\n"
        "    @staticmethod\n"
        "    def make():\n"
        "        made.append(1)\n"
        "        return lambda environ, start_response: []\n"
    )
    stage = load({"wsgi": {"app": f"{name}:Box.make()"}}, tmp_path)
    stage.prepare()
    stage.stop(time.monotonic())
    assert sys.modules[name].made == [1]


@pytest.mark.parametrize("name", ["shop", "/shop/", "/", "//shop"])
def test_a_bad_script_name_is_a_problem(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="script_name must be"):
        load(mount(plain, script_name=name), tmp_path)


def test_names_for_loading_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="app is required"):
        load({"wsgi": {}}, tmp_path)
    assert name_of(plain).startswith("tests.wsgikit:")


@pytest.mark.parametrize("size", ["1K", "1M"])
def test_chunked_content_can_be_buffered_for_frameworks_that_need_its_length(size: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert "HTTP_TRANSFER_ENCODING" not in environ
        content = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response("200 OK", TEXT)
        return [content]

    limits = {"spool_size": size, "max_content_size": "10K"}
    with (
        serve(app, properties={"buffer_chunked": True}, webapp=limits) as site,
        site.connect() as client,
    ):
        for content in ([b"x" * 3000, b"y" * 3000], [b"a"], []):
            client.request("POST", content=content)
            assert client.answer().content == b"".join(content)
        client.request("POST", content=[b"x" * 6000] * 2)
        assert client.answer().status == 413


def test_client_certificates_are_in_the_environ(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    site_identity, client_identity = authority.issue("a.example"), authority.issue("ada", "ada@example.com")
    app = shows(
        "HTTPS", "wsgi.url_scheme", "SSL_CLIENT_VERIFY", "SSL_TLS_SNI", "SSL_CLIENT_I_DN", "SSL_CLIENT_CERT"
    )
    more: dict[str, Any] = {
        "server": {"tls": True, "tls_client_auth": "request", "tls_client_ca": authority.file},
        "webapp": {
            "tls_certificate": site_identity.certificate,
            "tls_private_key": site_identity.private_key,
        },
    }
    forged = [("SSL_CLIENT_VERIFY", "SUCCESS"), ("SSL-Client-Verify", "SUCCESS")]
    with serve(app, **more) as site:
        for identity, verdict in ((None, "NONE"), (client_identity, "SUCCESS")):
            context = client_context(authority, identity)
            with site.connect(tls=context, name="a.example") as client:
                client.request(fields=forged)
                text = client.answer().content.decode()
            assert text.startswith(
                f"HTTPS=on\nwsgi.url_scheme=https\nSSL_CLIENT_VERIFY={verdict}\nSSL_TLS_SNI=a.example\n"
            )
            assert ("-----BEGIN CERTIFICATE-----" in text) == (identity is not None)


def test_a_reload_with_a_broken_app_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"reloaded_app_{time.monotonic_ns()}"
    (tmp_path / f"{name}.py").write_text("1 / 0\n")
    with serve(plain, folder=str(tmp_path)) as site, site.connect() as client:
        with pytest.raises(ConfigError, match="ZeroDivisionError"):
            load({"wsgi": {"app": f"{name}:app"}}, tmp_path)
        client.request()
        assert client.answer().content == b"hello"
