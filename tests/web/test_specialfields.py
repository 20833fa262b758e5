"""Fields with a meaning: what setting them does to a response."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hemi.web.response import Response


def made(version: int = 11) -> Response:
    request: Any = SimpleNamespace(version=version)
    stream: Any = None
    return Response(request, stream)


def test_fields_with_a_meaning() -> None:
    resp = made()
    resp.set_header("Content-Type", "text/plain")
    resp.set_header("Content-Length", "12")
    resp.set_header("ETag", '"x"')
    resp.set_header("Connection", "Close")
    assert (resp.content_type, resp.content_size, resp.etag, resp.close) == ("text/plain", 12, b'"x"', True)
    assert resp.header("content-type") == "text/plain" and resp.header("etag") == '"x"'
    resp.delete_header("etag")
    assert resp.etag is None
    for bad in ("", "-1", "1.5", "x", "²"):
        with pytest.raises(ValueError):
            resp.set_header("content-length", bad)
    with pytest.raises(ValueError):
        resp.set_header("content-type", "a\nb")


def test_fields_that_are_made_by_the_server_otherwise() -> None:
    resp = made()
    resp.add_header("Date", "Mon, 01 Jan 2001 00:00:00 GMT")
    resp.add_header("Server", "x")
    assert resp.has_date and resp.has_server and [name for name, _ in resp.fields] == [b"date", b"server"]
    resp.delete_header("date")
    resp.delete_header("server")
    assert not (resp.has_date or resp.has_server or resp.fields)


def test_an_etag_that_is_none_goes_out_as_it_is() -> None:
    resp = made()
    resp.add_header("ETag", "odd")
    assert resp.etag is None and resp.fields == [(b"etag", b"odd")]


@pytest.mark.parametrize("name", ["Transfer-Encoding", "Keep-Alive", "Proxy-Connection"])
def test_the_framing_is_nobody_elses_business(name: str) -> None:
    resp = made()
    resp.add_header(name, "chunked")
    assert resp.fields == []


@pytest.mark.parametrize(("status", "version", "sent"), [(426, 11, True), (200, 11, False), (426, 20, False)])
def test_upgrade_is_for_426(status: int, version: int, sent: bool) -> None:
    resp = made(version)
    resp.status = status
    resp.add_header("Upgrade", "websocket")
    assert bool(resp.fields) == sent


@pytest.mark.parametrize("name", ["Host", "Content-Length", "Set-Cookie", "TE"])
def test_what_is_no_trailer(name: str) -> None:
    with pytest.raises(ValueError, match="must not be a trailer field"):
        made().add_trailer(name, "1")
