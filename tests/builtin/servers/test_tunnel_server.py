"""The server `tunnel_server`, with clients that write bytes, and curl."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hemi.errors import ConfigError
from tests.forwardkit import HASH, closed_port, read, read_all, target
from tests.running import Served, require_program, until
from tests.tlskit import Authority, client_context
from tests.webkit import dial

Serve = Callable[..., Served]

USERS = (f'users: {{anna: "{HASH}"}}', "allow_plain: true")
PASSWORD = "Proxy-Authorization: Basic " + base64.b64encode(b"anna:gorox").decode()


def config(*lines: str, allow: str = "{networks: 127.0.0.0/8}", address: str = '"127.0.0.1:0"') -> str:
    text = f"servers:\n  proxy:\n    type: tunnel_server\n    address: {address}\n    allow: [{allow}]\n"
    return text + "".join(f"    {line}\n" for line in lines)


def ask(served: Served, line: str, *fields: str, content: bytes = b"", host: str = "x.example") -> bytes:
    """Sends a request; all that comes back."""
    with dial(served.address()) as sock:
        sock.sendall("\r\n".join([line, f"Host: {host}", *fields, "", ""]).encode() + content)
        return read_all(sock)


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer[9:12])


class Site:
    """Keeps what it was asked, and answers with what it was given."""

    def __init__(self, *answer: bytes, size: int = 0) -> None:
        self.answer = answer
        self.size = size
        self.asked = b""

    def __call__(self, conn: Any) -> None:
        while b"\r\n\r\n" not in self.asked or len(self.asked.partition(b"\r\n\r\n")[2]) < self.size:
            data = conn.recv(65536)
            if not data:
                return
            self.asked += data
        for piece in self.answer:
            conn.sendall(piece)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 3\r\nX: y\r\n\r\nhello"


def test_connect(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    loggers = f"loggers:\n  log: {{type: logger, target: {log}, flush_interval: 1ms, "
    loggers += "format: '$src_host $user \"$request\" $status $bytes_received $bytes_sent'}\n"
    served = serve(loggers + config("access_log: log"))
    with target() as there:
        with dial(served.address()) as sock:
            sock.sendall(b"CONNECT localhost:%d HTTP/1.1\r\nHost: localhost\r\n\r\nhello" % there.port)
            assert read(sock, 39) == b"HTTP/1.1 200 Connection Established\r\n\r\n"
            assert read(sock, 5) == b"hello"
            sock.shutdown(1)
            assert read_all(sock) == b""
        line = f'127.0.0.1 - "CONNECT localhost:{there.port}" 200 5 5\n'
        assert until(lambda: log.read_text() == line), log.read_text()


def test_a_head_may_come_byte_by_byte(serve: Serve) -> None:
    served = serve(config())
    with target() as there, dial(served.address()) as sock:
        for byte in b"\r\nCONNECT localhost:%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % there.port:
            sock.sendall(bytes((byte,)))
        assert read(sock, 12) == b"HTTP/1.1 200"


def test_whole_uris(serve: Serve) -> None:
    served = serve(config())
    site = Site(OK)
    with target(site) as there:
        line = f"GET http://localhost:{there.port}/x?y HTTP/1.1"
        answer = ask(served, line, PASSWORD, "Connection: X-Mine", "X-Mine: 1", "A: b")
        assert answer == (
            b"HTTP/1.1 200 OK\r\nx: y\r\nvia: 1.1 gorox\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
        )
        assert site.asked == (
            b"GET /x?y HTTP/1.1\r\nhost: localhost:%d\r\na: b\r\n"
            b"via: 1.1 gorox\r\nconnection: close\r\n\r\n" % there.port
        )


CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS


@pytest.mark.parametrize(
    ("line", "answer", "expected"),
    [
        ("GET {} HTTP/1.1", CHUNKED, CHUNKS),
        ("GET {} HTTP/1.1", b"HTTP/1.0 200 OK\r\n\r\nhello", CHUNKS),
        ("GET {} HTTP/1.0", CHUNKED, b"hello"),
        ("GET {} HTTP/1.1", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ("GET {} HTTP/1.1", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
        ("HEAD {} HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b""),
        ("GET {} HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)  # fmt: skip
def test_framings_of_responses(serve: Serve, line: str, answer: bytes, expected: bytes) -> None:
    served = serve(config())
    with target(Site(answer)) as there:
        got = ask(served, line.format(f"http://127.0.0.1:{there.port}/"))
        head, _, content = got.partition(b"\r\n\r\n")
        assert content == expected and status(got) == int(answer[9:12])
        assert (b"content-length: 5" in head) == (b"Content-Length: 5" in answer)


def test_contents_of_requests(serve: Serve) -> None:
    served = serve(config())
    big = bytes(range(256)) * 2000
    for fields, content, passed in (
        ((f"Content-Length: {len(big)}",), big, big),
        (("Transfer-Encoding: chunked",), b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n", None),
    ):
        site = Site(OK, size=len(passed or b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") if passed else 15)
        with target(site) as there:
            answer = ask(served, f"POST http://127.0.0.1:{there.port}/ HTTP/1.1", *fields, content=content)
            assert status(answer) == 200 and answer.endswith(b"hello")
        got = site.asked.partition(b"\r\n\r\n")[2]
        assert got == passed if passed else got.replace(b"\r\n", b" ") in (b"5 abcde 0  ", b"3 abc 2 de 0  ")


def test_continue(serve: Serve) -> None:
    def wait(conn: Any) -> None:
        assert b"expect: 100-continue" in conn.recv(65536)
        conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert read(conn, 3) == b"abc"
        conn.sendall(OK)

    served = serve(config())
    with target(wait) as there, dial(served.address()) as sock:
        sock.sendall(
            b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
            % there.port
        )
        assert read(sock, 21) == b"HTTP/1.1 100 Continue"
        sock.sendall(b"abc")
        assert read_all(sock).endswith(b"hello")


def test_an_early_answer_arrives(serve: Serve) -> None:
    served = serve(config())
    with target(Site(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")) as there:
        line = f"POST http://127.0.0.1:{there.port}/ HTTP/1.1"
        with dial(served.address()) as sock:
            sock.sendall(f"{line}\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc".encode())
            assert read(sock, 12) == b"HTTP/1.1 413"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", 502),
        (b"SSH-2.0-x\r\n\r\n", 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 502),
    ],
)
def test_bad_answers(serve: Serve, answer: bytes, expected: int) -> None:
    served = serve(config())
    with target(Site(answer)) as there:
        assert status(ask(served, f"GET http://127.0.0.1:{there.port}/ HTTP/1.1")) == expected


def test_what_is_cut_is_not_taken_for_whole(serve: Serve) -> None:
    served = serve(config())
    site = Site(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    with target(site) as there, pytest.raises(ConnectionResetError):
        ask(served, f"GET http://127.0.0.1:{there.port}/ HTTP/1.0")


def test_a_server_that_says_nothing(serve: Serve) -> None:
    served = serve(config("idle_timeout: 100ms"))
    with target(lambda conn: conn.recv(1 << 20) and conn.recv(1)) as there:
        assert status(ask(served, f"GET http://127.0.0.1:{there.port}/ HTTP/1.1")) == 504


def test_statuses(serve: Serve) -> None:
    served = serve(config(allow='{networks: 127.0.0.0/8}, {names: "*.invalid"}'))
    assert status(ask(served, f"CONNECT 127.0.0.1:{closed_port()} HTTP/1.1")) == 502
    assert status(ask(served, "CONNECT 10.0.0.1:443 HTTP/1.1")) == 403
    assert status(ask(served, "GET http://192.0.2.1/ HTTP/1.1")) == 403
    assert status(ask(served, "GET / HTTP/1.1")) == 400
    assert status(ask(served, "GET https://127.0.0.1/ HTTP/1.1")) == 400
    assert status(ask(served, "NONSENSE", "X: y")) == 400
    assert status(ask(served, "GET http://127.0.0.1/ HTTP/1.1", "X: " + "y" * 40000)) == 431
    with target(Site(OK)) as there:
        line = f"POST http://127.0.0.1:{there.port}/ HTTP/1.1"
        assert status(ask(served, line, "Transfer-Encoding: chunked", content=b"zz\r\n")) == 400


def test_users(serve: Serve) -> None:
    served = serve(
        config(*USERS, 'realm: "the proxy"', "max_failures: 3", allow="{users: anna, networks: 127.0.0.1}")
    )
    with target(Site(OK)) as there:
        line = f"GET http://127.0.0.1:{there.port}/ HTTP/1.1"
        answer = ask(served, line)
        assert status(answer) == 407
        assert b'\r\nproxy-authenticate: Basic realm="the proxy"\r\n' in answer
        wrong = "Proxy-Authorization: Basic " + base64.b64encode(b"anna:wrong").decode()
        assert status(ask(served, line, wrong)) == 407
        assert there.accepted == 0
        assert status(ask(served, line, PASSWORD)) == 200
        assert status(ask(served, line, "Authorization: Basic eDp5")) == 407
        assert [status(ask(served, line, wrong)) for _ in range(3)][-1] == 429


def test_who_is_slow_is_cut(serve: Serve) -> None:
    served = serve(config("request_timeout: 100ms"))
    with dial(served.address()) as sock:
        assert read_all(sock) == b""
    with dial(served.address()) as sock:
        sock.sendall(b"CONNECT a")
        assert status(read_all(sock)) == 408


def test_there_are_only_so_many(serve: Serve) -> None:
    served = serve(config("max_concurrent_conns: 1"))
    with target() as there, dial(served.address()) as sock:
        sock.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % there.port)
        assert read(sock, 12) == b"HTTP/1.1 200"
        with dial(served.address()) as other:
            assert status(read_all(other)) == 503


def test_tunnels_live_through_a_reload(serve: Serve) -> None:
    served = serve("drain_timeout: 1s\n" + config())
    with target() as there, dial(served.address()) as sock:
        sock.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % there.port)
        assert read(sock, 39).endswith(b"\r\n\r\n")
        served.reload(config(allow=""))
        sock.sendall(b"hello")
        assert read(sock, 5) == b"hello"
        assert status(ask(served, f"CONNECT 127.0.0.1:{there.port} HTTP/1.1")) == 403


@pytest.mark.parametrize("secure", [False, True])
def test_curl(serve: Serve, tmp_path: Path, secure: bool) -> None:
    curl = require_program("curl", "curl")
    lines = USERS
    if secure:
        authority = Authority(tmp_path)
        identity = authority.issue("localhost", "localhost", "127.0.0.1")
        pair = f"certificate: {identity.certificate}, private_key: {identity.private_key}"
        lines = (*USERS, "tls: true", f"certificates: [{{{pair}}}]")
    served = serve(config(*lines))
    scheme = "https" if secure else "http"
    options = ["--proxy-cacert", authority.file] if secure else []
    with target(lambda conn: Site(OK)(conn)) as there:
        for more in ([], ["-p"], ["-d", "x" * 100]):
            for password, code in (("gorox", 0), ("wrong", 22)):
                command = [
                    curl, "-sS", "-f", "--max-time", "10", "-x", f"{scheme}://anna:{password}@{served.address()}",
                    "--noproxy", "", *options, *more, f"http://localhost:{there.port}/",
                ]  # fmt: skip
                done = subprocess.run(command, capture_output=True, timeout=20, check=False)
                assert (done.returncode == 0) == (code == 0), done.stderr
                assert code or done.stdout == b"hello"


def test_over_tls_and_unix(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("localhost")
    pair = f"certificate: {identity.certificate}, private_key: {identity.private_key}"
    address = f'["127.0.0.1:0", "{tmp_path}/t.sock"]'
    served = serve(config("tls: true", f"certificates: [{{{pair}}}]", address=address))
    with target() as there:
        for bound in served.server().addresses:
            with dial(bound, tls=client_context(authority)) as sock:
                sock.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % there.port)
                assert read(sock, 39).endswith(b"\r\n\r\n")
                sock.sendall(b"hello")
                assert read(sock, 5) == b"hello"


@pytest.mark.parametrize(("line", "problem"), [('realm: "a\\nb"', "realm"), ('via: "a\\r\\nb"', "via")])
def test_mistakes(serve: Serve, line: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        serve(config(line))
    assert problem in str(caught.value)
