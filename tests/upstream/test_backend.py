"""Backends: life, reloads, operators' orders, TLS to nodes."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from hemi.source import Dirs
from hemi.upstream.errors import DialFailed, NoNodeAvailable
from tests.peer import Peer
from tests.running import until
from tests.tlskit import Authority
from tests.upstream.kit import NODE, Running, closed_port, exchange, listed, load, spawned

Run = Callable[..., Running]
Peers = Callable[..., Peer]


def test_unix_domain_sockets(run: Run, tmp_path: Path) -> None:
    from gevent import socket
    from gevent.server import StreamServer

    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        server = StreamServer(listening, lambda sock, _: [sock.sendall(sock.recv(100)), sock.close()])
        server.start()
        assert exchange(run(listed(f'address: "{path}"'))["b"].lease()) == b"hello"
        server.stop()


def test_tls_to_nodes(run: Run, peer: Peers, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("node.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.private_key)
    one = peer(context=context)
    more = f", tls: true, tls_ca: {authority.file}"
    good = run(listed(f'address: "{one.address}"', more=more + ", tls_server_name: node.test"))["b"]
    for _ in range(3):
        assert exchange(good.lease()) == b"hello"
    assert one.accepted == 1
    bad = run(listed(f'address: "{one.address}"', more=more))["b"]
    with pytest.raises(DialFailed, match="tls: certificate verify failed: IP address mismatch"):
        bad.lease().take()


def test_what_operators_see(run: Run) -> None:
    backend = run(listed(NODE, more=", balancer: least_conn, queue_size: 5"))["b"]
    described = backend.describe()
    (node,) = described.pop("nodes")
    assert node["address"] == "127.0.0.1:1"
    assert described == {
        "name": "b",
        "type": "echo_backend",
        "balancer": "least_conn",
        "panic": False,
        "queue": {"waiting": 0, "size": 5, "refused": 0},
    }


def test_orders(run: Run, peer: Peers) -> None:
    one, two = peer(), peer()
    running = run(listed(f'address: "{one.address}"', f'address: "{two.address}"'))
    backend = running["b"]
    first, second = backend.roster.nodes
    exchange(backend.lease())
    exchange(backend.lease())
    backend.order_node(first.key, "draining")
    assert (first.status, backend.roster.ready, len(first.pool.idle)) == ("draining", [second], 1)
    backend.order_node(first.key, "disabled")
    assert (first.status, first.pool.idle) == ("disabled", [])
    backend.order_node(second.key, "down")
    with pytest.raises(NoNodeAvailable, match="1 disabled, 1 down"):
        backend.lease().take()
    backend.order_node(first.key, "up")
    assert backend.roster.ready == [first]
    exchange(backend.lease())
    assert running.log.find(f"node {first.key} is disabled by order")


def test_up_by_order_forgets_what_speaks_against_it(run: Run) -> None:
    backend = run(listed(NODE, more=", max_fails: 1, panic_threshold: 0"))["b"]
    (node,) = backend.roster.nodes
    backend.note_failure(node, "head: garbage", time.monotonic())
    node.sick["x"] = "y"
    backend.roster.refresh()
    assert (node.status, backend.roster.ready) == ("down", [])
    backend.order_node(node.key, "up")
    assert (node.status, backend.roster.ready) == ("up", [node])


def test_orders_that_cannot_be(run: Run) -> None:
    backend = run(listed(NODE))["b"]
    with pytest.raises(LookupError, match=r'backend "b" has no node "127\.0\.0\.1:2"'):
        backend.order_node("127.0.0.1:2", "up")
    with pytest.raises(ValueError, match='must be up, draining, down, disabled, not "off"'):
        backend.order_node("127.0.0.1:1", "off")
    with pytest.raises(ValueError, match="must be 1 to 1000, not 0"):
        backend.weigh_node("127.0.0.1:1", 0)


def test_weights_by_order(run: Run) -> None:
    backend = run(listed(NODE, 'address: "127.0.0.1:2"'))["b"]
    backend.weigh_node("127.0.0.1:2", 3)
    picks = [backend.lease().choose().key for _ in range(80)]
    assert 58 <= picks.count("127.0.0.1:2") <= 62


# Reloads

TWO = ('address: "127.0.0.1:1"', 'address: "127.0.0.1:2"')


def test_a_reload_does_not_forget_that_a_node_is_down(run: Run) -> None:
    before = run(listed(*TWO, more=", max_fails: 1"))
    first, second = before["b"].roster.nodes
    before["b"].note_failure(first, "connect: connection refused", time.monotonic())
    second.latency = 0.25
    after = run(listed(*TWO, 'address: "127.0.0.1:3"', more=", max_fails: 1"), before)
    down, kept, new = after["b"].roster.nodes
    assert (down.status, down.why, down.failures) == ("down", "connect: connection refused", 1)
    assert down.breaker.until == first.breaker.until
    assert (kept.status, kept.latency, new.status) == ("up", 0.25, "up")
    assert after["b"].roster.ready == [kept, new]


def test_orders_outlive_reloads_unless_the_configuration_changes_its_mind(run: Run) -> None:
    before = run(listed(*TWO))
    before["b"].order_node("127.0.0.1:1", "draining")
    after = run(listed(*TWO), before)
    assert [node.status for node in after["b"].roster.nodes] == ["draining", "up"]
    changed = run(listed(TWO[0] + ", state: disabled", TWO[1]), after)
    assert [node.status for node in changed["b"].roster.nodes] == ["disabled", "up"]


def test_what_checks_have_found_outlives_reloads(run: Run, peer: Peers) -> None:
    one, dead = peer(), closed_port()
    text = listed(
        f'address: "{one.address}"',
        f'address: "127.0.0.1:{dead}"',
        more=", checks: [{tcp: {interval: 10ms, jitter: 0}}]",
    )
    before = run(text)
    assert until(lambda: before["b"].roster.nodes[1].status == "down")
    slow = text.replace("interval: 10ms", "interval: 1h")
    after = run(slow, before)
    assert [node.status for node in after["b"].roster.nodes] == ["up", "down"]
    without = run(listed(f'address: "{one.address}"', f'address: "127.0.0.1:{dead}"'), after)
    assert [node.status for node in without["b"].roster.nodes] == ["up", "up"]


def test_a_node_known_to_be_up_needs_no_first_check(run: Run, peer: Peers) -> None:
    one = peer()
    text = listed(
        f'address: "{one.address}"', more=", checks: [{tcp: {interval: 10ms, jitter: 0, initial: down}}]"
    )
    before = run(text)
    assert until(lambda: before["b"].roster.nodes[0].status == "up")
    after = run(text.replace("interval: 10ms", "interval: 1h"), before)
    assert after["b"].roster.nodes[0].status == "up"


# Stopping


def test_stop_is_idempotent_and_legal_before_anything(dirs: Dirs) -> None:
    stage = load(listed(NODE), dirs)
    backend: Any = stage.members["backends"]["b"]
    backend.stop(0.0)
    stage = load(listed(NODE), dirs)
    stage.prepare()
    backend = stage.members["backends"]["b"]
    backend.stop(0.0)
    backend.stop(0.0)
    stage.stop(0.0)


def test_stop_wakes_who_waits_for_a_node_or_its_answer(run: Run, peer: Peers) -> None:
    running = run(listed(f'address: "{peer().address}"', more=", max_conns: 1"))
    backend = running["b"]

    def ask() -> Any:
        lease = backend.lease()
        conn = lease.take()
        try:
            return conn.channel.recv(1)
        except OSError as error:
            return lease.fail("head", error, counts=False)
        finally:
            lease.end()

    asking = spawned(ask)
    assert until(lambda: backend.channels)
    waiting = spawned(backend.lease().take)
    running.stop()
    assert "deadline" in str(asking.get(timeout=5))
    with pytest.raises(NoNodeAvailable, match="the stage stops"):
        waiting.get(timeout=5)
    assert backend.channels == set()


def test_stop_leaves_nothing_open(run: Run, peer: Peers) -> None:
    one = peer()
    before = len(os.listdir("/proc/self/fd"))
    running = run(listed(f'address: "{one.address}"', more=", checks: [{tcp: {interval: 10ms}}]"))
    exchange(running["b"].lease())
    running.stop()
    assert running["b"].channels == set()
    assert until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_a_connection_made_during_the_stop_is_not_used(
    run: Run, peer: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hemi.upstream.dial._peer_of", lambda sock: None)  # as on another machine
    running = run(listed(f'address: "{peer().address}"'))
    dialing = spawned(running["b"].lease().take)
    running.stop()
    with pytest.raises((DialFailed, NoNodeAvailable), match="the stage stops"):
        dialing.get(timeout=5)


# All together


def test_no_lease_is_lost_while_nodes_die_and_return(run: Run, peer: Peers) -> None:
    """The promise of health and retries together: what can be tried again finds a node that works."""
    peers = [peer() for _ in range(5)]
    nodes = [f'address: "{one.address}"' for one in peers]
    backend = run(listed(*nodes, more=", fail_timeout: 50ms, checks: [{tcp: {interval: 20ms}}]"))["b"]
    done = [0]

    def client() -> None:
        for _ in range(60):
            lease = backend.lease()
            while True:
                try:
                    exchange(lease)
                    break
                except DialFailed:
                    continue
                except (OSError, AssertionError) as error:
                    lease.fail("head", error)
            done[0] += 1

    clients = [gevent.spawn(client) for _ in range(8)]
    for one in (peers[0], peers[3]):
        target = done[0] + 100
        one.stop()
        assert until(lambda target=target: done[0] >= target)
        one.start()
    gevent.joinall(clients, timeout=20, raise_error=True)
    assert done[0] == 480
    assert [node.in_flight for node in backend.roster.nodes] == [0] * 5
    assert until(lambda: all(node.status == "up" for node in backend.roster.nodes))
