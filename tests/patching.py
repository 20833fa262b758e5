"""Patches as a serving process does. Loaded by -p in setup.cfg, because pytest's other plugins import ssl.

With -n (pytest-xdist) the tests run in processes of their own, which patch; the one that hands them out does not, for
it waits in threads for what they say. There, a thread of the system's passes on which test comes next: what it shares
with the thread of the tests must be locks of the system's, too.
"""

import _thread
import argparse
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
    """An event between threads of the system: a lock that is open while it is set."""

    def __init__(self) -> None:
        self._gate = _new_lock()
        self._gate.acquire()

    def is_set(self) -> bool:
        """Whether it is set."""
        return not self._gate.locked()

    def set(self) -> None:
        """Opens the gate."""
        if self._gate.locked():
            self._gate.release()

    def clear(self) -> None:
        """Closes the gate. One who passes just now opens it once more; whoever waits looks again anyway."""
        self._gate.acquire(False)

    def wait(self, timeout: float | None = None) -> bool:
        """Returns when the gate is open, or so many seconds have passed; says whether it was."""
        passed = self._gate.acquire(timeout=-1 if timeout is None else timeout)
        if passed:
            self._gate.release()
        return passed


_new_lock, _new_rlock = _thread.allocate_lock, _thread.RLock

if not _hands_out():
    import gevent
    from gevent import monkey

    monkey.patch_all()
    gevent.config.track_greenlet_tree = False

if "PYTEST_XDIST_WORKER" in os.environ:
    from execnet.gateway_base import ThreadExecModel

    made: Any = ThreadExecModel
    made.Lock = made.RLock = lambda self: _new_rlock()
    made.Event = lambda self: _Event()
