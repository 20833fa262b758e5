"""Balancers: which of several nodes. Pure: no sockets, no clocks, and chance is passed in.

A balancer is given the nodes that may be used, never an empty list, and the subject (a request or a
connection). It reads of a node: `key` and `seed` (who it is), `share` (its weight, smaller while it warms
up), `in_flight` (leases), `latency` (seconds, an average that forgets). What it keeps of its own is small and
may be lost at a reload.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Protocol

__all__ = [
    "Balanced",
    "Balancer",
    "First",
    "Hashed",
    "LeastConn",
    "LeastTime",
    "Random",
    "RandomTwo",
    "RoundRobin",
    "seed_of",
]

_MASK = (1 << 64) - 1
_NEVER = 1e-9
"""Stands for a latency that was not measured yet: such a node is tried soon."""


class Balanced(Protocol):
    """What a balancer reads of a node. `turn` is RoundRobin's own."""

    key: str
    seed: int
    share: float
    in_flight: int
    latency: float
    turn: float


class Balancer(Protocol):
    """Chooses one of the nodes, which are not none."""

    def pick(self, nodes: Sequence[Any], subject: Any) -> Any: ...


def seed_of(text: str) -> int:
    """64 bits that stand for a text, the same in every process."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


class RoundRobin:
    """Smooth weighted round robin, nginx's: {a: 5, b: 1, c: 1} gives a a b a c a a, not a a a a a b c."""

    __slots__ = ()

    def pick(self, nodes: Sequence[Any], subject: Any) -> Any:
        """The node whose turn it is."""
        if len(nodes) == 1:
            return nodes[0]
        total = 0.0
        most = -math.inf
        best = nodes[0]
        for node in nodes:
            share = node.share
            total += share
            turn = node.turn = node.turn + share
            if turn > most:
                most, best = turn, node
        best.turn -= total
        return best


class Random:
    """By chance, in proportion to the shares."""

    __slots__ = ("_random",)

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._random = chance

    def pick(self, nodes: Sequence[Any], subject: Any) -> Any:
        """Any node."""
        total = 0.0
        for node in nodes:
            total += node.share
        point = self._random() * total
        for node in nodes:
            point -= node.share
            if point < 0:
                return node
        return nodes[-1]


class RandomTwo:
    """Two by chance, then the one with less to do (Mitzenmacher): nearly as good as the least of all, without the herd
    that several workers make of it."""

    __slots__ = ("_random",)

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._random = Random(chance)

    def pick(self, nodes: Sequence[Any], subject: Any) -> Any:
        """The less busy of two."""
        if len(nodes) == 1:
            return nodes[0]
        one = self._random.pick(nodes, subject)
        other = self._random.pick([node for node in nodes if node is not one], subject)
        return one if one.in_flight * other.share <= other.in_flight * one.share else other


class LeastConn:
    """The node with the fewest leases for its share; among equals in turn."""

    __slots__ = ("_start",)

    def __init__(self) -> None:
        self._start = 0

    def pick(self, nodes: Sequence[Any], subject: Any) -> Any:
        """The least busy node."""
        start = self._start = (self._start + 1) % len(nodes)
        best = nodes[start]
        # A node's load counts with what it would be: of two idle ones the larger is first.
        least = (best.in_flight + 1) / best.share
        if start:
            nodes = [*nodes[start:], *nodes[:start]]
        for node in nodes:
            load = (node.in_flight + 1) / node.share
            if load < least:
                least, best = load, node
        return best


class LeastTime:
    """The node that would answer first: average latency times leases, for its share."""

    __slots__ = ("_start",)

    def __init__(self) -> None:
        self._start = 0

    def pick(self, nodes: Sequence[Any], subject: Any) -> Any:
        """The fastest node, as far as known."""
        start = self._start = (self._start + 1) % len(nodes)
        if start:
            nodes = [*nodes[start:], *nodes[:start]]
        least = math.inf
        best = nodes[0]
        for node in nodes:
            load = (node.latency or _NEVER) * (node.in_flight + 1) / node.share
            if load < least:
                least, best = load, node
        return best


class Hashed:
    """The same node for the same key, as long as it is there: weighted rendezvous hashing (Thaler and Ravishankar,
    1998; weights by Schindelhauer and Schomaker). When a node comes or goes, only its own keys move."""

    __slots__ = ("_key_of",)

    def __init__(self, key_of: Callable[[Any], str]) -> None:
        self._key_of = key_of

    def pick(self, nodes: Sequence[Any], subject: Any) -> Any:
        """The node that the subject's key belongs to."""
        key = seed_of(self._key_of(subject))
        most = -1.0
        best = nodes[0]
        for node in nodes:
            mixed = ((key ^ node.seed) * 0x9E3779B97F4A7C15) & _MASK
            mixed = ((mixed ^ (mixed >> 32)) * 0xD6E8FEB86659FD93) & _MASK
            mixed ^= mixed >> 32
            score = -node.share / math.log((mixed + 0.5) / (_MASK + 1.0))
            if score > most:
                most, best = score, node
        return best


class First:
    """The first that may be used, in the order of the configuration: the others stand by."""

    __slots__ = ()

    def pick(self, nodes: Sequence[Any], subject: Any) -> Any:
        """The first."""
        return nodes[0]
