"""Errors in the words of gRPC."""

from __future__ import annotations

import pytest

from hemi.web.errors import HTTPError
from hemi.web.proxy.grpcstatus import answer_error, status_of
from hemi.web.request import Request
from hemi.web.response import Response
from tests.badserver import Close, bad_server
from tests.badserver import Request as Whole
from tests.web.proxy.proxykit import proxying
from tests.webkit import serve


@pytest.mark.parametrize(
    ("http", "grpc"),
    [
        (400, 13),
        (401, 16),
        (403, 7),
        (404, 12),
        (429, 14),
        (502, 14),
        (503, 14),
        (504, 4),
        (418, 2),
        (500, 2),
    ],
)
def test_the_mapping(http: int, grpc: int) -> None:
    assert status_of(http) == grpc


def test_an_error_is_a_200_with_fields() -> None:
    with proxying("127.0.0.1:1") as site, site.connect() as client:
        client.request("POST", "/a.B/C", {"content-type": "application/grpc+proto"}, content=b"x")
        answer = client.answer()
        assert (answer.status, answer.content) == (200, b"")
        assert answer.header("content-type") == "application/grpc+proto"
        assert answer.header("grpc-status") == "14"
        assert answer.header("grpc-message") == "The server behind this one gave no good answer."
        client.request("POST", "/a.B/C", {"content-type": "application/json"}, content=b"x")
        assert client.answer().status == 502


def test_what_has_begun_is_broken_off() -> None:
    with (
        bad_server([Whole(), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Close()]) as node,
        proxying(node) as site,
        site.connect() as client,
    ):
        client.request("POST", "/", {"content-type": "application/grpc"}, content=b"x")
        with pytest.raises(ConnectionResetError):
            client.rest()


def test_messages_are_percent_encoded() -> None:
    def app(req: Request, resp: Response) -> bool:
        return answer_error(req, resp, HTTPError(503, "50 % für\nalle"))

    with serve(app) as site, site.connect() as client:
        client.request("POST", "/", {"content-type": "application/grpc"}, content=b"")
        assert client.answer().header("grpc-message") == "50 %25 f%C3%BCr%0Aalle"
