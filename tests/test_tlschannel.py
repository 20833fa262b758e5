"""TLS channels against the clients of Python and OpenSSL, over loopback."""

from __future__ import annotations

import math
import os
import socket
import ssl
import struct
import time
from _socket import socket as RawSocket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest

from hemi.sockets import Channel, DeadlinePassed
from hemi.tls import Identity, Policy
from hemi.tlschannel import RECORD, TLSChannel
from tests.tlskit import (
    TIMEOUT,
    Authority,
    Server,
    client_context,
    connect,
    exchange,
    one_site,
    s_client,
    serving,
)
from tests.waiting import until

VERSIONS = ["TLSv1_2", "TLSv1_3"]


@pytest.fixture
def server(identity: Identity) -> Iterator[Server]:
    with serving(one_site(identity, Policy(alpn=("http/1.1", "hemi")))) as server:
        yield server
        assert server.errors == []


@pytest.fixture
def client(authority: Authority) -> ssl.SSLContext:
    return client_context(authority)


# The handshake


@pytest.mark.parametrize("version", VERSIONS)
def test_handshake_and_echo(server: Server, authority: Authority, version: str) -> None:
    context = client_context(authority, version=version)
    context.set_alpn_protocols(["hemi"])
    with connect(server.port, context) as sock:
        assert exchange(sock) == b"hello"
        assert sock.selected_alpn_protocol() == "hemi"
        cipher = sock.cipher()
    [info] = server.infos
    assert cipher is not None
    assert info.cipher == cipher[0]
    assert info.version == version.replace("_", ".")
    assert (info.server_name, info.alpn, info.resumed) == ("localhost", "hemi", False)
    assert info.site is server.sites.default
    assert info.certificate is None
    assert not info.verified
    assert info.client_subject == info.client_issuer == info.client_serial == info.client_fingerprint == ""


def test_rsa_certificates_work(authority: Authority, client: ssl.SSLContext) -> None:
    import trustme

    rsa = authority.issue("rsa", "localhost", key_type=trustme.KeyType.RSA)
    with serving(one_site(rsa)) as server, connect(server.port, client) as sock:
        assert exchange(sock) == b"hello"


def test_a_hello_byte_by_byte(server: Server, client: ssl.SSLContext) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def run(step: Any) -> Any:
            while True:
                try:
                    result = step()
                except ssl.SSLWantReadError:
                    result = None
                for byte in outgoing.read():
                    raw.sendall(bytes([byte]))
                    gevent.sleep(0)
                if result is not None:
                    return result
                data = raw.recv(1)
                assert data
                incoming.write(data)

        run(lambda: tls.do_handshake() or True)
        assert run(lambda: tls.write(b"hello")) == 5
        assert run(lambda: tls.read(100)) == b"hello"
    assert server.infos[0].server_name == "localhost"


def test_what_was_read_before_counts(
    authority: Authority, identity: Identity, client: ssl.SSLContext
) -> None:
    """As behind a PROXY header: the channel begins without TLS, and may have read too much."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(TIMEOUT)
    raw = RawSocket(fileno=ours.detach())
    raw.setblocking(False)
    plain = Channel(raw, 7.0)
    sites = one_site(identity)

    def serve() -> bytes:
        assert plain.recv(6) == b"PROXY\n"
        received = plain.recv(100)
        channel = TLSChannel.over(plain)
        assert channel.write_timeout == 7.0
        plain.close()  # means nothing now
        channel.handshake(sites, received=received)
        channel.send(channel.recv(100))
        channel.close()
        return received

    greenlet = gevent.spawn(serve)
    theirs.sendall(b"PROXY\n")
    with client.wrap_socket(theirs, server_hostname="localhost") as sock:
        assert exchange(sock) == b"hello"
    assert len(greenlet.get(timeout=TIMEOUT)) == 100


# Reading


def test_reads_of_any_size(identity: Identity, client: ssl.SSLContext) -> None:
    seen: list[Any] = []

    def handle(channel: TLSChannel) -> None:
        channel.wait_readable()
        seen.append(channel.peek(3))
        seen.append(channel.recv(2))
        channel.wait_readable()
        seen.append(channel.recv_waiting(3))
        seen.append(channel.recv(100))
        seen.append(channel.recv(100))
        channel.wait_readable()
        seen.append(channel.recv(100))
        seen.append(channel.truncated)

    with serving(one_site(identity), handle) as server:
        with connect(server.port, client) as sock:
            sock.sendall(b"abcdefgh")
            until(lambda: len(seen) == 4)
            sock.sendall(b"ij")
            until(lambda: len(seen) == 5)
            sock.shutdown(socket.SHUT_WR)  # without close_notify
            until(lambda: len(seen) == 7)
        assert seen == [b"abc", b"ab", b"cde", b"fgh", b"ij", b"", True]


@pytest.mark.parametrize("version", VERSIONS)
def test_half_close_by_the_client(authority: Authority, identity: Identity, version: str) -> None:
    """close_notify ends what the client says, not what it hears."""

    def handle(channel: TLSChannel) -> None:
        asked = b""
        while data := channel.recv(100):
            asked += data
        assert not channel.truncated
        assert channel.recv(100) == b""
        channel.send(asked * 2)

    with serving(one_site(identity), handle) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_context(authority, version=version).wrap_bio(
            incoming, outgoing, server_hostname="localhost"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as raw:

            def run(step: Any) -> Any:
                while True:
                    try:
                        result = step()
                    except ssl.SSLWantReadError:
                        result = None
                    raw.sendall(outgoing.read())
                    if result is not None:
                        return result
                    data = raw.recv(65536)
                    assert data
                    incoming.write(data)

            run(lambda: tls.do_handshake() or True)
            tls.write(b"hello")
            with pytest.raises(ssl.SSLWantReadError):
                tls.unwrap()
            raw.sendall(outgoing.read())
            raw.shutdown(socket.SHUT_WR)
            assert run(lambda: tls.read(100)) == b"hellohello"
        assert server.errors == []


def test_half_close_by_the_server(identity: Identity, client: ssl.SSLContext) -> None:
    """The server has said goodbye, and still takes what comes, also what came before."""
    rest: list[bytes] = []
    go = gevent.event.Event()

    def handle(channel: TLSChannel) -> None:
        channel.send(b"bye")
        go.wait(TIMEOUT)
        assert channel.recv(2) == b"ab"
        channel.shutdown_write()
        with pytest.raises(BrokenPipeError):
            channel.send(b"more")
        received = b""
        while data := channel.recv(100):
            received += data
        rest.append(received)

    with serving(one_site(identity), handle) as server:
        with connect(server.port, client) as sock:
            assert sock.recv(100) == b"bye"
            sock.sendall(b"abcd")
            sock.sendall(b"efgh")
            go.set()
            sock.settimeout(TIMEOUT)
            gevent.sleep(0.05)
            sock.sendall(b"after")
            assert sock.recv(100) == b""
        assert until(lambda: rest) == [b"cdefghafter"]
        assert server.errors == []


def test_a_forged_record_breaks_the_connection(identity: Identity, client: ssl.SSLContext) -> None:
    errors: list[OSError] = []

    def handle(channel: TLSChannel) -> None:
        try:
            channel.recv(100)
        except OSError as error:
            errors.append(error)

    with serving(one_site(identity), handle) as server:
        with connect(server.port, client) as sock:
            raw = socket.socket(fileno=os.dup(sock.fileno()))
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            until(lambda: errors)
            with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
                sock.recv(100)
            raw.close()
        assert isinstance(errors[0], ConnectionResetError)
        assert "bad record mac" in str(errors[0])


# Writing


@pytest.mark.parametrize("version", VERSIONS)
def test_large_transfers_both_ways(server: Server, authority: Authority, version: str) -> None:
    """More than all the buffers hold, both ways at once: a client that reads late holds the echo up."""
    sent = os.urandom(16 << 20)
    received = bytearray()
    with connect(server.port, client_context(authority, version=version)) as sock:

        def read() -> None:
            while len(received) < len(sent):
                data = sock.recv(65536)
                assert data
                received.extend(data)

        writer = gevent.spawn(sock.sendall, sent)
        gevent.sleep(0.1)
        assert not writer.ready(), writer.exception  # back-pressure: nobody reads yet
        read()
        writer.get(timeout=TIMEOUT)
    assert received == sent


def test_one_large_send(identity: Identity, client: ssl.SSLContext) -> None:
    data = os.urandom(5 * RECORD + 3) * 40
    with (
        serving(one_site(identity), lambda channel: channel.send(data)) as server,
        connect(server.port, client) as sock,
        sock.makefile("rb") as file,
    ):
        assert file.read() == data


def test_pieces(identity: Identity, client: ssl.SSLContext) -> None:
    def handle(channel: TLSChannel) -> None:
        channel.send(b"")
        channel.send_pieces([b"ab", b"", b"cd"])
        channel.send_pieces([b"x", b"y" * 50000])

    with (
        serving(one_site(identity), handle) as server,
        connect(server.port, client) as sock,
        sock.makefile("rb") as file,
    ):
        assert file.read() == b"abcdx" + b"y" * 50000


def test_files(identity: Identity, client: ssl.SSLContext, tmp_path: Path) -> None:
    data = os.urandom((3 << 20) + 17)
    path = tmp_path / "file"
    path.write_bytes(data)
    short: list[str] = []

    def handle(channel: TLSChannel) -> None:
        with open(path, "rb") as file:
            channel.send_file(file.fileno(), 0, len(data))
            channel.send_file(file.fileno(), 5, 7, head=b"head:")
            channel.send_file(file.fileno(), 0, 0, head=b"empty")
            try:
                channel.send_file(file.fileno(), len(data) - 3, 10)
            except EOFError as error:
                short.append(str(error))

    with (
        serving(one_site(identity), handle) as server,
        connect(server.port, client) as sock,
        sock.makefile("rb") as file,
    ):
        assert file.read() == data + b"head:" + data[5:12] + b"empty" + data[-3:]
        assert short == ["the file ends 7 bytes early"]


def test_who_takes_nothing_is_cut(identity: Identity, client: ssl.SSLContext) -> None:
    outcome: list[BaseException] = []

    def handle(channel: TLSChannel) -> None:
        channel.write_timeout = 0.3
        try:
            channel.send(bytes(32 << 20))
        except OSError as error:
            outcome.append(error)

    with serving(one_site(identity), handle) as server, connect(server.port, client):
        until(lambda: outcome)
        assert isinstance(outcome[0], DeadlinePassed)


def test_the_deadline_of_a_read(identity: Identity, client: ssl.SSLContext) -> None:
    outcome: list[BaseException] = []

    def handle(channel: TLSChannel) -> None:
        assert channel.deadline == math.inf
        channel.deadline = time.monotonic() + 0.1
        try:
            channel.recv(100)
        except OSError as error:
            outcome.append(error)

    with serving(one_site(identity), handle) as server, connect(server.port, client):
        until(lambda: outcome)
        assert isinstance(outcome[0], DeadlinePassed)


def test_key_updates_are_answered_while_a_transfer_runs(authority: Authority, identity: Identity) -> None:
    """The client asks for new keys ("K") while the server sends: both go through OpenSSL, and one socket."""
    asked: list[bytes] = []
    sent = 3 << 20

    def handle(channel: TLSChannel) -> None:
        def read() -> None:
            while data := channel.recv(100):
                asked.append(data)

        reader = gevent.spawn(read)
        for _ in range(sent >> 14):
            channel.send(b"x" * (1 << 14))
            gevent.sleep(0.001)
        until(lambda: b"".join(asked).endswith(b"done\n"))
        channel.close()
        reader.join(TIMEOUT)

    with serving(one_site(identity), handle) as server:
        process = s_client(server.port, "-tls1_3", "-quiet", "-servername", "localhost", "-no_ign_eof")
        assert process.stdin is not None and process.stdout is not None
        reader = gevent.spawn(process.stdout.read)
        try:
            for _ in range(20):
                process.stdin.write(b"K\n")
                process.stdin.flush()
                gevent.sleep(0.01)
            with suppress(BrokenPipeError):
                while not reader.ready():  # said behind a "K" in the same read, it would be lost with that
                    process.stdin.write(b"done\n")
                    process.stdin.flush()
                    gevent.sleep(0.05)
            output = reader.get(timeout=TIMEOUT)
        finally:
            process.kill()
            process.wait(TIMEOUT)
        assert output.count(b"x") >= sent
        assert server.errors == []


# Ending


def test_the_end_is_announced(identity: Identity, client: ssl.SSLContext) -> None:
    """A client that insists on close_notify is content, and one that gets a reset is told."""
    with (
        serving(one_site(identity), lambda channel: channel.send(b"bye")) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as raw,
        client.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as sock,
    ):
        assert sock.recv(100) == b"bye"
        assert sock.recv(100) == b""


def test_a_reset_is_no_end(identity: Identity, client: ssl.SSLContext) -> None:
    def handle(channel: TLSChannel) -> None:
        channel.recv(100)
        channel.reset()
        channel.close()

    with (
        serving(one_site(identity), handle) as server,
        connect(server.port, client) as sock,
        socket.socket(fileno=os.dup(sock.fileno())) as raw,
    ):
        raw.settimeout(TIMEOUT)
        sock.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            while raw.recv(1000):  # session tickets come first
                pass


def test_lingering_drops_what_comes(identity: Identity, client: ssl.SSLContext) -> None:
    def handle(channel: TLSChannel) -> None:
        channel.send(b"refused")
        channel.linger(5.0)

    with serving(one_site(identity), handle) as server, connect(server.port, client) as sock:
        sock.sendall(bytes(500_000))
        with sock.makefile("rb") as file:
            assert file.read() == b"refused"


def test_a_closed_channel_says_so(identity: Identity, client: ssl.SSLContext) -> None:
    errors: list[Any] = []

    def handle(channel: TLSChannel) -> None:
        channel.close()
        channel.close()
        for step in (lambda: channel.send(b"x"), lambda: channel.send(bytes(99999))):
            try:
                step()
            except OSError as error:
                errors.append(type(error))
        assert channel.recv(10) == b""

    with serving(one_site(identity), handle) as server:
        connect(server.port, client).close()
        assert until(lambda: len(errors) == 2)
        assert errors == [BrokenPipeError, BrokenPipeError]
        assert server.errors == []


def test_before_the_handshake_nothing_is_sent() -> None:
    ours, theirs = socket.socketpair()
    raw = RawSocket(fileno=ours.detach())
    channel = TLSChannel(raw)
    with pytest.raises(ConnectionAbortedError):
        channel.send(b"secret")
    channel.close()
    assert theirs.recv(10) == b""
    theirs.close()


def test_a_peer_that_resets(server: Server, client: ssl.SSLContext) -> None:
    sock = connect(server.port, client)
    assert exchange(sock) == b"hello"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    [error] = until(lambda: server.errors)
    assert isinstance(error, ConnectionResetError)
    server.errors.clear()
