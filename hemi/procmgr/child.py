"""A child: one worker process as its leader sees it, an explicit state machine.

`MOVES` is the whole of it; the diagram in the documentation is made from the table. A child lives through several
processes when they crash (it is started again, after a while); one that is replaced gets a successor with the same
number and ends.

What becomes of a child (when to start it again, when to give up) is decided in `hemi.procmgr.crew`. No sockets here.
"""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

from hemi.errors import EXIT_BUG, EXIT_CRASH, EXIT_ENV, EXIT_STOP, EXIT_USAGE, BugError

if TYPE_CHECKING:
    from hemi.procmgr.admconn import AdmConn

__all__ = ["MOVES", "Child", "backoff", "describe_exit"]

MOVES: dict[str, dict[str, str]] = {
    # state: {event: next state}
    "new": {"fork": "starting"},
    "starting": {"ready": "ready", "drain": "draining", "stop": "stopping", "exit": "dead"},
    "ready": {"drain": "draining", "stop": "stopping", "exit": "dead"},
    "draining": {"stop": "stopping", "exit": "dead"},
    "stopping": {"exit": "dead"},
    "dead": {"fork": "starting", "back off": "backing off", "give up": "failed"},
    "backing off": {"fork": "starting", "drain": "dead", "stop": "dead"},
    "failed": {"fork": "starting", "drain": "dead", "stop": "dead"},
}

ALIVE = frozenset({"starting", "ready", "draining", "stopping"})
"""The states in which there is a process."""

BACKOFF_FIRST = 0.1
BACKOFF_MOST = 30.0
STEADY = 1.0
"""Seconds that a worker must have been ready, so that its end does not count as another failure in a row."""

_EXITS = {
    0: "ended by itself",
    EXIT_STOP: "stopped",
    EXIT_CRASH: "crashed",
    EXIT_BUG: "ended because of a bug",
    EXIT_USAGE: "could not begin: wrong configuration",
    EXIT_ENV: "could not begin: the system does not let it",
}


class Child:
    """A worker. `number` is its place among the workers, from 1; a successor takes it over."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = "new"
        self.since = time.monotonic()
        """When the state began."""
        self.pid = 0
        self.slot = -1
        """Its place on the board (see `hemi.procmgr.board`)."""
        self.forks = 0
        """How many processes it has had."""
        self.failures = 0
        """How many of its last processes ended before they were steady, one after another."""
        self.reason = ""
        """Why it is in this state, when that is not the usual course."""
        self.exit_code = 0
        """How its last process ended: an exit code, or the negative number of a signal."""
        self.start_timeout = 0.0
        """Seconds that it has to get ready, by its own configuration; 0 until it has said so."""
        self.may_listen = False
        """It prepares a stage on our order, and may ask for listening sockets."""
        self.verdict = ""
        """Why its leader has killed it, or is about to."""
        self.conn: AdmConn | None = None
        self.keys: set[str] = set()
        """The listening sockets that its stages name."""
        self.was_ready_at = 0.0
        self.report: dict[str, Any] = {}
        """The figures that it sent last."""
        self.vitals: dict[str, Any] = {}
        """What the system says about the process."""
        self.beat_at = 0.0
        self.blocked_for = 0.0
        """For how many seconds its hub has not run."""
        self.thresholds: dict[str, float] = {}
        """When it is to be replaced: the limits, each with its jitter."""
        self.told: dict[str, Any] = {}
        """What it said when it became ready, or why it could not."""

    def __repr__(self) -> str:
        return f"<Child {self.number} {self.state} pid={self.pid}>"

    @property
    def alive(self) -> bool:
        """True when it has a process."""
        return self.state in ALIVE

    def can(self, event: str) -> bool:
        """True when the event is legal now."""
        return event in MOVES[self.state]

    def move(self, event: str, reason: str = "") -> None:
        """Goes to the state that `event` leads to. Raises BugError when that is no legal move."""
        state = MOVES[self.state].get(event)
        if state is None:
            raise BugError(f"worker {self.number} is {self.state}: {event!r} is no legal move")
        self.state = state
        self.since = time.monotonic()
        self.reason = reason
        if state == "ready":
            self.was_ready_at = self.since
        elif state == "starting":
            self.was_ready_at = 0.0
            self.forks += 1

    def note_failure(self) -> int:
        """Counts an end that nobody asked for; returns how many such ends there were in a row."""
        steady = self.was_ready_at and time.monotonic() - self.was_ready_at >= STEADY
        self.failures = 0 if steady else self.failures + 1
        return self.failures

    def to_dict(self) -> dict[str, Any]:
        """What operators are told about it."""
        return {
            "worker": self.number,
            "pid": self.pid,
            "state": self.state,
            "reason": self.reason,
            "seconds": round(time.monotonic() - self.since, 3),
            "starts": self.forks,
            "failures": self.failures,
            **({"blocked": round(self.blocked_for, 1)} if self.blocked_for else {}),
            **self.vitals,
            **self.report,
        }


def backoff(failures: int) -> float:
    """Seconds to wait before the next start after so many failures in a row: exponential, capped, with jitter."""
    if failures <= 0:
        return 0.0
    delay: float = min(BACKOFF_FIRST * 2 ** min(failures - 1, 16), BACKOFF_MOST)
    return delay * random.uniform(0.8, 1.2)


def describe_exit(status: int) -> str:
    """Says what a status of waitpid means: "crashed (exit code 11)", "killed by SIGKILL"."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"{_EXITS.get(code, 'ended')} (exit code {code})"
