"""FastCGI records, as a web server sends and reads them (FastCGI specification 1.0). No sockets in here.

One request at a time on a connection: its id is always 1. What an application sends is checked record by record:
a wrong version, id, type or length means that nothing behind it can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

__all__ = [
    "ABORT",
    "END_OF_CONTENT",
    "FCGIError",
    "Reader",
    "begin",
    "content",
    "encode",
    "parameters",
    "whole",
]

VERSION = 1
BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR = range(1, 8)
GET_VALUES_RESULT, UNKNOWN_TYPE = 10, 11
RESPONDER = 1
KEEP_CONN = 1

MAX_RECORD = 65528
"""The most content of a record that is sent: the largest length that needs no padding to a multiple of 8."""

_HEAD = Struct(">BBHHBx")
_LONG = Struct(">I")
_LONG_PAIR = Struct(">II")

ABORT = _HEAD.pack(VERSION, ABORT_REQUEST, 1, 0, 0)
END_OF_CONTENT = _HEAD.pack(VERSION, STDIN, 1, 0, 0)
_END_OF_PARAMETERS = _HEAD.pack(VERSION, PARAMS, 1, 0, 0)
_BEGIN = [
    _HEAD.pack(VERSION, BEGIN_REQUEST, 1, 8, 0) + bytes((0, RESPONDER, flags, 0, 0, 0, 0, 0))
    for flags in (0, KEEP_CONN)
]
_REFUSALS = {
    1: "it cannot multiplex connections",
    2: "it is overloaded",
    3: "it does not know the role of a responder",
}


class FCGIError(Exception):
    """What came is not what an application may send."""


def begin(keep: bool) -> bytes:
    """The record that begins a request; `keep` asks to leave the connection open behind it."""
    return _BEGIN[keep]


def encode(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Parameters as they are written; what several calls give can be put one behind the other."""
    pieces: list[bytes] = []
    for name, value in pairs:
        name_size, value_size = len(name), len(value)
        if name_size < 128 and value_size < 128:
            pieces.append(bytes((name_size, value_size)))
        elif name_size < 128:
            pieces.append(bytes((name_size,)) + _LONG.pack(value_size | 0x80000000))
        elif value_size < 128:
            pieces.append(_LONG.pack(name_size | 0x80000000) + bytes((value_size,)))
        else:
            pieces.append(_LONG_PAIR.pack(name_size | 0x80000000, value_size | 0x80000000))
        pieces.append(name)
        pieces.append(value)
    return b"".join(pieces)


def parameters(block: bytes) -> bytes:
    """Encoded parameters, over as many records as they need, with the empty record behind them."""
    return _records(PARAMS, block) + _END_OF_PARAMETERS


def content(data: bytes) -> bytes:
    """A piece of the request's content; END_OF_CONTENT goes behind the last one."""
    return _records(STDIN, data)


def _records(kind: int, data: bytes) -> bytes:
    size = len(data)
    if size <= MAX_RECORD:
        return _HEAD.pack(VERSION, kind, 1, size, 0) + data if size else b""
    pieces: list[bytes] = []
    for at in range(0, size, MAX_RECORD):
        piece = data[at : at + MAX_RECORD]
        pieces.append(_HEAD.pack(VERSION, kind, 1, len(piece), 0))
        pieces.append(piece)
    return b"".join(pieces)


def whole(data: bytes) -> tuple[int, int] | None:
    """Where the output lies in an answer that came at once, in one record, without errors: what applications send for
    small pages. None for all that `Reader` must look at."""
    if data[:4] != _OUTPUT or len(data) < 24:
        return None
    end = 8 + (data[4] << 8 | data[5])
    rest = data[end + data[6] :]
    if rest[:8] == _NO_OUTPUT:
        rest = rest[8:]
    if len(rest) != 16 or rest[:8] != _END or rest[12]:
        return None
    return 8, end


_OUTPUT = bytes((VERSION, STDOUT, 0, 1))
_NO_OUTPUT = _HEAD.pack(VERSION, STDOUT, 1, 0, 0)
_END = _HEAD.pack(VERSION, END_REQUEST, 1, 8, 0)


class Reader:
    """Takes apart what an application sends for one request, as it arrives.

    `done` says that the request has ended, `app_status` is the exit status it ended with, `errors` collects what came
    on stderr until somebody clears it, `excess` says that something came behind the end.
    """

    __slots__ = ("_ending", "_head", "_kind", "_left", "_padding", "app_status", "done", "errors", "excess")

    def __init__(self) -> None:
        self.done = False
        self.app_status = 0
        self.errors: list[bytes] = []
        self.excess = False
        self._head = b""  # of a record, as far as it has come
        self._kind = 0
        self._left = 0
        self._padding = 0
        self._ending = b""

    def __repr__(self) -> str:
        return f"<Reader {'done' if self.done else 'open'} kind={self._kind} left={self._left}>"

    def feed(self, data: bytes) -> bytes:
        """Takes what has arrived; returns what of it belongs to stdout. Raises FCGIError."""
        if self._head:
            data, self._head = self._head + data, b""
        out: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self._take(piece, out)
            elif self._padding:
                skipped = min(self._padding, size - at)
                at += skipped
                self._padding -= skipped
            elif len(self._ending) == 8:
                self.excess = True
                break
            elif size - at < 8:
                self._head = data[at:]
                break
            else:
                self._open(*_HEAD.unpack_from(data, at))
                at += 8
        self.done = len(self._ending) == 8 and not self._padding
        return out[0] if len(out) == 1 else b"".join(out)

    def _open(self, version: int, kind: int, request: int, size: int, padding: int) -> None:
        """Looks at the head of a record."""
        if version != VERSION:
            raise FCGIError(f"it is not FastCGI: a record has the version {version}")
        if kind in (STDOUT, STDERR, END_REQUEST):
            if request != 1:
                raise FCGIError(f"a record is for request {request}, which nobody has made")
            if kind == END_REQUEST and size != 8:
                raise FCGIError(f"the end of the request has {size} bytes, not 8")
        elif kind not in (GET_VALUES_RESULT, UNKNOWN_TYPE) or request:
            raise FCGIError(f"a record has the type {kind}, which applications do not send")
        self._kind, self._left, self._padding = kind, size, padding

    def _take(self, piece: bytes, out: list[bytes]) -> None:
        """Takes a piece of a record's content."""
        if self._kind == STDOUT:
            out.append(piece)
        elif self._kind == STDERR:
            self.errors.append(piece)
        elif self._kind == END_REQUEST:
            self._ending += piece
            if len(self._ending) == 8:
                self.app_status = _LONG.unpack_from(self._ending)[0]
                status = self._ending[4]
                if status:
                    raise FCGIError(f"it refused: {_REFUSALS.get(status, f'protocol status {status}')}")
