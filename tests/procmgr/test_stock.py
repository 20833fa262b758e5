"""The process that stands by."""

from __future__ import annotations

from tests.procmgr.loopkit import in_loop

STOCK = """
from hemi.procmgr import stock as module
from hemi.procmgr.crew import Seat
from hemi.procmgr.stock import Stock, await_order
module.DELAY = 0.01
def become(descriptor):
    os.closerange(3, descriptor)  # above all our own end of the pair
    os.closerange(descriptor + 1, 1000)
    order, passed = await_order(descriptor)
    os.write(passed if passed >= 0 else 1, json.dumps(order).encode())
    os._exit(7)
stock = Stock(loop, become)
"""


def test_it_becomes_what_is_wanted() -> None:
    assert in_loop(
        STOCK
        + """
reader, writer = os.pipe()
def steps():
    print(stock.take_check(writer))
    stock.open = True
    stock.refill()
    yield until(lambda: stock.pid, 5)
    pid, sock = stock.take_check(writer)
    print(os.read(reader, 100), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    yield until(lambda: stock.pid, 5)
    pid, sock = stock.take_worker(Seat(1, 0, "key", ("127.0.0.1", 1)))
    os.waitpid(pid, 0)
    stock.close()
    finish()
loop.spawn(steps())
sys.stdout.reconfigure(line_buffering=True)
loop.run()
"""
    ).splitlines() == [
        "None",
        """b'{"become": "check"}' 7""",
        (
            '{"become": "worker", "seat": {"number": 1, "slot": 0, "key": "key", "door": ["127.0.0.1", 1], '
            '"lifeline": -1, "inherited": {}}}'
        ),
    ]


def test_it_ends_with_its_leader_and_when_it_is_old() -> None:
    assert in_loop(
        STOCK
        + """
def steps():
    stock.open = True
    stock.refill()
    yield until(lambda: stock.pid, 5)
    pid = stock.pid
    stock.discard()
    print(os.waitpid(pid, 0)[0] == pid, stock.pid)
    stock.refill()
    yield until(lambda: stock.pid, 5)
    pid = stock.pid
    stock._sock.close()   # as when the leader dies
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stock.note_end(pid)
    print(stock)
    finish()
loop.spawn(steps())
loop.run()
"""
    ).splitlines() == ["True 0", "0", "<Stock empty>"]
