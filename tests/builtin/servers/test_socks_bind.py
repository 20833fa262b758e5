"""BIND of socks_server: both replies, who may come, and what ends the waiting."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ftplib import FTP
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket

from hemi.builtin.servers.socks_bind import bind_within, facing
from tests.builtin.servers.test_socks_server import LOOPBACK, ask, config, name_request
from tests.forwardkit import read, read_all
from tests.running import Served, until
from tests.webkit import dial

Serve = Callable[..., Served]

BIND = "commands: [connect, bind]"


def bound(answer: bytes) -> tuple[str, int]:
    """The address in a reply."""
    assert answer[:4] == b"\5\0\0\1", answer
    return ".".join(map(str, answer[4:8])), int.from_bytes(answer[8:10], "big")


def test_a_peer_comes(serve: Serve, tmp_path: Path) -> None:
    served = serve(config(BIND, log=str(tmp_path / "access.log")))
    sock, answer = ask(served, name_request(b"localhost", 21, 2))
    where = bound(answer)
    with socket.create_connection(where, 10) as peer:
        assert bound(read(sock, 10)) == peer.getsockname()
        sock.sendall(b"to the peer")
        assert read(peer, 11) == b"to the peer"
        peer.sendall(b"and back")
        peer.shutdown(1)
        assert read_all(sock) == b"and back"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where, 10)  # it was for one
        name = peer.getsockname()
    sock.close()
    line = f"127.0.0.1 - BIND localhost:21 200 11 8 {name[0]}:{name[1]}\n"
    assert until(lambda: (tmp_path / "access.log").read_text() == line)


def test_others_are_turned_away(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.5 peer.example.com\n")
    served = serve(f"resolv: {{hosts_file: {tmp_path}/hosts}}\n" + config(BIND))
    sock, answer = ask(served, name_request(b"peer.example.com", 21, 2))
    where = bound(answer)
    with socket.create_connection(where, 10) as other:
        assert read_all(other) == b""
    with socket.create_connection(where, 10, source_address=("127.0.0.5", 0)) as peer:
        assert bound(read(sock, 10))[0] == "127.0.0.5"
        peer.sendall(b"hello")
        assert read(sock, 5) == b"hello"
    sock.close()


def test_the_rules_are_those_of_connect(serve: Serve) -> None:
    served = serve(config(BIND, allow="{networks: 127.0.0.0/8, ports: 21}"))
    for host, port, code in (
        (b"127.0.0.1", 22, 2),
        (b"10.0.0.1", 21, 2),
        (b"127.0.0.1", 0, 2),
        (b"a b", 21, 4),
    ):
        sock, answer = ask(served, name_request(host, port, 2))
        assert answer[1] == code and read_all(sock) == b""
        sock.close()
    served.reload(config("commands: connect"))
    sock, answer = ask(served, name_request(b"127.0.0.1", 21, 2))
    assert answer[1] == 7
    sock.close()


def test_nobody_comes(serve: Serve) -> None:
    served = serve(config(BIND, "bind_timeout: 100ms"))
    sock, answer = ask(served, name_request(b"127.0.0.1", 21, 2))
    where = bound(answer)
    assert read(sock, 10)[:2] == b"\5\6" and read_all(sock) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where, 10)
    sock.close()


def test_the_client_leaves(serve: Serve) -> None:
    served = serve(config(BIND))
    sock, answer = ask(served, name_request(b"127.0.0.1", 21, 2))
    where = bound(answer)
    sock.sendall(b"ahead")
    sock.close()
    assert until(lambda: refused(where))
    assert until(lambda: not served.server().conns)


def refused(where: Any) -> bool:
    try:
        socket.create_connection(where, 10).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


def test_what_is_sent_ahead_reaches_the_peer(serve: Serve) -> None:
    served = serve(config(BIND))
    sock, answer = ask(served, name_request(b"127.0.0.1", 21, 2))
    sock.sendall(b"ahead")
    with socket.create_connection(bound(answer), 10) as peer:
        assert read(peer, 5) == b"ahead"
    sock.close()


def test_socks4(serve: Serve) -> None:
    served = serve(config(BIND))
    with dial(served.address()) as sock:
        sock.sendall(struct.pack("!BBH4s", 4, 2, 21, b"\x7f\0\0\1") + b"me\0")
        answer = read(sock, 8)
        assert answer[:2] == b"\0\x5a" and answer[4:] == b"\x7f\0\0\1"
        with socket.create_connection(("127.0.0.1", int.from_bytes(answer[2:4], "big")), 10) as peer:
            assert read(sock, 8)[:2] == b"\0\x5a"
            peer.sendall(b"hello")
            assert read(sock, 5) == b"hello"


def test_ports_and_the_host_that_clients_are_told(serve: Serve) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        first = min(probe.getsockname()[1], 65000)
    last = first + 40
    served = serve(config(BIND, f'relay_ports: "{first}-{last}"', "relay_host: 192.0.2.7"))
    sock, answer = ask(served, name_request(b"127.0.0.1", 21, 2))
    host, port = bound(answer)
    assert host == "192.0.2.7" and first <= port <= last
    sock.close()


def test_ports_that_are_taken() -> None:
    with socket.socket() as taken, socket.socket() as other:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            bind_within(other._sock, "127.0.0.1", (port, port))
    assert facing("127.0.0.9") == "127.0.0.1"


def ftp_server(listening: Any, come_from: str) -> None:
    """As much of FTP as a client in active mode needs for a listing."""
    control, _ = listening.accept()
    with control:
        lines = control.makefile("rb")
        where: Any = None
        control.sendall(b"220 hello\r\n")
        while line := lines.readline():
            verb, _, rest = line.decode().strip().partition(" ")
            if verb == "PORT":
                numbers = [int(each) for each in rest.split(",")]
                where = ".".join(map(str, numbers[:4])), numbers[4] * 256 + numbers[5]
                control.sendall(b"200 fine\r\n")
            elif verb == "NLST":
                control.sendall(b"150 here it comes\r\n")
                with socket.create_connection(where, 10, source_address=(come_from, 0)) as data:
                    data.sendall(b"a.txt\r\nb.txt\r\n")
                control.sendall(b"226 done\r\n")
            else:
                control.sendall(b"230 fine\r\n")


class ActiveFTP(FTP):
    """FTP in active mode, whose data connections come through BIND."""

    served: Served

    def makeport(self) -> Any:
        sock, answer = ask(self.served, name_request(b"127.0.0.1", 21, 2))
        host, port = bound(answer)
        self.sendport(host, port)
        return _Bound(sock)


class _Bound:
    """What ftplib takes for a listening socket."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock

    def __enter__(self) -> _Bound:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        pass

    def accept(self) -> tuple[Any, Any]:
        peer = bound(read(self.sock, 10))
        return self.sock, peer


def test_ftp_in_active_mode(serve: Serve) -> None:
    """What BIND was made for (RFC 1928 §4)."""
    served = serve(config(BIND))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        task = gevent.spawn(ftp_server, listening, "127.0.0.1")
        ftp = ActiveFTP(timeout=10)
        ftp.served = served
        ftp.connect(*listening.getsockname())
        ftp.login()
        ftp.set_pasv(False)
        assert ftp.nlst() == ["a.txt", "b.txt"]
        ftp.close()
        task.join(5)


def test_nothing_is_left_open(serve: Serve) -> None:
    import psutil

    served = serve(config(BIND, "bind_timeout: 100ms", allow=LOOPBACK))
    me = psutil.Process()
    before = me.num_fds()
    for number in range(10):
        sock, answer = ask(served, name_request(b"127.0.0.1", 21, 2))
        if number % 2:
            with socket.create_connection(bound(answer), 10) as peer:
                peer.sendall(b"x")
                assert read(sock, 11)[-1:] == b"x"
        sock.close()
    assert until(lambda: not served.server().conns)
    assert me.num_fds() <= before
