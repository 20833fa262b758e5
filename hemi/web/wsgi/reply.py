"""The reply of a WSGI app (PEP 3333): from start_response and the iterable to the response of the exchange.

Laws of this module:
- The head goes out with the first piece that is not empty, or with the first call of `write`; until then the app may
  change its mind by `exc_info`.
- A piece is on its way before the next one is asked for.
- The framing is never false. A Content-Length that is too small cuts the rest off, one that is too large resets the
  connection (if not a byte has gone out yet, the answer is a 500); both are logged.
- A reply that is there as a whole goes out in one write with its length, whether the app gave one or not.
- The reason phrase is ours: HTTP/2 and /3 have none, and clients must ignore it (RFC 9112 §4).
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from tempfile import SpooledTemporaryFile, _TemporaryFileWrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from hemi.web.errors import AlreadySent, LengthMismatch
from hemi.web.fields import check_name, check_value
from hemi.web.statuses import NO_CONTENT
from hemi.web.wsgi.input import Input, InputFailed, NoInput

if TYPE_CHECKING:
    from hemi.web.response import Response

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

MAX_KNOWN = 4096
"""How many different fields and statuses are remembered with what they come to."""
LONGEST_KNOWN = 256
PIECE = 65536
"""Bytes read at once from a file that cannot go out by sendfile(2)."""

PLAIN, TYPE, LENGTH, DATE, SERVER = range(5)
_KINDS = {b"content-type": TYPE, b"content-length": LENGTH, b"date": DATE, b"server": SERVER}
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)

_statuses: dict[str, int] = {}
_fields: dict[tuple[str, str], tuple[int, Any]] = {}


def parse_status(status: str) -> int:
    """The code of a status like "200 OK". Raises TypeError or ValueError."""
    if not isinstance(status, str):
        raise TypeError(f'the status must be a str like "200 OK", not {status!r}')
    code = status[:3]
    if not (code.isascii() and code.isdigit() and status[3:4] in ("", " ") and 200 <= int(code) <= 599):
        raise ValueError(f'the status must be like "200 OK", with a code of 200 to 599, not {status!r}')
    check_value(status)
    if len(_statuses) < MAX_KNOWN and len(status) < LONGEST_KNOWN:
        _statuses[status] = int(code)
    return int(code)


def parse_field(field: tuple[str, str]) -> tuple[int, Any]:
    """What a field comes to: its kind, and the type as text, the length as a number, others as a pair of bytes.

    Raises TypeError, or ValueError for what can't be sent (CR, LF, beyond latin-1) and for fields of the connection,
    which are not the app's business (PEP 3333, "Other HTTP Features").
    """
    if not (isinstance(field, tuple) and len(field) == 2 and all(isinstance(text, str) for text in field)):
        raise TypeError(f"a header must be a tuple of two str, not {field!r}")
    name, value = check_name(field[0]).lower(), check_value(field[1])
    if name in _HOP_BY_HOP:
        raise ValueError(f"an app must not set {field[0]}: it belongs to the connection, not to the response")
    kind = _KINDS.get(name, PLAIN)
    result: tuple[int, Any] = (kind, (name, value))
    if kind == TYPE:
        result = (TYPE, value.decode("latin-1"))
    elif kind == LENGTH:
        if not value.isdigit() or len(value) > 19:
            raise ValueError(f"Content-Length must be a number of bytes, not {field[1]!r}")
        result = (LENGTH, int(value))
    if len(field[1]) < LONGEST_KNOWN:
        if len(_fields) >= MAX_KNOWN:
            _fields.clear()
        _fields[field] = result
    return result


class Reply:
    """One call of an app: `start` is its start_response."""

    __slots__ = ("_resp", "_source", "_started", "_whole")

    def __init__(self, resp: Response, source: Input | NoInput) -> None:
        self._resp = resp
        self._source = source
        self._started = False
        self._whole = False  # all that was promised has gone out

    def __repr__(self) -> str:
        return f"<Reply {'started' if self._started else 'new'} {self._resp!r}>"

    # What the app calls

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Takes status and headers, which go out later; with `exc_info` in place of those taken before.

        Raises what is in `exc_info` when it is too late.
        """
        resp = self._resp
        if self._started or exc_info is not None:
            self._restart(exc_info)
        code = _statuses.get(status) or parse_status(status)
        content_type, size, has_date, has_server = "", -1, False, False
        fields = []
        for field in headers:
            kind, value = _fields.get(field) or parse_field(field)
            if kind == PLAIN:
                fields.append(value)
            elif kind == TYPE:
                content_type = value
            elif kind == LENGTH:
                if size not in (-1, value):
                    raise ValueError(f"there are two Content-Lengths, {size} and {value}")
                size = value
            else:
                has_date, has_server = has_date or kind == DATE, has_server or kind == SERVER
                fields.append(value)
        if code >= 500 and self._source.failure is not None:
            raise self._source.failure  # the client made it fail, and is told so
        resp.status, resp.fields, resp.content_type, resp.content_size = code, fields, content_type, size
        resp.has_date, resp.has_server = has_date, has_server
        self._started = True
        return self.write

    def _restart(self, exc_info: ExcInfo | None) -> None:
        if exc_info is None:
            raise RuntimeError("start_response was called again without exc_info")
        try:
            if self._resp.is_sent:
                raise exc_info[1].with_traceback(exc_info[2])
        finally:
            exc_info = None  # PEP 3333: no circular reference

    def write(self, data: bytes) -> None:
        """Sends a piece; the first one sends the head before it. Raises LengthMismatch, ClientGone (an OSError)."""
        resp = self._resp
        if data.__class__ is not bytes:
            data = _as_bytes(data)
        if not resp.is_sent:
            if not self._started:
                _not_started()
            if data and len(data) == resp.content_size and not resp.revisers:
                self._whole = True
                resp.deliver(data)
                return
            resp.open()
            if not data:
                resp.flush()
        elif self._whole:
            if data:
                resp.stream.keep_alive = False
                raise LengthMismatch(
                    f"more content was sent than the Content-Length of {resp.content_size} bytes"
                )
            return
        resp.echo(data)

    def early_hints(self, headers: Iterable[tuple[str, str]]) -> None:
        """wsgi.early_hints: sends 103 Early Hints (RFC 8297) with these fields, if the client may get it."""
        resp = self._resp
        if resp.is_sent:
            raise AlreadySent("the head of the response has gone out already")
        fields = [(check_name(name).lower(), check_value(value)) for name, value in headers]
        if resp.stream.has_informational:
            resp.stream.send_informational(103, fields)

    # What the handlet calls

    def answer(self, result: Any) -> None:
        """Sends what the app returned. The caller closes it."""
        kind = result.__class__
        if kind is list or kind is tuple:
            resp = self._resp
            if not resp.is_sent:
                content = result[0] if len(result) == 1 else b"".join([_as_bytes(piece) for piece in result])
                if content.__class__ is not bytes:
                    content = _as_bytes(content)
                # What nearly every app does; two calls less.
                if (
                    self._started
                    and resp.content_size in (-1, len(content))
                    and not resp.revisers
                    and (content or resp.request.method != "HEAD")
                ):
                    resp.stream.send_whole(resp, content)
                else:
                    self._send_whole(content)
                return
        elif kind is FileWrapper:
            if self._send_file(result):
                return
            if self._resp.content_size >= 0:  # a range: the file stands at its start
                result = _first(result, self._resp.content_size)
        elif not hasattr(result, "__iter__") or isinstance(result, (str, bytes)):
            raise TypeError(f"an app must return an iterable of bytes, not {result!r:.80}")
        self._iterate(result)

    def _iterate(self, pieces: Iterable[bytes]) -> None:
        resp = self._resp
        is_head = resp.request.method == "HEAD"
        for piece in pieces:
            if piece:
                self.write(piece)
                if is_head:
                    break  # nothing of it is sent, and it could be endless
            elif piece.__class__ is not bytes:
                _as_bytes(piece)
        if not resp.is_sent:
            self._send_whole(b"")
        elif not self._whole:
            resp.finish()

    def _send_whole(self, content: bytes) -> None:
        resp = self._resp
        if not self._started:
            _not_started()
        promised = resp.content_size
        if promised < 0 and not content and resp.request.method == "HEAD":
            resp.open()  # the app may have left the content out: how long that of a GET is, it has not said
            resp.finish()
            return
        if promised >= 0 and promised != len(content):
            if resp.status in NO_CONTENT or resp.request.method == "HEAD":
                content = b""
            elif not content:
                raise LengthMismatch(f"there is no content, where Content-Length promised {promised} bytes")
            else:
                resp.open()
                resp.stream.send_data(content)
                resp.finish()
                return
        resp.deliver(content)

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Sends a file by sendfile(2) from where it stands; False when it must be read instead."""
        resp = self._resp
        part = None if resp.revisers or resp.is_sent or not self._started else part_of(wrapper.filelike)
        if part is None:
            return False
        file, start, size = part
        if resp.content_size < 0:
            resp.content_size = size
        elif size > resp.content_size:
            size = resp.content_size  # a range: the file stands at its start
        resp.open()
        resp.stream.send_file(file, start, size, last=True)
        return True


class FileWrapper:
    """wsgi.file_wrapper: an iterable over the rest of a file, which goes out by sendfile(2) where that is possible."""

    __slots__ = ("block_size", "filelike")

    def __init__(self, filelike: Any, block_size: int = 8192) -> None:
        self.filelike = filelike
        self.block_size = max(block_size, PIECE)

    def __repr__(self) -> str:
        return f"<FileWrapper of {self.filelike!r}>"

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.block_size)
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        """Closes the file, if it can be closed."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


def part_of(file: Any) -> tuple[int, int, int] | None:
    """Descriptor, position and remaining bytes of a regular file; None for whatever else can be read.

    Only for types that are known to show what is in the file: GzipFile too has a fileno, of the compressed bytes.
    """
    if isinstance(file, (_TemporaryFileWrapper, SpooledTemporaryFile)):
        file = getattr(file, "file", None) or getattr(file, "_file", None)
    raw = getattr(file, "raw", file)
    if type(file) not in (io.BufferedReader, io.BufferedRandom, io.FileIO) or type(raw) is not io.FileIO:
        return None
    try:
        if type(file) is io.BufferedRandom:
            file.flush()
        found, start = os.fstat(file.fileno()), file.tell()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return file.fileno(), start, max(0, found.st_size - start)


def _first(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The first `size` bytes of all pieces."""
    for piece in pieces:
        yield piece[:size]
        size -= len(piece)
        if size <= 0:
            break


def _as_bytes(data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise TypeError(f"the content must be bytes, not {type(data).__name__}")
    return data


def _not_started() -> NoReturn:
    raise RuntimeError("the app has content, but never called start_response")


__all__ = ["FileWrapper", "InputFailed", "Reply"]
