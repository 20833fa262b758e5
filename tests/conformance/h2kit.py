"""What the tests of HTTP/2, section by section, share: an app, and what may become of connections and streams."""

from __future__ import annotations

from hemi.web.request import Request
from hemi.web.response import Response
from tests.h2raw import END_HEADERS, GET, POST, RST_STREAM, RawClient


def app(req: Request, resp: Response) -> bool:
    """Says hello to the content; at /large, much."""
    content = req.content()
    if req.path == "/large":
        resp.send(b"x" * 100_000)
    else:
        resp.send(b"hello " + content, 200)
    return True


def broken(client: RawClient, *codes: int) -> None:
    """The connection has ended by one of these errors."""
    assert client.goaway().code in codes


def reset(client: RawClient, sid: int, *codes: int) -> None:
    """The stream has ended by one of these errors, and nothing else has."""
    assert client.until(RST_STREAM, sid).code in codes
    assert client.is_alive()


def works(client: RawClient, sid: int, fields: list[tuple[str, str]] = GET) -> None:
    """A request on this stream is answered."""
    client.send(client.headers(sid, fields))
    assert client.response(sid)[0][":status"] == "200"


def opened(client: RawClient, sid: int = 1) -> None:
    """A stream that is open: its request goes on."""
    client.send(client.headers(sid, POST, END_HEADERS))
