"""Patches as a serving process does. Loaded by -p in setup.cfg, because pytest's other plugins import ssl.

With -n (pytest-xdist) the tests run in processes of their own, which patch; the one that hands them out does not, for
it waits in threads for what they say. There, a thread of the system's passes on which test comes next: what it shares
with the thread of the tests must be locks of the system's, too.
"""

import _thread
import argparse
import gc
import os
import sys
from typing import Any


def _hands_out() -> bool:
    """Whether this process only hands out the tests to others."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return False
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-n", "--numprocesses", default="0")
    return str(parser.parse_known_args(sys.argv[1:])[0].numprocesses) != "0"


class _Event:
    """An event between threads of the system: each that waits does so at a gate of its own."""

    def __init__(self) -> None:
        self._happened = False
        self._lock = _new_lock()
        self._gates: list[Any] = []

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._happened

    def set(self) -> None:
        """Sets it, and opens the gates of all who wait."""
        with self._lock:
            self._happened = True
            gates, self._gates = self._gates, []
        for gate in gates:
            gate.release()

    def clear(self) -> None:
        """Has whoever comes next wait again."""
        with self._lock:
            self._happened = False

    def wait(self, timeout: float | None = None) -> bool:
        """Returns when it is set, or so many seconds have passed; says whether it was."""
        gate = _new_lock()
        with self._lock:
            if self._happened:
                return True
            gate.acquire()
            self._gates.append(gate)
        passed: bool = gate.acquire(timeout=-1 if timeout is None else timeout)
        if not passed:
            with self._lock:
                if gate in self._gates:
                    self._gates.remove(gate)
        return passed


def _made_before(pool: Any) -> None:
    """Turns the event at which the main thread waits between two orders, and that it holds already, into one of ours.

    The classes of threading take their locks when they wait, not when they are made: an event from before the patching
    has its next waiter wait in gevent's hub all the same.
    """
    event = pool._primary_thread_task_ready
    if event is not None:
        happened = event.is_set()
        event.__class__ = _Event
        event.__init__()
        if happened:
            event.set()


_new_lock, _new_rlock = _thread.allocate_lock, _thread.RLock

if not _hands_out():
    import gevent
    from gevent import monkey

    monkey.patch_all()
    gevent.config.track_greenlet_tree = False

if "PYTEST_XDIST_WORKER" in os.environ:
    from execnet.gateway_base import ThreadExecModel, WorkerPool

    made: Any = ThreadExecModel
    made.Lock = made.RLock = lambda self: _new_rlock()
    made.Event = lambda self: _Event()
    for one in gc.get_objects():
        if isinstance(one, WorkerPool):
            _made_before(one)
