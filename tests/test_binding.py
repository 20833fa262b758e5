"""Binding: what addresses come to, and the sockets made of them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hemi.binding import ListenOptions, Target, bind, inode_of, resolve, unlink_own


def test_what_addresses_come_to() -> None:
    assert resolve("127.0.0.1", 80, "") == Target(socket.AF_INET, ("127.0.0.1", 80))
    assert resolve("", 0, "/run/x.sock") == Target(socket.AF_UNIX, "/run/x.sock")
    assert resolve("", 80, "").sockaddr in (("::", 80), ("0.0.0.0", 80))
    assert resolve("", 0, "@name").path == ""
    with pytest.raises(socket.gaierror):
        resolve("no-such-host.invalid", 80, "")


def test_tcp() -> None:
    sock = bind(resolve("127.0.0.1", 0, ""), ListenOptions(backlog=7))
    try:
        assert sock.gettimeout() == 0
        assert not os.get_inheritable(sock.fileno())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        with socket.create_connection(sock.getsockname(), 5):
            pass
    finally:
        sock.close()


def test_abstract_names() -> None:
    sock = bind(resolve("", 0, f"@gorox-{os.getpid()}"), ListenOptions())
    assert sock.getsockname() == b"\0gorox-%d" % os.getpid()
    sock.close()


def test_files(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    target = resolve("", 0, path)
    first = bind(target, ListenOptions(uds_mode=0o620))
    assert os.stat(path).st_mode & 0o777 == 0o620
    with pytest.raises(OSError, match="in use"):
        bind(target, ListenOptions())
    first.close()
    stale = inode_of(path)
    second = bind(target, ListenOptions())  # nobody listens on the stale one
    unlink_own(path, stale if stale != inode_of(path) else None)
    assert os.path.exists(path)
    unlink_own(path, inode_of(path))
    assert not os.path.exists(path)
    assert inode_of(path) is None
    second.close()


def test_files_that_are_no_sockets_stay(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(OSError, match="no socket"):
        bind(resolve("", 0, str(tmp_path / "s")), ListenOptions())
    assert (tmp_path / "s").read_text() == "precious"


def test_unknown_owners(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-user"):
        bind(resolve("", 0, str(tmp_path / "s")), ListenOptions(uds_user="no-such-user"))


def test_datagrams(tmp_path: Path) -> None:
    target = resolve("127.0.0.1", 0, "", datagram=True)
    assert target.is_datagram and not Target(*resolve("", 0, "@x")).is_datagram
    sock = bind(target, ListenOptions(datagram=True))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"hello", sock.getsockname())
            assert sock.recv(10) == b"hello"
        with pytest.raises(OSError, match="in use"):
            bind(target._replace(sockaddr=sock.getsockname()), ListenOptions(datagram=True, share=1))
    finally:
        sock.close()
    path = str(tmp_path / "d")
    one = bind(resolve("", 0, path, datagram=True), ListenOptions(datagram=True))
    with pytest.raises(OSError, match="in use"):
        bind(resolve("", 0, path, datagram=True), ListenOptions(datagram=True))
    one.close()
    bind(
        resolve("", 0, path, datagram=True), ListenOptions(datagram=True)
    ).close()  # the stale one is replaced


def test_shares_of_an_address_get_a_source_each() -> None:
    options = ListenOptions(datagram=True, share=1)
    one = bind(resolve("127.0.0.1", 0, "", datagram=True), options)
    other = bind(Target(socket.AF_INET, one.getsockname(), is_datagram=True), options._replace(share=2))
    counts: dict[bytes, set[int]] = {}
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(32)]
    for _ in range(3):
        for number, client in enumerate(clients):
            client.sendto(b"%d" % number, one.getsockname())
    for sock in (one, other):
        for _ in range(3 * len(clients)):
            try:
                counts.setdefault(sock.recv(10), set()).add(sock.fileno())
            except BlockingIOError:
                break
    assert len(counts) == 32 and all(len(where) == 1 for where in counts.values())
    assert len({next(iter(where)) for where in counts.values()}) == 2
    for sock in (*clients, one, other):
        sock.close()
