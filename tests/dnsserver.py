"""A name server on 127.0.0.1 that can be slow, wrong, silent and malicious."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import gevent
from gevent import socket


class DNSServer:
    """Answers from `zone`, a mapping of (absolute name, type) to records, by UDP and TCP on the same port."""

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], list[str]] = {}
        self.aliases: dict[str, str] = {}
        self.ttl = 300
        self.rcode = dns.rcode.NOERROR
        self.delay: dict[str, float] = {}  # type -> seconds
        self.silent = False
        self.silent_types: set[str] = set()
        self.no_edns = False
        self.before: list[Callable[[Any, bytes], bytes]] = []  # datagrams that go out before the answer
        self.sent_before = 0
        self.from_elsewhere = False
        self.extra: list[Any] = []
        self.cut_tcp = False
        self.by_tcp = 0
        self.asked: list[tuple[str, str]] = []
        self.waiting = self.most_waiting = 0
        self.open()

    def open(self) -> None:
        """Find a port that is free for both."""
        while True:
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind(("127.0.0.1", 0))
            self.address: tuple[str, int] = self.udp.getsockname()
            self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                self.tcp.bind(self.address)
                break
            except OSError:
                self.udp.close()
                self.tcp.close()
        self.tcp.listen()
        self.tasks = [gevent.spawn(self.serve_udp), gevent.spawn(self.serve_tcp)]

    def close(self) -> None:
        gevent.killall(self.tasks)
        self.udp.close()
        self.tcp.close()

    def serve_udp(self) -> None:
        while True:
            wire, peer = self.udp.recvfrom(65535)
            self.tasks.append(gevent.spawn(self.answer_udp, wire, peer))

    def answer_udp(self, wire: bytes, peer: Any) -> None:
        query = dns.message.from_wire(wire)
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        self.asked.append((query.question[0].name.to_text(), kind))
        response = self.answer(query)
        answer = response.to_wire(max_size=65535)
        if len(answer) > 1232:
            response = dns.message.make_response(query)
            response.flags |= dns.flags.TC
            answer = response.to_wire()
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        gevent.sleep(self.delay.get(kind, 0.0))
        self.waiting -= 1
        for make in self.before:
            self.udp.sendto(make(query, answer), peer)
            self.sent_before += 1
        if self.silent or kind in self.silent_types:
            return
        if self.from_elsewhere:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(answer, peer)
        else:
            self.udp.sendto(answer, peer)

    def serve_tcp(self) -> None:
        while True:
            conn, _ = self.tcp.accept()
            with conn:
                conn.settimeout(5)
                (size,) = struct.unpack("!H", conn.recv(2))
                answer = self.answer(dns.message.from_wire(conn.recv(size))).to_wire(max_size=65535)
                self.by_tcp += 1
                if self.cut_tcp:
                    conn.sendall(struct.pack("!H", len(answer)) + answer[:50])
                else:
                    conn.sendall(struct.pack("!H", len(answer)) + answer)

    def answer(self, query: Any) -> Any:
        response = dns.message.make_response(query)
        if self.no_edns and query.edns >= 0:
            response.set_rcode(dns.rcode.FORMERR)
            return response
        response.set_rcode(self.rcode)
        if self.rcode != dns.rcode.NOERROR:
            return response
        question = query.question[0]
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        response.answer += self.extra
        while name in self.aliases and len(response.answer) < 20:
            response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", "CNAME", self.aliases[name]))
            name = self.aliases[name]
        if (name, kind) in self.zone:
            response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *self.zone[name, kind]))
            return response
        if name not in {known for known, _ in self.zone} and name not in self.aliases:
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(dns.rrset.from_text(".", 5, "IN", "SOA", "a. b. 1 2 3 4 5"))
        return response
