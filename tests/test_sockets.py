"""Channels, and sweeping."""

from __future__ import annotations

import math
import os
import socket
from _socket import socket as RawSocket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from hemi.sockets import Channel, DeadlinePassed, Sweeper, is_broken
from tests.waiting import until


def pair(write_timeout: float = 60.0) -> tuple[Channel, Any]:
    """A channel and a cooperative socket at its other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    raw = RawSocket(socket.AF_UNIX, socket.SOCK_STREAM, 0, ours.detach())
    raw.setblocking(False)
    return Channel(raw, write_timeout), theirs


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Any]]:
    channel, peer = pair()
    yield channel, peer
    channel.close()
    peer.close()


def test_reading(ends: tuple[Channel, Any]) -> None:
    channel, peer = ends
    reader = gevent.spawn(channel.recv, 10)
    gevent.sleep(0)
    peer.sendall(b"hello")
    assert reader.get(timeout=5) == b"hello"
    peer.sendall(b"more")
    assert channel.peek(2) == b"mo"
    assert channel.recv_waiting(2) == b"mo"
    assert channel.recv(10) == b"re"
    peer.close()
    assert channel.peek(1) == channel.recv(1) == b""


def test_writing_more_than_fits(ends: tuple[Channel, Any]) -> None:
    channel, peer = ends
    data = os.urandom(3_000_000)
    got = bytearray()

    def read() -> None:
        while len(got) < 2 * len(data) + 3:
            got.extend(peer.recv(65536))

    reader = gevent.spawn(read)
    channel.send(data)
    channel.send_pieces([b"abc", data])
    reader.get(timeout=5)
    assert bytes(got) == data + b"abc" + data
    assert channel.deadline == math.inf


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 6, 9])
def test_pieces_that_go_out_in_part(
    ends: tuple[Channel, Any], cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the kernel stops taking, nothing is lost and nothing sent twice."""
    channel, peer = ends

    class Short:
        def __init__(self, sock: RawSocket) -> None:
            self.sock = sock

        def sendmsg(self, pieces: list[bytes]) -> int:
            return self.sock.send(b"".join(pieces)[:cut]) if cut else 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    channel.sock = Short(channel.sock)  # type: ignore[assignment]
    channel.send_pieces([b"abc", b"", b"def", b"ghi"])
    assert peer.recv(100) == b"abcdefghi"


def test_sending_a_file(ends: tuple[Channel, Any], tmp_path: Path) -> None:
    channel, peer = ends
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    file = os.open(path, os.O_RDONLY)
    try:
        channel.send_file(file, 2, 5, b"head ")
        assert peer.recv(100) == b"head 23456"
        with pytest.raises(EOFError, match="ends 2 bytes early"):
            channel.send_file(file, 8, 4)
        assert peer.recv(100) == b"89"
    finally:
        os.close(file)


def test_a_reader_that_is_late(ends: tuple[Channel, Any]) -> None:
    channel, peer = ends
    sweeper = Sweeper({channel})
    reader = gevent.spawn(channel.recv, 10)
    gevent.sleep(0)
    channel.deadline = monotonic() + 100
    sweeper.sweep()
    gevent.sleep(0.01)
    assert not reader.dead
    channel.deadline = monotonic() - 1
    sweeper.sweep()
    with pytest.raises(DeadlinePassed):
        reader.get(timeout=5)
    assert channel.late and "late" in repr(channel)
    channel.send(b"an answer is still possible")
    assert peer.recv(100) == b"an answer is still possible"


def stuffed(channel: Channel) -> Any:
    """A greenlet that waits for its peer to take more."""
    writer = gevent.spawn(channel.send, b"x" * 10_000_000)
    until(lambda: channel.writing)
    return writer


def test_a_writer_whose_peer_takes_nothing() -> None:
    channel, peer = pair(write_timeout=0.0)
    writer = stuffed(channel)
    Sweeper({channel}).sweep()
    with pytest.raises(DeadlinePassed):
        writer.get(timeout=5)
    channel.close()
    peer.close()


@pytest.mark.parametrize(("least", "survives"), [(1, True), (100_000_000, False)])
def test_a_writer_whose_peer_takes_some(least: int, survives: bool) -> None:
    channel, peer = pair(write_timeout=50.0)
    channel.least_taken = least
    writer = stuffed(channel)
    taken = 0
    while taken < 70_000:  # some of the kernel's buffers, not so many that it would take more
        taken += len(peer.recv(70_000 - taken))
    channel.cut(monotonic())
    assert (monotonic() < channel.deadline < math.inf) == survives
    gevent.sleep(0.01)
    assert writer.ready() != survives
    writer.kill()
    channel.close()
    peer.close()


def test_lingering_drops_what_comes(ends: tuple[Channel, Any]) -> None:
    channel, peer = ends
    lingering = gevent.spawn(channel.linger, 5.0)
    peer.sendall(b"x" * 100_000)
    assert peer.recv(1) == b""  # the end is told at once
    assert not lingering.dead
    peer.close()
    lingering.join(5)
    assert lingering.dead


def test_lingering_has_an_end(ends: tuple[Channel, Any]) -> None:
    channel, _ = ends
    lingering = gevent.spawn(channel.linger, 0.0)
    gevent.sleep(0)
    gevent.sleep(0.001)
    Sweeper({channel}).sweep()
    lingering.join(5)
    assert lingering.dead


def test_closing(ends: tuple[Channel, Any]) -> None:
    channel, peer = ends
    channel.close()
    channel.close()
    assert "closed" in repr(channel)
    assert peer.recv(1) == b""
    with pytest.raises(OSError):
        channel.recv(1)
    with pytest.raises(ConnectionAbortedError):
        channel.wait_readable()
    with pytest.raises(ConnectionAbortedError):
        channel.wait_writable()
    channel.shutdown_write()


def test_broken_or_not() -> None:
    assert is_broken(ConnectionResetError(104, "x")) and is_broken(BrokenPipeError(32, "x"))
    assert is_broken(DeadlinePassed("late"))
    assert not is_broken(PermissionError(1, "x"))
