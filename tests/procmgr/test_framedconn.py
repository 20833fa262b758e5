"""Framed connections of the leader: patience, limits, peers that do not read, broken messages."""

from __future__ import annotations

import pytest

from tests.procmgr.loopkit import in_loop

PAIR = """
from hemi.procmgr import framedconn
from hemi.procmgr.framedconn import FramedConn
from hemi.procmgr.messages import encode, Decoder
ours, theirs = socket.socketpair()
got, ends = [], []
def make(patience=5.0):
    return FramedConn(loop, ours, got.append, lambda reason: (ends.append(reason), finish()), patience)
"""


def test_messages_both_ways() -> None:
    assert (
        in_loop(
            PAIR
            + """
conn = make()
theirs.sendall(encode({"a": 1}) + encode({"b": 2}))
conn.send({"c": 3})
def steps():
    yield until(lambda: len(got) == 2, 5)
    theirs.close()
loop.spawn(steps())
data = theirs.recv(1000)
loop.run()
print(got, ends, Decoder().feed(data))
"""
        )
        == "[{'a': 1}, {'b': 2}] ['the other side has gone'] [{'c': 3}]"
    )


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ('b"GET / HTTP/1.1"', "this is no message of gorox: use goroxctl"),
        ('encode({"x": "y" * 5000})', "a message must not be larger than 4096 bytes, this one has 5008"),
    ],
)
def test_strangers_are_cut(sent: str, reason: str) -> None:
    assert (
        in_loop(PAIR + f"conn = make(); theirs.sendall({sent}); loop.run(); print(ends[0], got)")
        == f"{reason} []"
    )


def test_who_sends_no_message_can_be_told() -> None:
    """And reads it, whatever else he has sent: a socket that is closed with unread bytes is reset."""
    assert (
        in_loop(
            PAIR
            + """
conn = make()
def told(why):
    conn.send({"error": why})
    conn.finish()
conn.broken = told
theirs.sendall(b"GET / HTTP/1.1" + bytes(100000))
answer = b""
def steps():
    yield until(lambda: conn._dropping, 5)
    theirs.sendall(bytes(100000))
    yield until(lambda: not conn.sock.fileno() < 0, 5)
    print(Decoder().feed(theirs.recv(1000)), theirs.recv(1000), got)
    theirs.close()
loop.spawn(steps())
loop.run()
print(ends)
"""
        )
        == "[{'error': 'this is no message of gorox: use goroxctl'}] b'' []\n['done']"
    )


def test_who_says_nothing_is_cut() -> None:
    assert in_loop(PAIR + "conn = make(0.05); loop.run(); print(ends)") == "['it said nothing']"


def test_trusted_ones_may_be_silent_and_send_much() -> None:
    assert (
        in_loop(
            PAIR
            + """
conn = make(0.05)
conn.trust()
def steps():
    yield pause(0.1)
    theirs.sendall(encode({"x": "y" * 50000}))
    yield until(lambda: got, 5)
    conn.close("done")
loop.spawn(steps())
loop.run()
print(ends, len(got[0]["x"]))
"""
        )
        == "['done'] 50000"
    )


def test_who_does_not_read_is_waited_for_then_cut() -> None:
    assert (
        in_loop(
            PAIR
            + """
framedconn.MOST_PENDING = 3_000_000
conn = make()
conn.trust()
for _ in range(10):
    conn.send({"x": "y" * 1_000_000})
print(conn.open, ends)
"""
        )
        == "False ['it does not read what it is sent']"
    )


def test_a_slow_reader_gets_everything() -> None:
    assert (
        in_loop(
            PAIR
            + """
conn = make()
conn.trust()
conn.send({"x": "y" * 3_000_000})
conn.finish()
decoder, read = Decoder(), []
theirs.setblocking(False)
def steps():
    while not read:
        try:
            read.extend(decoder.feed(theirs.recv(100_000)))
        except BlockingIOError:
            pass
        yield pause(0)
loop.spawn(steps())
loop.run()
print(ends, len(read[0]["x"]))
"""
        )
        == "['done'] 3000000"
    )
