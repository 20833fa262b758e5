"""The proxy in front of a server of our own, over every wire between the two, with clients of both versions: what goes
in comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hemi.web.request import Request
from hemi.web.response import Response
from tests.h2client import H2Client
from tests.web.proxy.proxykit import proxying
from tests.webkit import Site, dial, until
from tests.wires import Wire

BIG = hashlib.shake_128(b"proxy").digest(3_000_000)


def app(req: Request, resp: Response) -> bool:
    if req.path == "/echo":
        content = req.content()
        resp.add_header("x-got", str(len(content)))
        resp.send(content)
    elif req.path == "/stream":
        resp.begin()
        for data in req:
            resp.echo(data)
        resp.add_trailer("x-sum", "1")
        for name, value in req.trailers.all_items():
            resp.add_trailer(name, value)
    else:
        resp.send(f"{req.method} {req.uri()} {req.header('x-forwarded-for')}".encode())
    return True


@contextmanager
def both(wire: Wire, **proxy: Any) -> Iterator[tuple[Site, Site]]:
    """The proxy, and the server behind it. On another address, as stages share what has the same."""
    backend: dict[str, Any] = {}
    if wire.transport == "tls":
        backend = {"tls": True, "tls_server_name": "localhost", "tls_ca": str(wire.folder / "ca.pem")}
    if wire.version == "2.0":
        backend["version"] = "2"
    with (
        wire.serve(app) as origin,
        proxying(origin.address, backend=backend, address="127.0.0.2:0", **proxy) as site,
    ):
        yield site, origin


def connect(site: Site, front: str) -> Any:
    """A client of this version."""
    return site.connect() if front == "h1" else H2Client(dial(site.address))


@pytest.mark.parametrize("front", ["h1", "h2"])
@pytest.mark.parametrize("buffer", [False, True])
def test_contents(wire: Wire, buffer: bool, front: str) -> None:
    with (
        both(wire, buffer_request=buffer, buffer_response=buffer) as (site, origin),
        connect(site, front) as client,
    ):
        for data in (b"", b"x", BIG[:70_000], BIG):
            # More than buffers hold, both ways at once, would need a client that reads while it sends.
            for path in ("/echo", "/stream") if buffer or len(data) < 100_000 else ("/echo",):
                client.request("POST", path, content=data)
                answer = client.answer()
                assert answer.status == 200, site.log.entries + origin.log.entries
                assert answer.content == data
            client.request("POST", "/stream", content=[data[:1000] or b"x", data[1000:70_000] or b"y"])
            answer = client.answer()
            assert answer.content == (data[:1000] or b"x") + (data[1000:70_000] or b"y")
            assert answer.trailers == [("x-sum", "1")]
        client.request("POST", "/stream", content=[b"a", b"b"], trailers=[("X-Behind", "it")])
        answer = client.answer()
        assert (answer.content, answer.trailers) == (b"ab", [("x-sum", "1"), ("x-behind", "it")])
        client.request("GET", "/p?q=1")
        assert client.answer().content == b"GET /p?q=1 127.0.0.1"
        until(lambda: len(origin.conns) == 1)
