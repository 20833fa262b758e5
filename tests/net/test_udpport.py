"""Datagrams and addresses: answers leave from where the question came to."""

from __future__ import annotations

import socket
import struct
from _socket import socket as RawSocket

import pytest

from hemi.net.udpport import answer_info, host_in, info_room


@pytest.mark.parametrize(
    ("wildcard", "family", "to", "shown"),
    [
        ("0.0.0.0", socket.AF_INET, "127.0.0.5", "127.0.0.5"),
        ("::", socket.AF_INET6, "::1", "::1"),
        ("::", socket.AF_INET, "127.0.0.5", "::ffff:127.0.0.5"),
    ],
)
def test_all_addresses(wildcard: str, family: int, to: str, shown: str) -> None:
    sock = RawSocket(socket.AF_INET6 if ":" in wildcard else socket.AF_INET, socket.SOCK_DGRAM)
    if ":" in wildcard:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((wildcard, 0))
    room = info_room(sock)
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        port = sock.getsockname()[1]
        client.sendto(b"hello", (to, port))
        sock.settimeout(5)
        data, info, _, peer = sock.recvmsg(100, room)
        assert host_in(info) == shown
        sock.sendmsg((data,), answer_info(info), 0, peer)
        assert client.recvfrom(100)[1][:2] == (to, port)
    sock.close()


def test_one_address() -> None:
    sock = RawSocket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    assert info_room(sock) == 0 and host_in([]) == "" and answer_info([]) == []
    sock.close()


def test_link_local_addresses_stay_on_their_link() -> None:
    for text, kept in (("fe80::1", 7), ("2001:db8::1", 0)):
        data = struct.pack("=16sI", socket.inet_pton(socket.AF_INET6, text), 7)
        ((_, _, answer),) = answer_info([(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, data)])
        assert struct.unpack("=16sI", answer)[1] == kept
