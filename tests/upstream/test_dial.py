"""Dialing: TCP, Unix domain sockets, names with several addresses, TLS, and all the ways it can fail."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from hemi.resolv import ResolveError, Resolver
from hemi.upstream import dial as dialing
from hemi.upstream.dial import dial, dial_datagrams
from hemi.upstream.errors import DialFailed
from hemi.values import Addr
from tests.net.udpkit import Node
from tests.peer import Peer
from tests.running import until
from tests.upstream.kit import closed_port


class Names:
    """A resolver that knows what it is told."""

    def __init__(self, *found: tuple[int, Any], error: OSError | None = None) -> None:
        self.found = list(found)
        self.error = error

    def resolve(self, host: str, port: int, *, timeout: float | None = None) -> list[tuple[int, Any]]:
        if self.error:
            raise self.error
        return self.found


def failure(*arguments: Any, **keywords: Any) -> DialFailed:
    with pytest.raises(DialFailed) as caught:
        dial(*arguments, **keywords)
    return caught.value


@pytest.fixture
def full() -> Iterator[int]:
    """A port whose queue is full: the kernel drops what would begin a connection."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        gevent.sleep(0.01)
        yield port
        for filler in fillers:
            filler.close()


def test_tcp(peer: Callable[..., Peer]) -> None:
    channel = dial(Addr("127.0.0.1", peer().port))
    channel.send(b"hello")
    assert channel.recv(100) == b"hello"
    assert channel.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not os.get_inheritable(channel.sock.fileno())
    channel.close()


def test_an_address_without_host_is_this_machine(peer: Callable[..., Peer]) -> None:
    dial(Addr("", peer().port)).close()


def test_refused() -> None:
    error = failure(Addr("127.0.0.1", closed_port()))
    assert (error.phase, error.reason, error.timed_out) == ("connect", "connection refused", False)
    assert str(error) == f"node {error.node}: connect: connection refused"


def test_what_this_machine_lacks_is_no_fault_of_the_node(
    peer: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    assert not failure(Addr("127.0.0.1", closed_port())).is_local
    monkeypatch.setattr(dialing, "RawSocket", none)
    error = failure(Addr("127.0.0.1", peer().port))
    assert (error.reason, error.is_local) == ("too many open files", True)


def test_no_answer_in_time(full: int) -> None:
    began = monotonic()
    error = failure(Addr("127.0.0.1", full), timeout=0.1)
    assert (error.phase, error.reason, error.timed_out) == ("connect", "no answer in time", True)
    assert monotonic() - began < 2


def test_the_next_address_is_tried(peer: Callable[..., Peer]) -> None:
    names = Names(
        (socket.AF_INET, ("127.0.0.1", closed_port())), (socket.AF_INET, ("127.0.0.1", peer().port))
    )
    dial(Addr("db.internal", 80), names).close()


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    peer: Callable[..., Peer], full: int
) -> None:
    names = Names((socket.AF_INET, ("127.0.0.1", full)), (socket.AF_INET, ("127.0.0.1", peer().port)))
    dial(Addr("db.internal", 80), names, timeout=0.4).close()


def test_the_last_failure_is_told() -> None:
    names = Names(*[(socket.AF_INET, ("127.0.0.1", closed_port()))] * 2)
    assert failure(Addr("db.internal", 80), names).reason == "connection refused"


def test_a_family_that_is_not_there(peer: Callable[..., Peer]) -> None:
    names = Names((999, ("127.0.0.1", 1)), (socket.AF_INET, ("127.0.0.1", peer().port)))
    dial(Addr("db.internal", 80), names).close()


@pytest.mark.parametrize("temporary", [True, False])
def test_a_name_that_cannot_be_resolved(temporary: bool) -> None:
    names = Names(error=ResolveError("db.internal", "no such name", temporary))
    error = failure(Addr("db.internal", 80), names)
    assert (error.phase, error.reason, error.timed_out) == ("resolve", "no such name", temporary)


def test_names_need_a_resolver() -> None:
    assert failure(Addr("localhost", 80)).reason == "there is no resolver"


def test_a_real_resolver(peer: Callable[..., Peer]) -> None:
    dial(Addr("localhost", peer().port), Resolver()).close()


def test_addresses_that_are_not_permitted(peer: Callable[..., Peer]) -> None:
    names = Names((socket.AF_INET, ("127.0.0.1", peer().port)))
    asked: list[str] = []
    error = failure(Addr("evil.example", 80), names, permit=lambda address: bool(asked.append(address)))
    assert (error.phase, error.reason, asked) == ("resolve", "its address is not permitted", ["127.0.0.1"])


def test_a_socket_that_would_connect_to_itself_is_refused() -> None:
    """The kernel may choose the very port that is dialled for the near end, and then nothing refuses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    sock = socket.socket()
    sock.bind(address)
    made = [sock]

    class Bound:
        def __new__(cls, *_: Any) -> Any:
            raw = made.pop()
            raw.setblocking(False)
            return raw

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialing, "RawSocket", Bound)
        assert failure(Addr(*address)).reason == "connection refused"
    assert sock.fileno() == -1


@pytest.mark.parametrize("abstract", [False, True])
def test_unix_domain_sockets(abstract: bool, tmp_path: Path) -> None:
    path = f"@hemi-{os.getpid()}-{id(tmp_path)}" if abstract else str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path.replace("@", "\0"))
        listening.listen()
        channel = dial(Addr(path=path))
        channel.send(b"x")
        with listening.accept()[0] as accepted:
            assert accepted.recv(1) == b"x"
        channel.close()


def test_a_unix_domain_socket_that_is_not_there(tmp_path: Path) -> None:
    error = failure(Addr(path=str(tmp_path / "none")))
    assert (error.phase, error.reason) == ("connect", "no such file or directory")


def test_a_full_unix_domain_socket_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(0)
        channels = [dial(Addr(path=path))]
        assert failure(Addr(path=path), timeout=0.02).timed_out
        waiting = gevent.spawn(dial, Addr(path=path), timeout=5)
        gevent.sleep(0)
        assert not waiting.ready()
        listening.accept()[0].close()
        channels.append(waiting.get(timeout=5))
        for channel in channels:
            channel.close()


def test_a_killed_dial_leaves_nothing_open(full: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    task = gevent.spawn(dial, Addr("127.0.0.1", full))
    gevent.sleep(0)
    task.kill()
    assert len(os.listdir("/proc/self/fd")) == before


def test_quiet_channels(peer: Callable[..., Peer]) -> None:
    one = peer()
    channel = dial(Addr("127.0.0.1", one.port))
    assert channel.is_quiet()
    channel.send(b"x")
    until(lambda: not channel.is_quiet())
    assert not channel.is_quiet()  # something is there that nobody expects
    assert channel.recv(10) == b"x"
    assert channel.is_quiet()
    one.stop()
    until(lambda: not channel.is_quiet())
    assert not channel.is_quiet()
    channel.close()
    assert not channel.is_quiet()


def test_datagrams(tmp_path: Path) -> None:
    node = Node()
    for address, names in (
        (Addr("127.0.0.1", node.port), None),
        (Addr("n.test", node.port), Names((socket.AF_INET, ("127.0.0.1", node.port)))),
    ):
        sock = dial_datagrams(address, names)
        sock.send(b"hello")
        gevent.socket.wait_read(sock.fileno(), 5)
        assert sock.recv(10) == b"hello"
        sock.close()
    node.stop()
    for path in (str(tmp_path / "node"), f"@gorox-node-{os.getpid()}"):
        node = Node(path=path.replace("@", "\0"))
        sock = dial_datagrams(Addr(path=path))
        sock.send(b"hello")
        gevent.socket.wait_read(sock.fileno(), 5)
        assert sock.recv(10) == b"hello"
        sock.close()
        node.stop()


def test_datagrams_without_a_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    permit = "10.0.0.1".__eq__
    for address, names, reason in (
        (Addr(path=str(tmp_path / "nobody")), None, "no such file or directory"),
        (Addr("n.test", 1), Names(error=ResolveError("n.test", "no such name", False)), "no such name"),
        (Addr("127.0.0.1", 1), None, "its address is not permitted"),
    ):
        with pytest.raises(DialFailed, match=reason):
            dial_datagrams(address, names, permit=permit if address.host == "127.0.0.1" else None)

    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(dialing, "RawSocket", none_left)
    with pytest.raises(DialFailed) as caught:
        dial_datagrams(Addr("127.0.0.1", 1))
    assert caught.value.is_local
