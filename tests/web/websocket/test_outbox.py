"""Frames on their way: never mixed, bounded, and without waiting where nobody may wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event

from hemi.web.websocket.outbox import Outbox
from tests.webkit import until


class SlowChannel:
    """A channel whose peer takes a frame whenever it is told to."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.going = Event()
        self.error: OSError | None = None

    def send(self, data: bytes) -> None:
        self.going.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(data)


@pytest.fixture
def channel() -> SlowChannel:
    return SlowChannel()


def make(channel: Any, most: int = 10) -> tuple[Outbox, Any, list[str]]:
    response: Any = SimpleNamespace(bytes_sent=0)
    lost: list[str] = []
    return Outbox(channel, response, most, lost.append), response, lost


def test_who_writes_sends_for_all(channel: SlowChannel) -> None:
    box, response, lost = make(channel)
    first = gevent.spawn(box.write, b"first")
    until(lambda: box.writing)
    box.write(b"second")
    assert box.offer(b"third")
    assert repr(box) == "<Outbox writing queued=11>"
    channel.going.set()
    first.get()
    assert channel.sent == [b"first", b"secondthird"]
    assert (response.bytes_sent, box.queued, box.writing, lost) == (16, 0, False, [])


def test_beyond_the_limit_senders_wait(channel: SlowChannel) -> None:
    box, _, _ = make(channel)
    first = gevent.spawn(box.write, b"x")
    until(lambda: box.writing)
    second = gevent.spawn(box.write, b"y" * 11)
    gevent.idle()
    assert not second.ready()
    box.write(b"last", patient=False)
    assert not box.offer(b"z", 10)
    channel.going.set()
    gevent.joinall([first, second], raise_error=True)
    assert channel.sent == [b"x", b"y" * 11 + b"last"]


def test_offers_are_pumped(channel: SlowChannel) -> None:
    box, _, _ = make(channel)
    assert box.offer(b"a", 1)
    assert not box.offer(b"b", 1)
    channel.going.set()
    box.wait(5)
    assert channel.sent == [b"a"]
    box.wait(5)


def test_failures(channel: SlowChannel) -> None:
    box, _, lost = make(channel)
    channel.error = BrokenPipeError("gone")
    channel.going.set()
    with pytest.raises(BrokenPipeError):
        box.write(b"x")
    assert not box.writing
    box.offer(b"y")
    until(lambda: lost)
    assert lost == ["gone"]
    box.give_up()
    assert repr(box) == "<Outbox dead queued=0>"
    assert not box.offer(b"z")
    with pytest.raises(BrokenPipeError, match="has ended"):
        box.write(b"z")


def test_waiting_has_an_end(channel: SlowChannel) -> None:
    box, _, _ = make(channel)
    box.offer(b"a")
    box.wait(0.01)
    assert box.writing
    box.give_up()
    box.wait(5)
    channel.going.set()
