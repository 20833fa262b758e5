"""The dealet udpx_proxy: sessions, answers, nodes that fail, and what ends them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hemi.proxy_protocol import Header, parse
from hemi.source import Dirs
from tests.dnsserver import DNSServer
from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, problems, until
from tests.net.udpkit import Client, Node, backend, closed_port, nodes, router, to

Start = Callable[[str], Net]


def proxy(*found: Node | str, more: str = "", of_backend: str = "", before: str = "") -> str:
    addresses = [each if isinstance(each, str) else each.address for each in found]
    return router(to("b", more), backends=backend("b", *addresses, more=of_backend), before=before)


def test_each_source_has_a_session(net: Start) -> None:  # noqa: F811
    with nodes(None) as (node,):
        one = net(proxy(node))
        clients = [Client(one.address("front")) for _ in range(3)]
        for _ in range(3):
            for number, client in enumerate(clients):
                assert client.ask(b"%d" % number) == b"%d" % number
        assert len({peer for _, peer in node.got}) == 3 and len(node.got) == 9
        assert one.owner("front").conns == 3 and one.owner("front").requests == 3
        for client in clients:
            client.sock.close()


@pytest.mark.parametrize("size", [0, 1, 512, 1200, 1472, 9000, 65507])
def test_sizes(net: Start, size: int) -> None:  # noqa: F811
    with nodes(None) as (node,):
        one = net(proxy(node))
        with Client(one.address("front")) as client:
            assert client.ask(b"x" * size) == b"x" * size


def test_several_answers_and_none_that_was_asked_for(net: Start) -> None:  # noqa: F811
    with nodes(lambda data: [data + b"1", data + b"2", data + b"3"]) as (node,):
        one = net(proxy(node))
        with Client(one.address("front")) as client:
            assert [client.ask(b"a"), client.receive(), client.receive()] == [b"a1", b"a2", b"a3"]
            node.sock.sendto(b"news", node.got[0][1])
            assert client.receive() == b"news"
            with socket.socket(
                socket.AF_INET, socket.SOCK_DGRAM
            ) as stranger:  # not the node: it is not heard
                stranger.sendto(b"forged", node.got[0][1])
            assert client.ask(b"b") == b"b1"


def test_responses_end_a_session(net: Start) -> None:  # noqa: F811
    with nodes(lambda data: [data, data]) as (node,):
        one = net(proxy(node, more="responses: 2"))
        found = one.records("front")
        with Client(one.address("front")) as client:
            assert client.ask(b"abc") + client.receive() == b"abcabc"
            until(lambda: found)
            assert found[0] == (200, "", f"UDP {one.address('front')} > {node.address}", 3, 6)
            assert one.owner("front").conns == 0
            assert client.ask(b"abc") == b"abc"
            assert node.got[0][1] != node.got[1][1]  # another session


def test_who_does_not_answer_has_failed(net: Start) -> None:  # noqa: F811
    with nodes(lambda data: [], None) as (silent, good):
        one = net(
            proxy(
                silent,
                good,
                more="responses: 1, idle_timeout: 500ms",
                of_backend="balancer: first, max_fails: 1",
            )
        )
        with Client(one.address("front")) as client:
            client.send(b"hello")
            until(lambda: one.log.find("is down"))
            assert "answer: no answer within 0.5 s" in one.log.find("is down")[0]
            assert client.ask() == b"hello"


def test_who_sends_what_is_ignored_does_not_take_down_a_node_that_is_checked(net: Start) -> None:  # noqa: F811
    with nodes(lambda data: [data] if data == b"ping" else []) as (node,):
        check = "max_fails: 1, checks: [{udp: {request: ping}}]"
        one = net(proxy(node, more="responses: 1, idle_timeout: 50ms", of_backend=check))
        with Client(one.address("front")) as client:
            client.send(b"rubbish")
            until(lambda: any(data == b"rubbish" for data, _ in node.got) and not one.owner("front").conns)
        assert not one.log.find("is down")


def test_no_answer_expected(net: Start) -> None:  # noqa: F811
    with nodes(lambda data: []) as (node,):
        one = net(proxy(node, more="responses: 0, idle_timeout: 50ms", of_backend="max_fails: 1"))
        with Client(one.address("front")) as client:
            for _ in range(3):
                client.send(b"log")
            until(lambda: len(node.got) == 3 and not one.owner("front").conns)
        assert not one.log.find("is down")


def test_idle_sessions_end(net: Start) -> None:  # noqa: F811
    with nodes(None) as (node,):
        one = net(proxy(node, more="idle_timeout: 500ms"))
        found = one.records("front")
        with Client(one.address("front")) as client:
            assert client.ask() == b"hello"
            until(lambda: found)
            assert found[0][1] == "idle"
            assert client.ask() == b"hello"


def test_a_node_that_is_not_there_is_left_for_the_next(net: Start) -> None:  # noqa: F811
    """ICMP says so, and what was sent goes to the other one."""
    with nodes(None) as (node,):
        one = net(proxy(f"127.0.0.1:{closed_port()}", node, of_backend="balancer: first, max_fails: 2"))
        for number in range(4):
            with Client(one.address("front")) as client:
                for data in (b"a%d" % number, b"b"):
                    client.send(data)
                assert [client.receive(), client.receive()] == [b"a%d" % number, b"b"]
        described = one.served.stage.members["backends"]["b"].describe()["nodes"]
        assert described[0]["state"] == "down" and described[0]["failures"] == 2
        assert described[0]["last_failure"] == "send: connection refused"
        assert described[0]["in_flight"] == 0


def test_no_node_at_all(net: Start) -> None:  # noqa: F811
    ports = [f"127.0.0.1:{closed_port()}" for _ in range(2)]
    one = net(proxy(*ports))
    found = one.records("front")
    with Client(one.address("front")) as client:
        client.send(b"hello")
        until(lambda: found)
        assert found[0][0] == 502 and "connection refused" in found[0][1]
        assert one.log.find("127.0.0.1 has no node")
        assert client.hears_nothing()
    assert not one.owner("front").conns


def test_a_node_that_dies_and_returns(net: Start) -> None:  # noqa: F811
    with nodes(None, None) as (first, second):
        one = net(proxy(first, second, of_backend="balancer: first, max_fails: 1, fail_timeout: 100ms"))
        with Client(one.address("front")) as client:
            assert client.ask() == b"hello"
            assert len(first.got) == 1
            first.stop()
            # Answered sessions cannot be moved without the client's doing: it sends again, and gets the other node.
            client.sock.settimeout(0.05)
            until(lambda: answered(client))
            assert second.got
            first.start()
        until(lambda: reaches(one, first))


def answered(client: Client) -> bool:
    client.send(b"again")
    try:
        return client.receive() == b"again"
    except TimeoutError:
        return False


def reaches(one: Net, node: Node) -> bool:
    before = len(node.got)
    with Client(one.address("front")) as client:
        client.ask()
    return len(node.got) > before


def test_a_session_leaves_a_node_that_checks_find_down(net: Start) -> None:  # noqa: F811
    """It says nothing, and no ICMP comes: the client would go on sending for ever."""
    is_well = True

    def answer(data: bytes) -> list[bytes]:
        if data == b"ping":
            return [b"fine" if is_well else b"ill"]
        return [data] if is_well else []

    check = "checks: [{udp: {request: ping, expect: ^fine, interval: 20ms, timeout: 5s, fall: 1}}]"
    with nodes(answer, lambda data: b"fine" if data == b"ping" else data) as (first, second):
        one = net(proxy(first, second, more="idle_timeout: 1m", of_backend=f"balancer: first, {check}"))
        with Client(one.address("front")) as client:
            assert client.ask() == b"hello"
            is_well = False
            until(lambda: one.log.find("is down"))
            assert client.ask(b"once more") == b"once more"
            assert any(data == b"once more" for data, _ in second.got)
            assert one.owner("front").conns == 1


def test_when_all_are_down_nothing_spins(net: Start) -> None:  # noqa: F811
    port = closed_port()
    check = "checks: [{udp: {interval: 20ms, fall: 1}}]"
    for panic in (0, 1):
        one = net_of(net, port, f"{check}, panic_threshold: {panic}")
        with Client(one.address("front")) as client:
            for _ in range(5):
                client.send(b"hello")
            assert client.hears_nothing(0.1)
        one.served.close()


def net_of(net: Start, port: int, more: str) -> Net:  # noqa: F811
    one = net(proxy(f"127.0.0.1:{port}", of_backend=more))
    until(lambda: one.log.find("is down"))
    return one


def test_max_conns(net: Start) -> None:  # noqa: F811
    with nodes(None) as (node,):
        one = net(proxy(node, of_backend="max_conns: 1"))
        with Client(one.address("front")) as client, Client(one.address("front")) as other:
            assert client.ask() == b"hello"
            other.send(b"hello")
            until(lambda: one.log.find("all nodes are full"))
            assert other.hears_nothing()
            assert client.ask() == b"hello"


def test_nodes_with_names(net: Start, tmp_path: Path) -> None:  # noqa: F811
    with nodes(None) as (node,):
        (tmp_path / "hosts").write_text("127.0.0.1 node.test\n")
        one = net(proxy(f"node.test:{node.port}", before=f"resolv: {{hosts_file: {tmp_path}/hosts}}\n"))
        with Client(one.address("front")) as client:
            for data in (b"a", b"b"):
                client.send(data)
            assert {client.receive(), client.receive()} == {b"a", b"b"}
        one.served.close()
    dns = DNSServer()
    try:
        servers = f'resolv: {{hosts_file: {tmp_path}/hosts, servers: ["127.0.0.1:{dns.address[1]}"]}}\n'
        other = net(proxy("no-such.test:53", before=servers))
        with Client(other.address("front")) as client:
            client.send(b"a")
            until(lambda: other.log.find("has no node"))
            until(lambda: not other.owner("front").conns)
    finally:
        dns.close()


def test_unix_nodes(net: Start, tmp_path: Path) -> None:  # noqa: F811
    node = Node(path=str(tmp_path / "node"))
    one = net(proxy(node))
    with Client(one.address("front")) as client:
        assert client.ask() == b"hello"
    node.stop()


@pytest.mark.parametrize("when", ["first", "each"])
def test_send_proxy(net: Start, when: str) -> None:  # noqa: F811
    with nodes(None) as (node,):
        one = net(proxy(node, more=f"send_proxy: {when}"))
        with Client(one.address("front")) as client:
            header = parse(client.ask())
            assert isinstance(header, Header)
            assert (header.transport, header.src_host, header.src_port) == ("udp4", "127.0.0.1", client.port)
            assert f"{header.dst_host}:{header.dst_port}" == one.address("front")
            assert client.ask() == (b"hello" if when == "first" else node.got[0][0])


def test_nothing_is_left_open(net: Start) -> None:  # noqa: F811
    me = psutil.Process()
    with nodes(None) as (node,):
        one = net(proxy(node, f"127.0.0.1:{closed_port()}", more="responses: 1"))
        before = me.num_fds()
        for _ in range(30):
            with Client(one.address("front")) as client:
                assert client.ask() == b"hello"
        until(lambda: not one.owner("front").conns)
        assert me.num_fds() == before
        assert all(not each.in_flight for each in one.served.stage.members["backends"]["b"].roster.nodes)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            router("      - dealets: [tcpx_proxy: {to_backend: b}]\n", backends=backend("b", "127.0.0.1:1")),
            "udpx_router",
        ),
        (proxy("127.0.0.1:1", more="responses: -1"), "responses"),
        (proxy("127.0.0.1:1", more="send_proxy: v1"), "send_proxy"),
        (proxy("127.0.0.1:1", of_backend="tls: true, tls_verify: false"), "is not for datagrams"),
    ],
)
def test_mistakes(dirs: Dirs, text: str, problem: str) -> None:
    assert problem in problems(text, dirs)
