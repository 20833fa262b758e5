"""The server `socks_server`: SOCKS5 (RFC 1928) with user names and passwords (RFC 1929), SOCKS4 and SOCKS4a.

What BIND and UDP ASSOCIATE need is in `socks_bind` and `socks_udp`.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Literal, TypeVar

from hemi.builtin.servers.forwarding import ForwardConn, Forwarding, NotAllowed, own_address
from hemi.builtin.servers.socks_bind import Binding
from hemi.builtin.servers.socks_udp import Association
from hemi.component import prop
from hemi.net.conn import TCPXConn
from hemi.net.rules import Ports, clean_host
from hemi.net.socks import (
    VERSION_4,
    Command,
    Malformed,
    Method,
    Reply,
    Request,
    encode_choice,
    encode_login,
    encode_reply,
    encode_reply4,
    parse_greeting,
    parse_login,
    parse_request,
    parse_request4,
)
from hemi.peers import UDS_HOST
from hemi.resolv import ResolveError
from hemi.resolvconf import literal_family
from hemi.sockets import DeadlinePassed
from hemi.upstream.dial import DialedChannel
from hemi.upstream.errors import DialFailed, reason_of
from hemi.values import Duration, Size

__all__ = ["SocksServer"]

T = TypeVar("T")

PIECE = 4096
LINGER = 2.0
"""Seconds that a refused client has to read the reply."""

_NAMES = {1: "CONNECT", 2: "BIND", 3: "UDP_ASSOCIATE"}

_REPLIES = {
    os.strerror(code).lower(): reply
    for code, reply in (
        (errno.ECONNREFUSED, Reply.REFUSED),
        (errno.ENETUNREACH, Reply.NETWORK_UNREACHABLE),
        (errno.EHOSTUNREACH, Reply.HOST_UNREACHABLE),
    )
}

_STATUSES = {Reply.NOT_ALLOWED: 403, Reply.COMMAND_UNKNOWN: 501, Reply.TTL_EXPIRED: 504}


class _Refused(Exception):
    """Ends a negotiation: `answer` goes out, and the log is told."""

    def __init__(self, status: int, reason: str, answer: bytes = b"") -> None:
        super().__init__(reason)
        self.status = status
        self.answer = answer


class _Negotiation:
    """Reads messages of a client, as long as its deadline permits."""

    def __init__(self, conn: ForwardConn) -> None:
        self.conn = conn
        self.data = conn.taken()

    def read(self, parse: Callable[[bytes], tuple[T, int] | None]) -> T:
        """The next message. Raises Malformed, EOFError, OSError."""
        while (found := parse(self.data)) is None:
            self.more()
        message, size = found
        self.data = self.data[size:]
        return message

    def more(self) -> None:
        """Waits for more bytes."""
        data = self.conn.channel.recv(PIECE)
        if not data:
            raise EOFError("the client left before it said what it wants")
        self.data += data


class SocksServer(Forwarding, sign="socks_server"):
    """Connects clients to where they ask for by SOCKS5, SOCKS4 or SOCKS4a, as far as its rules allow. With `commands`
    they may also wait for a connection from there (BIND), and send datagrams (UDP ASSOCIATE, SOCKS5 only).

    With `users` or a `users_file`, clients must log in by SOCKS5; SOCKS4 has no passwords and is refused then.
    """

    socks4: bool = prop(True, "Serve SOCKS4 and SOCKS4a, too, when there are no users.", inherit=False)
    commands: list[Literal["connect", "bind", "udp_associate"]] = prop(
        ["connect"], "What clients may ask for. The rules are the same for all.", least=1, inherit=False
    )
    bind_timeout: Duration = prop(
        "1m", "How long BIND waits for the connection.", least="100ms", inherit=False
    )
    relay_ports: Ports | None = prop(
        None,
        'The ports at which BIND and UDP ASSOCIATE listen: "40000-40999"; any when missing.',
        inherit=False,
    )
    relay_host: str | None = prop(
        None,
        "The address that BIND and UDP ASSOCIATE tell clients; the machine's own when missing. For who has another one "
        "outside.",
        inherit=False,
    )
    max_datagram_size: Size = prop(
        "64K", "The largest datagram that is passed on, either way.", least="512", most="64K", inherit=False
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What clients are told must be an address."""
        yield from super().check()
        if self.relay_host is not None and literal_family(self.relay_host) is None:
            yield "relay_host", f'must be an address, not "{self.relay_host}"'

    def serve(self, conn: TCPXConn) -> None:
        """Negotiates, connects, relays."""
        assert isinstance(conn, ForwardConn)
        channel = conn.channel
        channel.deadline = monotonic() + self.request_timeout
        try:
            request, first = self._negotiate(conn)
            channel.deadline = math.inf
            self._serve_request(conn, request, first)
        except _Refused as refused:
            self._refuse(conn, refused.status, str(refused), refused.answer)
        except Malformed as error:
            self._refuse(conn, 400, str(error), error.answer)
        except DeadlinePassed:
            self.tell(conn, 408, "it takes too long to say what it wants")

    def _refuse(self, conn: ForwardConn, status: int, reason: str, answer: bytes) -> None:
        if conn.reason != reason:  # of a login that failed it is told already
            self.tell(conn, status, reason)
        if answer:
            with suppress(OSError):
                conn.channel.send(answer)
                conn.channel.linger(LINGER)

    # What the client says

    def _negotiate(self, conn: ForwardConn) -> tuple[Request, bytes]:
        """What the client wants, and the bytes that it sent ahead."""
        talk = _Negotiation(conn)
        while not talk.data:
            talk.more()
        if talk.data[0] == VERSION_4:
            if not self.socks4 or self.has_users:
                raise _Refused(403, "SOCKS4 is not served", encode_reply4(False))
            return talk.read(parse_request4), talk.data
        self._choose(conn, talk)
        return talk.read(parse_request), talk.data

    def _choose(self, conn: ForwardConn, talk: _Negotiation) -> None:
        """Agrees on a method, and does the login."""
        methods = talk.read(parse_greeting)
        method = Method.PASSWORD if self.has_users else Method.NONE
        if method not in methods:
            raise _Refused(407, "it offers no method that will do", encode_choice(Method.UNACCEPTABLE))
        conn.channel.send(encode_choice(method))
        if method != Method.PASSWORD:
            return
        user, password = talk.read(parse_login)
        if not self.is_user(conn, user.decode("utf-8", "surrogateescape"), password):
            raise _Refused(conn.status, conn.reason, encode_login(False))
        conn.channel.send(encode_login(True))

    # What comes of it

    def _serve_request(self, conn: ForwardConn, request: Request, first: bytes) -> None:
        conn.command = _NAMES.get(request.command, f"command {request.command}")
        conn.port = request.port
        try:
            conn.host = clean_host(request.host)
        except ValueError:
            if request.command != Command.UDP_ASSOCIATE:
                raise self._failed(request, Reply.HOST_UNREACHABLE, f"{request.host!r} is no host") from None
            conn.host = (
                "0.0.0.0"  # where it will send from: many do not know, and say so in ways of their own
            )
        is_known = request.version != VERSION_4 or request.command != Command.UDP_ASSOCIATE
        if not is_known or conn.command.lower() not in self.commands:
            raise self._failed(request, Reply.COMMAND_UNKNOWN, f"{conn.command} is not served")
        try:
            if request.command == Command.CONNECT:
                self._connect(conn, request, first)
            elif request.command == Command.BIND:
                self._bind(conn, request, first)
            else:
                self._associate(conn, request)
        except NotAllowed as error:
            raise self._failed(request, Reply.NOT_ALLOWED, str(error)) from None
        except DialFailed as error:
            raise self._failed(request, _reply_to(error), f"{error.phase}: {error.reason}") from None
        except ResolveError as error:
            raise self._failed(request, Reply.HOST_UNREACHABLE, f"resolve: {error.reason}") from None

    def _connect(self, conn: ForwardConn, request: Request, first: bytes) -> None:
        node = self.dial(conn)
        self._granted(conn, request, *own_address(node))
        self.relay(conn, node, first)

    def _bind(self, conn: ForwardConn, request: Request, first: bytes) -> None:
        """Two replies: where we listen, and then who has come (RFC 1928 §4)."""
        expected = self.addresses_of(conn, conn.host, conn.port)
        try:
            binding = Binding(expected, self.relay_ports)
        except OSError as error:
            raise self._failed(request, Reply.FAILED, f"bind: {reason_of(error)}") from None
        try:
            host, port = binding.address
            self._granted(conn, request, self.relay_host or host, port)
            sock = binding.wait(conn.channel, self.bind_timeout)
        except TimeoutError:
            others = f", but {binding.turned_away} others" if binding.turned_away else ""
            raise self._failed(request, Reply.TTL_EXPIRED, f"the peer did not come{others}") from None
        finally:
            binding.close()
        node = DialedChannel(sock, self.write_timeout)
        self.adopt(conn, node)
        host, port = node.sock.getpeername()[:2]
        self._granted(conn, request, host, port)
        self.relay(conn, node, first)

    def _associate(self, conn: ForwardConn, request: Request) -> None:
        """Relays datagrams for as long as the connection lasts (RFC 1928 §7)."""
        if conn.is_uds or conn.src_host == UDS_HOST:
            raise self._failed(request, Reply.FAILED, "a client without an address sends no datagrams")
        try:
            association = Association(self, conn, conn.host, conn.port)
        except OSError as error:
            raise self._failed(request, Reply.FAILED, f"bind: {reason_of(error)}") from None
        try:
            host, port = association.address
            self._granted(conn, request, self.relay_host or host, port)
            association.run()
        finally:
            association.close()

    def _granted(self, conn: ForwardConn, request: Request, host: str, port: int) -> None:
        if request.version == VERSION_4:
            conn.channel.send(encode_reply4(True, host, port))
        else:
            conn.channel.send(encode_reply(Reply.SUCCEEDED, host, port))

    def _failed(self, request: Request, reply: Reply, reason: str) -> _Refused:
        answer = encode_reply4(False) if request.version == VERSION_4 else encode_reply(reply)
        return _Refused(_STATUSES.get(reply, 502), reason, answer)


def _reply_to(error: DialFailed) -> Reply:
    """What SOCKS says to a failure to connect."""
    if error.is_local:
        return Reply.FAILED
    if error.phase == "resolve":
        return Reply.HOST_UNREACHABLE
    if error.timed_out:
        return Reply.TTL_EXPIRED
    return _REPLIES.get(error.reason, Reply.FAILED)
