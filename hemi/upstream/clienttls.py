"""TLS as a client: what is asked of a server's certificate, and the channel after the handshake.

The server is verified unless the configuration says otherwise: its certificate must come from an authority
that is trusted, and must have the name (or IP address) that it is called by (RFC 9525).
"""

from __future__ import annotations

import errno
import os
import select
import ssl
from _socket import socket as RawSocket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from gevent import monkey

from hemi.errors import EnvError
from hemi.tls import CIPHERS, MinVersion, check_certificate, reason_of
from hemi.tlschannel import RAW_SIZE, RECORD, HandshakeFailed, TLSChannel

__all__ = ["ClientPolicy", "DialedTLSChannel", "ServerInfo", "check_policy", "make_client_context"]

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """What a client asks and shows. Paths are of PEM files; without `ca` the system's authorities are trusted."""

    verify: bool = True
    ca: str = ""
    certificate: str = ""
    private_key: str = ""
    password: str = field(default="", repr=False)
    min_version: MinVersion = "1.2"
    ciphers: str = ""
    alpn: tuple[str, ...] = ()


def check_policy(policy: ClientPolicy) -> str | None:
    """Says what keeps a policy from being used, or None. Reads its files, nothing else."""
    if policy.ca:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=policy.ca)
        except ssl.SSLError:
            return f'"{policy.ca}" must be a PEM file with certificates of authorities'
        except OSError as error:
            return f'"{policy.ca}" cannot be read: {(error.strerror or str(error)).lower()}'
    if policy.ciphers:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(policy.ciphers)
        except ssl.SSLError:
            return f'ciphers must be an OpenSSL cipher list, not "{policy.ciphers}"'
    if policy.certificate:
        return check_certificate(policy.certificate, policy.private_key, policy.password)
    return None


def make_client_context(policy: ClientPolicy) -> ssl.SSLContext:
    """Makes the context for a policy. Raises EnvError when a file or the cipher list cannot be used."""
    problem = check_policy(policy)
    if problem:
        raise EnvError(problem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[policy.min_version]
    context.set_ciphers(policy.ciphers or CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if not policy.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif policy.ca:
        context.load_verify_locations(cafile=policy.ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if policy.certificate:
        context.load_cert_chain(
            policy.certificate, policy.private_key or None, password=os.fsencode(policy.password)
        )
    if policy.alpn:
        context.set_alpn_protocols(policy.alpn)
    return context


_poll = monkey.get_original("select", "poll")


def events_of(sock: RawSocket) -> Callable[[int], list[Any]]:
    """What tells of data, errors and the end of a socket, when it is called with 0.

    Asked before each use of an idle connection, where a read would raise an exception: 0.5 µs, not 1.6.
    """
    poll = _poll()
    poll.register(sock.fileno(), select.POLLIN | select.POLLRDHUP)
    events: Callable[[int], list[Any]] = poll.poll
    return events


class ServerInfo:
    """What a handshake with a server agreed on: `version` is "TLSv1.3", `alpn` "" when none was chosen. `resumed` says
    that it went on with the session of a connection before."""

    __slots__ = ("alpn", "cipher", "resumed", "server_name", "version")

    def __init__(self, server_name: str, version: str, cipher: str, alpn: str, resumed: bool = False) -> None:
        self.resumed = resumed
        self.server_name = server_name
        self.version = version
        self.cipher = cipher
        self.alpn = alpn

    def __repr__(self) -> str:
        return (
            f"<ServerInfo {self.version} {self.cipher} server_name={self.server_name!r} alpn={self.alpn!r}>"
        )


class DialedTLSChannel(TLSChannel):
    """A TLS channel of which this side is the client. Call `connect_tls` first."""

    __slots__ = ("_events", "_kept")

    def __init__(self, sock: RawSocket, write_timeout: float = 60.0) -> None:
        TLSChannel.__init__(self, sock, write_timeout)
        self._events = events_of(sock)
        self._kept: Any = None

    def connect_tls(self, context: ssl.SSLContext, server_name: str, before: Any = None) -> ServerInfo:
        """Does the handshake; the caller limits its time. `before` is a channel to the same server, with the same
        context: its session is resumed if the server likes. Raises HandshakeFailed."""
        session: Any = context._wrap_bio(  # type: ignore[attr-defined]
            self._incoming,
            self._outgoing,
            server_side=False,
            server_hostname=server_name or None,
            session=before.session if before is not None else None,
        )
        try:
            self._greet(session)
        except HandshakeFailed:
            raise
        except OSError as error:
            raise HandshakeFailed((error.strerror or str(error)).lower()) from None
        self._ssl = session
        self._encrypt = session.write
        alpn = session.selected_alpn_protocol() or ""
        resumed = bool(session.session_reused)
        info = self.tls = ServerInfo(server_name, session.version(), session.cipher()[0], alpn, resumed)
        return info

    @property
    def session(self) -> Any:
        """The session as far as it has come: in TLS 1.3 the server sends it behind the handshake. None without one."""
        session = self._ssl.session if self._ssl is not None else None
        return session if session is not None and session.has_ticket else self._kept

    def close(self) -> None:
        """Closes the connection; the session stays."""
        self._kept = self.session
        TLSChannel.close(self)

    def _greet(self, session: Any) -> None:
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._exchange("the server closed the connection")
            except ssl.SSLError as error:
                self._give_up(reason_of(error))
            except ValueError as error:  # a certificate's name that Python cannot make sense of
                self._give_up(str(error))
        self._flush()  # not with the first data: it may be the server that speaks first

    def _give_up(self, reason: str) -> NoReturn:
        try:
            self.sock.send(self._outgoing.read())  # the alert, so that the server can log why
        except OSError:
            pass
        raise HandshakeFailed(reason)

    def ask(self, data: bytes, size: int) -> bytes:
        """Sends, then waits for the next 1 to `size` bytes, and returns them."""
        self.send(data)
        return self.recv_waiting(size)

    def send_some(self, data: memoryview) -> int:
        """Takes a part of `data`, and sends what goes without waiting; returns how much it took: 0 while what it took
        before still waits, which `flush_some` tells. For who sends and receives at the same time. Raises OSError."""
        if not self.flush_some():
            return 0
        try:
            taken: int = self._encrypt(data[:RECORD])
        except ssl.SSLError as error:
            raise ConnectionResetError(errno.ECONNRESET, f"tls: {reason_of(error)}") from None
        self._backlog = self._outgoing.read()
        self.flush_some()
        return taken

    def flush_some(self) -> bool:
        """Sends what goes without waiting of what was taken; whether that is all. Raises OSError."""
        if self._backlog:
            try:
                self._backlog = self._backlog[self.sock.send(self._backlog) :]
            except BlockingIOError:
                return False
        return not self._backlog

    def recv_now(self, size: int) -> bytes | None:
        """Returns 1 to `size` bytes, b"" at the end, None when nothing is here. Raises OSError."""
        while not self._plain:
            if self._incoming.pending:
                self._plain = self._decrypt()
                if self._plain:
                    break
            if self._ended:
                return b""
            try:
                raw = self.sock.recv(RAW_SIZE)
            except BlockingIOError:
                return None
            if raw:
                self._incoming.write(raw)
            else:
                self._ended = self.truncated = True
        return self._take(size)

    def is_quiet(self) -> bool:
        """Whether the connection is open and nothing was sent on it that nobody asked for.

        Tickets and key updates may come at any time, and are taken in.
        """
        if self._plain or self._ended:
            return False
        if not self._events(0) and not self._incoming.pending:
            return True
        try:
            raw = self.sock.recv(RAW_SIZE)
        except BlockingIOError:
            return self._takes_in(b"")
        except OSError:
            return False
        return bool(raw) and self._takes_in(raw)

    def _takes_in(self, raw: bytes) -> bool:
        self._incoming.write(raw)
        try:
            self._plain = self._decrypt()  # data is not lost by having been looked at
        except OSError:
            return False
        return not self._plain and not self._ended
