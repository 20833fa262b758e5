"""Datagrams, whose sources anybody can forge: nothing is answered that nobody wants, floods have bounds, and whatever
bytes come, the next honest client is served."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import psutil
import pytest
from gevent import socket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hemi.net.socks import encode_datagram_head
from hemi.proxy_protocol import SIGNATURE, build_v2
from tests.builtin.servers.test_socks_udp import Associated
from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, until
from tests.net.udpkit import Client, backend, closed_port, nodes, router, to
from tests.running import Served, dirs_below
from tests.running import until as waited_for

Start = Callable[[str], Net]
Serve = Callable[..., Served]

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_nothing_is_answered_that_no_case_wants(net: Start) -> None:  # noqa: F811
    """A router is no reflector: not for sources without a case, not for those beyond a limit, not with ICMP."""
    with nodes(lambda data: data * 20) as (node,):
        cases = to("b", before="{access: {deny: 127.0.0.2}}, {limit: {concurrent: 1}}, ")
        one = net(router(cases, backends=backend("b", node.address)))
        with (
            Client(one.address("front"), "127.0.0.2") as denied,
            Client(one.address("front"), "127.0.0.3") as first,
            Client(one.address("front"), "127.0.0.3") as second,
        ):
            assert first.ask(b"x") == b"x" * 20
            for client in (denied, second):
                client.sock.connect(client.to)  # so that ICMP errors would be seen
                client.sock.send(b"x")
                assert client.hears_nothing()
            assert len(node.got) == 1


def test_answers_are_counted(net: Start) -> None:  # noqa: F811
    """With `responses`, a node cannot be made to send a stream to whoever was named as the source."""
    with nodes(lambda data: [data] * 50) as (node,):
        one = net(router(to("b", "responses: 2"), backends=backend("b", node.address)))
        with Client(one.address("front")) as client:
            client.send(b"x")
            assert client.receive() + client.receive() == b"xx"
            until(lambda: not one.owner("front").conns)
            assert client.hears_nothing()


def test_floods_of_sources_have_bounds(net: Start) -> None:  # noqa: F811
    """More sources than there may be sessions: descriptors are bounded, and who has a session keeps it."""
    with nodes(None) as (node,):
        one = net(router(to("b"), "    max_sessions: 50\n", backend("b", node.address)))
        me = psutil.Process()
        with Client(one.address("front")) as honest:
            assert honest.ask() == b"hello"
            before = me.num_fds()
            clients = [Client(one.address("front")) for _ in range(200)]
            own = me.num_fds() - before
            for client in clients:
                client.send(b"x")
            until(lambda: one.owner("front").gates[0].dropped >= 151)
            assert one.owner("front").conns == 50
            assert me.num_fds() - before - own <= 50
            assert honest.ask() == b"hello"
            assert len(one.log.find("50 sessions are open")) <= 3  # and the log is no victim either
            for client in clients:
                client.sock.close()
        one.served.close()
        assert me.num_fds() <= before


def test_descriptors_are_left_for_others(net: Start) -> None:  # noqa: F811
    with nodes(None) as (node,):
        one = net(router(to("b"), backends=backend("b", node.address)))
        dealet = one.owner("front").cases[0].dealets[0]
        with Client(one.address("front")) as honest:
            assert honest.ask() == b"hello"
            dealet.most_files = 3
            with Client(one.address("front")) as client:
                client.send(b"x")
                until(lambda: one.log.find("no descriptor is left"))
            assert honest.ask() == b"hello"
            described = one.served.stage.members["backends"]["b"].describe()  # type: ignore[attr-defined]
            assert described["nodes"][0]["failures"] == 0 and described["nodes"][0]["in_flight"] == 1


def test_a_stranger_cannot_speak_for_the_node(net: Start) -> None:  # noqa: F811
    with nodes(None) as (node,):
        one = net(router(to("b"), backends=backend("b", node.address)))
        with Client(one.address("front")) as client:
            assert client.ask() == b"hello"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"poison", node.got[0][1])
            assert client.ask(b"again") == b"again"


def test_a_router_in_front_of_itself(net: Start) -> None:  # noqa: F811
    """A loop of the configuration makes sessions until there are as many as may be, and no more."""
    port = closed_port()
    text = router(to("b", "idle_timeout: 1s"), "    max_sessions: 20\n", backend("b", f"127.0.0.1:{port}"))
    one = net(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    with Client(one.address("front")) as client:
        client.send(b"x")
        until(lambda: one.log.find("20 sessions are open"))
        until(lambda: not one.owner("front").conns)


HEADER = build_v2(("198.51.100.1", 99), ("203.0.113.1", 53), datagram=True)


@contextmanager
def proxied(folder: Any) -> Iterator[tuple[Net, Client]]:
    """A router that expects PROXY headers, and a client."""
    with nodes(None) as (node,):
        text = router(to("b"), "    proxy_protocol: true\n    max_sessions: 50\n", backend("b", node.address))
        one = Net(text, dirs_below(folder))
        try:
            with Client(one.address("front")) as client:
                yield one, client
        finally:
            one.served.close()


def test_any_bytes_for_a_proxy_header(tmp_path_factory: pytest.TempPathFactory) -> None:
    with proxied(tmp_path_factory.mktemp("fuzz")) as (_, client):

        @FUZZ
        @given(
            st.one_of(
                st.binary(max_size=300),
                st.binary(max_size=60).map(SIGNATURE.__add__),
                st.integers(0, len(HEADER)).map(lambda size: HEADER[:size]),
                st.tuples(st.integers(12, len(HEADER) - 1), st.integers(0, 255)).map(
                    lambda at: HEADER[: at[0]] + bytes((at[1],)) + HEADER[at[0] + 1 :]
                ),
            )
        )
        def fuzz(data: bytes) -> None:
            with Client(f"{client.to[0]}:{client.to[1]}") as other:
                other.send(data)
            assert client.ask(HEADER + b"honest") == b"honest"

        fuzz()


def test_any_bytes_for_an_association(serve: Serve) -> None:
    served = serve(
        'servers: {proxy: {type: socks_server, address: "127.0.0.1:0", commands: udp_associate, '
        "allow: [{networks: 127.0.0.0/8}]}}\n"
    )
    me = psutil.Process()
    with nodes(None) as (node,):
        before = me.num_fds()
        client = Associated(served)
        good = encode_datagram_head("127.0.0.1", node.port)

        @FUZZ
        @given(
            st.one_of(
                st.binary(max_size=300),
                st.binary(max_size=40).map(b"\0\0\0\3".__add__),
                st.integers(0, len(good) - 1).map(lambda size: good[:size]),
            )
        )
        def fuzz(data: bytes) -> None:
            client.send(data)
            assert client.echoed(node.port, b"honest")

        fuzz()
        client.close()
        assert waited_for(lambda: not served.server().conns)
        gevent.sleep(0)
        assert me.num_fds() <= before


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "169.254.169.254", "10.0.0.1", "::1", "::ffff:127.0.0.1"]
)
def test_an_association_is_no_way_in(serve: Serve, host: str) -> None:
    """Row 15: ranges that are not public must be named, for datagrams as for connections."""
    served = serve(
        'servers: {proxy: {type: socks_server, address: "127.0.0.1:0", commands: [bind, udp_associate], allow: '
        '[{names: "*"}, {networks: ["0.0.0.0/0", "::/0"]}, {ports: "1-65535"}]}}\n'
    )
    with nodes(None) as (node,):
        client = Associated(served)
        name = host.encode()
        client.send(
            struct.pack("!HBBB", 0, 0, 3, len(name)) + name + struct.pack("!H", node.port) + b"secret"
        )
        if host != "localhost":
            client.send(encode_datagram_head(host, node.port) + b"secret")
        assert client.hears_nothing() and not node.got
        client.close()


def test_an_association_has_bounds(serve: Serve) -> None:
    """Thousands of hosts: what is remembered is bounded, and no descriptor is spent on any of them."""
    served = serve(
        'servers: {proxy: {type: socks_server, address: "127.0.0.1:0", commands: udp_associate, '
        "allow: [{networks: 127.0.0.0/8}]}}\n"
    )
    me = psutil.Process()
    with nodes(None) as (node,):
        client = Associated(served)
        assert client.echoed(node.port)
        before = me.num_fds()
        for number in range(3000):
            client.send(encode_datagram_head(f"127.1.{number >> 8}.{number & 255}", 9) + b"x")
            if number % 100 == 0:
                assert client.echoed(node.port)
        assert client.echoed(node.port)
        assert me.num_fds() == before
        client.close()


def test_echo_makes_no_loops(net: Start) -> None:  # noqa: F811
    """Two echo servers must not keep each other busy when somebody forges one datagram (CVE-1999-0103)."""
    text = 'servers: {echo: {type: echo_server, address: "127.0.0.1:0", transports: udp}}\n'
    one = net(text)
    (port,) = one.owner("echo")._ports
    for source in (7, 13, 19, 53, 1023, port.own_port):
        assert not port._may_answer(("127.0.0.1", source))
    if os.getuid() == 0:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind(("127.0.0.9", 7))
            except OSError:
                return
            host, _, number = one.address("echo").rpartition(":")
            sock.sendto(b"x", (host, int(number)))
            sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                sock.recv(10)
