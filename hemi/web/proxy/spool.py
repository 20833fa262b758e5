"""Spools: contents in memory up to a size, and on disk beyond it; and what a configuration says of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hemi.component import Component, prop
from hemi.values import Size
from hemi.web.errors import HTTPError

if TYPE_CHECKING:
    from hemi.web.request import Request

__all__ = ["Buffering", "Spool", "gather"]

PIECE = 262144


class Spool:
    """Takes a content once, gives it any number of times. The file has no name, and goes with the last reference."""

    __slots__ = ("_file", "_folder", "_memory", "_pieces", "size")

    def __init__(self, memory: int, folder: str) -> None:
        self._memory = memory
        self._folder = folder
        self._pieces: list[bytes] = []
        self._file = -1
        self.size = 0

    def __repr__(self) -> str:
        return f"<Spool {'disk' if self._file >= 0 else 'memory'} size={self.size}>"

    @property
    def content(self) -> bytes | None:
        """All of it if it is in memory, or None."""
        if self._file >= 0:
            return None
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""

    @property
    def file(self) -> int:
        """The open file it is in, -1 when it is in memory."""
        return self._file

    def write(self, data: bytes) -> None:
        """Takes a piece. Raises OSError when the disk does not; the piece is kept nevertheless."""
        self.size += len(data)
        if self._file < 0:
            self._pieces.append(data)
            if self.size > self._memory:
                self._move_to_disk()
            return
        try:
            _write_all(self._file, data)
        except OSError:
            os.ftruncate(self._file, self.size - len(data))
            self._pieces.append(data)
            raise

    def _move_to_disk(self) -> None:
        with tempfile.TemporaryFile(dir=self._folder, buffering=0) as handle:
            file = os.dup(handle.fileno())
        try:
            for piece in self._pieces:
                _write_all(file, piece)
        except OSError:
            os.close(file)
            raise
        self._file, self._pieces = file, []

    def __iter__(self) -> Iterator[bytes]:
        """The content in pieces, from its beginning."""
        at = 0
        while self._file >= 0 and (data := os.pread(self._file, PIECE, at)):
            at += len(data)
            yield data
        yield from self._pieces

    def close(self) -> None:
        """Frees what it has. Idempotent."""
        self._pieces = []
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)


def gather(req: Request, memory: int, folder: str) -> Spool:
    """The whole content of a request, up to `memory` bytes in memory. Raises HTTPError 507 when it cannot be stored,
    ClientGone."""
    spool = Spool(memory, folder)
    try:
        for data in req:
            try:
                spool.write(data)
            except OSError as error:
                raise HTTPError(507, "The content cannot be stored.", close=True) from error
    except BaseException:
        spool.close()
        raise
    return spool


class Buffering(Component):
    """What handlets that pass contents on have in common: whether to take them whole first, and where to."""

    buffer_request: bool = prop(False, "Take the whole content of a request before a node gets it.")
    buffer_response: bool = prop(False, "Take the whole content of an answer before the client gets it.")
    buffer_memory: Size = prop("256K", "Up to which size in memory, and beyond it on disk, below tmp_dir.")
    max_buffer_size: Size = prop("1G", "Up to which size; what is larger is passed on as it comes.")


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
