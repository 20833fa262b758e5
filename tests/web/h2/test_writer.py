"""The writer: frames of many streams in few writes, within all windows."""

from __future__ import annotations

import os
import tempfile
from _socket import socket as RawSocket
from typing import Any

import gevent
import pytest
from gevent import socket

from hemi import sockets
from hemi.web.h2.frames import PING, pack_header
from hemi.web.h2.writer import FULL, Writer
from tests.h2raw import DATA, END_STREAM
from tests.webkit import until


class Channel:
    """Takes what is sent."""

    tls = None

    def __init__(self, fail: bool = False) -> None:
        self.sent = b""
        self.writes = 0
        self.fail = fail

    def send(self, data: bytes) -> None:
        if self.fail:
            raise BrokenPipeError
        self.sent += data
        self.writes += 1

    def send_pieces(self, pieces: list[bytes]) -> None:
        self.send(b"".join(pieces))

    def send_file(self, file: int, start: int, size: int, head: bytes = b"") -> None:
        self.send(head + os.pread(file, size, start))


class Stream:
    """What the writer knows of a stream."""

    def __init__(self, sid: int, source: Any, size: int, window: int = 1 << 20, closes: bool = True) -> None:
        self.sid, self.source, self.at, self.end = sid, source, 0, size
        self.window, self.closes = window, closes
        self.urgency, self.incremental, self.queued, self.open = 3, False, False, True
        self.fault: Exception | None = None
        self.woken = False

    def wake_sender(self) -> None:
        self.woken = True


def made(fail: bool = False) -> tuple[Any, Any, list[str]]:
    channel: Any = Channel(fail)
    notes: list[str] = []
    writer = Writer(channel, lambda error: notes.append("lost"), lambda: notes.append("flushed"))
    writer.window = 1 << 20
    return writer, channel, notes


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """What was sent, taken apart."""
    found = []
    while data:
        size = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        data = data[9 + size :]
    return found


def test_what_is_pushed_together_is_sent_together() -> None:
    writer, channel, notes = made()
    for data in (b"one", b"two", b"three"):
        writer.push(data)
    assert writer.busy and not channel.sent
    until(lambda: notes)
    assert channel.sent == b"onetwothree" and channel.writes == 1
    assert not writer.busy and not writer.size and writer.delivered == 11


def test_sources_are_framed_within_windows() -> None:
    writer, channel, notes = made()
    writer.window = 40_000
    stream: Any = Stream(1, b"x" * 50_000, 50_000)
    writer.offer(stream)
    until(lambda: notes)
    assert [len(one[3]) for one in frames(channel.sent)] == [16384, 16384, 7232]
    assert writer.window == 0 and stream.at == 40_000 and stream.queued and not stream.woken
    writer.resume()
    assert not writer.busy
    writer.window += 100_000
    writer.resume()
    until(lambda: len(notes) == 2)
    assert b"".join(one[3] for one in frames(channel.sent)) == b"x" * 50_000
    assert frames(channel.sent)[-1][1] == END_STREAM
    assert stream.woken and not stream.open and not stream.queued and stream.source is None
    assert writer.sent == 50_000


def test_a_stream_whose_window_shuts_lets_others_go() -> None:
    writer, channel, notes = made()
    first: Any = Stream(1, b"a" * 100, 100, window=10)
    second: Any = Stream(3, b"b" * 100, 100)
    writer.offer(first)
    writer.offer(second)
    until(lambda: notes)
    assert [(sid, len(data)) for _, _, sid, data in frames(channel.sent)] == [(1, 10), (3, 100)]
    assert not first.queued
    writer.offer(first)
    assert not first.queued
    first.window = 90
    writer.offer(first)
    until(lambda: first.woken)


@pytest.mark.parametrize("size", [0, 100, 16384, 100_000, 600_000])
def test_files(size: int) -> None:
    writer, channel, notes = made()
    channel.tls = object()  # they are read, and sent by the channel
    with tempfile.TemporaryFile() as file:
        data = os.urandom(size)
        file.write(data)
        file.flush()
        stream: Any = Stream(1, file.fileno(), size)
        writer.offer(stream)
        until(lambda: stream.woken)
        until(lambda: notes)
    found = frames(channel.sent)
    assert b"".join(one[3] for one in found) == data
    assert found[-1][:2] == (DATA, END_STREAM) and stream.fault is None


@pytest.mark.parametrize("size", [40_000, 49_152, 600_000])
@pytest.mark.parametrize("closes", [True, False])
def test_large_files_without_tls_go_out_from_where_they_lie(size: int, closes: bool) -> None:
    """By a socket that takes little at once: frames and headers go out in parts."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    channel = sockets.Channel(RawSocket(fileno=ours.detach()))
    channel.sock.setblocking(False)
    notes: list[str] = []
    writer = Writer(channel, lambda error: notes.append(str(error)), lambda: notes.append("flushed"))
    writer.window = 1 << 20
    got: list[bytes] = []
    with theirs, tempfile.TemporaryFile() as file:
        reader = gevent.spawn(lambda: [got.append(data) for data in iter(lambda: theirs.recv(5000), b"")])
        data = os.urandom(size)
        file.write(data)
        file.flush()
        stream: Any = Stream(1, file.fileno(), size, closes=closes)
        writer.push(pack_header(PING, 0, 0))
        writer.offer(stream)
        until(lambda: stream.woken and len(notes) >= 1 and not writer.busy)
        channel.close()
        reader.join(10)
    ping, *found = frames(b"".join(got))
    assert ping == (PING, 0, 0, b"")
    assert b"".join(one[3] for one in found) == data
    assert {one[:3] for one in found[:-1]} == {(DATA, 0, 1)}
    assert found[-1][:3] == (DATA, END_STREAM if closes else 0, 1)
    assert {len(one[3]) for one in found[:-1]} == {16384}
    assert set(notes) == {"flushed"}


def test_a_file_that_shrinks_ends_the_connection() -> None:
    """Behind the header of a frame that has promised more there is nothing that could be said."""
    ours, theirs = socket.socketpair()
    channel = sockets.Channel(RawSocket(fileno=ours.detach()))
    channel.sock.setblocking(False)
    notes: list[str] = []
    writer = Writer(channel, lambda error: notes.append(str(error)), lambda: notes.append("flushed"))
    with theirs, tempfile.TemporaryFile() as file:
        file.write(b"x" * 40_000)
        file.flush()
        writer._files.append(os.dup(file.fileno()))
        writer.out.append((1, file.fileno(), 30_000, 20_000, END_STREAM))
        writer.push(b"")
        until(lambda: notes)
        channel.close()
    assert "early" in notes[0]
    assert writer.broken


def test_a_file_that_is_too_short() -> None:
    writer, channel, notes = made()
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 50)
        file.flush()
        stream: Any = Stream(1, file.fileno(), 100)
        writer.offer(stream)
        until(lambda: notes)
    assert isinstance(stream.fault, EOFError)
    assert frames(channel.sent) == [(DATA, 0, 1, b"x" * 50)]
    assert stream.open


def test_nothing_is_sent_behind_a_failure() -> None:
    writer, _, notes = made(fail=True)
    writer.push(b"x")
    until(lambda: len(notes) == 2)
    assert notes == ["lost", "flushed"] and writer.broken
    assert "busy" not in repr(writer)


def test_it_is_crowded_when_much_is_ready_or_somebody_waits() -> None:
    writer, _, notes = made()
    assert not writer.is_crowded()
    writer.push(b"x" * FULL)
    assert writer.is_crowded()
    until(lambda: notes)
    stream: Any = Stream(1, b"x", 1)
    writer.window = 0
    writer.offer(stream)
    assert writer.is_crowded()
    writer.forget(stream)
    assert not writer.is_crowded()
