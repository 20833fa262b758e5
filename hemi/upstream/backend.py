"""Backends: groups of servers that something here is a client of. The kind, and what all backends share.

A protocol's backend is a subclass with a sign, its `conn_class` and, where its templates have variables, its
`scope`:

    class HTTPBackend(Backend, sign="http_backend"):
        conn_class = Backend1Conn
        alpn = ("http/1.1",)
        scope = REQUEST_SCOPE

What a configuration may say about it is in `hemi.upstream.terms`. Proxies use `lease` (hemi.upstream.lease), operators
`describe`, `order_node` and `weigh_node`.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, ClassVar

import gevent
from gevent import get_hub

from hemi.sockets import Channel, Sweeper
from hemi.upstream.breaker import Rules
from hemi.upstream.checks import Watch
from hemi.upstream.clienttls import make_client_context
from hemi.upstream.dial import Dialed, dial
from hemi.upstream.discovery import sources_of
from hemi.upstream.errors import DialFailed
from hemi.upstream.finder import Finder
from hemi.upstream.lease import Lease
from hemi.upstream.node import ORDERS, Node, Order
from hemi.upstream.pool import Conn, Limits, Pool
from hemi.upstream.ranges import parse_ranges
from hemi.upstream.roster import Roster
from hemi.upstream.sticky import make_tag
from hemi.upstream.terms import BackendTerms

__all__ = ["Backend"]

TICK = 0.5
"""Seconds between two looks at idle connections, breakers and nodes that warm up."""

FORGET = 0.9
"""What a tick leaves of the average latency of a node that is not asked: it gets its chance again."""

LATENCY_GAIN = 0.2
"""How much a new latency counts in the average."""

FORGET_AFTER = 5.0
"""Seconds without an answer before that begins."""


class Backend(BackendTerms, kind="backends"):
    """A group of servers. Numbers such as max_conns are per worker: workers do not know of each other."""

    conn_class: ClassVar[type[Conn]] = Conn

    lease: Callable[..., Lease]
    """lease(subject=None, deadline=inf, tag="") begins the use of the backend for one exchange."""

    check_prefix = b""
    """What checks send before all else."""

    roster: Roster
    finder: Finder

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.channels: set[Channel] = set()  # of all connections, idle or not
        self.stopped = False
        self.lease = partial(Lease, self)
        self._context: ssl.SSLContext | None = None
        self._check_contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._sweeper = Sweeper(self.channels)
        self._timer: Any = None
        self._started = False
        self._watches: dict[Node, list[Any]] = {}

    # Life

    def prepare(self) -> None:
        """Reads what is on disk, and asks for the names; nothing is connected yet."""
        self.limits = Limits(self.idle_conns, self.idle_timeout, self.conn_age, self.conn_uses or math.inf)
        self.rules = Rules(
            self.max_fails,
            self.fail_rate,
            self.fail_window,
            fail_timeout=self.fail_timeout,
            most_timeout=max(self.fail_timeout, self.fail_timeout_limit),
            probes=self.probes,
        )
        self.bad_statuses = parse_ranges(self.fail_statuses)
        self.bad_latency = self.fail_latency or math.inf
        if self.tls:
            self._context = make_client_context(self.tls_policy())
        self.roster = Roster(
            self.name,
            self.make_balancer(),
            panic_threshold=self.panic_threshold,
            queue_size=self.queue_size,
            queue_timeout=self.queue_timeout,
        )
        for node in self.nodes:
            node.begin(self)
            self.roster.nodes.append(node)
        self.finder = Finder(self, sources_of(self))
        self.finder.begin()
        self.roster.refresh()

    def start(self) -> None:
        """Takes over what the stage before knows of the nodes, and begins to check them."""
        self.finder.wait()
        predecessor = self.stage.predecessor
        old = predecessor.members.get("backends", {}).get(self.name) if predecessor is not None else None
        if isinstance(old, Backend) and old.sign == self.sign and hasattr(old, "finder"):
            self._adopt(old)
        self._started = True
        for node in self.roster.nodes:
            self._watch(node)
        self.roster.refresh()
        if not self.roster.nodes:
            self.log_warning("it has no nodes")
        self._sweeper.start()
        self._timer = get_hub().loop.timer(TICK, TICK)
        self._timer.start(self._tick)

    def _adopt(self, old: Backend) -> None:
        self.finder.adopt(old.finder)
        known = {node.key: node for node in old.roster.nodes}
        for node in self.roster.nodes:
            before = known.get(node.key)
            if before is not None:
                node.adopt(before)

    def stop(self, deadline: float) -> None:
        """Ends checks and connections; what is still in flight is cut, as the servers have finished theirs."""
        self.stopped = True
        if hasattr(self, "finder"):
            self.finder.stop()
        watches, self._watches = self._watches, {}
        gevent.killall([task for tasks in watches.values() for task in tasks], block=False)
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        self._sweeper.stop()
        if hasattr(self, "roster"):
            for node in self.roster.nodes:
                node.gone = True
                node.pool.clear()
            self.roster.close("the stage stops")
        for channel in list(self.channels):
            _wake(channel)

    # Nodes that come and go: the finder's calls

    def add_node(self, node: Node) -> None:
        """Takes a discovered node in; the roster is refreshed by the caller."""
        node.begin(self)
        self.roster.nodes.append(node)
        if self._started:
            node.warm_from = monotonic()
            node.warm_up(node.warm_from)
            self._watch(node)
            self._log_info(node, "is new")

    def remove_node(self, node: Node) -> None:
        """Lets go of a node; what it has in flight goes on. The roster is refreshed by the caller."""
        node.gone = True
        self.roster.nodes.remove(node)
        gevent.killall(self._watches.pop(node, []), block=False)
        node.pool.clear()
        self._log_info(node, "is gone")

    # Connections

    def make_pool(self) -> Pool:
        """The pool of a node."""
        return Pool(self.limits)

    def open_conn(self, node: Node, deadline: float) -> Any:
        """A new connection to a node, of `conn_class`. Raises DialFailed."""
        return self.conn_class(node, self.open_channel(node, deadline), monotonic())

    def open_for(self, subject: Any, node: Node, deadline: float) -> Any:
        """A new connection to a node, for this request. Raises DialFailed."""
        return self.open_conn(node, deadline)

    def open_channel(self, node: Node, deadline: float, prefix: bytes = b"") -> Dialed:
        """A new channel to a node, which `Conn.close` closes and forgets; `prefix` goes before all else, TLS included.
        Raises DialFailed."""
        now = monotonic()
        try:
            channel = dial(
                node.address,
                self.stage.resolv,
                timeout=min(self.dial_timeout, max(deadline - now, 0.001)),
                write_timeout=self.write_timeout,
                tls=self._context,
                server_name=node.tls_server_name or "",
                prefix=prefix,
                before=node.last_channel,
            )
        except DialFailed as error:
            error.backend = self.name
            raise
        if self._context is not None:
            node.last_channel = channel
        if self.stopped:
            channel.close()
            raise DialFailed("the stage stops", backend=self.name, node=node.key, phase="connect")
        self.channels.add(channel)
        node.conns += 1
        return channel

    def check_context(self, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
        """The TLS context for checks: like that of the connections, but for the protocols that these may speak."""
        context = self._check_contexts.get(protocols)
        if context is None:
            context = make_client_context(replace(self.tls_policy(), alpn=protocols))
            self._check_contexts[protocols] = context
        return context

    def tag_of(self, key: str) -> str:
        """The tag of a node for sticky clients, "" when there are none."""
        return make_tag(self.sticky_secret, self.name, key) if self.sticky_secret else ""

    # Health

    def note_answer(self, node: Node, status: int, latency: float, now: float) -> None:
        """Notes that a node has answered after `latency` seconds, well or not as the `status` says."""
        node.latency += (latency - node.latency) * LATENCY_GAIN if node.latency else latency
        node.sampled = now
        if status in self.bad_statuses:
            self.note_failure(node, f"status {status}", now)
        elif latency > self.bad_latency:
            self.note_failure(node, f"no answer within {self.bad_latency:g} s", now)
        elif node.breaker.state == "closed":
            node.breaker.fails = 0
            node.breaker.passed += 1
        else:
            self.note_success(node)

    def note_failure(self, node: Node, why: str, now: float) -> None:
        """Notes that real traffic failed at a node."""
        node.failures += 1
        node.reason = why
        was_probing = node.breaker.state == "half-open"
        if node.breaker.failure(now):
            node.pool.clear()
            self.roster.refresh()
            times = "a probe failed" if was_probing else f"{node.breaker.fails} failures in a row"
            seconds = node.breaker.until - now
            self._log_down(node, f"{times}, left alone for {seconds:g} s: {why}")

    def note_success(self, node: Node) -> None:
        """Notes that real traffic went well at a node whose breaker is not closed."""
        breaker = node.breaker
        if breaker.state == "half-open":
            if breaker.success():
                self._came_up(node, "probes went well")
        elif breaker.state == "open" and self.roster.panic:
            breaker.reset()
            self._came_up(node, "it works again")

    def note_check(self, watch: Watch, why: str) -> None:
        """Notes what a check has found, "" for a pass."""
        node, title = watch.node, watch.check.title
        if node.gone:
            return
        if watch.note(why):
            if why:
                node.sick[title] = why
                node.pool.clear()
                self.roster.refresh()
                self._log_down(node, f"{title}: {why}")
            else:
                node.sick.pop(title, None)
                if node.is_well:
                    self._came_up(node, f"{title} passed")
        elif why and watch.is_up:
            self.stage.log.debug("backend", f'"{self.name}": node {node.key}: {title}: {why}')
        if not why and not node.sick and node.breaker.state == "open" and monotonic() >= node.breaker.until:
            # Checks are the probes then: no user's request is risked.
            node.breaker.reset()
            self._came_up(node, f"{title} passed")

    def _came_up(self, node: Node, why: str) -> None:
        node.warm_from = monotonic()
        node.warm_up(node.warm_from)
        node.breaker.fails = 0
        self.roster.refresh()
        self._log_info(node, f"is up: {why}")

    def _watch(self, node: Node) -> None:
        if node not in self._watches:
            self._watches[node] = [
                gevent.spawn(watch.run, self) for watch in (Watch(check, node) for check in self.checks)
            ]

    def _tick(self) -> None:
        self.tick(monotonic())

    def tick(self, now: float) -> None:
        """Looks at what changes with time alone: idle connections, open breakers, nodes that warm up."""
        changed = False
        for node in self.roster.nodes:
            node.pool.sweep(now)
            if not (node.watched and node.breaker.state == "open"):
                changed = node.breaker.tick(now) or changed
            if node.share < node.weight:
                node.warm_up(now)
            if node.latency and not node.in_flight and now - node.sampled > FORGET_AFTER:
                node.latency *= FORGET
        if changed:
            self.roster.refresh()

    # Operators

    def node(self, key: str) -> Node:
        """The node of an address. Raises LookupError."""
        for node in self.roster.nodes:
            if node.key == key:
                return node
        raise LookupError(f'backend "{self.name}" has no node "{key}"')

    def order_node(self, key: str, order: Order) -> None:
        """Sets what an operator wants of a node; "up" also forgets all that speaks against it.

        Orders outlive reloads, unless the configuration's `state` changes; they end with the worker. Raises
        LookupError, ValueError.
        """
        if order not in ORDERS:
            raise ValueError(f'the state of a node must be {", ".join(ORDERS)}, not "{order}"')
        node = self.node(key)
        was_usable = node.is_usable
        node.order = order
        if order == "up":
            node.sick.clear()
            node.breaker.reset()
            if not was_usable:
                node.warm_from = monotonic()
                node.warm_up(node.warm_from)
            self._restart_watches(node)
        elif order != "draining":
            node.pool.clear()
        self.roster.refresh()
        self._log_info(node, f"is {order} by order")

    def _restart_watches(self, node: Node) -> None:
        """Begins the counting of the checks anew."""
        gevent.killall(self._watches.pop(node, []), block=False)
        if self._started:
            self._watch(node)

    def weigh_node(self, key: str, weight: int) -> None:
        """Changes the weight of a node until the next reload. Raises LookupError, ValueError."""
        if not 1 <= weight <= 1000:
            raise ValueError(f"the weight of a node must be 1 to 1000, not {weight}")
        node = self.node(key)
        node.weight = weight
        node.share = float(weight)
        self._log_info(node, f"has the weight {weight} by order")

    def describe(self) -> dict[str, Any]:
        """What operators see: plain data."""
        return {
            "name": self.name,
            "type": self.sign,
            "balancer": self.balancer,
            "panic": self.roster.panic,
            "queue": self.roster.describe_queue(),
            "nodes": [node.describe() for node in self.roster.nodes],
        }

    # The log

    def log_warning(self, message: str) -> None:
        """Logs what an operator should look at."""
        self.stage.log.warning("backend", f'"{self.name}": {message}')

    def _log_info(self, node: Node, message: str) -> None:
        self.stage.log.info("backend", f'"{self.name}": node {node.key} {message}')

    def _log_down(self, node: Node, message: str) -> None:
        roster = self.roster
        left = sum(other.is_usable for other in roster.nodes)
        state = f"{left} of {len(roster.nodes)} nodes are up"
        if roster.panic:
            state += ", all are used"
        self.log_warning(f"node {node.key} is down: {message} ({state})")


def _wake(channel: Channel) -> None:
    """Ends the wait of whoever waits on a channel; closing it is theirs."""
    channel.late = True
    try:
        channel.sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
