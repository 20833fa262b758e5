"""The router of datagrams: cases, access and limits, what is dropped, and reloads."""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest

from hemi import component as registry
from hemi.proxy_protocol import build_v2
from hemi.source import Dirs
from tests.dnsserver import DNSServer
from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, dial, problems, until
from tests.net.udpkit import Client, backend, nodes, router, to
from tests.running import TOP_DIR, require_program

Start = Callable[[str], Net]


def saying(word: bytes) -> Callable[[bytes], bytes]:
    return lambda data: word


def test_cases(net: Start) -> None:  # noqa: F811
    with nodes(*(saying(word) for word in (b"a", b"b", b"c", b"d"))) as found:
        backends = "".join(backend(name, node.address) for name, node in zip("abcd", found, strict=True))
        cases = (
            to("a", condition='$src_host in "10.0.0.0/8"')
            + to("b", condition='$size == 3 and $dst_host == "127.0.0.1"')
            + "      - dealets: [{access: {allow: all}}]\n"  # declines
            + to("c", condition='$first_bytes ^= "c0ff" and $uds == "off" and $src_port != 1')
            + to("d", condition='$dst_port != "1"')
        )
        one = net(router(cases, backends=backends))
        for data, answer in ((b"abc", b"b"), (b"\xc0\xffee", b"c"), (b"", b"d")):
            with Client(one.address("front")) as client:
                assert client.ask(data) == answer
                assert client.ask(b"abc") == answer  # the first one decides
        with Client(one.address("front"), "127.0.0.2") as client:
            assert client.ask(b"abc") == b"b"


def test_what_no_case_wants_is_dropped(net: Start) -> None:  # noqa: F811
    with nodes(None) as (node,):
        one = net(router(to("b", condition='$src_host == "192.0.2.1"'), backends=backend("b", node.address)))
        with Client(one.address("front")) as client:
            for _ in range(5):
                client.send(b"hello")
            gate = one.owner("front").gates[0]
            until(lambda: gate.dropped >= 1 and not one.owner("front").conns)
            assert client.hears_nothing() and not node.got
        assert len(one.log.find("drops a datagram from 127.0.0.1")) == 1
        assert "no case deals with it" in one.log.find("drops a datagram")[0]


def test_access_and_limits(net: Start) -> None:  # noqa: F811
    with nodes(None) as (node,):
        cases = to("b", before="{access: {deny: 127.0.0.2}}, {limit: {concurrent: 2}}, ")
        one = net(router(cases, backends=backend("b", node.address)))
        with Client(one.address("front"), "127.0.0.2") as client:
            client.send(b"hello")
            until(lambda: one.log.find("it may not come in"))
        clients = [Client(one.address("front"), "127.0.0.3") for _ in range(3)]
        assert [client.ask() for client in clients[:2]] == [b"hello"] * 2
        clients[2].send(b"hello")
        assert clients[2].hears_nothing()
        assert one.log.find("beyond 2 connections at the same time")
        with Client(one.address("front"), "127.0.0.4") as client:
            assert client.ask() == b"hello"
        for client in clients:
            client.sock.close()


def test_max_sessions(net: Start) -> None:  # noqa: F811
    """Who has a session keeps it."""
    with nodes(None) as (node,):
        one = net(router(to("b"), "    max_sessions: 2\n", backend("b", node.address)))
        clients = [Client(one.address("front")) for _ in range(3)]
        assert [client.ask() for client in clients[:2]] == [b"hello"] * 2
        clients[2].send(b"hello")
        until(lambda: one.log.find("2 sessions are open"))
        assert clients[0].ask() == b"hello"
        for conn in list(one.owner("front").gates[0].conns):
            conn.end("idle")
        assert clients[2].ask() == b"hello"
        for client in clients:
            client.sock.close()


def test_the_access_log(net: Start, tmp_path: Path) -> None:  # noqa: F811
    log = tmp_path / "a.log"
    form = "$router $case $backend $status $reason $bytes_received $bytes_sent $datagrams_received $datagrams_sent"
    with nodes(lambda data: [data, data]) as (node,):
        more = f"    access_log: {{target: {log}, flush_interval: 1ms, format: '{form}'}}\n"
        one = net(router(to("b", "responses: 2"), more, backend("b", node.address)))
        with Client(one.address("front")) as client:
            client.ask()
        until(lambda: log.exists() and log.read_text() == "front 1 b 200 - 5 10 1 2\n")


def test_reload_keeps_sessions(net: Start) -> None:  # noqa: F811
    """Datagrams of a session go to the old stage's session, new sources to the new stage's cases."""
    with nodes(saying(b"old"), saying(b"new")) as (old, new):
        one = net("drain_timeout: 20s\n" + router(to("b"), backends=backend("b", old.address)))
        address = one.address("front")
        with Client(address) as client, Client(address) as other:
            assert client.ask() == b"old"
            first = one.served.stage
            one.reload("drain_timeout: 20s\n" + router(to("b"), backends=backend("b", new.address)))
            assert one.address("front") == address
            for _ in range(3):
                assert client.ask() == b"old" and other.ask() == b"new"
            assert one.served.keeper.draining == [first]
            assert first.members["routers"]["front"].conns == 1  # type: ignore[attr-defined]
            assert len({peer for _, peer in old.got}) == 1  # the same session all the time
            one.reload("drain_timeout: 20s\n" + router(to("b"), backends=backend("b", new.address)))
            assert client.ask() == b"old" and other.ask() == b"new"


def test_a_reload_that_ends_the_drain(net: Start) -> None:  # noqa: F811
    with nodes(saying(b"old"), saying(b"new")) as (old, new):
        one = net("drain_timeout: 100ms\n" + router(to("b"), backends=backend("b", old.address)))
        with Client(one.address("front")) as client:
            assert client.ask() == b"old"
            one.reload(router(to("b"), backends=backend("b", new.address)))
            until(lambda: not one.served.keeper.draining)
            assert client.ask() == b"new"


def test_a_stop_waits_for_answers(net: Start) -> None:  # noqa: F811
    with nodes(lambda data: []) as (node,):
        one = net(router(to("b"), backends=backend("b", node.address)))
        with Client(one.address("front")) as client, Client(one.address("front")) as done:
            client.send(b"hello")
            done.send(b"done")
            until(lambda: len(node.got) == 2)
            for data, peer in list(node.got):
                if data == b"done":
                    node.sock.sendto(data, peer)
            assert done.receive() == b"done"
            front = one.owner("front")
            stopping = one.served.keeper
            ending = gevent.spawn(one.served.close, 10.0)
            until(lambda: front.conns == 1)  # the answered one has ended
            for data, peer in list(node.got):
                if data == b"hello":
                    node.sock.sendto(data, peer)
            assert client.receive() == b"hello"
            ending.join(5)
            assert ending.dead and stopping.current is None


def test_routers_close_when_servers_do(net: Start) -> None:  # noqa: F811
    echo = 'servers: {echo: {type: echo_server, address: "127.0.0.1:0"}}\n'
    case = "{dealets: [{access: {deny: all}}]}"
    text = f'routers: {{front: {{type: tcpx_router, address: "127.0.0.1:0", cases: [{case}]}}}}\n'
    one = net(echo + text)
    address = one.address("front")
    with one.connect("echo") as busy:
        busy.sendall(b"x")
        assert busy.recv(1) == b"x"
        ending = gevent.spawn(one.served.close, 10.0)
        gevent.sleep(0)

        def refused() -> bool:
            try:
                dial(address).close()
            except ConnectionRefusedError:
                return True
            return False

        until(refused)
        assert not ending.dead
    ending.join(5)
    assert ending.dead


def test_proxy_protocol(net: Start) -> None:  # noqa: F811
    """In each datagram, in the first one only, for several clients behind one port of the proxy, and without one."""
    with nodes(None) as (node,):
        cases = to("b", "send_proxy: first", condition='$src_host == "198.51.100.1" and $dst_port == 53')
        one = net(router(cases, "    proxy_protocol: true\n", backend("b", node.address)))
        header = build_v2(("198.51.100.1", 99), ("203.0.113.1", 53), datagram=True)
        another = build_v2(("198.51.100.1", 98), ("203.0.113.1", 53), datagram=True)
        with Client(one.address("front")) as client:
            client.send(b"no header")
            assert client.ask(header + b"a") == header + b"a"
            assert client.ask(header + b"b") == b"b"
            assert client.ask(another + b"c") == another + b"c"
            assert client.ask(b"d") == b"d"  # of the one before
            assert [node.got[index][1] == node.got[-1][1] for index in range(4)] == [False, False, True, True]
            assert one.owner("front").conns == 2
            client.send(header[:20])
            client.send(build_v2(("198.51.100.2", 99), ("203.0.113.1", 53), datagram=True) + b"nobody's")
            assert client.hears_nothing()
        assert one.owner("front").gates[0].dropped == 3
        assert one.log.find("a PROXY header of version 2 is missing")
        one.served.close()
    with nodes(None) as (node,):
        more = "    proxy_protocol: true\n    proxy_protocol_from: 192.0.2.0/24\n"
        one = net(router(to("b"), more, backend("b", node.address)))
        with Client(one.address("front")) as client:
            assert client.ask(header + b"a") == header + b"a"


def test_dig(net: Start) -> None:  # noqa: F811
    dig = require_program("dig", "bind9-dnsutils")
    dns = DNSServer()
    try:
        dns.zone[("a.example.org.", "A")] = ["192.0.2.7"]
        one = net(router(to("b", "responses: 1"), backends=backend("b", f"127.0.0.1:{dns.address[1]}")))
        port = one.address("front").rpartition(":")[2]
        done = subprocess.run(
            [dig, "@127.0.0.1", "-p", port, "+short", "+tries=1", "+timeout=8", "a.example.org", "A"],
            capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, b"192.0.2.7\n"), done
        until(lambda: not one.owner("front").conns)
    finally:
        dns.close()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('routers: {r: {type: udpx_router, address: ":1"}}', "must have cases"),
        (router("      - dealets: [{access: {allow: all}}]\n", address='[":1", ":1"]'), "the same address twice"),
        (router("      - {if: '$server_name == x', dealets: [{access: {allow: all}}]}\n"), "$server_name"),
        (
            router("      - dealets: [{access: {allow: all}}]\n", "    access_log: {target: x, format: '$tls'}\n"),
            "does not fit sessions of datagrams",
        ),
        (
            ('routers: {r: {type: tcpx_router, address: ":1", cases: [{dealets: [{udpx_proxy: {to_backend: b}}]}]}}\n'
            f"backends:\n{backend('b', '127.0.0.1:1')}"),
            "must not have udpx_proxy, which is not for tcpx_router",
        ),
        (
            ('routers: {r: {type: tcpx_router, address: ":1", '
            'cases: [{if: "$size == 1", dealets: [{access: {deny: all}}]}]}}'),
            "$size",
        ),
    ],
)  # fmt: skip
def test_mistakes(dirs: Dirs, text: str, problem: str) -> None:
    assert problem in problems(text.replace("backends:\nrouters", "routers"), dirs)


def test_the_dealet_of_the_guide(
    net: Start,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guide = (TOP_DIR / "docs" / "developer" / "dealets.md").read_text()
    code = next(part for part in re.findall(r"(?:^    .*\n|^\n)+", guide, re.M) if "class Shout" in part)
    (tmp_path / "shouting.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        one = net(
            router("      - dealets: [shout]\n", before="extensions: [shouting]\n").replace("backends:\n", "")
        )
        with Client(one.address("front")) as client:
            assert [client.ask(), client.ask(b"a")] == [b"HELLO", b"A"]
        until(lambda: one.owner("front").requests == 1)
    finally:
        registry.forget({"shouting"})
