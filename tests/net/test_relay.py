"""Relays: both directions, half-close, limits, and what happens when a side breaks."""

from __future__ import annotations

import os
import socket
import struct
from _socket import socket as RawSocket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import gevent
import pytest

from hemi.net import relay as module
from hemi.net.relay import Ended, Relay
from hemi.sockets import Channel, Sweeper
from tests.net.kit import TIMEOUT, receive, rest, until


def tcp_pair() -> tuple[Any, Any]:
    """Two ends of a connection on 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname(), timeout=TIMEOUT)
        other, _ = listening.accept()
    other.settimeout(TIMEOUT)
    return one, other


def channel_of(sock: Any, write_timeout: float = 60.0) -> Channel:
    raw = RawSocket(sock.family, sock.type, sock.proto, sock.detach())
    raw.setblocking(False)
    return Channel(raw, write_timeout)


@contextmanager
def relayed(first: bytes = b"", **limits: Any) -> Iterator[tuple[Any, Any, Relay, Any]]:
    """Client, node, the relay between them and its greenlet."""
    write_timeout = limits.pop("write_timeout", 60.0)
    client, a = tcp_pair()
    b, node = tcp_pair()
    one = Relay(channel_of(a, write_timeout), channel_of(b, write_timeout), **limits)
    sweeper = Sweeper({one, one.client, one.node})
    sweeper.start()
    greenlet = gevent.spawn(one.run, first)
    try:
        yield client, node, one, greenlet
    finally:
        greenlet.kill()
        sweeper.stop()
        for end in (client, node, one.client, one.node):
            end.close()


def test_both_ways_and_half_close() -> None:
    with relayed(b"first ") as (client, node, relay, greenlet):
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert rest(node) == b"first question"
        node.sendall(b"answer")  # long after the client's end
        assert receive(client, 6) == b"answer"
        node.close()
        assert rest(client) == b""
        greenlet.join(TIMEOUT)
        assert greenlet.ready() and relay.reason == "" and relay.moved == [14, 6]


@pytest.mark.parametrize("zero_copy", [True, False])
def test_bulk_both_ways(zero_copy: bool) -> None:
    data = os.urandom(1 << 20) * 12
    with relayed() as (client, node, relay, greenlet):
        relay.zero_copy = zero_copy
        for end in (client, node):
            gevent.spawn(lambda end=end: (end.sendall(data), end.shutdown(socket.SHUT_WR)))
        up, down = gevent.spawn(rest, node), gevent.spawn(rest, client)
        gevent.joinall([up, down], TIMEOUT)
        assert up.value == data and down.value == data
        greenlet.join(TIMEOUT)
        assert relay.moved == [len(data)] * 2


def test_small_after_bulk() -> None:
    data = bytes(4 << 20)
    with relayed() as (client, node, _, _):
        sending = gevent.spawn(client.sendall, data)
        assert len(receive(node, len(data))) == len(data)
        sending.join()
        for word in (b"a", b"bc", b"d" * 70000, b"e"):
            client.sendall(word)
            assert receive(node, len(word)) == word


def test_without_descriptors_for_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(flags: int) -> Any:
        raise OSError(24, "too many open files")

    data = bytes(4 << 20)
    with relayed() as (client, node, _, _):
        monkeypatch.setattr(module.os, "pipe2", none_left)
        gevent.spawn(client.sendall, data)
        assert len(receive(node, len(data))) == len(data)


def test_no_descriptor_is_left() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with relayed() as (client, node, _, greenlet):
            gevent.spawn(client.sendall, bytes(4 << 20))
            receive(node, 1 << 20)
            client.close()
            rest(node)
            node.close()
            greenlet.join(TIMEOUT)
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("breaks", ["client", "node"])
def test_a_reset_is_passed_on(breaks: str) -> None:
    with relayed() as (client, node, relay, greenlet):
        client.sendall(b"a")
        assert receive(node, 1) == b"a"
        one, other = (client, node) if breaks == "client" else (node, client)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
        with pytest.raises(ConnectionResetError):
            rest(other)
        greenlet.join(TIMEOUT)
        assert greenlet.ready() and relay.reason.startswith(f"{breaks}: connection reset")


def test_a_node_that_breaks_while_the_client_takes_nothing() -> None:
    """The direction to the client waits to send: only the other one learns of it."""
    with relayed() as (client, node, relay, greenlet):
        filling = gevent.spawn(node.sendall, bytes(64 << 20))
        until(lambda: relay.client.writing)
        filling.kill()
        node.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        node.close()
        for _ in range(3):  # the kernel tells who sends
            with suppress(OSError):
                client.sendall(b"x")
        greenlet.join(TIMEOUT)
        assert greenlet.ready() and relay.reason.startswith("node: ")


def test_idle() -> None:
    with relayed(idle_timeout=0.2) as (client, node, relay, greenlet):
        assert rest(client) == b"" and rest(node) == b""
        greenlet.join(TIMEOUT)
        assert relay.reason == "idle"


def test_what_moves_is_not_idle() -> None:
    with relayed(idle_timeout=10.0) as (client, node, relay, _):
        now = monotonic()
        relay.cut(now + 9)
        assert relay.reason == ""
        client.sendall(b"a")
        receive(node, 1)
        relay.cut(now + 11)
        relay.cut(now + 20)
        assert relay.reason == ""
        relay.cut(now + 21.5)
        assert relay.reason == "idle"


def test_lifetime() -> None:
    with relayed(ends_at=monotonic() + 0.1) as (_, node, relay, greenlet):
        filling = gevent.spawn(node.sendall, bytes(64 << 20))  # however busy it is
        greenlet.join(TIMEOUT)
        assert relay.reason == "lifetime"
        filling.kill()


def test_a_client_that_takes_nothing() -> None:
    with relayed(write_timeout=0.2) as (_, node, relay, greenlet):
        filling = gevent.spawn(node.sendall, bytes(64 << 20))
        greenlet.join(TIMEOUT)
        assert relay.reason == "client: takes nothing"
        filling.kill()


def test_a_kill_resets() -> None:
    with relayed() as (client, _, relay, greenlet):
        client.sendall(b"a")
        until(lambda: relay.moved[0])
        greenlet.kill()
        assert relay.reason == "stopped"
        with pytest.raises(ConnectionResetError):
            rest(client)


def test_filters_see_everything_once() -> None:
    """One direction is filtered, held back and changed; the other is passed on by the hub as ever."""
    seen: list[bytes] = []

    def halves(data: bytes) -> bytes:
        seen.append(data)
        return data[: len(data) // 2].upper() if data else b"the end"

    with relayed(b"abcd", filters=(halves, None)) as (client, node, relay, greenlet):
        assert receive(node, 2) == b"AB"
        client.sendall(b"x")  # of which nothing is left
        until(lambda: len(seen) == 2)
        node.sendall(b"back")
        assert receive(client, 4) == b"back"
        client.shutdown(socket.SHUT_WR)
        assert rest(node) == b"the end"
        node.close()
        greenlet.join(TIMEOUT)
        assert seen == [b"abcd", b"x", b""] and relay.moved == [9, 4]


def test_filtered_bulk_is_not_spliced() -> None:
    data = os.urandom(1 << 20) * 6
    found = bytearray()

    def look(piece: bytes) -> bytes:
        found.extend(piece)
        return piece

    with relayed(filters=(None, look)) as (client, node, _, _):
        sending = gevent.spawn(lambda: (node.sendall(data), node.shutdown(socket.SHUT_WR)))
        assert rest(client) == data
        sending.join()
    assert bytes(found) == data


def test_a_filter_ends_the_relay() -> None:
    def forbid(data: bytes) -> bytes:
        raise Ended("not that", b"farewell")

    with relayed(filters=(forbid, None)) as (client, node, relay, greenlet):
        node.sendall(b"hello ")
        assert receive(client, 6) == b"hello "
        client.sendall(b"that")
        assert rest(client) == b"farewell" and rest(node) == b""
        greenlet.join(TIMEOUT)
        assert relay.reason == "not that" and not relay.broken


def test_a_filter_that_fails_does_not_hang() -> None:
    def fails(data: bytes) -> bytes:
        raise ValueError("a bug")

    with relayed(filters=(fails, None)) as (client, node, _, greenlet):
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            rest(node)
        greenlet.join(TIMEOUT)
        assert isinstance(greenlet.exception, ValueError)
