"""Sessions as conditions and logs see them."""

from __future__ import annotations

import errno
import math
from types import SimpleNamespace
from typing import Any

import pytest

from hemi.conditions import compile_condition, compile_template
from hemi.net.udpconn import UDPXConn
from hemi.net.variables import UDP_CASE_SCOPE
from hemi.proxy_protocol import Header, build_v2, parse


def too_long(data: bytes, peer: Any) -> None:
    raise OSError(errno.EMSGSIZE, "too long")


def conn_of(first: bytes = b"hello", peer: Any = ("192.0.2.1", 1234), is_uds: bool = False) -> UDPXConn:
    gate: Any = SimpleNamespace(
        owner=None, sock=SimpleNamespace(sendto=too_long), is_uds=is_uds, local=("127.0.0.1", 53),
        listener=SimpleNamespace(bound="/run/d"), dropped=0, unsent=0, forgotten=[],
    )  # fmt: skip
    gate.forget = gate.forgotten.append
    return UDPXConn(gate, peer, peer, None, first, 1.0)


def test_variables() -> None:
    text = "$src_host $src_port $dst_host $dst_port $uds $size $first_bytes"
    assert compile_template(text, UDP_CASE_SCOPE)(conn_of()) == "192.0.2.1 1234 127.0.0.1 53 off 5 68656c6c6f"
    assert compile_template(text, UDP_CASE_SCOPE)(conn_of(b"", b"\0x", True)) == "unix: 0 /run/d 0 on 0 "
    assert compile_condition('$first_bytes ^= "68"', UDP_CASE_SCOPE)(conn_of())
    assert compile_condition('$src_host in "192.0.2.0/24"', UDP_CASE_SCOPE)(
        conn_of(peer=("::ffff:192.0.2.1", 1, 0, 0))
    )
    assert len(conn_of(b"x" * 100).first_bytes) == 16


@pytest.mark.parametrize(
    ("src", "dst", "shown"),
    [
        (("198.51.100.1", 9), ("203.0.113.1", 53), ("198.51.100.1", 9, ("203.0.113.1", 53))),
        (("/a", 0), ("/b", 0), ("unix:", 0, ("/b", 0))),
        (None, None, ("192.0.2.1", 1234, ("127.0.0.1", 53))),
    ],
)
def test_what_a_proxy_says(src: Any, dst: Any, shown: Any) -> None:
    header = parse(build_v2(src, dst, datagram=src is not None))
    assert isinstance(header, Header)
    conn = conn_of()
    conn.believe(header)
    assert (conn.src_host, conn.src_port, conn.dst) == shown


def test_datagrams_are_kept_until_somebody_takes_them() -> None:
    conn = conn_of()
    for number in range(3):
        conn.feed(b"%d" % number, 1.0)
    got: list[bytes] = []
    conn.take(lambda data, now: got.append(data), math.inf)
    conn.feed(b"3", 1.0)
    assert got == [b"0", b"1", b"2", b"3"] and conn.is_taken


def test_the_end() -> None:
    conn = conn_of()
    ends: list[str] = []
    conn.at_end(lambda: ends.append("end"))
    conn.cut(2.0)
    conn.end("again")
    conn.started = conn.ended - 1.5
    assert conn.elapsed() == "1.500", "lines of logs are made later"
    assert ends == ["end"] and conn.reason == "idle" and conn.gate.forgotten == [conn]  # type: ignore[attr-defined]
    assert repr(conn) == "<UDPXConn UDP 127.0.0.1:53 from 192.0.2.1:1234 status=200>"


def test_answers_that_cannot_be_sent_are_counted() -> None:
    conn = conn_of(peer=("192.0.2.1", 0))
    conn.reply(b"x" * 70000)
    assert conn.gate.unsent == 1 and conn.bytes_sent == 0 and not conn.ended
