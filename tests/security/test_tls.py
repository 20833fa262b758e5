"""What gets tried on TLS: row 12 of the table of attacks, and the TLS side of rows 1, 17 and 23."""

from __future__ import annotations

import random
import re
import socket
import ssl
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import gevent
import pytest

from hemi.tls import Identity, Policy, SiteTable
from hemi.tlschannel import PLAIN_HTTP_ANSWER
from tests.test_tlshello import real_hello
from tests.tlskit import TIMEOUT, Authority, client_context, connect, exchange, one_site, s_client, serving
from tests.waiting import until

VERSIONS = ["TLSv1_2", "TLSv1_3"]


@pytest.fixture(scope="module")
def sites(authority: Authority) -> SiteTable:
    """Two sites that are open to all, one that wants client certificates, all by the same certificate."""
    identity = authority.issue("sites", "open.example", "other.example", "secret.example", "asking.example")
    table = SiteTable()
    table.add(["*", "open.example"], table.site(identity, Policy()))
    table.add(["other.example"], table.site(identity, Policy(alpn=("other",))))
    for name, client_auth in (("secret.example", "require"), ("asking.example", "request")):
        asks = Policy(client_auth=client_auth, client_ca=authority.file)  # type: ignore[arg-type]
        table.add([name], table.site(identity, asks))
    return table


def visit(
    port: int, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None = None
) -> ssl.SSLSession | None:
    """One exchange; returns the session, which in TLS 1.3 comes after the handshake."""
    with connect(port, context, name, session) as sock:
        assert exchange(sock) == b"hello"
        return sock.session


# Resumption (CVE-2025-23419)


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_resume_at_their_own_site(authority: Authority, sites: SiteTable, version: str) -> None:
    """Else the tests below would show nothing."""
    context = client_context(authority, version=version)
    with serving(sites) as server:
        session = visit(server.port, context, "open.example")
        visit(server.port, context, "open.example", session)
        assert [info.resumed for info in server.infos] == [False, True]


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_of_an_open_site_do_not_open_another(
    authority: Authority, sites: SiteTable, version: str
) -> None:
    context = client_context(authority, version=version)
    with serving(sites) as server:
        session = visit(server.port, context, "open.example")
        with pytest.raises((OSError, AssertionError)):
            visit(server.port, context, "secret.example", session)
        [failure] = until(lambda: server.failures)
        assert failure.reason == "peer did not return a certificate"
        visit(server.port, context, "other.example", session)
        visit(server.port, context, "asking.example", session)
        assert [info.resumed for info in server.infos] == [False, False, False]


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_with_a_certificate_do_not_travel(
    authority: Authority, sites: SiteTable, version: str
) -> None:
    alice = authority.issue("alice@example.org")
    context = client_context(authority, alice, version)
    with serving(sites) as server:
        session = visit(server.port, context, "secret.example")
        visit(server.port, context, "open.example", session)
        visit(server.port, context, "asking.example", session)
        visit(server.port, context, "secret.example", session)
        resumed = [info.resumed for info in server.infos]
        assert resumed[:3] == [False, False, False]
        assert [bool(info.certificate) for info in server.infos] == [True, False, True, True]
        if version == "TLSv1_3":
            assert not resumed[3]  # no tickets at all where client certificates are asked for


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_cannot_carry_a_session_over(sites: SiteTable, tmp_path: Path, version: str) -> None:
    """The same with openssl s_client, which sends a session under whatever name it is told to."""
    saved = str(tmp_path / "session")

    def run(name: str, *options: str) -> str:
        process = s_client(server.port, version, "-servername", name, "-ign_eof", *options)
        assert process.stdout is not None and process.stdin is not None
        stdout = process.stdout
        try:
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            output = b""
            with gevent.Timeout(TIMEOUT):
                while b"\nhello\n" not in output and (data := stdout.read1(65536)):  # type: ignore[attr-defined]
                    output += data
            process.stdin.close()
            process.terminate()
        finally:
            process.wait(TIMEOUT)
            stdout.close()
        return output.decode("latin-1")

    with serving(sites) as server:
        run("open.example", "-sess_out", saved)
        assert "Reused, " in run("open.example", "-sess_in", saved)
        assert "Reused, " not in run("other.example", "-sess_in", saved)
        assert "hello" not in run("secret.example", "-sess_in", saved).split("---")[-1]
        assert [info.resumed for info in server.infos] == [False, True, False]
        [failure] = until(lambda: server.failures)
        assert failure.reason == "peer did not return a certificate"


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_end_with_their_stage(authority: Authority, identity: Identity, version: str) -> None:
    """A reload makes new contexts: a revoked certificate cannot come back by an old session."""
    context = client_context(authority, version=version)
    with serving(one_site(identity)) as server:
        session = visit(server.port, context, "localhost")
        server.sites = one_site(identity)
        visit(server.port, context, "localhost", session)
        assert [info.resumed for info in server.infos] == [False, False]


def test_a_resumed_certificate_must_still_be_valid(
    authority: Authority, sites: SiteTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = authority.issue("alice@example.org")
    context = client_context(authority, alice, "TLSv1_2")
    context.options |= ssl.OP_NO_TICKET
    with serving(sites) as server:
        session = visit(server.port, context, "secret.example")
        visit(server.port, context, "secret.example", session)
        assert [info.resumed for info in server.infos] == [False, True]
        now = time.time()
        monkeypatch.setattr("hemi.tlschannel.time.time", lambda: now + 40 * 86400)
        with pytest.raises((OSError, AssertionError)):
            visit(server.port, context, "secret.example", session)
        [failure] = until(lambda: server.failures)
        assert failure.reason == "the client certificate of the resumed session has expired"


def test_the_site_of_another_host_is_known(authority: Authority, sites: SiteTable) -> None:
    """What the 421 of HTTP is decided by: the site of the connection against that of the authority."""
    with serving(sites) as server:
        visit(server.port, client_context(authority), "open.example")
        [info] = server.infos
        assert sites.find("open.example") is info.site
        assert sites.find("unknown.example") is info.site
        assert sites.find("secret.example") is not info.site


# Renegotiation, compression, old versions


def test_renegotiation_is_refused(identity: Identity) -> None:
    with serving(one_site(identity)) as server:
        process = s_client(server.port, "-tls1_2", "-servername", "localhost")
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            until(lambda: server.infos)
            reader = gevent.spawn(process.stdout.read)
            with suppress(BrokenPipeError):
                while not reader.ready():  # read together with the line before it, it would be no command
                    process.stdin.write(b"R\n")
                    process.stdin.flush()
                    gevent.sleep(0.1)
            output = reader.get(timeout=TIMEOUT)
        finally:
            process.kill()
            process.wait(TIMEOUT)
        assert b"RENEGOTIATING" in output
        assert b"no renegotiation" in output
        assert b"Secure Renegotiation IS supported" in output
        assert b"Compression: NONE" in output
        assert len(server.infos) == 1


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(identity: Identity, version: str) -> None:
    with serving(one_site(identity)) as server:
        process = s_client(server.port, version, "-cipher", "DEFAULT@SECLEVEL=0")
        output, _ = gevent.spawn(process.communicate, b"", TIMEOUT).get(timeout=TIMEOUT)
        assert b"protocol version" in output
        [failure] = until(lambda: server.failures)
        assert failure.reason == "unsupported protocol"


def test_weak_ciphers_are_refused(identity: Identity) -> None:
    with serving(one_site(identity)) as server:
        for ciphers in ("aNULL", "RSA", "AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "3DES"):
            command = f"{ciphers}:@SECLEVEL=0"
            process = s_client(server.port, "-tls1_2", "-cipher", command)
            output, _ = gevent.spawn(process.communicate, b"", TIMEOUT).get(timeout=TIMEOUT)
            assert re.search(rb"handshake failure|no cipher match|no ciphers available", output), (
                ciphers,
                output,
            )
        assert server.infos == []


# Slow, silent, noisy and vanishing clients


def test_slow_handshakes_end_and_hold_up_nobody(authority: Authority, identity: Identity) -> None:
    hello = real_hello()
    with serving(one_site(identity), timeout=0.5) as server:
        begun = time.monotonic()
        slow = [socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) for _ in range(20)]
        for number, sock in enumerate(slow):
            sock.sendall(hello[: number * len(hello) // len(slow)] if number < 19 else hello)
        with connect(server.port, client_context(authority)) as sock:
            assert exchange(sock) == b"hello"
        assert time.monotonic() - begun < 0.5

        def drip() -> None:  # a byte now and then buys no time
            try:
                while True:
                    slow[1].sendall(b"\0")
                    gevent.sleep(0.02)
            except OSError:
                pass

        dripping = gevent.spawn(drip)
        until(lambda: len(server.failures) == len(slow))
        assert time.monotonic() - begun < 3.0
        assert {failure.reason for failure in server.failures} == {"not done within 0.5 seconds"}
        for sock in slow:
            sock.close()
        dripping.kill(timeout=TIMEOUT)
        until(lambda: not server.channels)


def test_plain_http_is_told(identity: Identity) -> None:
    with serving(one_site(identity)) as server:
        server.plain_answer = PLAIN_HTTP_ANSWER
        for request in (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(100_000),
            b"PROPFIND / HTTP/1.1\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as sock:
                sock.sendall(request)
                with sock.makefile("rb") as file:
                    answer = file.read()
            head, _, content = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 ")
            assert f"Content-Length: {len(content)}".encode() in head
            assert content == b"plain HTTP request was sent to a TLS port"
        for noise in (b"\0\1\2", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x80\x2e\1\0\2"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as sock:
                sock.sendall(noise)
                assert sock.recv(100) == b""
        until(lambda: len(server.failures) == 5)
        assert [failure.reason for failure in server.failures] == [
            "a plain HTTP request",
            "a plain HTTP request",
            *["the peer does not talk TLS"] * 3,
        ]


def test_who_comes_and_goes_is_no_news(identity: Identity) -> None:
    with serving(one_site(identity)) as server:
        socket.create_connection(("127.0.0.1", server.port)).close()
        [failure] = until(lambda: server.failures)
        assert failure.quiet


def test_broken_handshakes_end(authority: Authority, identity: Identity) -> None:
    """A real hello cut and bent at random: each connection ends by itself, and the server lives."""
    random.seed(12)
    hello = real_hello()
    with serving(one_site(identity)) as server:
        for _ in range(150):
            data = bytearray(hello)
            for _ in range(random.randrange(4)):
                data[random.randrange(len(data))] = random.randrange(256)
            data = data[: random.randrange(1, len(data) + 1)]
            data += random.randbytes(random.choice((0, 0, 10, 300)))
            with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                while True:
                    try:
                        if not sock.recv(65536):
                            break
                    except ConnectionResetError:
                        break
        until(lambda: not server.channels)
        assert len(server.failures) == 150
        assert server.errors == []
        with connect(server.port, client_context(authority)) as sock:
            assert exchange(sock) == b"hello"


def test_who_vanishes_in_the_handshake_is_forgotten(identity: Identity) -> None:
    hello = real_hello()
    with serving(one_site(identity)) as server:
        for _ in range(20):
            sock = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
            sock.sendall(hello)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        until(lambda: len(server.failures) == 20 and not server.channels)
        assert server.errors == []


def test_a_flood_of_key_updates_is_bounded(identity: Identity) -> None:
    """A client that asks for new keys without end and reads nothing of the answers."""
    from hemi import tlschannel

    with serving(one_site(identity)) as server:
        process = subprocess.Popen(
            [
                "openssl",
                "s_client",
                "-connect",
                f"127.0.0.1:{server.port}",
                "-tls1_3",
                "-quiet",
                "-no_ign_eof",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        try:
            until(lambda: server.channels)
            for _ in range(300):
                process.stdin.write(b"K\n")
                process.stdin.flush()
                gevent.sleep(0.001)
            [channel] = server.channels
            assert len(channel._backlog) + channel._outgoing.pending <= tlschannel.MAX_UNSENT
        finally:
            process.kill()
            process.wait(TIMEOUT)
        until(lambda: not server.channels)
