"""A node: one of the servers of a backend, with all that is known of it.

Nodes are written in a configuration, or made by a backend that discovers them; both are the same class.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

from hemi.component import Component, prop
from hemi.upstream.balancers import seed_of
from hemi.upstream.breaker import Breaker
from hemi.values import Addr, Address

if TYPE_CHECKING:
    from hemi.upstream.backend import Backend
    from hemi.upstream.dial import Dialed
    from hemi.upstream.discovery import Found
    from hemi.upstream.pool import Pool

__all__ = ["ORDERS", "Node", "Order"]

Order = Literal["up", "draining", "down", "disabled"]
"""What an operator may want of a node: normal work; only the clients that stick to it; nothing, while it is still
checked; nothing at all."""

ORDERS: tuple[Order, ...] = get_args(Order)

COLD_SHARE = 0.1
"""The part of its weight that a node begins with when it warms up."""


class Node(Component, kind="nodes", nested=True, sign="node"):
    """One of the servers of a backend."""

    address: Address = prop(doc="Where it listens.", inherit=False)
    weight: int = prop(1, "How much it gets, compared with the others.", least=1, most=1000, inherit=False)
    tier: int = prop(
        0,
        "Nodes of tier 1 and above are backups: used when no node of a lower tier can be.",
        least=0,
        most=9,
        inherit=False,
    )
    max_conns: int = prop(0, "How many exchanges it may have at a time, per worker; 0 is any.", least=0)
    state: Order = prop("up", "What it begins with; operators can change it at any time.", inherit=False)
    tls_server_name: str | None = prop(
        None, "The name that its certificate must have, and that SNI says; its host when missing."
    )

    backend: Backend
    key: str  # the address as text: unique in the backend, what operators call it
    pool: Pool
    breaker: Breaker

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.backend = self.parent  # type: ignore[assignment]
        self.key = ""
        self.seed = 0
        self.tag = ""  # of sticky clients
        self.order: Order = "up"
        self.sick: dict[str, str] = {}  # check -> why it failed
        self.watched = False  # by active checks
        self.gone = False  # not in the backend any more
        self.limit: float = math.inf  # leases at a time
        self.share = 1.0  # the weight that counts now
        self.turn = 0.0  # RoundRobin's
        self.in_flight = 0
        self.last_channel: Dialed | None = None  # whose TLS session goes on
        self.conns = 0  # open connections, idle or not
        self.latency = 0.0  # seconds, average
        self.sampled = 0.0  # when latency was measured last
        self.warm_from = -math.inf  # when it came up
        self.leases = 0  # so far
        self.failures = 0  # so far
        self.reason = ""  # of the last failure

    @classmethod
    def discovered(cls, backend: Backend, found: Found) -> Node:
        """A node that no configuration lists."""
        node = cls("", backend, backend.place)
        node.address = found.address
        node.state = "up"
        node.weight = found.weight
        node.tls_server_name = backend.tls_server_name or found.server_name or None
        node.learn(found)
        return node

    def learn(self, found: Found) -> None:
        """Takes over what may change of a discovered node."""
        if self.weight != found.weight:
            self.weight = found.weight
            self.share = float(found.weight)
        self.tier = found.tier
        self.max_conns = self.backend.max_conns if found.max_conns is None else found.max_conns

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key} {self.status} in_flight={self.in_flight}>"

    @property
    def label(self) -> str:
        """What messages call it."""
        address: Addr | None = getattr(self, "address", None)
        return f'node "{address}"' if address is not None else "node"

    def check(self) -> Iterator[str | tuple[str, str]]:
        """An address to dial has a port."""
        if not self.address.path and not self.address.port:
            yield "address", f'must have a port, not "{self.address}"'

    def begin(self, backend: Backend) -> None:
        """Makes what it needs to be used."""
        self.key = str(self.address)
        self.seed = seed_of(self.key)
        self.tag = backend.tag_of(self.key)
        self.order = self.state
        self.pool = backend.make_pool()
        self.breaker = Breaker(backend.rules)
        self.watched = bool(backend.checks)
        self.share = float(self.weight)
        self.turn = random.random() * self.weight  # else all workers would begin with the same node
        if self.watched:
            self.sick = {
                check.title: "not checked yet" for check in backend.checks if check.initial == "down"
            }

    def adopt(self, old: Node) -> None:
        """Takes over what the same node of the stage before knows: a reload must not forget that it is down, nor
        what an operator ordered. A `state` that the configuration has changed counts more than the old order."""
        if old.state == self.state:
            self.order = old.order
        titles = {check.title for check in self.backend.checks}
        known = {check.title for check in old.backend.checks}
        self.sick = {title: why for title, why in self.sick.items() if title not in known}
        self.sick.update((title, why) for title, why in old.sick.items() if title in titles)
        self.breaker.adopt(old.breaker)
        self.latency, self.sampled, self.warm_from = old.latency, old.sampled, old.warm_from
        self.leases, self.failures, self.reason = old.leases, old.failures, old.reason

    @property
    def is_well(self) -> bool:
        """Whether neither checks nor traffic say that it is down."""
        return not self.sick and self.breaker.state != "open"

    @property
    def is_usable(self) -> bool:
        """Whether it may be given work that it has no claim to."""
        return self.order == "up" and not self.gone and self.is_well

    @property
    def status(self) -> str:
        """In a word: up, warming, probing, down, draining, disabled, gone."""
        if self.gone:
            return "gone"
        if self.order != "up":
            return self.order
        if not self.is_well:
            return "down"
        if self.breaker.state == "half-open":
            return "probing"
        return "warming" if self.share < self.weight else "up"

    @property
    def why(self) -> str:
        """Why it is not up, "" when it is."""
        if self.order != "up":
            return "ordered"
        if self.sick:
            return "; ".join(f"{title}: {why}" for title, why in self.sick.items())
        return self.reason if self.breaker.state != "closed" else ""

    def warm_up(self, now: float) -> None:
        """Gives it the share that it has at this time after it came up."""
        slow_start = self.backend.slow_start
        age = now - self.warm_from
        self.share = (
            self.weight * max(COLD_SHARE, age / slow_start) if age < slow_start else float(self.weight)
        )

    def describe(self) -> dict[str, Any]:
        """What operators see."""
        return {
            "address": self.key,
            "state": self.status,
            "why": self.why,
            "weight": self.weight,
            "share": round(self.share, 3),
            "tier": self.tier,
            "max_conns": self.max_conns,
            "in_flight": self.in_flight,
            "conns": self.conns,
            "idle_conns": self.pool.idle_count,
            "latency": round(self.latency, 6),
            "leases": self.leases,
            "failures": self.failures,
            "last_failure": self.reason,
        }
