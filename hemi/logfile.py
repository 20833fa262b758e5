"""Writers of logs: files with rotation, the standard streams, syslog.

Belongs here: how bytes reach a target and what may go wrong on the way. They are called by one greenlet at a
time; the queue in front of them is `logsink`'s.

Files are written in the hub's thread: an append of 256 KiB to the page cache takes some 0.1 ms, the way into
a thread and back about as long, and nginx does the same. Streams that are no files wait for whoever reads
them (a pipe to a log collector, a terminal in flow control), so they are written in a thread of their own.

Rotation: `access.log` becomes `access.log.20261122T214000`, local time, and a new one is begun. Several
workers may write one file: who finds it due takes a lock (flock) and renames; the others notice before their
next write that the path leads elsewhere, and follow. Old ones are compressed by a thread, one second later,
when everybody has followed.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import re
import shutil
import stat
import time
from contextlib import suppress
from typing import NamedTuple

import gevent
from gevent import get_hub, socket

from hemi.logsink import Shortfall, complain

__all__ = ["FileWriter", "Rotation", "StreamWriter", "SyslogWriter"]

FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
DAY = 86400
PAUSE = 60.0  # seconds until a rotation that failed is tried again
LONGEST = 8192  # bytes of a datagram to syslog; receivers may cut beyond 2048 (RFC 5426 §3.2)


class Rotation(NamedTuple):
    """When to begin a new file and what to do with the old ones. 0 means never, or no limit."""

    size: int = 0  # bytes
    every: float = 0  # seconds
    keep: int = 0  # files
    compress: bool = False


NEVER = Rotation()


class FileWriter:
    """Appends to a file."""

    blocks = False
    settle = 1.0  # seconds between a rotation and the compression, for other processes to follow

    def __init__(self, path: str, rotation: Rotation = NEVER, mode: int = 0o640) -> None:
        self.target = self.path = path
        self.rotation = rotation
        self.mode = mode
        self.fd = -1
        self._is_file = False
        self._torn = False  # the last thing written is the beginning of a line
        self._turn = 0.0  # Unix time of the next rotation by time
        self._pause = 0.0  # Unix time before which no rotation is tried
        self._untidy = self._tidying = False

    def open(self) -> None:
        """Open the file, creating it and its folder where they are missing. Raises OSError."""
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        fd = os.open(self.path, FILE_FLAGS, self.mode)
        self.close()
        self.fd = fd
        status = os.fstat(fd)
        self._is_file = stat.S_ISREG(status.st_mode)
        # A file left from an earlier period is due at the first write.
        since = status.st_mtime if status.st_size else time.time()
        self._turn = next_turn(since, self.rotation.every) if self.rotation.every else 0.0

    reopen = open

    def close(self) -> None:
        """Close the file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def set_rotation(self, rotation: Rotation) -> None:
        """Rotate by other rules from now on."""
        if rotation.every != self.rotation.every:
            self._turn = next_turn(time.time(), rotation.every) if rotation.every else 0.0
        self.rotation = rotation

    def write(self, lines: list[bytes]) -> None:
        """Append lines, rotating before and in between where it is due. Raises Shortfall."""
        done = 0
        while done < len(lines):
            try:
                room = self._tend()
            except OSError as e:
                raise Shortfall(done, e) from None
            end = len(lines) if room is None else fitting(lines, done, room)
            self._append(lines, done, end)
            done = end

    def _append(self, lines: list[bytes], begin: int, end: int) -> None:
        data = b"".join(lines[begin:end])
        if self._torn:
            data = b"\n" + data
        written = 0
        try:
            while written < len(data):
                written += os.write(self.fd, data[written:] if written else data)
        except OSError as e:
            # Only whole lines count. A line that is torn off gets a newline before it is repeated: its
            # beginning stays as a line of its own, and no rest of it can pass for a line.
            left, done = written - self._torn, begin
            while done < end and left >= len(lines[done]):
                left -= len(lines[done])
                done += 1
            self._torn = left > 0 if written else self._torn
            if 0 < left == len(lines[done]) - 1:
                done += 1  # only its newline is missing
            raise Shortfall(done, e) from None
        self._torn = False

    def _tend(self) -> int | None:
        """See to rotation; the bytes that may be appended now, None for any number. Raises OSError."""
        size, every, _, _ = self.rotation
        if not (size or every) or not self._is_file:
            return None
        here = os.fstat(self.fd)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(here, there):
            self.open()  # somebody else has rotated
            here = os.fstat(self.fd)
        now = time.time()
        due = here.st_size > 0 and ((size and here.st_size >= size) or (every and now >= self._turn))
        if due and now >= self._pause and self._rotate(now):
            here = os.fstat(self.fd)
        if every and now >= self._turn:
            self._turn = next_turn(now, every)
        return size - here.st_size if size and here.st_size < size else None

    def _rotate(self, now: float) -> bool:
        """Rename the file and begin a new one; False when somebody else is at it, or it cannot be done."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self.fd), os.stat(self.path)):
                self.open()
                return True
            name = spare_name(self.path, now)
            os.rename(self.path, name)
            try:
                self.open()
            except OSError:
                os.rename(name, self.path)
                raise
        except BlockingIOError:
            return False
        except OSError as e:
            self._pause = now + PAUSE
            complain(f"logger: {self.path} cannot be rotated: {e.strerror}")
            return False
        gevent.spawn_later(self.settle, self._tidy)
        return True

    def _tidy(self) -> None:
        """Tidies up behind a rotation, once more if there was another one meanwhile."""
        self._untidy = True
        if self._tidying:
            return
        self._tidying = True
        try:
            while self._untidy:
                self._untidy = False
                get_hub().threadpool.apply(tidy, (self.path, self.rotation.keep, self.rotation.compress))
        finally:
            self._tidying = False


def next_turn(now: float, every: float) -> float:
    """The Unix time of the next rotation: days begin at local midnight, shorter periods count from there.

    Several days count from a fixed day, so that all processes agree. A period that is no fraction of a day is
    cut short at midnight.
    """
    year, month, day, *_ = time.localtime(now)
    midnight = time.mktime((year, month, day, 0, 0, 0, 0, 0, -1))
    if every < DAY:
        tomorrow = time.mktime((year, month, day + 1, 0, 0, 0, 0, 0, -1))
        return min(midnight + ((now - midnight) // every + 1) * every, tomorrow)
    days = int(every // DAY)
    number = int((midnight + DAY / 2) // DAY)  # of the local day; noon keeps clear of zones and summer time
    return time.mktime((year, month, day + days - number % days, 0, 0, 0, 0, 0, -1))


def fitting(lines: list[bytes], begin: int, room: int) -> int:
    """The index behind the lines that fit into `room` bytes, at least one."""
    end = begin
    while end < len(lines) and (room >= len(lines[end]) or end == begin):
        room -= len(lines[end])
        end += 1
    return end


def spare_name(path: str, now: float) -> str:
    """A name for a rotated file that is not taken yet."""
    base = f"{path}.{time.strftime('%Y%m%dT%H%M%S', time.localtime(now))}"
    name, number = base, 0
    while os.path.exists(name) or os.path.exists(name + ".gz"):
        number += 1
        name = f"{base}-{number}"
    return name


def rotated(path: str) -> list[str]:
    """The rotated files of a log, oldest first."""
    folder, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"\.(\d{8}T\d{6})(?:-(\d+))?(?:\.gz)?")
    found = [match for match in map(pattern.fullmatch, os.listdir(folder or ".")) if match]
    found.sort(key=lambda match: (match[1], int(match[2] or 0)))
    return [os.path.join(folder, match[0]) for match in found]


def tidy(path: str, keep: int, compress: bool) -> None:
    """Remove the rotated files of a log beyond `keep`, and compress the others. Slow: for a thread."""
    try:
        # One that another thread or process compresses right now is there twice; whoever was faster is no error.
        names = list(dict.fromkeys(name.removesuffix(".gz") for name in rotated(path)))
        kept = names[-keep:] if keep else names
        for name in names[: len(names) - len(kept)]:
            for one in (name, name + ".gz"):
                with suppress(FileNotFoundError):
                    os.unlink(one)
        for name in kept if compress else ():
            with suppress(FileNotFoundError):
                squeeze(name)
    except OSError as e:
        complain(f"logger: the rotated files of {path} cannot be tidied: {e.strerror}")


def squeeze(name: str) -> None:
    """Replace a file by its gzip, unless another process is at it. Raises OSError."""
    part = name + ".part"
    with open(name, "rb") as source:
        try:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        status = os.fstat(source.fileno())
        if status.st_nlink == 0:
            return
        try:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, status.st_mode & 0o777)
            with (
                os.fdopen(fd, "wb") as target,
                gzip.GzipFile("", "wb", 6, target, int(status.st_mtime)) as packed,
            ):
                shutil.copyfileobj(source, packed, 256 << 10)
                done = source.tell()
            if os.fstat(source.fileno()).st_size != done:
                raise OSError(errno.EBUSY, "it is still being written to")
            os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.rename(part, name + ".gz")
        except BaseException:
            if os.path.exists(part):
                os.unlink(part)
            raise
        os.unlink(name)


class StreamWriter:
    """Writes to stdout or stderr, whatever they are."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.target = {1: "stdout", 2: "stderr"}.get(fd, str(fd))
        self.blocks = True

    def open(self) -> None:
        """See what it is. Raises OSError when it is closed."""
        self.blocks = not stat.S_ISREG(os.fstat(self.fd).st_mode)

    def reopen(self) -> None:
        """Nothing to do: it is not ours to open."""

    def close(self) -> None:
        """Nothing to do: it is not ours to close."""

    def write(self, lines: list[bytes]) -> None:
        """Write lines, waiting for the reader. Raises Shortfall."""
        data = memoryview(b"".join(lines))
        written = 0
        try:
            while written < len(data):
                written += os.write(self.fd, data[written:])
        except OSError as e:
            done = fitting(lines, 0, written) if written >= len(lines[0]) else 0
            raise Shortfall(done, e) from None


class SyslogWriter:
    """Sends each line as a datagram to a syslog server, "/dev/log" or (host, port)."""

    blocks = False  # gevent's sockets wait without blocking

    def __init__(self, address: str | tuple[str, int], timeout: float = 1.0) -> None:
        self.address = address
        self.timeout = timeout
        self.target = (
            f"syslog:{address}" if isinstance(address, str) else f"syslog:udp://{address[0]}:{address[1]}"
        )
        self.sock: socket.socket | None = None

    def open(self) -> None:
        """Nothing yet: a syslog server that is not there yet is no reason not to start."""

    def reopen(self) -> None:
        """Connect anew with the next line."""
        self.close()

    def close(self) -> None:
        """Disconnect."""
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def write(self, lines: list[bytes]) -> None:
        """Send lines. Raises Shortfall."""
        for index, line in enumerate(lines):
            try:
                if self.sock is None:
                    self.sock = self._connect()
                self.sock.send(line.rstrip(b"\n")[:LONGEST])
            except OSError as e:
                if e.errno == errno.EMSGSIZE:
                    continue  # no later attempt would be better
                self.close()
                raise Shortfall(index, e) from None

    def _connect(self) -> socket.socket:
        if isinstance(self.address, str):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            where: str | tuple[str, int] = self.address
        else:
            family, kind, proto, _, where = socket.getaddrinfo(*self.address, 0, socket.SOCK_DGRAM)[0]  # type: ignore
            sock = socket.socket(family, kind, proto)
        sock.settimeout(self.timeout)
        try:
            sock.connect(where)
        except BaseException:
            sock.close()
            raise
        return sock
