"""One question to one name server: message, UDP, TCP when the answer was cut.

Belongs here: the transport, and deciding what is an answer to our question and what is somebody's lie. Each
question has a socket of its own (so a random port), connected (so the kernel drops datagrams of others); what
arrives and is no answer to the question is ignored, so that nobody can end the wait with garbage (RFC 5452
§9). Sockets are gevent's.
"""

from __future__ import annotations

import struct
from time import monotonic
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
from gevent import socket

from hemi.dnsreply import DNSFailure, Reply, Server

__all__ = ["DNSClient", "DNSFailure", "Reply", "Server"]

PAYLOAD = 1232  # bytes of a datagram that go through everywhere (DNS flag day 2020)


class DNSClient:
    """Asks name servers."""

    def ask(self, name: str, kind: str, server: Server, timeout: float) -> Reply:
        """The records of `kind` ("A", "AAAA", "SRV") of an absolute name; CNAMEs count. Raises DNSFailure."""
        deadline = monotonic() + timeout
        query = dns.message.make_query(name, kind, use_edns=0, payload=PAYLOAD)
        response = self._exchange(query, server, deadline)
        if response.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):  # a server older than EDNS
            query = dns.message.make_query(name, kind)
            response = self._exchange(query, server, deadline)
        return read(response, kind, server)

    def _exchange(
        self, query: dns.message.QueryMessage, server: Server, deadline: float
    ) -> dns.message.Message:
        try:
            response = self._by_udp(query, server, deadline)
            if response.flags & dns.flags.TC:
                response = self._by_tcp(query, server, deadline)
        except TimeoutError:
            raise DNSFailure(f"{server[0]} does not answer") from None
        except OSError as e:
            raise DNSFailure(f"{server[0]}: {e.strerror or e}") from None
        return response

    def _by_udp(
        self, query: dns.message.QueryMessage, server: Server, deadline: float
    ) -> dns.message.Message:
        with open_socket(server, socket.SOCK_DGRAM, deadline) as sock:
            sock.send(query.to_wire())
            while True:
                sock.settimeout(left(deadline))
                response = decode(sock.recv(65535), query)
                if response is not None:
                    return response

    def _by_tcp(
        self, query: dns.message.QueryMessage, server: Server, deadline: float
    ) -> dns.message.Message:
        wire = query.to_wire()
        with open_socket(server, socket.SOCK_STREAM, deadline) as sock:
            sock.sendall(struct.pack("!H", len(wire)) + wire)
            (size,) = struct.unpack("!H", receive(sock, 2, deadline))
            response = decode(receive(sock, size, deadline), query)
        if response is None or response.flags & dns.flags.TC:
            raise DNSFailure(f"{server[0]} answers something else")
        return response


def open_socket(server: Server, kind: int, deadline: float) -> socket.socket:
    """A connected socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        sock.settimeout(left(deadline))
        # getaddrinfo without names only finds the number of an IPv6 zone
        where = (
            server
            if "%" not in server[0]
            else socket.getaddrinfo(*server, family, kind, 0, socket.AI_NUMERICHOST)[0][4]
        )
        sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


def left(deadline: float) -> float:
    """The seconds until a deadline. Raises TimeoutError when it is over."""
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def receive(sock: socket.socket, size: int, deadline: float) -> bytes:
    """Exactly `size` bytes. Raises OSError."""
    data = b""
    while len(data) < size:
        sock.settimeout(left(deadline))
        part = sock.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the connection ends within the answer")
        data += part
    return data


def decode(wire: bytes, query: dns.message.QueryMessage) -> dns.message.Message | None:
    """The message, if it answers the query; otherwise None. One that was cut has its TC flag."""
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
    except dns.message.Truncated as e:
        message = e.message()  # type: ignore[no-untyped-call]
    except (dns.exception.DNSException, struct.error, ValueError):
        return None
    return message if query.is_response(message) else None


def read(message: dns.message.Message, kind: str, server: Server) -> Reply:
    """What a message tells. Raises DNSFailure."""
    code = message.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not isinstance(
        message, dns.message.QueryMessage
    ):
        raise DNSFailure(f"{server[0]} answers {dns.rcode.to_text(code)}")
    try:
        chain = message.resolve_chaining()
    except dns.exception.DNSException as e:
        raise DNSFailure(f"{server[0]} answers nonsense: {type(e).__name__}") from None
    records = list(chain.answer) if chain.answer is not None else []
    if kind == "SRV":
        values: list[Any] = [
            (one.priority, one.weight, one.port, one.target.to_text(omit_final_dot=True).lower().strip("."))
            for one in records
        ]
    else:
        values = [one.address for one in records]
    return Reply(values, float(chain.minimum_ttl), code == dns.rcode.NXDOMAIN)
