"""Leases: tries, failures, reuse, and what each says about the nodes. Nodes are real peers."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
import pytest

from hemi.upstream.errors import DialFailed, NoNodeAvailable
from tests.peer import Peer
from tests.running import until
from tests.upstream.kit import Running, closed_port, exchange, spawned

Run = Callable[..., Running]
Peers = Callable[..., Peer]


def one_node(run: Run, address: str, more: str = "") -> Any:
    return run(f'b: {{type: echo_backend, nodes: [{{address: "{address}"}}]{more}}}')["b"]


def nodes(run: Run, *addresses: str, more: str = "") -> Any:
    listed = ", ".join(f'{{address: "{address}"}}' for address in addresses)
    return run(f"b: {{type: echo_backend, nodes: [{listed}]{more}}}")["b"]


def test_a_connection_is_used_again(run: Run, peer: Peers) -> None:
    one = peer()
    backend = one_node(run, one.address)
    for _ in range(5):
        assert exchange(backend.lease()) == b"hello"
    (node,) = backend.roster.nodes
    assert (one.accepted, node.leases, node.in_flight, len(node.pool.idle)) == (1, 5, 0, 1)
    assert node.latency > 0


def test_a_connection_that_is_not_clean_is_closed(run: Run, peer: Peers) -> None:
    one = peer()
    backend = one_node(run, one.address)
    for _ in range(2):
        lease = backend.lease()
        lease.take()
        lease.done()
        lease.end()
        lease.end()
    (node,) = backend.roster.nodes
    assert until(lambda: one.accepted == 2)
    assert (node.in_flight, node.pool.idle, backend.channels) == (0, [], set())


def test_the_next_try_is_at_another_node(run: Run, peer: Peers) -> None:
    dead, live = f"127.0.0.1:{closed_port()}", peer()
    backend = nodes(run, dead, live.address, more=", balancer: first")
    lease = backend.lease()
    with pytest.raises(DialFailed) as caught:
        lease.take()
    assert str(caught.value) == f'backend "b": node {dead}: connect: connection refused'
    assert exchange(lease) == b"hello"
    assert (lease.tries, lease.failures) == (2, (caught.value,))
    assert [node.failures for node in backend.roster.nodes] == [1, 0]


def test_no_node_is_tried_twice(run: Run) -> None:
    backend = nodes(run, *(f"127.0.0.1:{closed_port()}" for _ in range(3)))
    lease = backend.lease()
    for _ in range(3):
        with pytest.raises(DialFailed):
            lease.take()
    error = NoNodeAvailable("nothing was tried", backend="b", phase="choose")
    assert backend.lease().reason(error) is error
    with pytest.raises(NoNodeAvailable, match="all 3 usable nodes were tried") as raised:
        lease.take()
    assert len({failure.node for failure in lease.failures}) == 3
    assert lease.reason(raised.value) is lease.failures[2]


def test_a_failed_exchange(run: Run, peer: Peers) -> None:
    one, two = peer(), peer()
    backend = nodes(run, one.address, two.address, more=", balancer: first")
    lease = backend.lease()
    lease.take()
    failure = lease.fail("head", TimeoutError("late"))
    assert str(failure) == f'backend "b": node {one.address}: head: late'
    assert failure.timed_out
    assert (lease.node, lease.conn) == (None, None)
    assert exchange(lease) == b"hello"
    first, _ = backend.roster.nodes
    assert (first.failures, first.in_flight, first.pool.idle) == (1, 0, [])


def test_a_failure_that_does_not_speak_against_the_node(run: Run, peer: Peers) -> None:
    backend = one_node(run, peer().address)
    lease = backend.lease()
    lease.take()
    lease.fail("send", "the client has gone", counts=False)
    assert backend.roster.nodes[0].failures == 0


def test_redialling_is_no_failure_and_no_try(run: Run, peer: Peers) -> None:
    one = peer()
    backend = one_node(run, one.address)
    exchange(backend.lease())
    lease = backend.lease()
    old = lease.take()
    assert old.reused
    new = lease.redial()
    assert new is not old
    assert not new.reused
    lease.done(keep=True)
    (node,) = backend.roster.nodes
    assert until(lambda: one.accepted == 2)
    assert (node.failures, node.in_flight, lease.tries) == (0, 0, 1)
    assert node.pool.idle == [new]


def test_connections_that_the_node_has_closed_are_not_used(run: Run, peer: Peers) -> None:
    one = peer()
    backend = one_node(run, one.address)
    exchange(backend.lease())
    one.stop()
    (node,) = backend.roster.nodes
    until(lambda: not node.pool.idle[0].channel.is_quiet())
    one.start()
    lease = backend.lease()
    assert not lease.take().reused
    lease.end()


def test_failures_open_the_breaker_and_probes_close_it(run: Run, peer: Peers) -> None:
    one, two = peer(), peer()
    running = run(
        f'b: {{type: echo_backend, nodes: [{{address: "{one.address}"}}, {{address: "{two.address}"}}]}}'
    )
    backend = running["b"]
    node, other = backend.roster.nodes
    one.stop()
    while node.status == "up":
        lease = backend.lease()
        try:
            lease.take()
        except DialFailed:
            pass
        lease.end()
    assert (node.status, node.why, backend.roster.ready) == ("down", "connect: connection refused", [other])
    assert running.log.find(
        f'backend: "b": node {node.key} is down: 3 failures in a row, '
        "left alone for 10 s: connect: connection refused (1 of 2 nodes are up)"
    )
    backend.tick(monotonic() + 11)
    assert (node.status, node.limit) == ("probing", 1)
    one.start()
    exchange(backend.lease())
    exchange(backend.lease())
    assert (node.status, node.limit, node.why) == ("up", float("inf"), "")
    assert running.log.find(f"node {node.key} is up: probes went well")


def test_a_failed_probe(run: Run, peer: Peers) -> None:
    dead, live = f"127.0.0.1:{closed_port()}", peer()
    backend = nodes(run, dead, live.address, more=", max_fails: 1, balancer: first")
    node = backend.roster.nodes[0]
    for limit in (10, 20):
        lease = backend.lease()
        with pytest.raises(DialFailed):
            lease.take()
        assert node.status == "down"
        assert limit - 1 < node.breaker.until - monotonic() <= limit
        node.breaker.until = monotonic()
        backend.tick(monotonic())
        assert node.status == "probing"


def test_a_single_node_is_always_tried(run: Run) -> None:
    backend = one_node(run, f"127.0.0.1:{closed_port()}")
    for _ in range(10):
        with pytest.raises(DialFailed):
            backend.lease().take()
    assert backend.describe()["panic"]


def test_in_panic_a_node_that_works_is_up_at_once(run: Run, peer: Peers) -> None:
    one = peer()
    backend = one_node(run, one.address, ", max_fails: 1")
    one.stop()
    with pytest.raises(DialFailed):
        backend.lease().take()
    one.start()
    exchange(backend.lease())
    assert backend.roster.nodes[0].status == "up"


def test_without_panic_it_fails_fast(run: Run) -> None:
    backend = one_node(run, f"127.0.0.1:{closed_port()}", ", max_fails: 1, panic_threshold: 0")
    with pytest.raises(DialFailed):
        backend.lease().take()
    with pytest.raises(NoNodeAvailable, match="no node can be used: 1 down"):
        backend.lease().take()


def test_statuses_that_count_as_failures(run: Run, peer: Peers) -> None:
    backend = one_node(run, peer().address, ', fail_statuses: [500, "502-504"]')
    (node,) = backend.roster.nodes
    for status in (501, 500, 503, 404, 504):
        lease = backend.lease()
        lease.take()
        lease.answered(status)
        lease.done(keep=True)
    assert (node.failures, node.reason) == (3, "status 504")


def test_answers_that_take_too_long(run: Run, peer: Peers) -> None:
    backend = one_node(run, peer().address, ", fail_latency: 2s")
    lease = backend.lease()
    lease.take()
    lease.taken -= 3
    lease.answered(200)
    lease.done(keep=True)
    (node,) = backend.roster.nodes
    assert (node.failures, node.reason) == (1, "no answer within 2 s")


def test_latencies_are_averaged(run: Run, peer: Peers) -> None:
    backend = one_node(run, peer().address)
    (node,) = backend.roster.nodes
    for seconds, average in ((1, 1.0), (2, 1.2), (1.2, 1.2)):
        lease = backend.lease()
        lease.take()
        lease.taken -= seconds
        lease.answered(200)
        lease.done(keep=True)
        assert node.latency == pytest.approx(average, abs=0.05)


def test_a_deadline_of_the_caller_is_no_failure_of_the_node(run: Run, peer: Peers) -> None:
    backend = one_node(run, peer().address)
    lease = backend.lease(None, monotonic() - 1)
    node = backend.roster.nodes[0]
    try:
        lease.take()
    except DialFailed as error:
        assert error.timed_out
    assert node.failures == 0
    lease.end()


def test_what_this_machine_lacks_is_no_failure_of_the_node(
    run: Run, peer: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    backend = one_node(run, peer().address, ", max_fails: 1")
    with monkeypatch.context() as patch:
        patch.setattr("hemi.upstream.dial.RawSocket", none)
        with pytest.raises(DialFailed, match="too many open files"):
            backend.lease().take()
    (node,) = backend.roster.nodes
    assert (node.failures, node.in_flight, node.status) == (0, 0, "up")


def test_max_conns_and_the_queue(run: Run, peer: Peers) -> None:
    one = peer()
    backend = one_node(run, one.address, ", max_conns: 2")
    leases = [backend.lease() for _ in range(2)]
    for lease in leases:
        lease.take()
    waiting = [spawned(exchange, backend.lease()) for _ in range(5)]
    assert backend.describe()["queue"]["waiting"] == 5
    for lease in leases:
        lease.done(keep=True)
    gevent.joinall(waiting, timeout=5, raise_error=True)
    (node,) = backend.roster.nodes
    assert (one.accepted, node.in_flight, len(node.pool.idle)) == (2, 0, 2)


def test_a_killed_caller_leaves_nothing_taken(run: Run, peer: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hemi.upstream.dial._peer_of", lambda sock: None)  # as on another machine
    backend = one_node(run, peer().address, ", max_conns: 1")
    lease = backend.lease()
    task = spawned(lease.take)  # dials now
    task.kill()
    (node,) = backend.roster.nodes
    assert (node.in_flight, node.failures, backend.channels) == (0, 0, set())


def test_nodes_without_connections(run: Run, peer: Peers) -> None:
    backend = one_node(run, peer().address)
    lease = backend.lease()
    assert lease.choose() is backend.roster.nodes[0]
    assert lease.node.in_flight == 1
    lease.answered()
    lease.done()
    assert backend.roster.nodes[0].in_flight == 0


def test_sticky_clients(run: Run, peer: Peers) -> None:
    one, two = peer(), peer()
    more = ", sticky_secret: 0123456789abcdef"
    backend = nodes(run, one.address, two.address, more=more)
    lease = backend.lease()
    lease.take()
    tag, node = lease.stick_to, lease.node
    assert len(tag) == 22
    assert node.key not in tag
    lease.done(keep=True)
    for _ in range(3):
        lease = backend.lease(tag=tag)
        lease.take()
        assert (lease.node, lease.stick_to) == (node, "")
        lease.done(keep=True)
    backend.order_node(node.key, "down")
    lease = backend.lease(tag=tag)
    lease.take()
    assert lease.node is not node
    assert lease.stick_to not in ("", tag)
    lease.end()


def test_no_tags_without_a_secret(run: Run, peer: Peers) -> None:
    backend = one_node(run, peer().address)
    lease = backend.lease(tag="forged")
    lease.take()
    assert lease.stick_to == ""
    lease.end()


def test_errors_are_no_oserrors() -> None:
    assert not issubclass(DialFailed, OSError)


def test_what_a_lease_costs(run: Run, peer: Peers) -> None:
    """Python calls on a connection that is kept: the budget of the hot path."""
    backend = nodes(run, peer().address, peer().address)
    exchange(backend.lease())
    exchange(backend.lease())
    calls: list[str] = []

    def count(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            calls.append(frame.f_code.co_qualname)

    sys.setprofile(count)
    lease = backend.lease()
    lease.take()
    lease.answered(200)
    lease.done(True)
    sys.setprofile(None)
    assert len(calls) <= 9, calls


def test_who_must_not_wait_is_told_when_all_are_full(run: Run) -> None:
    backend = nodes(run, "127.0.0.1:1", "127.0.0.1:2", more=", max_conns: 1, balancer: first")
    leases = [backend.lease() for _ in range(3)]
    assert [lease.choose_now().key for lease in leases[:2]] == ["127.0.0.1:1", "127.0.0.1:2"]
    with pytest.raises(NoNodeAvailable, match="all nodes are full"):
        leases[2].choose_now()
    leases[0].end()
    assert leases[2].choose_now().key == "127.0.0.1:1"
    leases[2].fail("send", "connection refused")
    with pytest.raises(NoNodeAvailable, match="full"):
        leases[2].choose_now()
    leases[1].end()
    assert leases[2].choose_now().key == "127.0.0.1:2" and leases[2].tries == 2
    leases[2].end()
    assert all(not node.in_flight for node in backend.roster.nodes)
