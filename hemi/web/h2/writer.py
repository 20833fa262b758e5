"""What a connection sends: frames of all its streams, gathered into few writes, by one greenlet at a time.

`out` has frames that are ready, in order; the `schedule` has streams with content that waits for its turn. A writer
exists only while there is something to send. Nothing here is unbounded: senders of content wait in the schedule, and
the connection stops reading while `out` is full, so that frames which answer frames cannot pile up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from socket import MSG_MORE
from typing import TYPE_CHECKING, Any

import gevent

from hemi.sockets import close_now
from hemi.web.h2 import workers
from hemi.web.h2.frames import DATA, END_STREAM, LEAST_FRAME, pack_header
from hemi.web.h2.priority import Schedule
from hemi.web.h2.settings import DEFAULT_WINDOW

if TYPE_CHECKING:
    from hemi.sockets import Channel
    from hemi.web.h2.stream import Server2Stream

FULL = 262144
"""Bytes that may be ready before others wait."""

BURST = 262144
"""Bytes of content that are taken at once; what comes meanwhile with a higher urgency waits for so many."""

SHARE = 65536
"""Bytes that an incremental stream gets at its turn."""

GATHER = 32768
"""Up to this size pieces are joined for one send; larger ones go out from where they lie."""

SENDFILE_LEAST = 32768
"""From which size on sendfile(2) is used for files: 2 calls a frame, but no copy, halve the cost of large ones."""

MAX_BUFFERS = 16
"""How many buffers for files are kept."""

FAIR_BYTES = 1 << 20
"""After so many bytes sent without waiting, the other greenlets get their turn."""

_buffers: list[bytearray] = []
_NOTHING = memoryview(b"")


class Writer:
    """`window` is what may be sent of contents on the connection, in bytes, `frame_size` the largest frame to be sent.
    `lost` is called with the error when nothing can be sent any more, `flushed` when all has been sent."""

    __slots__ = (
        "_buffer",
        "_files",
        "_filled",
        "_flushed",
        "_lost",
        "_run",
        "broken",
        "busy",
        "channel",
        "delivered",
        "frame_size",
        "out",
        "schedule",
        "sent",
        "size",
        "window",
    )

    def __init__(
        self, channel: Channel, lost: Callable[[OSError], None], flushed: Callable[[], None]
    ) -> None:
        self.channel = channel
        self.out: list[Any] = []
        self.size = 0
        self.window = DEFAULT_WINDOW
        self.frame_size = LEAST_FRAME
        self.schedule = Schedule()
        self.busy = False
        self.broken = False
        self.sent = 0
        """Bytes of contents that have been taken from streams."""
        self.delivered = 0
        """Bytes of frames that have been sent."""
        self._buffer: bytearray | None = None
        self._files: list[int] = []
        """Descriptors that are used until what was gathered has been sent."""
        self._filled = 0
        """The buffer that files are read into until they have been sent, and how much of it is used."""
        self._lost = lost
        self._flushed = flushed
        self._run = self._write

    def __repr__(self) -> str:
        return f"<Writer {'busy' if self.busy else 'idle'} size={self.size} window={self.window} {self.schedule!r}>"

    def push(self, frames: bytes) -> None:
        """Sends frames behind those that are ready."""
        self.out.append(frames)
        self.size += len(frames)
        if not self.busy:
            self.busy = True
            workers.run(self._run)

    def is_crowded(self) -> bool:
        """Whether content must wait for its turn."""
        return self.size >= FULL or self.schedule.size > 0

    def offer(self, stream: Server2Stream) -> None:
        """Lets a stream with a source take part, unless its window is shut."""
        if stream.window > 0 or stream.at >= stream.end:
            self.schedule.add(stream)
            self.resume()

    def forget(self, stream: Server2Stream) -> None:
        """Takes a stream out."""
        self.schedule.remove(stream)

    def resume(self) -> None:
        """Goes on, if there is anything that may be sent."""
        if not self.busy and (self.out or (self.schedule.size and self.window > 0)):
            self.busy = True
            workers.run(self._run)

    def _write(self) -> None:
        """Sends until there is nothing left that may be sent: what the greenlet of the writer does."""
        channel, unwaited = self.channel, 0
        try:
            while not self.broken:
                pieces, self.out = self.out, []
                size, self.size = self.size, 0
                if size < FULL and self.schedule.size and self.window > 0:
                    size += self._gather(pieces)
                if not pieces:
                    break
                if self._files:
                    self._send_with_files(pieces)
                elif len(pieces) == 1:
                    channel.send(pieces[0])
                elif size <= GATHER:
                    channel.send(b"".join(pieces))
                else:
                    for at in range(0, len(pieces), 512):  # IOV_MAX is 1024
                        channel.send_pieces(pieces[at : at + 512])
                self._give_back()
                self.delivered += size
                unwaited += size
                if unwaited >= FAIR_BYTES:
                    unwaited = 0
                    gevent.sleep(0)
        except (OSError, EOFError) as error:  # EOFError: a file shrank behind a header that has promised more
            self.broken = True
            self._lost(error if isinstance(error, OSError) else BrokenPipeError(str(error)))
        finally:
            self._give_back()
            self.busy = False
            self._flushed()

    def _gather(self, pieces: list[Any]) -> int:
        """Takes content from the streams whose turn it is. Returns how many bytes it added."""
        room, added = BURST, 0
        schedule = self.schedule
        while room > 0 and (stream := schedule.first()) is not None:
            most = min(room, stream.window, self.window)
            if stream.incremental and most > SHARE:
                most = SHARE
            size = min(stream.end - stream.at, most)
            if size <= 0 and stream.at < stream.end:
                if self.window <= 0:
                    break
                schedule.remove(stream)  # until its window opens
                continue
            added += self._take(stream, size, pieces)
            room -= max(size, 1)
            if stream.source is None:
                schedule.remove(stream)
                stream.wake_sender()
            elif stream.window <= 0:
                schedule.remove(stream)
            else:
                schedule.rotate(stream)
        return added

    def _take(self, stream: Server2Stream, size: int, pieces: list[Any]) -> int:
        """Frames the next `size` bytes of a stream's source."""
        source, at = stream.source, stream.at
        file = self._lend(source, at + size) if size >= SENDFILE_LEAST and isinstance(source, int) else None
        if file is not None:
            view, first = _NOTHING, 0
        elif isinstance(source, int):
            view, first = self._read(source, at, size), 0
            if len(view) < size:
                size = len(view)
                stream.fault = EOFError(f"the file ends {stream.end - at - size} bytes early")
                stream.end = at + size
                stream.closes = False
        else:
            view, first = memoryview(source or b""), at
        stream.at = at = at + size
        stream.window -= size
        self.window -= size
        self.sent += size
        ends = at >= stream.end
        last = END_STREAM if ends and stream.closes else 0
        if ends:
            stream.source = None
            if last:
                stream.open = False
        sid, most, stop = stream.sid, self.frame_size, first + size
        if file is not None:
            return self._frame_file(sid, file, at - size, size, last, pieces)
        frames = 0
        while stop - first > most:
            pieces += (pack_header(most << 8 | DATA, 0, sid), view[first : first + most])
            first += most
            frames += 1
        if stop > first or last:
            pieces += (pack_header((stop - first) << 8 | DATA, last, sid), view[first:stop])
            frames += 1
        return size + 9 * frames

    def _frame_file(self, sid: int, file: int, at: int, size: int, last: int, pieces: list[Any]) -> int:
        """Notes a part of a file that is sent from where it lies, in frames of its own."""
        pieces.append((sid, file, at, size, last))
        return size + 9 * -(-size // self.frame_size)

    def _lend(self, file: int, least: int) -> int | None:
        """A descriptor of the writer's own for a file that has at least so many bytes, where sendfile(2) can be used.

        The stream may be reset and its file closed while the writer waits for the client: by then the number could be
        another file's.
        """
        if self.channel.tls is not None or os.fstat(file).st_size < least:
            return None
        own = os.dup(file)
        self._files.append(own)
        return own

    def _send_with_files(self, pieces: list[Any]) -> None:
        """Sends pieces of which some are parts of files; what is before such a part goes out with its first frame."""
        before: list[Any] = []
        for piece in pieces:
            if piece.__class__ is tuple:
                self._send_file(b"".join(before), *piece)
                before.clear()
            else:
                before.append(piece)
        if before:
            self.channel.send(b"".join(before))

    def _send_file(self, before: bytes, sid: int, file: int, at: int, size: int, last: int) -> None:
        """Sends a part of a file: two system calls a frame, and as little else as can be."""
        channel, most, stop = self.channel, self.frame_size, at + size
        send, sendfile, out = channel.sock.send, os.sendfile, channel.sock.fileno()
        usual = pack_header(most << 8 | DATA, 0, sid)
        head = before + usual
        while at < stop:
            part = stop - at
            if part <= most:
                head = head[:-9] + pack_header(part << 8 | DATA, last, sid)
            else:
                part = most
            sent = done = 0
            try:
                sent = send(head, MSG_MORE)
                if sent == len(head):
                    done = sendfile(out, file, at, part)
            except BlockingIOError:
                pass
            if done < part:  # it has to wait
                channel.send_file(file, at + done, part - done, head[sent:])
            at += part
            head = usual

    def _read(self, file: int, at: int, size: int) -> memoryview:
        """Reads a part of a file into the writer's buffer: new memory for each would cost as much as the copying."""
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = _buffers.pop() if _buffers else bytearray(BURST)
        filled = self._filled
        view = memoryview(buffer)[filled : filled + size]
        got = os.preadv(file, [view], at) if size else 0
        self._filled = filled + got
        return view[:got]

    def _give_back(self) -> None:
        """What was read or lent has been sent."""
        while self._files:
            close_now(self._files.pop())
        if self._buffer is not None:
            if len(_buffers) < MAX_BUFFERS:
                _buffers.append(self._buffer)
            self._buffer = None
            self._filled = 0
