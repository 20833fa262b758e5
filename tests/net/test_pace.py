"""Rates: alone and shared, and what a relay makes of them."""

from __future__ import annotations

import socket
from typing import Any

import gevent
import pytest

from hemi.library.tokenbucket import TokenBuckets
from hemi.net import pace as module
from hemi.net import relay
from hemi.net.pace import Pace
from hemi.net.relay import DOWN, UP
from tests.net.kit import receive, rest
from tests.net.test_relay import relayed


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the paces, in seconds."""
    clock = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    return clock


def test_a_pace_alone(now: list[float]) -> None:
    pace = Pace.alone(1000)
    assert [pace.take(500), pace.take(500)] == [0.0, 0.0]  # the burst
    assert pace.take(500) == pytest.approx(0.5)
    now[0] += 1
    assert pace.take(1000) == pytest.approx(0.5)
    assert Pace.alone(1000, 5000).take(5000) == 0.0


def test_shared_paces(now: list[float]) -> None:
    buckets = TokenBuckets(1000, 1000, 10)
    one, other, third = Pace(buckets, "a"), Pace(buckets, "a"), Pace(buckets, "b")
    assert one.take(1000) == 0.0
    assert other.take(1000) == pytest.approx(1.0)
    assert third.take(1000) == 0.0


@pytest.mark.parametrize(("rate", "piece"), [(256, 1024), (100_000, 25_000), (1 << 30, 262144)])
def test_pieces(rate: int, piece: int) -> None:
    assert Pace.alone(rate).piece == piece


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> list[float]:
    """How long relays wait for their paces: time passes at once."""
    found: list[float] = []
    sleep = gevent.sleep

    def passing(seconds: float = 0) -> None:
        if seconds:
            found.append(seconds)
            now[0] += seconds
        sleep(0)

    monkeypatch.setattr(relay.gevent, "sleep", passing)
    return found


@pytest.mark.parametrize("rate", [40_000, 4_000_000])
def test_a_relay_keeps_its_pace(waits: list[float], rate: int) -> None:
    """The small one is copied, the large one spliced; nothing is lost either way."""
    data = b"0123456789abcdef" * (rate // 4)  # four seconds of it, one of which is free
    with relayed(paces=((), (Pace.alone(rate),))) as (client, node, one, _):
        sending = gevent.spawn(lambda: (node.sendall(data), node.shutdown(socket.SHUT_WR)))
        assert rest(client) == data
        sending.join()
        assert sum(waits) == pytest.approx(3.0, abs=0.01)
        assert max(waits) <= 0.26
        client.sendall(b"the other way")  # has none
        assert receive(node, 13) == b"the other way"
        assert one.moved == [13, len(data)]


def test_paces_add_up(waits: list[float]) -> None:
    """The slowest decides."""
    paces: Any = ((Pace.alone(8000), Pace.alone(2000)), ())
    with relayed(b"x" * 2000, paces=paces) as (client, node, _, _):
        client.sendall(b"y" * 4000)
        client.shutdown(socket.SHUT_WR)
        assert len(rest(node)) == 6000
        assert sum(waits) == pytest.approx(2.0, abs=0.01)


def test_who_waits_for_a_pace_is_not_idle() -> None:
    buckets = TokenBuckets(1024, 1, 1)
    with relayed(idle_timeout=10.0, paces=((Pace(buckets, ""),), ())) as (client, node, one, greenlet):
        buckets.take("", module.monotonic(), 1 << 20, max_wait=1e9)  # others were faster
        client.sendall(b"a")
        while not one._waiting:
            gevent.sleep(0.001)
        one.cut(one._seen_at + 11)
        assert not one.reason
        one.ends_at = 0.0
        one.cut(module.monotonic())  # its time is over: it must not wait for its turn first
        greenlet.join(10)
        assert greenlet.ready() and one.reason == "lifetime"
        with pytest.raises(ConnectionResetError):
            rest(node)
    assert (UP, DOWN) == (0, 1)
