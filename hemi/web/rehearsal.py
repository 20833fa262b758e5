"""Rehearsal: the requests that a new process makes of itself before it is said to be ready (`warm_up` of a server).

They go through a gate as a client's do, over a socketpair instead of the network: the sockets that listen are shared
with other processes, and whoever connects there may meet an old one.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hemi.errors import EnvError

if TYPE_CHECKING:
    from hemi.web.server import HTTPXServer

__all__ = ["problem_of", "rehearse"]

LEAST_BAD = 500
"""From this status on, an answer says that the site does not work."""


def problem_of(url: str) -> str:
    """What is wrong with an entry of `warm_up`; "" when nothing is."""
    try:
        parts = urlsplit(url)
        fits = (parts.scheme in ("http", "https") and bool(parts.hostname)) or url.startswith("/")
    except ValueError:
        fits = False
    if fits and url.isascii() and url.isprintable() and " " not in url and "#" not in url:
        return ""
    return f'must be a path or a URL such as "/login" or "http://www.example.com/login", not "{url}"'


def rehearse(server: HTTPXServer, url: str) -> None:
    """Makes a GET request of a server. Raises EnvError unless it is answered, below 500."""
    from http.client import HTTPException  # 15 ms with what it imports, for those alone who warm up

    parts = urlsplit(url)
    host = parts.netloc or _usual_host(server)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        status = _ask(server, host, target)
    except (OSError, HTTPException) as error:
        raise EnvError(f"warm_up: GET {url} has no answer: {type(error).__name__}: {error}") from error
    if status >= LEAST_BAD:
        raise EnvError(f"warm_up: the answer to GET {url} must be below 500, not {status}; see the error log")


def _usual_host(server: HTTPXServer) -> str:
    names = (str(name) for webapp in server.webapps for name in webapp.hostnames)
    return next((name for name in names if "*" not in name), "localhost")


def _ask(server: HTTPXServer, host: str, target: str) -> int:
    from http.client import HTTPConnection

    sock = server.gates[0].connect()
    try:
        if server.proxy_protocol and server.is_proxy("127.0.0.1"):
            sock.sendall(b"PROXY UNKNOWN\r\n")
        if server.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # it is ourselves
            sock = context.wrap_socket(sock, server_hostname=host.rpartition(":")[0] or host)
        client = HTTPConnection("localhost")
        client.sock = sock
        client.request("GET", target, headers={"Host": host, "User-Agent": "gorox", "Connection": "close"})
        response = client.getresponse()
        while response.read(1 << 16):
            pass
        return response.status
    finally:
        sock.close()
