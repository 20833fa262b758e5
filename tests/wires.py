"""The wires that exchanges travel on: a version of HTTP over a transport each.

A test that takes the fixture `wire` runs over all of them. What a version cannot do is said by `can`; later versions
join by a `Wire` of their own, whose clients have the verbs of `tests.webkit.Client` that are not HTTP/1's.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from gevent import ssl

from tests.h2client import H2Client
from tests.tlskit import Authority
from tests.webkit import App, Client, Site, config, dial, running

HTTP1 = frozenset({"raw", "chunks", "trailers", "keep-alive", "informational", "pipelining", "closes"})
"""What HTTP/1 can do: "raw" bytes are read as it reads them, and a refusal "closes" the connection."""
HTTP2 = frozenset({"trailers", "keep-alive", "informational", "streams"})


class Wire(NamedTuple):
    """A version of HTTP over a transport: "tcp", "uds" or "tls"."""

    name: str
    transport: str
    can: frozenset[str]
    folder: Path
    context: ssl.SSLContext | None = None
    identity: Any = None

    @contextmanager
    def serve(self, app: App | None = None, **more: Any) -> Iterator[Site]:
        """A site on this wire; see `tests.webkit.config`."""
        if self.transport == "uds":
            more["address"] = str(self.folder / f"{uuid.uuid4().hex[:12]}.sock")
        folder = more.pop("folder", None) or str(self.folder)
        mapping = config(app, **more)
        if self.transport == "tls":
            mapping["servers"]["main"]["tls"] = True
            mapping["webapps"]["app"] |= {
                "tls_certificate": self.identity.certificate,
                "tls_private_key": self.identity.private_key,
            }
        with running(mapping, folder) as site:
            yield site

    @property
    def version(self) -> str:
        """The version of HTTP, as logs write it."""
        return "2.0" if self.name.startswith("h2") else "1.1"

    def connect(self, site: Site, **more: Any) -> Any:
        """A client of the site: a `Client`, or for HTTP/2 an `H2Client`."""
        sock = dial(site.address, tls=self.context, **more)
        if self.version != "2.0":
            return Client(sock)
        if self.context is not None:
            assert sock.selected_alpn_protocol() == "h2"
        return H2Client(sock)


def http1_wires(folder: Path) -> list[Wire]:
    """HTTP/1 over all transports."""
    identity, context = _secure(folder)
    return [
        Wire("h1-tcp", "tcp", HTTP1, folder),
        Wire("h1-uds", "uds", HTTP1, folder),
        Wire("h1-tls", "tls", HTTP1, folder, context, identity),
    ]


def http2_wires(folder: Path) -> list[Wire]:
    """HTTP/2: by prior knowledge over TCP and Unix domain sockets, by ALPN over TLS."""
    identity, context = _secure(folder)
    context.set_alpn_protocols(["h2"])
    return [
        Wire("h2c-tcp", "tcp", HTTP2, folder),
        Wire("h2c-uds", "uds", HTTP2, folder),
        Wire("h2-tls", "tls", HTTP2, folder, context, identity),
    ]


def _secure(folder: Path) -> tuple[Any, ssl.SSLContext]:
    authority = Authority(folder)
    identity = authority.issue("localhost", "localhost", "*.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.file)
    return identity, context
