"""Active health checks: asking each node now and then how it is.

A check is a component in `checks:` of a backend, of the sign http, tcp, tls or udp; a backend may have several, and
a node must pass them all. For each node and check a greenlet runs a `Watch`, which counts what comes out.
"""

from __future__ import annotations

import random
import re
import ssl
from _socket import socket as RawSocket
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import gevent
from gevent.socket import wait_read
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from hemi.component import Component, prop
from hemi.upstream.dial import Dialed, dial, dial_datagrams
from hemi.upstream.errors import DialFailed, reason_of
from hemi.upstream.ranges import parse_ranges
from hemi.values import Addr, Duration, Pattern

if TYPE_CHECKING:
    from hemi.upstream.backend import Backend
    from hemi.upstream.node import Node

__all__ = ["Check", "GRPCCheck", "HTTPCheck", "TCPCheck", "TLSCheck", "UDPCheck", "Watch"]

MAX_ANSWER = 65536
"""Bytes of an answer that are looked at."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")
_PATH = re.compile(r"/[\x21-\x7e]*")


class Check(Component, kind="checks", nested=True):
    """A way to find out how a node is."""

    interval: Duration = prop("5s", "How often.", least="10ms", inherit=False)
    jitter: float = prop(
        0.2,
        "By how much of the interval the moments vary, so that they spread.",
        least=0,
        most=1,
        inherit=False,
    )
    timeout: Duration = prop("2s", "How long one may take.", least="10ms", inherit=False)
    rise: int = prop(2, "After how many passes in a row a node is up again.", least=1, inherit=False)
    fall: int = prop(3, "After how many failures in a row a node is down.", least=1, inherit=False)
    initial: Literal["up", "down"] = prop(
        "up",
        "What a node is before its first check; after it, a node that began as down is what it found.",
        inherit=False,
    )
    port: int = prop(0, "The port to check; 0 is the node's.", least=0, most=65535, inherit=False)

    context: ssl.SSLContext | None = None
    speaks_tls: bool | None = None  # None: as the backend does

    @property
    def title(self) -> str:
        """What the log calls it; different for each check of a backend."""
        return f"{self.sign} check" + (f" of port {self.port}" if self.port else "")

    def probe(self, node: Node) -> str:
        """Why a node fails the check, "" when it passes. Waits. Raises DialFailed when this machine cannot check."""
        deadline = monotonic() + self.timeout
        backend = node.backend
        encrypted = backend.tls if self.speaks_tls is None else self.speaks_tls
        try:
            channel = dial(
                node.address._replace(port=self.port) if self.port else node.address,
                node.stage.resolv,
                timeout=self.timeout,
                tls=backend.check_context(self.protocols(backend)) if encrypted else None,
                server_name=node.tls_server_name or "",
                prefix=backend.check_prefix,
            )
            with _within(channel, deadline):
                return self.talk(node, channel)
        except DialFailed as error:
            if error.is_local:
                raise
            return f"{error.phase}: {error.reason}"
        except TimeoutError:
            return f"no answer within {self.timeout:g} s"
        except OSError as error:
            return reason_of(error)

    def protocols(self, backend: Backend) -> tuple[str, ...]:
        """What to offer in a TLS handshake."""
        return ()

    def talk(self, node: Node, channel: Dialed) -> str:
        """What there is to do on a connection. Raises OSError."""
        return ""


@contextmanager
def _within(channel: Dialed, deadline: float) -> Iterator[None]:
    """Closes the channel at the end, and raises TimeoutError when that comes too late."""
    try:
        with gevent.Timeout(max(0.001, deadline - monotonic()), TimeoutError()):
            yield
    finally:
        channel.close()


class TCPCheck(Check, sign="tcp"):
    """Passes when the node accepts a connection (TCP or Unix domain)."""

    speaks_tls = False


class TLSCheck(Check, sign="tls"):
    """Passes when the node does a TLS handshake, with a certificate that the backend's tls_* properties accept."""

    speaks_tls = True


class UDPCheck(Check, sign="udp"):
    """Passes when the node answers a datagram (UDP or Unix domain), as expected if that is said."""

    request: str | None = prop(
        None, "What to send, as text; an empty datagram when nothing is said.", inherit=False
    )
    request_hex: str | None = prop(None, 'The same in hexadecimal: "0d 0a".', inherit=False)
    expect: Pattern | None = prop(
        None,
        "Regular expression that the answer must match, its bytes taken for Latin-1 text.",
        inherit=False,
    )
    expect_hex: str | None = prop(None, "What the answer must begin with, in hexadecimal.", inherit=False)
    silent: bool = prop(
        False,
        "The node need not answer: it fails only when ICMP says that nobody listens, within timeout.",
        inherit=False,
    )

    speaks_tls = False

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What is hexadecimal must be, and what is said twice or in vain is a mistake."""
        for name in ("request_hex", "expect_hex"):
            try:
                bytes.fromhex(getattr(self, name) or "")
            except ValueError:
                yield name, f'must be hexadecimal digits, not "{getattr(self, name)}"'
        if self.request is not None and self.request_hex is not None:
            yield "must have request or request_hex, not both"
        if self.silent and (self.expect is not None or self.expect_hex is not None):
            yield "silent", "must not be there with what is expected"

    def prepare(self) -> None:
        """Works out what is constant."""
        self.datagram = bytes.fromhex(self.request_hex or "") or (self.request or "").encode()
        self.beginning = bytes.fromhex(self.expect_hex or "")

    def probe(self, node: Node) -> str:
        """Why a node fails the check, "" when it passes. Waits. Raises DialFailed when this machine cannot check."""
        deadline = monotonic() + self.timeout
        address = node.address._replace(port=self.port) if self.port else node.address
        try:
            sock = dial_datagrams(address, node.stage.resolv, timeout=self.timeout)
        except DialFailed as error:
            if error.is_local:
                raise
            return f"{error.phase}: {error.reason}"
        try:
            with gevent.Timeout(max(0.001, deadline - monotonic()), TimeoutError()):
                sock.send(self.datagram)
                return self._judge(sock)
        except TimeoutError:
            return "" if self.silent else f"no answer within {self.timeout:g} s"
        except OSError as error:
            return reason_of(error)
        finally:
            sock.close()

    def _judge(self, sock: RawSocket) -> str:
        wait_read(sock.fileno())
        answer = sock.recv(MAX_ANSWER)
        if not answer.startswith(self.beginning):
            return f"its answer does not begin as expected: {answer[:16].hex()}"
        if self.expect is not None and not self.expect.search(answer.decode("latin-1")):
            return "its answer does not match"
        return ""


class HTTPCheck(Check, sign="http"):
    """Passes when the node answers a request with an expected status, and content if wanted."""

    version: Literal["1.1", "2"] | None = prop(
        None, "The version of HTTP; that of the backend when missing.", inherit=False
    )

    path: str = prop("/", "What to ask for, with a query if need be.", inherit=False)
    method: Literal["GET", "HEAD", "OPTIONS"] = prop("GET", "How to ask.", inherit=False)
    host: str | None = prop(None, "The Host field; the node's address when missing.", inherit=False)
    fields: dict[str, str] = prop({}, "Further header fields.", inherit=False)
    statuses: list[str] = prop(["200-399"], "What may be answered.", least=1, inherit=False)
    body: Pattern | None = prop(
        None, "Regular expression that the content must match, in its first 64K.", inherit=False
    )

    @property
    def title(self) -> str:
        """What the log calls it."""
        return f"{super().title} {self.path}"

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What goes into a request must not break it."""
        if not _PATH.fullmatch(self.path):
            yield "path", f'must be a path such as "/health", not "{self.path}"'
        if self.host is not None and not re.fullmatch(r"[\w.:\[\]-]+", self.host, re.ASCII):
            yield "host", f'must be a host name, with a port if need be, not "{self.host}"'
        for name, value in self.fields.items():
            if not _TOKEN.fullmatch(name) or name.lower() in ("host", "connection", "transfer-encoding"):
                yield "fields", f'must have names of further header fields, not "{name}"'
            elif value and not _VALUE.fullmatch(value):
                yield "fields", f'"{name}" must be printable ASCII text'
        if self.body is not None and self.method == "HEAD":
            yield "body", "must not be there with the method HEAD"
        try:
            parse_ranges(self.statuses)
        except ValueError as error:
            yield "statuses", str(error)

    def prepare(self) -> None:
        """Works out what is constant."""
        self.expected = parse_ranges(self.statuses)
        self.head = "".join(f"{name}: {value}\r\n" for name, value in self.fields.items())

    def protocols(self, backend: Backend) -> tuple[str, ...]:
        """Both versions where the backend takes both."""
        if self.version is None:
            return ("h2", "http/1.1") if _version_of(backend) == "2" else ()
        return ("h2",) if self.version == "2" else ()

    def talk(self, node: Node, channel: Dialed) -> str:
        """Asks, and judges the answer."""
        version = self.version or _version_of(node.backend)
        if version == "2" and channel.tls is not None and self.version is None:
            version = "1.1" if channel.tls.alpn == "http/1.1" else "2"
        return self._talk2(node, channel) if version == "2" else self._talk1(node, channel)

    def _talk2(self, node: Node, channel: Dialed) -> str:
        fields = [
            (b":method", self.method.encode()),
            (b":scheme", b"https" if channel.tls is not None else b"http"),
            (b":path", self.path.encode()),
            (b":authority", (self.host or _host_of(node, self.port)).encode()),
            (b"user-agent", b"gorox-check"),
            (b"accept", b"*/*"),
            *[(name.lower().encode(), value.encode()) for name, value in self.fields.items()],
        ]
        from hemi.upstream.http2ask import NotHTTP2, ask  # the h2 package: 25 ms that few have to pay

        try:
            answer = ask(channel, fields, whole=self.body is not None, most=MAX_ANSWER)
        except NotHTTP2 as error:
            return str(error)
        return self._judge(answer.status, answer.content)

    def _judge(self, status: int, content: bytes) -> str:
        if status not in self.expected:
            return f"status {status}"
        if self.body is not None and not self.body.search(content.decode("utf-8", "replace")):
            return "its content does not match"
        return ""

    def _talk1(self, node: Node, channel: Dialed) -> str:
        host = self.host or _host_of(node, self.port)
        channel.send(
            f"{self.method} {self.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: gorox-check\r\n"
            f"Accept: */*\r\nConnection: close\r\n{self.head}\r\n".encode("latin-1")
        )
        answer = _Answer(self.body is not None)
        size = 0
        while not answer.complete:
            data = channel.recv(16384)
            size += len(data)
            if not data and not answer.status:
                return "it closed the connection without an answer"
            if not data:
                break
            try:
                answer.feed(data)
            except HttpParserError:  # what is behind the response does not count
                if not answer.complete:
                    return "its answer is not HTTP"
            if size > MAX_ANSWER:
                if not answer.status:
                    return f"its answer has a head of more than {MAX_ANSWER} bytes"
                break
        return self._judge(answer.status, answer.content)


class GRPCCheck(Check, sign="grpc"):
    """Passes when the node says by the health checking protocol of gRPC that it serves (grpc.health.v1.Health)."""

    service: str = prop("", "The service to ask about; the whole server when empty.", inherit=False)
    host: str | None = prop(None, "The authority; the node's address when missing.", inherit=False)

    @property
    def title(self) -> str:
        """What the log calls it."""
        return f"{super().title} {self.service}".rstrip()

    def check(self) -> Iterator[str | tuple[str, str]]:
        """The name goes into a message whose sizes are bytes."""
        if len(self.service.encode()) > 127:
            yield "service", "must have at most 127 bytes"

    def protocols(self, backend: Backend) -> tuple[str, ...]:
        """There is no gRPC without HTTP/2."""
        return ("h2",)

    def talk(self, node: Node, channel: Dialed) -> str:
        """Asks, and judges the answer."""
        name = self.service.encode()
        message = b"\n%c%b" % (len(name), name) if name else b""  # field 1, of Protocol Buffers
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"https" if channel.tls is not None else b"http"),
            (b":path", b"/grpc.health.v1.Health/Check"),
            (b":authority", (self.host or _host_of(node, self.port)).encode()),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", b"gorox-check"),
        ]
        content = b"\0%b%b" % (len(message).to_bytes(4, "big"), message)
        from hemi.upstream.http2ask import NotHTTP2, ask  # the h2 package: 25 ms that few have to pay

        try:
            answer = ask(channel, fields, content, whole=True, most=MAX_ANSWER)
        except NotHTTP2 as error:
            return str(error)
        status = answer.fields.get(b"grpc-status", b"").decode("latin-1")
        if answer.status != 200 or not status:
            return f"its answer is not gRPC: status {answer.status}"
        if status != "0":
            return f"grpc-status {status}: {answer.fields.get(b'grpc-message', b'').decode('latin-1')[:200]}"
        serves = answer.content[5:] == b"\x08\x01"  # field 1 is SERVING
        return "" if serves else "it says that it does not serve"


def _version_of(backend: Backend) -> str:
    """The version of HTTP of a backend whose nodes speak it."""
    version: str = getattr(backend, "version", "1.1")
    return version


def _host_of(node: Node, port: int) -> str:
    address = node.address
    if address.path:
        return node.tls_server_name or "localhost"
    return str(Addr(node.tls_server_name or address.host or "localhost", port or address.port))


class _Answer:
    """The final response out of what a node sends: its status, and its content if wanted."""

    def __init__(self, wants_content: bool) -> None:
        self.status = 0
        self.content = b""
        self.complete = False
        self._wants_content = wants_content
        self._parser: Any = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Takes what came. Raises HttpParserError."""
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.complete = True

    def on_headers_complete(self) -> None:
        """The parser's call: a head is here, of the final response or of an interim one."""
        status = self._parser.get_status_code()
        if (status >= 200 or status == 101) and not self.complete:
            self.status = status
            self.complete = not self._wants_content

    def on_body(self, data: bytes) -> None:
        """The parser's call: some content."""
        if self.status and not self.complete:
            self.content = (self.content + data)[:MAX_ANSWER]

    def on_message_complete(self) -> None:
        """The parser's call: a response is at its end."""
        if self.status:
            self.complete = True


class Watch:
    """What one check says about one node, over time. `is_up` changes after `rise` or `fall` results in a row."""

    __slots__ = ("check", "count", "is_new", "is_up", "node")

    def __init__(self, check: Check, node: Node) -> None:
        self.check = check
        self.node = node
        self.is_up = check.title not in node.sick
        self.is_new = node.sick.get(check.title) == "not checked yet"
        self.count = 0  # results in a row that speak against is_up

    def note(self, why: str) -> bool:
        """Counts a result, "" for a pass; True when it changes `is_up`."""
        if (not why) == self.is_up:
            self.count = 0
            return False
        self.count += 1
        if self.count < (self.check.fall if self.is_up else 1 if self.is_new else self.check.rise):
            return False
        self.is_up = not self.is_up
        self.is_new = False
        self.count = 0
        return True

    def run(self, backend: Backend) -> None:
        """Checks for ever; the body of a greenlet."""
        check, node = self.check, self.node
        gevent.sleep(check.interval * check.jitter * random.random())
        while True:
            if node.order != "disabled":
                try:
                    backend.note_check(self, check.probe(node))
                except DialFailed as error:  # of which the node knows nothing
                    backend.log_warning(f"{check.title} is not possible: {error}")
                except Exception as error:  # a bug in a check must not end the checking
                    backend.stage.log.error("backend", f"{check.title} of {node.key} failed", error)
                    backend.note_check(self, f"{type(error).__name__}: {error}")
            gevent.sleep(check.interval * (1 + check.jitter * (2 * random.random() - 1)))
