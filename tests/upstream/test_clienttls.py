"""TLS as a client: what is verified, what is shown, and how handshakes fail."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from hemi.upstream.clienttls import ClientPolicy, check_policy, make_client_context
from hemi.upstream.dial import dial
from hemi.upstream.errors import DialFailed
from hemi.values import Addr
from tests.peer import Peer
from tests.running import until
from tests.tlskit import Authority


def failure(*arguments: Any, **keywords: Any) -> DialFailed:
    with pytest.raises(DialFailed) as caught:
        dial(*arguments, **keywords)
    return caught.value


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


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_sessions_go_on(
    authority: Authority, peer: Callable[..., Peer], version: ssl.TLSVersion, closed: bool
) -> None:
    """With the connection before, whether it is still there or not; never with another context."""
    server = server_context(authority, "node.test")
    server.maximum_version = version
    address = Addr("127.0.0.1", peer(context=server).port)
    context = make_client_context(ClientPolicy(ca=authority.file))
    first = dial(address, tls=context, server_name="node.test")
    first.send(b"x")
    assert first.recv(10) == b"x"  # tickets come before it in TLS 1.3
    assert not first.tls.resumed
    if closed:
        first.close()
    second = dial(address, tls=context, server_name="node.test", before=first)
    assert second.tls.resumed
    second.send(b"y")
    assert second.recv(10) == b"y"
    for channel in (first, second):
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
