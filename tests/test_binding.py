"""Binding: what addresses come to, and the sockets made of them."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from hemi.binding import ListenOptions, Target, adjust, bind, inode_of, resolve, unlink_own


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


@pytest.mark.parametrize("unknown", [{"uds_user": "no-such-user"}, {"uds_group": "no-such-group"}])
def test_unknown_owners(tmp_path: Path, unknown: dict[str, str]) -> None:
    with pytest.raises(OSError, match="no-such-"):
        bind(resolve("", 0, str(tmp_path / "s")), ListenOptions(**unknown))  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()


def backlog_of(sock: Any) -> int:
    """The length of the queue of a TCP socket that listens: tcpi_sacked of TCP_INFO."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    return int(struct.unpack("8B6I", info)[-1])


def test_the_queue_of_a_socket_in_use() -> None:
    old, new = ListenOptions(backlog=7), ListenOptions(backlog=30)
    sock = bind(resolve("127.0.0.1", 0, ""), old)
    with socket.create_connection(sock.getsockname(), 5):
        undo = adjust(sock, "", None, old, new)
        assert backlog_of(sock) == 30
        undo()
        assert backlog_of(sock) == 7
        sock._accept()  # who waits in it stays  # type: ignore[attr-defined]
    sock.close()


def test_the_file_of_a_socket_in_use(tmp_path: Path) -> None:
    path = tmp_path / "s"
    umask = os.umask(0o027)
    try:
        old = ListenOptions(uds_mode=0o600, uds_group=str(os.getegid()))
        sock = bind(resolve("", 0, str(path)), old)
        inode = inode_of(str(path))
        undo = adjust(sock, str(path), inode, old, ListenOptions(uds_mode=0o666, uds_user=str(os.geteuid())))
        assert path.stat().st_mode & 0o777 == 0o666
        undo()
        assert path.stat().st_mode & 0o777 == 0o600
        adjust(sock, str(path), inode, old, ListenOptions())
        assert path.stat().st_mode & 0o777 == 0o750, "as a new file's, when nothing is said any more"
        path.chmod(0o700)
        adjust(sock, str(path), inode, ListenOptions(), ListenOptions(backlog=9))
        assert path.stat().st_mode & 0o777 == 0o700, "what no option changes stays as somebody has made it"
    finally:
        os.umask(umask)
    sock.close()


def test_an_owner_that_cannot_be_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, uid: int, gid: int) -> None:
        raise PermissionError(1, "not you")

    path = tmp_path / "s"
    sock = bind(resolve("", 0, str(path)), ListenOptions(uds_mode=0o600))
    monkeypatch.setattr(os, "chown", refuse)
    new = ListenOptions(uds_mode=0o666, uds_user="65534")
    with pytest.raises(PermissionError):
        adjust(sock, str(path), inode_of(str(path)), ListenOptions(uds_mode=0o600), new)
    assert path.stat().st_mode & 0o777 == 0o600
    sock.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_a_socket_in_use(tmp_path: Path) -> None:
    path = tmp_path / "s"
    sock = bind(resolve("", 0, str(path)), ListenOptions())
    inode = inode_of(str(path))
    new = ListenOptions(uds_mode=0o660, uds_user="nobody", uds_group="1234")
    undo = adjust(sock, str(path), inode, ListenOptions(), new)
    assert (path.owner(), path.stat().st_gid) == ("nobody", 1234)
    tmp_path.chmod(0o2755)
    adjust(sock, str(path), inode, new, ListenOptions())
    assert (path.stat().st_uid, path.stat().st_gid) == (0, tmp_path.stat().st_gid)
    undo()
    assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)
    sock.close()


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
