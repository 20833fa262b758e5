"""Certificates, a TLS server in the process and clients for the tests of TLS.

Everything is gevent's here: a client that blocks lets the server's greenlets run.
"""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
from _socket import socket as RawSocket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from hemi.sockets import READ, Sweeper
from hemi.tls import Identity, Policy, SiteTable
from hemi.tlschannel import HandshakeFailed, TLSChannel
from tests.waiting import TIMEOUT


class Authority:
    """A certificate authority that writes its work into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.name = name
        self.ca = trustme.CA(organization_name=f"Test {name}")
        self.file = str(folder / f"{name}.pem")
        self.ca.cert_pem.write_to_path(self.file)
        self._issued: dict[str, trustme.LeafCert] = {}

    def issue(self, name: str, *names: str, days: int = 30, **more: Any) -> Identity:
        """Issues a certificate; `name` names its files. It ends in `days` days."""
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        more.setdefault("not_before", until - datetime.timedelta(days=60))
        leaf = self.ca.issue_cert(*(names or (name,)), not_after=until, **more)
        self._issued[name] = leaf
        stem = self.folder / f"{self.name}-{name.replace('*', 'any')}"
        certificate, key = f"{stem}.pem", f"{stem}.key"
        Path(certificate).write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)
        return Identity(certificate, key)

    def revoke(self, *names: str) -> str:
        """Writes a revocation list with the certificates of these names; returns its path."""
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.load_pem_x509_certificate(self.ca.cert_pem.bytes())
        key = serialization.load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(now - datetime.timedelta(days=1))
            .next_update(now + datetime.timedelta(days=1))
        )
        for name in names:
            leaf = x509.load_pem_x509_certificate(self._issued[name].cert_chain_pems[0].bytes())
            entry = x509.RevokedCertificateBuilder().serial_number(leaf.serial_number).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        crl = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
        path = self.folder / f"{self.name}-{'-'.join(names)}.crl"
        path.write_bytes(crl.public_bytes(serialization.Encoding.PEM))
        return str(path)


class Server:
    """Accepts on 127.0.0.1 and runs `handle(channel)` after each handshake."""

    def __init__(
        self, sites: SiteTable, handle: Callable[[TLSChannel], None], timeout: float = TIMEOUT
    ) -> None:
        self.sites = sites
        self.handle = handle
        self.timeout = timeout
        self.failures: list[HandshakeFailed] = []
        self.infos: list[Any] = []
        self.errors: list[BaseException] = []
        self.channels: set[TLSChannel] = set()
        self.greenlets: list[Any] = []
        self.write_timeout = 60.0
        self.plain_answer = b""
        self.listening = RawSocket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # else the kernel holds megabytes
            self.listening.setsockopt(socket.SOL_SOCKET, option, 1 << 17)
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen(64)
        self.port: int = self.listening.getsockname()[1]
        self._watcher = gevent.get_hub().loop.io(self.listening.fileno(), READ)
        self._sweeper = Sweeper(self.channels)

    def start(self) -> None:
        self._watcher.start(self._accept)
        self._sweeper.start()

    def stop(self) -> None:
        self._watcher.close()
        self._sweeper.stop()
        gevent.killall(self.greenlets, timeout=TIMEOUT)
        self.listening.close()

    def _accept(self) -> None:
        try:
            fd, _ = self.listening._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        sock = RawSocket(fileno=fd)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.greenlets.append(gevent.spawn(self._serve, sock))

    def _serve(self, sock: RawSocket) -> None:
        channel = TLSChannel(sock, self.write_timeout)
        self.channels.add(channel)
        try:
            info = channel.handshake(self.sites, self.timeout, plain_answer=self.plain_answer)
            self.infos.append(info)
            self.handle(channel)
        except HandshakeFailed as error:
            self.failures.append(error)
        except Exception as error:
            self.errors.append(error)
        finally:
            self.channels.discard(channel)
            channel.close()


@contextmanager
def serving(
    sites: SiteTable, handle: Callable[[TLSChannel], None] | None = None, **more: Any
) -> Iterator[Server]:
    """A running server, an echo by default."""
    server = Server(sites, handle or echo, **more)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def echo(channel: TLSChannel) -> None:
    """Sends back what comes, until the end."""
    while data := channel.recv(65536):
        channel.send(data)


def one_site(identity: Identity, policy: Policy | None = None) -> SiteTable:
    """A table with a single site."""
    table = SiteTable()
    table.default = table.site(identity, policy or Policy())
    return table


def client_context(
    authority: Authority, identity: Identity | None = None, version: str = ""
) -> ssl.SSLContext:
    """A client that trusts the authority, may show a certificate, and may be held to one version of TLS."""
    context = ssl.create_default_context(cafile=authority.file)
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.private_key)
    if version:
        context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    return context


def connect(
    port: int, context: ssl.SSLContext, name: str = "localhost", session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    """A connection whose handshake, as far as the client knows, is done."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    try:
        return context.wrap_socket(raw, server_hostname=name, session=session)
    except BaseException:
        raw.close()
        raise


def exchange(sock: ssl.SSLSocket, data: bytes = b"hello") -> bytes:
    """Sends to an echo and reads as much back."""
    sock.sendall(data)
    received = b""
    while len(received) < len(data):
        piece = sock.recv(65536)
        if not piece:
            break
        received += piece
    return received


def s_client(port: int, *options: str, say: bytes = b"") -> subprocess.Popen[bytes]:
    """Starts `openssl s_client`. What is said at once comes after its handshake."""
    process = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if say:
        assert process.stdin is not None
        process.stdin.write(say)
        process.stdin.flush()
    return process
