"""The errors of exchanges: what they carry, and what they turn into."""

from __future__ import annotations

import pytest

from hemi.web.errors import AlreadySent, ClientGone, HTTPError, LengthMismatch, SearchAgain
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import serve


def test_http_errors_say_their_status() -> None:
    error = HTTPError(413, "The content is too large.", headers=(("x-a", "1"),), close=True)
    assert str(error) == "413 The content is too large."
    assert (error.status, error.text, error.headers, error.close) == (
        413,
        "The content is too large.",
        (("x-a", "1"),),
        True,
    )
    assert str(HTTPError(404)) == "404"


def test_families() -> None:
    """Apps that catch OSError see that the client has gone; what is wrong with a handlet is no OSError."""
    assert issubclass(ClientGone, OSError)
    for fault in (AlreadySent, LengthMismatch):
        assert issubclass(fault, RuntimeError)
    assert issubclass(SearchAgain, Exception)


@pytest.mark.parametrize(("status", "close"), [(402, False), (413, True)])
def test_an_http_error_becomes_its_page(status: int, close: bool) -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.add_header("x-dropped", "1")
        raise HTTPError(status, "Because <so>.", headers=(("x-why", "so"),), close=close)

    with serve(app) as site, site.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n")
        answer = client.answer()
        assert answer.status == status
        assert answer.header("x-why") == "so" and answer.header("x-dropped") is None
        assert b"Because &lt;so&gt;." in answer.content
        assert (answer.header("connection") == "close") is close
