"""A lease: what a proxy holds while it uses a backend for one exchange.

    lease = backend.lease(req, deadline, tag)
    try:
        while True:
            conn = lease.take()                  # a node that was not tried yet, and a connection to it
            try:
                ...                              # send, receive the head of the answer
            except OSError as error:
                failure = lease.fail("head", error)
                if may_retry and lease.tries < 3:
                    continue
                raise failure from error
            lease.answered(status)               # the node has answered: latency and status count
            ...                                  # pass the content on
            lease.done(keep=True)                # the connection can be used again
            break
    finally:
        lease.end()                              # whatever happened: nothing stays taken

What went wrong with a node is noted where it is reported, by `take` (which dials) and `fail`; `done`, `end`
and `answered` never raise.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING, Any

from hemi.upstream.errors import DialFailed, ExchangeFailed, NoNodeAvailable, UpstreamError, reason_of

if TYPE_CHECKING:
    from hemi.upstream.backend import Backend
    from hemi.upstream.node import Node

__all__ = ["Lease"]


class Lease:
    """The use of a backend for one exchange, over as many tries as it takes.

    `node` and `conn` are those of the current try, None in between; `tried` the nodes that failed; `failures` what
    they failed of; `tries` counts. `deadline` (monotonic seconds) bounds waiting and dialing. `taken` is when the
    connection was there; latency counts from then, or from when the proxy sets it anew: when the request is sent.
    """

    __slots__ = (
        "backend",
        "conn",
        "deadline",
        "failures",
        "node",
        "subject",
        "tag",
        "taken",
        "tried",
        "tries",
    )

    def __init__(
        self, backend: Backend, subject: Any = None, deadline: float = math.inf, tag: str = ""
    ) -> None:
        self.backend = backend
        self.subject = subject
        self.deadline = deadline
        self.tag = tag
        self.node: Node | None = None
        self.conn: Any = None
        self.taken = 0.0
        self.tries = 0
        self.tried: tuple[Node, ...] = ()
        self.failures: tuple[UpstreamError, ...] = ()

    def __repr__(self) -> str:
        return f"<Lease {self.backend.name} node={self.node.key if self.node else None} tries={self.tries}>"

    def take(self) -> Any:
        """Chooses a node that was not tried, and returns a connection to it, an idle one if there is one.

        Raises NoNodeAvailable (QueueTimeout) when there is none; DialFailed when this one cannot be reached, which
        is noted: calling again tries another one.
        """
        node = self.node
        if node is None:  # else it was adopted without a connection
            roster = self.backend.roster
            if roster.careful or self.tried or self.tag or not roster.ready:
                node = roster.choose(self)
            else:
                node = roster.balancer.pick(roster.ready, self.subject)
                node.in_flight += 1
            self.node = node
            self.tries += 1
            node.leases += 1
        self.taken = now = monotonic()
        conn = node.pool.take(now)
        if conn is None:
            conn = self._dial(node)
        self.conn = conn
        return conn

    def adopt(self, node: Node, conn: Any, taken: float) -> None:
        """Goes on with a node, and perhaps a connection, that somebody has taken without a lease, as `take` does it."""
        self.node = node
        self.conn = conn
        self.tries += 1
        self.taken = taken

    def choose(self) -> Node:
        """Chooses a node as `take` does, without a connection: for who makes its own. Raises NoNodeAvailable."""
        node = self.backend.roster.choose(self)
        self.node = node
        self.tries += 1
        node.leases += 1
        self.taken = monotonic()
        return node

    def choose_now(self) -> Node:
        """Chooses a node as `choose` does, but never waits: when all are full there is none. Raises NoNodeAvailable."""
        roster = self.backend.roster
        if roster.careful or self.tried or not roster.ready:
            node = roster.find(self)
            if node is None:
                roster.refused += 1
                raise NoNodeAvailable("all nodes are full", backend=self.backend.name, phase="choose")
        else:
            node = roster.balancer.pick(roster.ready, self.subject)
        node.in_flight += 1
        self.node = node
        self.tries += 1
        node.leases += 1
        self.taken = monotonic()
        return node

    def redial(self) -> Any:
        """Replaces the connection by a new one to the same node, and returns it; not a try of its own, no failure.

        For a reused connection that turned out to be closed before a byte of the answer came. Raises DialFailed.
        """
        node = self.node
        assert node is not None
        self._drop()
        self.conn = self._dial(node)
        return self.conn

    def answered(self, status: int = 0) -> None:
        """Notes that the node has answered, well or not as its `status` says; the time since `take` is its latency."""
        node = self.node
        if node is None:
            return
        now = monotonic()
        self.backend.note_answer(node, status, now - self.taken, now)

    def fail(self, phase: str, error: BaseException | str, counts: bool = True) -> ExchangeFailed:
        """Notes that the exchange failed, and drops connection and node; the next `take` chooses another one.

        Returns the error to log or raise. With `counts=False` it does not speak against the node.
        """
        failure = ExchangeFailed(
            reason_of(error),
            backend=self.backend.name,
            node=self.node.key if self.node is not None else "",
            phase=phase,
            timed_out=isinstance(error, TimeoutError),
        )
        self._failed(failure, counts)
        return failure

    def done(self, keep: bool = False) -> None:
        """Ends the lease. `keep` says that the connection is clean: everything was sent, everything was read."""
        node = self.node
        if node is None:
            return
        self.node = None
        conn = self.conn
        if conn is not None:
            self.conn = None
            if keep and not node.gone:
                node.pool.give_back(conn, monotonic())
            else:
                conn.close()
        node.in_flight -= 1
        roster = self.backend.roster
        if roster.queue:
            roster.serve_queue()

    def end(self) -> None:
        """Ends the lease if it has not ended; the connection is closed. Says nothing about the node. Idempotent."""
        if self.node is not None:
            self.done(False)

    def reason(self, error: UpstreamError) -> UpstreamError:
        """What to raise when `error` ends all tries: what the last one failed of, for that all were tried says less."""
        return self.failures[-1] if self.failures else error

    @property
    def stick_to(self) -> str:
        """The tag that a sticky client should bring next time; "" when it has the right one, or none is used."""
        node = self.node
        return node.tag if node is not None and node.tag != self.tag else ""

    def _dial(self, node: Node) -> Any:
        try:
            conn = self.backend.open_for(self.subject, node, self.deadline)
        except DialFailed as failure:
            now = monotonic()
            hurried = failure.timed_out and now >= self.deadline
            self._failed(failure, not hurried and not failure.is_local)
            raise
        except BaseException:
            self.end()
            raise
        self.taken = monotonic()  # what a connection costs is not the node's latency
        return conn

    def _failed(self, failure: UpstreamError, counts: bool) -> None:
        node = self.node
        self.failures += (failure,)
        if node is None:
            return
        self.tried += (node,)
        if counts:
            self.backend.note_failure(node, f"{failure.phase}: {failure.reason}", monotonic())
        self.done(False)

    def _drop(self) -> None:
        conn, self.conn = self.conn, None
        if conn is not None:
            conn.close()
