"""wsgi.input: the content of a request as a file that can be read forwards (PEP 3333, "Input and Error Streams").

All methods have the semantics of `io.BufferedIOBase`: `read(n)` waits for n bytes unless the content ends before,
and the end is b"", whether the content was sized or chunked (`wsgi.input_terminated`). A client that waits for 100
Continue gets it with the first read.
"""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

from hemi.web.errors import HTTPError

if TYPE_CHECKING:
    from hemi.web.request import Request


class InputFailed(OSError):
    """The content cannot be read: it is too large, too slow or broken. `reason` is what the client is told.

    An OSError, because that is what frameworks expect of a broken input and turn into an answer of their own.
    """

    def __init__(self, reason: HTTPError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def spool(request: Request, environ: dict[str, Any]) -> SpooledTemporaryFile[bytes]:
    """Reads the whole content into a file (in memory up to `spool_size`), and makes the environ tell its length.

    For frameworks that know no other content than that of a CONTENT_LENGTH. Raises HTTPError (507: no room).
    """
    owner = request.owner
    file = SpooledTemporaryFile[bytes](owner.spool_size, dir=owner.stage.dirs.tmp)
    try:
        for piece in request:
            file.write(piece)
        environ["CONTENT_LENGTH"] = str(file.tell())
        file.seek(0)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            raise HTTPError(507, close=True) from error
        raise
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["wsgi.input"] = file
    return file


class NoInput:
    """The input of all requests without content. It has no state, so one is enough."""

    __slots__ = ()

    failure: InputFailed | None = None

    def read(self, size: int | None = -1) -> bytes:
        """Returns b"": the end."""
        return b""

    def readline(self, size: int | None = -1) -> bytes:
        """Returns b"": the end."""
        return b""

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Returns no lines."""
        return []

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


NO_INPUT = NoInput()


class Input:
    """The input of a request with content. `failure` is what reading has come to when it failed."""

    __slots__ = ("_at", "_data", "_ended", "_limit", "_pieces", "_request", "failure")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pieces = iter(request)
        self._data = b""  # what has arrived; read up to _at
        self._at = 0
        self._ended = False
        self._limit = request.owner.max_memory_content_size
        self.failure: InputFailed | None = None

    def __repr__(self) -> str:
        return f"<Input of {self._request!r}>"

    def _receive(self) -> bytes:
        """The next piece, b"" at the end."""
        if self.failure is not None:
            raise self.failure
        if self._ended:
            return b""
        try:
            data = next(self._pieces, b"")
        except HTTPError as error:
            self.failure = InputFailed(error)
            raise self.failure from error
        self._ended = not data
        return data

    def read(self, size: int | None = -1) -> bytes:
        """Returns `size` bytes, fewer only at the end; all the rest without a size.

        Raises InputFailed (413) when the rest is larger than `max_memory_content_size`, ClientGone (an OSError).
        """
        if size is None or size < 0:
            return self._read_rest()
        data, at = self._data, self._at
        have = len(data) - at
        if size <= have:
            self._at = at + size
            return data[at : at + size]
        pieces = [data[at:]]
        while have < size:
            piece = self._receive()
            if not piece:
                break
            pieces.append(piece)
            have += len(piece)
        whole = b"".join(pieces)
        if have <= size:
            self._data, self._at = b"", 0
            return whole
        self._data, self._at = whole, size
        return whole[:size]

    def _read_rest(self) -> bytes:
        pieces = [self._data[self._at :]]
        self._data, self._at = b"", 0
        have = len(pieces[0])
        while piece := self._receive():
            pieces.append(piece)
            have += len(piece)
            if have > self._limit:
                error = HTTPError(413, f"The content is larger than {self._limit} bytes.", close=True)
                self.failure = InputFailed(error)
                raise self.failure
        return b"".join(pieces)

    def readline(self, size: int | None = -1) -> bytes:
        """Returns the next line with its line feed, or at the most `size` bytes of it; b"" at the end."""
        most = self._limit if size is None or size < 0 else size
        data, at = self._data, self._at
        have = len(data) - at
        found = data.find(b"\n", at, at + most)
        if found >= 0 or have >= most:
            self._at = found + 1 if found >= 0 else at + most
            return data[at : self._at]
        return self._read_long_line(data[at:], most)

    def _read_long_line(self, start: bytes, most: int) -> bytes:
        """A line of which only the start has arrived."""
        pieces, have = [start], len(start)
        while True:
            piece = self._receive()
            if not piece:
                self._data, self._at = b"", 0
                break
            found = piece.find(b"\n", 0, most - have)
            stop = found + 1 if found >= 0 else min(most - have, len(piece))
            pieces.append(piece[:stop])
            have += stop
            if found >= 0 or have >= most:
                self._data, self._at = piece, stop
                break
        return b"".join(pieces)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Returns the remaining lines, or those that begin within the next `hint` bytes."""
        lines = []
        have = 0
        while line := self.readline():
            lines.append(line)
            have += len(line)
            if hint is not None and 0 < hint <= have:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        """The lines."""
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line
