"""The roster: which nodes of a backend may be used now, and who waits for one.

`ready` is worked out when something changes, not when somebody asks: a lease on the hot path takes it as it
is. Only where limits count (`careful`), after a failed try, or for a client that sticks to a node, the nodes
are looked at one by one.

Laws of this module:
- Who came first is served first. A place that becomes free while somebody waits is handed over: nobody who
  comes later can take it.
- A lease never gets a node that it has tried.
- The lowest tier that has enough usable nodes is used. When none has, and panic is allowed, the checks are
  probably wrong, or it makes no difference: all nodes are used that no operator has taken out.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import gevent
from gevent.event import AsyncResult

from hemi.upstream.errors import NoNodeAvailable, QueueTimeout

if TYPE_CHECKING:
    from hemi.upstream.balancers import Balancer
    from hemi.upstream.lease import Lease
    from hemi.upstream.node import Node

__all__ = ["Roster"]


class Roster:
    """The nodes of a backend, and the queue for them. `panic_threshold` is in percent, 0 is never."""

    def __init__(
        self,
        backend: str,
        balancer: Balancer,
        *,
        panic_threshold: int = 0,
        queue_size: int = 0,
        queue_timeout: float = 0.0,
    ) -> None:
        self.backend = backend
        self.balancer = balancer
        self.panic_threshold = panic_threshold
        self.queue_size = queue_size
        self.queue_timeout = queue_timeout
        self.nodes: list[Node] = []
        self.by_tag: dict[str, Node] = {}
        self.ready: list[Node] = []  # what a new lease may choose from
        self.tiers: list[list[Node]] = []  # the same, then where to go when all of them were tried
        self.careful = False  # some of the ready ones have limits
        self.panic = False
        self.queue: dict[Lease, AsyncResult[Node]] = {}  # in the order of their coming
        self.refused = 0  # leases that found no node, so far

    def __repr__(self) -> str:
        return f"<Roster {self.backend} ready={len(self.ready)}/{len(self.nodes)} waiting={len(self.queue)}>"

    def refresh(self) -> None:
        """Works out anew who may be used. To be called after any change of a node."""
        self.by_tag = {node.tag: node for node in self.nodes if node.tag}
        enabled: dict[int, list[Node]] = {}
        for node in self.nodes:
            if node.order == "up":
                enabled.setdefault(node.tier, []).append(node)
        usable = {tier: [node for node in nodes if node.is_usable] for tier, nodes in enabled.items()}
        good: list[int] = []
        poor: list[int] = []
        for tier in sorted(enabled):
            enough = len(usable[tier]) * 100 >= self.panic_threshold * len(enabled[tier])
            (good if usable[tier] and enough else poor).append(tier)
        self.panic = bool(poor) and not good and self.panic_threshold > 0
        if self.panic:
            poor.sort(key=lambda tier: (-len(usable[tier]) / len(enabled[tier]), tier))
            self.tiers = [enabled[tier] for tier in poor]
        else:
            self.tiers = [usable[tier] for tier in good + poor if usable[tier]]
        self.ready = self.tiers[0] if self.tiers else []
        # Where no other node works, the probes are all there is: with panic allowed, they are not limited.
        sparing = not self.panic_threshold or any(node.breaker.state == "closed" for node in self.ready)
        for node in self.nodes:
            node.limit = node.max_conns or math.inf
            if sparing and node.breaker.state == "half-open":
                node.limit = min(node.limit, node.breaker.probes)
        self.careful = any(node.limit < math.inf for node in self.ready)
        if self.queue:
            self.serve_queue()

    def choose(self, lease: Lease) -> Node:
        """A node for a lease, with its place taken; waits for one when all are full. Raises NoNodeAvailable."""
        node = self.find(lease)
        if node is None:
            return self._wait(lease)
        node.in_flight += 1
        return node

    def find(self, lease: Lease) -> Node | None:
        """A node for a lease; None when all that it may have are full. Raises NoNodeAvailable."""
        tried = lease.tried
        if lease.tag:
            node = self.by_tag.get(lease.tag)
            if node is not None and node not in tried and node.order in ("up", "draining") and node.is_well:
                return node if node.in_flight < node.limit else None
        for nodes in self.tiers:
            left = [node for node in nodes if node not in tried] if tried else nodes
            if left:
                free = [node for node in left if node.in_flight < node.limit]
                picked: Node | None = self.balancer.pick(free, lease.subject) if free else None
                return picked
        raise self.no_node(lease)

    def no_node(self, lease: Lease) -> NoNodeAvailable:
        """The error that says why there is none."""
        self.refused += 1
        if not self.nodes:
            reason = "it has no nodes"
        elif lease.tried and self.ready:
            reason = f"all {len(lease.tried)} usable nodes were tried"
        else:
            states: dict[str, int] = {}
            for node in self.nodes:
                states[node.status] = states.get(node.status, 0) + 1
            reason = "no node can be used: " + ", ".join(f"{many} {state}" for state, many in states.items())
        return NoNodeAvailable(reason, backend=self.backend, phase="choose")

    def release(self, node: Node) -> None:
        """Gives a place back."""
        node.in_flight -= 1
        if self.queue:
            self.serve_queue()

    # Waiting

    def _wait(self, lease: Lease) -> Node:
        if len(self.queue) >= self.queue_size:
            self.refused += 1
            waiting = f", and {self.queue_size} wait already" if self.queue_size else ""
            raise NoNodeAvailable(f"all nodes are full{waiting}", backend=self.backend, phase="queue")
        result = self.queue[lease] = AsyncResult()
        seconds = max(0.0, min(self.queue_timeout, lease.deadline - monotonic()))
        try:
            with gevent.Timeout(seconds) as timer:
                return cast("Node", result.get())
        except gevent.Timeout as error:
            self._leave(lease, result)
            if error is not timer:
                raise
            self.refused += 1
            raise QueueTimeout(
                f"all nodes stayed full for {seconds:g} s",
                backend=self.backend,
                phase="queue",
                timed_out=True,
            ) from None
        except BaseException:
            self._leave(lease, result)
            raise

    def _leave(self, lease: Lease, result: AsyncResult[Node]) -> None:
        """Gives up waiting; a place that was handed over in the meantime goes to the next."""
        if self.queue.pop(lease, None) is None and result.successful():
            self.release(cast("Node", result.get()))

    def serve_queue(self) -> None:
        """Hands free places to those who wait."""
        for lease, result in list(self.queue.items()):
            try:
                node = self.find(lease)
            except NoNodeAvailable as error:
                del self.queue[lease]
                result.set_exception(error)
                continue
            if node is not None:
                node.in_flight += 1
                del self.queue[lease]
                result.set(node)
            elif not lease.tag and not lease.tried:
                break  # what is full for it is full for the others

    def close(self, reason: str) -> None:
        """Has no nodes any more; who waits gets an error."""
        self.nodes, self.ready, self.tiers = [], [], []
        queue, self.queue = self.queue, {}
        for result in queue.values():
            result.set_exception(NoNodeAvailable(reason, backend=self.backend, phase="queue"))

    def describe_queue(self) -> dict[str, Any]:
        """What operators see of the queue."""
        return {"waiting": len(self.queue), "size": self.queue_size, "refused": self.refused}
