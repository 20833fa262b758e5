"""Channels, sweeping, listening and accepting."""

from __future__ import annotations

import math
import os
import socket
import stat
from _socket import socket as RawSocket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from hemi import sockets
from hemi.errors import EnvError
from hemi.sockets import Acceptor, Channel, DeadlinePassed, ListenOptions, Sweeper, is_broken, listen
from hemi.values import Addr
from tests.webkit import until


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


# Listening


def address(text: str = "", host: str = "127.0.0.1") -> Addr:
    return Addr("", 0, text) if text else Addr(host, 0, "")


def test_listeners_are_shared_by_address(tmp_path: Path) -> None:
    where = address(str(tmp_path / "s"))
    one, other = listen(where, ListenOptions(), "a"), listen(where, ListenOptions(), "b")
    assert one is other and one.users == 2
    one.release()
    assert (tmp_path / "s").exists()
    other.release()
    assert not (tmp_path / "s").exists()


def test_port_0_is_each_owners_own() -> None:
    one, other, again = (listen(address(), ListenOptions(), owner) for owner in "aba")
    assert one is again and one is not other
    for listener in (one, other, again):
        listener.release()


def test_uds_mode_and_strangers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = listen(address(str(path)), ListenOptions(uds_mode=0o600), "a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    path.write_text("somebody else's")
    listener.release()
    assert path.read_text() == "somebody else's"


def test_uds_in_use(tmp_path: Path) -> None:
    path = tmp_path / "s"
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(path))
    other.listen(1)
    with pytest.raises(EnvError, match="in use"):
        listen(address(str(path)), ListenOptions(), "a")
    other.close()
    listen(address(str(path)), ListenOptions(), "a").release()
    assert not path.exists()


def test_unknown_owners(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match="no-such-user"):
        listen(address(str(tmp_path / "s")), ListenOptions(uds_user="no-such-user"), "a")


def test_options_of_sockets_in_use(tmp_path: Path) -> None:
    path = tmp_path / "s"
    before, after = ListenOptions(uds_mode=0o600), ListenOptions(uds_mode=0o666)
    first = listen(address(str(path)), before, "a")
    gone = listen(address(str(tmp_path / "t")), before, "a")
    (tmp_path / "t").unlink()
    sockets.wishes.clear()
    second = listen(address(str(path)), after, "a")
    listen(address(str(path)), before, "b")  # the first one counts
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "listening alone changes nothing"
    listen(address(str(tmp_path / "t")), after, "a")
    with pytest.raises(EnvError, match=r"cannot change /.*/t: No such file"):
        sockets.adjust_all()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "all or nothing"
    del sockets.wishes[gone.key]
    undo = sockets.adjust_all()
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    undo()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for listener in (first, second, second, gone, gone):
        listener.release()


def test_one_family_or_both() -> None:
    with_name = listen(address(host="::1"), ListenOptions(), "v6")
    both = listen(address(host=""), ListenOptions(), "both")
    option = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert with_name.sock.getsockopt(*option) == 1
    assert both.sock.getsockopt(*option) == 0
    assert "users=1" in repr(both)
    with_name.release()
    both.release()


# Accepting


class Accepting:
    """An acceptor and what it has accepted."""

    def __init__(self) -> None:
        self.listener = listen(address(), ListenOptions(), "acceptor")
        self.accepted: list[RawSocket] = []
        self.said: list[str] = []
        self.full = False
        self.acceptor = Acceptor(
            self.listener, lambda sock, _: self.accepted.append(sock), self.said.append, lambda: self.full
        )
        self.acceptor.start()

    def dial(self) -> Any:
        return socket.create_connection(self.listener.sock.getsockname(), timeout=5)

    def close(self) -> None:
        self.acceptor.stop()
        self.acceptor.stop()
        for sock in self.accepted:
            sock.close()
        self.listener.release()


@pytest.fixture
def accepting() -> Iterator[Accepting]:
    accepting = Accepting()
    yield accepting
    accepting.close()


def test_accepting(accepting: Accepting) -> None:
    clients = [accepting.dial() for _ in range(100)]
    until(lambda: len(accepting.accepted) == 100)
    for sock in accepting.accepted:
        assert sock.gettimeout() == 0.0
        assert not os.get_inheritable(sock.fileno())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    for client in clients:
        client.close()


def test_a_pause(accepting: Accepting, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [0]

    def is_full() -> bool:
        looks[0] += 1
        return accepting.full

    accepting.acceptor.is_full = is_full
    accepting.full = True
    with accepting.dial(), accepting.dial():
        until(lambda: accepting.acceptor.paused)
        before = looks[0]
        gevent.sleep(0.35)
        assert looks[0] - before <= 5  # no busy loop
        assert accepting.accepted == []
        accepting.full = False
        until(lambda: len(accepting.accepted) == 2)
        assert not accepting.acceptor.paused
        assert len(accepting.said) == 1
        accepting.full = True
        with accepting.dial():
            until(lambda: accepting.acceptor.paused)
            until(lambda: len(accepting.said) == 2)
            accepting.full = False
            until(lambda: len(accepting.accepted) == 3)


def test_the_reserve(accepting: Accepting) -> None:
    """When a descriptor of the reserve was given out, accepting pauses."""
    accepting.acceptor._limit = 3
    with accepting.dial(), accepting.dial():
        until(lambda: accepting.acceptor.paused)
        assert len(accepting.accepted) == 1
        assert "is in use" in accepting.said[0]
        gevent.sleep(2.5 * sockets.RETRY_INTERVAL)
        assert len(accepting.accepted) == 1
        accepting.acceptor._limit = 10_000
        until(lambda: len(accepting.accepted) == 2)
