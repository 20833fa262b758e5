"""The server `socks_server`, with clients that write bytes, curl and PySocks."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import socks as pysocks

from hemi.errors import ConfigError
from tests.forwardkit import HASH, closed_port, echo, read, read_all, target
from tests.running import Served, require_program, until
from tests.tlskit import Authority, client_context
from tests.webkit import dial

Serve = Callable[..., Served]

LOOPBACK = "{networks: 127.0.0.0/8}"


def config(*lines: str, allow: str = LOOPBACK, address: str = '"127.0.0.1:0"', log: str = "") -> str:
    text = f"servers:\n  proxy:\n    type: socks_server\n    address: {address}\n    allow: [{allow}]\n"
    text += "".join(f"    {line}\n" for line in lines)
    if log:
        text += f"    access_log: log\nloggers:\n  log: {{type: logger, target: {log}, flush_interval: 1ms, "
        text += "format: '$src_host $user $request $status $bytes_received $bytes_sent $node'}\n"
    return text


USERS = (f'users: {{anna: "{HASH}", bert: "{HASH}"}}', "allow_plain: true")


def name_request(host: bytes, port: int, command: int = 1) -> bytes:
    return struct.pack("!BBBBB", 5, command, 0, 3, len(host)) + host + struct.pack("!H", port)


def ask(served: Served, request: bytes, greeting: bytes = b"\5\1\0") -> tuple[Any, bytes]:
    """A negotiation without a login; returns the connection and the reply."""
    sock = dial(served.address())
    sock.sendall(greeting)
    assert read(sock, 2) == b"\5\0"
    sock.sendall(request)
    return sock, read(sock, 10)


def reply(served: Served, host: bytes, port: int, command: int = 1) -> int:
    """The code that a request gets."""
    sock, answer = ask(served, name_request(host, port, command))
    sock.close()
    return answer[1]


def test_connect(serve: Serve, tmp_path: Path) -> None:
    served = serve(config(log=str(tmp_path / "access.log")))
    with target() as there:
        sock, answer = ask(served, struct.pack("!BBBB4sH", 5, 1, 0, 1, b"\x7f\0\0\1", there.port))
        assert answer[:4] == b"\5\0\0\1" and answer[4:8] == b"\x7f\0\0\1"
        sock.sendall(b"hello")
        assert read(sock, 5) == b"hello"
        sock.shutdown(1)
        assert read_all(sock) == b""
        sock.close()
    line = f"127.0.0.1 - CONNECT 127.0.0.1:{there.port} 200 5 5 127.0.0.1:{there.port}\n"
    assert until(lambda: (tmp_path / "access.log").read_text() == line), (tmp_path / "access.log").read_text()


def test_half_close(serve: Serve) -> None:
    def count(conn: Any) -> None:
        conn.sendall(b"%d" % len(read_all(conn)))

    served = serve(config())
    with target(count) as there:
        sock, _ = ask(served, name_request(b"localhost", there.port))
        sock.sendall(b"x" * 300000)
        sock.shutdown(1)
        assert read_all(sock) == b"300000"
        sock.close()


def test_what_is_sent_ahead_counts(serve: Serve) -> None:
    served = serve(config())
    with target() as there, dial(served.address()) as sock:
        sock.sendall(b"\5\1\0" + name_request(b"127.0.0.1", there.port) + b"hello")
        assert read(sock, 2) + read(sock, 10)[:2] == b"\5\0\5\0"
        assert read(sock, 5) == b"hello"


def test_reply_codes(serve: Serve) -> None:
    served = serve(config(allow=f'{LOOPBACK}, {{names: "*.invalid"}}, {{networks: "::1"}}'))
    with target() as there:
        port = there.port
        assert reply(served, b"127.0.0.1", port) == 0
        assert reply(served, b"127.0.0.1", closed_port()) == 5
        assert reply(served, b"10.0.0.1", port) == 2
        assert reply(served, b"192.0.2.1", port) == 2
        assert reply(served, b"127.0.0.1", 0) == 2
        assert reply(served, b"a b", port) == 4
        assert reply(served, b"", port) == 4
        assert reply(served, b"127.1", port) == 4
        assert reply(served, b"127.0.0.1", port, 2) == 7
        assert reply(served, b"127.0.0.1", port, 3) == 7
        assert reply(served, b"127.0.0.1", port, 9) == 7
        sock, answer = ask(served, b"\5\1\0\7\0")
        assert answer == b"\5\x08\0\1" + bytes(6) and read_all(sock) == b""
        sock.close()
        assert there.accepted == 1


def test_the_rules_hold_for_what_a_name_resolves_to(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 inside.example.com\n10.9.9.9 both.example.com\n")
    hosts = f"resolv: {{hosts_file: {tmp_path}/hosts}}\n"
    with target() as there:
        served = serve(hosts + config(allow='{names: "*.example.com"}'))
        assert reply(served, b"inside.example.com", there.port) == 2
        served.reload(hosts + config(allow='{names: "*.example.com", networks: 127.0.0.0/8}'))
        assert reply(served, b"inside.example.com", there.port) == 0
        assert reply(served, b"INSIDE.example.com.", there.port) == 0
        assert reply(served, b"127.0.0.1", there.port) == 2
        assert reply(served, b"both.example.com", there.port) == 2
        assert there.accepted == 2


def login(served: Served, user: bytes, password: bytes) -> tuple[Any, bytes]:
    sock = dial(served.address())
    sock.sendall(b"\5\2\0\2")
    assert read(sock, 2) == b"\5\2"
    sock.sendall(bytes((1, len(user))) + user + bytes((len(password),)) + password)
    return sock, read(sock, 2)


def test_users(serve: Serve, tmp_path: Path) -> None:
    allow = "{users: anna, networks: 127.0.0.0/8}"
    served = serve(config(*USERS, allow=allow, log=str(tmp_path / "access.log")))
    with target() as there:
        for user, expected in ((b"anna", 0), (b"bert", 2)):
            sock, status = login(served, user, b"gorox")
            assert status == b"\1\0"
            sock.sendall(name_request(b"127.0.0.1", there.port))
            assert read(sock, 10)[1] == expected
            sock.close()
    for user, password in ((b"anna", b"wrong"), (b"carl", b"gorox"), (b"", b""), (b"\xff", b"\xff")):
        sock, status = login(served, user, password)
        assert status == b"\1\1" and read_all(sock) == b""
        sock.close()
    with dial(served.address()) as sock:
        sock.sendall(b"\5\1\0")
        assert read_all(sock) == b"\5\xff"
    with dial(served.address()) as sock:
        sock.sendall(struct.pack("!BBH4s", 4, 1, 80, b"\x7f\0\0\1") + b"anna\0")
        assert read_all(sock) == b"\0\x5b" + bytes(6)
    log = tmp_path / "access.log"
    assert until(lambda: " anna CONNECT 127" in log.read_text() and " bert CONNECT 127" in log.read_text())


def test_guessing_is_slowed_down(serve: Serve) -> None:
    served = serve(config(*USERS, "max_failures: 2"))
    for password in (b"one", b"two", b"gorox"):
        sock, status = login(served, b"anna", password)
        assert status == b"\1\1"
        sock.close()


def test_socks4(serve: Serve) -> None:
    served = serve(config())
    with target() as there:
        for address, name in ((b"\x7f\0\0\1", b""), (b"\0\0\0\1", b"localhost\0")):
            with dial(served.address()) as sock:
                sock.sendall(struct.pack("!BBH4s", 4, 1, there.port, address) + b"me\0" + name + b"hello")
                assert read(sock, 8)[:2] == b"\0\x5a" and read(sock, 5) == b"hello"
        for address, command in ((b"\x0a\0\0\1", 1), (b"\x7f\0\0\1", 2)):
            with dial(served.address()) as sock:
                sock.sendall(struct.pack("!BBH4s", 4, command, there.port, address) + b"\0")
                assert read_all(sock) == b"\0\x5b" + bytes(6)
        served.reload(config("socks4: false"))
        with dial(served.address()) as sock:
            sock.sendall(b"\4")
            assert read_all(sock) == b"\0\x5b" + bytes(6)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\0", b"\x16\3\1"])
def test_other_protocols_get_nothing(serve: Serve, data: bytes) -> None:
    served = serve(config())
    with dial(served.address()) as sock:
        sock.sendall(data)
        try:
            assert read_all(sock) == b""
        except ConnectionResetError:
            pass


def test_who_is_slow_is_cut(serve: Serve) -> None:
    served = serve(config("request_timeout: 100ms"))
    for data in (b"", b"\5", b"\5\1\0"):
        with dial(served.address()) as sock:
            sock.sendall(data)
            assert read_all(sock) == (b"\5\0" if len(data) == 3 else b"")


def test_idle_and_old_relays_end(serve: Serve) -> None:
    for limit in ("idle_timeout: 200ms", "max_lifetime: 1s"):
        served = serve(config(limit))
        with target() as there:
            sock, _ = ask(served, name_request(b"127.0.0.1", there.port))
            sock.sendall(b"hello")
            assert read_all(sock) == b"hello"
            sock.close()
            assert until(lambda there=there: not there.open)
        assert until(lambda served=served: not served.server().conns)


def test_there_are_only_so_many(serve: Serve) -> None:
    served = serve(config("max_concurrent_conns: 1"))
    with target() as there:
        sock, _ = ask(served, name_request(b"127.0.0.1", there.port))
        with dial(served.address()) as other:
            assert read_all(other) == b""
        sock.close()
        assert until(lambda: not served.server().conns)
        assert reply(served, b"127.0.0.1", there.port) == 0


def test_relays_live_through_a_reload_and_are_cut_at_the_end(serve: Serve) -> None:
    served = serve("drain_timeout: 1500ms\n" + config())
    with target() as there:
        address = served.address()
        sock, _ = ask(served, name_request(b"127.0.0.1", there.port))
        served.reload(config(allow="{networks: 10.0.0.0/8}"))
        assert served.address() == address
        sock.sendall(b"hello")
        assert read(sock, 5) == b"hello"
        assert reply(served, b"127.0.0.1", there.port) == 2
        served.close()
        try:
            assert read_all(sock) == b""
        except ConnectionResetError:
            pass
        sock.close()
        assert until(lambda: not there.open)


def test_over_tls_and_unix(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("localhost")
    path = tmp_path / "s.sock"
    served = serve(
        config(
            "tls: true",
            f"certificates: [{{certificate: {identity.certificate}, private_key: {identity.private_key}}}]",
            address=f'["127.0.0.1:0", "{path}"]',
        )
    )
    with target() as there:
        for address in served.server().addresses:
            with dial(address, tls=client_context(authority)) as sock:
                sock.sendall(b"\5\1\0" + name_request(b"127.0.0.1", there.port) + b"hello")
                assert read(sock, 12)[3] == 0
                assert read(sock, 5) == b"hello"


def answer_http(conn: Any) -> None:
    conn.recv(65536)
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "socks4a"])
def test_curl(serve: Serve, scheme: str) -> None:
    curl = require_program("curl", "curl")
    served = serve(config())
    with target(answer_http) as there:
        done = subprocess.run(
            [curl, "-sS", "--max-time", "10", "-x", f"{scheme}://{served.address()}",
             "--noproxy", "", f"http://localhost:{there.port}/"],
            capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, b"hello"), done.stderr


def test_curl_with_a_password(serve: Serve) -> None:
    curl = require_program("curl", "curl")
    served = serve(config(*USERS))
    with target(answer_http) as there:
        for password, code in (("gorox", 0), ("wrong", 97)):
            done = subprocess.run(
                [curl, "-sS", "--max-time", "10", "--socks5-hostname", served.address(), "--noproxy", "",
                 "--proxy-user", f"anna:{password}", f"http://localhost:{there.port}/"],
                capture_output=True, timeout=20, check=False,
            )  # fmt: skip
            assert done.returncode == code, done.stderr


def test_pysocks(serve: Serve) -> None:
    served = serve(config(*USERS))
    host, _, port = served.address().rpartition(":")
    with target() as there:
        sock = pysocks.socksocket()
        sock.settimeout(10)
        sock.set_proxy(pysocks.SOCKS5, host, int(port), rdns=True, username="anna", password="gorox")
        sock.connect(("localhost", there.port))
        sock.sendall(b"hello")
        assert read(sock, 5) == b"hello"
        sock.close()
        sock = pysocks.socksocket()
        sock.settimeout(10)
        sock.set_proxy(pysocks.SOCKS5, host, int(port), rdns=True, username="anna", password="gorox")
        with pytest.raises(pysocks.ProxyError, match="Connection refused"):
            sock.connect(("localhost", closed_port()))
        sock.close()


def test_nothing_is_left_open(serve: Serve) -> None:
    import psutil

    served = serve(config())
    me = psutil.Process()
    with target(echo) as there:
        assert reply(served, b"127.0.0.1", there.port) == 0
        assert until(lambda: not served.server().conns and not there.open)
        before = me.num_fds()
        for _ in range(20):
            assert reply(served, b"127.0.0.1", there.port) == 0
            assert reply(served, b"127.0.0.1", 1) == 5
            sock = dial(served.address())
            sock.sendall(b"\5")
            sock.close()
        assert until(lambda: not served.server().conns and not there.open)
        assert me.num_fds() <= before


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (['users: {"a:b": "x"}'], "a:b"),
        (["users: {anna: secret}"], "hash"),
        (["users_file: nowhere"], "cannot be read"),
        (["deny: [{users: anna}]"], "must have users or a users_file"),
        (["tls: true"], "needs certificates"),
    ],
)
def test_mistakes(serve: Serve, lines: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        serve(config(*lines))
    assert problem in str(caught.value)
