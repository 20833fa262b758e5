"""Connections that several exchanges share."""

from __future__ import annotations

import math
from time import monotonic
from typing import Any

import gevent
import pytest

from hemi.upstream.errors import DialFailed
from hemi.upstream.pool import Limits
from hemi.upstream.sharedpool import SharedPool


class Stream:
    is_shared = True

    def __init__(self, conn: FakeConn) -> None:
        self.conn = conn

    def close(self) -> None:
        self.conn.count -= 1


class FakeConn:
    is_shared = True

    def __init__(self, pool: SharedPool, width: int = 2) -> None:
        self.pool = pool
        self.width = width
        self.born = self.idle_since = 0.0
        self.count = self.uses = self.looked = 0
        self.draining = False

    def open_stream(self) -> Stream:
        self.count += 1
        self.uses += 1
        return Stream(self)

    def drain(self) -> None:
        self.draining = True
        if not self.count:
            self.pool.discard(self)

    def look_after(self, now: float) -> None:
        self.looked += 1


class Single:
    """A connection of the other kind."""

    is_shared = False
    uses = 1
    born = idle_since = 0.0
    closed = False

    def __init__(self) -> None:
        self.channel = self

    def is_quiet(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def pool_of(width: int = 2, **limits: Any) -> SharedPool:
    return SharedPool(Limits(**limits), width)


def in_a_second() -> float:
    return monotonic() + 1


def test_a_place_is_taken_and_given_back() -> None:
    pool = pool_of()
    assert pool.take(0) is None
    first = pool.open(lambda: FakeConn(pool), in_a_second())
    second = pool.take(0)
    assert second.conn is first.conn and pool.take(0) is None
    pool.give_back(first, 0)
    assert pool.take(0).conn is second.conn
    assert repr(pool) == "<SharedPool conns=1 streams=2>"


def test_what_is_full_old_or_used_up() -> None:
    pool = pool_of(conn_age=10, conn_uses=3, idle_timeout=math.inf)
    conn = pool.open(lambda: FakeConn(pool, 5), in_a_second()).conn
    pool.take(5)
    pool.take(5)
    assert pool.take(5) is None and conn.draining
    assert pool.conns == [conn]  # it has streams
    other = pool.open(lambda: FakeConn(pool, 5), in_a_second())
    assert pool.take(11) is None and other.conn.draining


def test_many_that_begin_at_once_wait_for_one_connection() -> None:
    pool, dialled = pool_of(3), []

    def dial() -> FakeConn:
        dialled.append(1)
        gevent.sleep(0.01)
        return FakeConn(pool, 3)

    tasks = [gevent.spawn(pool.open, dial, in_a_second()) for _ in range(7)]
    streams = [task.get() for task in tasks]
    assert len(dialled) == 3
    assert sorted(conn.count for conn in pool.conns) == [1, 3, 3]
    assert len({id(stream) for stream in streams}) == 7


def test_who_waits_hears_of_the_failure() -> None:
    pool, dialled = pool_of(9), []

    def dial() -> FakeConn:
        dialled.append(1)
        gevent.sleep(0.01)
        raise DialFailed("no", phase="connect")

    tasks = [gevent.spawn(pool.open, dial, in_a_second()) for _ in range(3)]
    gevent.joinall(tasks)
    assert [str(task.exception) for task in tasks] == ["connect: no"] * 3
    assert len(dialled) == 1
    stream = pool.open(lambda: FakeConn(pool), in_a_second())
    assert stream.conn.count == 1


def test_who_dials_may_be_stopped() -> None:
    pool = pool_of(9)
    first = gevent.spawn(pool.open, lambda: gevent.sleep(10), in_a_second())
    gevent.sleep(0)
    second = gevent.spawn(pool.open, lambda: FakeConn(pool), in_a_second())
    gevent.sleep(0)
    first.kill()
    assert second.get().conn.count == 1


def test_waiting_has_an_end() -> None:
    pool = pool_of(9)
    first = gevent.spawn(pool.open, lambda: gevent.sleep(10), in_a_second())
    gevent.sleep(0)
    with pytest.raises(DialFailed, match="no answer in time"):
        pool.open(lambda: FakeConn(pool), monotonic() + 0.01)
    first.kill()


def test_nodes_may_speak_the_other_kind() -> None:
    pool, single = pool_of(9), Single()
    assert pool.open(lambda: single, in_a_second()) is single
    pool.give_back(single, 0)
    assert pool.idle_count == 1
    assert pool.take(1) is single
    pool.give_back(single, 0)
    dialled: list[Single] = []

    def dial() -> Single:
        gevent.sleep(0.01)
        dialled.append(Single())
        return dialled[-1]

    tasks = [gevent.spawn(pool.open, dial, in_a_second()) for _ in range(4)]
    assert len({id(task.get()) for task in tasks}) == 4  # none waits for another
    pool.clear()
    assert pool.idle_count == 0


def test_sweeping_and_clearing() -> None:
    pool = pool_of(idle_timeout=5)
    busy = pool.open(lambda: FakeConn(pool, 1), in_a_second()).conn
    idle = pool.open(lambda: FakeConn(pool, 1), in_a_second())
    idle.close()
    assert pool.idle_count == 1
    pool.sweep(4)
    assert pool.conns == [busy, idle.conn] and busy.looked == idle.conn.looked == 1
    pool.sweep(6)
    assert pool.conns == [busy]
    pool.clear()
    assert pool.conns == [busy] and busy.draining
    pool.discard(busy)
    pool.discard(busy)
    assert pool.conns == []
