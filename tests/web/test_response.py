"""The response as handlets make it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hemi.web.errors import AlreadySent, HTTPError
from hemi.web.request import Request
from hemi.web.response import Response, attachment, quote_location
from tests.webkit import App, serve


class FakeStream:
    """Notes what is sent."""

    has_informational = has_trailers = True

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def send_whole(self, resp: Response, content: bytes) -> None:
        resp.is_sent = True
        self.calls.append(content)

    def send_head(self, resp: Response) -> None:
        resp.is_sent = True
        self.calls.append("head")

    def send_data(self, data: bytes, last: bool = False) -> None:
        self.calls.append(data)

    def send_trailers(self, fields: Any) -> None:
        self.calls.append(fields)

    def send_informational(self, status: int, fields: Any) -> None:
        self.calls.append((status, fields))

    def flush(self) -> None:
        self.calls.append("flush")

    def finish(self) -> None:
        self.calls.append("finish")


def made(method: str = "GET", scheme: str = "http", **index: str) -> tuple[Response, FakeStream]:
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in index.items()}
    request: Any = SimpleNamespace(
        method=method, scheme=scheme, index=fields, webapp=None, header=lambda name: None
    )
    stream: Any = FakeStream()
    return Response(request, stream), stream


def test_fields() -> None:
    resp, _ = made()
    resp.add_header("X-A", "1")
    resp.add_header("x-a", "2")
    assert resp.header("x-A") == "2" and resp.fields == [(b"x-a", b"1"), (b"x-a", b"2")]
    resp.set_header("X-a", "3")
    assert resp.fields == [(b"x-a", b"3")]
    resp.delete_header("x-a")
    assert resp.header("x-a") is None and resp.header_text("x-a") == ""
    for name, value in (("a b", "x"), ("", "x"), ("x", "a\r\nb"), ("x", "a\0"), ("x\r\n", "y")):
        with pytest.raises(ValueError):
            resp.add_header(name, value)
    assert resp.fields == []


def test_vary() -> None:
    resp, _ = made()
    resp.vary("Accept")
    resp.vary("accept")
    resp.vary("Cookie")
    assert (resp.header("vary") or "").lower() == "accept, cookie"


def test_cookies() -> None:
    resp, _ = made(scheme="https")
    resp.set_cookie("a", "b")
    line = (resp.header("set-cookie") or "").lower()
    assert line.startswith("a=b;") and "httponly" in line and "samesite=lax" in line and "secure" in line
    resp.delete_cookie("a")
    assert "max-age=0" in (resp.header("set-cookie") or "").lower()
    resp, _ = made()
    resp.set_cookie("a", "b")
    assert "secure" not in (resp.header("set-cookie") or "").lower()


@pytest.mark.parametrize(
    ("content", "sent", "kind"),
    [
        (b"x", b"x", "application/octet-stream"),
        ("é", "é".encode(), "text/html; charset=utf-8"),
        (bytearray(b"x"), b"x", "application/octet-stream"),
        (memoryview(b"x"), b"x", "application/octet-stream"),
        (b"", b"", ""),
        ("\udcff", b"\xff", "text/html; charset=utf-8"),
    ],
)
def test_sending(content: Any, sent: bytes, kind: str) -> None:
    resp, stream = made()
    resp.send(content)
    assert stream.calls == [sent] and resp.content_type == kind
    with pytest.raises(AlreadySent):
        resp.send(b"")


def test_json_and_redirects() -> None:
    resp, stream = made()
    resp.send_json({"a": "é"}, 201)
    assert stream.calls == ['{"a":"é"}'.encode()]
    assert (resp.status, resp.content_type) == (201, "application/json")
    resp, _ = made()
    resp.redirect("/é?a=b c", 303)
    assert (resp.status, resp.header("location")) == (303, "/%C3%A9?a=b%20c")
    assert quote_location("https://a/b%20c?d#e") == "https://a/b%20c?d#e"


def test_streaming() -> None:
    resp, stream = made()
    resp.echo("a")
    resp.echo(b"")
    resp.echo(b"b")
    resp.add_trailer("X-Sum", "1")
    for name in ("content-length", "Set-Cookie", "transfer-encoding", "a b"):
        with pytest.raises(ValueError):
            resp.add_trailer(name, "1")
    resp.finish()
    assert stream.calls == ["head", b"a", b"b", [(b"x-sum", b"1")]]
    assert resp.content_type == "text/html; charset=utf-8"
    with pytest.raises(AlreadySent):
        resp.add_header("x", "y")


def test_flushing() -> None:
    resp, stream = made()
    resp.flush()
    assert stream.calls == ["head", "flush"]


def test_early_hints() -> None:
    resp, stream = made()
    resp.early_hints("</a>")
    assert stream.calls == [(103, [(b"link", b"</a>")])]
    stream.has_informational = False  # type: ignore[misc]
    resp.early_hints("</b>")
    assert len(stream.calls) == 1


@pytest.mark.parametrize(
    ("method", "index", "status"),
    [
        ("GET", {"if_none_match": '"x"'}, 304),
        ("HEAD", {"if_none_match": '"x"'}, 304),
        ("GET", {"if_none_match": '"y"'}, 200),
        ("GET", {"if_modified_since": "Sun, 06 Nov 2094 08:49:37 GMT"}, 304),
        ("GET", {"if_modified_since": "Sun, 06 Nov 1994 08:49:37 GMT"}, 200),
        ("PUT", {"if_none_match": '"x"'}, 412),
        ("GET", {"if_match": '"y"'}, 412),
    ],
)
def test_conditions(method: str, index: dict[str, str], status: int) -> None:
    resp, _ = made(method, **index)
    resp.set_etag("x")
    resp.set_last_modified(1_000_000_000)
    if status == 412:
        with pytest.raises(HTTPError, match="412"):
            resp.send(b"content")
    else:
        resp.send(b"content")
        assert resp.status == status
        assert (b"etag", b'"x"') in resp.fields and any(name == b"last-modified" for name, _ in resp.fields)


def test_conditions_do_not_change_errors() -> None:
    resp, _ = made(if_none_match='"x"')
    resp.set_etag("x")
    resp.send(b"gone", 410)
    assert resp.status == 410


def test_error_pages_forget_what_failed() -> None:
    resp, stream = made()
    resp.content_type, resp.content_size = "image/png", 5
    resp.add_header("x-old", "1")
    resp.set_etag("x")
    resp.error(503, "Come back later.", (("retry-after", "5"),))
    assert resp.status == 503 and resp.fields == [(b"retry-after", b"5")] and resp.etag is None
    assert b"Come back later." in stream.calls[0]


def test_names_of_downloads() -> None:
    assert attachment("a b.txt") == 'attachment; filename="a b.txt"'
    assert attachment('a"b\\c\r\n.txt').startswith('attachment; filename="a_b_c__.txt"')
    assert attachment("é.txt") == "attachment; filename=\"?.txt\"; filename*=UTF-8''%C3%A9.txt"


def test_repr() -> None:
    resp, _ = made()
    assert repr(resp) == "<Response 200 open bytes=0>"


def test_the_elapsed_time() -> None:
    seen: list[str] = []

    def app(req: Request, resp: Response) -> bool:
        resp.send(b"")
        seen.append(resp.elapsed())
        return True

    run: App = app
    with serve(run) as site:
        site.get("/")
    assert 0 <= float(seen[0]) < 5
