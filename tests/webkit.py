"""Web servers in the process and strict clients for the tests of the web.

`serve(app)` runs a whole stage around a Python function. Clients write raw bytes and read answers with a parser of
their own, which takes nothing that RFC 9112 does not allow. All waiting is gevent's and has a deadline.
"""

from __future__ import annotations

import errno
import itertools
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import gevent
from gevent import socket, ssl

import hemi.web.server
import hemi.web.webapp  # noqa: F401  registers its components
from hemi import component as registry
from hemi.component import prop
from hemi.config import Dirs, load_mapping
from hemi.stage import Stage
from hemi.web.handlet import Handlet
from hemi.web.request import Request
from hemi.web.response import Response
from tests.waiting import TIMEOUT
from tests.waiting import until as until

App = Callable[[Request, Response], "bool | None"]

_apps: dict[str, App] = {}
_numbers = itertools.count(1)


class Scripted(Handlet, sign="scripted"):
    """Runs a Python function of a test."""

    app: str = prop(doc="The key of the function.")

    def prepare(self) -> None:
        self.handle = _apps[self.app]  # type: ignore[method-assign]


# Only what is loaded here may see it: other tests look at all that is registered.
_handlets = registry._registry["handlets"]
_handlets.pop("scripted", None)


def scripted(app: App) -> dict[str, Any]:
    """The configuration of a handlet that runs this function."""
    key = f"app{next(_numbers)}"
    _apps[key] = app
    return {"scripted": {"app": key}}


def load(mapping: dict[str, Any], folder: str | None = None, debug: int = 0) -> Stage:
    """Loads a configuration that may use `scripted`."""
    folder = folder or tempfile.gettempdir()
    table = registry._registry["handlets"]
    table["scripted"] = Scripted
    try:
        return load_mapping(mapping, Dirs(folder, folder, folder, folder), debug=debug)
    finally:
        del table["scripted"]


class Entry(NamedTuple):
    """One line of the error log."""

    level: str
    subsystem: str
    message: str
    exc: BaseException | None


class Log:
    """Stands in for the error log of a stage."""

    level = "debug"
    logger: Any = None

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def debug(self, subsystem: str, message: str, exc: BaseException | None = None) -> None:
        self.entries.append(Entry("debug", subsystem, message, exc))

    def info(self, subsystem: str, message: str, exc: BaseException | None = None) -> None:
        self.entries.append(Entry("info", subsystem, message, exc))

    def warning(self, subsystem: str, message: str, exc: BaseException | None = None) -> None:
        self.entries.append(Entry("warning", subsystem, message, exc))

    def error(self, subsystem: str, message: str, exc: BaseException | None = None) -> None:
        self.entries.append(Entry("error", subsystem, message, exc))

    def of(self, level: str, subsystem: str | None = None) -> list[Entry]:
        """What was logged at a level."""
        return [
            entry for entry in self.entries if entry.level == level and subsystem in (None, entry.subsystem)
        ]


class Access(NamedTuple):
    """One line of the access log."""

    status: int
    line: str
    bytes_sent: int
    src_host: str


class Site:
    """A running stage with one server."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.log = Log()
        self.access: list[Access] = []
        stage.log = self.log  # type: ignore[assignment]
        stage.prepare()
        self.server: Any = next(iter(stage.members["servers"].values()))
        self._record()

    def _record(self) -> None:
        def record(resp: Response) -> None:
            request = resp.request
            self.access.append(Access(resp.status, request.line(), resp.bytes_sent, request.src_host))

        for server in self.stage.members["servers"].values():
            if server.record is None:
                server.record = record
        for webapp in self.stage.members["webapps"].values():
            if webapp.record is None:
                webapp.record = record
                for rule in webapp.rules:
                    rule.record = record if rule.log_access else None

    @property
    def address(self) -> str:
        return str(self.server.addresses[0])

    @property
    def conns(self) -> set[Any]:
        """The connections of all gates."""
        return {conn for gate in self.server.gates for conn in gate.conns}

    def connect(self, number: int = 0, **more: Any) -> Client:
        """A client of the server's address of this number."""
        return Client(dial(self.server.addresses[number], **more))

    def get(self, target: str = "/", **fields: str) -> Answer:
        """One GET on a connection of its own."""
        with self.connect() as client:
            client.request("GET", target, {name.replace("_", "-"): value for name, value in fields.items()})
            return client.answer()


@contextmanager
def running(mapping: dict[str, Any], folder: str | None = None, debug: int = 0) -> Iterator[Site]:
    """A site of a whole configuration."""
    stage = load(mapping, folder, debug)
    site = Site(stage)
    stage.start()
    try:
        yield site
    finally:
        stage.stop(time.monotonic() + 0.2)


def config(
    app: App | None = None,
    *,
    address: str | list[str] = "127.0.0.1:0",
    server: dict[str, Any] | None = None,
    webapp: dict[str, Any] | None = None,
    rules: list[dict[str, Any]] | None = None,
    stage: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A configuration with one server and one webapp for all host names."""
    if rules is None:
        rules = [{"handlets": [scripted(app or hello)]}]
    return {
        **(stage or {}),
        "webapps": {"app": {"hostnames": ["*"], "rules": rules, **(webapp or {})}},
        "servers": {
            "main": {"type": "httpx_server", "address": address, "webapps": ["app"], **(server or {})}
        },
    }


@contextmanager
def serve(app: App | None = None, **more: Any) -> Iterator[Site]:
    """A site that answers every request by `app(req, resp)`; see `config` for the rest."""
    folder, debug = more.pop("folder", None), more.pop("debug", 0)
    with running(config(app, **more), folder, debug) as site:
        yield site


def hello(req: Request, resp: Response) -> bool:
    """The least of apps."""
    resp.content_type = "text/plain"
    resp.send(b"hello")
    return True


# Clients


class Malformed(AssertionError):
    """The server sent what is no HTTP."""


class Answer(NamedTuple):
    """A response. `informational` are the heads of the 1xx responses before it."""

    version: str
    status: int
    fields: list[tuple[str, str]]
    content: bytes
    trailers: list[tuple[str, str]]
    informational: list[tuple[int, list[tuple[str, str]]]]

    def header(self, name: str) -> str | None:
        """The only value of a field, or None."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        """The server said that it is the last one."""
        return "close" in (self.header("connection") or "").lower()


_STATUS = re.compile(rb"HTTP/(1\.1) ([1-5][0-9][0-9]) ([\t -~\x80-\xff]*)")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_CHUNK = re.compile(rb"([0-9a-f]+)")


def dial(
    address: str,
    *,
    tls: ssl.SSLContext | None = None,
    name: str = "localhost",
    timeout: float = TIMEOUT,
    rcvbuf: int = 0,
) -> Any:
    """A connected socket to an address as servers report it."""
    if address.startswith(("/", "@")):
        sock = socket.socket(socket.AF_UNIX)
        target: Any = "\0" + address[1:] if address.startswith("@") else address
    else:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        host = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(host, host)
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = (host, int(port))
    if rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    sock.settimeout(timeout)
    try:
        sock.connect(target)
        return tls.wrap_socket(sock, server_hostname=name) if tls is not None else sock
    except BaseException:
        sock.close()
        raise


class Closing:
    """What clients of all versions have in common: `sock`, and how it ends."""

    sock: Any

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def rest(self) -> bytes:
        """All until the server closes. Raises ConnectionResetError when it resets."""
        raise NotImplementedError

    def is_closed(self) -> bool:
        """Waits for the end; True when nothing came before it. A reset counts as an end."""
        try:
            return self.rest() == b""
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE):
                raise
            return True


class Client(Closing):
    """One HTTP/1 connection to a server."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.buffer = b""
        self.ended = False

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.sock.sendall(data)

    def drip(self, data: bytes) -> None:
        """Sends byte by byte; the server gets its turn after each one."""
        for at in range(len(data)):
            self.sock.sendall(data[at : at + 1])
            gevent.sleep(1e-6)  # with 0, the loop would not look at its sockets each time

    def shutdown(self) -> None:
        """Says that nothing more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        fields: dict[str, str] | Iterable[tuple[str, str]] = (),
        content: bytes | list[bytes] | None = None,
        trailers: Iterable[tuple[str, str]] = (),
        host: str | None = "a.example",
    ) -> None:
        """Sends a request; a list is sent as chunks."""
        lines = [f"{method} {target} HTTP/1.1"]
        if host is not None:
            lines.append(f"Host: {host}")
        pairs = fields.items() if isinstance(fields, dict) else fields
        lines += [f"{name}: {value}" for name, value in pairs]
        if isinstance(content, bytes):
            lines.append(f"Content-Length: {len(content)}")
            body = content
        elif content is not None:
            lines.append("Transfer-Encoding: chunked")
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in content)
            body += b"0\r\n" + b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in trailers)
            body += b"\r\n"
        else:
            body = b""
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    # Answers

    def _more(self) -> None:
        if self.ended:
            raise Malformed(f"the connection ended in the middle of an answer, behind {self.buffer[-200:]!r}")
        try:
            data = self.sock.recv(65536)
        except ssl.SSLError as error:
            raise Malformed(f"TLS failed: {error}") from error
        if not data:
            self.ended = True
        self.buffer += data

    def _line(self) -> bytes:
        while (at := self.buffer.find(b"\r\n")) < 0:
            self._more()
        line, self.buffer = self.buffer[:at], self.buffer[at + 2 :]
        if b"\n" in line or b"\r" in line:
            raise Malformed(f"a line has a bare CR or LF: {line!r}")
        return line

    def _fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := self._line():
            match = _FIELD.fullmatch(line)
            if match is None:
                raise Malformed(f"not a field line: {line!r}")
            name, value = match.groups()
            fields.append((name.decode(), (value or b"").decode("latin-1")))
        return fields

    def exactly(self, size: int) -> bytes:
        """The next bytes."""
        while len(self.buffer) < size:
            self._more()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def head(self) -> tuple[str, int, list[tuple[str, str]]]:
        """A status line and the fields behind it."""
        line = self._line()
        match = _STATUS.fullmatch(line)
        if match is None:
            raise Malformed(f"not a status line: {line!r}")
        return match[1].decode(), int(match[2]), self._fields()

    def answer(self, method: str = "GET") -> Answer:
        """The next response, with the 1xx before it."""
        informational = []
        while True:
            version, status, fields = self.head()
            if status >= 200 or status == 101:
                break
            informational.append((status, fields))
        answer = Answer(version, status, fields, b"", [], informational)
        coding, length = answer.header("transfer-encoding"), answer.header("content-length")
        if coding is not None and length is not None:
            raise Malformed("both a Transfer-Encoding and a Content-Length")
        if status in (101, 204):
            assert coding is None and length is None, f"{status} with framing fields"
            return answer
        if status == 304 or method == "HEAD":
            return answer
        if coding is not None:
            assert coding == "chunked"
            content, trailers = self._chunks()
            return answer._replace(content=content, trailers=trailers)
        if length is not None:
            assert length.isdigit()
            return answer._replace(content=self.exactly(int(length)))
        assert answer.closes or version == "1.0", "neither a length nor a close"
        return answer._replace(content=self.rest())

    def chunk(self) -> bytes:
        """The next chunk, b"" for the last one."""
        line = self._line()
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise Malformed(f"not a chunk size: {line!r}")
        size = int(line, 16)
        if not size:
            return b""
        data = self.exactly(size)
        if self.exactly(2) != b"\r\n":
            raise Malformed("a chunk does not end with CR LF")
        return data

    def _chunks(self) -> tuple[bytes, list[tuple[str, str]]]:
        chunks = []
        while data := self.chunk():
            chunks.append(data)
        return b"".join(chunks), self._fields()

    def rest(self) -> bytes:
        """All until the server closes. Raises ConnectionResetError when it resets."""
        while not self.ended:
            self._more()
        data, self.buffer = self.buffer, b""
        return data
