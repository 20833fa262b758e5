"""Dialing: TCP, Unix domain sockets, names with several addresses, TLS, and all the ways it can fail."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from hemi.resolv import ResolveError, Resolver
from hemi.upstream import dial as dialing
from hemi.upstream.clienttls import ClientPolicy, check_policy, make_client_context
from hemi.upstream.dial import dial
from hemi.upstream.errors import DialFailed
from hemi.values import Addr
from tests.running import until
from tests.tlskit import Authority
from tests.upstream.kit import Peer, closed_port


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


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def server_context(authority: Authority, *names: str, **more: Any) -> ssl.SSLContext:
    identity = authority.issue(names[0], *names, **more)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.private_key)
    return context


def tls_failure(port: int, policy: ClientPolicy, name: str = "node.test", timeout: float = 5) -> str:
    address = Addr("127.0.0.1", port)
    error = failure(address, tls=make_client_context(policy), server_name=name, timeout=timeout)
    assert error.phase == "tls"
    return error.reason


def test_tls(authority: Authority, peer: Callable[..., Peer]) -> None:
    one = peer(context=server_context(authority, "node.test"))
    context = make_client_context(ClientPolicy(ca=authority.file))
    channel = dial(Addr("127.0.0.1", one.port), tls=context, server_name="node.test")
    assert (channel.tls.version, channel.tls.server_name) == ("TLSv1.3", "node.test")
    for data in (b"x", b"y" * 300_000):
        channel.send(data)
        received = b""
        while len(received) < len(data):
            received += channel.recv(65536)
        assert received == data
    assert channel.is_quiet()  # the tickets were no data
    channel.close()


def test_tickets_that_nobody_has_read_are_no_garbage(authority: Authority, peer: Callable[..., Peer]) -> None:
    one = peer(context=server_context(authority, "node.test"))
    context = make_client_context(ClientPolicy(ca=authority.file))
    channel = dial(Addr("127.0.0.1", one.port), tls=context, server_name="node.test")
    gevent.select.select([channel.sock.fileno()], [], [], 5)
    assert channel.is_quiet()
    one.stop()
    until(lambda: not channel.is_quiet())
    assert not channel.is_quiet()
    channel.close()


def test_data_that_nobody_asked_for_is_garbage(authority: Authority, peer: Callable[..., Peer]) -> None:
    def talk(sock: Any) -> None:
        sock.sendall(b"garbage")
        sock.recv(1)

    one = peer(talk, context=server_context(authority, "node.test"))
    context = make_client_context(ClientPolicy(ca=authority.file))
    channel = dial(Addr("127.0.0.1", one.port), tls=context, server_name="node.test")
    until(lambda: not channel.is_quiet())
    assert not channel.is_quiet()
    channel.close()


def test_the_name_must_be_right(authority: Authority, peer: Callable[..., Peer]) -> None:
    one = peer(context=server_context(authority, "other.test"))
    reason = tls_failure(one.port, ClientPolicy(ca=authority.file))
    assert "certificate verify failed: Hostname mismatch" in reason


def test_an_address_is_a_name_too(authority: Authority, peer: Callable[..., Peer]) -> None:
    one = peer(context=server_context(authority, "127.0.0.1"))
    dial(Addr("127.0.0.1", one.port), tls=make_client_context(ClientPolicy(ca=authority.file))).close()
    other = peer(context=server_context(authority, "node.test"))
    assert "IP address mismatch" in tls_failure(other.port, ClientPolicy(ca=authority.file), "")


def test_the_authority_must_be_known(authority: Authority, peer: Callable[..., Peer], tmp_path: Path) -> None:
    one = peer(context=server_context(authority, "node.test"))
    assert "certificate verify failed" in tls_failure(one.port, ClientPolicy())
    stranger = Authority(tmp_path, "stranger")
    assert "certificate verify failed" in tls_failure(one.port, ClientPolicy(ca=stranger.file))


def test_the_time_must_be_right(authority: Authority, peer: Callable[..., Peer]) -> None:
    one = peer(context=server_context(authority, "node.test", days=-1))
    assert "certificate has expired" in tls_failure(one.port, ClientPolicy(ca=authority.file))


def test_nothing_is_verified_on_demand(authority: Authority, peer: Callable[..., Peer]) -> None:
    one = peer(context=server_context(authority, "other.test", days=-1))
    context = make_client_context(ClientPolicy(verify=False))
    dial(Addr("127.0.0.1", one.port), tls=context, server_name="node.test").close()


def test_sni_and_alpn(authority: Authority, peer: Callable[..., Peer]) -> None:
    context = server_context(authority, "node.test")
    context.set_alpn_protocols(["h2", "http/1.1"])
    asked: list[Any] = []
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    one = peer(context=context)
    policy = ClientPolicy(ca=authority.file, alpn=("http/1.1",))
    channel = dial(Addr("127.0.0.1", one.port), tls=make_client_context(policy), server_name="node.test")
    assert (asked, channel.tls.alpn) == (["node.test"], "http/1.1")
    channel.close()


def test_a_client_certificate(authority: Authority, peer: Callable[..., Peer]) -> None:
    context = server_context(authority, "node.test")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    subjects: list[Any] = []
    one = peer(lambda sock: subjects.append(sock.getpeercert()["subjectAltName"]), context=context)
    mine = authority.issue("gorox.test")
    policy = ClientPolicy(ca=authority.file, certificate=mine.certificate, private_key=mine.private_key)
    channel = dial(Addr("127.0.0.1", one.port), tls=make_client_context(policy), server_name="node.test")
    assert channel.recv(1) == b""
    assert subjects == [(("DNS", "gorox.test"),)]
    channel.close()


def test_the_least_version(authority: Authority, peer: Callable[..., Peer]) -> None:
    context = server_context(authority, "node.test")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    one = peer(context=context)
    assert "version" in tls_failure(one.port, ClientPolicy(ca=authority.file, min_version="1.3"))
    ok = make_client_context(ClientPolicy(ca=authority.file))
    channel = dial(Addr("127.0.0.1", one.port), tls=ok, server_name="node.test")
    assert channel.tls.version == "TLSv1.2"
    channel.close()


def test_who_does_not_speak_tls(peer: Callable[..., Peer]) -> None:
    def talk(sock: Any) -> None:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert "wrong version number" in tls_failure(peer(talk).port, ClientPolicy())


def test_who_closes_in_the_handshake(peer: Callable[..., Peer]) -> None:
    assert tls_failure(peer(lambda sock: sock.recv(10000)).port, ClientPolicy()) in (
        "the server closed the connection",
        "connection reset by peer",
    )


def test_who_says_nothing_in_the_handshake(peer: Callable[..., Peer]) -> None:
    one = peer(lambda sock: [sock.recv(10000), sock.recv(1)])
    assert tls_failure(one.port, ClientPolicy(), timeout=0.1) == "no answer in time"


def test_policies_that_cannot_be(authority: Authority, tmp_path: Path) -> None:
    none, junk = str(tmp_path / "none"), tmp_path / "junk"
    junk.write_text("junk")
    mine, other = authority.issue("a.test"), authority.issue("b.test")
    policies = [
        ClientPolicy(ca=none),
        ClientPolicy(ca=str(junk)),
        ClientPolicy(ciphers="nonsense"),
        ClientPolicy(certificate=mine.certificate, private_key=other.private_key),
        ClientPolicy(certificate=mine.certificate, private_key=mine.private_key),
    ]
    assert [(check_policy(policy) or "").replace(str(tmp_path), "") for policy in policies] == [
        '"/none" cannot be read: no such file or directory',
        '"/junk" must be a PEM file with certificates of authorities',
        'ciphers must be an OpenSSL cipher list, not "nonsense"',
        'the private key "/ca-b.test.key" must be the one of the certificate "/ca-a.test.pem"',
        "",
    ]
