"""admConn at the leader: keys, orders, answers, strangers, broken messages."""

from __future__ import annotations

from tests.procmgr.loopkit import in_loop

DOOR = """
from hemi.procmgr import admconn
from hemi.procmgr.admconn import AdmConn, Door
from hemi.procmgr.messages import encode, Decoder
keys, conns, events, ends = {"right"}, [], [], []
def welcome(conn, matches):
    key = next((key for key in keys if matches(key)), None)
    if key is None:
        return False
    keys.discard(key)
    conn.trust()
    conns.append(AdmConn(conn, events.append, ends.append))
    return True
door = Door(loop, welcome, log.append)
def dial(hello):
    sock = socket.create_connection(door.address)
    if hello is not None:
        sock.sendall(encode({"hello": hello}))
    sock.setblocking(False)
    return sock
def ended(sock):
    try:
        return sock.recv(1000) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
"""


def test_a_key_is_good_once() -> None:
    assert (
        in_loop(
            DOOR
            + """
one = dial("right")
def steps():
    yield until(lambda: conns, 5)
    two = dial("right")
    yield until(lambda: ended(two), 5)
    three = dial(["right"])
    yield until(lambda: ended(three), 5)
    finish()
loop.spawn(steps())
loop.run()
print(len(conns), ended(one), len(door.strangers), log)
"""
        )
        == "1 False 0 ['somebody without a key dialled admConn', 'somebody without a key dialled admConn']"
    )


def test_orders_answers_progress_events() -> None:
    assert in_loop(
        DOOR
        + """
sock = dial("right")
def steps():
    yield until(lambda: conns, 5)
    progress = []
    done, failed, left = conns[0].order("a", {"x": 1}, progress.append), conns[0].order("b"), conns[0].order("c")
    yield pause(0.05)
    print(Decoder().feed(sock.recv(10000)))
    for message in (
        {"progress": 1, "text": "half"}, {"answer": 1, "result": {"y": 2}},
        {"answer": 2, "error": "no", "details": ["d"]},
        {"answer": 77}, {"progress": 77}, {"event": "ready"}, {},
    ):
        sock.sendall(encode(message))
    yield until(lambda: events, 5)
    print(done.result, progress, failed.error, failed.details, left.done, events)
    sock.close()
    yield until(lambda: left.done, 5)
    print(left.error, ends, conns[0].order("d").error)
    finish()
loop.spawn(steps())
loop.run()
"""
    ).splitlines() == [
        (
            "[{'order': 'a', 'id': 1, 'args': {'x': 1}}, {'order': 'b', 'id': 2, 'args': {}}, "
            "{'order': 'c', 'id': 3, 'args': {}}]"
        ),
        "{'y': 2} [{'progress': 1, 'text': 'half'}] no ['d'] False [{'event': 'ready'}]",
        "the worker has gone ['the other side has gone'] the worker has gone",
    ]


def test_strangers_do_no_harm() -> None:
    assert (
        in_loop(
            DOOR
            + """
import random
rng = random.Random(3)
socks = [dial(None) for _ in range(admconn.MOST_STRANGERS + 5)]
def steps():
    yield until(lambda: sum(map(ended, socks)) >= 5, 5)
    for sock in socks:
        try:
            sock.send(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 64))))
        except OSError:
            pass
    yield until(lambda: all(map(ended, socks)), 8)
    good = dial("right")
    yield until(lambda: conns, 5)
    finish()
loop.spawn(steps())
loop.run()
print(len(conns), len(door.strangers))
door.close()
"""
        )
        == "1 0"
    )
